//! Damage is noticed, never served, and costs no other partition.

use crate::common::{Model, Workload, batch, content, partition, run, tiny, unseal};
use chronik_core::ids::Offset;
use chronik_log::{
    Call, Fault, Log, LogError, LogReader, Op, Options, ReadError, RecoveredPartition, SimulatedDisk, Writer,
};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const DIR: &str = "/broker/data";

pub(crate) fn open(disk: &SimulatedDisk) -> Result<(Log<SimulatedDisk>, Vec<RecoveredPartition>), LogError> {
    Log::open(disk.clone(), Path::new(DIR), tiny())
}

/// A log as a killed process leaves it, and what it holds.
fn worked(seed: u64) -> (SimulatedDisk, Model) {
    let disk = SimulatedDisk::new(seed);
    let (mut log, _) = open(&disk).expect("it opens");
    // In every other one, large batches are written once.
    log.write_once(seed.is_multiple_of(2));
    let (mut model, mut workload) = (Model::default(), Workload::new(seed));
    workload.run(&mut log, &mut model, 61).expect("the disk is whole");
    (disk, model)
}

/// Everything of the partition that is served, and whether damage was met.
fn served(reader: &LogReader<SimulatedDisk>, r: &RecoveredPartition) -> (Vec<bytes::Bytes>, bool) {
    let (mut batches, mut next) = (Vec::new(), r.start);
    while next < r.end {
        match reader.read(r.partition, next, r.end, 700) {
            Ok(read) => {
                next = read.last().expect("there is more").header().end_offset();
                batches.extend(read.into_iter().map(|b| b.bytes().clone()));
            }
            Err(ReadError::Damaged { offset, .. }) => {
                assert!(offset >= next && offset <= r.end);
                assert!(reader.state(r.partition).expect("it is there").damaged.is_some(), "damage is remembered");
                return (batches, true);
            }
            Err(other) => panic!("{other}"),
        }
    }
    (batches, r.damaged.is_some())
}

#[derive(Default, Debug)]
struct Outcomes {
    refused: usize,
    damaged: usize,
    harmless: usize,
}

/// Opens a damaged log, and checks that what it serves is what was written.
fn judge(disk: &SimulatedDisk, model: &Model, what: &str, outcomes: &mut Outcomes) {
    let (log, recovered) = match open(disk) {
        Ok(opened) => opened,
        Err(LogError::Corrupt { .. }) => {
            outcomes.refused += 1;
            return;
        }
        Err(other) => panic!("{what}: {other}"),
    };
    let reader = log.reader();
    let mut any_damaged = false;
    for r in &recovered {
        let (batches, damaged) = served(&reader, r);
        any_damaged |= damaged;
        let holds = model.0.get(&r.partition).is_some_and(|p| {
            if damaged { p.batches.starts_with(&batches) } else { p.batches == batches && p.end == r.end.0 }
        });
        assert!(holds, "{what}: {} is not as it was written", r.partition);
    }
    assert_eq!(recovered.len(), model.0.len(), "{what}: partitions are lost");
    *(if any_damaged { &mut outcomes.damaged } else { &mut outcomes.harmless }) += 1;
}

#[test]
fn a_flipped_bit_anywhere_is_never_served() {
    let mut by_kind: [(&str, Outcomes); 4] = ["checkpoint", ".wal", ".log", ".index"].map(|k| (k, Outcomes::default()));
    for seed in 1..=3 {
        let files = worked(seed).0.files();
        for (path, len) in files {
            let outcomes = by_kind.iter_mut().find(|(kind, _)| path.to_string_lossy().ends_with(kind));
            let (_, outcomes) = outcomes.expect("a kind of file that is known");
            let step = (len / 25).max(1) as usize;
            for byte in (seed % step as u64..len).step_by(step) {
                let (disk, model) = worked(seed);
                assert!(disk.flip_bit(&path, byte, (byte % 8) as u8));
                judge(&disk, &model, &format!("seed {seed}, {}:{byte}", path.display()), outcomes);
            }
        }
    }
    let [(_, checkpoint), (_, wal), (_, log), (_, index)] = &by_kind;
    assert!(checkpoint.refused > 0 && checkpoint.damaged + checkpoint.harmless == 0, "{by_kind:?}");
    assert!(wal.refused > 0 && wal.damaged == 0, "{by_kind:?}");
    assert!(log.damaged > 0 && log.refused == 0, "{by_kind:?}");
    assert!(index.harmless > 0 && index.refused + index.damaged == 0, "{by_kind:?}");
}

#[test]
fn a_write_ahead_log_that_has_lost_something_opens_for_who_has_peers_and_says_so() {
    let with_peers = |disk: &SimulatedDisk| {
        Log::open(disk.clone(), Path::new(DIR), Options { open_with_wal_loss: true, ..tiny() }).expect("it opens")
    };
    let (mut lost, mut whole) = (0, 0);
    for seed in 1..=3 {
        for (path, len) in worked(seed).0.files() {
            if path.extension().is_none_or(|e| e != "wal") {
                continue;
            }
            for (byte, unreadable) in (0..len).step_by(1 + len as usize / 40).flat_map(|at| [(at, false), (at, true)]) {
                let (disk, _) = worked(seed);
                let hit = if unreadable { disk.spoil(&path, byte) } else { disk.flip_bit(&path, byte, 3) };
                if !hit {
                    continue;
                }
                let what = format!("seed {seed}, {}:{byte} unreadable: {unreadable}", path.display());
                let before: Vec<_> = disk.files().iter().map(|(path, _)| content_of(&disk, path)).collect();
                let refused = matches!(open(&disk), Err(LogError::Corrupt { .. }));
                if !refused {
                    whole += 1;
                    continue;
                }
                let after: Vec<_> = disk.files().iter().map(|(path, _)| content_of(&disk, path)).collect();
                assert!(before == after, "{what}: something was changed");
                lost += 1;
                let (log, recovered) = with_peers(&disk);
                assert!(log.wal_lost(), "{what}");
                let reader = log.reader();
                for r in &recovered {
                    let checked = reader.check(r.partition, |_| {});
                    assert!(
                        checked.is_ok() || reader.state(r.partition).is_some_and(|s| s.damaged.is_some()),
                        "{what}"
                    );
                    // It can be read up to the damage.
                    served(&reader, &reader.state(r.partition).expect("it is there"));
                }
                drop(log);
                assert!(with_peers(&disk).0.wal_lost(), "{what}: it is remembered until it is accepted");
            }
        }
    }
    assert!(lost > 20 && whole > 0, "{lost} lost, {whole} whole");
}

fn content_of(disk: &SimulatedDisk, path: &Path) -> Option<Vec<u8>> {
    let file = chronik_log::Disk::open(disk, path).ok()?;
    let mut bytes = vec![0; chronik_log::DiskFile::len(&file).ok()? as usize];
    chronik_log::DiskFile::read_at(&file, &mut bytes, 0).ok()?;
    Some(bytes)
}

/// Ten batches in one partition, of 200 bytes and two records each, in one segment, and the segment's file.
pub(crate) fn synced_partition() -> (SimulatedDisk, PathBuf) {
    synced(1)
}

/// The same, on a disk with that seed.
pub(crate) fn synced(seed: u64) -> (SimulatedDisk, PathBuf) {
    let disk = SimulatedDisk::new(seed);
    let (mut log, _) = open(&disk).expect("it opens");
    for i in 0..10 {
        let op = Op::Append { partition: partition(0), batch: batch(i * 2, 1, 2, 139, i as u64) };
        log.commit(std::slice::from_ref(&op)).expect("the disk is whole");
        log.apply(&[op]).expect("the disk is whole");
    }
    log.checkpoint().expect("the disk is whole");
    let path = Path::new(DIR).join("partitions").join(partition(0).to_string()).join(format!("{:020}.log", 0));
    (disk, path)
}

/// From where on the partition is known to be damaged.
pub(crate) fn mark(reader: &LogReader<SimulatedDisk>) -> Option<i64> {
    reader.state(partition(0)).expect("it is there").damaged.map(|offset| offset.0)
}

#[test]
fn every_bit_of_a_batch_counts() {
    // The sixth batch stands at byte 1000. What stands before it is served, what stands from it on is not.
    for byte in 1000..1200 {
        for bit in 0..8 {
            let (disk, path) = synced_partition();
            assert!(disk.flip_bit(&path, byte, bit));
            let (log, recovered) = open(&disk).expect("damage to a segment does not keep the log shut");
            let scanned = log.reader().scan(partition(0), Offset(0), |_| {});
            assert!(matches!(scanned, Err(ReadError::Damaged { .. })), "byte {byte} bit {bit} scanned");
            let (batches, damaged) = served(&log.reader(), &recovered[0]);
            assert!(damaged && batches.len() <= 5, "byte {byte} bit {bit}: {} batches", batches.len());
        }
    }
}

#[test]
fn a_segment_that_is_short_or_gone_marks_its_partition_and_no_other() {
    // Batches of 200 bytes and two records.
    for (cut, lost) in [(0, 0), (1, 0), (199, 0), (200, 2), (999, 8), (1000, 10), (1999, 18)] {
        let (disk, path) = synced_partition();
        assert!(disk.cut_file(&path, cut));
        let (mut log, recovered) = open(&disk).unwrap();
        assert_eq!(recovered[0].damaged, Some(Offset(lost)));
        assert_eq!(recovered[0].end, Offset(20));
        // The log goes on, and remembers.
        let op = Op::Append { partition: partition(1), batch: batch(0, 1, 1, 10, 7) };
        log.commit(std::slice::from_ref(&op)).unwrap();
        log.apply(&[op]).unwrap();
        drop(log);
        let (_, recovered) = open(&disk).unwrap();
        assert_eq!(recovered.iter().map(|r| r.damaged).collect::<Vec<_>>(), [Some(Offset(lost)), None]);
    }
}

/// Wherever in its segment the last block is, and whatever else is known of its partition.
#[test]
fn damage_to_the_last_block_is_not_taken_for_a_torn_write() {
    let append = |tp, base, size| Op::Append { partition: partition(tp), batch: batch(base, 1, 1, size, base as u64) };
    // The last of them creates its partition. Three blocks fill a segment.
    let small: Vec<Op> = (0..7).map(|base| append(0, base, 10)).chain([append(1, 0, 10)]).collect();
    // From the second on they are announced, or only referred to.
    let large: Vec<Op> = (0..5).map(|base| append(0, base, 900)).collect();
    for (ops, once, applied) in [(small, false, false), (large.clone(), true, true), (large, false, true)] {
        for (rounds, byte) in (1..=ops.len()).flat_map(|rounds| [2, 20, 30, 70, 100].map(|byte| (rounds, byte))) {
            let disk = SimulatedDisk::new(1);
            let (mut log, _) = open(&disk).expect("it opens");
            log.write_once(once);
            for op in &ops[..rounds - 1] {
                run(&mut log, op.clone());
            }
            log.commit(&ops[rounds - 1..rounds]).expect("the disk is whole");
            if applied {
                log.apply(&ops[rounds - 1..rounds]).expect("the disk is whole");
            }
            drop(log);
            disk.restart();
            let (wal, at) = last_block(&disk);
            assert!(disk.flip_bit(&wal, at + byte, 1));
            let what = format!("{rounds} rounds, written once: {once}, byte {byte}");
            assert!(matches!(open(&disk), Err(LogError::Corrupt { .. })), "{what}");
            let with_peers = Options { open_with_wal_loss: true, ..tiny() };
            assert!(Log::open(disk, Path::new(DIR), with_peers).expect("it opens").0.wal_lost(), "{what}");
        }
    }
}

#[test]
fn a_writer_with_nothing_left_to_write_seals_what_it_wrote_last() {
    let disk = SimulatedDisk::new(1);
    let (log, _) = open(&disk).expect("it opens");
    let (writer, thread) = Writer::spawn(log, |_| {});
    let (done, answered) = mpsc::channel();
    writer.submit(
        Op::Append { partition: partition(0), batch: batch(0, 1, 1, 10, 0) },
        Box::new(move || done.send(()).expect("it is waited for")),
    );
    answered.recv().expect("the disk is whole");
    let (wal, at) = last_block(&disk);
    wait_for_the_seal(&disk, &wal, at);
    // It ends without another checkpoint.
    disk.kill_after(0);
    writer.close();
    assert!(thread.join().is_ok());
    disk.restart();
    assert!(disk.flip_bit(&wal, at + 100, 1));
    assert!(matches!(open(&disk), Err(LogError::Corrupt { .. })));
}

/// What comes next waits for room, and may wait for long.
#[test]
fn a_writer_seals_what_it_wrote_last_before_it_waits_with_the_rest() {
    let disk = SimulatedDisk::new(1);
    let options = Options { wal_segment_bytes: 64 * 1024, max_open_files: 1000, ..tiny() };
    let (log, _) = Log::open(disk.clone(), Path::new(DIR), options).expect("it opens");
    let (writer, thread) = Writer::spawn(log, |_| {});
    let append = Op::Append { partition: partition(0), batch: batch(0, 1, 1, 10, 0) };
    let (done, answered) = mpsc::channel();
    let (full, later) = (disk.clone(), writer.clone());
    let next = Op::Truncate { partition: partition(0), to: Offset(0) };
    writer.submit(
        append,
        Box::new(move || {
            // Its segment has no room, and what takes it back waits for that.
            full.set_capacity(Some(0));
            later.submit(next, Box::new(|| {}));
            done.send(()).expect("it is waited for");
        }),
    );
    answered.recv().expect("the disk is whole");
    let (wal, at) = last_block(&disk);
    wait_for_the_seal(&disk, &wal, at);
    disk.kill_after(0);
    writer.close();
    assert!(thread.join().is_ok());
    disk.set_capacity(None);
    disk.restart();
    assert!(disk.flip_bit(&wal, at + 100, 1));
    assert!(matches!(open(&disk), Err(LogError::Corrupt { .. })));
}

/// The writer seals a round after it has answered it.
fn wait_for_the_seal(disk: &SimulatedDisk, wal: &Path, at: u64) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while content(disk, wal)[at as usize + 4096 + 16..][..8] != [0xff; 8] {
        assert!(Instant::now() < deadline, "it is not sealed");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The segment of the write-ahead log that was written last, and where its last block begins.
fn last_block(disk: &SimulatedDisk) -> (PathBuf, u64) {
    let mut found = None;
    for (path, _) in disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "wal")) {
        let number = u64::from_str_radix(path.file_stem().expect("a name").to_str().expect("a name"), 16)
            .expect("a name")
            .to_le_bytes();
        for (n, page) in content(disk, &path).chunks(4096).enumerate() {
            if page[..3] == *b"CWB" && page[32..40] == number && page[16..24] != [0xff; 8] {
                found = Some((path.clone(), n as u64 * 4096));
            }
        }
    }
    found.expect("there is one")
}

#[test]
fn batches_that_a_damaged_wal_lost_are_taken_from_the_segments() {
    let disk = SimulatedDisk::new(5);
    let (mut log, _) = open(&disk).unwrap();
    for i in 0..3 {
        let op = Op::Append { partition: partition(0), batch: batch(i, 1, 1, 10, i as u64) };
        log.commit(std::slice::from_ref(&op)).unwrap();
        log.apply(&[op]).unwrap();
    }
    drop(log);
    // The last of three blocks in the run's segment, and a power cut has taken what says that it was synced.
    unseal(&disk, DIR);
    let (wal, _) = disk.files().into_iter().rfind(|(p, _)| p.to_string_lossy().ends_with(".wal")).unwrap();
    assert!(disk.flip_bit(&wal, 2 * 4096 + 70, 1));
    let (log, recovered) = open(&disk).unwrap();
    assert_eq!(recovered[0].end, Offset(3));
    assert_eq!(log.reader().read(partition(0), Offset(2), Offset(3), 100).unwrap().len(), 1);
    // What else the write-ahead log lost is unknown, until it is accepted, whatever happens to the process.
    assert!(log.wal_lost());
    drop(log);
    let (mut log, _) = open(&disk).unwrap();
    assert!(log.wal_lost());
    log.accept_wal_loss().unwrap();
    drop(log);
    disk.crash();
    disk.restart();
    let (log, recovered) = open(&disk).unwrap();
    assert!(!log.wal_lost());
    assert_eq!(recovered[0].end, Offset(3));
}

#[test]
fn a_check_finds_a_bit_in_a_batch_of_any_size_and_visits_all_when_there_is_none() {
    for size in [100, 16_000, 17_000, 600_000] {
        let (disk, tp) = (SimulatedDisk::new(size as u64), partition(0));
        let (mut log, _) = open(&disk).unwrap();
        for (i, size) in [100, size, 100].into_iter().enumerate() {
            let op = [Op::Append { partition: tp, batch: batch(i as i64, 1, 1, size, 1) }];
            log.commit(&op).unwrap();
            log.apply(&op).unwrap();
        }
        log.checkpoint().unwrap();
        let mut bases = Vec::new();
        log.reader().check(tp, |h| bases.push(h.base_offset)).unwrap();
        assert_eq!(bases, [Offset(0), Offset(1), Offset(2)], "{size}");
        drop(log);

        let logs = disk.files().into_iter().filter(|(p, _)| p.to_string_lossy().ends_with(".log"));
        let (path, len) = logs.max_by_key(|(_, len)| *len).unwrap();
        // Behind the middle of the segment's batches, or the one that has a segment to itself.
        assert!(disk.flip_bit(&path, len / 2, 5));
        let (log, recovered) = open(&disk).unwrap();
        assert_eq!(recovered[0].damaged, None, "a checkpoint says nothing of single bits");
        let found = log.reader().check(tp, |_| {});
        assert!(matches!(found, Err(ReadError::Damaged { offset: Offset(1), .. })), "{size}: {found:?}");
        assert_eq!(log.reader().state(tp).unwrap().damaged, Some(Offset(1)), "{size}");
    }
}

#[test]
fn a_log_without_its_checkpoint_is_refused() {
    let (disk, _) = synced_partition();
    chronik_log::Disk::remove(&disk, &Path::new(DIR).join("checkpoint")).unwrap();
    let Err(LogError::Corrupt { path, .. }) = open(&disk) else { panic!("it opened") };
    assert!(path.ends_with("checkpoint"));
}

#[test]
fn a_log_without_a_wal_segment_is_refused() {
    let (disk, _) = synced_partition();
    for (path, _) in disk.files().iter().filter(|(p, _)| p.to_string_lossy().ends_with(".wal")) {
        chronik_log::Disk::remove(&disk, path).unwrap();
    }
    assert!(matches!(open(&disk), Err(LogError::Corrupt { .. })));
}

#[test]
fn a_failed_sync_is_final() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk).unwrap();
    let op = |base| [Op::Append { partition: partition(0), batch: batch(base, 1, 1, 10, base as u64) }];
    log.commit(&op(0)).unwrap();
    log.apply(&op(0)).unwrap();
    disk.fail_sync_after(0);
    assert!(matches!(log.commit(&op(1)), Err(LogError::Io { .. })));
    assert!(matches!(log.commit(&op(1)), Err(LogError::Poisoned)));
    assert!(matches!(log.apply(&op(1)), Err(LogError::Poisoned)));
    assert!(matches!(log.checkpoint(), Err(LogError::Poisoned)));
    drop(log);
    disk.crash();
    disk.restart();
    assert_eq!(open(&disk).unwrap().1[0].end, Offset(1));
}

#[test]
fn a_recovery_from_what_a_failed_sync_left_in_memory_can_be_cut_short() {
    let append = |base, bytes| Op::Append { partition: partition(0), batch: batch(base, 1, 1, bytes, base as u64) };
    let size = |op: &Op| if let Op::Append { batch, .. } = op { batch.bytes().len() } else { 0 };
    // So that the last round comes into a WAL segment that has room for it.
    let options = Options { wal_segment_bytes: 20 * 1024, ..tiny() };
    let open = |disk: &SimulatedDisk| Log::open(disk.clone(), Path::new(DIR), options);
    let last = [append(21, 10), append(21, 9000), Op::Truncate { partition: partition(0), to: Offset(5) }];
    for (op, seed) in last.into_iter().flat_map(|op| (0..10).map(move |seed| (op.clone(), seed))) {
        for point in 0.. {
            let disk = SimulatedDisk::new(seed);
            let (mut log, _) = open(&disk).unwrap();
            for base in 0..21 {
                run(&mut log, append(base, 200));
            }
            log.checkpoint().unwrap();
            disk.fail_sync_after(0);
            assert!(log.commit(std::slice::from_ref(&op)).is_err());
            drop(log);
            // The same kernel, which has the block in its page cache and believes it written; then the power goes.
            disk.restart();
            disk.crash_after(point);
            let complete = open(&disk).is_ok();
            disk.crash();
            disk.restart();
            let (log, recovered) = open(&disk).unwrap();
            let when = format!("{} bytes, seed {seed}, point {point}", size(&op));
            assert!(!log.wal_lost(), "{when}: the segments were ahead of the write-ahead log");
            assert_eq!(recovered[0].damaged, None, "{when}");
            let end = if let Op::Append { .. } = op { Offset(22) } else { Offset(5) };
            assert!(recovered[0].end == end || !complete && recovered[0].end == Offset(21), "{when}");
            log.reader().check(partition(0), |_| {}).unwrap();
            if complete {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_poisons_and_loses_nothing() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk).unwrap();
    let op = |base: i64| [Op::Append { partition: partition(0), batch: batch(base, 1, 1, 2000, base as u64) }];
    disk.set_capacity(Some(100_000));
    let mut durable = 0;
    let error = loop {
        if let Err(e) = log.commit(&op(durable)) {
            break e;
        }
        durable += 1;
        if let Err(e) = log.apply(&op(durable - 1)) {
            break e;
        }
    };
    let LogError::Io { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    drop(log);
    disk.crash();
    disk.restart();
    disk.set_capacity(None);
    let end = open(&disk).unwrap().1[0].end.0;
    assert!(end == durable || end == durable + 1, "{end} of {durable}");
}

#[test]
fn a_batch_that_begins_before_its_partition_ends_is_refused_before_it_is_written() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk).unwrap();
    let op = |base| Op::Append { partition: partition(0), batch: batch(base, 1, 2, 10, 1) };
    assert!(matches!(log.commit(&[op(0), op(1)]), Err(LogError::OutOfOrder { expected: Offset(2), .. })));
    log.commit(&[op(0), op(2)]).unwrap();
    assert!(matches!(log.commit(&[op(2)]), Err(LogError::OutOfOrder { expected: Offset(4), .. })));
    log.apply(&[op(0), op(2)]).unwrap();
    assert!(matches!(log.commit(&[op(3)]), Err(LogError::OutOfOrder { expected: Offset(4), .. })));
    log.commit(&[op(4)]).unwrap();
}

#[test]
fn an_error_of_a_background_write_is_noticed_before_the_wal_is_let_go_of() {
    for partitions in [1, 2, 3, 5, 9] {
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = Log::open(disk.clone(), Path::new(DIR), Options { max_open_files: 3, ..tiny() }).unwrap();
        let segment = Path::new(DIR).join("partitions").join(partition(0).to_string()).join(format!("{:020}.log", 0));
        let mut work = || {
            for tp in 0..partitions {
                let op = [Op::Append { partition: partition(tp), batch: batch(0, 1, 1, 10, 1) }];
                log.commit(&op)?;
                log.apply(&op)?;
                if tp == 0 {
                    assert!(disk.fail_writeback(&segment));
                }
            }
            // Whoever reads opens other files.
            (0..partitions).for_each(|tp| drop(log.reader().read(partition(tp), Offset(0), Offset(1), 1).unwrap()));
            log.checkpoint()
        };
        assert!(matches!(work(), Err(LogError::Io { .. })), "{partitions} partitions");
        drop(log);
        // Nothing was lost, and it is written again.
        disk.restart();
        drop(open(&disk).unwrap());
        disk.crash();
        disk.restart();
        let (log, recovered) = open(&disk).unwrap();
        assert!(recovered.iter().all(|r| r.damaged.is_none() && r.end == Offset(1)));
        log.reader().check(partition(0), |_| {}).unwrap();
    }
}

#[test]
fn a_sector_that_cannot_be_read_is_damage_to_the_batches_in_it_and_to_no_other() {
    // Batches of 200 bytes.
    for (byte, first_lost) in [(0, 0), (600, 2), (1023, 2), (1024, 5), (1999, 7)] {
        let (disk, path) = synced_partition();
        assert!(disk.spoil(&path, byte) && disk.spoil(&path.with_extension("index"), 0));
        let (mut log, recovered) = open(&disk).unwrap();
        let lost = Offset(first_lost * 2);
        let found = log.reader().check(partition(0), |_| {});
        assert!(matches!(found, Err(ReadError::Damaged { offset, .. }) if offset == lost), "{byte}: {found:?}");
        let (batches, damaged) = served(&log.reader(), &recovered[0]);
        assert!(damaged && batches.len() as i64 == first_lost, "{byte}: {} are served", batches.len());
        // To cut there, or behind it, is not refused either.
        for (to, end) in [(Offset(19), lost), (lost, lost)] {
            run(&mut log, Op::Repair { partition: partition(0), to });
            assert_eq!(log.reader().state(partition(0)).unwrap().end, end, "{byte}, cut to {to}");
        }
        assert_eq!(log.reader().state(partition(0)).unwrap().damaged, None);
        drop(log);
        assert_eq!(open(&disk).unwrap().1[0].end, lost);
    }
}

/// A controller that is reset fails all that it is asked for a moment.
#[test]
fn what_cannot_be_read_for_a_moment_is_no_damage() {
    type Look<'a> = &'a dyn Fn(&LogReader<SimulatedDisk>) -> Result<usize, ReadError>;

    let read = |reader: &LogReader<SimulatedDisk>| {
        reader.read(partition(0), Offset(4), Offset(20), 10_000).map(|found| found.len())
    };
    let scan = |reader: &LogReader<SimulatedDisk>| {
        let mut batches = 0;
        reader.check(partition(0), |_| batches += 1).map(|()| batches)
    };
    let looks: [(Look<'_>, usize); 2] = [(&read, 8), (&scan, 10)];
    for (look, batches) in looks {
        for point in 0.. {
            let (disk, _) = synced_partition();
            let (log, _) = open(&disk).expect("it opens");
            let (reader, calls) = (log.reader(), disk.calls(Call::Read));
            disk.fail_after(Call::Read, point, Fault::Reset);
            let found = look(&reader);
            assert!(found.as_ref().is_ok_and(|found| *found == batches), "read {point} fails: {found:?}");
            assert_eq!(mark(&reader), None, "read {point} fails");
            if disk.calls(Call::Read) <= calls + point {
                break;
            }
        }
    }
}
