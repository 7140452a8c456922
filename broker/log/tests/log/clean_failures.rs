//! Compaction that is stopped, that fails, or that a crash ends: whatever is left, the last record of each key is there.

use crate::clean::{
    KEYS, Records, TP, after_a_crash, append, check, check_files, clean, open, records, spec, while_cleaning, written,
    written_and_not_synced,
};
use crate::common::{Random, partition, tiny};
use chronik_core::ids::Offset;
use chronik_log::{Call, CleanError, CleanStep, Fault, Log, Op, SimulatedDisk, Writer};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn what_was_done_counts_when_a_cleaning_is_stopped() {
    let disk = SimulatedDisk::new(1);
    let log = written(&disk, 60);
    let before = records(&log);
    let (reader, mut known) = (log.reader(), Offset(0));
    let closed = reader.segments(partition(TP)).unwrap().last().unwrap().base;
    let mut passes = 0;
    while known < closed {
        let stopped = reader.clean(partition(TP), &spec(i64::MAX), |step| !matches!(step, CleanStep::Replaced(_)));
        check(&before, &records(&log), "stopped");
        let cleaned_to = reader.cleaning(partition(TP)).unwrap().cleaned_to;
        // A pass may do no more than put what is clean into fewer segments.
        assert!(cleaned_to >= known && passes < 100, "{stopped:?} after {known}");
        (known, passes) = (cleaned_to, passes + 1);
    }
    assert!(passes > 1, "it was not stopped");
    assert_eq!(records(&log).iter().filter(|r| r.0 < closed.0).count(), KEYS as usize);
}

#[test]
fn a_cleaning_that_fails_leaves_no_files() {
    let mut failed = 0;
    for call in [Call::Create, Call::Write] {
        for n in 0.. {
            let disk = SimulatedDisk::new(n);
            let mut log = written(&disk, 60);
            let (before, calls) = (records(&log), disk.calls(call));
            disk.fail_after(call, n, Fault::Full);
            match clean(&log, &spec(i64::MAX)) {
                Ok(_) if disk.calls(call) <= calls + n => break,
                Ok(report) => panic!("{call:?} {n}: {report:?}"),
                Err(CleanError::Write(_)) => failed += 1,
                Err(other) => panic!("{call:?} {n}: {other}"),
            }
            check(&before, &records(&log), "failed");
            check_files(&disk, &mut log, &format!("{call:?} {n}"));
        }
    }
    assert!(failed > 5, "{failed}");
    for at in 0.. {
        let disk = SimulatedDisk::new(1);
        let mut log = written(&disk, 60);
        let (_, cut) = while_cleaning(&mut log, at, Op::Truncate { partition: partition(TP), to: Offset(170) });
        check_files(&disk, &mut log, &format!("cut at step {at}"));
        if !cut {
            break;
        }
    }
}

#[test]
fn a_sync_that_fails_while_segments_are_cleaned_is_not_made_good_by_a_checkpoint() {
    let (mut ended, mut went_on) = (0, 0);
    for n in 0.. {
        let when = format!("sync {n} fails");
        let disk = SimulatedDisk::new(n);
        let mut log = written_and_not_synced(&disk, 60);
        let before = records(&log);
        disk.fail_sync_after(n);
        let cleaned = clean(&log, &spec(i64::MAX));
        match &cleaned {
            Ok(_) => {}
            // Nobody counts on what was written anew.
            Err(CleanError::Write(_)) => {
                log.checkpoint().unwrap_or_else(|e| panic!("{when}: {e}"));
                went_on += 1;
            }
            // Now nobody knows what of the old segments is on the disk.
            Err(CleanError::Sync(_)) => {
                for gone in [log.checkpoint(), log.commit(&[append(180, &mut Random::new(1))]), log.apply(&[])] {
                    assert!(gone.unwrap_err().to_string().contains("EIO"), "{when}");
                }
                ended += 1;
            }
            Err(other) => panic!("{when}: {other}"),
        }
        check(&before, &after_a_crash(&disk, log, &when).1, &when);
        if cleaned.is_ok() {
            break;
        }
    }
    assert!(ended > 1 && went_on > 1, "{ended} {went_on}");
}

#[test]
fn a_writer_ends_when_a_cleaning_has_met_a_sync_that_failed() {
    let disk = SimulatedDisk::new(1);
    let log = written_and_not_synced(&disk, 60);
    let (reader, (failures, fatal)) = (log.reader(), mpsc::channel());
    let (writer, thread) = Writer::spawn(log, move |e| failures.send(e.to_string()).unwrap_or_default());
    let folder = Path::new("/broker/data/partitions").join(partition(TP).to_string());
    assert!(disk.fail_writeback(&folder.join(format!("{:020}.log", 0))));
    let failed = reader.clean(partition(TP), &spec(i64::MAX), |_| true);
    assert!(matches!(failed, Err(CleanError::Sync(_))), "{failed:?}");
    assert!(fatal.recv_timeout(Duration::from_mins(1)).unwrap().contains("EIO"));
    thread.join().unwrap();
    drop(writer);
}

#[test]
fn who_wants_no_more_is_obeyed_and_nothing_has_changed() {
    let disk = SimulatedDisk::new(1);
    let log = written(&disk, 60);
    let before = records(&log);
    let mut asked = 0;
    let stopped = log.reader().clean(partition(TP), &spec(i64::MAX), |_| {
        asked += 1;
        asked < 3
    });
    assert!(matches!(stopped, Err(CleanError::Stopped)), "{stopped:?}");
    assert_eq!(records(&log), before);
}

/// Appends, cleans, cuts and moves the start, and goes on until the disk fails. Returns whether it got through.
fn work(
    log: &mut Log<SimulatedDisk>,
    random: &mut Random,
    model: &mut Records,
    unsure: &mut bool,
) -> Result<(), LogGone> {
    for round in 0..12 {
        let end = log.reader().state(partition(TP)).map_or(0, |state| state.end.0);
        let mut next = end;
        for _ in 0..3 + random.below(6) {
            let op = append(next, random);
            *unsure = true;
            let Op::Append { batch, .. } = &op else { continue };
            log.commit(std::slice::from_ref(&op)).map_err(|_| LogGone)?;
            *unsure = false;
            let contents = batch.contents(1 << 20).expect("it can be decoded");
            model.extend(
                contents.into_iter().map(|r| (r.offset.0, r.key.expect("a key").to_vec(), r.value.map(|v| v.to_vec()))),
            );
            next = batch.header().end_offset().0;
            log.apply(&[op]).map_err(|_| LogGone)?;
        }
        // A broker goes on when a cleaning has failed, but for a sync.
        if let Err(CleanError::Sync(_)) = clean(log, &spec(i64::MAX)) {
            return Err(LogGone);
        }
        if round % 4 == 3 {
            log.checkpoint().map_err(|_| LogGone)?;
        }
    }
    Ok(())
}

struct LogGone;

/// A cleaning may have been undone by the crash, or not: what is right is said by the records that were acknowledged.
#[test]
fn a_crash_at_any_point_leaves_the_last_record_of_each_key() {
    for kill in [false, true] {
        for point in 0.. {
            let disk = SimulatedDisk::new(point);
            if kill {
                disk.kill_after(point);
            } else {
                disk.crash_after(point);
            }
            let (mut random, mut model, mut unsure) = (Random::new(3), Records::new(), false);
            let opened = Log::open(disk.clone(), Path::new("/broker/data"), tiny());
            let done = match opened {
                Ok((mut log, _)) => work(&mut log, &mut random, &mut model, &mut unsure).is_ok(),
                Err(_) => false,
            };
            disk.crash();
            disk.restart();
            let (log, recovered) = open(&disk);
            let when = format!("point {point} kill {kill}");
            if let Some(recovered) = recovered.first() {
                assert_eq!(recovered.damaged, None, "{when}");
                assert!(!log.wal_lost(), "{when}");
                let mut found = records(&log);
                if unsure {
                    // The last batch may be there, or not.
                    let known = model.last().map_or(-1, |r| r.0);
                    found.retain(|r| r.0 <= known);
                }
                check(&model, &found, &when);
            } else {
                assert!(model.is_empty(), "{when}");
            }
            if done {
                break;
            }
        }
    }
}

#[test]
fn whatever_call_fails_once_nothing_is_lost() {
    for call in [Call::Open, Call::Create, Call::Read, Call::Write, Call::SetLen, Call::Rename] {
        for fault in [Fault::Broken, Fault::Full] {
            for point in 0.. {
                let when = format!("{call:?} {point} fails: {fault:?}");
                let disk = SimulatedDisk::new(point);
                let (mut log, _) = open(&disk);
                let calls = disk.calls(call);
                disk.fail_after(call, point, fault);
                let (mut random, mut model, mut unsure) = (Random::new(3), Records::new(), false);
                let done = work(&mut log, &mut random, &mut model, &mut unsure).is_ok();
                let has_failed = disk.calls(call) > calls + point;
                if let Some(state) = log.reader().state(partition(TP)).filter(|_| done) {
                    assert_eq!(state.damaged, None, "{when}");
                    check(&model, &records(&log), &when);
                }
                let (_, mut found) = after_a_crash(&disk, log, &when);
                if unsure {
                    let known = model.last().map_or(-1, |r| r.0);
                    found.retain(|r| r.0 <= known);
                }
                check(&model, &found, &when);
                if !has_failed {
                    assert!(done, "{when}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_log_goes_on_where_what_compaction_has_replaced_finds_no_room_to_leave() {
    let disk = SimulatedDisk::new(1);
    let mut log = written(&disk, 60);
    log.checkpoint().unwrap();
    let before = records(&log);
    clean(&log, &spec(i64::MAX)).unwrap();
    let folder = Path::new("/broker/data/partitions").join(partition(TP).to_string());
    let files = || {
        let files = disk.files().into_iter().map(|(path, _)| path);
        files.filter(|path| path.starts_with(&folder) && path.extension().is_some_and(|kind| kind == "log")).count()
    };
    let segments = log.reader().segments(partition(TP)).unwrap().len();
    assert!(files() > segments, "what is replaced is there until a checkpoint says so");
    // The first of them can be neither renamed, behind the checkpoint itself, nor removed.
    disk.fail_after(Call::Rename, 1, Fault::Full);
    disk.fail_after(Call::Remove, 0, Fault::Full);
    log.checkpoint().unwrap();
    assert_eq!(files(), segments + 1, "it stays");
    check(&before, &records(&log), "before the next start");
    drop(log);
    let (mut log, _) = open(&disk);
    check(&before, &records(&log), "after the next start");
    check_files(&disk, &mut log, "after the next start");
}
