//! Bytes that producers and clients chose never pass for the log's own, however well they are placed.

use crate::common::{batch, content, partition, run, seal, tiny};
use chronik_core::ids::{LeaderEpoch, Offset};
use chronik_core::record::RecordBatch;
use chronik_log::{Disk, DiskFile, Journal, Log, LogError, Op, Options, RecoveredPartition, SimulatedDisk};
use std::io::IoSlice;
use std::path::{Path, PathBuf};

const DIR: &str = "/broker/data";
/// Where blocks may start.
const PAGE: usize = 4096;
/// Bytes of a block before the records of its first batch.
const BEFORE_RECORDS: usize = 64 + 32 + 61;

fn options() -> Options {
    Options { wal_segment_bytes: 64 * 1024, ..tiny() }
}

fn open(disk: &SimulatedDisk) -> Result<(Log<SimulatedDisk>, Vec<RecoveredPartition>), LogError> {
    Log::open(disk.clone(), Path::new(DIR), options())
}

fn wal_segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let wal = |path: &PathBuf| path.extension().is_some_and(|e| e == "wal");
    disk.files().into_iter().map(|(path, _)| path).filter(wal).collect()
}

fn number(segment: &Path) -> u64 {
    let name = segment.file_stem().expect("it has a name").to_string_lossy();
    u64::from_str_radix(&name, 16).expect("it is a number")
}

/// What somebody can make of everything that is known of a log but its nonce: a header like `real`, with these
/// fields, and what is not known as zeroes.
fn forged_header(real: &[u8], fields: &[(usize, u64)]) -> Vec<u8> {
    let mut header = real[..64].to_vec();
    for (at, value) in fields {
        header[*at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    header[52..64].fill(0);
    seal(&mut header);
    header
}

/// The fields of a block's header.
const LSN: usize = 16;
const SYNCED: usize = 24;
const SEGMENT: usize = 32;
const RUN: usize = 40;

fn batch_of(base: i64, records: &[u8]) -> RecordBatch {
    let mut bytes = batch(base, 1, 1, records.len(), 0).bytes().to_vec();
    bytes[61..].copy_from_slice(records);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::check(bytes.into()).expect("a valid batch").assign(Offset(base), LeaderEpoch(1))
}

fn write(log: &mut Log<SimulatedDisk>, base: i64, records: &[u8]) {
    run(log, Op::Append { partition: partition(0), batch: batch_of(base, records) });
}

#[test]
fn records_that_look_like_blocks_do_not_keep_a_log_from_opening() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, 0, &[0]);
    let real = content(&disk, wal_segments(&disk).last().unwrap());
    // Each round fills a segment, but for its last page. Each page but the first claims to be of a segment that this file may become
    // when it is used again, of a run to come, written when everything was synced.
    let mut end = 1;
    for round in 0..20 {
        let now = wal_segments(&disk).iter().map(|path| number(path)).max().unwrap();
        let mut records = vec![0; 14 * PAGE];
        for page in 1..14 {
            let fields = [(SEGMENT, now + 1 + page as u64 + round % 2), (RUN, u64::MAX), (SYNCED, u64::MAX)];
            let at = page * PAGE - BEFORE_RECORDS;
            records[at..at + 64].copy_from_slice(&forged_header(&real, &fields));
        }
        write(&mut log, end, &records);
        end += 1;
    }
    // Small rounds leave most of what the segments held before.
    let before = wal_segments(&disk).iter().map(|path| number(path)).max().unwrap();
    while wal_segments(&disk).iter().map(|path| number(path)).max().unwrap() < before + 4 {
        write(&mut log, end, &[1; 100]);
        end += 1;
        let claims = |path: &PathBuf| {
            let pages = content(&disk, path);
            pages.chunks(PAGE).any(|p| p[RUN..RUN + 8] == [255; 8] && p[SEGMENT] == number(path) as u8)
        };
        let forged = wal_segments(&disk).iter().any(claims);
        if forged {
            // As a killed process leaves it.
            disk.restart();
            let (log, recovered) = open(&disk).expect("records are not damage");
            assert_eq!(recovered[0].end, Offset(end));
            assert!(!log.wal_lost());
            return;
        }
    }
    panic!("no segment was used again that holds what was forged for it");
}

#[test]
fn a_forged_block_right_behind_the_end_is_not_replayed() {
    let disk = SimulatedDisk::new(2);
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, 0, &[7; 100]);
    let path = wal_segments(&disk).pop().unwrap();
    let real = content(&disk, &path);
    let lsn = u64::from_le_bytes(real[LSN..LSN + 8].try_into().unwrap());
    drop(log);
    // The same operation again, for the next offset.
    let mut forged = real[..PAGE].to_vec();
    let base = batch_of(1, &[7; 100]);
    forged[96..96 + base.bytes().len()].copy_from_slice(base.bytes());
    let payload = u32::from_le_bytes(real[8..12].try_into().unwrap()) as usize;
    let crc = crc32c::crc32c(&forged[64..64 + payload]);
    forged[12..16].copy_from_slice(&crc.to_le_bytes());
    let header = forged_header(&forged, &[(LSN, lsn + PAGE as u64), (SYNCED, lsn + PAGE as u64)]);
    forged[..64].copy_from_slice(&header);
    disk.open(&path).unwrap().write_at(&[IoSlice::new(&forged)], PAGE as u64).unwrap();
    let (log, recovered) = open(&disk).unwrap();
    assert_eq!(recovered[0].end, Offset(1));
    assert!(!log.wal_lost());
}

#[test]
fn a_record_that_looks_like_a_block_does_not_keep_a_journal_from_opening() {
    let (disk, dir) = (SimulatedDisk::new(3), Path::new("/broker/metadata"));
    let (mut journal, _) = Journal::open(disk.clone(), dir).unwrap();
    journal.append(&[b"one"]).unwrap();
    let real = content(&disk, &dir.join("journal"));
    // A record in which each place where a block may start claims to be one of the file's first generation, which was
    // written long after.
    let mut header = real[..32].to_vec();
    header[8..16].fill(0);
    header[16..24].copy_from_slice(&1000u64.to_le_bytes());
    seal(&mut header);
    let mut record = vec![0; 8 * 512];
    for at in (512 - 36..record.len() - 32).step_by(512) {
        record[at..at + 32].copy_from_slice(&header);
    }
    journal.append(&[&record]).unwrap();
    drop(journal);
    // Its block is torn, and so nothing was written behind it.
    assert!(disk.flip_bit(&dir.join("journal"), 1024 + 5, 1));
    assert!(disk.flip_bit(&dir.join("journal"), 1024 + 9 * 512 + 5, 1));
    let (_, records) = Journal::open(disk, dir).expect("a torn block is no damage");
    assert_eq!(records, [&b"one"[..]]);
}
