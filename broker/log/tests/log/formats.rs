//! Formats have versions: what older brokers wrote is opened, and what a newer one wrote is refused by name.

use crate::common::{Model, PartitionModel, batch, content, partition, run, seal, tiny};
use chronik_core::ids::Offset;
use chronik_log::{Disk, DiskFile, Journal, Log, LogError, Op, RealDisk, SimulatedDisk};
use std::io::IoSlice;
use std::path::Path;

/// Copies a directory of `tests/fixtures` to where it may be changed.
fn fixture(name: &str) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("the disk is whole");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name), to.path());
    to
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("the disk is whole") {
        let (entry, to) = (
            entry.as_ref().expect("the disk is whole").path(),
            to.join(entry.as_ref().expect("the disk is whole").file_name()),
        );
        if entry.is_dir() {
            std::fs::create_dir(&to).expect("the disk is whole");
            copy(&entry, &to);
        } else {
            std::fs::copy(&entry, &to).expect("the disk is whole");
        }
    }
}

/// Ten records with offsets from `base`, as all batches in the fixtures are.
fn of_ten(base: i64, epoch: i32, bytes: usize) -> bytes::Bytes {
    batch(base, epoch, 10, bytes, base as u64).bytes().clone()
}

/// What `format-2` holds. Before its checkpoint six batches were written to partition 0 and one to each of 1 and 2;
/// after it partition 0 was cut back to offset 50 and went on, so did 1, 2 was deleted, and 3 began at offset 100.
fn in_format_2() -> Model {
    let mut batches: Vec<_> = (0..50).step_by(10).map(|base| of_ten(base, 1 + (base / 30) as i32, 1300)).collect();
    batches.push(of_ten(50, 5, 300));
    let second = vec![of_ten(0, 1, 100), of_ten(10, 2, 100)];
    let third = vec![of_ten(100, 3, 100)];
    let partitions = [(0, 0, 60, batches), (1, 0, 20, second), (3, 100, 110, third)];
    Model(
        partitions
            .map(|(n, start, end, batches)| {
                (partition(n), PartitionModel { start, end, batches, ..PartitionModel::default() })
            })
            .into(),
    )
}

#[test]
fn a_log_in_format_2_opens_with_all_that_it_holds_and_goes_on() {
    let dir = fixture("format-2");
    let (mut log, recovered) = Log::open(RealDisk, &dir.path().join("log"), tiny()).unwrap();
    assert!(!log.wal_lost());
    let mut model = Model::found(&log.reader(), &recovered);
    assert_eq!(model, in_format_2());
    let reader = log.reader();
    // Timestamps are not in it. (All are 0.)
    let stamps = || reader.segments(partition(0)).unwrap().iter().map(|s| s.max_timestamp).collect::<Vec<_>>();
    assert_eq!(stamps(), [None, None, None, Some(0)]);
    let found = reader.first_at_or_after(partition(0), 0, Offset(15), Offset(60)).unwrap();
    assert_eq!(found.map(|b| b.header().base_offset), Some(Offset(10)));
    assert!(reader.first_at_or_after(partition(0), 1, Offset(0), Offset(60)).unwrap().is_none());
    reader.measure(partition(0)).unwrap();
    assert_eq!(stamps(), [Some(0); 4]);

    let op = Op::Append { partition: partition(0), batch: batch(60, 6, 10, 300, 60) };
    run(&mut log, op.clone());
    model.apply(&op);
    drop(log);
    let (log, recovered) = Log::open(RealDisk, &dir.path().join("log"), tiny()).unwrap();
    assert_eq!(Model::found(&log.reader(), &recovered), model);
    assert_eq!(recovered[0].end, Offset(70));
}

#[test]
fn a_journal_in_format_2_opens_with_all_its_records_and_goes_on() {
    let fixture = fixture("format-2");
    let dir = fixture.path().join("metadata");
    let (mut journal, records) = Journal::open(RealDisk, &dir).unwrap();
    assert_eq!(records, [&b"vote"[..], b"entry 1", b"entry 2"]);
    journal.append(&[b"entry 3"]).unwrap();
    drop(journal);
    assert_eq!(Journal::open(RealDisk, &dir).unwrap().1.len(), 4);
}

/// Makes what stands at `from..to` of a file one of a version to come.
fn make_newer(disk: &SimulatedDisk, path: &Path, from: usize, to: usize) {
    let mut bytes = content(disk, path);
    let to = to.min(bytes.len());
    bytes[from + 3] = b'7';
    seal(&mut bytes[from..to]);
    disk.open(path).expect("the disk is whole").write_at(&[IoSlice::new(&bytes)], 0).expect("the disk is whole");
}

/// A log whose second round is not covered by its checkpoint, and a journal with two blocks.
fn written() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = Log::open(disk.clone(), Path::new("/d/log"), tiny()).expect("the disk is whole");
    for base in [0, 10] {
        run(&mut log, Op::Append { partition: partition(0), batch: batch(base, 1, 10, 100, 1) });
    }
    let (mut journal, _) = Journal::open(disk.clone(), Path::new("/d/metadata")).expect("the disk is whole");
    journal.append(&[b"vote"]).expect("the disk is whole");
    disk
}

fn refusal(disk: &SimulatedDisk) -> String {
    let log = Log::open(disk.clone(), Path::new("/d/log"), tiny()).map(drop);
    let journal = Journal::open(disk.clone(), Path::new("/d/metadata")).map(drop);
    let refused = log.err().or(journal.err()).expect("it opened");
    assert!(matches!(refused, LogError::NewerFormat { found: 7, .. }), "{refused}");
    refused.to_string()
}

#[test]
fn what_a_newer_broker_wrote_is_refused_with_the_versions_that_are_known_and_left_alone() {
    let wal = |disk: &SimulatedDisk| {
        let mut files = disk.files().into_iter().map(|(path, _)| path);
        files.rfind(|path| path.extension().is_some_and(|e| e == "wal")).unwrap()
    };
    // The block of the second round is the last of the chain: taken for none, it would be lost.
    for (path, from, to, format, newest) in [
        (Path::new("/d/log/checkpoint").to_path_buf(), 0, usize::MAX, "checkpoint", 4),
        (wal(&written()), 4096, 4096 + 64, "write-ahead log", 4),
        (Path::new("/d/metadata/journal").to_path_buf(), 0, 32, "journal", 3),
    ] {
        let disk = written();
        make_newer(&disk, &path, from, to);
        let under = Path::new(if format == "journal" { "/d/metadata" } else { "/d/log" });
        let contents = || {
            let files = disk.files().into_iter().map(|(path, _)| path);
            files.filter(|path| path.starts_with(under)).map(|path| content(&disk, &path)).collect::<Vec<_>>()
        };
        let before = contents();
        let told = refusal(&disk);
        let known = format!("is in version 7 of the {format}'s format, and this broker knows versions 2 to {newest}");
        assert!(told.contains(&known), "{told}");
        assert!(before == contents(), "{format}: something was changed");
    }
}

#[test]
fn a_flipped_bit_in_a_version_is_damage_and_no_newer_version() {
    for bit in 0..8 {
        let disk = written();
        assert!(disk.flip_bit(Path::new("/d/log/checkpoint"), 3, bit));
        let Err(refused) = Log::open(disk, Path::new("/d/log"), tiny()) else { panic!("bit {bit}: it opened") };
        assert!(matches!(refused, LogError::Corrupt { .. }), "bit {bit}: {refused}");
    }
}
