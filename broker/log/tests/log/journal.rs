//! The journal holds what it said is durable, whatever the disk does.

use chronik_log::{Call, Disk, Fault, Journal, LogError, RealDisk, SimulatedDisk};
use std::path::Path;

const DIR: &str = "/broker/metadata";

fn open(disk: &SimulatedDisk) -> Result<(Journal<SimulatedDisk>, Vec<Vec<u8>>), LogError> {
    let (journal, records) = Journal::open(disk.clone(), Path::new(DIR))?;
    Ok((journal, records.iter().map(|r| r.to_vec()).collect()))
}

fn refs(records: &[Vec<u8>]) -> Vec<&[u8]> {
    records.iter().map(Vec::as_slice).collect()
}

/// What the journal must hold: `durable`, or, if the last call did not return, `attempted`.
#[derive(Clone, Default)]
struct Model {
    durable: Vec<Vec<u8>>,
    attempted: Option<Vec<Vec<u8>>>,
}

impl Model {
    fn check(&mut self, found: Vec<Vec<u8>>, when: &str) {
        let allowed = found == self.durable || self.attempted.as_ref() == Some(&found);
        assert!(allowed, "{when}: {} records where {} are durable", found.len(), self.durable.len());
        self.durable = found;
        self.attempted = None;
    }

    /// Appends of growing size, with a rewrite after every fifth, until the disk fails.
    fn work(&mut self, journal: &mut Journal<SimulatedDisk>, tag: u8) -> Result<(), LogError> {
        for i in 0..12u8 {
            let records: Vec<Vec<u8>> = (0..=i % 3).map(|k| vec![tag ^ i ^ k; usize::from(i) * 97 + 1]).collect();
            let rewrites = i % 5 == 4;
            let mut next =
                if rewrites { self.durable[self.durable.len() / 2..].to_vec() } else { self.durable.clone() };
            next.extend(records.clone());
            self.attempted = Some(next.clone());
            if rewrites {
                journal.rewrite(&refs(&next))?;
            } else {
                journal.append(&refs(&records))?;
            }
            self.durable = next;
            self.attempted = None;
        }
        Ok(())
    }
}

#[test]
fn every_crash_point_keeps_what_was_acknowledged() {
    for seed in 0..20 {
        for point in 0.. {
            let disk = SimulatedDisk::new(seed * 1000 + point);
            disk.crash_after(point);
            let mut model = Model::default();
            let first = open(&disk).and_then(|(mut journal, _)| model.work(&mut journal, 1));
            if first.is_ok() {
                assert!(point > 20, "the workload is long enough to mean something");
                break;
            }
            // A second crash soon after, and a third in the middle of the work that goes on.
            for (round, again) in [point % 4, 5 + point % 17, 1000].into_iter().enumerate() {
                disk.crash();
                disk.restart();
                disk.crash_after(again);
                let Ok((mut journal, records)) = open(&disk) else { continue };
                model.check(records, &format!("seed {seed} point {point} round {round}"));
                let _ = model.work(&mut journal, 100);
            }
            disk.crash();
            disk.restart();
            model.check(open(&disk).expect("it opens at last").1, &format!("seed {seed} point {point}, at last"));
        }
    }
}

#[test]
fn what_was_read_after_a_kill_survives_a_power_cut() {
    for seed in 0..200 {
        let disk = SimulatedDisk::new(seed);
        let (mut journal, _) = open(&disk).unwrap();
        journal.append(&[b"one"]).unwrap();
        // The process dies between write and sync: the bytes are in memory only.
        disk.kill_after(1);
        assert!(journal.append(&[b"two"]).is_err());
        drop(journal);
        disk.restart();
        let (journal, seen) = open(&disk).unwrap();
        assert_eq!(seen, [b"one".to_vec(), b"two".to_vec()]);
        drop(journal);
        disk.crash();
        disk.restart();
        assert_eq!(open(&disk).unwrap().1, seen);
    }
}

#[test]
fn a_failed_sync_is_final() {
    let disk = SimulatedDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    journal.append(&[b"one"]).unwrap();
    disk.fail_sync_after(0);
    assert!(matches!(journal.append(&[b"two"]), Err(LogError::Io { .. })));
    assert!(matches!(journal.append(&[b"three"]), Err(LogError::Poisoned)));
    assert!(matches!(journal.rewrite(&[]), Err(LogError::Poisoned)));
    drop(journal);
    disk.crash();
    disk.restart();
    assert_eq!(open(&disk).unwrap().1, [b"one".to_vec()]);
}

#[test]
fn a_rewrite_that_has_its_name_and_is_not_durable_is_final_also_for_want_of_room() {
    let disk = SimulatedDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    journal.append(&[b"one"]).unwrap();
    disk.fail_after(Call::SyncDir, 0, Fault::Full);
    let failed = journal.rewrite(&[b"two"]).unwrap_err();
    assert!(!failed.is_full(), "it is not to be tried again: {failed}");
    // It would go to the old file, which has no name.
    assert!(matches!(journal.append(&[b"three"]), Err(LogError::Poisoned)));
    drop(journal);
    assert_eq!(open(&disk).unwrap().1, [b"two".to_vec()]);
}

#[test]
fn a_flipped_bit_is_refused_in_the_last_block_too() {
    let path = Path::new(DIR).join("journal");
    let records: [&[u8]; 3] = [&[7; 700], &[8; 5], &[9; 600]];
    let make = || {
        let disk = SimulatedDisk::new(3);
        let (mut journal, _) = open(&disk).unwrap();
        for record in records {
            journal.append(&[record]).unwrap();
        }
        disk
    };
    // Blocks: the empty first one (512), 700 bytes (1024), 5 bytes (512), 600 bytes (1024), and what follows it.
    for byte in (0..3072 + 32).step_by(3) {
        let disk = make();
        assert!(disk.flip_bit(&path, byte, (byte % 8) as u8));
        match open(&disk) {
            // Between a block's payload and the next block there is padding that means nothing.
            Ok((_, found)) => assert!(is_padding(byte) && found == records, "byte {byte} was flipped unnoticed"),
            Err(LogError::Corrupt { .. }) => assert!(!is_padding(byte), "byte {byte} refused"),
            Err(other) => panic!("byte {byte}: {other}"),
        }
    }
}

fn is_padding(byte: u64) -> bool {
    [(32, 512), (512 + 736, 1536), (1536 + 41, 2048), (2048 + 636, 4096)]
        .iter()
        .any(|(from, to)| (*from..*to).contains(&byte))
}

#[test]
fn a_real_journal_comes_back_and_is_not_shared() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("a/b");
    let (mut journal, records) = Journal::open(RealDisk, &dir).unwrap();
    assert!(records.is_empty());
    journal.append(&[b"one", b""]).unwrap();
    journal.append(&[&vec![5; 200_000]]).unwrap();
    assert!(matches!(Journal::open(RealDisk, &dir), Err(LogError::Locked { .. })));
    drop(journal);
    let (mut journal, records) = Journal::open(RealDisk, &dir).unwrap();
    assert_eq!(records.iter().map(bytes::Bytes::len).collect::<Vec<_>>(), [3, 0, 200_000]);
    journal.rewrite(&[b"new"]).unwrap();
    journal.append(&[b"more"]).unwrap();
    drop(journal);
    assert_eq!(Journal::open(RealDisk, &dir).unwrap().1, [&b"new"[..], b"more"]);
    assert!(!RealDisk.exists(&dir.join("journal.new")).unwrap());
}

#[test]
fn what_was_read_after_a_failed_sync_survives_a_power_cut() {
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed);
        let (mut journal, _) = open(&disk).unwrap();
        journal.append(&[b"one"]).unwrap();
        disk.fail_sync_after(0);
        assert!(journal.append(&[b"two"]).is_err());
        drop(journal);
        // The process starts again, on a kernel that has the block in its page cache and believes it written.
        disk.restart();
        let (mut journal, seen) = open(&disk).unwrap();
        assert_eq!(seen, [b"one".to_vec(), b"two".to_vec()]);
        journal.append(&[b"three"]).unwrap();
        drop(journal);
        disk.crash();
        disk.restart();
        assert_eq!(open(&disk).unwrap().1, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()], "seed {seed}");
    }
}
