//! Frames from a socket.
//!
//! An idle connection holds no buffer. A frame's buffer grows with the bytes that arrive, so a length that is
//! claimed costs nothing; and a frame that is longer than [`SMALL`] has a buffer of its own, which its records
//! can go on living in.

use super::budget::{Budget, Share};
use bytes::{Bytes, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::ReadHalf;
use tokio::time::{Instant, timeout, timeout_at};

/// What is read at once while nothing is known of the next frame.
const SMALL: usize = 4096;
/// How much a long frame's buffer grows by at first; later it doubles.
const STEP: usize = 64 << 10;

/// Limits of one connection's frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    /// Bytes of a frame at most (`socket.request.max.bytes`).
    pub(crate) max_bytes: usize,
    /// How long a frame that has begun may bring nothing; and how long it may take in all while it is the one
    /// that went beyond the budget.
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
    /// The frame did not go on.
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
            match self.socket.try_read_buf(&mut self.inbox) {
                Ok(0) => return Err(FrameError::Closed),
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.inbox = BytesMut::new(),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Reads the frame that has begun, without its length. Its bytes are taken from the budget.
    pub(crate) async fn next(&mut self, budget: &Budget) -> Result<(Bytes, Share), FrameError> {
        while self.inbox.len() < 4 {
            self.inbox.reserve(SMALL);
            read(&mut self.socket, &mut self.inbox, usize::MAX, self.limits.stall).await?;
        }
        let mut length = [0; 4];
        length.copy_from_slice(&self.inbox[..4]);
        let claimed = i32::from_be_bytes(length);
        let len = usize::try_from(claimed)
            .ok()
            .filter(|len| *len <= self.limits.max_bytes)
            .ok_or(FrameError::Length(claimed))?;
        drop(self.inbox.split_to(4));
        let mut share = Share::default();
        if self.inbox.len() >= len {
            budget.grow(&mut share, len).await;
            let frame = self.inbox.split_to(len).freeze();
            if self.inbox.is_empty() {
                self.inbox = BytesMut::new();
            }
            return Ok((frame, share));
        }
        let frame = self.read_long(len, budget, &mut share).await?;
        Ok((frame, share))
    }

    async fn read_long(&mut self, len: usize, budget: &Budget, share: &mut Share) -> Result<Bytes, FrameError> {
        let started = Instant::now();
        let mut frame = std::mem::take(&mut self.inbox);
        budget.grow(share, frame.len().max(1)).await;
        while frame.len() < len {
            let step = (len - frame.len()).min(frame.len().max(STEP));
            budget.grow(share, step).await;
            frame.reserve(step);
            let until = frame.len() + step;
            while frame.len() < until {
                let rest = until - frame.len();
                let more = read(&mut self.socket, &mut frame, rest, self.limits.stall);
                if share.overdrawn() {
                    timeout_at(started + self.limits.stall, more).await.map_err(|_| FrameError::Stalled)??;
                } else {
                    more.await?;
                }
            }
        }
        Ok(frame.freeze())
    }
}

/// Reads something, `max` bytes at most, into the room that the buffer has.
async fn read(socket: &mut ReadHalf<'_>, buffer: &mut BytesMut, max: usize, stall: Duration) -> Result<(), FrameError> {
    use bytes::BufMut as _;
    let room = max.min(buffer.capacity() - buffer.len());
    let mut limited = buffer.limit(room);
    match timeout(stall, socket.read_buf(&mut limited)).await {
        Err(_) => Err(FrameError::Stalled),
        Ok(Ok(0)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(e.into()),
    }
}
