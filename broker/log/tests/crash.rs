//! A log crashed at every operation of its disk comes back with everything that was committed, in order,
//! nothing that was truncated or deleted, and nothing that was never written.

mod common;

use chronik_log::{Log, LogError, Op, RecoveredPartition, SimulatedDisk};
use common::{Model, Workload, tiny};
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
    assert!(allowed.contains(&found), "{when}: found\n{}\nexpected\n{}", show(&found), show(model));
    *model = found;
    Some(log)
}

fn show(model: &Model) -> String {
    let line = |(tp, p): (_, &common::PartitionModel)| {
        format!("  {tp} {}..{} {:?}\n", p.start, p.end, p.batches.iter().map(bytes::Bytes::len).collect::<Vec<_>>())
    };
    model.0.iter().map(line).collect()
}

const ROUNDS: usize = 40;

fn crash_and_go_on(seed: u64, point: u64, kill: bool) -> bool {
    let disk = SimulatedDisk::new(seed * 100_003 + point);
    let stop = |n| if kill { disk.kill_after(n) } else { disk.crash_after(n) };
    stop(point);
    let mut model = Model::default();
    let mut workload = Workload::new(seed);
    let mut unknown = match open(&disk) {
        Ok((mut log, _)) => match workload.run(&mut log, &mut model, ROUNDS) {
            Ok(()) => return false,
            Err(unknown) => unknown,
        },
        Err(_) => Vec::new(),
    };
    // Crash again at some point of the recovery or of the work after it, then cut the power in any case.
    for (round, again) in [point % 13, 7 + point % 31, 100 + point % 41, u64::MAX / 2].into_iter().enumerate() {
        let when = format!("seed {seed} point {point} round {round} kill {kill}");
        if !kill || round % 2 == 1 {
            disk.crash();
        }
        disk.restart();
        stop(again);
        let Some(mut log) = check(&disk, &mut model, &unknown, &when) else { continue };
        unknown = workload.run(&mut log, &mut model, ROUNDS / 3).err().unwrap_or_default();
    }
    disk.crash();
    disk.restart();
    assert!(check(&disk, &mut model, &unknown, &format!("seed {seed} point {point} at last")).is_some());
    true
}

/// Crashes at each point of the workload in turn, until it gets through.
fn crash_everywhere(seed: u64, kill: bool) {
    let mut points = 0;
    while crash_and_go_on(seed, points, kill) {
        points += 1;
    }
    assert!(points > 200, "the workload is long enough to mean something, and not {points} operations");
}

#[test]
fn every_crash_point_keeps_what_was_committed() {
    (1..=4).for_each(|seed| crash_everywhere(seed, false));
}

#[test]
fn every_kill_point_keeps_what_was_committed_even_if_the_power_goes_next() {
    (11..=13).for_each(|seed| crash_everywhere(seed, true));
}
