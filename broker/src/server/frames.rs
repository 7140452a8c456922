//! Frames from a socket.
//!
//! An idle connection holds no buffer. A frame's buffer grows with the bytes that arrive, so a length that is
//! claimed costs nothing; and a frame that is longer than [`SMALL`] has a buffer of its own, which its records
//! can go on living in. Until so much of it has come it is in the connection's buffer, of which there are as many as
//! connections, and counts for nothing; from then on for eight times what has come at most.

use super::pace::Pace;
use crate::budget::Share;
use crate::rooms::Rooms;
use bytes::{Buf as _, Bytes, BytesMut};
use futures::FutureExt as _;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::ReadHalf;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, timeout_at};

/// What is read at once while nothing is known of the next frame.
const SMALL: usize = 4096;
/// A shorter buffer grows to eight times its length, a longer one doubles.
const STEP: usize = 256 << 10;
/// Bytes before a frame: its length.
const LENGTH: usize = 4;

/// Limits of one connection's frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    /// Bytes of a frame at most (`socket.request.max.bytes`).
    pub(crate) max_bytes: usize,
    /// How long a frame that has begun, or an answer, may make no progress, and how far it may lag behind
    /// [`MIN_RATE`](super::pace::MIN_RATE); and how long a frame may take in all while it is the one that went beyond the
    /// budget.
    pub(crate) stall: Duration,
}

/// Why there is no next frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The client closed the connection between two frames.
    #[error("closed by the client")]
    Closed,
    /// The length is negative, or longer than allowed.
    #[error("a frame that claims to be {0} bytes long")]
    Length(i32),
    /// The length is the beginning of a TLS handshake.
    #[error("a client that speaks TLS to a port without TLS")]
    Tls,
    /// The length is the beginning of an HTTP request.
    #[error("a client that speaks HTTP to the port of the Kafka protocol")]
    Http,
    /// The frame did not go on, or too slowly.
    #[error("a frame that did not go on")]
    Stalled,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Cuts what a socket brings into frames.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    socket: ReadHalf<'a>,
    limits: FrameLimits,
    /// What was read beyond the last frame.
    inbox: BytesMut,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(socket: ReadHalf<'a>, limits: FrameLimits) -> Self {
        Self { socket, limits, inbox: BytesMut::new() }
    }

    /// Waits for the first byte of the next frame. May be cancelled.
    pub(crate) async fn wait(&mut self) -> Result<(), FrameError> {
        if !self.inbox.is_empty() {
            return Ok(());
        }
        loop {
            self.socket.readable().await?;
            // A buffer that is made after there is something to put into it: idle connections have none.
            self.inbox.reserve(SMALL);
            // A read that does not fill the buffer has emptied the socket: polled, the socket knows, and is not read again for
            // the next frame before something comes. The task's budget must not say that nothing is there.
            match unconstrained(self.socket.read_buf(&mut self.inbox)).now_or_never() {
                Some(Ok(0)) => return Err(FrameError::Closed),
                Some(Ok(_)) => return Ok(()),
                Some(Err(e)) => return Err(e.into()),
                None => self.inbox = BytesMut::new(),
            }
        }
    }

    /// Reads the frame that has begun, without its length. Its bytes are taken from the room of its kind when it
    /// is admitted, which `admit` waits for, given its kind (Kafka's API key) and length.
    pub(crate) async fn next<T: Future<Output = ()>>(
        &mut self,
        rooms: &Rooms,
        admit: impl FnOnce(i16, usize) -> T,
    ) -> Result<(Bytes, Share), FrameError> {
        let mut pace = Pace::new(self.limits.stall);
        self.fill(LENGTH, &mut pace).await?;
        let mut length = [0; LENGTH];
        length.copy_from_slice(&self.inbox[..LENGTH]);
        let len = frame_len(length, self.limits.max_bytes)?;
        self.inbox.advance(LENGTH);
        self.fill(len.min(SMALL - LENGTH), &mut pace).await?;
        // The kind is what a frame begins with. One that is too short for that is none.
        let api = if len < 2 { i16::MIN } else { i16::from_be_bytes([self.inbox[0], self.inbox[1]]) };
        pace.pause(admit(api, len)).await;
        let room = rooms.of(api, len);
        let mut share = Share::default();
        if self.inbox.len() >= len {
            room.grow(&mut share, len).await;
            let frame = self.inbox.split_to(len).freeze();
            if self.inbox.is_empty() {
                self.inbox = BytesMut::new();
            }
            return Ok((frame, share));
        }
        let mut frame = std::mem::take(&mut self.inbox);
        pace.pause(room.grow(&mut share, frame.len())).await;
        while frame.len() < len {
            let step = growth(frame.len()).min(len - frame.len());
            pace.pause(room.grow(&mut share, step)).await;
            frame.reserve(step);
            let until = frame.len() + step;
            while frame.len() < until {
                let rest = until - frame.len();
                read(&mut self.socket, &mut frame, rest, pace.next_by(share.overdrawn()), &mut pace).await?;
            }
        }
        Ok((frame.freeze(), share))
    }

    /// Reads until so many bytes are in the inbox, and what comes with them.
    async fn fill(&mut self, bytes: usize, pace: &mut Pace) -> Result<(), FrameError> {
        while self.inbox.len() < bytes {
            self.inbox.reserve(bytes - self.inbox.len());
            read(&mut self.socket, &mut self.inbox, usize::MAX, pace.next_by(false), pace).await?;
        }
        Ok(())
    }
}

/// By how much a buffer grows of which so much has come.
fn growth(len: usize) -> usize {
    if len < STEP { 7 * len } else { len }
}

/// The length that a frame claims.
fn frame_len(wire: [u8; LENGTH], max_bytes: usize) -> Result<usize, FrameError> {
    let claimed = i32::from_be_bytes(wire);
    if let Some(len) = usize::try_from(claimed).ok().filter(|len| *len <= max_bytes) {
        return Ok(len);
    }
    Err(match &wire {
        // A handshake record (22) of TLS 1.x, or of SSL 3.
        [0x16, 3, 0..=4, _] => FrameError::Tls,
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"TRAC" | b"PRI " => {
            FrameError::Http
        }
        _ => FrameError::Length(claimed),
    })
}

/// Reads something, `max` bytes at most, into the room that the buffer has.
async fn read(
    socket: &mut ReadHalf<'_>,
    buffer: &mut BytesMut,
    max: usize,
    by: Instant,
    pace: &mut Pace,
) -> Result<(), FrameError> {
    use bytes::BufMut as _;
    let room = max.min(buffer.capacity() - buffer.len());
    let mut limited = buffer.limit(room);
    match timeout_at(by, socket.read_buf(&mut limited)).await {
        Err(_) => Err(FrameError::Stalled),
        Ok(Ok(0)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        Ok(Ok(n)) => {
            pace.moved(n);
            Ok(())
        }
        Ok(Err(e)) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    /// Each step is a call at least, and a longer buffer.
    #[test]
    fn a_megabyte_that_is_there_is_read_in_few_steps() {
        let steps = std::iter::successors(Some(SMALL - LENGTH), |len| Some(len + growth(*len)));
        assert_eq!(steps.take_while(|len| *len < 1_000_000).count(), 3, "before the last one");
    }

    #[tokio::test]
    async fn a_socket_that_was_emptied_is_not_read_again_before_more_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let mut client = TcpStream::connect(listener.local_addr().expect("it is bound")).await.expect("it listens");
        let (mut stream, _) = listener.accept().await.expect("the client");
        let limits = FrameLimits { max_bytes: 100, stall: Duration::from_mins(1) };
        let (mut frames, rooms) = (Frames::new(stream.split().0, limits), Rooms::new(1 << 20));
        for content in [1, 2] {
            client.write_all(&[0, 0, 0, 2, 0, content]).await.expect("it is read");
            frames.wait().await.expect("a frame");
            let next = frames.next(&rooms, |_, _| std::future::ready(()));
            assert_eq!(next.await.expect("a frame").0[..], [0, content]);
            assert!(frames.socket.readable().now_or_never().is_none(), "nobody knows of more");
        }
    }

    #[test]
    fn a_length_is_taken_for_what_it_is() {
        let max = 100 << 20;
        let reason = |wire: &[u8; 4]| frame_len(*wire, max).map_err(|e| e.to_string());
        assert_eq!(reason(&[0, 0, 1, 0]), Ok(256));
        assert_eq!(reason(&[0x16, 3, 1, 2]), Err("a client that speaks TLS to a port without TLS".into()));
        assert_eq!(reason(&[0x16, 3, 3, 0]), Err("a client that speaks TLS to a port without TLS".into()));
        for begin in [b"GET ", b"POST", b"PRI "] {
            assert_eq!(reason(begin), Err("a client that speaks HTTP to the port of the Kafka protocol".into()));
        }
        assert_eq!(reason(&[0xff; 4]), Err("a frame that claims to be -1 bytes long".into()));
    }
}
