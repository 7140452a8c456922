//! What goes over the WAL port: length-prefixed frames, big endian.
//!
//! ```text
//! frame   length:u32 (of what follows)  kind:u8  body
//! HELLO   magic:u32 version:u16 cluster:16 from:i32 broker_epoch:i64 directory:16 to:i32 stream:u64
//! WELCOME from:i32 minor:u16          REFUSED reason:utf8           PING (empty)
//! about one partition: topic:16 partition:i32 leader_epoch:i32, then
//!   SUBSCRIBE log_end:i64 last_epoch:i32 (-1: none) log_start:i64      ACK appended:i64 durable:i64 log_start:i64
//!   STARTED high_watermark:i64 log_start:i64   BEGIN_AT at:i64 producers   DIVERGED epoch:i32 end:i64   NOT_LEADER known_epoch:i32
//!   BATCHES high_watermark:i64 log_start:i64 record batches   HIGH_WATERMARK high_watermark:i64 log_start:i64
//!   BATCHES_AFTER from:i64 high_watermark:i64 log_start:i64 record batches
//! ACKS    count:u16, and so many times topic:16 partition:i32 leader_epoch:i32 appended:i64 durable:i64 log_start:i64
//! CREDIT  bytes:u64  (batches' and producers' bytes that the follower is done with, since the connection's start)
//! ```
//!
//! BATCHES begin where the follower's log ends. Where a log was compacted there may be a gap: then they go as
//! `BATCHES_AFTER`, which says that end. A broker of a release without compaction does not know it, and is never sent one:
//! no topic is compacted before the cluster's metadata version says that there is no such broker.
//!
//! A broker of a former release reads no further than it knows: SUBSCRIBE and ACK may end before `log_start`.
//!
//! The producers of a `BEGIN_AT` are their length as u32 and their encoding of `chronik_core::producers`. A broker that does
//! not know of them sends none, and ignores them. They are two megabytes at most, as nobody remembers more of one
//! partition.
//!
//! What a follower may send beyond version 2 is said by the minor version in a WELCOME, which a follower of a former release
//! does not read, and a leader of one leaves out: it is 0 then. From 1 on there are ACKS, which are as many ACKs.
//!
//! Version 1 had no log starts. Peers that do not speak the same version refuse each other with that reason.
//!
//! A follower dials its leader; everything between the two, of all partitions, goes over that connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chronik_core::ids::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, LeaderEpoch, Offset, PartitionId, TopicId, TopicPartition,
};
use chronik_core::producers::MAX_ENCODED_LEN;
use chronik_core::record::{BatchError, split_batches};
use chronik_core::replication::{FollowerMessage, LeaderMessage, StreamId};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

const MAGIC: u32 = 0x4348_524b; // "CHRK"
/// The version of this protocol that is spoken.
pub(crate) const VERSION: u16 = 2;
/// What a follower may send here beyond that.
pub(crate) const MINOR: u16 = 1;
/// From this minor version on a leader reads the acknowledgements of many partitions from one frame.
pub(crate) const MINOR_ACKS: u16 = 1;
/// So many at most, ...
pub(crate) const MAX_ACKS: usize = 1024;
/// ... which makes the longest frame that a follower sends.
pub(crate) const MAX_FOLLOWER_FRAME: usize = 64 << 10;
/// Bytes of one of them.
const ACK_LEN: usize = 48;
/// No frame is longer: a catch-up read, or one batch of the greatest size that the configuration allows.
pub(crate) const MAX_FRAME: usize = 256 << 20;
/// A frame's body is read in steps, so that little is allocated that was not sent: this at first, ...
const READ_FIRST: usize = 64 << 10;
/// ... then eight times what has come, and twice as much from here on.
const READ_LONG: usize = 256 << 10;

/// One frame.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Hello(Hello),
    Welcome { from: BrokerId, minor: u16 },
    Refused { reason: String },
    Ping,
    FromFollower { partition: TopicPartition, leader_epoch: LeaderEpoch, message: FollowerMessage },
    FromLeader { partition: TopicPartition, leader_epoch: LeaderEpoch, message: LeaderMessage },
    Acks(Vec<Ack>),
    Credit { bytes: u64 },
}

/// A [`FollowerMessage::Ack`] about one of many partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which.
    pub partition: TopicPartition,
    /// The leadership that is followed.
    pub leader_epoch: LeaderEpoch,
    /// End of what is written.
    pub appended: Offset,
    /// End of what is synced.
    pub durable: Offset,
    /// The first offset, durably.
    pub log_start: Offset,
}

/// Who dials, and whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) cluster: ClusterId,
    pub(crate) from: BrokerId,
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) directory: DirectoryId,
    pub(crate) to: BrokerId,
    pub(crate) stream: StreamId,
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("frame ends early")]
    Short,
    #[error("unknown frame kind {0}")]
    Kind(u8),
    #[error("not Chronik's replication protocol")]
    Magic,
    #[error("replication protocol version {0}; this broker speaks {VERSION}")]
    Version(u16),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const WELCOME: u8 = 2;
    pub(super) const REFUSED: u8 = 3;
    pub(super) const PING: u8 = 4;
    pub(super) const CREDIT: u8 = 5;
    pub(super) const SUBSCRIBE: u8 = 10;
    pub(super) const ACK: u8 = 11;
    pub(super) const ACKS: u8 = 12;
    pub(super) const STARTED: u8 = 20;
    pub(super) const DIVERGED: u8 = 21;
    pub(super) const NOT_LEADER: u8 = 22;
    pub(super) const BATCHES: u8 = 23;
    pub(super) const HIGH_WATERMARK: u8 = 24;
    pub(super) const BEGIN_AT: u8 = 25;
    pub(super) const BATCHES_AFTER: u8 = 26;
}

impl Frame {
    /// What credits count: what the frame carries beside a few numbers.
    pub(crate) fn credit_bytes(&self) -> usize {
        match self {
            Self::FromLeader { message: LeaderMessage::BeginAt { producers, .. }, .. } => {
                producers.as_ref().map_or(0, Bytes::len)
            }
            _ => self.batch_bytes(),
        }
    }

    /// Bytes of record batches that the frame carries.
    fn batch_bytes(&self) -> usize {
        match self {
            Self::FromLeader { message: LeaderMessage::Batches { batches, .. }, .. } => {
                batches.iter().map(|b| b.bytes().len()).sum()
            }
            _ => 0,
        }
    }

    /// Appends the frame to `small`, but for record batches, which are appended to `out` as they are, after
    /// what `small` had: `out` and then `small` are what is to be written.
    pub(crate) fn encode(&self, small: &mut BytesMut, out: &mut Vec<Bytes>) {
        let at = small.len();
        small.put_u32(0);
        let batch_bytes = self.batch_bytes();
        match self {
            Self::Hello(hello) => hello.encode(small),
            Self::Welcome { from, minor } => {
                small.put_u8(kind::WELCOME);
                small.put_i32(from.0);
                small.put_u16(*minor);
            }
            Self::Refused { reason } => {
                small.put_u8(kind::REFUSED);
                small.put_slice(reason.as_bytes());
            }
            Self::Ping => small.put_u8(kind::PING),
            Self::Credit { bytes } => {
                small.put_u8(kind::CREDIT);
                small.put_u64(*bytes);
            }
            Self::Acks(acks) => {
                small.put_u8(kind::ACKS);
                small.put_u16(acks.len() as u16);
                for ack in acks {
                    ack.encode(small);
                }
            }
            Self::FromFollower { partition, leader_epoch, message } => match message {
                FollowerMessage::Subscribe { log_end, last_epoch, log_start } => {
                    about(small, kind::SUBSCRIBE, *partition, *leader_epoch);
                    small.put_i64(log_end.0);
                    small.put_i32(last_epoch.map_or(-1, |e| e.0));
                    if let Some(log_start) = log_start {
                        small.put_i64(log_start.0);
                    }
                }
                FollowerMessage::Ack { appended, durable, log_start } => {
                    about(small, kind::ACK, *partition, *leader_epoch);
                    small.put_i64(appended.0);
                    small.put_i64(durable.0);
                    if let Some(log_start) = log_start {
                        small.put_i64(log_start.0);
                    }
                }
            },
            Self::FromLeader { partition, leader_epoch, message } => {
                encode_from_leader(*partition, *leader_epoch, message, small);
            }
        }
        let length = (small.len() - at - 4 + batch_bytes) as u32;
        small[at..at + 4].copy_from_slice(&length.to_be_bytes());
        if let Self::FromLeader { message: LeaderMessage::Batches { batches, .. }, .. } = self {
            out.push(small.split().freeze());
            out.extend(batches.iter().map(|b| b.bytes().clone()));
        }
    }

    /// Reads the next frame. The buffer grows with what arrives, not with what is announced. A peer that sends
    /// nothing for `silence` is gone; a long frame may take as long as it likes. Not cancel safe.
    pub(crate) async fn read(
        from: &mut (impl AsyncRead + Unpin),
        max: usize,
        silence: Duration,
    ) -> Result<Self, FrameError> {
        let length = within(silence, from.read_u32()).await? as usize;
        if length > max {
            return Err(FrameError::TooLong(length));
        }
        let mut body = BytesMut::new();
        while body.len() < length {
            let step = growth(body.len()).min(length - body.len());
            body.reserve(step);
            let mut limited = (&mut *from).take(step as u64);
            if within(silence, limited.read_buf(&mut body)).await? == 0 {
                return Err(FrameError::Short);
            }
        }
        Self::decode(body.freeze())
    }

    fn decode(mut body: Bytes) -> Result<Self, FrameError> {
        let kind = body.try_get_u8().map_err(|_| FrameError::Short)?;
        match kind {
            kind::HELLO => Hello::decode(&mut body).map(Self::Hello),
            kind::WELCOME => {
                let from = BrokerId(i32_of(&mut body)?);
                let minor = if body.is_empty() { 0 } else { u16_of(&mut body)? };
                Ok(Self::Welcome { from, minor })
            }
            kind::REFUSED => Ok(Self::Refused { reason: String::from_utf8_lossy(&body).into_owned() }),
            kind::PING => Ok(Self::Ping),
            kind::CREDIT => Ok(Self::Credit { bytes: body.try_get_u64().map_err(|_| FrameError::Short)? }),
            kind::ACKS => {
                let count = usize::from(u16_of(&mut body)?);
                if body.len() != count * ACK_LEN {
                    return Err(FrameError::Short);
                }
                (0..count).map(|_| Ack::decode(&mut body)).collect::<Result<_, _>>().map(Self::Acks)
            }
            kind::SUBSCRIBE..=kind::BATCHES_AFTER => decode_about(kind, body),
            other => Err(FrameError::Kind(other)),
        }
    }
}

/// By how much the buffer grows of a body of which so much has come.
fn growth(len: usize) -> usize {
    if len < READ_LONG { READ_FIRST.max(7 * len) } else { len }
}

async fn within<T>(silence: Duration, reading: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(silence, reading).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn encode_from_leader(partition: TopicPartition, epoch: LeaderEpoch, message: &LeaderMessage, out: &mut BytesMut) {
    match message {
        LeaderMessage::Started { high_watermark, log_start } => {
            about(out, kind::STARTED, partition, epoch);
            out.put_i64(high_watermark.0);
            out.put_i64(log_start.0);
        }
        LeaderMessage::BeginAt { at, producers } => {
            about(out, kind::BEGIN_AT, partition, epoch);
            out.put_i64(at.0);
            if let Some(producers) = producers {
                out.put_u32(producers.len() as u32);
                out.put_slice(producers);
            }
        }
        LeaderMessage::Diverged { epoch: their_epoch, end } => {
            about(out, kind::DIVERGED, partition, epoch);
            out.put_i32(their_epoch.0);
            out.put_i64(end.0);
        }
        LeaderMessage::NotLeader { leader_epoch } => {
            about(out, kind::NOT_LEADER, partition, epoch);
            out.put_i32(leader_epoch.0);
        }
        LeaderMessage::Batches { from, batches, high_watermark, log_start } => {
            if batches.first().is_none_or(|first| first.header().base_offset == *from) {
                about(out, kind::BATCHES, partition, epoch);
            } else {
                about(out, kind::BATCHES_AFTER, partition, epoch);
                out.put_i64(from.0);
            }
            out.put_i64(high_watermark.0);
            out.put_i64(log_start.0);
        }
        LeaderMessage::HighWatermark { high_watermark, log_start } => {
            about(out, kind::HIGH_WATERMARK, partition, epoch);
            out.put_i64(high_watermark.0);
            out.put_i64(log_start.0);
        }
    }
}

fn decode_about(kind: u8, mut body: Bytes) -> Result<Frame, FrameError> {
    let topic = TopicId(uuid_of(&mut body)?);
    let partition = TopicPartition { topic, partition: PartitionId(i32_of(&mut body)?) };
    let leader_epoch = LeaderEpoch(i32_of(&mut body)?);
    let from_leader = |message| Frame::FromLeader { partition, leader_epoch, message };
    let from_follower = |message| Frame::FromFollower { partition, leader_epoch, message };
    Ok(match kind {
        kind::SUBSCRIBE => {
            let log_end = offset_of(&mut body)?;
            let last_epoch = Some(i32_of(&mut body)?).filter(|e| *e >= 0).map(LeaderEpoch);
            let log_start = if body.is_empty() { None } else { Some(offset_of(&mut body)?) };
            from_follower(FollowerMessage::Subscribe { log_end, last_epoch, log_start })
        }
        kind::ACK => {
            let (appended, durable) = (offset_of(&mut body)?, offset_of(&mut body)?);
            let log_start = if body.is_empty() { None } else { Some(offset_of(&mut body)?) };
            from_follower(FollowerMessage::Ack { appended, durable, log_start })
        }
        kind::STARTED => {
            let (high_watermark, log_start) = (offset_of(&mut body)?, offset_of(&mut body)?);
            from_leader(LeaderMessage::Started { high_watermark, log_start })
        }
        kind::BEGIN_AT => {
            let at = offset_of(&mut body)?;
            let len = if body.is_empty() { None } else { Some(body.try_get_u32().map_err(|_| FrameError::Short)?) };
            if len.is_some_and(|len| len as usize != body.len()) {
                return Err(FrameError::Short);
            }
            if body.len() > MAX_ENCODED_LEN {
                return Err(FrameError::TooLong(body.len()));
            }
            from_leader(LeaderMessage::BeginAt { at, producers: len.map(|_| body) })
        }
        kind::DIVERGED => {
            let epoch = LeaderEpoch(i32_of(&mut body)?);
            from_leader(LeaderMessage::Diverged { epoch, end: offset_of(&mut body)? })
        }
        kind::NOT_LEADER => from_leader(LeaderMessage::NotLeader { leader_epoch: LeaderEpoch(i32_of(&mut body)?) }),
        kind::BATCHES | kind::BATCHES_AFTER => {
            let from = if kind == kind::BATCHES { None } else { Some(offset_of(&mut body)?) };
            let (high_watermark, log_start) = (offset_of(&mut body)?, offset_of(&mut body)?);
            let expected = body.len();
            let batches = split_batches(body)?;
            if batches.iter().map(|b| b.bytes().len()).sum::<usize>() != expected {
                return Err(FrameError::Short);
            }
            let from = from.or_else(|| Some(batches.first()?.header().base_offset)).unwrap_or_default();
            from_leader(LeaderMessage::Batches { from, batches, high_watermark, log_start })
        }
        kind::HIGH_WATERMARK => {
            let (high_watermark, log_start) = (offset_of(&mut body)?, offset_of(&mut body)?);
            from_leader(LeaderMessage::HighWatermark { high_watermark, log_start })
        }
        other => return Err(FrameError::Kind(other)),
    })
}

impl Hello {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(kind::HELLO);
        out.put_u32(MAGIC);
        out.put_u16(VERSION);
        out.put_slice(self.cluster.0.as_bytes());
        out.put_i32(self.from.0);
        out.put_i64(self.broker_epoch.0);
        out.put_slice(self.directory.0.as_bytes());
        out.put_i32(self.to.0);
        out.put_u64(self.stream.0);
    }

    fn decode(body: &mut Bytes) -> Result<Self, FrameError> {
        if body.try_get_u32().map_err(|_| FrameError::Short)? != MAGIC {
            return Err(FrameError::Magic);
        }
        let version = u16_of(body)?;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        Ok(Self {
            cluster: ClusterId(uuid_of(body)?),
            from: BrokerId(i32_of(body)?),
            broker_epoch: BrokerEpoch(body.try_get_i64().map_err(|_| FrameError::Short)?),
            directory: DirectoryId(uuid_of(body)?),
            to: BrokerId(i32_of(body)?),
            stream: StreamId(body.try_get_u64().map_err(|_| FrameError::Short)?),
        })
    }
}

impl Ack {
    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(self.partition.topic.0.as_bytes());
        out.put_i32(self.partition.partition.0);
        out.put_i32(self.leader_epoch.0);
        out.put_i64(self.appended.0);
        out.put_i64(self.durable.0);
        out.put_i64(self.log_start.0);
    }

    fn decode(body: &mut Bytes) -> Result<Self, FrameError> {
        let topic = TopicId(uuid_of(body)?);
        Ok(Self {
            partition: TopicPartition { topic, partition: PartitionId(i32_of(body)?) },
            leader_epoch: LeaderEpoch(i32_of(body)?),
            appended: offset_of(body)?,
            durable: offset_of(body)?,
            log_start: offset_of(body)?,
        })
    }
}

fn about(out: &mut BytesMut, kind: u8, partition: TopicPartition, epoch: LeaderEpoch) {
    out.put_u8(kind);
    out.put_slice(partition.topic.0.as_bytes());
    out.put_i32(partition.partition.0);
    out.put_i32(epoch.0);
}

fn u16_of(body: &mut Bytes) -> Result<u16, FrameError> {
    body.try_get_u16().map_err(|_| FrameError::Short)
}

fn i32_of(body: &mut Bytes) -> Result<i32, FrameError> {
    body.try_get_i32().map_err(|_| FrameError::Short)
}

fn offset_of(body: &mut Bytes) -> Result<Offset, FrameError> {
    body.try_get_i64().map(Offset).map_err(|_| FrameError::Short)
}

fn uuid_of(body: &mut Bytes) -> Result<uuid::Uuid, FrameError> {
    body.try_get_u128().map(uuid::Uuid::from_u128).map_err(|_| FrameError::Short)
}

#[cfg(test)]
mod tests;
