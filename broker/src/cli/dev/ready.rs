//! Waiting for brokers to say that they are ready.

use super::layout::Planned;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ASK_EVERY: Duration = Duration::from_millis(50);

/// Returns when every broker's `/readyz` has answered 200.
pub(super) async fn all(brokers: &[Planned]) {
    for broker in brokers {
        while !ask(broker.listen.http).await.unwrap_or(false) {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(answer.ends_with(b" 200"))
}
