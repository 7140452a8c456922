//! A connection that speaks Kafka's protocol frame by frame, for what no client library sends or shows. It encodes
//! with kafka-protocol, which is not the codec that the broker decodes with.

use anyhow::{Context, Result};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader};
use kafka_protocol::protocol::{Decodable, StrBytes, encode_request_header_into_buffer};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

/// One connection to a broker.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects to a broker's port; an answer may take as long as `patience`.
    pub fn connect(port: u16, patience: Duration) -> Result<Self> {
        Self::connect_to(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), patience)
    }

    /// Connects to a broker's address; an answer may take as long as `patience`.
    pub fn connect_to(address: SocketAddrV4, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self { stream })
    }

    /// The same connection once more, so that one thread sends and another one reads.
    pub fn share(&self) -> Result<Self> {
        Ok(Self { stream: self.stream.try_clone()? })
    }

    /// Sends a request, and does not wait for its answer.
    pub fn send(&mut self, api: ApiKey, version: i16, request: &RequestKind) -> Result<()> {
        Ok(self.stream.write_all(&frame(api, version, request)?)?)
    }

    /// The answer to the first request that has had none.
    pub fn answer<T: Decodable>(&mut self, api: ApiKey, version: i16) -> Result<T> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).with_context(|| format!("an answer to {api:?}"))?;
        let mut answer = vec![0; (&length[..]).get_u32() as usize];
        self.stream.read_exact(&mut answer)?;
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, api.response_header_version(version))?;
        T::decode(&mut answer, version)
    }

    /// One request and its answer.
    pub fn ask<T: Decodable>(&mut self, api: ApiKey, version: i16, request: &RequestKind) -> Result<T> {
        self.send(api, version, request)?;
        self.answer(api, version)
    }

    /// Whether the broker has neither answered nor closed the connection since its last answer.
    pub fn is_silent(&self) -> Result<bool> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        Ok(peeked.is_err_and(|e| e.kind() == ErrorKind::WouldBlock))
    }
}

/// One request with header and length.
pub fn frame(api: ApiKey, version: i16, request: &RequestKind) -> Result<Bytes> {
    let mut body = header(api, version)?;
    request.encode(&mut body, version)?;
    Ok(with_length(&body))
}

/// A request's header, with its version as the correlation id.
pub fn header(api: ApiKey, version: i16) -> Result<BytesMut> {
    let mut bytes = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(i32::from(version))
        .with_client_id(Some(StrBytes::from_static_str("chronik-tests")));
    encode_request_header_into_buffer(&mut bytes, &header)?;
    Ok(bytes)
}

/// The frame that holds these bytes.
pub fn with_length(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(body.len() + 4);
    frame.put_i32(body.len() as i32);
    frame.put_slice(body);
    frame.freeze()
}
