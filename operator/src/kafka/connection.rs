//! One connection to a broker: one request after the other, each with its answer.

use bytes::Bytes;
use chronik_wire::client::{Call, api_key, api_name, decode_response, encode_request};
use chronik_wire::messages::{ApiVersionsRequest, StrBytes, message};
use std::collections::HashMap;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer at most.
const ANSWER_MAX: usize = 16 << 20;

/// A connection that is open.
pub(super) struct Connection {
    stream: TcpStream,
    next: i32,
    /// The versions of each kind of request that the broker serves, the first and the last.
    served: HashMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects, and asks what the broker serves.
    pub(super) async fn open(host: &str, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let mut new = Self { stream, next: 0, served: HashMap::new() };
        let request = message!(ApiVersionsRequest {
            client_software_name: StrBytes::from(crate::MANAGER),
            client_software_version: StrBytes::from(env!("CARGO_PKG_VERSION")),
        });
        let answer = new.exchange(&request, 3).await?;
        new.served = answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(new)
    }

    /// Asks in exactly this version.
    pub(super) async fn ask<R: Call>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        match self.served.get(&api_key::<R>()) {
            Some((least, most)) if (*least..=*most).contains(&version) => self.exchange(request, version).await,
            _ => Err(io::Error::other(format!("{} is not served in version {version}", api_name::<R>()))),
        }
    }

    async fn exchange<R: Call>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        self.next = self.next.wrapping_add(1);
        let frame = encode_request(request, version, self.next, crate::MANAGER).map_err(io::Error::other)?;
        self.stream.write_all(&frame).await?;
        let answer = self.receive().await?;
        decode_response::<R>(answer, version, self.next).map_err(io::Error::other)
    }

    async fn receive(&mut self) -> io::Result<Bytes> {
        let len = usize::try_from(self.stream.read_i32().await?).ok().filter(|len| *len <= ANSWER_MAX);
        let len = len.ok_or_else(|| io::Error::other("an answer of an impossible length"))?;
        let mut answer = Vec::new();
        // Grows with what arrives, not with what is announced.
        let read = (&mut self.stream).take(len as u64).read_to_end(&mut answer).await?;
        if read < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer.into())
    }
}
