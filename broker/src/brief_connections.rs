//! Connections of whom anybody may be: so many at once, and none for long.
//!
//! Probes and scrapes take milliseconds. Who opens connections and leaves them, or asks and does not read, would
//! otherwise take the descriptors that the log and clients need.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// A listener with a limit on connections, and one on how long each may last.
#[derive(Debug)]
pub(crate) struct BriefConnections {
    listener: TcpListener,
    room: Arc<Semaphore>,
    longest: Duration,
}

impl BriefConnections {
    /// `most` at once; others wait to be accepted. After `longest` a connection ends, whatever it is at.
    pub(crate) fn new(listener: TcpListener, most: usize, longest: Duration) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(most)), longest }
    }
}

impl Listener for BriefConnections {
    type Io = Brief;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Brief, SocketAddr) {
        let Ok(place) = Arc::clone(&self.room).acquire_owned().await else {
            // The semaphore is never closed.
            return std::future::pending().await;
        };
        // Axum's own, which tries again when it fails.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Brief { stream, until: Box::pin(sleep(self.longest)), _place: place }, address)
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
    _place: OwnedSemaphorePermit,
}

impl Brief {
    /// Fails from its end on, and wakes whoever waits then.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.until.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
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

    #[tokio::test]
    async fn who_holds_connections_keeps_others_waiting_for_a_moment_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let brief = BriefConnections::new(listener, 2, Duration::from_millis(100));
        let served = tokio::spawn(async move {
            axum::serve(brief, Router::new().route("/", get(async || "here\n"))).await.unwrap();
        });
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        // The last of them begins a request, and never ends it.
        held[3].write_all(b"GET / HT").await.unwrap();
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        asking.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("here\n"), "{answer}");
        for mut stream in held {
            // The end, or a reset for what was not read.
            let ended = stream.read(&mut [0; 8]).await;
            assert!(matches!(ended, Ok(0) | Err(_)));
        }
        served.abort();
    }
}
