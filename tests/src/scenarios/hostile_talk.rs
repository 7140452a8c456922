//! One connection of an attacker: which of its frames were answered, which one closed it, and which are owed
//! something. Frames are numbered by their correlation ids, so that each answer says which one it is for, and are
//! followed by a plain request: when that is answered, all before it were processed.

use crate::harness::raw::frame;
use anyhow::Result;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestKind};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// The first frame's correlation id.
const FIRST_ID: i32 = 0x4e75_0000;
/// Where the correlation id of a frame is.
const ID: std::ops::Range<usize> = 8..12;
/// Whose requests may want no answer (acks=0).
const PRODUCE: [u8; 2] = (ApiKey::Produce as i16).to_be_bytes();
/// The longest frame that a broker takes (`socket.request.max.bytes`).
const LONGEST: i32 = 104_857_600;

/// How a conversation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Every frame was processed.
    Done,
    /// The broker closed the connection.
    Closed,
    /// It has said nothing more until the deadline.
    Silent,
    /// It said what it should not.
    Nonsense(String),
}

/// A connection with complete frames on it.
#[derive(Debug)]
pub(super) struct Talk {
    stream: TcpStream,
    /// When the frames had been written.
    pub(super) since: Instant,
    answers: Answers,
}

/// What was answered so far. Pure: bytes in.
#[derive(Debug)]
struct Answers {
    /// For each frame, whether it may have no answer.
    frames: Vec<bool>,
    /// The frames before this one were processed.
    next: usize,
    /// Those of them that had an answer.
    answered: usize,
    /// The length and the correlation id of the answer that comes.
    head: Vec<u8>,
    /// How much of its body is still to come.
    rest: usize,
}

impl Talk {
    /// Connects, and writes the frames, which are complete, with a number each.
    pub(super) fn begin(port: u16, frames: &mut [Vec<u8>], patience: Duration) -> Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_write_timeout(Some(patience))?;
        let answers = Answers::to(frames);
        let mut bytes = frames.concat();
        let mut last =
            frame(ApiKey::ApiVersions, 0, &RequestKind::ApiVersions(ApiVersionsRequest::default()))?.to_vec();
        number(&mut last, frames.len());
        bytes.extend(last);
        // The broker may close at any byte, and what it answered before counts.
        let _ = stream.write_all(&bytes);
        Ok(Self { stream, since: Instant::now(), answers })
    }

    /// Reads answers until there is no more to wait for. May be called again after it was silent.
    pub(super) fn listen(&mut self, until: Instant) -> Stand {
        loop {
            match read(&mut self.stream, until) {
                Heard::Bytes(bytes) => match self.answers.take(&bytes) {
                    Ok(false) => {}
                    Ok(true) => return Stand::Done,
                    Err(what) => return Stand::Nonsense(what),
                },
                Heard::End => return Stand::Closed,
                Heard::Nothing => return Stand::Silent,
            }
        }
    }

    /// How many frames were processed, and how many of these were answered.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.answers.next.min(self.answers.frames.len()), self.answers.answered)
    }

    /// Writes a frame whose length is not true, when all before it is done. It is either complete, and has to be
    /// answered or to close the connection; or the broker may wait for the rest of it until this side closes.
    pub(super) fn lie(mut self, frame: &[u8], patience: Duration) -> Stand {
        let _ = self.stream.write_all(frame);
        let complete = is_complete(frame);
        if !complete {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        match read(&mut self.stream, Instant::now() + patience) {
            Heard::Bytes(_) if complete => Stand::Done,
            Heard::Bytes(_) => Stand::Nonsense("an answer to a part of a frame".into()),
            Heard::End => Stand::Closed,
            Heard::Nothing => Stand::Silent,
        }
    }
}

/// Whether a broker has all that it needs to answer, or to refuse a length that is none.
pub(super) fn is_complete(frame: &[u8]) -> bool {
    let Some((length, body)) = frame.split_first_chunk() else { return false };
    let length = i32::from_be_bytes(*length);
    usize::try_from(length).map_or(true, |wanted| length > LONGEST || body.len() >= wanted)
}

enum Heard {
    Bytes(Vec<u8>),
    End,
    Nothing,
}

fn read(stream: &mut TcpStream, until: Instant) -> Heard {
    // No timeout at all is what zero would mean.
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    if stream.set_read_timeout(Some(left)).is_err() {
        return Heard::End;
    }
    let mut bytes = vec![0; 64 << 10];
    match stream.read(&mut bytes) {
        Ok(0) => Heard::End,
        Ok(length) => {
            bytes.truncate(length);
            Heard::Bytes(bytes)
        }
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Heard::Nothing,
        Err(_) => Heard::End,
    }
}

fn number(frame: &mut [u8], n: usize) {
    if let Some(id) = frame.get_mut(ID) {
        id.copy_from_slice(&(FIRST_ID + n as i32).to_be_bytes());
    }
}

impl Answers {
    /// To these frames, which are numbered here.
    fn to(frames: &mut [Vec<u8>]) -> Self {
        for (n, frame) in frames.iter_mut().enumerate() {
            number(frame, n);
        }
        let may_be_silent = frames.iter().map(|frame| frame.get(4..6) == Some(&PRODUCE)).collect();
        Self { frames: may_be_silent, next: 0, answered: 0, head: Vec::new(), rest: 0 }
    }

    /// Takes what came; true once the request behind all frames is answered.
    fn take(&mut self, mut bytes: &[u8]) -> Result<bool, String> {
        loop {
            let of_head = bytes.len().min(8 - self.head.len());
            self.head.extend_from_slice(&bytes[..of_head]);
            bytes = &bytes[of_head..];
            let Ok(head) = <[u8; 8]>::try_from(self.head.as_slice()) else { return Ok(false) };
            if of_head > 0 {
                let [a, b, c, d, ..] = head;
                let length = i32::from_be_bytes([a, b, c, d]);
                self.rest =
                    usize::try_from(i64::from(length) - 4).map_err(|_| format!("an answer of {length} bytes"))?;
            }
            let of_rest = bytes.len().min(self.rest);
            self.rest -= of_rest;
            bytes = &bytes[of_rest..];
            if self.rest > 0 {
                return Ok(false);
            }
            let [.., a, b, c, d] = head;
            self.head.clear();
            if self.whole(i32::from_be_bytes([a, b, c, d]))? {
                return Ok(true);
            }
        }
    }

    /// An answer has come as a whole.
    fn whole(&mut self, id: i32) -> Result<bool, String> {
        let number = usize::try_from(id.wrapping_sub(FIRST_ID)).unwrap_or(usize::MAX);
        if number < self.next || number > self.frames.len() {
            return Err(format!("an answer with correlation id {id}, which no frame that waits has"));
        }
        if let Some(skipped) = (self.next..number).find(|n| !self.frames[*n]) {
            return Err(format!("frame {skipped} was passed over, frame {number} is answered"));
        }
        self.next = number + 1;
        let done = number == self.frames.len();
        self.answered += usize::from(!done);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(api: i16) -> Vec<u8> {
        [&12_i32.to_be_bytes()[..], &api.to_be_bytes(), &[0; 10]].concat()
    }

    fn answer(n: i32, body: usize) -> Vec<u8> {
        [&(4 + body as i32).to_be_bytes()[..], &(FIRST_ID + n).to_be_bytes(), &vec![9; body]].concat()
    }

    /// What comes of it when these frames get these bytes, a few at a time.
    fn after(apis: &[i16], bytes: &[u8]) -> (Result<bool, String>, usize, usize) {
        let mut frames: Vec<_> = apis.iter().map(|api| request(*api)).collect();
        let mut answers = Answers::to(&mut frames);
        let mut outcome = Ok(false);
        for part in bytes.chunks(5) {
            outcome = answers.take(part);
            if outcome != Ok(false) {
                break;
            }
        }
        (outcome, answers.next, answers.answered)
    }

    #[test]
    fn all_is_done_when_the_last_request_is_answered() {
        let bytes = [answer(0, 100), answer(1, 0), answer(2, 3)].concat();
        assert_eq!(after(&[1, 3], &bytes), (Ok(true), 3, 2));
        assert_eq!(after(&[1, 3], &bytes[..bytes.len() - 1]), (Ok(false), 2, 2));
    }

    #[test]
    fn a_produce_request_may_have_no_answer_and_no_other() {
        let bytes = [answer(0, 0), answer(2, 0)].concat();
        assert_eq!(after(&[1, 0], &bytes), (Ok(true), 3, 1));
        assert!(after(&[1, 3], &bytes).0.is_err());
    }

    #[test]
    fn an_answer_comes_once_and_to_a_frame() {
        assert!(after(&[1, 3], &[answer(0, 0), answer(0, 0)].concat()).0.is_err());
        assert!(after(&[1, 3], &answer(7, 0)).0.is_err());
        assert!(after(&[1, 3], &answer(-1, 0)).0.is_err());
        assert!(after(&[1, 3], &[0, 0, 0, 1, 0, 0, 0, 0]).0.is_err(), "an answer too short for its id");
    }

    #[test]
    fn a_frame_is_complete_when_its_bytes_are_there_or_its_length_is_none() {
        assert!(is_complete(&[0, 0, 0, 0]));
        assert!(is_complete(&[0, 0, 0, 2, 1, 1, 1]));
        assert!(is_complete(&[0xff, 0, 0, 0]));
        assert!(is_complete(&104_857_601_i32.to_be_bytes()));
        assert!(!is_complete(&104_857_600_i32.to_be_bytes()));
        assert!(!is_complete(&[0, 0, 0, 2, 1]));
        assert!(!is_complete(&[0, 0, 0]));
    }
}
