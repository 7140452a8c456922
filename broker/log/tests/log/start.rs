//! A log's start moves, and what lies before it never comes back.

use crate::common::{batch, content, partition, produced, run, tiny};
use bytes::Bytes;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::producers::Producers;
use chronik_log::{Call, Fault, Log, LogError, LogReader, Op, Options, ReadError, RecoveredPartition, SimulatedDisk};
use std::path::Path;

const TP: u8 = 0;

fn open(disk: &SimulatedDisk) -> Result<(Log<SimulatedDisk>, Vec<RecoveredPartition>), LogError> {
    Log::open(disk.clone(), Path::new("/d"), tiny())
}

fn append(base: i64, epoch: i32) -> Op {
    Op::Append { partition: partition(TP), batch: batch(base, epoch, 10, 1300, base as u64) }
}

fn advance(to: i64) -> Op {
    Op::AdvanceStart { partition: partition(TP), to: Offset(to) }
}

/// Eight batches of ten records, two of them in a segment; the second half in another epoch.
fn written(seed: u64) -> (SimulatedDisk, Log<SimulatedDisk>) {
    let disk = SimulatedDisk::new(seed);
    let (mut log, _) = open(&disk).expect("it opens");
    (0..80).step_by(10).for_each(|base| run(&mut log, append(base, 1 + (base / 40) as i32)));
    (disk, log)
}

fn state(reader: &LogReader<SimulatedDisk>) -> (i64, i64) {
    let state = reader.state(partition(TP)).expect("it is there");
    assert_eq!(state.damaged, None);
    (state.start.0, state.end.0)
}

fn bases(reader: &LogReader<SimulatedDisk>, tp: TopicPartition, from: i64) -> Vec<i64> {
    let mut bases = Vec::new();
    reader.check(tp, |header| bases.push(header.base_offset.0)).expect("every batch is whole");
    let read = reader.read(tp, Offset(from), Offset(i64::MAX), 1).expect("it can be read");
    assert_eq!(read.first().map(|b| b.header().base_offset.0), bases.first().copied());
    bases
}

/// The ids of the producers that are known.
fn ids(log: &Log<SimulatedDisk>) -> Vec<i64> {
    log.reader().producers(partition(TP)).expect("it can be read").iter().map(|p| p.id.0).collect()
}

/// With no checkpoint but those that are asked for.
fn open_without_checkpoints(disk: &SimulatedDisk) -> Log<SimulatedDisk> {
    let options = Options { checkpoint_bytes: 1 << 20, ..tiny() };
    Log::open(disk.clone(), Path::new("/d"), options).expect("it opens").0
}

fn segments(disk: &SimulatedDisk) -> usize {
    disk.files().iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "log")).count()
}

#[test]
fn what_is_before_the_start_is_not_read_and_its_whole_segments_are_removed() {
    let (disk, mut log) = written(1);
    let reader = log.reader();
    assert_eq!(segments(&disk), 4);
    // In the middle of a batch, which is the second of its segment.
    run(&mut log, advance(35));
    assert_eq!(state(&reader), (35, 80));
    let below = reader.read(partition(TP), Offset(34), Offset(80), 1);
    assert!(matches!(below, Err(ReadError::BelowStart { offset: Offset(34), start: Offset(35) })), "{below:?}");
    assert_eq!(bases(&reader, partition(TP), 35), [30, 40, 50, 60, 70]);
    assert_eq!(segments(&disk), 3);
    assert!(!disk.files().iter().any(|(path, _)| path.to_string_lossy().ends_with(".deleted")));
    // Backwards it does not move.
    run(&mut log, advance(10));
    assert_eq!(state(&reader), (35, 80));
}

#[test]
fn a_start_survives_checkpoints_and_restarts_with_the_epochs_of_what_is_left() {
    let (disk, mut log) = written(1);
    run(&mut log, advance(55));
    let before = log.reader().state(partition(TP)).unwrap();
    assert_eq!(before.epochs, [(LeaderEpoch(2), Offset(55))]);
    for _ in 0..2 {
        drop(log);
        disk.crash();
        disk.restart();
        let recovered;
        (log, recovered) = open(&disk).unwrap();
        assert_eq!(recovered, std::slice::from_ref(&before));
        assert_eq!(bases(&log.reader(), partition(TP), 55), [50, 60, 70]);
    }
}

#[test]
fn a_log_that_ends_before_its_new_start_loses_all_and_begins_there() {
    let (disk, mut log) = written(1);
    run(&mut log, advance(500));
    assert_eq!(state(&log.reader()), (500, 500));
    assert_eq!(segments(&disk), 0);
    assert!(matches!(log.commit(&[append(80, 3)]), Err(LogError::OutOfOrder { expected: Offset(500), .. })));
    run(&mut log, append(500, 3));
    // So does one that was not there.
    run(&mut log, Op::AdvanceStart { partition: partition(1), to: Offset(7) });
    drop(log);
    let (log, recovered) = open(&disk).unwrap();
    assert_eq!(bases(&log.reader(), partition(TP), 500), [500]);
    let second = &recovered[1];
    assert_eq!((second.partition, second.start, second.end), (partition(1), Offset(7), Offset(7)));
}

/// So many producers, each of which has written one batch.
fn producers(n: i64) -> (Producers, Bytes) {
    let (mut known, mut bytes) = (Producers::default(), Vec::new());
    for id in 0..n {
        known.observe(produced(&batch(id, 1, 1, 10, 0), id, 5).header());
    }
    known.encode(&mut bytes);
    (known, bytes.into())
}

#[test]
fn what_others_know_of_producers_is_known_where_a_log_begins_anew_whenever_the_process_ends() {
    // In the checkpoint, and in a file beside the segments; of a log that is there, that was deleted, and that is not.
    for (n, tp, delete) in [(2, 0, false), (50, 0, false), (2, 0, true), (50, 1, false)] {
        let (others, bytes) = producers(n);
        for point in 0.. {
            let (disk, mut log) = written(3);
            log.checkpoint().unwrap();
            if delete {
                run(&mut log, Op::Delete { partition: partition(tp) });
            }
            disk.crash_after(point);
            let begin = Op::BeginAt { partition: partition(tp), at: Offset(500), producers: bytes.clone() };
            let own = Op::Append { partition: partition(tp), batch: produced(&batch(500, 4, 1, 10, 0), 99, 0) };
            let mut durable = 0;
            let mut go = || {
                for op in [&begin, &own] {
                    log.commit(std::slice::from_ref(op))?;
                    durable += 1;
                    log.apply(std::slice::from_ref(op))?;
                }
                log.checkpoint()
            };
            let complete = go().is_ok();
            drop(log);
            disk.restart();
            // A start makes a checkpoint of its own: it is the same twice.
            for _ in 0..2 {
                let (log, _) = open(&disk).unwrap();
                if durable > 0 {
                    let known: Vec<_> = log.reader().producers(partition(tp)).unwrap().iter().collect();
                    let expected: Vec<_> = others.iter().collect();
                    let when = format!("{n} producers, {durable} operations, point {point}");
                    assert_eq!(known[..n as usize], expected, "{when}");
                    assert!(known.len() > n as usize || durable < 2, "{when}");
                }
                drop(log);
                disk.crash();
                disk.restart();
            }
            if complete {
                break;
            }
        }
    }
}

#[test]
fn a_truncation_into_the_batch_that_holds_the_start_leaves_nothing() {
    for to in [36, 35, 34, 3] {
        let (disk, mut log) = written(1);
        run(&mut log, advance(35));
        run(&mut log, Op::Truncate { partition: partition(TP), to: Offset(to) });
        let end = if to >= 35 { 30 } else { to };
        assert_eq!(state(&log.reader()), (end, end), "cut to {to}");
        run(&mut log, append(end, 4));
        drop(log);
        let (log, _) = open(&disk).unwrap();
        assert_eq!(bases(&log.reader(), partition(TP), end), [end], "cut to {to}");
    }
}

#[test]
fn a_moved_start_holds_wherever_the_process_or_the_power_ends() {
    // Between two truncations and appends, so that segments of the same name come and go.
    let ops = [
        Op::Truncate { partition: partition(TP), to: Offset(60) },
        append(60, 5),
        advance(60),
        append(70, 5),
        Op::Truncate { partition: partition(TP), to: Offset(70) },
        advance(65),
        append(70, 6),
        advance(80),
        append(80, 6),
    ];
    let expected = [(0, 60), (0, 70), (60, 70), (60, 80), (60, 70), (65, 70), (65, 80), (80, 80), (80, 90)];
    for (seed, kill) in (0..6).map(|seed| (seed, seed % 2 == 0)) {
        for point in 0.. {
            let (disk, mut log) = written(seed);
            log.checkpoint().unwrap();
            if kill {
                disk.kill_after(point);
            } else {
                disk.crash_after(point);
            }
            let mut durable: usize = 0;
            for op in &ops {
                let op = std::slice::from_ref(op);
                if log.commit(op).is_err() {
                    break;
                }
                durable += 1;
                if log.apply(op).is_err() {
                    break;
                }
            }
            let complete = !disk.is_down();
            drop(log);
            disk.restart();
            drop(open(&disk).unwrap());
            disk.crash();
            disk.restart();
            let (mut log, _) = open(&disk).unwrap();
            let found = state(&log.reader());
            let before = durable.checked_sub(1).map_or((0, 80), |n| expected[n]);
            let when = format!("seed {seed}, kill {kill}, point {point}");
            assert!(found == before || Some(&found) == expected.get(durable), "{when}: {found:?} after {before:?}");
            log.reader().check(partition(TP), |_| {}).unwrap();
            run(&mut log, append(found.1, 7));
            assert!(!disk.files().iter().any(|(path, _)| path.to_string_lossy().ends_with(".deleted")), "{when}");
            if complete {
                break;
            }
        }
    }
}

#[test]
fn producers_that_are_forgotten_do_not_come_back_with_the_next_snapshot() {
    let write = |log: &mut Log<SimulatedDisk>, ids: std::ops::Range<i64>| {
        for id in ids {
            run(log, Op::Append { partition: partition(TP), batch: produced(&batch(id, 1, 1, 40, id as u64), id, 0) });
        }
    };
    let disk = SimulatedDisk::new(9);
    let (mut log, _) = open(&disk).expect("it opens");
    write(&mut log, 0..50);
    log.checkpoint().unwrap();
    log.reader().forget_producers(partition(TP), Offset(40));
    assert_eq!(ids(&log), (40..50).collect::<Vec<_>>());
    // Enough for a snapshot to be taken.
    write(&mut log, 50..90);
    log.checkpoint().unwrap();
    drop(log);
    let (mut log, _) = open(&disk).expect("it opens");
    assert_eq!(ids(&log), (40..90).collect::<Vec<_>>());
    // Cut back to before that, it is as if nobody had been forgotten: there is the older snapshot.
    run(&mut log, Op::Truncate { partition: partition(TP), to: Offset(60) });
    let known = ids(&log);
    assert!(known.ends_with(&(50..60).collect::<Vec<_>>()), "{known:?}");
}

#[test]
fn producers_before_a_cut_are_known_after_a_kill_also_if_the_start_has_moved_to_the_cut_or_past_it() {
    let by = |base: i64, id: i64| {
        let batch = produced(&batch(base, 1, 10, 300, id as u64), id, 0);
        Op::Append { partition: partition(TP), batch }
    };
    let cut = || Op::Truncate { partition: partition(TP), to: Offset(60) };
    let past_it = (vec![cut(), by(60, 26), by(70, 27), advance(70)], vec![26, 27]);
    let to_it = (vec![advance(60), cut()], vec![]);
    for (ops, later) in [past_it, to_it] {
        let disk = SimulatedDisk::new(1);
        let mut log = open_without_checkpoints(&disk);
        (0..6).for_each(|n| run(&mut log, by(10 * n, n)));
        log.checkpoint().unwrap();
        (6..10).for_each(|n| run(&mut log, by(10 * n, n)));
        log.checkpoint().unwrap();
        for op in ops {
            run(&mut log, op);
        }
        drop(log);
        disk.restart();
        let known = ids(&open_without_checkpoints(&disk));
        assert_eq!(known, (0..6).chain(later).collect::<Vec<i64>>());
    }
}

#[test]
fn a_snapshot_that_the_checkpoint_names_is_not_written_again_where_the_log_was_cut_back_to_it() {
    let by = |id: i64, bytes| {
        let batch = produced(&batch(id, 1, 1, bytes, id as u64), id, 0);
        Op::Append { partition: partition(TP), batch }
    };
    let folder = Path::new("/d/partitions").join(partition(TP).to_string());
    let path = folder.join(format!("{:020}.snapshot", 50));
    for point in 0.. {
        let disk = SimulatedDisk::new(1);
        let mut log = open_without_checkpoints(&disk);
        (0..50).for_each(|id| run(&mut log, by(id, 40)));
        log.checkpoint().unwrap();
        let before = content(&disk, &path);
        // As many bytes as make another snapshot due.
        run(&mut log, by(50, 4000));
        run(&mut log, Op::Truncate { partition: partition(TP), to: Offset(50) });
        disk.kill_after(point);
        let complete = log.checkpoint().is_ok();
        drop(log);
        disk.restart();
        assert_eq!(content(&disk, &path), before, "killed in operation {point}");
        if complete {
            break;
        }
    }
}

#[test]
fn where_a_log_begins_anew_others_producers_are_known_though_its_files_find_no_room_to_leave() {
    let (_, producers) = producers(2);
    let (disk, mut log) = written(1);
    let begin = [Op::BeginAt { partition: partition(TP), at: Offset(500), producers }];
    log.commit(&begin).unwrap();
    // It can be neither renamed nor removed.
    disk.fail_after(Call::Rename, 0, Fault::Full);
    disk.fail_after(Call::Remove, 0, Fault::Full);
    log.apply(&begin).unwrap();
    assert!(segments(&disk) > 0, "they are there");
    assert_eq!((state(&log.reader()), ids(&log)), ((500, 500), vec![0, 1]));
}
