//! A log crashed at every operation of its disk comes back with everything that was committed, in order,
//! nothing that was truncated or deleted, and nothing that was never written.

use crate::common::{Model, Workload, batch, partition, run, tiny};
use chronik_core::ids::Offset;
use chronik_log::{Disk, Journal, Log, LogError, LoggedOperation, Op, RecoveredPartition, SimulatedDisk, operations};
use std::path::Path;

const DIR: &str = "/broker/data";

fn open(disk: &SimulatedDisk) -> Result<(Log<SimulatedDisk>, Vec<RecoveredPartition>), LogError> {
    Log::open(disk.clone(), Path::new(DIR), tiny())
}

/// Opens the log and checks that it holds `model`, and of `unknown` any number of first operations.
fn check(disk: &SimulatedDisk, model: &mut Model, unknown: &[Op], when: &str) -> Option<Log<SimulatedDisk>> {
    let (log, recovered) = match open(disk) {
        Ok(opened) => opened,
        Err(e) => {
            assert!(disk.is_down(), "{when}: {e}");
            return None;
        }
    };
    let found = Model::found(&log.reader(), &recovered);
    let mut allowed = vec![model.clone()];
    for op in unknown {
        let mut next = allowed.last().expect("there is one").clone();
        next.apply(op);
        allowed.push(next);
    }
    let Some(which) = allowed.iter().position(|model| *model == found) else {
        panic!("{when}: found\n{}\nexpected\n{}", show(&found), show(model));
    };
    *model = allowed.swap_remove(which);
    model.check_producers(&log.reader(), when);
    Some(log)
}

fn show(model: &Model) -> String {
    let line = |(tp, p): (_, &crate::common::PartitionModel)| {
        format!("  {tp} {}..{} {:?}\n", p.start, p.end, p.batches.iter().map(bytes::Bytes::len).collect::<Vec<_>>())
    };
    model.0.iter().map(line).collect()
}

const ROUNDS: usize = 40;

/// How a crash test goes.
#[derive(Clone, Copy, Debug)]
struct How {
    /// The process is killed, and the kernel goes on.
    kill: bool,
    /// Large batches are written once.
    once: bool,
}

/// How many batches the write-ahead log only refers to.
fn references(disk: &SimulatedDisk) -> usize {
    let mut found = 0;
    let count =
        |_, operation: LoggedOperation| found += usize::from(matches!(operation, LoggedOperation::Reference(..)));
    // There may be no checkpoint yet.
    let _ = operations(disk, Path::new(DIR), count);
    found
}

fn crash_and_go_on(seed: u64, point: u64, how: How, referenced: &mut usize) -> bool {
    let How { kill, once } = how;
    let disk = SimulatedDisk::new(seed * 100_003 + point);
    let stop = |n| if kill { disk.kill_after(n) } else { disk.crash_after(n) };
    stop(point);
    let mut model = Model::default();
    let mut workload = Workload::with_all(seed);
    let mut unknown = match open(&disk) {
        Ok((mut log, _)) => {
            log.write_once(once);
            match workload.run(&mut log, &mut model, ROUNDS) {
                Ok(()) => return false,
                Err(unknown) => unknown,
            }
        }
        Err(_) => Vec::new(),
    };
    // Crash again at some point of the recovery or of the work after it, then cut the power in any case.
    for (round, again) in [point % 13, 7 + point % 31, 100 + point % 41, u64::MAX / 2].into_iter().enumerate() {
        let when = format!("seed {seed} point {point} round {round} {how:?}");
        if !kill || round % 2 == 1 {
            disk.crash();
        }
        disk.restart();
        *referenced += references(&disk);
        stop(again);
        let Some(mut log) = check(&disk, &mut model, &unknown, &when) else { continue };
        log.write_once(once);
        unknown = workload.run(&mut log, &mut model, ROUNDS / 3).err().unwrap_or_default();
    }
    disk.crash();
    disk.restart();
    assert!(check(&disk, &mut model, &unknown, &format!("seed {seed} point {point} at last")).is_some());
    true
}

/// Crashes at one point of the workload after the other, until it gets through.
fn crash_everywhere(seed: u64, how: How) {
    let (mut points, mut referenced) = (0, 0);
    while crash_and_go_on(seed, points, how, &mut referenced) {
        points += 1;
    }
    assert_eq!(how.once, referenced > 100, "{referenced} batches were referred to when it crashed");
    assert!(points > 200, "the workload is long enough to mean something, and not {points} operations");
}

#[test]
fn every_crash_point_keeps_what_was_committed() {
    (1..=4).for_each(|seed| crash_everywhere(seed, How { kill: false, once: false }));
}

#[test]
fn every_crash_point_keeps_what_is_written_once() {
    (21..=24).for_each(|seed| crash_everywhere(seed, How { kill: false, once: true }));
}

#[test]
fn every_kill_point_keeps_what_is_written_once_even_if_the_power_goes_next() {
    (31..=33).for_each(|seed| crash_everywhere(seed, How { kill: true, once: true }));
}

#[test]
fn every_kill_point_keeps_what_was_committed_even_if_the_power_goes_next() {
    (11..=13).for_each(|seed| crash_everywhere(seed, How { kill: true, once: false }));
}

fn append(base: i64, epoch: i32) -> Op {
    Op::Append { partition: partition(0), batch: batch(base, epoch, 10, 900, base as u64) }
}

#[test]
fn a_start_that_was_killed_leaves_no_directory_that_a_power_cut_can_take() {
    for (seed, point) in (0..20).flat_map(|seed| (0..15).map(move |point| (seed, point))) {
        let disk = SimulatedDisk::new(seed);
        disk.kill_after(point);
        let _ = open(&disk);
        disk.restart();
        run(&mut open(&disk).unwrap().0, append(0, 1));
        disk.crash();
        disk.restart();
        let recovered = open(&disk).unwrap().1;
        assert_eq!(recovered.first().map(|r| r.end), Some(Offset(10)), "seed {seed}, killed in operation {point}");

        let (disk, dir) = (SimulatedDisk::new(seed), Path::new("/broker/metadata"));
        disk.kill_after(point);
        let _ = Journal::open(disk.clone(), dir).map(drop);
        disk.restart();
        Journal::open(disk.clone(), dir).unwrap().0.append(&[b"vote"]).unwrap();
        disk.crash();
        disk.restart();
        let records = Journal::open(disk, dir).unwrap().1;
        assert_eq!(records, [&b"vote"[..]], "seed {seed}, killed in operation {point}");
    }
}

#[test]
fn what_is_appended_to_a_partition_whose_folder_was_lost_survives_a_power_cut() {
    for seed in 0..30 {
        let disk = SimulatedDisk::new(seed);
        run(&mut open(&disk).unwrap().0, append(0, 1));
        drop(open(&disk).unwrap());
        // The file system loses it.
        let root = Path::new(DIR).join("partitions");
        let folder = root.join(partition(0).to_string());
        for entry in disk.list(&folder).unwrap() {
            disk.remove(&folder.join(entry.name)).unwrap();
        }
        disk.remove_dir(&folder).unwrap();
        disk.sync_dir(&root).unwrap();
        let (mut log, recovered) = open(&disk).unwrap();
        assert_eq!(recovered[0].damaged, Some(Offset(0)));
        run(&mut log, Op::Truncate { partition: partition(0), to: Offset(0) });
        run(&mut log, append(0, 2));
        log.checkpoint().unwrap();
        drop(log);
        disk.crash();
        disk.restart();
        let recovered = &open(&disk).unwrap().1[0];
        assert_eq!((recovered.end, recovered.damaged), (Offset(10), None), "seed {seed}");
    }
}

#[test]
fn what_was_truncated_does_not_come_back_when_its_segments_removal_is_lost() {
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed);
        let (mut log, _) = open(&disk).unwrap();
        (0..20).step_by(10).for_each(|base| run(&mut log, append(base, 1)));
        log.checkpoint().unwrap();
        // Three batches fill a segment: the last one begins another.
        (20..40).step_by(10).for_each(|base| run(&mut log, append(base, 3)));
        run(&mut log, Op::Truncate { partition: partition(0), to: Offset(10) });
        (10..30).step_by(10).for_each(|base| run(&mut log, append(base, 2)));
        drop(log);
        // Killed; then the power goes.
        disk.restart();
        drop(open(&disk).unwrap());
        disk.crash();
        disk.restart();
        let (log, recovered) = open(&disk).unwrap();
        assert!(!log.wal_lost(), "seed {seed}");
        assert_eq!(recovered[0].end, Offset(30), "seed {seed}");
    }
}

#[test]
fn what_was_deleted_does_not_come_back_into_a_partition_that_begins_again() {
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed);
        let (mut log, _) = open(&disk).unwrap();
        (0..20).step_by(10).for_each(|base| run(&mut log, append(base, 1)));
        log.checkpoint().unwrap();
        run(&mut log, Op::Delete { partition: partition(0) });
        drop(log);
        disk.restart();
        // Killed; the partition begins again, and then the power goes.
        let (mut log, _) = open(&disk).unwrap();
        run(&mut log, append(0, 1));
        drop(log);
        disk.crash();
        disk.restart();
        let (log, recovered) = open(&disk).unwrap();
        assert!(!log.wal_lost(), "seed {seed}");
        assert_eq!(recovered[0].end, Offset(10), "seed {seed}");
    }
}

/// A round is written over the seal behind the one before, and may go on in the next segment. Whatever of it a crash leaves,
/// nothing before it is taken for lost, and nothing of it comes without what it follows.
#[test]
fn a_round_that_is_torn_over_a_seal_is_a_torn_round() {
    let small = |base| Op::Append { partition: partition(0), batch: batch(base, 1, 1, 3900, base as u64) };
    let mut found = [0; 3];
    for (seed, before, kill) in (0..40).flat_map(|seed| (1..=4).flat_map(move |n| [(seed, n, false), (seed, n, true)]))
    {
        for point in 0.. {
            let disk = SimulatedDisk::new(seed);
            let (mut log, _) = open(&disk).unwrap();
            log.prepare().unwrap();
            (0..before).for_each(|base| run(&mut log, small(base)));
            if kill {
                disk.kill_after(point);
            } else {
                disk.crash_after(point);
            }
            // Three blocks and a seal fill a segment, so that one batch of the round may come to the next one.
            let committed = log.commit(&[small(before), small(before + 1)]).is_ok();
            let done = !disk.is_down();
            drop(log);
            if done {
                disk.crash();
            }
            disk.restart();
            let (log, recovered) = open(&disk).unwrap();
            let when = format!("seed {seed}, {before} rounds before, point {point}, killed: {kill}");
            assert!(!log.wal_lost(), "{when}");
            assert_eq!(recovered[0].damaged, None, "{when}");
            let end = recovered[0].end.0;
            assert!((before..=before + 2).contains(&end), "{when}: {end}");
            found[(end - before) as usize] += 1;
            let mut bases = Vec::new();
            log.reader().check(partition(0), |h| bases.push(h.base_offset.0)).unwrap();
            assert_eq!(bases, (0..end).collect::<Vec<_>>(), "{when}");
            assert!(!committed || end == before + 2, "{when}: {end}");
            if done {
                break;
            }
        }
    }
    assert!(found.iter().all(|n| *n > 10), "{found:?} times none, half and all of the round");
}
