//! What can happen to a replica, and what it can want.

use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch, ProducerId};
use crate::producers::Producers;
use crate::record::RecordBatch;
use crate::time::Instant;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// Names a waiting producer request; chosen by the shell, answered exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One subscription of a follower over one connection. A message that carries an older one is ignored:
/// what a former connection still delivers cannot move anything. Made by [`Self::new`]: a number that a later
/// process of the follower uses again would let the end of an old connection end a new subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The `count`th subscription that a follower makes in the registration `epoch`.
    pub fn new(epoch: BrokerEpoch, count: u32) -> Self {
        Self(((epoch.0 as u64) << 32) | u64::from(count))
    }
}

/// What a producer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nothing (`acks=0`).
    None,
    /// The leader's disk (`acks=1`).
    Leader,
    /// Every in-sync replica's disk (`acks=all`).
    All,
    /// As [`Acks::All`], for one who stays as long as the leadership does: the batch is appended however few are in
    /// sync, and waits until it is committed. Group coordinators append so, as what they hold in memory must not differ
    /// from the log.
    Committed,
}

/// What the durable log of a partition says about itself, after recovery or a truncation.
#[derive(Clone, Debug, Default)]
pub struct LogState {
    /// The first offset that is still there.
    pub start: Offset,
    /// Where the batch begins that holds `start`: before it, if the start was moved into a batch. `start` in an empty log.
    pub first_batch: Offset,
    /// The offset after the last record.
    pub end: Offset,
    /// Each leader epoch with the offset of its first record, ascending.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// The idempotent producers, as the log's batches tell.
    pub producers: Producers,
}

/// The partition's state as the metadata log has it, with what a replica needs to know of the brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// `None` while no eligible replica is alive.
    pub leader: Option<BrokerId>,
    /// The leadership's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The epoch that an ISR change must name.
    pub partition_epoch: PartitionEpoch,
    /// Committed in-sync replicas.
    pub isr: Vec<BrokerId>,
    /// All replicas, each with the epoch of its broker if that is alive (registered and unfenced).
    pub replicas: Vec<(BrokerId, Option<BrokerEpoch>)>,
    /// Replicas on brokers that are about to stop: they join no ISR.
    pub stopping: Vec<BrokerId>,
    /// Replicas outside of the ISR that may be elected, as nothing was committed without them (KIP-966).
    pub elr: Vec<BrokerId>,
    /// Replicas that are to leave as soon as all others are in sync (KIP-455).
    pub removing: Vec<BrokerId>,
    /// The topic's `min.insync.replicas`: with fewer in sync, nothing is committed. A partition with fewer replicas needs
    /// all of them.
    pub min_insync_replicas: usize,
    /// Producers with ids below may be older than the topic.
    pub older_producers: ProducerId,
}

/// Times and sizes that a replica goes by.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A follower that has not been caught up for this long leaves the ISR (`replica.lag.time.max.ms`).
    pub lag_time_max: Duration,
    /// A member of the ISR whose disk has stood still for this long, while it lacks what others have, leaves the ISR if
    /// enough stay.
    pub stall_time_max: Duration,
    /// Bytes on their way to one follower of one partition at most.
    pub window_bytes: usize,
    /// Bytes of one catch-up read.
    pub read_bytes: usize,
}

/// What a leader tells a follower about one partition.
#[derive(Clone, Debug)]
pub enum LeaderMessage {
    /// The follower's log is a prefix of the leader's: batches follow from its end.
    Started {
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The first offset of the leader's log.
        log_start: Offset,
    },
    /// All that the follower has lies before the leader's log, which begins with a batch at `at`: drop everything, begin
    /// there, and subscribe again.
    BeginAt {
        /// Where the leader's first batch begins.
        at: Offset,
        /// Who wrote what came before, as [`Producers::encode`] has it: no batch that is left tells. `None` from a leader
        /// that does not say.
        producers: Option<Bytes>,
    },
    /// The follower's log went another way after `end` in `epoch`: truncate and subscribe again.
    Diverged {
        /// The greatest epoch of the leader's that is not above the follower's last one.
        epoch: LeaderEpoch,
        /// Where that epoch ends at the leader.
        end: Offset,
    },
    /// Batches that continue the log, in order. Between them there may be offsets without records, where the leader's
    /// log was compacted.
    Batches {
        /// Where the follower's log ends that they continue: at the first batch's offset, or before it.
        from: Offset,
        /// As they are on the disk.
        batches: Vec<RecordBatch>,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The first offset of the leader's log.
        log_start: Offset,
    },
    /// The high watermark or the log's start moved, and there is nothing else to say.
    HighWatermark {
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The first offset of the leader's log.
        log_start: Offset,
    },
    /// The receiver of the subscription does not lead in that epoch: wait for metadata, or try again.
    NotLeader {
        /// The epoch that it knows of.
        leader_epoch: LeaderEpoch,
    },
}

/// What a follower tells its leader about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerMessage {
    /// Asks for all that comes after `log_end`.
    Subscribe {
        /// The follower's log end.
        log_end: Offset,
        /// The leader epoch of the follower's last batch, if it has any.
        last_epoch: Option<LeaderEpoch>,
        /// The follower's first offset; a broker of a former release does not say.
        log_start: Option<Offset>,
    },
    /// What the follower has by now. Both only grow within a subscription.
    Ack {
        /// End of what is written.
        appended: Offset,
        /// End of what is synced.
        durable: Offset,
        /// Its log's first offset, durably; a broker of a former release does not say.
        log_start: Option<Offset>,
    },
}

/// What can happen to a replica.
#[derive(Clone, Debug)]
pub enum Event {
    /// The metadata log says so. Delivered in the log's order, and only once this broker is registered: no
    /// leadership of a former registration is ever taken up.
    Metadata(PartitionState),
    /// The broker may act as a leader until then. Reads and writes after that are refused.
    Lease(Instant),
    /// Whether this broker's disk takes what is appended. It does until this says that it does not.
    Room(bool),
    /// A producer's batch, validated.
    Produce {
        /// Names the request in its answer.
        ticket: Ticket,
        /// The batch; its base offset means nothing yet.
        batch: RecordBatch,
        /// What the producer waits for.
        acks: Acks,
    },
    /// This broker's log is synced up to there.
    Durable {
        /// End of what is synced.
        end: Offset,
    },
    /// What is before `to` is to be removed (retention, DeleteRecords). Only a leader heeds it, and only up to its high
    /// watermark.
    AdvanceStart {
        /// The first offset that stays.
        to: Offset,
    },
    /// A [`Command::AdvanceStart`] is done and durable.
    StartAdvanced {
        /// The first offset that is still there.
        start: Offset,
        /// Where the batch begins that holds it; `start` if there is none.
        first_batch: Offset,
        /// From where on what is still there is known to be unreadable.
        damaged: Option<Offset>,
    },
    /// A [`Command::Truncate`], [`Command::Repair`] or [`Command::BeginAt`] is done and durable, or was not possible; the
    /// log is as `log` says.
    Truncated {
        /// The log's state now.
        log: LogState,
    },
    /// A follower spoke.
    FromFollower {
        /// Who.
        follower: BrokerId,
        /// Its broker epoch, as its connection's handshake proved it.
        broker_epoch: BrokerEpoch,
        /// The epoch of the leadership that it follows.
        leader_epoch: LeaderEpoch,
        /// The subscription.
        stream: StreamId,
        /// What it said.
        message: FollowerMessage,
    },
    /// A follower's connection is gone, and with it the subscription.
    StreamClosed {
        /// Who.
        follower: BrokerId,
        /// The subscription.
        stream: StreamId,
    },
    /// A [`Command::Send`] did not fit the connection's credit: nothing was sent. Comes back as
    /// [`Event::Writable`] when there is room.
    SendRefused {
        /// To whom.
        follower: BrokerId,
        /// The subscription.
        stream: StreamId,
        /// The base offset of the first batch that was not sent.
        from: Offset,
    },
    /// There is room again on the connection to that follower.
    Writable {
        /// Who.
        follower: BrokerId,
        /// The subscription.
        stream: StreamId,
    },
    /// A [`Command::Read`] is done.
    ReadDone {
        /// For whom it was.
        follower: BrokerId,
        /// The subscription.
        stream: StreamId,
        /// The offset asked for.
        from: Offset,
        /// Whole batches from the offset asked for; empty if they are gone (truncated meanwhile).
        batches: Vec<RecordBatch>,
    },
    /// The connection to this replica's leader is up (again): subscribe, under the stream id given.
    LeaderConnected {
        /// To whom.
        leader: BrokerId,
        /// The id of the subscription to make.
        stream: StreamId,
    },
    /// The connection to this replica's leader is gone.
    LeaderDisconnected {
        /// To whom it was.
        leader: BrokerId,
    },
    /// The leader spoke.
    FromLeader {
        /// The epoch of the leadership that it speaks for.
        leader_epoch: LeaderEpoch,
        /// The subscription that it answers.
        stream: StreamId,
        /// What it said.
        message: LeaderMessage,
    },
    /// The controller answered a [`Command::AlterPartition`] with a refusal, or not at all: the view goes
    /// back only when metadata says so; ask again after a while if it is still wanted. (An acceptance comes
    /// as [`Event::Metadata`].)
    AlterPartitionFailed {
        /// The partition epoch that was named.
        partition_epoch: PartitionEpoch,
        /// True when the controller is known to have refused, so that the change can never take effect;
        /// false when the outcome is unknown.
        refused: bool,
    },
    /// What the log holds from `from` on cannot be read any more, though it was durable.
    Damaged {
        /// The first offset that is lost.
        from: Offset,
    },
    /// The controller answered a [`Command::GiveUpCopy`]: this copy counts on, as there is no other that could.
    CopyKept,
    /// Nobody waits for these answers any more.
    Abandoned {
        /// Which.
        tickets: BTreeSet<Ticket>,
    },
    /// Time passed. Delivered at least every 100 ms to a replica that [`Replica::needs_tick`](super::Replica::needs_tick).
    Tick,
}

/// What a replica wants done. Commands of one step are carried out in order.
#[derive(Clone, Debug)]
pub enum Command {
    /// Write the batch to the log. [`Event::Durable`] follows.
    Append {
        /// With its offset and epoch assigned.
        batch: RecordBatch,
    },
    /// Cut the log back, durably, after all appends before. [`Event::Truncated`] follows. Where damage is in the way,
    /// [`Event::Damaged`] comes before it, and the log is as it was.
    Truncate {
        /// The new log end.
        to: Offset,
    },
    /// Cut off what is damaged, and all that comes behind it, durably. [`Event::Truncated`] follows.
    Repair {
        /// The new log end, if no more is damaged than is known.
        to: Offset,
    },
    /// Remove all that is before `to`, durably, after all appends before. [`Event::StartAdvanced`] follows.
    AdvanceStart {
        /// The first offset that stays; not beyond the log's end.
        to: Offset,
    },
    /// Remove everything, durably, and let the log begin at `at`, which is its end or beyond. [`Event::Truncated`]
    /// follows.
    BeginAt {
        /// The new start and end.
        at: Offset,
        /// Who wrote what the leader's log had before, if it is known.
        producers: Option<Bytes>,
    },
    /// Ask the controller to count no more on what this replica has: out of the in-sync set, out of those that may be
    /// elected, and out of the leadership. The outcome arrives as [`Event::Metadata`], or [`Event::CopyKept`].
    GiveUpCopy,
    /// Answer a producer.
    Reply {
        /// Which.
        ticket: Ticket,
        /// With what.
        result: Result<Produced, ProduceError>,
    },
    /// To a follower.
    Send {
        /// Whom.
        follower: BrokerId,
        /// The subscription.
        stream: StreamId,
        /// The epoch of this leadership.
        leader_epoch: LeaderEpoch,
        /// What.
        message: LeaderMessage,
    },
    /// Read batches for a follower that is behind. [`Event::ReadDone`] follows.
    Read {
        /// For whom.
        follower: BrokerId,
        /// The subscription.
        stream: StreamId,
        /// The first offset wanted.
        from: Offset,
        /// Bytes at most (one batch at least).
        max_bytes: usize,
    },
    /// To this replica's leader.
    ToLeader {
        /// Whom.
        leader: BrokerId,
        /// The epoch that is followed.
        leader_epoch: LeaderEpoch,
        /// The subscription.
        stream: StreamId,
        /// What.
        message: FollowerMessage,
    },
    /// Follow that broker: see that there is a connection to it and say [`Event::LeaderConnected`], at once if
    /// there is one already. Replaces any former wish.
    Follow {
        /// The leader; `None` to follow nobody.
        leader: Option<BrokerId>,
    },
    /// Ask the controller to change the ISR (KIP-497).
    AlterPartition {
        /// The leadership that asks.
        leader_epoch: LeaderEpoch,
        /// The partition epoch that was seen.
        partition_epoch: PartitionEpoch,
        /// The new ISR, each with its broker epoch (KIP-903).
        isr: Vec<(BrokerId, BrokerEpoch)>,
    },
    /// What readers may see has moved, or leadership has: wake those that wait.
    Wake,
}

/// A producer's batch is where its `acks` asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The offset that the batch's first record got.
    pub base_offset: Offset,
    /// The log's first offset.
    pub log_start: Offset,
}

/// Why a producer's batch is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// This broker does not lead the partition (any more). The batch may or may not survive.
    #[error("not the leader of the partition")]
    NotLeader,
    /// Refused before the append: the ISR is smaller than `min.insync.replicas`.
    #[error("fewer in-sync replicas than min.insync.replicas")]
    NotEnoughReplicas,
    /// Appended, and then the ISR became too small to commit it.
    #[error("appended, but fewer in-sync replicas than min.insync.replicas")]
    NotEnoughReplicasAfterAppend,
    /// Refused before the append: the leader's disk is full.
    #[error("the disk has no room")]
    NoRoom,
    /// Its sequence does not follow the producer's last one.
    #[error("out of order sequence number")]
    OutOfOrderSequence,
    /// Its producer epoch is older than one seen before.
    #[error("a newer producer with this id has fenced this one")]
    InvalidProducerEpoch,
    /// A sequence so old that its offset is no longer remembered.
    #[error("duplicate of a batch older than the last six")]
    DuplicateSequence,
}
