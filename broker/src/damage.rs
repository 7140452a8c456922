//! What a broker does about a log that has lost something that was durable: it is believed no more, and repaired from
//! its peers, never the other way round.
//!
//! A start reads the write-ahead log and what the checkpoint does not vouch for; what is older is proven by whoever reads
//! it, and by the scrub. What these have found stays marked in the log, and a start looks at it again. Damaged partitions
//! are cut back to where they are whole, and the registration tells the controller of them: they count as on an empty
//! disk, in no in-sync set and leading nothing until they have caught up. What is cut off is kept aside for whoever
//! recovers records by hand, in `log/damaged` in the data directory. The others are believed as ever. When nobody knows
//! what was lost, the data directory gets a new identity instead, and all of its partitions count as on an empty disk.

use crate::health::Recovery;
use crate::identity::Identity;
use crate::partitions::{after_forgetting, log_state};
use anyhow::bail;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::producers::{Appended, forget_idlest};
use chronik_core::replication::LogState;
use chronik_core::time::Instant;
use chronik_log::{Log, LogReader, Op, ReadError, RealDisk, RecoveredPartition};
use std::collections::HashMap;
use std::path::Path;
use tracing::warn;

/// What whole partitions' logs say of themselves.
pub(crate) type LogStates = HashMap<TopicPartition, LogState>;

/// A log that is gone, from a directory that was part of a cluster, must not pass for an empty one under the identity
/// that others count on.
pub(crate) fn is_there(log: &Path, identity: &mut Identity, has_peers: bool) -> anyhow::Result<()> {
    if identity.cluster_id().is_none() || Log::exists(&RealDisk, log)? {
        return Ok(());
    }
    let log = log.display();
    if !has_peers {
        bail!(
            "{log} holds no log, though this broker has been part of a cluster, and there is no other broker to repair \
             it from: restore the data directory from a copy, or start with an empty one"
        );
    }
    warn!("{log} holds no log, though this broker has been part of a cluster: it begins as with an empty disk");
    Ok(identity.renew_directory()?)
}

/// Brings together what partitions say of themselves, and marks those that cannot. The states are those of the others.
/// If the write-ahead log has lost something, nothing is believed before it is read. What is known of producers takes
/// `producer_bytes` at most.
pub(crate) fn inspect(
    log: &Log<RealDisk>,
    mut recovered: Vec<RecoveredPartition>,
    progress: &Recovery,
    producer_bytes: usize,
) -> Result<(Vec<RecoveredPartition>, LogStates), ReadError> {
    let (reader, mut states) = (log.reader(), LogStates::with_capacity(recovered.len()));
    let bytes = |found: &RecoveredPartition| reader.bytes(found.partition).unwrap_or(0);
    progress.reads(recovered.iter().map(bytes).sum());
    let mut producers = 0;
    for found in &mut recovered {
        let bytes = bytes(found);
        let read = if log.wal_lost() { reader.check(found.partition, |_| {}) } else { Ok(()) };
        match read.and_then(|()| log_state(&reader, found.partition)) {
            Ok(state) if found.damaged.is_none() => {
                producers += state.producers.memory();
                states.insert(found.partition, state);
                if producers > producer_bytes {
                    producers = forget_producers(&reader, &mut states, after_forgetting(producer_bytes));
                }
            }
            Ok(_) => {}
            Err(ReadError::Damaged { offset, .. }) => {
                found.damaged = Some(found.damaged.map_or(offset, |known| known.min(offset)));
            }
            Err(other) => return Err(other),
        }
        progress.has_read(bytes);
    }
    Ok((recovered, states))
}

/// Returns what is taken by those that are left.
fn forget_producers(reader: &LogReader<RealDisk>, states: &mut LogStates, bytes: usize) -> usize {
    // Who wrote when is not known after a start.
    let appended = Appended::default();
    let known = states.iter_mut().map(|(tp, state)| (*tp, &mut state.producers, &appended));
    for (tp, before) in forget_idlest(Instant::default(), known, bytes) {
        reader.forget_producers(tp, before);
    }
    states.values().map(|state| state.producers.memory()).sum()
}

/// Makes a log whole that was found damaged, and gives what it holds then, with the states of all partitions.
pub(crate) fn repair(
    log: &mut Log<RealDisk>,
    (recovered, mut states): (Vec<RecoveredPartition>, LogStates),
    identity: &mut Identity,
    has_peers: bool,
) -> anyhow::Result<(Vec<RecoveredPartition>, LogStates)> {
    let damaged: Vec<_> = recovered.iter().filter_map(|p| Some((p.partition, p.damaged?))).collect();
    if damaged.is_empty() && !log.wal_lost() {
        return Ok((recovered, states));
    }
    for (partition, from) in &damaged {
        warn!(%partition, %from, "The disk has lost records from this offset on");
    }
    if log.wal_lost() {
        warn!("The disk has lost the end of the write-ahead log: any partition may lack records");
    }
    if !has_peers {
        let extent = if log.wal_lost() { "an unknown number of".into() } else { damaged.len().to_string() };
        bail!(
            "the log is damaged in {extent} partitions and there is no other broker to repair it from: restore the \
             data directory from a copy, or cut off what is damaged with \
             `chronik log repair DATA_DIR --broker ID --cut-damaged`, which keeps it aside (with `--accept-wal-loss` too \
             where the write-ahead log has lost its end)"
        );
    }
    // First the identity: after a crash in between, a log that is cut back must not pass for a whole one.
    if log.wal_lost() {
        identity.renew_directory()?;
        log.accept_wal_loss()?;
    }
    let partitions: Vec<_> = damaged.iter().map(|(partition, _)| *partition).collect();
    identity.add_damaged(&partitions)?;
    states.extend(cut_back(log, damaged)?);
    let reader = log.reader();
    Ok((recovered.into_iter().filter_map(|p| reader.state(p.partition)).collect(), states))
}

/// Cuts partitions back to where they are whole, as far as their states are read from them, and gives those. Further damage may
/// be before that which is known: nobody has read there yet. All are cut together: each time costs some syncs.
fn cut_back(log: &mut Log<RealDisk>, mut cuts: Vec<(TopicPartition, Offset)>) -> anyhow::Result<LogStates> {
    let mut states = LogStates::new();
    while !cuts.is_empty() {
        // One bad batch says nothing of those behind it, and a topic may have no other replica.
        log.set_aside(&cuts)?;
        let ops: Vec<_> = cuts.iter().map(|(partition, to)| Op::Repair { partition: *partition, to: *to }).collect();
        log.commit(&ops)?;
        log.apply(&ops)?;
        let mut further = Vec::new();
        for (partition, to) in cuts {
            match log_state(&log.reader(), partition) {
                Err(ReadError::Damaged { offset, .. }) if offset < to => {
                    warn!(%partition, from = %offset, "The disk has lost records from this offset on, too");
                    further.push((partition, offset));
                }
                state => {
                    states.insert(partition, state?);
                }
            }
        }
        cuts = further;
    }
    Ok(states)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use chronik_core::ids::{BrokerId, ClusterId, LeaderEpoch, PartitionId, TopicId};
    use chronik_core::record::RecordBatch;
    use chronik_log::Options;
    use kafka_protocol::records::{
        Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
        RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };
    use std::path::PathBuf;

    pub(crate) fn tp(n: i32) -> TopicPartition {
        TopicPartition { topic: TopicId::default(), partition: PartitionId(n) }
    }

    pub(crate) fn open(dir: &Path) -> (Log<RealDisk>, Vec<RecoveredPartition>) {
        // As a broker with peers does.
        let options = Options { open_with_wal_loss: true, ..Options::default() };
        Log::open(RealDisk, &dir.join("log"), options).unwrap()
    }

    pub(crate) fn append(log: &mut Log<RealDisk>, partition: TopicPartition, base: i64, bytes: usize) {
        let record = Record {
            transactional: false,
            control: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset: 0,
            sequence: NO_SEQUENCE,
            timestamp: 0,
            key: None,
            value: Some(Bytes::from(vec![b'x'; bytes])),
            headers: kafka_protocol::indexmap::IndexMap::default(),
            delete_horizon: false,
        };
        let mut out = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut out, &[record], &options).unwrap();
        let batch = RecordBatch::check(out.freeze()).unwrap().assign(Offset(base), LeaderEpoch(1));
        let op = [Op::Append { partition, batch }];
        log.commit(&op).unwrap();
        log.apply(&op).unwrap();
    }

    /// A directory of two partitions with three batches each, the second of them large, under a checkpoint.
    pub(crate) fn written() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path());
        for partition in [tp(0), tp(1)] {
            for (base, bytes) in [(0, 100), (1, 50_000), (2, 100)] {
                append(&mut log, partition, base, bytes);
            }
        }
        log.checkpoint().unwrap();
        dir
    }

    pub(crate) fn flip_bit(path: &Path, byte: usize) {
        let mut content = std::fs::read(path).unwrap();
        content[byte] ^= 4;
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn segment(dir: &Path, partition: TopicPartition) -> PathBuf {
        dir.join("log/partitions").join(partition.to_string()).join(format!("{:020}.log", 0))
    }

    /// Somebody reads the partition, and the process goes on a little.
    pub(crate) fn find(dir: &Path, partition: TopicPartition) {
        let (mut log, _) = open(dir);
        assert!(log.reader().check(partition, |_| {}).is_err());
        log.checkpoint().unwrap();
    }

    #[test]
    fn what_can_be_read_again_is_no_damage() {
        let dir = written();
        flip_bit(&segment(dir.path(), tp(1)), 25_000);
        find(dir.path(), tp(1));
        flip_bit(&segment(dir.path(), tp(1)), 25_000);
        let (log, recovered) = open(dir.path());
        let (found, states) = inspect(&log, recovered, &Recovery::begin(), usize::MAX).unwrap();
        assert_eq!(found.iter().map(|p| p.damaged).collect::<Vec<_>>(), [None, None]);
        assert_eq!(states[&tp(1)].end, Offset(3));
    }

    #[test]
    fn a_flipped_bit_costs_its_partition_alone_and_only_from_its_batch_on() {
        let dir = written();
        flip_bit(&segment(dir.path(), tp(1)), 25_000);
        let mut identity = Identity::load(dir.path(), BrokerId(1)).unwrap();
        let directory = identity.directory_id();
        find(dir.path(), tp(1));
        let (mut log, recovered) = open(dir.path());
        let found = inspect(&log, recovered, &Recovery::begin(), usize::MAX).unwrap();
        assert_eq!(found.0.iter().map(|p| p.damaged).collect::<Vec<_>>(), [None, Some(Offset(1))]);

        let (repaired, states) = repair(&mut log, found, &mut identity, true).unwrap();
        let ends = |found: &[RecoveredPartition]| found.iter().map(|p| (p.damaged, p.end.0)).collect::<Vec<_>>();
        assert_eq!(ends(&repaired), [(None, 3), (None, 1)]);
        assert_eq!((states[&tp(0)].end, states[&tp(1)].end), (Offset(3), Offset(1)));
        let kept = dir.path().join("log/damaged").join(format!("{}-{:020}.log", tp(1), 1));
        assert!(std::fs::metadata(kept).unwrap().len() > 50_000, "the batches from the damaged one on");
        drop(log);
        // A crash before the controller knew.
        let identity = Identity::load(dir.path(), BrokerId(1)).unwrap();
        assert_eq!((identity.directory_id(), identity.damaged()), (directory, vec![tp(1)]));
        let (log, recovered) = open(dir.path());
        assert_eq!(ends(&inspect(&log, recovered, &Recovery::begin(), usize::MAX).unwrap().0), [(None, 3), (None, 1)]);
    }

    #[test]
    fn damage_that_nobody_has_read_before_that_which_is_known_keeps_no_broker_from_its_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut log, _) = open(dir.path());
        append(&mut log, tp(0), 0, 100);
        // With a snapshot of its producers. What comes after it is read when what is behind is cut off.
        log.checkpoint().expect("the disk is whole");
        for (base, bytes) in [(1, 100), (2, 70_000), (3, 100), (4, 50_000), (5, 100)] {
            append(&mut log, tp(0), base, bytes);
        }
        log.checkpoint().expect("the disk is whole");
        let (mut positions, mut position) = (Vec::new(), 0);
        log.reader()
            .scan(tp(0), Offset(0), |header| {
                positions.push(position);
                position += header.total_len;
            })
            .expect("it is whole");
        for batch in [1, 4] {
            flip_bit(&segment(dir.path(), tp(0)), positions[batch] + 90);
        }
        // The index leads past the first of them.
        let found = log.reader().read(tp(0), Offset(4), Offset(5), 1);
        assert!(matches!(found, Err(ReadError::Damaged { offset: Offset(4), .. })), "{found:?}");
        log.checkpoint().expect("the disk is whole");
        drop(log);

        let mut identity = Identity::load(dir.path(), BrokerId(1)).expect("a directory");
        let (mut log, recovered) = open(dir.path());
        let found = inspect(&log, recovered, &Recovery::begin(), usize::MAX).expect("it can be asked");
        assert_eq!(found.0[0].damaged, Some(Offset(4)));
        let (repaired, states) = repair(&mut log, found, &mut identity, true).expect("it is repaired");
        assert_eq!((repaired[0].end, repaired[0].damaged, states[&tp(0)].end), (Offset(1), None, Offset(1)));
        let kept = std::fs::read_dir(dir.path().join("log/damaged")).expect("something is kept");
        let bytes: u64 = kept.map(|file| file.expect("a file").metadata().expect("a file").len()).sum();
        assert_eq!(bytes, (position - positions[1]) as u64, "all from the first damaged one on");
    }

    #[test]
    fn a_log_that_is_gone_does_not_pass_for_an_empty_one() {
        let dir = written();
        let log = dir.path().join("log");
        let mut identity = Identity::load(dir.path(), BrokerId(1)).unwrap();
        let directory = identity.directory_id();
        std::fs::rename(&log, dir.path().join("elsewhere")).unwrap();
        is_there(&log, &mut identity, false).unwrap();
        assert_eq!(identity.directory_id(), directory, "a directory that was never in a cluster has nothing to lose");
        identity.belongs_to(ClusterId::default()).unwrap();
        assert!(is_there(&log, &mut identity, false).unwrap_err().to_string().contains("holds no log"));
        is_there(&log, &mut identity, true).unwrap();
        assert_ne!(identity.directory_id(), directory);
        let renewed = identity.directory_id();
        std::fs::rename(dir.path().join("elsewhere"), &log).unwrap();
        is_there(&log, &mut identity, true).unwrap();
        assert_eq!(identity.directory_id(), renewed);
    }

    #[test]
    fn a_broker_without_peers_refuses_to_start_and_keeps_what_it_has() {
        let dir = written();
        flip_bit(&segment(dir.path(), tp(0)), 25_000);
        find(dir.path(), tp(0));
        let mut identity = Identity::load(dir.path(), BrokerId(1)).unwrap();
        let (mut log, recovered) = open(dir.path());
        let found = inspect(&log, recovered, &Recovery::begin(), usize::MAX).unwrap();
        let refused = repair(&mut log, found, &mut identity, false).unwrap_err();
        assert!(refused.to_string().contains("damaged in 1 partitions"), "{refused}");
        assert_eq!(log.reader().state(tp(0)).unwrap().end, Offset(3));
        assert_eq!(identity.damaged(), []);
    }

    #[test]
    fn a_loss_of_unknown_extent_gives_the_directory_a_new_identity_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path());
        append(&mut log, tp(0), 0, 100);
        append(&mut log, tp(0), 1, 100);
        drop(log);
        // The second of two blocks in the run's segment.
        let segments = std::fs::read_dir(dir.path().join("log/wal")).unwrap().map(|entry| entry.unwrap().path());
        flip_bit(&segments.max().unwrap(), 4096 + 80);
        let mut identity = Identity::load(dir.path(), BrokerId(1)).unwrap();
        let old = identity.directory_id();
        let (mut log, recovered) = open(dir.path());
        let found = inspect(&log, recovered, &Recovery::begin(), usize::MAX).unwrap();
        assert!(repair(&mut log, found.clone(), &mut identity, false).is_err());
        assert_eq!(identity.directory_id(), old);
        let (repaired, _) = repair(&mut log, found, &mut identity, true).unwrap();
        assert_eq!(repaired[0].end, Offset(2));
        drop(log);

        let mut identity = Identity::load(dir.path(), BrokerId(1)).unwrap();
        let new = identity.directory_id();
        assert_ne!(new, old);
        let (mut log, recovered) = open(dir.path());
        let found = inspect(&log, recovered, &Recovery::begin(), usize::MAX).unwrap();
        repair(&mut log, found, &mut identity, true).unwrap();
        assert_eq!(identity.directory_id(), new);
    }
}
