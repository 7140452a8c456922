//! Compaction: the last record of each key stays, whatever a crash does, and nothing else but what is told to stay.

use crate::common::{Random, partition, run, tiny};
use chronik_core::ids::{LeaderEpoch, Offset};
use chronik_core::record::samples::{Sample, batch_of, encoded};
use chronik_core::record::{Compression, RecordBatch};
use chronik_log::{
    Call, CleanError, CleanReport, CleanSpec, CleanStep, Log, Op, Options, ReadError, RecoveredPartition, SimulatedDisk,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(super) const TP: u8 = 0;
/// Keys that there are.
pub(super) const KEYS: u64 = 12;

pub(super) fn open(disk: &SimulatedDisk) -> (Log<SimulatedDisk>, Vec<RecoveredPartition>) {
    Log::open(disk.clone(), Path::new("/broker/data"), tiny()).expect("it opens")
}

/// Three records with keys that `random` draws, and values that say where they are; some without a value.
pub(super) fn append(base: i64, random: &mut Random) -> Op {
    let sample = |n: i32| {
        let value = format!("{} {}", base + i64::from(n), "x".repeat(40)).into_bytes();
        Sample {
            offset_delta: n,
            key: Some(random.below(KEYS).to_string().into_bytes()),
            value: (random.below(8) > 0).then_some(value),
            ..Sample::default()
        }
    };
    let samples: Vec<_> = (0..3).map(sample).collect();
    let batch = batch_of(Compression::None, 3, &encoded(&samples)).producer(1 + base % 2, 0, base as i32);
    let epoch = LeaderEpoch((base / 100) as i32);
    Op::Append { partition: partition(TP), batch: batch.timestamps(0, base).build().assign(Offset(base), epoch) }
}

pub(super) fn written(disk: &SimulatedDisk, batches: i64) -> Log<SimulatedDisk> {
    written_with(disk, tiny(), batches)
}

/// Nothing of it is synced before that is asked for.
pub(super) fn written_and_not_synced(disk: &SimulatedDisk, batches: i64) -> Log<SimulatedDisk> {
    written_with(disk, Options { checkpoint_bytes: 1 << 30, max_open_files: 256, ..tiny() }, batches)
}

fn written_with(disk: &SimulatedDisk, options: Options, batches: i64) -> Log<SimulatedDisk> {
    let (mut log, _) = Log::open(disk.clone(), Path::new("/broker/data"), options).expect("it opens");
    let mut random = Random::new(7);
    (0..batches).for_each(|n| run(&mut log, append(3 * n, &mut random)));
    log
}

pub(crate) fn spec(until: i64) -> CleanSpec {
    CleanSpec {
        until: Offset(until),
        producers: BTreeSet::new(),
        buffer_bytes: 1 << 20,
        secret: (1, 2),
        now_ms: 1_000_000,
        delete_retention_ms: 1000,
        max_decompressed: 1 << 20,
    }
}

/// All keys would be read, and nothing come of it, with each attempt until there is room.
#[test]
fn no_key_is_read_where_there_is_no_room_for_what_is_left() {
    let disk = SimulatedDisk::new(1);
    let log = written(&disk, 60);
    let (reads, mut steps) = (disk.calls(Call::Read), Vec::new());
    let stopped = log.reader().clean(partition(TP), &spec(i64::MAX), |step| {
        steps.push(step);
        !matches!(step, CleanStep::Begins(_))
    });
    assert!(matches!(stopped, Err(CleanError::Stopped)), "{stopped:?}");
    assert!(matches!(steps[..], [CleanStep::Begins(bytes)] if bytes > 0), "{steps:?}");
    assert_eq!(disk.calls(Call::Read), reads);
}

pub(super) fn clean(log: &Log<SimulatedDisk>, spec: &CleanSpec) -> Result<CleanReport, CleanError> {
    log.reader().clean(partition(TP), spec, |_| true)
}

fn batches(log: &Log<SimulatedDisk>) -> Result<Vec<RecordBatch>, ReadError> {
    let (reader, mut batches) = (log.reader(), Vec::<RecordBatch>::new());
    let state = reader.state(partition(TP)).expect("it is there");
    let mut next = state.start;
    while next < state.end {
        batches.extend(reader.read(partition(TP), next, state.end, 500)?);
        next = batches.last().expect("there is more").header().end_offset();
    }
    Ok(batches)
}

/// Offsets, keys and values of all records.
pub(super) type Records = Vec<(i64, Vec<u8>, Option<Vec<u8>>)>;

pub(super) fn records(log: &Log<SimulatedDisk>) -> Records {
    let batches = batches(log).expect("it can be read");
    let contents = batches.iter().flat_map(|batch| batch.contents(1 << 20).expect("it can be decoded"));
    contents.map(|r| (r.offset.0, r.key.expect("a key").to_vec(), r.value.map(|v| v.to_vec()))).collect()
}

fn last_of_each_key(records: &Records) -> BTreeMap<Vec<u8>, (i64, Option<Vec<u8>>)> {
    records.iter().map(|(offset, key, value)| (key.clone(), (*offset, value.clone()))).collect()
}

/// What a power cut leaves.
pub(super) fn after_a_crash(
    disk: &SimulatedDisk,
    log: Log<SimulatedDisk>,
    when: &str,
) -> (Log<SimulatedDisk>, Records) {
    drop(log);
    disk.crash();
    disk.restart();
    let (log, recovered) = open(disk);
    assert!(!log.wal_lost() && recovered.iter().all(|r| r.damaged.is_none()), "{when}");
    let found = if recovered.is_empty() { Records::new() } else { records(&log) };
    (log, found)
}

/// A segment's file for each segment, and an index at most.
pub(super) fn check_files(disk: &SimulatedDisk, log: &mut Log<SimulatedDisk>, when: &str) {
    log.checkpoint().expect("the disk is whole");
    // What is out of use is removed with the next round.
    log.apply(&[]).expect("the disk is whole");
    let folder = Path::new("/broker/data/partitions").join(partition(TP).to_string());
    let files: Vec<_> =
        disk.files().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(&folder)).collect();
    let stems = |extension: &str| -> BTreeSet<_> {
        let of = files.iter().filter(|path| path.extension().is_some_and(|e| e == extension));
        of.map(|path| path.with_extension("")).collect()
    };
    let (logs, indexes) = (stems("log"), stems("index"));
    assert_eq!(logs.len(), log.reader().segments(partition(TP)).expect("it is there").len(), "{when}: {logs:?}");
    assert!(indexes.is_subset(&logs), "{when}: {indexes:?} of {logs:?}");
}

/// What is left is some of what there was, in order, with the last record of each key.
pub(super) fn check(before: &Records, after: &Records, when: &str) {
    assert!(after.is_sorted_by(|a, b| a.0 < b.0), "{when}");
    assert!(after.iter().all(|record| before.contains(record)), "{when}");
    assert_eq!(last_of_each_key(before), last_of_each_key(after), "{when}");
}

#[test]
fn a_consumer_reads_over_all_that_was_emptied() {
    let disk = SimulatedDisk::new(1);
    let mut log = written(&disk, 20);
    // Cleaned a segment at a time, so that each leaves a batch without records in a file of its own.
    let segments = log.reader().segments(partition(TP)).unwrap();
    for n in 20..400 {
        let same = Sample { key: Some(b"same".to_vec()), value: Some(vec![b'x'; 40]), ..Sample::default() };
        let batch = batch_of(Compression::None, 1, &encoded(&[same])).timestamps(0, n).build();
        let epoch = LeaderEpoch((59 + n - 20) as i32 / 100);
        run(&mut log, Op::Append { partition: partition(TP), batch: batch.assign(Offset(60 + n - 20), epoch) });
        if n % 40 == 39 {
            clean(&log, &spec(i64::MAX)).unwrap();
        }
    }
    assert!(log.reader().segments(partition(TP)).unwrap().len() > segments.len());
    let (reader, state) = (log.reader(), log.reader().state(partition(TP)).unwrap());
    let (mut next, mut empty) = (state.start, 0);
    while next < state.end {
        let batches = reader.read_records(partition(TP), next, state.end, 100).unwrap();
        let records = |batch: &RecordBatch| batch.header().record_count;
        assert!(batches.iter().map(records).sum::<i32>() > 0, "nothing at {next}, and the log ends at {}", state.end);
        let plain = reader.read(partition(TP), next, state.end, 100).unwrap();
        empty += usize::from(plain.iter().all(|batch| records(batch) == 0));
        next = batches.last().unwrap().header().end_offset();
    }
    assert!(empty > 0, "nothing was emptied");
}

#[test]
fn of_closed_segments_the_last_record_of_each_key_is_left() {
    let disk = SimulatedDisk::new(1);
    let mut log = written(&disk, 100);
    let before = records(&log);
    let segments = log.reader().segments(partition(TP)).unwrap();
    let closed = segments[segments.len() - 1].base;
    let report = clean(&log, &spec(i64::MAX)).unwrap();
    assert_eq!((report.cleaned_to, report.keys), (closed, KEYS as usize));
    assert!(report.bytes_after * 5 < report.bytes_before, "{report:?}");
    let after = records(&log);
    check(&before, &after, "cleaned");
    assert_eq!(after.iter().filter(|r| r.0 < closed.0).count(), KEYS as usize);
    let again = clean(&log, &spec(i64::MAX)).unwrap();
    assert_eq!((again.cleaned_to, again.bytes_before), (closed, 0), "there is nothing to do");
    assert_eq!(log.reader().cleaning(partition(TP)).unwrap().cleaned_to, closed);
    // What has become small is merged by the next cleaning.
    let mut random = Random::new(8);
    (100..160).for_each(|n| run(&mut log, append(3 * n, &mut random)));
    let before = records(&log);
    clean(&log, &spec(i64::MAX)).unwrap();
    check(&before, &records(&log), "cleaned again");
    let left = log.reader().segments(partition(TP)).unwrap();
    assert!(left.len() < segments.len(), "{left:?}");
    assert!(left.windows(2).all(|two| two[0].end == two[1].base), "{left:?}");
}

#[test]
fn what_was_cleaned_stays_so_after_a_checkpoint_and_before_it_may_be_what_it_was() {
    for checkpoint in [false, true] {
        let disk = SimulatedDisk::new(1);
        let mut log = written(&disk, 60);
        let before = records(&log);
        let cleaned_to = clean(&log, &spec(i64::MAX)).unwrap().cleaned_to;
        let after = records(&log);
        if checkpoint {
            log.checkpoint().unwrap();
        }
        drop(log);
        disk.crash();
        disk.restart();
        let (mut log, recovered) = open(&disk);
        assert_eq!(recovered[0].damaged, None);
        let found = records(&log);
        assert_eq!(found, if checkpoint { after } else { before.clone() });
        let kept = log.reader().cleaning(partition(TP)).unwrap().cleaned_to;
        assert_eq!(kept, if checkpoint { cleaned_to } else { Offset(0) });
        // What is not referred to any more takes no space.
        log.checkpoint().unwrap();
        run(&mut log, append(180, &mut Random::new(1)));
        let folder = Path::new("/broker/data/partitions").join(partition(TP).to_string());
        let files = disk.files().into_iter().filter(|(path, _)| path.starts_with(&folder));
        let logs = files.filter(|(path, _)| path.extension().is_some_and(|e| e == "log")).count();
        assert_eq!(logs, log.reader().segments(partition(TP)).unwrap().len());
    }
}

#[test]
fn keys_that_do_not_fit_are_cleaned_in_several_passes() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let mut n = 0;
    for base in 0..1500 {
        // Each key twice, far from each other.
        let key = base % 1000;
        let sample =
            |n: i32| Sample { offset_delta: n, key: Some(format!("{key} {n}").into_bytes()), ..Sample::default() };
        let samples: Vec<_> = (0..3).map(|n| Sample { value: Some(vec![1]), ..sample(n) }).collect();
        let batch = batch_of(Compression::None, 3, &encoded(&samples)).timestamps(0, 0).build();
        n = 3 * base;
        run(&mut log, Op::Append { partition: partition(TP), batch: batch.assign(Offset(n), LeaderEpoch(0)) });
    }
    let before = records(&log);
    let mut passes = 0;
    let mut cleaned_to = Offset(0);
    loop {
        // Room for a thousand keys or so.
        let report = clean(&log, &CleanSpec { buffer_bytes: 24 * 1024, ..spec(i64::MAX) }).unwrap();
        if report.cleaned_to == cleaned_to {
            break;
        }
        assert!(report.keys <= 1000, "{report:?}");
        cleaned_to = report.cleaned_to;
        passes += 1;
        check(&before, &records(&log), "after a pass");
    }
    assert!(passes >= 4, "{passes}");
    let cleaned = records(&log).into_iter().filter(|r| r.0 < cleaned_to.0).count();
    assert!(cleaned_to.0 > n - 100 && cleaned <= 3000, "{cleaned} to {cleaned_to}");
}

/// A batch of records of these keys, or of their tombstones.
fn batch_with(base: i64, keys: impl Iterator<Item = i64>, value: Option<&[u8]>) -> Op {
    let sample = |(n, key): (i32, i64)| Sample {
        offset_delta: n,
        key: Some(key.to_string().into_bytes()),
        value: value.map(<[u8]>::to_vec),
        ..Sample::default()
    };
    let samples: Vec<_> = (0..).zip(keys).map(sample).collect();
    let batch = batch_of(Compression::None, samples.len() as i32, &encoded(&samples)).timestamps(0, 0).build();
    Op::Append { partition: partition(TP), batch: batch.assign(Offset(base), LeaderEpoch(0)) }
}

/// A key that is written again and again, until what is before that can be cleaned.
fn close_segment(log: &mut Log<SimulatedDisk>) {
    let segments = log.reader().segments(partition(TP)).expect("it is there").len();
    while log.reader().segments(partition(TP)).expect("it is there").len() == segments {
        let end = log.reader().state(partition(TP)).expect("it is there").end;
        run(log, batch_with(end.0, std::iter::once(-1), Some(&[b'x'; 1000])));
    }
}

#[test]
fn what_was_deleted_does_not_come_back_when_the_keys_do_not_fit() {
    const KEYS: i64 = 3000;
    // In the end there are more keys in a batch than fit, too.
    for of_a_batch in [10, 1500] {
        let disk = SimulatedDisk::new(1);
        let options = Options { segment_bytes: 150_000, wal_segment_bytes: 1 << 20, ..tiny() };
        let (mut log, _) = Log::open(disk.clone(), Path::new("/broker/data"), options).expect("it opens");
        let mut end = 0;
        // All of them in one segment, and then the even ones are deleted.
        for (step, value) in [(1, Some(&b"1"[..])), (2, None)] {
            for first in (0..KEYS).step_by((of_a_batch * step) as usize) {
                let keys = (first..KEYS).step_by(step as usize).take(of_a_batch as usize);
                run(&mut log, batch_with(end, keys, value));
                end = log.reader().state(partition(TP)).expect("it is there").end.0;
            }
        }
        assert_eq!(log.reader().segments(partition(TP)).expect("it is there").len(), 1);
        let odd: BTreeSet<Vec<u8>> = (1..KEYS).step_by(2).map(|key| key.to_string().into_bytes()).collect();
        let mut now_ms = 1_000_000;
        let mut passes = 0;
        for _ in 0..3 {
            close_segment(&mut log);
            let mut cleaned_to = Offset(0);
            loop {
                // Room for nine hundred keys or so. What may go by then goes with the next pass.
                let spec = CleanSpec { buffer_bytes: 24 * 1024, now_ms, ..spec(i64::MAX) };
                let report = clean(&log, &spec).expect("the disk is whole");
                now_ms += spec.delete_retention_ms + 1;
                if report.cleaned_to == cleaned_to {
                    break;
                }
                cleaned_to = report.cleaned_to;
                passes += 1;
                let mut left: BTreeSet<Vec<u8>> = last_of_each_key(&records(&log))
                    .into_iter()
                    .filter_map(|(key, (_, value))| value.map(|_| key))
                    .collect();
                left.remove(&b"-1"[..]);
                assert_eq!(left, odd, "{of_a_batch} {passes}");
            }
        }
        assert!(passes > 5, "{of_a_batch}: {passes}");
        let left: Vec<_> = records(&log).into_iter().filter(|(_, key, _)| key != b"-1").collect();
        assert_eq!(left.len(), odd.len(), "{of_a_batch}: what replaces nothing any more is gone too");
    }
}

#[test]
fn the_last_batch_of_a_producer_stays_if_need_be_without_records() {
    let disk = SimulatedDisk::new(1);
    let log = written(&disk, 100);
    let whole = batches(&log).unwrap();
    let kept: BTreeSet<Offset> = [30, 45].map(Offset).into();
    clean(&log, &CleanSpec { producers: kept.clone(), ..spec(i64::MAX) }).unwrap();
    let left = batches(&log).unwrap();
    for end in kept {
        let find =
            |all: &[RecordBatch]| *all.iter().find(|b| b.header().end_offset() == end).expect("it stays").header();
        let (was, is) = (find(&whole), find(&left));
        assert_eq!(
            (is.producer_id, is.base_sequence, is.last_sequence()),
            (was.producer_id, was.base_sequence, was.last_sequence())
        );
        assert_eq!((is.base_offset, is.record_count), (was.base_offset, 0));
    }
}

#[test]
fn a_log_that_begins_within_an_epoch_still_begins_with_a_batch() {
    let disk = SimulatedDisk::new(1);
    let mut log = written(&disk, 100);
    run(&mut log, Op::AdvanceStart { partition: partition(TP), to: Offset(150) });
    let whole = log.reader().state(partition(TP)).unwrap().epochs;
    assert_eq!(whole, [(LeaderEpoch(1), Offset(150)), (LeaderEpoch(2), Offset(201))]);
    clean(&log, &spec(i64::MAX)).unwrap();
    let left = batches(&log).unwrap();
    assert_eq!((left[0].header().base_offset, left[0].header().record_count), (Offset(150), 0));
    let (mut copy, _) = open(&SimulatedDisk::new(2));
    run(&mut copy, Op::AdvanceStart { partition: partition(TP), to: Offset(150) });
    for batch in left {
        run(&mut copy, Op::Append { partition: partition(TP), batch });
    }
    assert_eq!(copy.reader().state(partition(TP)).unwrap().epochs, whole);
}

#[test]
fn each_epoch_still_begins_with_a_batch_so_that_a_copy_of_the_log_knows_where() {
    let disk = SimulatedDisk::new(1);
    let mut log = written(&disk, 100);
    let mut random = Random::new(8);
    // The second time some is empty already.
    for (n, epochs) in [(160, 3), (161, 5)] {
        let whole = log.reader().state(partition(TP)).unwrap().epochs;
        assert_eq!(whole.len(), epochs);
        clean(&log, &spec(i64::MAX)).unwrap();
        let (mut copy, _) = open(&SimulatedDisk::new(2));
        for batch in batches(&log).unwrap() {
            run(&mut copy, Op::Append { partition: partition(TP), batch });
        }
        assert_eq!(copy.reader().state(partition(TP)).unwrap().epochs, whole);
        let next = log.reader().applied_end(partition(TP)).unwrap().0;
        (next / 3..n).for_each(|n| run(&mut log, append(3 * n, &mut random)));
    }
}

#[test]
fn a_log_that_is_cut_or_moved_meanwhile_is_left_alone() {
    let cut = |to| Op::Truncate { partition: partition(TP), to: Offset(to) };
    let gone = Op::AdvanceStart { partition: partition(TP), to: Offset(1000) };
    for op in [cut(50), cut(1), gone, Op::Delete { partition: partition(TP) }] {
        let disk = SimulatedDisk::new(1);
        let mut log = written(&disk, 60);
        let (cleaned, _) = while_cleaning(&mut log, 0, op.clone());
        assert!(matches!(cleaned, Err(CleanError::Changed)), "{op:?}: {cleaned:?}");
        let known = log.reader().cleaning(partition(TP)).map(|c| c.cleaned_to);
        assert!(known.is_none_or(|to| to == Offset(0)), "{op:?}");
        drop(log);
        let (log, recovered) = open(&disk);
        if let Some(recovered) = recovered.first() {
            assert_eq!(recovered.damaged, None);
            batches(&log).unwrap();
        }
    }
}

/// Cleans a log, and does something else before the `at`-th step. Says whether it came to that.
pub(super) fn while_cleaning(
    log: &mut Log<SimulatedDisk>,
    at: usize,
    op: Op,
) -> (Result<CleanReport, CleanError>, bool) {
    let (reader, mut steps, mut todo) = (log.reader(), 0, Some(op));
    let cleaned = reader.clean(partition(TP), &spec(i64::MAX), |_| {
        if steps == at
            && let Some(op) = todo.take()
        {
            run(log, op);
        }
        steps += 1;
        true
    });
    (cleaned, todo.is_none())
}

#[test]
fn a_log_whose_start_moves_meanwhile_is_cleaned_all_the_same() {
    for to in [1, 30, 31, 100, 150] {
        for at in 0.. {
            let when = format!("to {to} at step {at}");
            let disk = SimulatedDisk::new(at as u64);
            let mut log = written(&disk, 60);
            let mut before = records(&log);
            before.retain(|(offset, ..)| *offset >= to);
            let closed = log.reader().segments(partition(TP)).unwrap().last().unwrap().base;
            let moved = Op::AdvanceStart { partition: partition(TP), to: Offset(to) };
            let (cleaned, has_moved) = while_cleaning(&mut log, at, moved);
            if !has_moved {
                break;
            }
            let report = cleaned.unwrap_or_else(|e| panic!("{when}: {e}"));
            assert_eq!(report.cleaned_to, closed, "{when}");
            let from_start = |mut records: Records| {
                records.retain(|(offset, ..)| *offset >= to);
                records
            };
            check(&before, &from_start(records(&log)), &when);
            let left = from_start(records(&log)).into_iter().filter(|r| r.0 < closed.0).count();
            assert!(left <= KEYS as usize, "{when}: {left}");
            check_files(&disk, &mut log, &when);
            let (log, found) = after_a_crash(&disk, log, &when);
            assert_eq!(log.reader().state(partition(TP)).unwrap().start, Offset(to), "{when}");
            check(&before, &from_start(found), &when);
        }
    }
}
