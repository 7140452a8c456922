//! Connections of whom anybody may be: so many at once, and none for long.
//!
//! Probes and scrapes take milliseconds. Who opens connections and leaves them, or asks and does not read, would
//! otherwise take the descriptors that the log and clients need.

use axum::serve::Listener;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// A listener with a limit on connections, and one on how long each may last.
#[derive(Debug)]
pub(crate) struct BriefConnections {
    listener: TcpListener,
    most: usize,
    longest: Duration,
    /// Those that are open, oldest first. Each ends when it is cancelled, and is cancelled when it has ended.
    open: VecDeque<CancellationToken>,
}

impl BriefConnections {
    /// `most` at once: for one more the oldest ends. After `longest` a connection ends, whatever it is at.
    pub(crate) fn new(listener: TcpListener, most: usize, longest: Duration) -> Self {
        Self { listener, most, longest, open: VecDeque::new() }
    }
}

impl Listener for BriefConnections {
    type Io = Brief;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Brief, SocketAddr) {
        // Axum's own, which tries again when it fails.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        self.open.retain(|connection| !connection.is_cancelled());
        if self.open.len() >= self.most
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.cancel();
        }
        let end = CancellationToken::new();
        self.open.push_back(end.clone());
        let ended = Box::pin(end.clone().cancelled_owned());
        (Brief { stream, until: Box::pin(sleep(self.longest)), ended, _end: end.drop_guard() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends at some time.
#[derive(Debug)]
pub(crate) struct Brief {
    stream: TcpStream,
    until: Pin<Box<Sleep>>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _end: DropGuard,
}

impl Brief {
    /// Fails from its end on, and wakes whoever waits then.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.until.as_mut().poll(cx).is_ready() || self.ended.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Brief {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Brief {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn served(most: usize, longest: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("bound");
        let brief = BriefConnections::new(listener, most, longest);
        let routes = Router::new().route("/", get(async || "here\n"));
        tokio::spawn(async move { axum::serve(brief, routes).await });
        address
    }

    async fn ask(address: SocketAddr) -> String {
        let mut asking = TcpStream::connect(address).await.expect("it listens");
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        asking.write_all(request).await.expect("it reads");
        let mut answer = String::new();
        asking.read_to_string(&mut answer).await.expect("it answers");
        answer
    }

    /// The end, or a reset for what was not read.
    async fn ends(mut stream: TcpStream) {
        assert!(matches!(stream.read(&mut [0; 8]).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn who_holds_connections_keeps_nobody_waiting() {
        let address = served(2, Duration::from_mins(5)).await;
        let mut open = Vec::new();
        for _ in 0..10 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // A request that never ends.
            stream.write_all(b"GET / HT").await.unwrap();
            open.push(stream);
        }
        assert!(ask(address).await.ends_with("here\n"));
        for stream in open.drain(..8) {
            ends(stream).await;
        }
    }

    #[tokio::test]
    async fn a_connection_ends_in_time() {
        let address = served(2, Duration::from_millis(50)).await;
        ends(TcpStream::connect(address).await.unwrap()).await;
    }
}
