//! Formats have versions: what older brokers wrote is opened, and what a newer one wrote is refused by name.

use crate::common::{Model, PartitionModel, batch, partition, run, tiny};
use chronik_core::ids::Offset;
use chronik_log::{Journal, Log, Op, RealDisk};
use std::path::Path;

/// Copies a directory of `tests/fixtures` to where it may be changed.
fn fixture(name: &str) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name), to.path());
    to
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry, &to);
        } else {
            std::fs::copy(&entry, &to).unwrap();
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
    Model(partitions.map(|(n, start, end, batches)| (partition(n), PartitionModel { start, end, batches })).into())
}

#[test]
fn a_log_in_format_2_opens_with_all_that_it_holds_and_goes_on() {
    let dir = fixture("format-2");
    let (mut log, recovered) = Log::open(RealDisk, &dir.path().join("log"), tiny()).unwrap();
    assert!(!log.wal_lost());
    let mut model = Model::found(&log.reader(), &recovered);
    assert_eq!(model, in_format_2());

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
