//! A response as the chunks that go to the socket.

use super::request::Header;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::{ApiVersion, EncodeError, KafkaEncode};

/// A whole response: length, header and body. Its chunks are written one after the other.
#[derive(Clone, Debug)]
pub struct Frame {
    chunks: Vec<Bytes>,
}

impl Frame {
    /// Encodes a response to the request with that header.
    pub fn encode<R: KafkaEncode>(header: Header, response: &R) -> Result<Self, EncodeError> {
        Self::encode_as(header, header.version, response)
    }

    /// As [`Self::encode`], in another version than the request's.
    pub fn encode_as<R: KafkaEncode>(header: Header, version: i16, response: &R) -> Result<Self, EncodeError> {
        let version = ApiVersion::new(version);
        let mut builder = Builder::new(header, response.encoded_len(version)?);
        response.encode(&mut kafka_wire_core::Encoder::new(&mut builder.own), version)?;
        Ok(builder.finish())
    }

    /// The chunks in order.
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }
}

/// Puts a response together: what is written to `own`, with shared bytes in between.
pub(super) struct Builder {
    pub(super) own: BytesMut,
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
}

impl Builder {
    /// Starts with room for the length, and the response's header.
    pub(super) fn new(header: Header, body_len: usize) -> Self {
        let mut own = BytesMut::with_capacity(9 + body_len);
        own.put_i32(0);
        own.put_i32(header.correlation_id);
        if header.flexible_response() {
            own.put_u8(0);
        }
        Self { own, shared: Vec::new(), shared_len: 0 }
    }

    /// Appends bytes without copying them.
    pub(super) fn share(&mut self, bytes: Bytes) {
        self.shared_len += bytes.len();
        self.shared.push((self.own.len(), bytes));
    }

    /// Fills in the length and cuts the chunks.
    pub(super) fn finish(self) -> Frame {
        let Self { mut own, shared, shared_len } = self;
        let len = (own.len() + shared_len - 4) as u32;
        own[..4].copy_from_slice(&len.to_be_bytes());
        let mut rest = own.freeze();
        let mut chunks = Vec::with_capacity(2 * shared.len() + 1);
        let mut cut = 0;
        for (at, bytes) in shared {
            if at > cut {
                chunks.push(rest.split_to(at - cut));
                cut = at;
            }
            chunks.push(bytes);
        }
        if !rest.is_empty() {
            chunks.push(rest);
        }
        Frame { chunks }
    }
}
