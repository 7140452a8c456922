//! A client on a raw socket, with `kafka-protocol` as its codec.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use chronik_core::record::samples::filled;
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable as _, HeaderVersion, Request, StrBytes};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer of a listener in this process takes as long, unless it never comes.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) struct Client {
    pub(super) stream: TcpStream,
    next: i32,
}

impl Client {
    pub(super) async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.expect("the listener is there");
        stream.set_nodelay(true).expect("TCP");
        Self { stream, next: 1 }
    }

    /// Sends a request without waiting for its answer; returns its correlation id.
    pub(super) async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let id = self.next;
        self.next += 1;
        let frame = frame(version, id, request);
        self.stream.write_all(&frame).await.expect("the listener reads");
        id
    }

    /// The same as a client that calls itself that, in whatever encoding.
    pub(super) async fn send_as<R: Request>(&mut self, client_id: &[u8], version: i16, request: &R) -> i32 {
        let id = self.next;
        self.next += 1;
        let mut body = BytesMut::new();
        body.put_i16(R::KEY);
        body.put_i16(version);
        body.put_i32(id);
        body.put_i16(i16::try_from(client_id.len()).expect("short"));
        body.put_slice(client_id);
        if R::header_version(version) >= 2 {
            body.put_u8(0);
        }
        request.encode(&mut body, version).expect("a request of that version");
        self.stream.write_i32(i32::try_from(body.len()).expect("short")).await.expect("the listener reads");
        self.stream.write_all(&body).await.expect("the listener reads");
        id
    }

    /// Asks as a client that calls itself that, and waits for the answer.
    pub(super) async fn ask_as<R: Request>(&mut self, client_id: &[u8], version: i16, request: &R) -> R::Response {
        let id = self.send_as(client_id, version, request).await;
        self.answer::<R>(version, id).await
    }

    /// The next answer's bytes, without their length; `None` if the connection is closed.
    pub(super) async fn receive(&mut self) -> Option<Bytes> {
        let read = async {
            let len = self.stream.read_i32().await.ok()?;
            let mut body = vec![0; usize::try_from(len).expect("a length")];
            self.stream.read_exact(&mut body).await.ok()?;
            Some(Bytes::from(body))
        };
        timeout(DEADLINE, read).await.expect("an answer or the end within the deadline")
    }

    /// The answer to the request that was sent with that id, which must be the next one.
    pub(super) async fn answer<R: Request>(&mut self, version: i16, id: i32) -> R::Response {
        let mut body = self.receive().await.expect("an answer");
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(version)).expect("a header");
        assert_eq!(header.correlation_id, id, "answers come in order");
        let response = R::Response::decode(&mut body, version).expect("an answer of that kind");
        assert!(!body.has_remaining(), "kind {} v{version} has {} bytes too many", R::KEY, body.remaining());
        response
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request).await;
        self.answer::<R>(version, id).await
    }

    /// Waits until the listener closes the connection, whatever it sends before.
    pub(super) async fn closed(&mut self) {
        let drained = async {
            let mut sink = vec![0; 64 << 10];
            // An error is a reset, which is closed as well.
            while let Ok(1..) = self.stream.read(&mut sink).await {}
        };
        timeout(DEADLINE, drained).await.expect("the connection is closed within the deadline");
    }
}

/// A whole frame.
pub(super) fn frame<R: Request>(version: i16, id: i32, request: &R) -> Bytes {
    let mut body = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(StrBytes::from_static_str("test")))
        .encode(&mut body, R::header_version(version))
        .expect("a header");
    request.encode(&mut body, version).expect("a request of that version");
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).expect("short"));
    frame.put(body);
    frame.freeze()
}

/// A batch of so many records that take so many bytes; of as many meaningless bytes if they are too few.
pub(super) fn batch(records: i32, payload: usize) -> BytesMut {
    let made = filled(records, payload).timestamps(1_700_000_000_000, 1_700_000_000_000);
    BytesMut::from(&made.bytes()[..])
}

/// Gives a batch the CRC of its bytes.
pub(super) fn seal(batch: &mut BytesMut) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
