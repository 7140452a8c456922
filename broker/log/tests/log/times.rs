//! Segments know the greatest timestamp of their batches: for lookups, and for whoever decides how long they are kept.

use crate::clean::{clean, spec};
use crate::common::{Random, content, partition, run, seal, stamped, tiny};
use chronik_core::ids::{LeaderEpoch, Offset};
use chronik_core::record::Compression;
use chronik_core::record::samples::{Sample, batch_of, encoded};
use chronik_log::{
    Disk, DiskFile, Log, LogReader, Op, Options, ReadError, RealDisk, RecoveredPartition, SegmentLimit, SimulatedDisk,
};
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TP: u8 = 0;

fn open(disk: &SimulatedDisk) -> (Log<SimulatedDisk>, Vec<RecoveredPartition>) {
    open_with(disk, tiny())
}

fn open_with(disk: &SimulatedDisk, options: Options) -> (Log<SimulatedDisk>, Vec<RecoveredPartition>) {
    Log::open(disk.clone(), Path::new("/d"), options).expect("it opens")
}

/// An entry of the index for nearly every batch, and long segments.
fn dense() -> Options {
    Options { segment_bytes: 20_000, index_interval_bytes: 100, index_from_bytes: 0, ..tiny() }
}

fn indexes(disk: &SimulatedDisk) -> Vec<(PathBuf, u64)> {
    disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "index")).collect()
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

/// Checks lookups against a walk over all headers.
fn check_by_walk(reader: &LogReader<SimulatedDisk>, what: &str) {
    let state = reader.state(partition(TP)).expect("it is there");
    let mut headers = Vec::new();
    reader.scan(partition(TP), state.start, |header| headers.push(*header)).expect("it is whole");
    let asked: BTreeSet<i64> = headers.iter().flat_map(|h| [h.max_timestamp, h.max_timestamp + 1]).collect();
    for up_to in [headers.len(), headers.len() * 2 / 3].map(|n| headers[n - 1].end_offset()) {
        let visible = || headers.iter().filter(|h| h.end_offset() <= up_to && h.record_count > 0);
        for at in &asked {
            let expected = visible().find(|h| h.max_timestamp >= *at).map(|h| h.base_offset);
            let found = reader.first_at_or_after(partition(TP), *at, state.start, up_to).expect("it is whole");
            assert_eq!(found.map(|b| b.header().base_offset), expected, "{what}: {at} up to {up_to}");
        }
        let greatest = visible().map(|h| h.max_timestamp).max().filter(|max| *max >= 0);
        let expected = greatest.and_then(|max| visible().find(|h| h.max_timestamp == max)).map(|h| h.base_offset);
        let found = reader.greatest_timestamp(partition(TP), state.start, up_to).expect("it is whole");
        assert_eq!(found.map(|b| b.header().base_offset), expected, "{what}: the greatest up to {up_to}");
    }
}

#[test]
fn lookups_find_what_a_walk_over_all_batches_finds_whatever_becomes_of_the_log() {
    for seed in 1..40 {
        lookups_find_what_a_walk_finds(seed, tiny(), 80, 20, 900);
        lookups_find_what_a_walk_finds(seed, dense(), 400, 80, 150);
    }
}

/// One of `rarely` steps is of each kind that does not append, and batches have up to so many bytes.
fn lookups_find_what_a_walk_finds(seed: u64, options: Options, steps: usize, rarely: u64, bytes: u64) {
    let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(seed));
    let (mut log, _) = open_with(&disk, options);
    let (mut start, mut stamps) = (0i64, Vec::new());
    for _ in 0..steps {
        let end = start + stamps.len() as i64;
        match random.below(rarely) {
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
                log = open_with(&disk, options).0;
            }
            3 => log.checkpoint().expect("the disk is whole"),
            4 if !stamps.is_empty() => log.reader().measure(partition(TP)).expect("the disk is whole"),
            _ => {
                let stamp = random.below(12) as i64 - 1;
                run(&mut log, append(end, stamp, random.below(bytes) as usize));
                stamps.push(stamp);
            }
        }
    }
    check(&log.reader(), start, &stamps);
}

#[test]
fn a_lookup_reads_little_of_a_large_segment() {
    const BATCHES: i64 = 4000;
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open_with(&disk, Options::default());
    // Together 8 MB, one later than all others, and none in order.
    let stamp = |n: i64| if n == 3000 { 9_000_000 } else { 1_000_000 + n * 10 + n * 7 % 50 };
    let ops: Vec<_> = (0..BATCHES).map(|n| append(n, stamp(n), 2000)).collect();
    for some in ops.chunks(50) {
        log.commit(some).expect("the disk is whole");
        log.apply(some).expect("the disk is whole");
    }
    let look = |reader: &LogReader<SimulatedDisk>, what: &str| {
        let end = reader.applied_end(partition(TP)).expect("it is there");
        assert_eq!(reader.segments(partition(TP)).expect("it is there").len(), 1);
        let before = |n: i64| Offset(n.min(end.0));
        for (at, up_to) in [(50, end), (2100, end), (2100, before(2090)), (500, end), (990, end), (BATCHES, end)] {
            let read = disk.bytes_read();
            let at = stamp(at);
            let expected = (0..up_to.0).find(|n| stamp(*n) >= at).map(Offset);
            let found = reader.first_at_or_after(partition(TP), at, Offset(0), up_to).expect("it is whole");
            assert_eq!(found.map(|batch| batch.header().base_offset), expected, "{what}: {at} up to {up_to}");
            let read = disk.bytes_read() - read;
            assert!(read < 256 * 1024, "{what}: {read} bytes for {at} up to {up_to}");
        }
        for (up_to, expected) in [(end, 3000), (before(3200), 3000), (before(900), 899), (before(3001), 3000)] {
            let read = disk.bytes_read();
            let found = reader.greatest_timestamp(partition(TP), Offset(0), up_to).expect("it is whole");
            assert_eq!(found.map(|batch| batch.header().base_offset), Some(Offset(expected)), "{what}: up to {up_to}");
            let read = disk.bytes_read() - read;
            assert!(read < 256 * 1024, "{what}: {read} bytes for the greatest up to {up_to}");
        }
    };
    look(&log.reader(), "written");
    log.checkpoint().expect("the disk is whole");
    drop(log);
    let (mut log, _) = open_with(&disk, Options::default());
    look(&log.reader(), "opened again");
    run(&mut log, Op::Truncate { partition: partition(TP), to: Offset(BATCHES - 700) });
    look(&log.reader(), "cut");
}

#[test]
fn an_index_with_an_entry_for_each_batch_knows_times_in_few_of_them_and_lookups_read_little() {
    const BATCHES: i64 = 2000;
    let disk = SimulatedDisk::new(1);
    let options = Options { index_interval_bytes: 0, index_from_bytes: 0, ..Options::default() };
    let (mut log, _) = open_with(&disk, options);
    // As short as batches are.
    let ops: Vec<_> = (0..BATCHES).map(|n| append(n, n, 0)).collect();
    for some in ops.chunks(50) {
        log.commit(some).expect("the disk is whole");
        log.apply(some).expect("the disk is whole");
    }
    let [(_, len)] = &indexes(&disk)[..] else { panic!("there is one segment") };
    assert!(*len < 2 * 8 * BATCHES as u64, "{len} bytes");
    let (reader, end) = (log.reader(), Offset(BATCHES));
    for at in (0..BATCHES).step_by(61) {
        let read = disk.bytes_read();
        let found = reader.first_at_or_after(partition(TP), at, Offset(0), end).expect("it is whole");
        assert_eq!(found.map(|batch| batch.header().base_offset), Some(Offset(at)));
        let read = disk.bytes_read() - read;
        assert!(read < 64 * 1024, "{read} bytes for {at}");
    }
}

#[test]
fn a_wrong_bit_in_an_index_makes_no_lookup_wrong() {
    let (disk, mut random) = (SimulatedDisk::new(1), Random::new(1));
    let (mut log, _) = open_with(&disk, dense());
    (0..60).for_each(|base| run(&mut log, append(base, random.below(20) as i64, 150)));
    let [(path, len)] = &indexes(&disk)[..] else { panic!("there is one segment") };
    for bit in (0..len * 8).step_by(37) {
        assert!(disk.flip_bit(path, bit / 8, (bit % 8) as u8));
        check_by_walk(&log.reader(), &format!("bit {bit} is wrong"));
        assert!(disk.flip_bit(path, bit / 8, (bit % 8) as u8));
    }
}

#[test]
fn an_index_of_an_older_broker_is_used_and_gone_on_with() {
    let (disk, mut random) = (SimulatedDisk::new(1), Random::new(1));
    let (mut log, _) = open_with(&disk, dense());
    (0..60).for_each(|base| run(&mut log, append(base, random.below(200) as i64, 150)));
    log.checkpoint().expect("the disk is whole");
    drop(log);
    // That has the last slot of each entry only.
    let [(path, _)] = &indexes(&disk)[..] else { panic!("there is one segment") };
    let now = content(&disk, path);
    let slots: Vec<_> = now.chunks(8).collect();
    let is_last = |n: usize| slots.get(n + 1).is_none_or(|next| next[..4] != slots[n][..4]);
    let older: Vec<_> = (0..slots.len()).filter(|n| is_last(*n)).flat_map(|n| slots[n].to_vec()).collect();
    assert!(older.len() < now.len(), "entries know times");
    let write = |path: &Path, bytes: &[u8]| {
        let file = disk.create(path).expect("the disk is whole");
        file.write_at(&[IoSlice::new(bytes)], 0).and_then(|()| file.sync_data()).expect("the disk is whole");
    };
    write(path, &older);
    // How many there are is said behind the first segment's length.
    let checkpoint = Path::new("/d/checkpoint");
    let mut bytes = content(&disk, checkpoint);
    assert_eq!(bytes[128..132], (slots.len() as u32).to_le_bytes());
    bytes[128..132].copy_from_slice(&(older.len() as u32 / 8).to_le_bytes());
    seal(&mut bytes);
    write(checkpoint, &bytes);

    let (mut log, _) = open_with(&disk, dense());
    check_by_walk(&log.reader(), "opened");
    let read = disk.bytes_read();
    log.reader().read(partition(TP), Offset(55), Offset(60), 1).expect("it is whole");
    assert!(disk.bytes_read() - read < 3000, "it leads to the batch");
    (60..90).for_each(|base| run(&mut log, append(base, random.below(200) as i64, 150)));
    check_by_walk(&log.reader(), "gone on with");
    assert!(content(&disk, path).starts_with(&older));
    assert_eq!(indexes(&disk).len(), 1);
}

#[test]
fn lookups_find_what_compaction_has_left() {
    for seed in 1..10 {
        let (disk, mut random) = (SimulatedDisk::new(seed), Random::new(seed));
        let (mut log, _) = open_with(&disk, dense());
        for n in 0..400 {
            let sample = |delta: i32, random: &mut Random| Sample {
                offset_delta: delta,
                key: Some(random.below(300).to_string().into_bytes()),
                value: Some(vec![b'x'; 20]),
                ..Sample::default()
            };
            let samples: Vec<_> = (0..2).map(|delta| sample(delta, &mut random)).collect();
            let batch = batch_of(Compression::None, 2, &encoded(&samples));
            let stamp = random.below(200) as i64;
            let batch = batch.timestamps(stamp, stamp).build().assign(Offset(2 * n), LeaderEpoch(1));
            run(&mut log, Op::Append { partition: partition(TP), batch });
        }
        let before = log.reader().bytes(partition(TP));
        clean(&log, &spec(i64::MAX)).expect("it can be cleaned");
        assert!(log.reader().bytes(partition(TP)) < before, "something is gone");
        check_by_walk(&log.reader(), &format!("seed {seed}"));
        log.checkpoint().expect("the disk is whole");
        drop(log);
        check_by_walk(&open_with(&disk, dense()).0.reader(), &format!("seed {seed}, opened again"));
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
