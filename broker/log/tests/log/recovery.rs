//! What a start makes of a log whose disk does not give back what is on it, once or for good: it fails, or says that
//! something is lost, or it is as if nothing had happened.

use crate::common::{Model, Workload, batch, content, partition, produced, run, tiny, unseal};
use bytes::Bytes;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::producers::ProducerState;
use chronik_log::{
    Call, Disk, Fault, Log, LogError, LogReader, Op, Options, ReadError, RecoveredPartition, SimulatedDisk, Verified,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DIR: &str = "/d/log";
const BYTES: usize = 20_000;

type Opened = Result<(Log<SimulatedDisk>, Vec<RecoveredPartition>), LogError>;

/// As a broker with peers does.
fn open(disk: &SimulatedDisk) -> Opened {
    open_with(disk, tiny())
}

fn open_with(disk: &SimulatedDisk, options: Options) -> Opened {
    Log::open(disk.clone(), Path::new(DIR), Options { open_with_wal_loss: true, ..options })
}

/// Room for all in one segment, and no checkpoint.
fn roomy() -> Options {
    Options { segment_bytes: 1 << 24, wal_segment_bytes: 1 << 20, checkpoint_bytes: 1 << 24, ..tiny() }
}

/// What there is of one partition.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    start: Offset,
    end: Offset,
    batches: Vec<Bytes>,
    /// Whether something of it is known to be lost, or found to be so.
    damaged: bool,
}

type Content = BTreeMap<TopicPartition, Held>;

fn held(reader: &LogReader<SimulatedDisk>, r: &RecoveredPartition) -> Held {
    let mut held = Held { start: r.start, end: r.end, batches: Vec::new(), damaged: r.damaged.is_some() };
    let mut next = r.start;
    while next < r.end {
        match reader.read(r.partition, next, r.end, 700) {
            Ok(read) => {
                next = read.last().expect("there is more").header().end_offset();
                held.batches.extend(read.into_iter().map(|b| b.bytes().clone()));
            }
            Err(ReadError::Damaged { .. }) => return Held { damaged: true, ..held },
            Err(other) => panic!("{other}"),
        }
    }
    held
}

fn all_held(log: &Log<SimulatedDisk>, recovered: &[RecoveredPartition]) -> Content {
    recovered.iter().map(|r| (r.partition, held(&log.reader(), r))).collect()
}

fn producers(log: &Log<SimulatedDisk>, recovered: &[RecoveredPartition]) -> Vec<Vec<ProducerState>> {
    let of = |r: &RecoveredPartition| log.reader().producers(r.partition).expect("it can be read").iter().collect();
    recovered.iter().map(of).collect()
}

/// How the process before has ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It was killed, or the power was cut, when it had done all.
    Done { kill: bool },
    /// So many operations of the disk later.
    After { kill: bool, operations: u64 },
}

/// A log as a process leaves it. The same arguments give the same.
fn left(seed: u64, end: End) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    let (mut log, _) = open(&disk).expect("it opens");
    // In every other one, large batches are written once.
    log.write_once(seed.is_multiple_of(2));
    let (mut model, mut workload) = (Model::default(), Workload::with_all(seed));
    workload.run(&mut log, &mut model, 30).expect("the disk is whole");
    let kill = match end {
        End::Done { kill } => kill,
        End::After { kill, operations } => {
            if kill {
                disk.kill_after(operations);
            } else {
                disk.crash_after(operations);
            }
            // It gets as far as it gets.
            let _ = workload.run(&mut log, &mut model, 30);
            kill
        }
    };
    drop(log);
    if !kill {
        disk.crash();
    }
    disk.restart();
    disk
}

/// What starts made of logs of which something could not be read.
#[derive(Debug, Default)]
struct Outcomes {
    same: usize,
    failed: usize,
    lost: usize,
    damaged: usize,
}

impl Outcomes {
    /// Checks what a start made of a log that `whole` is the content of.
    fn judge(&mut self, opened: Opened, whole: &Content, when: &str) {
        let Ok((log, recovered)) = opened else {
            self.failed += 1;
            return;
        };
        let found = all_held(&log, &recovered);
        if log.wal_lost() {
            self.lost += 1;
            return;
        }
        assert_eq!(found.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>(), "{when}");
        let mut any_damaged = false;
        for (tp, found) in found {
            let whole = &whole[&tp];
            if found.damaged {
                any_damaged = true;
                assert!(whole.batches.starts_with(&found.batches), "{when}: {tp}");
            } else {
                let ends = (found.start, found.end) == (whole.start, whole.end);
                assert!(ends && found.batches == whole.batches, "{when}: {tp} has lost something in silence");
            }
        }
        *(if any_damaged { &mut self.damaged } else { &mut self.same }) += 1;
    }
}

/// Opens a log again and again, and each time other reads fail, one after the other. Hands over what comes of it.
fn fail_each_read(seed: u64, end: End, faults: &[Fault], judge: impl FnMut(&SimulatedDisk, Opened, &str)) {
    let when = format!("seed {seed} {end:?}");
    fail_each_read_of(|| left(seed, end), tiny(), faults, &when, judge);
}

/// The same, of any log.
fn fail_each_read_of(
    log: impl Fn() -> SimulatedDisk,
    options: Options,
    faults: &[Fault],
    when: &str,
    mut judge: impl FnMut(&SimulatedDisk, Opened, &str),
) {
    for n in 0.. {
        let disk = log();
        let before = disk.calls(Call::Read);
        (n..).zip(faults).for_each(|(n, fault)| disk.fail_after(Call::Read, n, *fault));
        let opened = open_with(&disk, options);
        if disk.calls(Call::Read) <= before + n {
            assert!(n > 3, "a start reads something");
            return;
        }
        judge(&disk, opened, &format!("{when} {faults:?}, read {n}"));
    }
}

fn ends() -> impl Iterator<Item = (u64, End)> {
    let of = |seed: u64| {
        let operations = seed * 3;
        [true, false].into_iter().flat_map(move |kill| [End::Done { kill }, End::After { kill, operations }])
    };
    (1..=6).flat_map(move |seed| of(seed).map(move |end| (seed, end)))
}

#[test]
fn a_read_that_fails_once_changes_nothing() {
    for (seed, end) in ends() {
        let (log, recovered) = open(&left(seed, end)).expect("it opens");
        assert!(!log.wal_lost(), "seed {seed} {end:?}: a crash loses nothing");
        let whole = (all_held(&log, &recovered), producers(&log, &recovered));
        for fault in [Fault::Broken, Fault::Reset, Fault::Garbled] {
            fail_each_read(seed, end, &[fault], |_, opened, when| {
                let (log, recovered) = opened.unwrap_or_else(|error| panic!("{when}: {error}"));
                assert!(!log.wal_lost(), "{when}");
                let found = (all_held(&log, &recovered), producers(&log, &recovered));
                assert!(found == whole, "{when}: something else is there than without that");
            });
        }
    }
}

#[test]
fn what_cannot_be_read_any_more_is_said_to_be_lost() {
    let mut outcomes = Outcomes::default();
    for (seed, end) in ends() {
        let (log, recovered) = open(&left(seed, end)).expect("it opens");
        let whole = all_held(&log, &recovered);
        // What is not found once, and cannot be read after that, is not there for nobody.
        for faults in [&[Fault::Lasting][..], &[Fault::Garbled, Fault::Lasting]] {
            fail_each_read(seed, end, faults, |disk, opened, when| {
                let failed = opened.is_err();
                outcomes.judge(opened, &whole, when);
                if failed {
                    disk.restart();
                    outcomes.judge(open(disk), &whole, &format!("{when}, and the start after it"));
                }
            });
        }
    }
    let Outcomes { same, failed, lost, damaged } = outcomes;
    assert!(same > 10 && failed > 10 && lost > 10 && damaged > 0, "{outcomes:?}");
}

/// The blocks of the write-ahead log's last run, and where they begin.
fn blocks(disk: &SimulatedDisk) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for (path, _) in disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "wal")) {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("it has a name");
        let number = u64::from_str_radix(name, 16).expect("it is a number").to_le_bytes();
        for (n, page) in content(disk, &path).chunks(4096).enumerate() {
            if page[..3] == *b"CWB" && page[32..40] == number && page[16..24] != [0xff; 8] {
                found.push((path.clone(), n as u64 * 4096));
            }
        }
    }
    found
}

fn append(base: i64, bytes: usize) -> Op {
    Op::Append { partition: partition(0), batch: batch(base, 1, 10, bytes, base as u64) }
}

fn segment(base: i64) -> PathBuf {
    Path::new(DIR).join("partitions").join(partition(0).to_string()).join(format!("{base:020}.log"))
}

/// A log with four batches, the last two of which are written once, as a killed process leaves it.
fn written_once() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open_with(&disk, roomy()).expect("it opens");
    log.write_once(true);
    (0..40).step_by(10).for_each(|base| run(&mut log, append(base, BYTES)));
    drop(log);
    disk.restart();
    disk
}

fn verify(disk: &SimulatedDisk) -> Verified {
    chronik_log::verify(disk, Path::new(DIR), Path::new("/d/metadata"), &mut |_, _| {}).expect("the disk goes on")
}

/// Nothing says of the last one that it was synced. But a batch that was never written can be read, as what was there before.
#[test]
fn a_large_batch_that_cannot_be_read_is_damage_and_not_an_unfinished_round() {
    for sealed in [true, false] {
        let disk = written_once();
        if !sealed {
            unseal(&disk, DIR);
        }
        let at = 3 * (61 + BYTES as u64);
        assert!(disk.spoil(&segment(0), at + 10_000));
        let findings = verify(&disk).findings;
        assert!(findings.iter().any(|f| (&f.path, f.position) == (&segment(0), at)), "{findings:?}");
        let (mut log, recovered) = open_with(&disk, roomy()).expect("it opens");
        assert!(!log.wal_lost());
        let r = &recovered[0];
        assert_eq!((r.end, r.damaged), (Offset(40), (!sealed).then_some(Offset(30))), "sealed: {sealed}");
        let held = held(&log.reader(), r);
        assert_eq!((held.batches.len(), held.damaged), (3, true), "sealed: {sealed}");
        log.checkpoint().expect("the disk goes on");
        drop(log);
        // It is remembered, for as long as it cannot be read.
        let (_, recovered) = open_with(&disk, roomy()).expect("it opens");
        assert_eq!((recovered[0].end, recovered[0].damaged), (Offset(40), Some(Offset(30))), "sealed: {sealed}");
    }
}

#[test]
fn a_block_of_which_the_disk_cannot_read_some_was_written() {
    for byte in [0, 100, 600, 3000, 9000] {
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = open_with(&disk, roomy()).expect("it opens");
        (0..20).step_by(10).for_each(|base| run(&mut log, append(base, 10_000)));
        drop(log);
        disk.restart();
        // Nothing says that it was synced, and its partition's segment is short of it.
        unseal(&disk, DIR);
        assert!(disk.cut_file(&segment(0), 10_061));
        let (wal, at) = blocks(&disk).pop().expect("there is one");
        assert!(disk.spoil(&wal, at + byte));
        let refused = Log::open(disk.clone(), Path::new(DIR), roomy());
        assert!(matches!(refused, Err(LogError::Corrupt { .. })), "byte {byte}");
        assert!(open_with(&disk, roomy()).expect("it opens").0.wal_lost(), "byte {byte}");
    }
}

/// A log of three batches, of which the last is lost from the write-ahead log, and nothing but its segment says so: a power
/// cut has taken the seal.
fn proven_by_a_segment(options: Options, bytes: usize) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open_with(&disk, options).expect("it opens");
    (0..30).step_by(10).for_each(|base| run(&mut log, append(base, bytes)));
    drop(log);
    disk.restart();
    unseal(&disk, DIR);
    lose(&disk, 2);
    disk
}

/// Damages a block.
fn lose(disk: &SimulatedDisk, n: usize) {
    let (wal, at) = blocks(disk)[n].clone();
    assert!(disk.flip_bit(&wal, at + 100, 1));
}

#[test]
fn batches_that_prove_that_the_write_ahead_log_has_lost_something_are_read_again() {
    use Fault::{Broken, Garbled, Lasting, Reset};
    for faults in [&[Broken][..], &[Reset], &[Garbled], &[Lasting], &[Garbled, Lasting], &[Broken, Garbled]] {
        let lasts = faults.contains(&Lasting);
        fail_each_read_of(
            || proven_by_a_segment(tiny(), 100),
            tiny(),
            faults,
            "",
            |_, opened, when| match opened {
                Ok((log, recovered)) => {
                    assert!(log.wal_lost(), "{when}");
                    assert!(faults.len() > 1 || lasts || recovered[0].end == Offset(30), "{when}");
                }
                Err(error) => assert!(faults.len() > 1 || lasts, "{when}: {error}"),
            },
        );
    }
}

/// When a start has cut it off, nothing says any more that something was there.
#[test]
fn what_the_disk_cannot_read_is_cut_off_when_it_is_known_to_be_lost() {
    // In the last segment that is left, and in the one after it.
    for (segment_bytes, file, at) in [(1 << 24, segment(0), 2 * 3061 + 1000), (7000, segment(20), 1000)] {
        let options = Options { segment_bytes, ..roomy() };
        let unreadable = || {
            let disk = proven_by_a_segment(options, 3000);
            assert!(disk.spoil(&file, at));
            disk
        };
        for stop in [SimulatedDisk::kill_after, SimulatedDisk::fail_sync_after] {
            for n in 0.. {
                let disk = unreadable();
                stop(&disk, n);
                let stopped = open_with(&disk, options).is_err();
                disk.restart();
                assert!(open_with(&disk, options).expect("it opens").0.wal_lost(), "{file:?}, stopped in {n}");
                if !stopped {
                    assert!(n > 0, "a start changes something");
                    break;
                }
            }
        }
        // Without peers it may be read another time.
        let disk = unreadable();
        let before = disk.files();
        for _ in 0..2 {
            let refused = Log::open(disk.clone(), Path::new(DIR), options);
            assert!(matches!(refused, Err(LogError::Corrupt { .. })), "{file:?}");
        }
        let kept = |found: &&(PathBuf, u64)| found.0.extension().is_some_and(|e| e == "log");
        let after = disk.files();
        assert!(before.iter().filter(kept).all(|found| after.contains(found)), "{file:?}");
        // It goes on when the loss is accepted, and nothing is left that would be found again.
        let (mut log, recovered) = open_with(&disk, options).expect("it opens");
        assert_eq!((log.wal_lost(), recovered[0].end), (true, Offset(20)), "{file:?}");
        log.accept_wal_loss().expect("the disk goes on");
        for end in [20, 50] {
            drop(log);
            disk.restart();
            let opened = open_with(&disk, options).expect("it opens");
            assert_eq!((opened.0.wal_lost(), opened.1[0].end), (false, Offset(end)), "{file:?}");
            log = opened.0;
            (end..50).step_by(10).for_each(|base| run(&mut log, append(base, 3000)));
        }
    }
}

/// They may be nowhere else, and the write-ahead log that says so is not believed.
#[test]
fn batches_behind_one_that_the_disk_cannot_read_are_kept_aside() {
    for segment_bytes in [1 << 24, 21_000] {
        let options = Options { segment_bytes, ..roomy() };
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = open_with(&disk, options).expect("it opens");
        (0..40).step_by(10).for_each(|base| run(&mut log, append(base, 10_000)));
        drop(log);
        disk.restart();
        lose(&disk, 2);
        let (file, at) = if segment_bytes > 30_000 { (segment(0), 2 * 10_061) } else { (segment(20), 0) };
        assert!(disk.spoil(&file, at + 1000));
        let (log, recovered) = open_with(&disk, options).expect("it opens");
        assert_eq!((log.wal_lost(), recovered[0].end), (true, Offset(20)));
        let kept: Vec<_> = disk.files().into_iter().filter(|(path, _)| path.starts_with("/d/log/damaged")).collect();
        let [(kept, len)] = &kept[..] else { panic!("{kept:?}") };
        let Op::Append { batch, .. } = append(30, 10_000) else { panic!("it is an append") };
        assert_eq!(*len, 2 * 10_061);

        let file = disk.open(kept).expect("it is there");
        let mut bytes = vec![0; 10_061];
        chronik_log::DiskFile::read_at(&file, &mut bytes, 10_061).expect("it can be read");
        assert!(bytes == *batch.bytes(), "{segment_bytes}");
    }
}

/// Behind what was announced nothing else says so.
#[test]
fn a_seal_that_was_read_wrong_once_is_read_again() {
    let log = || {
        let disk = written_once();
        lose(&disk, blocks(&disk).len() - 1);
        disk
    };
    assert!(open_with(&log(), roomy()).expect("it opens").0.wal_lost());
    fail_each_read_of(log, roomy(), &[Fault::Garbled], "", |_, opened, when| {
        assert!(opened.expect("it opens").0.wal_lost(), "{when}");
    });
}

#[test]
fn the_place_of_a_seal_that_cannot_be_read_at_first_is_that_of_no_lost_block() {
    for sealed in [true, false] {
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = open_with(&disk, roomy()).expect("it opens");
        (0..30).step_by(10).for_each(|base| run(&mut log, append(base, 100)));
        drop(log);
        disk.restart();
        if !sealed {
            unseal(&disk, DIR);
        }
        // The checkpoint was read before, and of each block the header and the rest.
        for n in [7, 8] {
            disk.fail_after(Call::Read, n, Fault::Broken);
        }
        let (log, recovered) = open_with(&disk, roomy()).expect("it opens");
        assert_eq!((log.wal_lost(), recovered[0].end), (!sealed, Offset(30)));
    }
}

/// One that has no other replica goes on with what is left here.
#[test]
fn what_was_written_once_behind_a_lost_block_is_kept() {
    let sizes = [(BYTES, 1 << 24), (BYTES, 61_000), (3 << 20, 1 << 28)];
    for ((bytes, segment_bytes), lost) in sizes.into_iter().flat_map(|size| (0..7).map(move |lost| (size, lost))) {
        let disk = SimulatedDisk::new(1);
        let options = Options { segment_bytes, damaged_bytes: u64::MAX, ..roomy() };
        let (mut log, _) = open_with(&disk, options).expect("it opens");
        log.write_once(true);
        (0..70).step_by(10).for_each(|base| run(&mut log, append(base, bytes)));
        drop(log);
        disk.restart();
        lose(&disk, lost);
        let when = format!("{bytes} bytes, block {lost}");
        let (mut log, recovered) = open_with(&disk, options).expect("it opens");
        assert!(log.wal_lost(), "{when}");
        if lost == 0 {
            // It makes the partition.
            assert!(recovered.is_empty() && disk.files().iter().any(|(path, _)| path.starts_with("/d/log/damaged")));
            continue;
        }
        assert_eq!((recovered[0].end, recovered[0].damaged), (Offset(70), None), "{when}");
        log.reader().check(partition(0), |_| {}).unwrap_or_else(|error| panic!("{when}: {error}"));
        // It goes on, and what an unfinished round may have left behind the end is no part of it.
        log.write_once(true);
        (70..100).step_by(10).for_each(|base| run(&mut log, append(base, bytes)));
        assert!(disk.exists(&segment(70)).expect("the disk is whole"), "{when}");
        drop(log);
        disk.crash();
        disk.restart();
        let (log, recovered) = open_with(&disk, options).expect("it opens");
        assert_eq!((recovered[0].end, recovered[0].damaged), (Offset(100), None), "{when}");
        log.reader().check(partition(0), |_| {}).unwrap_or_else(|error| panic!("{when}: {error}"));
    }
}

/// What a checkpoint that takes some rounds has of producers is newer than where it begins.
#[test]
fn nobody_is_known_for_what_the_write_ahead_log_has_lost() {
    let disk = SimulatedDisk::new(1);
    let write = |log: &mut Log<SimulatedDisk>, base: i64, id| {
        let batch = produced(&batch(base, 1, 10, 100, base as u64), id, 0);
        run(log, Op::Append { partition: partition(0), batch });
    };
    let known = |log: &Log<SimulatedDisk>| -> Vec<i64> {
        let producers = log.reader().producers(partition(0)).expect("it can be read");
        let mut known: Vec<i64> = producers.iter().map(|p| p.id.0).collect();
        known.sort_unstable();
        known
    };
    let (mut log, _) = open_with(&disk, roomy()).expect("it opens");
    write(&mut log, 0, 1);
    log.begin_checkpoint_beside().expect("the disk is whole");
    write(&mut log, 10, 2);
    log.end_checkpoint_beside().expect("the disk is whole");
    drop(log);
    disk.restart();
    // The only block behind the checkpoint. Of the segment the checkpoint has synced what there was when it began.
    let (wal, at) = blocks(&disk).pop().expect("there is one");
    assert!(disk.flip_bit(&wal, at + 100, 1) && disk.cut_file(&segment(0), 161));
    let (mut log, recovered) = open_with(&disk, roomy()).expect("it opens");
    assert!(log.wal_lost());
    assert_eq!(recovered[0].end, Offset(10));
    assert_eq!(known(&log), [1]);
    // Who writes there next is known after another start too.
    write(&mut log, 10, 3);
    drop(log);
    disk.restart();
    let (log, _) = open_with(&disk, roomy()).expect("it opens");
    assert_eq!(known(&log), [1, 3]);
}

/// The directory is full, and the disk perhaps not.
#[test]
fn a_start_finds_no_room_for_another_name_and_goes_on() {
    let folder = Path::new(DIR).join("partitions").join(partition(5).to_string());
    for stray in [segment(900), folder.join("a.log")] {
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = open(&disk).expect("it opens");
        run(&mut log, append(0, 100));
        drop(log);
        disk.restart();
        disk.create_dir(stray.parent().expect("it has one")).expect("the disk is whole");
        disk.create(&stray).expect("the disk is whole");
        disk.fail_after(Call::Rename, 0, Fault::Full);
        let (_, recovered) = open(&disk).expect("it opens");
        assert_eq!(recovered[0].end, Offset(10));
        assert!(!disk.exists(&stray).expect("the disk is whole"));
        assert!(!disk.exists(&folder).expect("the disk is whole"));
    }
}

#[test]
fn a_start_has_no_room_to_keep_aside_what_may_be_a_partition_and_goes_on() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open_with(&disk, roomy()).expect("it opens");
    (0..20).step_by(10).for_each(|base| run(&mut log, append(base, 100)));
    drop(log);
    disk.restart();
    lose(&disk, 0);
    disk.fail_after(Call::Rename, 0, Fault::Full);
    let (mut log, recovered) = open_with(&disk, roomy()).expect("it opens");
    assert!(log.wal_lost() && recovered.is_empty());
    // It is there, and not where the partition's files would be if it were made again.
    let left = || {
        let of_partitions =
            disk.files().into_iter().filter(|(path, _)| path.starts_with(Path::new(DIR).join("partitions")));
        of_partitions
            .map(|(path, len)| (path.starts_with(segment(0).parent().expect("a folder")), len))
            .collect::<Vec<_>>()
    };
    assert_eq!(left(), [(false, 2 * 161)]);
    log.accept_wal_loss().expect("the disk goes on");
    drop(log);
    // A later start removes it.
    let (mut log, recovered) = open_with(&disk, roomy()).expect("it opens");
    assert!(recovered.is_empty());
    run(&mut log, append(0, 100));
    assert_eq!(left(), [(true, 161)]);
}

#[test]
fn folders_are_kept_aside_as_far_as_the_bound_goes_too() {
    let bytes = 161;
    // Room for one, whether it is kept now or was before.
    for (damaged_bytes, kept) in [(2 * bytes - 1, 1), (2 * bytes, 2)] {
        let options = Options { damaged_bytes, ..roomy() };
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = open_with(&disk, options).expect("it opens");
        for tp in [0, 1] {
            run(&mut log, Op::Append { partition: partition(tp), batch: batch(0, 1, 10, 100, 0) });
        }
        drop(log);
        disk.restart();
        lose(&disk, 0);
        let (mut log, recovered) = open_with(&disk, options).expect("it opens");
        assert!(log.wal_lost() && recovered.is_empty());
        let is_kept = |(path, _): &(PathBuf, u64)| path.starts_with(Path::new(DIR).join("damaged"));
        assert_eq!(disk.files().into_iter().filter(is_kept).count(), kept, "{damaged_bytes} bytes");
        // What a repair cuts off counts on the same bound.
        run(&mut log, Op::Append { partition: partition(2), batch: batch(0, 1, 10, 100, 0) });
        log.set_aside(&[(partition(2), Offset(0))]).expect("the disk is whole");
        assert_eq!(disk.files().into_iter().filter(is_kept).count(), kept, "{damaged_bytes} bytes");
    }
}
