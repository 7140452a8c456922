//! A log whose leader was compacted has offsets without records: it is read over them, cut within them, and comes back
//! with them, and so does a log that begins with one.

use crate::common::{batch, partition, run, tiny};
use chronik_core::ids::{LeaderEpoch, Offset};
use chronik_log::{Disk, DiskFile, Log, Op, ReadError, RecoveredPartition, SimulatedDisk};
use std::path::{Path, PathBuf};

const TP: u8 = 0;

fn open(disk: &SimulatedDisk) -> (Log<SimulatedDisk>, Vec<RecoveredPartition>) {
    Log::open(disk.clone(), Path::new("/broker/data"), tiny()).expect("it opens")
}

/// A batch of two records.
fn append(base: i64, epoch: i32) -> Op {
    Op::Append { partition: partition(TP), batch: batch(base, epoch, 2, 200, base as u64) }
}

/// The base offsets of the batches from `from` on.
fn bases(log: &Log<SimulatedDisk>, from: i64) -> Vec<i64> {
    let (reader, mut next, mut bases) = (log.reader(), Offset(from), Vec::new());
    let end = reader.applied_end(partition(TP)).expect("it is there");
    while next < end {
        let read = reader.read(partition(TP), next, end, 700).expect("it can be read");
        next = read.last().expect("there is more").header().end_offset();
        bases.extend(read.iter().map(|b| b.header().base_offset.0));
    }
    bases
}

const BASES: [i64; 14] = [0, 2, 10, 12, 300, 302, 310, 900, 902, 904, 906, 300_000, 300_002, 400_000];

fn written(disk: &SimulatedDisk) -> Log<SimulatedDisk> {
    let (mut log, _) = open(disk);
    run(&mut log, Op::AdvanceStart { partition: partition(TP), to: Offset(0) });
    for (n, base) in BASES.iter().enumerate() {
        run(&mut log, append(*base, n as i32 / 5));
    }
    log
}

#[test]
fn a_read_from_within_a_gap_begins_behind_it() {
    let disk = SimulatedDisk::new(1);
    let log = written(&disk);
    for (from, first) in (0..14).flat_map(|n| [(BASES[n], n), (BASES[n] + 1, n), (BASES[n] + 2, n + 1)]) {
        assert_eq!(bases(&log, from), BASES[first..], "from {from}");
    }
    for (from, first) in [(5, 2), (299, 4), (301, 4), (899, 7), (299_999, 11), (399_999, 13), (400_001, 13)] {
        assert_eq!(bases(&log, from), BASES[first..], "from {from}");
    }
    let mut seen = Vec::new();
    log.reader().check(partition(TP), |h| seen.push(h.base_offset.0)).unwrap();
    assert_eq!(seen, BASES);
    assert!(matches!(
        log.reader().read(partition(TP), Offset(400_003), Offset(i64::MAX), 1),
        Err(ReadError::OutOfRange { .. })
    ));
}

#[test]
fn gaps_come_back_from_the_write_ahead_log_and_from_a_checkpoint() {
    let disk = SimulatedDisk::new(1);
    let mut log = written(&disk);
    let before = log.reader().state(partition(TP)).unwrap();
    assert_eq!((before.start, before.end), (Offset(0), Offset(400_002)));
    assert_eq!(before.epochs, [(0, 0), (1, 302), (2, 906)].map(|(e, at)| (LeaderEpoch(e), Offset(at))));
    for round in 0..4 {
        if round == 2 {
            log.checkpoint().unwrap();
        }
        drop(log);
        disk.crash();
        disk.restart();
        let recovered;
        (log, recovered) = open(&disk);
        assert_eq!(recovered, std::slice::from_ref(&before), "round {round}");
        assert_eq!(bases(&log, 0), BASES);
    }
}

#[test]
fn a_log_that_begins_with_a_gap_begins_where_it_says_whatever_a_crash_leaves() {
    for start in [0, 70] {
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = open(&disk);
        run(&mut log, Op::AdvanceStart { partition: partition(TP), to: Offset(start) });
        run(&mut log, append(300_000, 1));
        for _ in 0..3 {
            let state = log.reader().state(partition(TP)).unwrap();
            assert_eq!((state.start, state.end), (Offset(start), Offset(300_002)));
            assert_eq!(state.epochs, [(LeaderEpoch(1), Offset(start))]);
            assert_eq!(bases(&log, start), [300_000]);
            assert_eq!(bases(&log, start + 5), [300_000]);
            drop(log);
            disk.crash();
            disk.restart();
            log = open(&disk).0;
        }
        // A cut within the gap leaves nothing.
        run(&mut log, Op::Truncate { partition: partition(TP), to: Offset(start + 5) });
        run(&mut log, append(300_000, 2));
        assert_eq!(bases(&log, start), [300_000]);
        drop(log);
        assert_eq!(bases(&open(&disk).0, start), [300_000]);
    }
}

#[test]
fn a_log_of_which_all_was_removed_takes_a_gap_for_the_epoch_of_the_first_batch_behind_it() {
    // Removed up to the last batch, within a segment of which some stays, and with a checkpoint before or none.
    for (batches, cut) in [(2, None), (20, None), (20, Some(6))] {
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = open(&disk);
        (0..batches).for_each(|n| run(&mut log, append(2 * n, 1)));
        let end = cut.unwrap_or(2 * batches);
        run(&mut log, Op::AdvanceStart { partition: partition(TP), to: Offset(end) });
        run(&mut log, Op::Truncate { partition: partition(TP), to: Offset(end) });
        log.checkpoint().unwrap();
        run(&mut log, append(end + 10, 2));
        run(&mut log, append(end + 12, 3));
        for _ in 0..2 {
            let state = log.reader().state(partition(TP)).unwrap();
            assert_eq!((state.start, state.end), (Offset(end), Offset(end + 14)));
            assert_eq!(state.epochs, [(LeaderEpoch(2), Offset(end)), (LeaderEpoch(3), Offset(end + 12))]);
            assert_eq!(bases(&log, end), [end + 10, end + 12]);
            drop(log);
            log = open(&disk).0;
        }
    }
}

/// What it had was of a leader that never committed it, in a newer epoch than what its present leader has there.
#[test]
fn a_log_that_begins_anew_takes_batches_of_an_older_epoch_than_it_had() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    (0..3).for_each(|n| run(&mut log, append(2 * n, 3)));
    run(&mut log, Op::AdvanceStart { partition: partition(TP), to: Offset(20) });
    run(&mut log, append(20, 2));
    for _ in 0..2 {
        let state = log.reader().state(partition(TP)).unwrap();
        assert_eq!(state.epochs, [(LeaderEpoch(2), Offset(20))]);
        assert_eq!(bases(&log, 20), [20]);
        drop(log);
        log = open(&disk).0;
    }
}

#[test]
fn a_cut_within_a_gap_ends_the_log_where_the_gap_begins() {
    for (to, left) in [(5, 2), (10, 2), (11, 2), (305, 6), (899, 7), (300_000, 11), (300_001, 11), (399_999, 13)] {
        let disk = SimulatedDisk::new(1);
        let mut log = written(&disk);
        run(&mut log, Op::Truncate { partition: partition(TP), to: Offset(to) });
        let end = log.reader().applied_end(partition(TP)).unwrap().0;
        assert_eq!(bases(&log, 0), BASES[..left], "to {to}");
        assert_eq!(end, BASES[left - 1] + 2, "to {to}");
        run(&mut log, append(500_000, 9));
        drop(log);
        disk.crash();
        disk.restart();
        let log = open(&disk).0;
        let expected: Vec<_> = BASES[..left].iter().copied().chain([500_000]).collect();
        assert_eq!(bases(&log, 0), expected, "to {to}");
    }
}

#[test]
fn a_gap_where_there_was_none_is_damage() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    for base in 0..4 {
        run(&mut log, append(2 * base, 1));
    }
    log.checkpoint().unwrap();
    drop(log);
    // The batch in the middle is replaced by a later one that is right in itself.
    let path = Path::new("/broker/data/partitions").join(partition(TP).to_string()).join(format!("{:020}.log", 0));
    let file = chronik_log::Disk::open(&disk, &path).unwrap();
    let later = batch(4, 1, 2, 200, 4);
    chronik_log::DiskFile::write_at(&file, &[std::io::IoSlice::new(later.bytes())], 261).unwrap();
    let (log, _) = open(&disk);
    let read = log.reader().read(partition(TP), Offset(2), Offset(i64::MAX), 1);
    assert!(matches!(read, Err(ReadError::Damaged { offset: Offset(2), .. })), "{read:?}");
}

/// No CRC covers a batch's offset. One that is too great by a bit lies in the gap that comes next, or reaches into the batch
/// behind it; one that reaches behind its segment is wrong by itself.
#[test]
fn a_batch_with_a_wrong_offset_is_damage_from_the_batch_before_on_where_the_next_one_shows_it() {
    // 10 becomes 14, and 12 comes next; 302 becomes 302 and 2^40.
    for (base, byte, bit, served, damaged) in [(10, 7, 2, &[0, 2][..], 4), (302, 2, 0, &[0, 2, 10, 12, 300][..], 302)] {
        let disk = SimulatedDisk::new(1);
        let mut log = written(&disk);
        log.checkpoint().unwrap();
        let (path, at) = find(&disk, base);
        assert!(disk.flip_bit(&path, at + byte, bit));
        let (reader, mut next, mut found) = (log.reader(), Offset(0), Vec::new());
        let error = loop {
            match reader.read(partition(TP), next, Offset(400_002), 700) {
                Ok(batches) => {
                    found.extend(batches.iter().map(|batch| batch.header().base_offset.0));
                    next = batches.last().expect("there is more").header().end_offset();
                }
                Err(error) => break error,
            }
        };
        assert_eq!(found, served);
        assert!(matches!(error, ReadError::Damaged { offset, .. } if offset == Offset(damaged)), "{base}: {error}");
        let checked = reader.check(partition(TP), |_| {});
        assert!(matches!(checked, Err(ReadError::Damaged { offset, .. }) if offset == Offset(damaged)), "{checked:?}");
        run(&mut log, Op::Repair { partition: partition(TP), to: Offset(damaged) });
        assert_eq!(bases(&log, 0), served);
        drop(log);
        assert_eq!(bases(&open(&disk).0, 0), served);
    }
}

/// The file that has the batch with that base, and where in it.
fn find(disk: &SimulatedDisk, base: i64) -> (PathBuf, u64) {
    for (path, len) in disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "log")) {
        let (file, mut at) = (disk.open(&path).expect("it is there"), 0);
        while at + 12 <= len {
            let mut head = [0; 12];
            file.read_at(&mut head, at).expect("it can be read");
            let (found, rest) = head.split_at(8);
            if found == base.to_be_bytes() {
                return (path, at);
            }
            at += 12 + rest.iter().fold(0, |n, b| (n << 8) | u64::from(*b));
        }
    }
    panic!("no batch begins with {base}")
}

/// A mark says nothing of what comes behind the end: the batch is where it was, and may be nowhere else.
#[test]
fn a_gap_behind_a_damaged_log_that_has_its_end_is_no_loss() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    (0..3).for_each(|n| run(&mut log, append(2 * n, 1)));
    let path = Path::new("/broker/data/partitions").join(partition(TP).to_string()).join(format!("{:020}.log", 0));
    // Of the second batch, which cannot be read for some time.
    assert!(disk.flip_bit(&path, 400, 3));
    assert!(log.reader().check(partition(TP), |_| {}).is_err());
    log.checkpoint().expect("the disk is whole");
    run(&mut log, append(100, 1));
    drop(log);
    for (flips, marked) in [(0, Some(Offset(2))), (1, None)] {
        (0..flips).for_each(|_| assert!(disk.flip_bit(&path, 400, 3)));
        let (log, recovered) = open(&disk);
        assert_eq!((recovered[0].end, recovered[0].damaged), (Offset(102), marked), "{flips}");
        let found = log.reader().read(partition(TP), Offset(6), Offset(102), 1).expect("it is whole");
        assert_eq!(found[0].header().base_offset, Offset(100), "{flips}");
        assert!(!disk.files().iter().any(|(path, _)| path.starts_with("/broker/data/damaged")), "{flips}");
    }
}
