//! A disk that is full: nothing that was acknowledged is lost, what frees space goes on, and so does all the rest once
//! there is room.

use crate::clean::spec;
use crate::common::{Model, Workload, batch, partition, produced, run, tiny};
use chronik_core::compaction::Footprint;
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::Compression;
use chronik_core::record::samples::{Sample, batch_of, encoded};
use chronik_core::space::Room;
use chronik_log::{
    Call, CleanError, CleanStep, Disk as _, DiskFile as _, Fault, Log, LogError, Op, Options, SimulatedDisk, Writer,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_mins(2);
const NEVER: fn(LogError) = |e| panic!("{e}");
const DIR: &str = "/d";

fn append(tp: u8, base: i64, bytes: usize) -> Op {
    Op::Append { partition: partition(tp), batch: batch(base, 1, 1, bytes, base as u64) }
}

fn submit(writer: &Writer, answers: &Sender<usize>, number: usize, op: Op) {
    let answers = answers.clone();
    writer.submit(op, Box::new(move || answers.send(number).unwrap_or_default()));
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn workload(seed: u64) -> Vec<Op> {
    let (mut workload, mut model, mut all) = (Workload::new(seed), Model::default(), Vec::new());
    for _ in 0..30 {
        let ops = workload.round(&model, 0);
        for op in &ops {
            model.apply(op);
        }
        all.extend(ops);
    }
    all
}

/// Does the whole workload on a disk that is full from the `n`-th growth on. Returns which operations were answered
/// before there was room again, or all if there always was.
fn until_full(
    disk: &SimulatedDisk,
    n: u64,
    ops: &[Op],
) -> (Writer, thread::JoinHandle<()>, Receiver<usize>, Vec<usize>) {
    let (log, _) = Log::open(disk.clone(), Path::new(DIR), tiny()).expect("an empty disk");
    disk.fill_after(n);
    let (writer, thread) = Writer::spawn(log, |_| {});
    let (answers, answered) = mpsc::channel();
    for (number, op) in ops.iter().enumerate() {
        submit(&writer, &answers, number, op.clone());
    }
    let mut done = Vec::new();
    wait_for("the disk is full or all is done", || {
        done.extend(answered.try_iter());
        done.len() == ops.len() || writer.space().room() == Room::None
    });
    (writer, thread, answered, done)
}

fn after(ops: &[Op]) -> Model {
    let mut model = Model::default();
    for op in ops {
        model.apply(op);
    }
    model
}

fn reopened(disk: &SimulatedDisk) -> Model {
    disk.set_capacity(None);
    disk.restart();
    let (log, recovered) = Log::open(disk.clone(), Path::new(DIR), tiny()).expect("it recovers");
    Model::found(&log.reader(), &recovered)
}

/// For each point at which a disk can fill while that is done.
fn at_each_point(ops: &[Op], act: impl Fn(u64) + Sync) {
    let disk = SimulatedDisk::new(0);
    let (writer, thread, ..) = until_full(&disk, u64::MAX / 2, ops);
    writer.close();
    thread.join().expect("it does not panic");
    let points = disk.growths();
    assert!(points > 30, "{points} points");
    let next = std::sync::atomic::AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(n) =
                    Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).filter(|n| *n < points)
                {
                    act(n);
                }
            });
        }
    });
}

#[test]
fn wherever_a_disk_fills_all_goes_on_when_there_is_room() {
    let ops = workload(1);
    at_each_point(&ops, |n| {
        let disk = SimulatedDisk::new(n);
        let (writer, thread, answered, mut done) = until_full(&disk, n, &ops);
        disk.set_capacity(None);
        while done.len() < ops.len() {
            done.push(
                answered.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("full at {n}: only {done:?} are done")),
            );
        }
        wait_for("room", || writer.space().room() == Room::Ample);
        writer.close();
        thread.join().unwrap();
        disk.crash();
        assert_eq!(reopened(&disk), after(&ops), "full at {n}");
    });
}

#[test]
fn wherever_a_disk_fills_a_power_cut_loses_nothing_that_was_acknowledged() {
    let ops = workload(2);
    at_each_point(&ops, |n| {
        let disk = SimulatedDisk::new(n);
        let (writer, thread, answered, mut done) = until_full(&disk, n, &ops);
        disk.crash();
        writer.close();
        thread.join().unwrap();
        done.extend(answered.try_iter());
        let found = reopened(&disk);
        let mut of: BTreeMap<TopicPartition, Vec<usize>> = BTreeMap::new();
        for (number, op) in ops.iter().enumerate() {
            of.entry(op.partition()).or_default().push(number);
        }
        for (tp, numbers) in of {
            let surely = numbers.iter().rposition(|number| done.contains(number)).map_or(0, |last| last + 1);
            let possible = (surely..=numbers.len()).any(|count| {
                let so_far: Vec<Op> = numbers[..count].iter().map(|number| ops[*number].clone()).collect();
                after(&so_far).0.get(&tp) == found.0.get(&tp)
            });
            assert!(possible, "full at {n}: {tp} lost what was acknowledged: {:?}", found.0.get(&tp));
        }
    });
}

#[test]
fn what_frees_space_goes_on_while_nothing_can_be_appended() {
    let disk = SimulatedDisk::new(1);
    let options = Options { checkpoint_bytes: 1 << 30, wal_segment_bytes: 1 << 20, ..tiny() };
    let (log, _) = Log::open(disk.clone(), Path::new(DIR), options).unwrap();
    let reader = log.reader();
    let (writer, thread) = Writer::spawn(log, NEVER);
    let (answers, answered) = mpsc::channel();
    let mut number = 0;
    let mut done = |op| {
        submit(&writer, &answers, number, op);
        assert_eq!(answered.recv_timeout(DEADLINE).unwrap(), number);
        number += 1;
    };
    for base in 0..10 {
        done(append(0, base, 1000));
        done(append(1, base, 1000));
    }
    // The write-ahead log has room in what it has written before, the segments have none.
    disk.set_capacity(Some(0));
    done(append(0, 10, 1000));
    assert_eq!(reader.applied_end(partition(0)), Some(Offset(10)), "acknowledged, and not in its segment");
    wait_for("the log says that it is full", || writer.space().room() == Room::None);
    done(append(0, 11, 1000));
    done(Op::AdvanceStart { partition: partition(0), to: Offset(8) });
    assert_eq!(reader.state(partition(0)).unwrap().start, Offset(8));
    done(Op::Delete { partition: partition(1) });
    assert_eq!(reader.state(partition(1)), None);
    disk.set_capacity(None);
    wait_for("what was acknowledged is in the segment", || reader.applied_end(partition(0)) == Some(Offset(12)));
    wait_for("room", || writer.space().room() == Room::Ample);
    done(append(0, 12, 10));
    writer.close();
    thread.join().unwrap();
}

#[test]
fn a_partition_whose_folder_has_no_room_begins_all_the_same() {
    let tp = partition(0);
    let begins = [
        Op::BeginAt { partition: tp, at: Offset(50), producers: bytes::Bytes::new() },
        Op::AdvanceStart { partition: tp, to: Offset(50) },
    ];
    for begin in begins {
        let disk = SimulatedDisk::new(1);
        let (log, _) = Log::open(disk.clone(), Path::new(DIR), tiny()).expect("an empty disk");
        let reader = log.reader();
        for n in 0..4 {
            disk.fail_after(Call::CreateDir, n, Fault::Full);
        }
        let (writer, thread) = Writer::spawn(log, |_| {});
        let (answers, answered) = mpsc::channel();
        let state = || reader.state(tp).map(|found| (found.start.0, found.end.0));
        submit(&writer, &answers, 0, begin);
        assert_eq!(answered.recv_timeout(DEADLINE), Ok(0));
        assert_eq!(state(), Some((50, 50)));
        submit(&writer, &answers, 1, append(0, 50, 100));
        assert_eq!(answered.recv_timeout(DEADLINE), Ok(1));
        wait_for("there is room for the folder", || state() == Some((50, 51)));
        disk.kill_after(0);
        writer.close();
        thread.join().expect("it does not panic");
        disk.restart();
        let (_, recovered) = Log::open(disk.clone(), Path::new(DIR), tiny()).expect("it recovers");
        assert_eq!((recovered[0].start, recovered[0].end), (Offset(50), Offset(51)));
    }
}

#[test]
fn a_deletion_ends_the_waiting_of_what_had_no_room() {
    let disk = SimulatedDisk::new(1);
    let options = Options { checkpoint_bytes: 1 << 30, wal_segment_bytes: 1 << 20, ..tiny() };
    let (log, _) = Log::open(disk.clone(), Path::new(DIR), options).unwrap();
    let (writer, thread) = Writer::spawn(log, NEVER);
    let (answers, answered) = mpsc::channel();
    submit(&writer, &answers, 0, append(0, 0, 100));
    answered.recv_timeout(DEADLINE).unwrap();
    disk.set_capacity(Some(0));
    submit(&writer, &answers, 1, append(0, 1, 100));
    wait_for("the log says that it is full", || writer.space().room() == Room::None);
    submit(&writer, &answers, 2, Op::Delete { partition: partition(0) });
    wait_for("there is nothing left to write", || writer.space().room() == Room::Ample);
    writer.close();
    thread.join().unwrap();
    assert_eq!(answered.try_iter().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn the_log_closes_before_the_disk_is_full_and_opens_when_there_is_room() {
    let disk = SimulatedDisk::new(1);
    disk.set_capacity(Some(4 << 20));
    let floor = 1 << 20;
    let options = Options { reserve_bytes: floor, wal_segment_bytes: 64 * 1024, ..Options::default() };
    let (log, _) = Log::open(disk.clone(), Path::new(DIR), options).unwrap();
    let (writer, thread) = Writer::spawn(log, NEVER);
    let (answers, answered) = mpsc::channel();
    let mut n = 0;
    let available = || disk.available(Path::new(DIR)).expect("the disk is whole");
    // It may close earlier for a moment: what is written and not yet known to be counts twice. Five batches fill a segment of
    // the log, so that what they take and what is counted for them stay close, whenever the disk is asked.
    wait_for("it closes, to producers alone", || {
        if writer.space().room() == Room::Ample {
            submit(&writer, &answers, n, append(0, n as i64, 11_000));
            assert_eq!(answered.recv_timeout(DEADLINE).expect("the disk is whole"), n);
            n += 1;
        }
        writer.space().room() == Room::Internal && available() < floor / 4 * 5
    });
    assert!(available() > 0, "before the disk is full");
    submit(&writer, &answers, n, Op::AdvanceStart { partition: partition(0), to: Offset(n as i64) });
    wait_for("it opens", || writer.space().room() == Room::Ample);
    writer.close();
    thread.join().unwrap();
}

#[test]
fn a_start_finds_room_on_a_full_disk() {
    let ballast = Options { ballast_bytes: 1 << 20, ..tiny() };
    let disk = SimulatedDisk::new(1);
    let (log, _) = Log::open(disk.clone(), Path::new(DIR), ballast).unwrap();
    let (writer, thread) = Writer::spawn(log, |_| {});
    let (answers, answered) = mpsc::channel();
    for base in 0..5 {
        submit(&writer, &answers, 0, append(0, base, 1000));
        answered.recv_timeout(DEADLINE).unwrap();
    }
    wait_for("the ballast is there", || {
        disk.open(&Path::new(DIR).join("ballast")).and_then(|f| f.len()).is_ok_and(|n| n == 1 << 20)
    });
    disk.kill_after(0);
    writer.close();
    thread.join().unwrap();
    // Others have taken all that was left.
    let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
    disk.set_capacity(Some(used));
    disk.restart();
    let options = tiny();
    assert!(Log::open(disk.clone(), Path::new(DIR), options).is_err_and(|e| e.is_full()), "it takes room to recover");
    let (log, recovered) = Log::open(disk.clone(), Path::new(DIR), ballast).unwrap();
    assert_eq!(recovered[0].end, Offset(5));
    drop(log);
}

#[test]
fn who_is_refused_the_directory_leaves_the_ballast_to_whoever_has_it() {
    let ballast = Options { ballast_bytes: 1 << 20, ..tiny() };
    let disk = SimulatedDisk::new(1);
    let (log, _) = Log::open(disk.clone(), Path::new(DIR), ballast).unwrap();
    let path = Path::new(DIR).join("ballast");
    disk.create(&path).unwrap().allocate(1 << 20).unwrap();
    disk.set_capacity(Some(disk.files().iter().map(|(_, len)| len).sum()));
    let refused = Log::open(disk.clone(), Path::new(DIR), ballast);
    assert!(matches!(refused, Err(LogError::Locked { .. })));
    assert_eq!(disk.open(&path).unwrap().len().unwrap(), 1 << 20);
    drop(log);
}

/// A batch of one record with a key of its own, which compaction leaves as it is, and one that it takes.
fn hardly_compactable(base: i64) -> Op {
    let mine = Sample { key: Some(base.to_string().into()), value: Some(vec![b'x'; 20_000]), ..Sample::default() };
    let shared = Sample { offset_delta: 1, key: Some("same".into()), value: Some(vec![1]), ..Sample::default() };
    let batch = batch_of(Compression::None, 2, &encoded(&[mine, shared])).timestamps(0, 0).build();
    Op::Append { partition: partition(0), batch: batch.assign(Offset(2 * base), LeaderEpoch(1)) }
}

/// Cleans far more than the disk has room for, with or without checkpoints on the way. Returns how it ended, and the least
/// that the disk had left.
fn clean_what_fills_the_disk(checkpoints: bool) -> (Result<(), CleanError>, u64) {
    const FLOOR: u64 = 200_000;
    let disk = SimulatedDisk::new(1);
    let options = Options {
        segment_bytes: 100_000,
        wal_segment_bytes: 256 * 1024,
        checkpoint_bytes: 1 << 30,
        reserve_bytes: FLOOR,
        ..tiny()
    };
    let (log, _) = Log::open(disk.clone(), Path::new(DIR), options).expect("the disk is whole");
    let reader = log.reader();
    let (writer, thread) = Writer::spawn(log, NEVER);
    let (answers, answered) = mpsc::channel();
    for base in 0..60 {
        submit(&writer, &answers, 0, hardly_compactable(base));
        answered.recv_timeout(DEADLINE).expect("the disk is whole");
    }
    wait_for("all is applied", || reader.applied_end(partition(0)) == Some(Offset(120)));
    let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
    // Below the floor: only compaction makes room.
    disk.set_capacity(Some(used + FLOOR - 1));
    let (space, mut least, mut footprint) = (writer.space(), u64::MAX, Footprint::default());
    wait_for("it is below its floor", || space.room() == Room::Internal);
    let fits = |bytes| {
        Footprint::fits(space.room(), disk.available(Path::new(DIR)).expect("the disk is whole"), space.floor(), bytes)
    };
    let cleaned = reader.clean(partition(0), &spec(i64::MAX), |step| {
        least = least.min(disk.available(Path::new(DIR)).expect("the disk is whole"));
        match step {
            CleanStep::Moved(_) => space.room() != Room::None,
            CleanStep::Begins(bytes) if checkpoints => {
                if !fits(bytes) && footprint.leaves() {
                    writer.checkpoint();
                }
                wait_for("what was replaced leaves", || fits(bytes));
                true
            }
            CleanStep::Begins(bytes) => fits(bytes),
            CleanStep::Replaced(bytes) => {
                let available = disk.available(Path::new(DIR)).expect("the disk is whole");
                if footprint.replaced(bytes, space.room(), available, space.floor()) && checkpoints {
                    writer.checkpoint();
                }
                true
            }
        }
    });
    let cleaned = cleaned.map(|report| assert!(report.bytes_before > 4 * FLOOR, "{report:?}"));
    // Producers go on.
    disk.set_capacity(None);
    submit(&writer, &answers, 1, hardly_compactable(60));
    answered.recv_timeout(DEADLINE).expect("the disk is whole");
    writer.close();
    thread.join().expect("the disk is whole");
    (cleaned, least)
}

#[test]
fn compaction_takes_no_more_room_than_it_may_and_what_it_replaced_leaves_on_the_way() {
    let (cleaned, least) = clean_what_fills_the_disk(true);
    assert!(cleaned.is_ok() && least >= 100_000, "{cleaned:?}, {least} bytes were left");
    let (stopped, least) = clean_what_fills_the_disk(false);
    assert!(matches!(stopped, Err(CleanError::Stopped)) && least >= 100_000, "{stopped:?}, {least} bytes were left");
}

/// A log of fifty producers: their snapshot is in a file. There are no checkpoints but those that are asked for.
fn written_by_many(disk: &SimulatedDisk) -> Log<SimulatedDisk> {
    let options = Options { checkpoint_bytes: 1 << 20, ..tiny() };
    let (mut log, _) = Log::open(disk.clone(), Path::new(DIR), options).expect("an empty disk");
    for id in 0..50 {
        let batch = produced(&batch(id, 1, 1, 40, 0), id, 0);
        run(&mut log, Op::Append { partition: partition(0), batch });
    }
    log
}

fn has_snapshot(disk: &SimulatedDisk) -> bool {
    disk.files().iter().any(|(path, _)| path.extension().is_some_and(|kind| kind == "snapshot"))
}

#[test]
fn a_checkpoint_is_made_also_where_a_snapshot_finds_no_room_to_leave() {
    let disk = SimulatedDisk::new(1);
    let mut log = written_by_many(&disk);
    log.checkpoint().unwrap();
    run(&mut log, Op::Truncate { partition: partition(0), to: Offset(49) });
    // It can be neither renamed, behind the checkpoint itself, nor removed.
    disk.fail_after(Call::Rename, 1, Fault::Full);
    disk.fail_after(Call::Remove, 0, Fault::Full);
    log.checkpoint().unwrap();
    assert!(has_snapshot(&disk), "it stays");
    run(&mut log, append(0, 49, 100));
    drop(log);
    let (_, recovered) = Log::open(disk.clone(), Path::new(DIR), tiny()).expect("it recovers");
    assert_eq!(recovered[0].end, Offset(50));
    assert!(!has_snapshot(&disk), "the next start takes it out of use");
}

#[test]
fn a_snapshot_that_a_quota_has_no_room_for_is_taken_by_the_next_checkpoint() {
    let disk = SimulatedDisk::new(1);
    let mut log = written_by_many(&disk);
    disk.fail_after(Call::Create, 0, Fault::OverQuota);
    log.checkpoint().unwrap();
    assert!(!has_snapshot(&disk));
    log.checkpoint().unwrap();
    assert!(has_snapshot(&disk));
}
