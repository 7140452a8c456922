//! What is found in a log that nobody has open.

use crate::common::{batch, partition, produced, run, stamped, tiny};
use chronik_core::ids::Offset;
use chronik_log::{Finding, Journal, Log, LogError, LoggedOperation, Op, Options, RealDisk, Verified};
use std::fs;
use std::path::{Path, PathBuf};

fn append(tp: u8, base: i64, id: i64) -> Op {
    let batch = batch(base, 1, 10, 1300, base as u64);
    Op::Append { partition: partition(tp), batch: produced(&batch, id, 0) }
}

/// A log of two partitions: one with segments, indexes, and a snapshot of producers in a file under its checkpoint, and
/// rounds behind it; and a journal.
fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("the disk is whole");
    let (mut log, _) = Log::open(RealDisk, &dir.path().join("log"), tiny()).expect("the disk is whole");
    for n in 0..30 {
        run(&mut log, append(0, n * 10, n));
    }
    log.checkpoint().expect("the disk is whole");
    for n in 0..3 {
        run(&mut log, append(1, n * 10, n));
    }
    drop(log);
    let (mut journal, _) = Journal::open(RealDisk, &dir.path().join("metadata")).expect("the disk is whole");
    for record in [b"one", b"two"] {
        journal.append(&[record]).expect("the disk is whole");
    }
    dir
}

fn verify(dir: &Path) -> Result<Verified, LogError> {
    chronik_log::verify(&RealDisk, &dir.join("log"), &dir.join("metadata"), &mut |done, total| assert!(done <= total))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("it is there") {
        let path = entry.expect("it is there").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[at as usize] ^= 16;
    fs::write(path, bytes).expect("the disk is whole");
}

#[test]
fn what_is_as_it_was_written_gives_no_findings_and_says_what_a_start_applies_again() {
    let dir = written();
    let before: Vec<_> = files(dir.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    let verified = verify(dir.path()).unwrap();
    assert_eq!(verified.findings, []);
    assert_eq!(verified.replay_operations, 3);
    let first = &verified.partitions[0];
    assert_eq!((first.partition, first.start, first.end, first.damaged), (partition(0), Offset(0), Offset(300), None));
    assert!(first.bytes > 30 * 1300);
    assert_eq!(verified.recovery, [""; 0]);
    let after: Vec<_> = files(dir.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before == after, "something was changed");

    let mut again = Vec::new();
    chronik_log::operations(&RealDisk, &dir.path().join("log"), |tp, op| again.push((tp, op))).unwrap();
    assert!(again.iter().all(|(tp, op)| *tp == partition(1) && matches!(op, LoggedOperation::Append(_))));
    assert_eq!(again.len(), 3);
}

#[test]
fn a_flipped_bit_in_any_kind_of_file_is_found_with_the_file_and_the_place() {
    let dir = written();
    let all = files(dir.path());
    let find = |what: &dyn Fn(&str) -> bool| {
        let name = |path: &PathBuf| path.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned();
        all.iter().find(|path| what(&name(path))).unwrap().clone()
    };
    let (first, second) = (partition(0).to_string(), partition(1).to_string());
    let segment = find(&|name| name.contains(&first) && name.ends_with("20.log"));
    let one = fs::metadata(&segment).unwrap().len() / 2;
    // The log of a partition that only the write-ahead log vouches for is not looked at: a start writes it anew.
    let unsynced = find(&|name| name.contains(&second) && name.ends_with("0.log"));
    let wal = all.iter().rfind(|path| path.extension().is_some_and(|e| e == "wal")).unwrap().clone();
    let index = find(&|name| name.contains(&first) && name.ends_with("0.index"));
    let cases = [
        (find(&|name| name == "log/checkpoint"), 50, Some(0)),
        (segment.clone(), 3, Some(0)),
        (segment.clone(), one / 2, Some(0)),
        (segment, one + 40, Some(one)),
        (index.clone(), 3, Some(0)),
        (index, 6, Some(0)),
        (find(&|name| name.ends_with(".snapshot")), 30, Some(0)),
        (find(&|name| name == "metadata/journal"), 10, Some(0)),
        (find(&|name| name == "metadata/journal"), 512 + 36, Some(512)),
        (find(&|name| name == "metadata/journal"), 1024 + 36, Some(1024)),
        (unsynced, 100, None),
    ];
    for (path, at, position) in cases {
        flip(&path, at);
        let found = verify(dir.path()).unwrap();
        let what = format!("{} at {at}: {found:?}", path.display());
        let place = |f: &Finding| (f.path.clone(), f.position);
        assert_eq!(
            found.findings.iter().map(place).collect::<Vec<_>>(),
            position.map(|p| (path.clone(), p)).into_iter().collect::<Vec<_>>(),
            "{what}"
        );
        flip(&path, at);
    }
    // Each block behind the checkpoint, the last one included.
    let number = u64::from_str_radix(wal.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
    // What a segment held before it was used again is none.
    let is_seal = |block: &[u8]| block[16..24] == [0xff; 8];
    let ours = |block: &[u8]| block[..3] == *b"CWB" && block[32..40] == number.to_le_bytes() && !is_seal(block);
    let blocks: Vec<u64> = {
        let bytes = fs::read(&wal).unwrap();
        (0..bytes.len()).step_by(4096).filter(|at| ours(&bytes[*at..])).map(|at| at as u64).collect()
    };
    for block in blocks.iter().rev().take(3) {
        for at in [block + 1, block + 17, block + 100] {
            flip(&wal, at);
            let found = verify(dir.path()).unwrap();
            assert!(
                found.findings.iter().any(|f| f.path == wal && f.position == *block),
                "block {block}, byte {at}: {found:?}"
            );
            assert!(!found.recovery.is_empty());
            flip(&wal, at);
        }
    }
}

#[test]
fn without_a_checkpoint_it_is_said_what_can_be_read_all_the_same() {
    let dir = written();
    let checkpoint = dir.path().join("log/checkpoint");
    let is_log = |path: &&PathBuf| path.extension().is_some_and(|e| e == "log");
    let segments: Vec<PathBuf> = files(dir.path()).iter().filter(is_log).cloned().collect();
    let second = partition(0).to_string();
    let of_first: Vec<&PathBuf> = segments.iter().filter(|path| path.to_string_lossy().contains(&second)).collect();
    flip(&checkpoint, 50);
    for missing in [false, true] {
        if missing {
            fs::remove_file(&checkpoint).unwrap();
        }
        let found = verify(dir.path()).unwrap();
        assert_eq!(found.findings.iter().map(|f| &f.path).collect::<Vec<_>>(), [&checkpoint]);
        let ends: Vec<_> = found.partitions.iter().map(|p| (p.partition, p.start.0, p.end.0, p.damaged)).collect();
        assert_eq!(ends, [(partition(0), 0, 300, None), (partition(1), 0, 30, None)]);
        assert!(found.partitions[0].bytes > 30 * 1300);
        assert!(found.recovery[0].contains("without its checkpoint"), "{:?}", found.recovery);

        // The second batch of the third file.
        let one = fs::metadata(of_first[2]).unwrap().len() / 2;
        flip(of_first[2], one + 40);
        let found = verify(dir.path()).unwrap();
        assert_eq!((&found.findings[1].path, found.findings[1].position), (of_first[2], one));
        assert_eq!(found.partitions[0].damaged, Some(Offset(50)));
        assert_eq!(found.partitions[0].end, Offset(300), "what is behind it can be read");
        flip(of_first[2], one + 40);
    }
    // Nothing at all is no damage but that of the checkpoint.
    fs::remove_dir_all(dir.path().join("log/partitions")).unwrap();
    let found = verify(dir.path()).unwrap();
    assert_eq!((found.findings.len(), found.partitions.len()), (1, 0));
}

#[test]
fn a_file_that_is_gone_or_short_is_found() {
    let dir = written();
    let segment = files(dir.path()).into_iter().find(|path| path.extension().is_some_and(|e| e == "log")).unwrap();
    let whole = fs::read(&segment).unwrap();
    for (left, position) in [(whole.len() / 2, whole.len() as u64 / 2), (1, 0)] {
        fs::write(&segment, &whole[..left]).unwrap();
        let found = verify(dir.path()).unwrap();
        assert_eq!((&found.findings[0].path, found.findings[0].position), (&segment, position), "{left} bytes");
        assert!(found.partitions[0].damaged.is_some());
        assert!(found.recovery.iter().any(|says| says.contains("cannot be read from offset")), "{:?}", found.recovery);
    }
    fs::remove_file(&segment).unwrap();
    assert_eq!(verify(dir.path()).unwrap().findings[0].detail, "it is missing");
}

#[test]
fn what_a_power_cut_has_lost_of_an_index_is_no_damage() {
    let dir = tempfile::tempdir().expect("the disk is whole");
    let dense = Options { segment_bytes: 20_000, index_interval_bytes: 100, index_from_bytes: 0, ..tiny() };
    let (mut log, _) = Log::open(RealDisk, &dir.path().join("log"), dense).expect("the disk is whole");
    for base in 0..20 {
        run(&mut log, Op::Append { partition: partition(0), batch: stamped(base, base, 150) });
    }
    log.checkpoint().expect("the disk is whole");
    drop(log);
    let is_index = |path: &PathBuf| path.extension().is_some_and(|e| e == "index");
    let index = files(dir.path()).into_iter().find(is_index).expect("it is long enough");
    let whole = fs::read(&index).expect("it is there");
    let slots = whole.len() / 8;
    assert!(slots > 40, "entries know times");
    let found = || verify(dir.path()).unwrap().findings;
    assert_eq!(found(), []);
    // Each way to lose some of its slots, and to lose its end.
    for first in 0..slots {
        for count in [1, 2, 3, 4, 6, slots].into_iter().filter(|count| first + count <= slots) {
            let mut left = whole.clone();
            left[first * 8..(first + count) * 8].fill(0);
            fs::write(&index, left).expect("the disk is whole");
            assert_eq!(found(), [], "{count} from slot {first} on");
        }
        fs::write(&index, &whole[..first * 8]).expect("the disk is whole");
        assert_eq!(found(), [], "{first} slots");
    }
    // What is left of it is looked at all the same.
    let mut left = whole;
    left[..64].fill(0);
    let last = (slots - 1) * 8;
    left[last + 6] ^= 1;
    fs::write(&index, left).expect("the disk is whole");
    assert_eq!(found().len(), 1);
}

#[test]
fn a_log_that_a_broker_has_open_is_left_alone() {
    let dir = written();
    let open = Log::open(RealDisk, &dir.path().join("log"), tiny()).unwrap();
    assert!(matches!(verify(dir.path()), Err(LogError::Locked { .. })));
    drop(open);
    verify(dir.path()).unwrap();
}

#[test]
fn what_was_cut_and_deleted_after_the_checkpoint_is_no_damage() {
    let dir = written();
    let (mut log, _) = Log::open(RealDisk, &dir.path().join("log"), tiny()).unwrap();
    run(&mut log, Op::Truncate { partition: partition(0), to: Offset(155) });
    run(&mut log, append(0, 150, 7));
    run(&mut log, Op::AdvanceStart { partition: partition(0), to: Offset(45) });
    run(&mut log, Op::Delete { partition: partition(1) });
    drop(log);
    let verified = verify(dir.path()).unwrap();
    assert_eq!(verified.findings, []);
    assert!(verified.recovery.iter().any(|says| says.contains("was deleted after the checkpoint")));
}
