//! The writer thread answers what is durable, in order, and nothing else.

use crate::common::{batch, partition, tiny};
use chronik_core::ids::{Offset, PartitionId, TopicId, TopicPartition};
use chronik_log::{
    Appender, Disk, DiskFile, Entry, Log, LogError, Op, Options, RealDisk, SimulatedDisk, SimulatedFile, SimulatedLock,
    Writer,
};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Far longer than hundreds of syncs take on a disk that others use too; a test that runs into it hangs.
const DEADLINE: Duration = Duration::from_mins(5);

fn append(tp: u8, base: i64, bytes: usize) -> Op {
    Op::Append { partition: partition(tp), batch: batch(base, 1, 1, bytes, base as u64) }
}

/// Submits, and says on `answers` which number is done.
fn submit(writer: &Writer, answers: &mpsc::Sender<usize>, number: usize, op: Op) {
    let answers = answers.clone();
    writer.submit(op, Box::new(move || answers.send(number).unwrap_or_default()));
}

const NEVER: fn(LogError) = |e| panic!("{e}");

#[test]
fn everything_is_answered_in_order_and_is_there_after_closing() {
    for once in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        // So small that checkpoints and recycling run beside the rounds.
        let options = Options { wal_segment_bytes: 64 * 1024, checkpoint_bytes: 128 * 1024, ..tiny() };
        let (log, _) = Log::open(RealDisk, dir.path(), options).unwrap();
        let reader = log.reader();
        let (writer, thread) = Writer::spawn(log, NEVER);
        writer.write_once(once);
        let (answers, answered) = mpsc::channel();
        for n in 0..2000 {
            submit(&writer.clone(), &answers, n, append((n % 4) as u8, (n / 4) as i64, 300));
        }
        let mut next = [0, 1, 2, 3];
        for _ in 0..2000 {
            // Small rounds may take one partition before another.
            let n = answered.recv_timeout(DEADLINE).unwrap();
            assert_eq!(n, next[n % 4], "the order of a partition");
            next[n % 4] += 4;
        }
        // It waits for a checkpoint where batches are written once.
        submit(&writer, &answers, 2000, Op::Truncate { partition: partition(0), to: Offset(7) });
        assert_eq!(answered.recv_timeout(DEADLINE).unwrap(), 2000);
        assert_eq!(reader.state(partition(0)).unwrap().end, Offset(7), "a truncation is answered when it is applied");
        submit(&writer, &answers, 2001, append(0, 7, 10));
        submit(&writer, &answers, 2002, Op::Delete { partition: partition(1) });
        writer.close();
        thread.join().unwrap();
        assert_eq!(answered.try_iter().collect::<Vec<_>>(), [2001, 2002], "what was queued is done before the end");
        drop(reader);

        let (log, recovered) = Log::open(RealDisk, dir.path(), options).unwrap();
        let ends: Vec<_> = recovered.iter().map(|r| (r.partition, r.end.0)).collect();
        assert_eq!(ends, [(partition(0), 8), (partition(2), 500), (partition(3), 500)]);
        assert_eq!(log.reader().read(partition(3), Offset(499), Offset(500), 1).unwrap().len(), 1);
        let wal: Vec<_> = RealDisk.list(&dir.path().join("wal")).unwrap();
        assert!(wal.len() < 12, "old segments are used again: {} are there", wal.len());
    }
}

#[test]
fn the_last_handle_that_goes_ends_the_thread() {
    let disk = SimulatedDisk::new(1);
    let (log, _) = Log::open(disk.clone(), Path::new("/d"), tiny()).unwrap();
    let (writer, thread) = Writer::spawn(log, NEVER);
    let other = writer.clone();
    drop(writer);
    let (answers, answered) = mpsc::channel();
    submit(&other, &answers, 1, append(0, 0, 10));
    drop(other);
    thread.join().unwrap();
    assert_eq!(answered.recv_timeout(DEADLINE).unwrap(), 1);
}

#[test]
fn after_a_failed_sync_nothing_is_answered_and_the_failure_is_reported_once() {
    let disk = SimulatedDisk::new(1);
    let (log, _) = Log::open(disk.clone(), Path::new("/d"), tiny()).unwrap();
    let (failures, fatal) = mpsc::channel();
    let (writer, thread) = Writer::spawn(log, move |e| failures.send(e.to_string()).unwrap_or_default());
    let (answers, answered) = mpsc::channel();
    submit(&writer, &answers, 1, append(0, 0, 10));
    assert_eq!(answered.recv_timeout(DEADLINE).unwrap(), 1);
    disk.fail_sync_after(0);
    submit(&writer, &answers, 2, append(0, 1, 10));
    assert!(fatal.recv_timeout(DEADLINE).unwrap().contains("EIO"));
    submit(&writer, &answers, 3, append(0, 2, 10));
    thread.join().unwrap();
    drop(answers);
    assert_eq!(answered.recv_timeout(DEADLINE), Err(RecvTimeoutError::Disconnected), "2 and 3 are dropped unanswered");
}

#[test]
fn a_sync_that_fails_before_the_first_round_is_as_final() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = Log::open(disk.clone(), Path::new("/d"), tiny()).unwrap();
    disk.fail_sync_after(0);
    assert!(log.prepare().unwrap_err().to_string().contains("EIO"));
    for again in [log.prepare(), log.commit(&[append(0, 0, 10)])] {
        assert!(matches!(again, Err(LogError::Poisoned)), "{again:?}");
    }
    drop(log);

    let (log, _) = Log::open(disk.clone(), Path::new("/d"), tiny()).unwrap();
    disk.fail_sync_after(0);
    let (failures, fatal) = mpsc::channel();
    let (writer, thread) = Writer::spawn(log, move |e| failures.send(e.to_string()).unwrap_or_default());
    assert!(fatal.recv_timeout(DEADLINE).unwrap().contains("EIO"));
    let (answers, answered) = mpsc::channel();
    submit(&writer, &answers, 1, append(0, 0, 10));
    thread.join().unwrap();
    drop(answers);
    assert_eq!(answered.recv_timeout(DEADLINE), Err(RecvTimeoutError::Disconnected), "it is dropped unanswered");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(RealDisk, dir.path(), Options::default()).unwrap();
    let Err(refused) = Log::open(RealDisk, dir.path(), Options::default()) else { panic!("both opened it") };
    assert!(matches!(refused, LogError::Locked { .. }));
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    drop(log);
    Log::open(RealDisk, dir.path(), Options::default()).unwrap();
}

#[test]
fn readers_see_whole_logs_while_they_are_cut_and_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(RealDisk, dir.path(), tiny()).unwrap();
    let reader = log.reader();
    let (writer, thread) = Writer::spawn(log, NEVER);
    let (answers, answered) = mpsc::channel();
    submit(&writer, &answers, 0, append(0, 0, 200));
    answered.recv_timeout(DEADLINE).unwrap();
    std::thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        scope.spawn(move || {
            let mut read = 0u64;
            while stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected) || read == 0 {
                // An append is answered when it is durable, and applied a little later.
                let Some(end) = reader.applied_end(partition(0)) else { continue };
                match reader.read(partition(0), Offset((end.0 - 3).max(0)), end, 2000) {
                    Ok(_) | Err(chronik_log::ReadError::OutOfRange { .. }) => read += 1,
                    Err(e) => panic!("{e}"),
                }
            }
        });
        let mut end = 1;
        for n in 1..600 {
            if n % 5 == 0 {
                end = (end - 3).max(1);
                submit(&writer, &answers, n, Op::Truncate { partition: partition(0), to: Offset(end) });
            } else {
                submit(&writer, &answers, n, append(0, end, 150 + n));
                end += 1;
            }
            answered.recv_timeout(DEADLINE).unwrap();
        }
        drop(stop);
    });
    writer.close();
    thread.join().unwrap();
}

#[test]
fn what_was_answered_survives_a_crash_beside_a_checkpoint() {
    for seed in 0..150u64 {
        let disk = SimulatedDisk::new(seed);
        let options = Options { checkpoint_bytes: 8 * 1024, ..tiny() };
        let (log, _) = Log::open(disk.clone(), Path::new("/d"), options).unwrap();
        disk.crash_after(20 + seed * 7);
        let (writer, thread) = Writer::spawn(log, drop);
        let (answers, answered) = mpsc::channel();
        for n in 0..400 {
            submit(&writer, &answers, n, append((n % 4) as u8, (n / 4) as i64, 300));
        }
        drop(answers);
        let mut durable = [0; 4];
        while let Ok(n) = answered.recv_timeout(DEADLINE) {
            durable[n % 4] = n / 4 + 1;
        }
        writer.close();
        thread.join().unwrap();
        disk.crash();
        disk.restart();
        let (log, recovered) = Log::open(disk.clone(), Path::new("/d"), options).unwrap();
        for (tp, durable) in (0..4).map(partition).zip(durable) {
            let end = recovered.iter().find(|r| r.partition == tp).map_or(0, |r| r.end.0);
            assert!(end >= durable as i64, "seed {seed}: {tp} ends at {end}, and {durable} were answered");
            let mut offsets = 0;
            if end > 0 {
                log.reader().scan(tp, Offset(0), |_| offsets += 1).unwrap();
            }
            assert_eq!(offsets, end, "seed {seed}: {tp} has no gap");
        }
    }
}

/// A disk that lets syncs of segments, and whoever removes something, wait at a gate.
#[derive(Clone)]
struct Gated {
    disk: SimulatedDisk,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

struct GatedFile {
    file: SimulatedFile,
    gate: Option<Arc<(Mutex<bool>, Condvar)>>,
}

impl Gated {
    fn new() -> Self {
        Self { disk: SimulatedDisk::new(1), gate: Arc::new((Mutex::new(true), Condvar::new())) }
    }

    fn set_open(&self, open: bool) {
        *self.gate.0.lock().expect("nobody panics with it") = open;
        self.gate.1.notify_all();
    }

    fn wait(gate: &(Mutex<bool>, Condvar)) {
        let open = gate.0.lock().expect("nobody panics with it");
        drop(gate.1.wait_while(open, |open| !*open).expect("nobody panics with it"));
    }

    fn gated(&self, path: &Path, file: SimulatedFile) -> GatedFile {
        GatedFile { file, gate: path.extension().is_some_and(|e| e == "log").then(|| Arc::clone(&self.gate)) }
    }
}

impl Disk for Gated {
    type File = GatedFile;
    type Lock = SimulatedLock;
    const SYNCS_AT_ONCE: usize = 1;

    fn open(&self, path: &Path) -> io::Result<GatedFile> {
        self.disk.open(path).map(|file| self.gated(path, file))
    }
    fn create(&self, path: &Path) -> io::Result<GatedFile> {
        self.disk.create(path).map(|file| self.gated(path, file))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Self::wait(&self.gate);
        self.disk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        Self::wait(&self.gate);
        self.disk.remove_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, dir: &Path) -> io::Result<SimulatedLock> {
        self.disk.lock(dir)
    }
    fn available(&self, dir: &Path) -> io::Result<u64> {
        self.disk.available(dir)
    }
    fn random(&self) -> io::Result<u64> {
        self.disk.random()
    }
}

impl DiskFile for GatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_at(parts, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        if let Some(gate) = &self.gate {
            Gated::wait(gate);
        }
        self.file.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

#[test]
fn rounds_wait_for_a_checkpoint_that_takes_too_long() {
    let disk = Gated::new();
    let options = Options { checkpoint_bytes: 5 * 4096, segment_bytes: 1 << 20, ..Options::default() };
    let (log, _) = Log::open(disk.clone(), Path::new("/d"), options).unwrap();
    disk.set_open(false);
    let (writer, thread) = Writer::spawn(log, NEVER);
    let (answers, answered) = mpsc::channel();
    // Each is a round, and a block of 4096 bytes.
    let mut rounds = 0;
    loop {
        submit(&writer, &answers, rounds, append(0, rounds as i64, 100));
        match answered.recv_timeout(if rounds < 20 { DEADLINE } else { Duration::from_millis(300) }) {
            Ok(_) => rounds += 1,
            Err(_) => break,
        }
        assert!(rounds < 30, "nothing holds the rounds back");
    }
    assert_eq!(rounds, 20, "four times what makes a checkpoint due");
    disk.set_open(true);
    assert_eq!(answered.recv_timeout(DEADLINE).unwrap(), 20);
    writer.close();
    thread.join().unwrap();
}

#[test]
fn the_removing_of_files_holds_nobody() {
    let disk = Gated::new();
    // Nothing is synced but the write-ahead log.
    let options = Options { checkpoint_bytes: 1 << 30, max_open_files: 64, ..tiny() };
    let (log, _) = Log::open(disk.clone(), Path::new("/d"), options).unwrap();
    let (writer, thread) = Writer::spawn(log, NEVER);
    let (answers, answered) = mpsc::channel();
    let mut number = 0;
    let mut done = |op| {
        submit(&writer, &answers, number, op);
        assert_eq!(answered.recv_timeout(DEADLINE).unwrap(), number);
        number += 1;
    };
    (0..4).for_each(|tp| (0..8).for_each(|base| done(append(tp, base, 1300))));
    disk.set_open(false);
    done(Op::Delete { partition: partition(0) });
    done(Op::Truncate { partition: partition(1), to: Offset(1) });
    done(Op::AdvanceStart { partition: partition(2), to: Offset(7) });
    for (tp, base) in [(0, 0), (1, 1), (2, 8), (3, 8)] {
        done(append(tp, base, 100));
    }
    disk.set_open(true);
    writer.close();
    thread.join().unwrap();
}

#[test]
fn deletions_and_truncations_share_rounds_and_hold_back_no_append_elsewhere() {
    const MANY: usize = 300;
    let tp = |n: usize| TopicPartition { topic: TopicId::default(), partition: PartitionId(n as i32) };
    let disk = SimulatedDisk::new(1);
    let options = Options { checkpoint_bytes: 1 << 30, ..Options::default() };
    let (log, _) = Log::open(disk, Path::new("/d"), options).unwrap();
    let (rounds, round) = mpsc::channel();
    let observe = move |stats: chronik_log::CommitStats| rounds.send(stats.ops).unwrap_or_default();
    let (writer, thread) = Writer::spawn_observed(log, observe, NEVER);
    let (answers, answered) = mpsc::channel();
    // The writer waits in an answer until all is queued.
    let (queued, begun) = mpsc::channel::<()>();
    let first = Op::Append { partition: tp(MANY), batch: batch(0, 1, 1, 10, 0) };
    writer.submit(first, Box::new(move || begun.recv().unwrap_or_default()));
    for n in 0..MANY {
        submit(&writer, &answers, n, Op::Append { partition: tp(n), batch: batch(0, 1, 1, 10, 0) });
    }
    for n in 0..MANY {
        let partition = tp(n);
        let op = if n % 2 == 0 { Op::Delete { partition } } else { Op::Truncate { partition, to: Offset(0) } };
        submit(&writer, &answers, MANY + n, op);
    }
    // One partition that is deleted last, and one that has nothing to do with any of it.
    submit(&writer, &answers, 2 * MANY, Op::Append { partition: tp(MANY - 2), batch: batch(0, 1, 1, 10, 0) });
    submit(&writer, &answers, 2 * MANY + 1, Op::Append { partition: tp(MANY), batch: batch(1, 1, 1, 10, 0) });
    drop((queued, answers));
    let order: Vec<_> = std::iter::from_fn(|| answered.recv_timeout(DEADLINE).ok()).collect();
    let place = |n: usize| order.iter().position(|other| *other == n).unwrap();
    assert!(place(2 * MANY + 1) < place(MANY), "an append waits for no deletion of another partition");
    assert!(place(2 * MANY) > place(2 * MANY - 2), "but for that of its own");
    writer.close();
    thread.join().unwrap();
    let rounds = round.try_iter().count();
    assert!(rounds < 12, "{rounds} rounds for {MANY} changes");
}

#[test]
fn who_appends_is_told_once_a_round_of_all_that_is_durable() {
    const MANY: i32 = 300;
    let tp = |n: i32| TopicPartition { topic: TopicId::default(), partition: PartitionId(n) };
    let (log, _) = Log::open(SimulatedDisk::new(1), Path::new("/d"), Options::default()).unwrap();
    let (writer, thread) = Writer::spawn(log, NEVER);
    let (told, heard) = mpsc::channel();
    let held = Arc::new(());
    let appender = |name: i32| -> Appender {
        let (told, held) = (told.clone(), Arc::downgrade(&held));
        Arc::new(move |ends| told.send((name, ends, held.strong_count())).unwrap_or_default())
    };
    let appenders = [0, 1].map(appender);
    // The writer waits in the answer of a round before until all is queued.
    let (answering, waits) = mpsc::channel();
    let (queued, goes_on) = mpsc::channel::<()>();
    let answer = move || {
        answering.send(()).unwrap_or_default();
        goes_on.recv().unwrap_or_default();
    };
    writer.submit(Op::Append { partition: tp(MANY), batch: batch(0, 1, 1, 10, 0) }, Box::new(answer));
    waits.recv_timeout(DEADLINE).unwrap();
    for base in 0..2 {
        for n in 0..MANY {
            let appender = &appenders[(n % 2) as usize];
            writer.append(tp(n), batch(base, 1, 1, 10, 0), Some(held.clone()), appender);
        }
    }
    drop(held);
    drop(queued);
    writer.close();
    thread.join().unwrap();
    let heard: Vec<_> = heard.try_iter().collect();
    assert_eq!(heard.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), [0, 1], "each of them once");
    for (name, ends, held) in heard {
        let of_it = |base: i64| (name..MANY).step_by(2).map(move |n| (tp(n), Offset(base + 1)));
        assert_eq!(ends, of_it(0).chain(of_it(1)).collect::<Vec<_>>());
        assert_eq!(held, 0, "what was held is let go of before");
    }
}
