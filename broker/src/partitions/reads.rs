//! What clients may read of a partition: committed batches, offsets, ends of epochs.

use super::handle::{Cleanable, EpochEnd, FetchError, FetchSpec, Fetched, FoundOffset, OffsetSpec, ReadError};
use super::hosted::Hosted;
use super::owner::Owner;
use super::timestamps;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::producers::ProducerState;
use chronik_core::record::RecordBatch;
use chronik_core::replication::Readable;
use chronik_core::time::Instant;
use tokio::sync::oneshot;
use tracing::{debug, error};

/// The partition, if this broker has it and the client's idea of its epoch is right (KIP-320).
fn known(hosted: Option<&mut Box<Hosted>>, current_epoch: Option<LeaderEpoch>) -> Result<&mut Hosted, ReadError> {
    let hosted = hosted.ok_or(ReadError::UnknownPartition)?;
    let mine = hosted.replica.leader_epoch();
    match current_epoch {
        Some(theirs) if theirs < mine => Err(ReadError::FencedLeaderEpoch),
        Some(theirs) if theirs > mine => Err(ReadError::UnknownLeaderEpoch),
        _ => Ok(hosted),
    }
}

/// The partition, if this broker also leads it under a lease.
fn leading(
    hosted: Option<&mut Box<Hosted>>,
    now: Instant,
    current_epoch: Option<LeaderEpoch>,
) -> Result<&mut Hosted, ReadError> {
    let hosted = known(hosted, current_epoch)?;
    hosted.replica.leadership(now).map(|_| hosted).ok_or(ReadError::NotLeader)
}

impl Owner {
    pub(super) fn fetch(
        &mut self,
        partition: TopicPartition,
        spec: &FetchSpec,
        reply: oneshot::Sender<Result<Fetched, FetchError>>,
    ) {
        self.renew(partition);
        let now = self.now();
        let hosted = match known(self.partitions.get_mut(&partition), spec.current_epoch) {
            Ok(hosted) => hosted,
            Err(e) => return drop(reply.send(Err(e.into()))),
        };
        let following = hosted.replica.readable_by_following(now).filter(|_| spec.from_follower);
        let by_following = following.map(|end| Readable { end, high_watermark: Some(end) });
        let all = hosted.replica.leadership(now).filter(|_| spec.uncommitted);
        let all =
            all.map(|_| Readable { end: hosted.replica.log_end(), high_watermark: hosted.replica.high_watermark() });
        let Some(Readable { end, high_watermark }) = all.or_else(|| hosted.replica.readable(now)).or(by_following)
        else {
            return drop(reply.send(Err(ReadError::NotLeader.into())));
        };
        if spec.last_fetched_epoch.is_some_and(|last| last > hosted.replica.leader_epoch()) {
            // A client that knows of no newer leader has read from a topic of the same name that is gone, as in Kafka. One that
            // does not say what it knows of may have read from a leader that this broker has not heard of yet.
            let log_start = hosted.replica.log_start();
            let gone = spec.current_epoch.map(|_| FetchError::OutOfRange { log_start });
            return drop(reply.send(Err(gone.unwrap_or(ReadError::UnknownLeaderEpoch.into()))));
        }
        if let Some(waiter) = &spec.waiter {
            hosted.wait(waiter.clone());
        }
        let (log_start, log_end) = (hosted.replica.log_start(), hosted.replica.log_end());
        let diverging = diverging(hosted, spec);
        if following.is_some() && (spec.offset > log_end || (diverging.is_some() && spec.offset <= end)) {
            // It may be behind; what is committed it says no more of than it knows, and leaves the rest to the leader.
            let error = if spec.offset > log_end { ReadError::OffsetNotAvailable } else { ReadError::NotLeader };
            return drop(reply.send(Err(error.into())));
        }
        let diverging = diverging.filter(|_| following.is_none());
        let leads = hosted.replica.leadership(now).is_some();
        let known_end = if leads { log_end.plus(1) } else { end };
        if high_watermark.is_none() && (spec.offset >= known_end || diverging.is_some()) {
            // Only what was committed before can be said for sure. Who has read that far waits, as with Kafka's leaders: some
            // clients give up what else is in an answer with an error, or stop.
            let error = if leads { ReadError::OffsetNotAvailable } else { ReadError::NotLeader };
            return drop(reply.send(Err(error.into())));
        }
        if diverging.is_none() && (spec.offset < log_start || spec.offset > log_end) {
            return drop(reply.send(Err(FetchError::OutOfRange { log_start })));
        }
        let preferred = hosted
            .replica
            .read_replica(now, &spec.nearby, spec.offset)
            .filter(|_| diverging.is_none() && high_watermark.is_some());
        let (at_least_one, max_bytes) = (spec.at_least_one, spec.max_bytes);
        let fits = move |batches: &Vec<RecordBatch>| {
            at_least_one || batches.first().is_some_and(|first| first.bytes().len() <= max_bytes)
        };
        let answer = move |batches: Vec<RecordBatch>| Fetched {
            high_watermark,
            log_start,
            batches: batches.into_iter().map(RecordBatch::into_bytes).collect(),
            diverging,
            preferred,
        };
        let wants_none = max_bytes == 0 && !at_least_one;
        if diverging.is_some() || preferred.is_some() || spec.offset >= end || wants_none {
            return drop(reply.send(Ok(answer(Vec::new()))));
        }
        if let Some(batches) = hosted.tail.read(spec.offset, end, spec.max_bytes) {
            return drop(reply.send(Ok(answer(Some(batches).filter(fits).unwrap_or_default()))));
        }
        // Not to where the batches in memory begin: where the log was compacted, the next one on the disk may end later.
        let (reader, offset, up_to) = (self.shell.reader.clone(), spec.offset, end);
        tokio::task::spawn_blocking(move || {
            let read = reader.read_records(partition, offset, up_to, max_bytes);
            let _ = reply.send(match read {
                Ok(batches) => Ok(answer(Some(batches).filter(fits).unwrap_or_default())),
                // It was removed meanwhile.
                Err(chronik_log::ReadError::BelowStart { start, .. }) => {
                    Err(FetchError::OutOfRange { log_start: start })
                }
                // Said when it was found, and consumers go on asking.
                Err(error @ chronik_log::ReadError::Damaged { .. }) => {
                    debug!(%partition, %offset, %error, "Cannot read the log");
                    Err(ReadError::Storage.into())
                }
                Err(error) => {
                    error!(%partition, %offset, %error, "Cannot read the log");
                    Err(ReadError::Storage.into())
                }
            });
        });
    }

    pub(super) fn offset(
        &mut self,
        partition: TopicPartition,
        current_epoch: Option<LeaderEpoch>,
        spec: OffsetSpec,
        reply: oneshot::Sender<Result<FoundOffset, ReadError>>,
    ) {
        self.renew(partition);
        let now = self.now();
        let hosted = match leading(self.partitions.get_mut(&partition), now, current_epoch) {
            Ok(hosted) => hosted,
            Err(e) => {
                let _ = reply.send(Err(e));
                return;
            }
        };
        let log_start = hosted.replica.log_start();
        let at = |offset: Offset| FoundOffset {
            offset: Some(offset),
            timestamp: None,
            leader_epoch: Some(hosted.replica.leader_epoch()),
        };
        let answer = match (spec, hosted.replica.high_watermark()) {
            (OffsetSpec::Earliest, _) => Ok(at(log_start)),
            (_, None) => Err(ReadError::OffsetNotAvailable),
            (OffsetSpec::Latest, Some(high_watermark)) => Ok(at(high_watermark)),
            (OffsetSpec::Timestamp(_) | OffsetSpec::MaxTimestamp, Some(high_watermark)) => {
                let search = timestamps::Search { partition, spec, from: log_start, up_to: high_watermark };
                let (reader, newest) = (self.shell.reader.clone(), hosted.tail.batches().cloned().collect::<Vec<_>>());
                tokio::task::spawn_blocking(move || reply.send(search.run(&reader, &newest)));
                return;
            }
        };
        let _ = reply.send(answer);
    }

    pub(super) fn epoch_end(
        &mut self,
        partition: TopicPartition,
        current_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<EpochEnd, ReadError> {
        self.renew(partition);
        let now = self.now();
        let hosted = leading(self.partitions.get_mut(&partition), now, current_epoch)?;
        Ok(end_of(hosted, epoch))
    }

    pub(super) fn cleanable(&self, partition: TopicPartition) -> Result<Cleanable, ReadError> {
        let hosted = self.partitions.get(&partition).ok_or(ReadError::UnknownPartition)?;
        let status = hosted.replica.status();
        // What is committed and not on this disk yet may be cut off by a crash. Up to there a producer's last batch is another
        // one, which has to be left by then.
        let high_watermark = status.committed.min(status.durable_end);
        Ok(Cleanable {
            high_watermark,
            last_batches: hosted.replica.producers().last_batches(high_watermark).collect(),
        })
    }

    /// As this replica knows them, be it the leader or not.
    pub(super) fn producers(&mut self, partition: TopicPartition) -> Result<Vec<ProducerState>, ReadError> {
        let hosted = known(self.partitions.get_mut(&partition), None)?;
        Ok(hosted.replica.producers().iter().collect())
    }
}

fn end_of(hosted: &Hosted, epoch: LeaderEpoch) -> EpochEnd {
    let found = hosted.replica.epoch_end(epoch);
    EpochEnd { epoch: found.map(|(e, _)| e), end: found.map(|(_, end)| end) }
}

/// Where the client's log went another way, if it says enough to tell (KIP-595). What is before this log's start is gone,
/// and nobody can tell any more: who wants it is out of range, as in Kafka. A follower's log without records (its leader's
/// have all been removed, or it has just begun) has nothing to tell by: whoever has read up to there goes on there.
fn diverging(hosted: &Hosted, spec: &FetchSpec) -> Option<EpochEnd> {
    let last = spec.last_fetched_epoch?;
    if spec.offset < hosted.replica.log_start() || hosted.replica.epochs().is_empty() {
        return None;
    }
    let end = end_of(hosted, last);
    let same_way = end.epoch == Some(last) && end.end.is_some_and(|e| e >= spec.offset);
    (!same_way).then_some(end)
}
