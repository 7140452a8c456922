//! Segments know the greatest timestamp of their batches: for lookups, and for whoever decides how long they are kept.

use crate::common::{Random, partition, run, stamped, tiny};
use chronik_core::ids::Offset;
use chronik_log::{Log, LogReader, Op, ReadError, RealDisk, RecoveredPartition, SegmentLimit, SimulatedDisk};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TP: u8 = 0;

fn open(disk: &SimulatedDisk) -> (Log<SimulatedDisk>, Vec<RecoveredPartition>) {
    Log::open(disk.clone(), Path::new("/d"), tiny()).expect("it opens")
}

fn append(base: i64, timestamp: i64, bytes: usize) -> Op {
    Op::Append { partition: partition(TP), batch: stamped(base, timestamp, bytes) }
}

/// Checks every lookup against the timestamps, which begin at `start`.
fn check(reader: &LogReader<SimulatedDisk>, start: i64, stamps: &[i64]) {
    let end = start + stamps.len() as i64;
    let offset = |batch: Option<chronik_core::record::RecordBatch>| batch.map(|b| b.header().base_offset.0);
    for up_to in [end, end - 1, start + (end - start) / 2] {
        let visible = &stamps[..(up_to - start) as usize];
        for at in -2..12 {
            let expected = visible.iter().position(|stamp| *stamp >= at).map(|n| start + n as i64);
            let found = reader.first_at_or_after(partition(TP), at, Offset(start), Offset(up_to)).expect("it is whole");
            assert_eq!(offset(found), expected, "{at} up to {up_to} of {stamps:?} from {start}");
        }
        let greatest = visible.iter().max().filter(|max| **max >= 0);
        let expected = greatest.and_then(|max| visible.iter().position(|s| s == max)).map(|n| start + n as i64);
        let found = reader.greatest_timestamp(partition(TP), Offset(start), Offset(up_to)).expect("it is whole");
        assert_eq!(offset(found), expected, "the greatest up to {up_to} of {stamps:?} from {start}");
    }
}

#[test]
fn lookups_find_what_a_walk_over_all_batches_finds_whatever_becomes_of_the_log() {
    for seed in 1..40 {
        let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(seed));
        let (mut log, _) = open(&disk);
        let (mut start, mut stamps) = (0i64, Vec::new());
        for _ in 0..80 {
            let end = start + stamps.len() as i64;
            match random.below(20) {
                0 if end > start + 4 => {
                    let to = end - 1 - random.below(4) as i64;
                    run(&mut log, Op::Truncate { partition: partition(TP), to: Offset(to) });
                    stamps.truncate((to - start) as usize);
                }
                1 if end > start + 4 => {
                    let to = start + random.below((end - start) as u64 / 2) as i64;
                    run(&mut log, Op::AdvanceStart { partition: partition(TP), to: Offset(to) });
                    stamps.drain(..(to - start) as usize);
                    start = to;
                }
                2 => {
                    drop(log);
                    disk.crash();
                    disk.restart();
                    log = open(&disk).0;
                }
                3 => log.checkpoint().unwrap(),
                4 if !stamps.is_empty() => log.reader().measure(partition(TP)).unwrap(),
                _ => {
                    let stamp = random.below(12) as i64 - 1;
                    run(&mut log, append(end, stamp, random.below(900) as usize));
                    stamps.push(stamp);
                }
            }
        }
        check(&log.reader(), start, &stamps);
    }
}

#[test]
fn a_lookup_reads_only_the_segment_that_has_the_answer() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    (0..12).for_each(|base| run(&mut log, append(base, 100 + base, 1300)));
    let reader = log.reader();
    let segments = reader.segments(partition(TP)).unwrap();
    let found: Vec<_> = segments.iter().map(|s| (s.base.0, s.end.0, s.first_timestamp, s.max_timestamp)).collect();
    assert_eq!(found[..2], [(0, 2, Some(100), Some(101)), (2, 4, Some(102), Some(103))]);
    assert_eq!(segments.len(), 6);
    // The others cannot be read.
    for (path, len) in disk.files() {
        if path.extension().is_some_and(|e| e == "log") && !path.to_string_lossy().ends_with("0004.log") {
            (0..len).step_by(512).for_each(|byte| assert!(disk.spoil(&path, byte)));
        }
    }
    let found = reader.first_at_or_after(partition(TP), 105, Offset(0), Offset(12)).unwrap().unwrap();
    assert_eq!(found.header().base_offset, Offset(5));
    assert!(reader.first_at_or_after(partition(TP), 112, Offset(0), Offset(12)).unwrap().is_none());
    let damaged = reader.first_at_or_after(partition(TP), 106, Offset(0), Offset(12));
    assert!(matches!(damaged, Err(ReadError::Damaged { .. })), "{damaged:?}");
}

#[test]
fn a_segment_that_was_cut_says_that_its_timestamp_is_not_known_until_it_is_measured() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    for (base, stamp) in [5, 9, 7].into_iter().enumerate() {
        run(&mut log, append(base as i64, stamp, 100));
    }
    let stamps = |log: &Log<SimulatedDisk>| -> Vec<_> {
        log.reader().segments(partition(TP)).unwrap().iter().map(|s| s.max_timestamp).collect()
    };
    assert_eq!(stamps(&log), [Some(9)]);
    run(&mut log, Op::Truncate { partition: partition(TP), to: Offset(1) });
    run(&mut log, append(1, 6, 100));
    assert_eq!(stamps(&log), [None, Some(6)]);
    log.reader().measure(partition(TP)).unwrap();
    assert_eq!(stamps(&log), [Some(5), Some(6)]);
    log.checkpoint().unwrap();
    drop(log);
    assert_eq!(stamps(&open(&disk).0), [Some(5), Some(6)]);
}

#[test]
fn segments_are_full_by_the_bytes_and_the_age_that_their_topic_says_as_soon_as_it_says() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let limits = log.segment_limits();
    let limit = |bytes, ms| SegmentLimit { bytes, ms, jitter_ms: 0, index_interval_bytes: 300 };
    let bases = |log: &Log<SimulatedDisk>| -> Vec<_> {
        log.reader().segments(partition(TP)).unwrap().iter().map(|s| s.base.0).collect()
    };
    // Each of 161 bytes.
    (0..3).for_each(|base| run(&mut log, append(base, 1000 * base, 100)));
    assert_eq!(bases(&log), [0]);
    limits.set(partition(TP).topic, Some(limit(400, i64::MAX)));
    (3..6).for_each(|base| run(&mut log, append(base, 1000 * base, 100)));
    assert_eq!(bases(&log), [0, 3, 5]);
    limits.set(partition(TP).topic, Some(limit(1 << 30, 1500)));
    // One second after the first batch of its segment, two seconds, and none.
    for (base, stamp) in [(6, 6000), (7, 7000), (8, -1), (9, 7500), (10, 8501)] {
        run(&mut log, append(base, stamp, 100));
    }
    assert_eq!(bases(&log), [0, 3, 5, 7, 10]);
    limits.set(partition(TP).topic, None);
    run(&mut log, append(11, 1_000_000, 100));
    assert_eq!(bases(&log), [0, 3, 5, 7, 10]);
    // In one round as in several, and for topics that say nothing.
    limits.set_others(limit(400, 1500));
    let other = partition(TP + 2);
    let ops: Vec<_> =
        (0..6).map(|base| Op::Append { partition: other, batch: stamped(base, 1000 * base, 10) }).collect();
    log.commit(&ops).unwrap();
    log.apply(&ops).unwrap();
    let found: Vec<_> = log.reader().segments(other).unwrap().iter().map(|s| s.base.0).collect();
    assert_eq!(found, [0, 2, 4]);
}

#[test]
fn a_segment_tells_when_its_file_was_last_written_to() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut log, _) = Log::open(RealDisk, dir.path(), tiny()).expect("it opens");
    // The file system's clock may be a tick behind.
    let before = SystemTime::now() - Duration::from_secs(1);
    run(&mut log, append(0, -1, 100));
    let reader = log.reader();
    let segments = reader.segments(partition(TP)).expect("it is there");
    assert_eq!(segments[0].max_timestamp, Some(-1));
    let modified = reader.modified(partition(TP), segments[0].base).expect("the disk has a clock");
    let ms = |at: SystemTime| at.duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    assert!((ms(before)..=ms(SystemTime::now())).contains(&modified), "{modified}");
    assert_eq!(reader.modified(partition(TP), Offset(77)), None);
    let (disk, dir) = (SimulatedDisk::new(1), Path::new("/d"));
    let (mut log, _) = Log::open(disk, dir, tiny()).expect("it opens");
    run(&mut log, append(0, -1, 100));
    assert_eq!(log.reader().modified(partition(TP), Offset(0)), None, "this one has none");
}
