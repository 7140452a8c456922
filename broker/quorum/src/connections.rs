//! Connections that others have made to the controller port, each known to the requests that come over it: a process that
//! ends takes its connections with it, so that their end says something of it.

use futures::{Stream, TryStreamExt as _};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::{Connected, TcpIncoming};

/// One connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// No other connection to this process has it.
    pub(super) id: u64,
    /// Where it comes from.
    pub(super) from: Option<IpAddr>,
    ended: CancellationToken,
}

impl Connection {
    /// The one that a request came over.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Option<&Self> {
        request.extensions().get()
    }

    /// Waits until it has ended, by whichever side.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// A connection's stream.
pub(super) struct Watched {
    stream: TcpStream,
    connection: Connection,
    _ends: DropGuard,
}

/// What is accepted on a listener.
pub(super) fn accepted(listener: TcpListener) -> impl Stream<Item = io::Result<Watched>> {
    let mut id = 0;
    TcpIncoming::from(listener).with_nodelay(Some(true)).map_ok(move |stream| {
        id += 1;
        let ended = CancellationToken::new();
        let from = stream.peer_addr().ok().map(|address| address.ip());
        Watched { stream, _ends: ended.clone().drop_guard(), connection: Connection { id, from, ended } }
    })
}

impl Connected for Watched {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
