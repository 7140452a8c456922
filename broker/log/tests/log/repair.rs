//! Damage is cut off by who nobody counts on, and by a recovery that finds it; what is cut off is kept aside.

use crate::common::{batch, content, partition, run, tiny};
use crate::damage::{DIR, mark, open, synced, synced_partition};
use chronik_core::ids::Offset;
use chronik_log::{
    Call, Damage, Disk as _, DiskFile as _, Fault, Log, LogError, Op, Options, ReadError, RecoveredPartition,
    SimulatedDisk,
};
use std::cell::Cell;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[test]
fn damage_is_repaired_by_truncating_to_it_and_appending_again() {
    let (disk, path) = synced_partition();
    assert!(disk.flip_bit(&path, 1100, 3));
    let (mut log, _) = open(&disk).unwrap();
    let reader = log.reader();
    let Err(ReadError::Damaged { offset, .. }) = reader.read(partition(0), Offset(10), Offset(20), 1) else {
        panic!("the damage is not found");
    };
    assert_eq!(offset, Offset(10));
    let again = batch(10, 1, 10, 700, 99);
    let ops =
        [Op::Repair { partition: partition(0), to: offset }, Op::Append { partition: partition(0), batch: again }];
    log.commit(&ops).unwrap();
    log.apply(&ops).unwrap();
    assert_eq!(reader.state(partition(0)).unwrap().damaged, None);
    assert_eq!(reader.read(partition(0), Offset(12), Offset(20), 1).unwrap().len(), 1);
}

/// Others may count on what a truncation would have to cut off beyond what was asked for: it does nothing, and says so.
#[test]
fn a_truncation_with_damage_in_its_way_changes_nothing() {
    let (disk, path) = synced_partition();
    let (mut log, _) = open(&disk).expect("it opens");
    let found = Arc::new(Mutex::new(Vec::new()));
    let watcher = Arc::clone(&found);
    log.reader().watch_damage(move |tp, from| watcher.lock().expect("one at a time").push((tp, from)));
    // The length of the ninth batch, which is before the one that is to go.
    assert!(disk.flip_bit(&path, 1609, 3));
    let end = |log: &Log<SimulatedDisk>| log.reader().state(partition(0)).expect("it is there").end;
    run(&mut log, Op::Truncate { partition: partition(0), to: Offset(18) });
    assert_eq!(end(&log), Offset(20));
    assert_eq!(*found.lock().expect("one at a time"), [(partition(0), Offset(16))]);
    // Neither does the start after it.
    drop(log);
    let (mut log, recovered) = open(&disk).expect("it opens");
    assert_eq!(recovered[0].end, Offset(20));
    // When nobody counts on it, it is cut.
    run(&mut log, Op::Repair { partition: partition(0), to: Offset(18) });
    assert_eq!(end(&log), Offset(16));
    drop(log);
    let (_, recovered) = open(&disk).expect("it opens");
    assert_eq!((recovered[0].end, recovered[0].damaged), (Offset(16), None));
}

/// A copy that lost a batch between the truncation's record and its application does not count as whole at its next start.
#[test]
fn damage_that_comes_between_a_truncations_record_and_the_cut_marks_the_partition() {
    let (disk, path) = synced_partition();
    let (mut log, _) = open(&disk).expect("it opens");
    let cut = [Op::Truncate { partition: partition(0), to: Offset(18) }];
    log.commit(&cut).expect("nothing is damaged");
    assert!(disk.flip_bit(&path, 1609, 3));
    assert!(matches!(log.apply(&cut), Err(LogError::Corrupt { .. })));
    drop(log);
    disk.restart();
    let (_, recovered) = open(&disk).expect("it opens");
    assert_eq!((recovered[0].end, recovered[0].damaged), (Offset(16), Some(Offset(16))));
}

fn advance(log: &mut Log<SimulatedDisk>, to: i64) {
    run(log, Op::AdvanceStart { partition: partition(0), to: Offset(to) });
}

#[test]
fn damage_is_over_when_the_start_has_moved_past_all_of_it() {
    let (disk, path) = synced_partition();
    let (mut log, _) = open(&disk).expect("it opens");
    let reader = log.reader();
    // Bytes of the fourth batch, which begins at offset 6, and of the eighth. The index leads to offsets 12 and 18 behind them.
    assert!(disk.flip_bit(&path, 700, 3) && disk.flip_bit(&path, 1500, 3));
    assert!(reader.check(partition(0), |_| {}).is_err());
    assert_eq!(mark(&reader), Some(6));
    // Until somebody reads there, nobody knows of the second; and what only a damaged batch leads to is not known to be whole.
    let found = |from, to| Some(Damage { from: Offset(from), to: Some(Offset(to)) });
    assert_eq!(reader.damage(partition(0)), found(6, 6));
    for (to, marked) in [5, 7, 8, 12, 14, 16, 18].map(|to| (to, Some(to.max(6)).filter(|to| *to < 18))) {
        advance(&mut log, to);
        let looked = reader.look_behind_damage(partition(0));
        assert_eq!(looked.is_err(), [7, 8, 12, 16].contains(&to), "start {to}: {looked:?}");
        assert_eq!(mark(&reader), marked, "start {to}");
        if to == 14 {
            assert_eq!(reader.damage(partition(0)), found(14, 14), "the second one is found by now");
        }
    }
    reader.check(partition(0), |_| {}).expect("the rest is whole");
    drop(log);
    let (_, recovered) = open(&disk).expect("it opens");
    assert_eq!((recovered[0].start, recovered[0].end, recovered[0].damaged), (Offset(18), Offset(20), None));
}

#[test]
fn damage_that_is_known_behind_the_start_is_not_forgotten_with_what_was_before_it() {
    let disk = SimulatedDisk::new(1);
    // Five batches in a segment.
    let open =
        || Log::open(disk.clone(), Path::new(DIR), Options { segment_bytes: 1000, ..tiny() }).expect("it opens").0;
    let mut log = open();
    for i in 0..15 {
        run(&mut log, Op::Append { partition: partition(0), batch: batch(i * 2, 1, 2, 139, i as u64) });
    }
    log.checkpoint().expect("the disk is whole");
    let folder = Path::new(DIR).join("partitions").join(partition(0).to_string());
    for base in [0, 10] {
        assert!(disk.flip_bit(&folder.join(format!("{base:020}.log")), 500, 3));
    }
    let reader = log.reader();
    for from in [0, 10] {
        assert!(reader.read(partition(0), Offset(from), Offset(30), 10_000).is_ok_and(|found| found.len() < 5));
        assert!(reader.read(partition(0), Offset(from + 4), Offset(30), 10_000).is_err());
    }
    assert_eq!(mark(&reader), Some(4));
    // The segment that was damaged first is gone as a whole, and the other is not.
    advance(&mut log, 10);
    reader.look_behind_damage(partition(0)).expect("there is nothing to look at");
    assert_eq!(mark(&reader), Some(10), "there is more of it");
    advance(&mut log, 20);
    reader.look_behind_damage(partition(0)).expect("there is nothing to look at");
    assert_eq!(mark(&reader), None);
}

#[test]
fn a_start_looks_at_what_is_behind_the_start_that_the_write_ahead_log_says() {
    let (disk, path) = synced_partition();
    let (mut log, _) = open(&disk).expect("it opens");
    assert!(disk.flip_bit(&path, 700, 3));
    assert!(log.reader().check(partition(0), |_| {}).is_err());
    log.checkpoint().expect("the disk is whole");
    // Nobody has looked behind it when the process ends.
    advance(&mut log, 12);
    assert_eq!(mark(&log.reader()), Some(12));
    drop(log);
    let (log, _) = open(&disk).expect("it opens");
    assert_eq!(mark(&log.reader()), None);
}

/// A log of three segments, with damage in the second batch of the first, and what its files hold.
fn damaged_in_front(seed: u64) -> (SimulatedDisk, Vec<Vec<u8>>) {
    let disk = SimulatedDisk::new(seed);
    let (mut log, _) = open(&disk).expect("it opens");
    for base in 0..6 {
        run(&mut log, Op::Append { partition: partition(0), batch: batch(base, 1, 1, 1300, base as u64) });
    }
    log.checkpoint().expect("the disk is whole");
    drop(log);
    let segments: Vec<PathBuf> =
        disk.files().into_iter().map(|(p, _)| p).filter(|p| p.extension().is_some_and(|e| e == "log")).collect();
    assert_eq!(segments.len(), 3);
    let contents = segments.iter().map(|path| content(&disk, path)).collect();
    assert!(disk.spoil(&segments[0], 2200));
    (disk, contents)
}

fn kept(disk: &SimulatedDisk) -> Vec<(String, Vec<u8>)> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    let kept = files.filter(|path| path.starts_with(Path::new(DIR).join("damaged")));
    let name = |path: &PathBuf| path.file_name().expect("it has a name").to_string_lossy().into_owned();
    kept.map(|path| (name(&path), content(disk, &path))).collect()
}

#[test]
fn what_a_repair_cuts_off_is_kept_aside() {
    let (disk, contents) = damaged_in_front(1);
    let (mut log, _) = open(&disk).unwrap();
    let found = log.reader().check(partition(0), |_| {});
    assert!(matches!(found, Err(ReadError::Damaged { offset: Offset(1), .. })), "{found:?}");
    log.set_aside(&[(partition(0), Offset(1))]).unwrap();
    run(&mut log, Op::Repair { partition: partition(0), to: Offset(1) });
    drop(log);
    disk.crash();
    disk.restart();
    let (log, recovered) = open(&disk).unwrap();
    assert_eq!((recovered[0].end, recovered[0].damaged), (Offset(1), None));
    drop(log);
    let name = |base: i64| format!("{}-{base:020}.log", partition(0));
    let kept = kept(&disk);
    assert_eq!(kept.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), [name(1), name(2), name(4)]);
    // All of the batch is in the page that cannot be read.
    assert_eq!(kept[0].1.len(), contents[0].len() - 1361);
    assert!(kept[0].1.iter().all(|b| *b == 0));
    assert_eq!((&kept[1].1, &kept[2].1), (&contents[1], &contents[2]));
}

#[test]
fn a_repair_that_is_cut_short_is_done_again_and_loses_nothing_of_what_is_kept() {
    for (seed, kill) in (0..20).map(|seed| (seed, seed % 2 == 0)) {
        for point in 0.. {
            let (disk, contents) = damaged_in_front(seed);
            let (mut log, _) = open(&disk).unwrap();
            let stop = |n| if kill { disk.kill_after(n) } else { disk.crash_after(n) };
            stop(point);
            let repair = |log: &mut Log<SimulatedDisk>| {
                log.set_aside(&[(partition(0), Offset(1))])?;
                let cut = [Op::Repair { partition: partition(0), to: Offset(1) }];
                log.commit(&cut)?;
                log.apply(&cut)
            };
            let complete = repair(&mut log).is_ok();
            drop(log);
            disk.restart();
            let (mut log, recovered) = open(&disk).unwrap();
            if recovered[0].end > Offset(1) {
                let found = log.reader().check(partition(0), |_| {});
                assert!(matches!(found, Err(ReadError::Damaged { offset: Offset(1), .. })), "{found:?}");
                repair(&mut log).unwrap();
            }
            drop(log);
            disk.crash();
            disk.restart();
            assert_eq!(open(&disk).unwrap().1[0].end, Offset(1));
            let kept = kept(&disk);
            for content in &contents[1..] {
                assert!(kept.iter().any(|(_, kept)| kept == content), "seed {seed}, point {point}");
            }
            if complete {
                break;
            }
        }
    }
}

#[test]
fn no_more_is_kept_aside_than_may_be() {
    let (_, contents) = damaged_in_front(1);
    let first_two = contents[0].len() as u64 - 1361 + contents[1].len() as u64;
    for (damaged_bytes, left) in [(first_two, u64::MAX), (u64::MAX, 2 * first_two + 1)] {
        let (disk, _) = damaged_in_front(1);
        let (mut log, _) = Log::open(disk.clone(), Path::new(DIR), Options { damaged_bytes, ..tiny() }).unwrap();
        let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
        disk.set_capacity(Some(used.saturating_add(left)));
        log.set_aside(&[(partition(0), Offset(1))]).unwrap();
        assert_eq!(kept(&disk).len(), 2);
        // And it is cut off all the same.
        disk.set_capacity(None);
        run(&mut log, Op::Repair { partition: partition(0), to: Offset(1) });
        assert_eq!(log.reader().state(partition(0)).unwrap().end, Offset(1));
    }
}

#[test]
fn a_truncation_that_meets_what_cannot_be_read_once_is_a_truncation() {
    for point in 0.. {
        let disk = SimulatedDisk::new(point);
        let (mut log, _) = open(&disk).unwrap();
        for base in 0..20 {
            run(&mut log, Op::Append { partition: partition(0), batch: batch(base, 1, 1, 40, base as u64) });
        }
        let found = Arc::new(Mutex::new(Vec::new()));
        let watched = Arc::clone(&found);
        log.reader().watch_damage(move |tp, offset| watched.lock().unwrap().push((tp, offset)));
        let calls = disk.calls(Call::Read);
        // What is read ahead is read again by itself, without that; so two have to fail.
        disk.fail_after(Call::Read, point, Fault::Broken);
        disk.fail_after(Call::Read, point + 1, Fault::Broken);
        run(&mut log, Op::Truncate { partition: partition(0), to: Offset(13) });
        let state = log.reader().state(partition(0)).unwrap();
        assert_eq!((state.end, state.damaged), (Offset(13), None), "read {point} fails");
        assert!(found.lock().unwrap().is_empty(), "read {point} fails");
        if disk.calls(Call::Read) <= calls + point {
            break;
        }
    }
}

/// A log of ten batches of 200 bytes, whose truncation to that offset is recorded and not applied. Then the bit of a byte is lost
/// in its segment. With what the segment holds.
fn cut_short(seed: u64, to: i64, byte: u64) -> (SimulatedDisk, PathBuf, Vec<u8>) {
    let (disk, path) = synced(seed);
    let (mut log, _) = open(&disk).expect("it opens");
    log.commit(&[Op::Truncate { partition: partition(0), to: Offset(to) }]).expect("nothing is damaged");
    drop(log);
    disk.restart();
    assert!(disk.flip_bit(&path, byte, 3));
    let left = content(&disk, &path);
    (disk, path, left)
}

#[test]
fn damage_that_a_recovery_cuts_at_is_kept_aside_wherever_the_recovery_ends() {
    // In the last batch that was to stay, and in the first one.
    for (to, byte, end) in [(18, 1609, 16), (2, 9, 0)] {
        for (seed, kill) in (0..20).map(|seed| (seed, seed % 2 == 0)) {
            for point in 0.. {
                let (disk, _, left) = cut_short(seed, to, byte);
                if kill {
                    disk.kill_after(point);
                } else {
                    disk.crash_after(point);
                }
                let complete = open(&disk).is_ok();
                disk.restart();
                let (_, recovered) = open(&disk).expect("it opens");
                let when = format!("to {to}, seed {seed}, point {point}");
                assert_eq!((recovered[0].end, mark_of(&recovered)), (Offset(end), Some(end)), "{when}");
                let cut = &left[end as usize * 100..];
                assert!(kept(&disk).iter().any(|(_, kept)| kept == cut), "{when}");
                if complete {
                    break;
                }
            }
        }
    }
}

fn mark_of(recovered: &[RecoveredPartition]) -> Option<i64> {
    recovered[0].damaged.map(|offset| offset.0)
}

#[test]
fn what_a_recovery_has_lost_at_the_end_is_not_forgotten_with_a_mark_before_it() {
    let (disk, path) = synced_partition();
    let (mut log, _) = open(&disk).expect("it opens");
    // Bytes of the fourth batch, which begins at offset 6. The index leads past it.
    assert!(disk.flip_bit(&path, 700, 3));
    assert!(log.reader().check(partition(0), |_| {}).is_err());
    log.checkpoint().expect("the disk is whole");
    log.commit(&[Op::Truncate { partition: partition(0), to: Offset(18) }]).expect("nothing is damaged there");
    drop(log);
    disk.restart();
    // The length of the ninth batch, which was to stay.
    assert!(disk.flip_bit(&path, 1609, 3));
    let (log, recovered) = open(&disk).expect("it opens");
    assert_eq!((recovered[0].end, mark_of(&recovered)), (Offset(16), Some(6)));
    drop(log);
    // The process ends before anybody has written down what it lost, and the fourth batch can be read after all.
    disk.restart();
    assert!(disk.flip_bit(&path, 700, 3));
    for _ in 0..2 {
        let (_, recovered) = open(&disk).expect("it opens");
        assert_eq!((recovered[0].end, mark_of(&recovered)), (Offset(16), Some(16)));
    }
    // Until it is cut.
    let (mut log, _) = open(&disk).expect("it opens");
    run(&mut log, Op::Repair { partition: partition(0), to: Offset(16) });
    drop(log);
    let (_, recovered) = open(&disk).expect("it opens");
    assert_eq!((recovered[0].end, mark_of(&recovered)), (Offset(16), None));
}

#[test]
fn what_has_no_room_to_be_kept_aside_is_not_kept_in_part_and_all_the_rest_is() {
    let name = |base: i64| format!("{}-{base:020}.log", partition(0));
    // The copy of a part of a segment, and the move of a whole one.
    for (call, n, left) in [(Call::Write, 0, [2, 4]), (Call::Rename, 1, [1, 4])] {
        let (disk, _) = damaged_in_front(1);
        let (mut log, _) = open(&disk).expect("it opens");
        disk.fail_after(call, n, Fault::Full);
        log.set_aside(&[(partition(0), Offset(1))]).expect("the rest is kept");
        let kept: Vec<_> = kept(&disk).into_iter().map(|(name, _)| name).collect();
        assert_eq!(kept, left.map(name), "{call:?}");
        run(&mut log, Op::Repair { partition: partition(0), to: Offset(1) });
        assert_eq!(log.reader().state(partition(0)).expect("it is there").end, Offset(1), "{call:?}");
    }
}

#[test]
fn a_start_that_has_no_room_for_a_copy_keeps_all_the_rest() {
    for n in 0.. {
        let (disk, path, _) = cut_short(1, 18, 1609);
        let stray = disk.create(&path.with_file_name(format!("{:020}.log", 900))).expect("the disk is whole");
        stray.write_at(&[IoSlice::new(b"stray")], 0).expect("the disk is whole");
        let before = disk.calls(Call::Write);
        disk.fail_after(Call::Write, n, Fault::Full);
        let opened = open(&disk).is_ok();
        let reached = disk.calls(Call::Write) > before + n;
        if !opened {
            disk.restart();
            assert!(open(&disk).is_ok(), "write {n}: there is room");
        }
        let kept = kept(&disk);
        assert!(kept.iter().any(|(_, content)| content == b"stray"), "write {n}");
        assert!(kept.iter().all(|(name, _)| name != "copy.new"), "write {n}");
        if !reached {
            assert!(n > 0, "a start writes something");
            break;
        }
    }
}

#[test]
fn what_many_partitions_are_cut_of_is_kept_with_little_work_for_each() {
    let work = |partitions: u8| {
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = open(&disk).expect("it opens");
        for n in 0..partitions {
            run(&mut log, Op::Append { partition: partition(n), batch: batch(0, 1, 1, 100, 0) });
        }
        let cuts: Vec<_> = (0..partitions).map(|n| (partition(n), Offset(0))).collect();
        let before = (disk.calls(Call::Open), disk.operations());
        log.set_aside(&cuts).expect("the disk is whole");
        let took = (disk.calls(Call::Open) - before.0, disk.operations() - before.1);
        assert_eq!(kept(&disk).len(), usize::from(partitions));
        took
    };
    let (few, many) = (work(10), work(100));
    // To rename the file and to sync its folder. All are together in one that is synced once.
    assert!(many.0 <= few.0 + 90 && many.1 <= few.1 + 180, "{few:?}, {many:?}");
}

#[test]
fn copies_of_what_a_repair_cuts_off_are_kept_and_nothing_is_changed() {
    let (disk, contents) = damaged_in_front(1);
    let (mut log, _) = open(&disk).expect("it opens");
    let reader = log.reader();
    reader.copy_aside(partition(0), Offset(1), &|| true).expect("the disk goes on");
    let kept = kept(&disk);
    assert_eq!((&kept[1].1, &kept[2].1), (&contents[1], &contents[2]));
    assert_eq!(reader.read(partition(0), Offset(2), Offset(6), 10_000).expect("it is all there").len(), 2);
    run(&mut log, Op::Repair { partition: partition(0), to: Offset(1) });
    assert_eq!(reader.state(partition(0)).expect("it is there").end, Offset(1));
}

/// What it reads then may have been cut, or be whole.
#[test]
fn a_copy_that_nobody_waits_for_any_more_is_not_kept() {
    let (disk, _) = damaged_in_front(1);
    let (log, _) = open(&disk).expect("it opens");
    let before = kept(&disk).len();
    let asked = Cell::new(0);
    let goes_on = || {
        asked.set(asked.get() + 1);
        asked.get() < 2
    };
    let given_up = log.reader().copy_aside(partition(0), Offset(1), &goes_on);
    assert!(given_up.is_err(), "{given_up:?}");
    log.reader().copy_aside(partition(0), Offset(1), &|| false).expect("it does not begin");
    assert_eq!(kept(&disk).len(), before);
}

/// Counts warnings.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn who_reads_what_is_damaged_again_and_again_does_not_fill_the_log_of_the_process() {
    let (disk, path) = synced_partition();
    let (log, _) = open(&disk).expect("it opens");
    assert!(disk.flip_bit(&path, 1100, 3));
    let reader = log.reader();
    let warnings = Arc::new(AtomicUsize::new(0));
    let read = || assert!(reader.read(partition(0), Offset(10), Offset(20), 1).is_err());
    // Whoever comes to that line first decides for how long nobody asks whether it is wanted.
    read();
    tracing::subscriber::with_default(Warnings(Arc::clone(&warnings)), || {
        (0..1000).for_each(|_| read());
    });
    // At the first, and each time that there are twice as many.
    assert_eq!(warnings.load(Ordering::Relaxed), 9);
}
