//! A log of more partitions than files may be open, and of very many segments.

use crate::common::{batch, partition, run, tiny};
use chronik_core::ids::Offset;
use chronik_log::{Log, Op, Options, SimulatedDisk};
use std::path::Path;

const DIR: &str = "/d/log";
const PARTITIONS: u8 = 12;

/// Four files are open at most, of which two may be waiting for a sync; checkpoints are made when they are asked for.
fn open(disk: &SimulatedDisk) -> Log<SimulatedDisk> {
    let options = Options { checkpoint_bytes: 1 << 30, segment_bytes: 1 << 20, max_open_files: 4, ..tiny() };
    Log::open(disk.clone(), Path::new(DIR), options).expect("it opens").0
}

fn append(tp: u8, base: i64) -> Op {
    Op::Append { partition: partition(tp), batch: batch(base, 1, 1, 100, base as u64) }
}

#[test]
fn a_checkpoint_syncs_only_what_was_not_synced_already() {
    let disk = SimulatedDisk::new(1);
    let mut log = open(&disk);
    for tp in 0..PARTITIONS {
        run(&mut log, append(tp, 0));
    }
    let before = disk.syncs();
    log.checkpoint().unwrap();
    let syncs = disk.syncs() - before;
    assert!(syncs <= 3, "two files and the checkpoint's own, not {syncs}");
}

#[test]
fn what_a_checkpoint_covers_is_durable_whenever_it_was_synced() {
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed);
        let mut log = open(&disk);
        for base in 0..3 {
            for tp in 0..PARTITIONS {
                run(&mut log, append(tp, base));
            }
            // Some are written to once more, some were written to last long ago.
            for tp in (0..PARTITIONS).filter(|tp| u64::from(*tp) % 5 == seed % 5) {
                run(&mut log, append(tp, 100 + base));
                let cut = [Op::Truncate { partition: partition(tp), to: Offset(base + 1) }];
                log.commit(&cut).unwrap();
                log.apply(&cut).unwrap();
            }
            log.checkpoint().unwrap();
        }
        drop(log);
        disk.crash();
        disk.restart();
        let log = open(&disk);
        for tp in 0..PARTITIONS {
            let state = log.reader().state(partition(tp)).unwrap();
            assert_eq!((state.start, state.end, state.damaged), (Offset(0), Offset(3), None), "seed {seed}, {tp}");
            log.reader().check(partition(tp), |_| {}).unwrap();
        }
    }
}

#[test]
fn a_partition_takes_no_more_memory_than_its_one_segment_needs() {
    let disk = SimulatedDisk::new(1);
    let mut log = open(&disk);
    run(&mut log, append(0, 0));
    let written = log.reader().segments_memory(partition(0));
    log.checkpoint().unwrap();
    drop(log);
    disk.crash();
    disk.restart();
    let started = open(&disk).reader().segments_memory(partition(0));
    for (when, bytes) in [("once it is written to", written), ("after a start", started)] {
        assert!((1..=96).contains(&bytes), "{when} it takes {bytes} bytes");
    }
}

#[test]
fn a_segment_has_no_index_before_it_is_worth_one() {
    let disk = SimulatedDisk::new(1);
    let mut log = open(&disk);
    let indexes = || disk.files().iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "index")).count();
    let mut found = Vec::new();
    for base in 0..8 {
        run(&mut log, append(0, base));
        found.push(indexes());
    }
    // Batches of 161 bytes: the fifth is the first that begins behind 500.
    assert_eq!(found, [0, 0, 0, 0, 1, 1, 1, 1]);
    for from in 0..8 {
        let read = log.reader().read(partition(0), Offset(from), Offset(8), 1).unwrap();
        assert_eq!(read[0].header().base_offset, Offset(from));
    }
}

/// A file for each batch would take all inodes of a disk with little on it.
#[test]
fn segments_grow_where_a_partition_has_very_many() {
    let disk = SimulatedDisk::new(1);
    let options = Options { checkpoint_bytes: 1 << 30, segment_bytes: 71, ..Options::default() };
    let (mut log, _) = Log::open(disk, Path::new(DIR), options).expect("it opens");
    // Of 71 bytes each.
    let ops = |bases: std::ops::Range<i64>| -> Vec<_> {
        bases.map(|base| Op::Append { partition: partition(0), batch: batch(base, 1, 1, 10, base as u64) }).collect()
    };
    // The last of each kind is still appended to when it makes them many.
    let (one_each, two_each, four_each) = (1023, 2 * 1024, 4 * 100);
    for some in ops(0..one_each + two_each + four_each).chunks(64) {
        log.commit(some).expect("the disk is whole");
        log.apply(some).expect("the disk is whole");
    }
    let reader = log.reader();
    let lengths = || -> Vec<_> {
        reader.segments(partition(0)).expect("it is there").iter().map(|segment| segment.bytes / 71).collect()
    };
    assert_eq!(lengths(), [vec![1; 1023], vec![2; 1024], vec![4; 100]].concat());
    // There are few again.
    let end = one_each + two_each + four_each;
    run(&mut log, Op::AdvanceStart { partition: partition(0), to: Offset(end - 1) });
    for op in ops(end..end + 3) {
        run(&mut log, op);
    }
    assert_eq!(lengths(), [4, 1, 1, 1]);
}
