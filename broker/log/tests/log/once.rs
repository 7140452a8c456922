//! Large batches are written once, to their segment, and are as safe there as in the write-ahead log.

use crate::common::{batch, content, partition, run, tiny, unseal};
use chronik_core::ids::Offset;
use chronik_log::{Disk, DiskFile, Log, LoggedOperation, Op, Options, ReadError, SimulatedDisk, Verified};
use std::io::IoSlice;
use std::path::{Path, PathBuf};

const DIR: &str = "/d/log";
const BYTES: usize = 20_000;

fn open(disk: &SimulatedDisk) -> Log<SimulatedDisk> {
    let options = Options { segment_bytes: 1 << 20, wal_segment_bytes: 1 << 20, checkpoint_bytes: 1 << 20, ..tiny() };
    Log::open(disk.clone(), Path::new(DIR), options).expect("it opens").0
}

fn append(base: i64) -> Op {
    Op::Append { partition: partition(0), batch: batch(base, 1, 10, BYTES, base as u64) }
}

/// A log with four batches, the last two of which are written once.
fn written() -> (SimulatedDisk, Log<SimulatedDisk>) {
    let disk = SimulatedDisk::new(1);
    let mut log = open(&disk);
    log.write_once(true);
    // Nothing is in the first round's place yet, and the second announces what comes.
    for base in [0, 10, 20, 30] {
        run(&mut log, append(base));
    }
    (disk, log)
}

fn segment() -> PathBuf {
    Path::new(DIR).join("partitions").join(partition(0).to_string()).join("00000000000000000000.log")
}

fn references(disk: &SimulatedDisk) -> Vec<i64> {
    let mut found = Vec::new();
    let note = |_, operation| {
        if let LoggedOperation::Reference(header, ..) = operation {
            found.push(header.base_offset.0);
        }
    };
    chronik_log::operations(disk, Path::new(DIR), note).expect("the disk is whole");
    found
}

fn verify(disk: &SimulatedDisk) -> Verified {
    chronik_log::verify(disk, Path::new(DIR), Path::new("/d/metadata"), &mut |_, _| {}).expect("the disk is whole")
}

/// Writes over the last bytes of the batch of that number.
fn spoil(disk: &SimulatedDisk, batch: u64) {
    let end = (batch + 1) * (61 + BYTES as u64);
    let file = disk.open(&segment()).expect("it is there");
    file.write_at(&[IoSlice::new(&[1; 8])], end - 8).expect("the disk is whole");
}

#[test]
fn the_write_ahead_log_refers_to_them() {
    let (disk, mut log) = written();
    let before = log.wal_bytes();
    run(&mut log, append(40));
    assert_eq!(log.wal_bytes() - before, 4096, "a block, and not the batch");
    drop(log);
    assert_eq!(references(&disk), [20, 30, 40]);
    assert!(verify(&disk).findings.is_empty(), "{:?}", verify(&disk).findings);
    disk.crash();
    disk.restart();
    let log = open(&disk);
    let read = log.reader().read(partition(0), Offset(0), Offset(50), usize::MAX).unwrap();
    assert_eq!(read.iter().map(|b| b.header().base_offset.0).collect::<Vec<_>>(), [0, 10, 20, 30, 40]);
    log.reader().check(partition(0), |_| {}).unwrap();
}

#[test]
fn nothing_refers_to_them_until_the_log_may() {
    let (disk, mut log) = (SimulatedDisk::new(1), None);
    for may in [false, true] {
        let log = log.get_or_insert_with(|| open(&disk));
        log.write_once(may);
        let from = log.reader().applied_end(partition(0)).map_or(0, |end| end.0);
        for base in [from, from + 10, from + 20] {
            run(log, append(base));
        }
    }
    drop(log);
    assert_eq!(references(&disk), [40, 50]);
}

#[test]
fn a_round_whose_batch_never_reached_its_segment_never_was() {
    let (disk, log) = written();
    drop(log);
    disk.restart();
    spoil(&disk, 3);
    // Nothing says that it was synced.
    unseal(&disk, DIR);
    let verified = verify(&disk);
    assert_eq!(verified.findings.len(), 1, "{:?}", verified.findings);
    assert!(verified.findings[0].detail.contains("not whole"), "{:?}", verified.findings);
    let log = open(&disk);
    assert!(!log.wal_lost());
    let state = log.reader().state(partition(0)).unwrap();
    assert_eq!((state.end, state.damaged), (Offset(30), None));
    log.reader().check(partition(0), |_| {}).unwrap();
}

#[test]
fn what_is_known_to_have_been_synced_is_damaged() {
    // A later round says so of one, and the seal behind it of the other.
    for lost in [2, 3] {
        let (disk, log) = written();
        drop(log);
        disk.restart();
        spoil(&disk, lost);
        let findings = verify(&disk).findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!((&findings[0].path, findings[0].position), (&segment(), lost * (61 + BYTES as u64)));
        let log = open(&disk);
        assert!(!log.wal_lost());
        let state = log.reader().state(partition(0)).unwrap();
        assert_eq!(state.end, Offset(40));
        let found = log.reader().check(partition(0), |_| {});
        let at = Offset(lost as i64 * 10);
        assert!(matches!(found, Err(ReadError::Damaged { offset, .. }) if offset == at), "{found:?}");
    }
}

#[test]
fn a_segment_that_is_too_short_for_them_is_damaged() {
    let (disk, log) = written();
    drop(log);
    disk.restart();
    disk.open(&segment()).unwrap().set_len(2 * (61 + BYTES as u64) + 5).unwrap();
    // What there was of the last round was behind it.
    let state = open(&disk).reader().state(partition(0)).unwrap();
    assert_eq!((state.end, state.damaged), (Offset(20), Some(Offset(20))));
}

/// They were acknowledged, and are perhaps nowhere else: peers may have lost theirs.
#[test]
fn whole_batches_behind_a_lost_one_are_kept_aside_wherever_that_is_cut_short() {
    let options = Options {
        // Four of the large batches fill a segment.
        segment_bytes: 4 * (61 + BYTES as u64),
        wal_segment_bytes: 1 << 20,
        checkpoint_bytes: 1 << 20,
        ..tiny()
    };
    let open = |disk: &SimulatedDisk| Log::open(disk.clone(), Path::new(DIR), options);
    let small = batch(40, 1, 10, 10, 40);
    // A power cut takes what is not synced: the second segment.
    for cut in [false, true] {
        for point in 0.. {
            let disk = SimulatedDisk::new(point);
            let (mut log, _) = open(&disk).expect("it opens");
            log.write_once(true);
            for base in [0, 10, 20, 30] {
                run(&mut log, append(base));
            }
            run(&mut log, Op::Append { partition: partition(0), batch: small.clone() });
            drop(log);
            let stop = || if cut { disk.crash() } else { disk.restart() };
            stop();
            disk.restart();
            assert_eq!(references(&disk), [20, 30]);
            assert!(disk.cut_file(&segment(), 2 * (61 + BYTES as u64) + 5));
            if cut {
                disk.crash_after(point);
            } else {
                disk.kill_after(point);
            }
            let complete = open(&disk).is_ok();
            stop();
            disk.restart();
            let (log, recovered) = open(&disk).expect("it opens");
            let when = format!("power cut: {cut}, point {point}");
            assert!(!log.wal_lost(), "{when}");
            assert_eq!((recovered[0].end, recovered[0].damaged), (Offset(20), Some(Offset(20))), "{when}");
            let kept = disk.files().into_iter().map(|(path, _)| path);
            let mut kept = kept.filter(|path| path.starts_with(Path::new(DIR).join("damaged")));
            assert!(kept.any(|path| content(&disk, &path) == small.bytes()[..]), "{when}");
            if complete {
                break;
            }
        }
    }
}

#[test]
fn what_takes_the_end_back_comes_after_a_checkpoint_and_nothing_is_referred_to_until_the_next() {
    let (disk, mut log) = written();
    run(&mut log, Op::Truncate { partition: partition(0), to: Offset(30) });
    for base in [30, 40, 50] {
        run(&mut log, append(base));
    }
    drop(log);
    assert_eq!(references(&disk), [0; 0]);
    let mut log = open(&disk);
    log.write_once(true);
    for base in [60, 70, 80] {
        run(&mut log, append(base));
    }
    // Less than all of it may leave at once.
    run(&mut log, Op::AdvanceStart { partition: partition(0), to: Offset(75) });
    run(&mut log, append(90));
    drop(log);
    assert_eq!(references(&disk), [70, 80, 90]);
    run(&mut open(&disk), Op::AdvanceStart { partition: partition(0), to: Offset(100) });
    assert_eq!(references(&disk), [0; 0]);
}

/// Each would be a sync that small appends of the round wait for.
#[test]
fn the_folder_that_all_partitions_are_in_is_synced_once_for_all_that_a_round_announces() {
    let operations = |once| {
        let disk = SimulatedDisk::new(1);
        let mut log = open(&disk);
        let append = |tp, base| Op::Append { partition: partition(tp), batch: batch(base, 1, 10, BYTES, 0) };
        for tp in 0..3 {
            run(&mut log, append(tp, 0));
        }
        log.write_once(once);
        let before = disk.operations();
        log.commit(&[append(0, 10), append(1, 10), append(2, 10)]).expect("the disk is whole");
        disk.operations() - before
    };
    assert_eq!(operations(true) - operations(false), 4, "three folders, and the one that they are in");
}

#[test]
fn behind_a_gap_at_the_beginning_they_are_found_where_they_are() {
    let disk = SimulatedDisk::new(1);
    let mut log = open(&disk);
    log.write_once(true);
    run(&mut log, Op::AdvanceStart { partition: partition(0), to: Offset(50) });
    log.checkpoint().unwrap();
    for base in [60, 70, 80, 90] {
        run(&mut log, append(base));
    }
    drop(log);
    assert_eq!(references(&disk), [80, 90]);
    let log = open(&disk);
    let state = log.reader().state(partition(0)).unwrap();
    assert_eq!((state.end, state.damaged), (Offset(100), None));
    log.reader().check(partition(0), |_| {}).unwrap();
}

#[test]
fn a_recovery_takes_no_more_room_than_the_log_did() {
    let disk = SimulatedDisk::new(1);
    let open = || {
        // Five batches in a segment.
        let options = Options { segment_bytes: 5 * (61 + BYTES as u64), checkpoint_bytes: 1 << 20, ..tiny() };
        Log::open(disk.clone(), Path::new(DIR), options).expect("it opens").0
    };
    let segments = || {
        let files = disk.files().into_iter();
        files.filter(|(path, _)| path.extension().is_some_and(|end| end == "log")).collect::<Vec<_>>()
    };
    let mut log = open();
    log.write_once(true);
    // Nothing refers to what is in the second segment, and something to what is in the third.
    for base in [0, 10, 20, 30, 40, 50, 60] {
        run(&mut log, append(base));
    }
    log.write_once(false);
    for base in [70, 80, 90, 100, 110] {
        run(&mut log, append(base));
    }
    log.write_once(true);
    for base in [120, 130, 140, 150, 160] {
        run(&mut log, append(base));
    }
    let before = segments();
    assert_eq!(before.len(), 4, "{before:?}");
    drop(log);
    disk.restart();
    let log = open();
    assert_eq!(segments(), before);
    let state = log.reader().state(partition(0)).unwrap();
    assert_eq!((state.end, state.damaged), (Offset(170), None));
    log.reader().check(partition(0), |_| {}).unwrap();
}
