//! One connection to a broker: one request after the other, each with its answer and a time limit.

use super::ClientError;
use bytes::Bytes;
use chronik_wire::client::{Call, api_key, api_name, decode_response, encode_request};
use chronik_wire::messages::{ApiVersionsRequest, StrBytes, message};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(40);
/// Bytes of an answer at most.
const MAX_ANSWER: usize = 256 << 20;
const CLIENT_ID: &str = "chronik-cli";

pub(super) struct Connection {
    stream: TcpStream,
    address: String,
    next: i32,
    /// First and last version of each kind of request that the broker serves.
    served: HashMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects, and asks what the broker serves.
    pub(super) async fn open(address: &str) -> Result<Self, ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable { address: address.to_owned(), reason };
        let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no connection within {CONNECT:?}"))),
        };
        stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        let mut new = Self { stream, address: address.to_owned(), next: 0, served: HashMap::new() };
        let request = message!(ApiVersionsRequest {
            client_software_name: StrBytes::from(CLIENT_ID),
            client_software_version: StrBytes::from(env!("CARGO_PKG_VERSION")),
        });
        let answer = new.exchange(&request, 3).await?;
        super::refused("ApiVersions", answer.error_code, None)?;
        new.served = answer.api_keys.iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect();
        Ok(new)
    }

    /// Asks in the highest version that both know.
    pub(super) async fn ask<R: Call>(
        &mut self,
        versions: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let unsupported = || ClientError::Unsupported { address: self.address.clone(), api: api_name::<R>() };
        let (min, max) = self.served.get(&api_key::<R>()).copied().ok_or_else(unsupported)?;
        let version = max.min(*versions.end());
        if version < min.max(*versions.start()) {
            return Err(unsupported());
        }
        self.exchange(request, version).await
    }

    async fn exchange<R: Call>(&mut self, request: &R, version: i16) -> Result<R::Response, ClientError> {
        self.next = self.next.wrapping_add(1);
        let id = self.next;
        let protocol = |error: String| ClientError::Protocol { address: self.address.clone(), error };
        let frame = encode_request(request, version, id, CLIENT_ID).map_err(|e| protocol(e.to_string()))?;
        let answer = match timeout(ANSWER, talk(&mut self.stream, &frame)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(lost(&self.address, error.to_string())),
            Err(_) => return Err(lost(&self.address, format!("no answer within {ANSWER:?}"))),
        };
        decode_response::<R>(answer, version, id).map_err(|e| protocol(e.to_string()))
    }
}

fn lost(address: &str, reason: String) -> ClientError {
    ClientError::Lost { address: address.to_owned(), reason }
}

async fn talk(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<Bytes> {
    stream.write_all(frame).await?;
    let len = usize::try_from(stream.read_i32().await?).ok().filter(|len| *len <= MAX_ANSWER);
    let len = len.ok_or_else(|| std::io::Error::other("an answer of an impossible length"))?;
    let mut answer = Vec::new();
    // Grows with what arrives, not with what is announced.
    let read = stream.take(len as u64).read_to_end(&mut answer).await?;
    if read < len {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer.into())
}
