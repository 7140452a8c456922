//! Carrying out what a replica wants.

use super::handle::Reservation;
use super::input::Input;
use super::owner::{Kept, Owner};
use bytes::Bytes;
use chronik_core::cluster::{Leaving, ResignReason, ResignedPartitions};
use chronik_core::ids::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use chronik_core::producers::Producers;
use chronik_core::record::RecordBatch;
use chronik_core::replication::{Command, Event, LeaderMessage, LogState, ProduceError, StreamId};
use chronik_core::time::Instant;
use chronik_log::{LogReader, Op, ReadError, RealDisk, RecoveredPartition};
use chronik_quorum::{AlterPartition, ControllerError, ControllerHandle, Resignation};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// How long the controller may take to answer an ISR change.
const ALTER_PARTITION_MAX: Duration = Duration::from_secs(2);
/// From one try to read a log to the next, when the disk refuses.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// What a batch in memory takes beside its bytes: its header, its places in the queues, what the allocator adds. Of
/// small batches it is most.
const KEPT_BESIDE: usize = 256;
/// What a follower that is not in sync gets of batches in memory without waiting behind the partitions that it
/// catches up with. It is what came while it got the one before, and the partition's next writes wait for it.
const LITTLE: usize = 64 << 10;
/// For so long batches are kept in memory. Whoever wants an older one is behind, and reads the disk, or what the kernel has
/// of it; an idle broker takes no memory for them.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// A repair waits no longer until what it cuts off is kept: meanwhile the replica neither follows nor leads.
const SET_ASIDE_MAX: Duration = Duration::from_mins(1);
/// One partition at a time is kept aside: it takes a thread for as long as the disk does, and reads need these threads.
static KEEPING: Mutex<()> = Mutex::const_new(());

impl Owner {
    pub(super) fn carry_out(&mut self, partition: TopicPartition, command: Command, reservation: Option<&Reservation>) {
        match command {
            Command::Append { batch } => self.append(partition, batch, reservation.cloned()),
            Command::Truncate { to } => self.truncate(partition, Op::Truncate { partition, to }),
            Command::Repair { to } => self.set_aside(partition, to),
            Command::AdvanceStart { to } => self.advance_start(partition, to),
            Command::BeginAt { at, producers } => self.begin_at(partition, at, producers, reservation.cloned()),
            Command::Reply { ticket, result } => {
                if result == Err(ProduceError::NoRoom) {
                    self.shell.writer.space().refuse();
                }
                let waiting = self.partitions.get_mut(&partition).and_then(|h| h.tickets.remove(&ticket));
                match (waiting, result) {
                    (Some(reply), Ok(produced)) => self.answers.push((reply, produced)),
                    (Some(reply), Err(error)) => self.refuse(reply, error),
                    (None, _) => {}
                }
            }
            Command::Send { follower, stream, leader_epoch, message } => {
                self.send(partition, follower, stream, leader_epoch, message);
            }
            Command::Read { follower, stream, from, max_bytes } => {
                self.read_for(partition, follower, stream, from, max_bytes);
            }
            Command::ToLeader { leader, leader_epoch, stream, message } => {
                if let Some(link) = self.leaders.get_mut(&leader).filter(|l| l.stream == stream) {
                    link.send(partition, leader_epoch, message);
                }
            }
            Command::Follow { leader } => self.follow(partition, leader),
            Command::AlterPartition { leader_epoch, partition_epoch, isr } => {
                self.alter_partition(AlterPartition { partition, leader_epoch, partition_epoch, isr });
            }
            Command::GiveUpCopy => {
                let (controller, owners) = (self.shell.controller.clone(), self.shell.owners.clone());
                // It is asked again.
                tokio::spawn(async move {
                    if give_up_copy(&controller, partition, ResignReason::Damage).await == Some(GivenUp::Kept) {
                        owners.send(partition, Input::CopyKept { partition });
                    }
                });
            }
            Command::Wake => {
                if let Some(hosted) = self.partitions.get_mut(&partition) {
                    hosted.wake();
                    self.answer_deletions(partition);
                }
            }
        }
    }

    fn append(&mut self, partition: TopicPartition, batch: RecordBatch, reservation: Option<Reservation>) {
        let Some(hosted) = self.partitions.get_mut(&partition) else { return };
        let batch = batch.detached();
        let base = batch.header().base_offset;
        let bytes = batch.bytes().len() + KEPT_BESIDE;
        hosted.tail.push(batch.clone());
        let since = self.now();
        self.tails.push_back(Kept { partition, base, bytes, since });
        self.tails_bytes += bytes;
        self.evict_tails(since);
        self.shell.writer.append(partition, batch, reservation, &self.appender);
    }

    /// Forgets the oldest batches in memory that are on the disk, while there are too many, and those that were written
    /// long before `now`.
    pub(super) fn evict_tails(&mut self, now: Instant) {
        while let Some(&Kept { partition, base, bytes, since }) = self.tails.front()
            && (self.tails_bytes > self.shell.tail_bytes || now.since(since) > KEPT_FOR)
        {
            let applied = self.shell.reader.applied_end(partition).unwrap_or(Offset::ZERO);
            let gone = self.partitions.get_mut(&partition).is_none_or(|h| h.tail.evict(base, applied));
            if !gone {
                return;
            }
            self.tails.pop_front();
            self.tails_bytes -= bytes;
        }
        if self.tails.is_empty() {
            self.tails = VecDeque::new();
        }
    }

    /// What was cut off leaves the memory when it is known where the log ends then.
    fn truncate(&mut self, partition: TopicPartition, op: Op) {
        let owners = self.shell.owners.clone();
        let done = move || owners.send(partition, Input::TruncateDone { partition });
        self.shell.writer.submit(op, Box::new(done));
    }

    /// Keeps what a repair is about to cut off: one bad batch says nothing of those behind it, and peers may not have them. Until
    /// the replica hears that the repair is done it asks for nothing else of its log.
    fn set_aside(&self, partition: TopicPartition, to: Offset) {
        let Some(life) = self.partitions.get(&partition).map(|hosted| hosted.life) else { return };
        let (reader, owners) = (self.shell.reader.clone(), self.shell.owners.clone());
        tokio::spawn(async move {
            let given_up = CancellationToken::new();
            let until = given_up.clone();
            let copied = async {
                let turn = KEEPING.lock().await;
                let copy = move || {
                    // Held also when nobody waits for the copy any more.
                    let _turn = turn;
                    reader.copy_aside(partition, to, &|| !until.is_cancelled())
                };
                tokio::task::spawn_blocking(copy).await
            };
            match timeout(SET_ASIDE_MAX, copied).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => warn!(%partition, from = %to, %error, "Not all that is cut off is kept"),
                Ok(Err(_)) | Err(_) => {
                    warn!(%partition, from = %to, "Not all that is cut off is kept: it took too long");
                }
            }
            given_up.cancel();
            owners.send(partition, Input::SetAside { partition, life, to });
        });
    }

    /// Cuts off what is kept.
    pub(super) fn repair(&mut self, partition: TopicPartition, to: Offset) {
        self.truncate(partition, Op::Repair { partition, to });
    }

    fn advance_start(&self, partition: TopicPartition, to: Offset) {
        let owners = self.shell.owners.clone();
        let done = move || owners.send(partition, Input::AdvanceDone { partition, to });
        self.shell.writer.submit(Op::AdvanceStart { partition, to }, Box::new(done));
    }

    /// Drops all that the log has; what comes of it is as after a truncation.
    fn begin_at(
        &mut self,
        partition: TopicPartition,
        at: Offset,
        producers: Option<Bytes>,
        reservation: Option<Reservation>,
    ) {
        let Some(hosted) = self.partitions.get_mut(&partition) else { return };
        hosted.tail.truncate(at);
        let owners = self.shell.owners.clone();
        let done = move || {
            drop(reservation);
            owners.send(partition, Input::TruncateDone { partition });
        };
        // What cannot be read is as if it had not been said.
        let op = match producers.filter(|bytes| Producers::decode(bytes, i64::MAX).is_some()) {
            Some(producers) => Op::BeginAt { partition, at, producers },
            None => Op::AdvanceStart { partition, to: at },
        };
        self.shell.writer.submit(op, Box::new(done));
    }

    /// Looks where the batch begins that the log now starts with.
    pub(super) fn find_first_batch(&self, partition: TopicPartition, start: Offset) {
        let Some(life) = self.partitions.get(&partition).map(|hosted| hosted.life) else { return };
        let (reader, owners) = (self.shell.reader.clone(), self.shell.owners.clone());
        let read = move || {
            let first = match reader.read(partition, start, Offset(i64::MAX), 1) {
                Ok(batches) => batches.first().map_or(start, |batch| batch.header().base_offset),
                // A later change is done as well, and says where the log starts; or the partition is gone.
                Err(ReadError::BelowStart { .. } | ReadError::OutOfRange { .. } | ReadError::UnknownPartition(_)) => {
                    return Ok(None);
                }
                // The damage is reported by the watcher of damage.
                Err(ReadError::Damaged { .. }) => start,
                Err(error) => return Err(error),
            };
            // What cannot be read now is looked at when the start moves again.
            let _ = reader.look_behind_damage(partition);
            Ok(Some(first))
        };
        tokio::spawn(async move {
            if let Some(first_batch) = until_read(partition, read).await.flatten() {
                owners.send(partition, Input::StartAdvanced { partition, life, start, first_batch });
            }
        });
    }

    /// Looks up a truncated log's state: producers' last batches may be ones that had been forgotten. As long as it cannot
    /// be read, this replica can neither follow nor lead, and nobody should count on it. One that is damaged goes on when
    /// nobody does, without its producers.
    pub(super) fn reload(&mut self, partition: TopicPartition) {
        let Some(life) = self.partitions.get(&partition).map(|hosted| hosted.life) else { return };
        let (reader, owners) = (self.shell.reader.clone(), self.shell.owners.clone());
        let controller = self.shell.controller.clone();
        tokio::spawn(async move {
            loop {
                let again = reader.clone();
                let read = tokio::task::spawn_blocking(move || log_state(&again, partition)).await;
                let log = match read {
                    Ok(Ok(log)) => Some(log),
                    Ok(Err(error)) => {
                        error!(%partition, %error, "Cannot read the log after its truncation");
                        let given_up = give_up_copy(&controller, partition, ResignReason::Incapable).await;
                        let goes_on = given_up.is_some() && matches!(error, ReadError::Damaged { .. });
                        let without = || state(&reader, partition, |found| Ok((found.start, reader.no_producers())));
                        goes_on.then(without).and_then(Result::ok)
                    }
                    // The process ends.
                    Err(_) => return,
                };
                if let Some(log) = log {
                    return owners.send(partition, Input::Truncated { partition, life, log });
                }
                tokio::time::sleep(READ_AGAIN).await;
            }
        });
    }

    fn send(
        &mut self,
        partition: TopicPartition,
        follower: BrokerId,
        stream: StreamId,
        leader_epoch: LeaderEpoch,
        message: LeaderMessage,
    ) {
        let Some(link) = self.followers.get(&follower).filter(|l| l.stream == stream) else { return };
        let first = match &message {
            LeaderMessage::Batches { from, .. } => Some(*from),
            _ => None,
        };
        let catches_up = matches!(&message, LeaderMessage::Batches { batches, .. } if bytes_of(batches) > LITTLE)
            && !self.is_in_sync(partition, follower);
        if link.send(partition, leader_epoch, message, catches_up) {
            return;
        }
        if let Some(from) = first {
            self.send_queues.entry(follower).or_default().refused(partition);
            self.pending.push_back((partition, Event::SendRefused { follower, stream, from }));
        } else {
            // There is no room for what is known of producers: the follower asks again in a moment.
            link.send(partition, leader_epoch, LeaderMessage::NotLeader { leader_epoch }, false);
        }
    }

    fn read_for(
        &mut self,
        partition: TopicPartition,
        follower: BrokerId,
        stream: StreamId,
        from: Offset,
        max_bytes: usize,
    ) {
        let Some(hosted) = self.partitions.get(&partition) else { return };
        let Some(grant) = self.grant(partition, follower, max_bytes) else {
            self.send_queues.entry(follower).or_default().throttled(partition);
            self.not_now(partition, follower, stream, from);
            return;
        };
        let max_bytes = grant.bytes;
        let kept = hosted.tail.read(from, hosted.replica.log_end(), max_bytes);
        let in_sync = self.is_in_sync(partition, follower);
        let (kept, much) = match kept {
            Some(batches) if in_sync || bytes_of(&batches) <= LITTLE => (Some(batches), None),
            other => (None, other),
        };
        if let Some(batches) = kept {
            grant.used(&batches);
            self.pending.push_back((partition, Event::ReadDone { follower, stream, from, batches }));
            return;
        }
        if much.is_none() && self.is_hopeless(partition, from) {
            grant.used(&[]);
            self.pending.push_back((partition, Event::ReadDone { follower, stream, from, batches: Vec::new() }));
            return;
        }
        let Some(hosted) = self.partitions.get(&partition) else { return grant.used(&[]) };
        let up_to = hosted.replica.log_end();
        let Some(link) = self.followers.get(&follower).filter(|l| l.stream == stream) else { return grant.used(&[]) };
        // What was sent just before may have been refused, which the replica does not know yet: it waits already.
        let waits = self.pending.iter().any(|(p, e)| *p == partition && is_refusal(e, follower));
        let reads = self.shell.reads();
        let queue = self.send_queues.entry(follower).or_default();
        if waits || !queue.may_read(partition, much.is_some(), link, reads) {
            grant.used(&[]);
            self.not_now(partition, follower, stream, from);
            return;
        }
        if let Some(batches) = much {
            grant.used(&batches);
            self.send_queues.entry(follower).or_default().has_read();
            self.has_read(follower, stream);
            self.pending.push_back((partition, Event::ReadDone { follower, stream, from, batches }));
            return;
        }
        // Not to where the batches in memory begin: where the log was compacted, the next one on the disk may end later.
        let (reader, owners) = (self.shell.reader.clone(), self.shell.owners.clone());
        tokio::task::spawn_blocking(move || {
            let batches = reader.read(partition, from, up_to, max_bytes).unwrap_or_else(|error| {
                // What was removed meanwhile, the replica finds out by itself.
                if !matches!(error, chronik_log::ReadError::BelowStart { .. }) {
                    error!(%partition, %from, %error, "Cannot read the log for a follower");
                }
                Vec::new()
            });
            grant.used(&batches);
            owners.send(partition, Input::ReadDone { partition, follower, stream, from, batches });
        });
    }

    /// Whether what begins there is known to be damaged, and was tried a little while ago: each tick asks for it again.
    fn is_hopeless(&mut self, partition: TopicPartition, from: Offset) -> bool {
        let damaged = self.shell.reader.damaged(partition) == Some(from);
        let now = self.now();
        let Some(hosted) = self.partitions.get_mut(&partition).filter(|_| damaged) else { return false };
        !hosted.damage.is_due(now)
    }

    fn is_in_sync(&self, partition: TopicPartition, follower: BrokerId) -> bool {
        let isr = self.partitions.get(&partition).and_then(|hosted| hosted.replica.isr());
        isr.is_some_and(|isr| isr.committed().contains(&follower))
    }

    /// A read for a follower that catches up has ended, and what it brought was sent, or was not.
    pub(super) fn has_read(&self, follower: BrokerId, stream: StreamId) {
        let link = self.followers.get(&follower).filter(|link| link.stream == stream);
        if link.is_some_and(|link| link.has_read(self.shell.reads().bytes)) {
            self.shell.owners.broadcast(|| Input::Writable { follower });
        }
    }

    /// Nothing is read for the follower before it may go on ([`Input::Writable`]).
    fn not_now(&mut self, partition: TopicPartition, follower: BrokerId, stream: StreamId, from: Offset) {
        self.pending.push_back((partition, Event::ReadDone { follower, stream, from, batches: Vec::new() }));
        self.pending.push_back((partition, Event::SendRefused { follower, stream, from }));
    }

    fn follow(&mut self, partition: TopicPartition, leader: Option<BrokerId>) {
        let Some(hosted) = self.partitions.get_mut(&partition) else { return };
        hosted.following = leader;
        if let Some(link) = leader.and_then(|l| self.leaders.get(&l)) {
            let event = Event::LeaderConnected { leader: link.leader, stream: link.stream };
            self.pending.push_back((partition, event));
        }
    }

    fn alter_partition(&self, change: AlterPartition) {
        let owners = self.shell.owners.clone();
        let (partition, partition_epoch) = (change.partition, change.partition_epoch);
        self.shell.controller.alter_partition(change, ALTER_PARTITION_MAX, move |outcome| {
            if let Err(error) = outcome {
                let refused = error != ControllerError::Unavailable;
                owners.send(partition, Input::AlterPartitionFailed { partition, partition_epoch, refused });
            }
        });
    }
}

fn bytes_of(batches: &[RecordBatch]) -> usize {
    batches.iter().map(|batch| batch.bytes().len()).sum()
}

fn is_refusal(event: &Event, by: BrokerId) -> bool {
    matches!(event, Event::SendRefused { follower, .. } if *follower == by)
}

/// What a partition's log says about itself. Reads a snapshot and what came after it: not for an owner's own task.
/// Reads on a thread that may wait, and again after a while for as long as the disk refuses; `None` when the process ends.
async fn until_read<T: Send + 'static>(
    partition: TopicPartition,
    read: impl Fn() -> Result<T, ReadError> + Clone + Send + 'static,
) -> Option<T> {
    loop {
        match tokio::task::spawn_blocking(read.clone()).await.ok()? {
            Ok(found) => return Some(found),
            Err(error) => error!(%partition, %error, "Cannot read the log: it is tried again"),
        }
        tokio::time::sleep(READ_AGAIN).await;
    }
}

/// What the controller has decided of a copy that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GivenUp {
    /// Nobody counts on it.
    Gone,
    /// There is no other to count on.
    Kept,
}

/// Has the controller count no more on what this broker has of the partition. What is on its disk is less than what it
/// acknowledged, or not as the leader has it, or cannot be read. `None` if the controller has decided nothing.
async fn give_up_copy(
    controller: &ControllerHandle,
    partition: TopicPartition,
    reason: ResignReason,
) -> Option<GivenUp> {
    let partitions = ResignedPartitions::These(vec![partition]);
    let resignation = Resignation { partitions, leaving: Leaving::Copy, reason };
    let decided = controller.resign(resignation, ALTER_PARTITION_MAX).await;
    match &decided {
        Ok(kept) if kept.is_empty() => {
            warn!(%partition, "Nobody counts on this replica until it has from its leader what its disk has lost");
        }
        Ok(_) => error!(
            %partition,
            "The disk has lost records, and no other replica that has them can lead. What can be read is served; the \
             rest is gone unless one comes back, or the data directory is restored from a copy"
        ),
        Err(error) => warn!(%partition, %error, "Cannot give up a damaged replica yet"),
    }
    decided.ok().map(|kept| if kept.is_empty() { GivenUp::Gone } else { GivenUp::Kept })
}

pub(crate) fn log_state(reader: &LogReader<RealDisk>, partition: TopicPartition) -> Result<LogState, ReadError> {
    state(reader, partition, |_| Ok((reader.first_batch(partition)?, reader.producers(partition)?)))
}

/// A log's state, with where the batch begins that holds its start, and its producers.
fn state(
    reader: &LogReader<RealDisk>,
    partition: TopicPartition,
    rest: impl FnOnce(&RecoveredPartition) -> Result<(Offset, Producers), ReadError>,
) -> Result<LogState, ReadError> {
    let Some(found) = reader.state(partition) else {
        return Ok(LogState { producers: reader.no_producers(), ..LogState::default() });
    };
    let (first_batch, producers) = rest(&found)?;
    Ok(LogState { start: found.start, first_batch, end: found.end, epochs: found.epochs, producers })
}
