//! Record batches (magic 2) of records with a key each, uncompressed.

use super::RecordError;
use bytes::{BufMut as _, Bytes, BytesMut};
use chronik_core::record::{Compression, HEADER_LEN, RecordBatch};

/// Where the bytes start that a batch's CRC covers.
pub(super) const CRC_FROM: usize = 21;
/// Bytes before those that the length field counts.
pub(super) const LOG_OVERHEAD: usize = 12;

/// A record's key, and its value unless it is a tombstone.
pub(super) type KeyValue = (Bytes, Option<Bytes>);

/// Makes one batch of these records, of which there must be one at least. All have the same timestamp, in milliseconds
/// since 1970.
pub fn build_batch(records: &[(Bytes, Option<Bytes>)], timestamp_ms: i64) -> Result<RecordBatch, RecordError> {
    let last = records.len().checked_sub(1).and_then(|n| i32::try_from(n).ok());
    let last = last.ok_or(RecordError::TooLong(records.len()))?;
    let mut b = BytesMut::with_capacity(HEADER_LEN + records.iter().map(record_len).sum::<usize>());
    b.put_i64(0);
    b.put_i32(0);
    b.put_i32(-1);
    b.put_i8(2);
    b.put_u32(0);
    b.put_i16(0);
    b.put_i32(last);
    b.put_i64(timestamp_ms);
    b.put_i64(timestamp_ms);
    // No producer id, epoch or sequence.
    b.put_i64(-1);
    b.put_i16(-1);
    b.put_i32(-1);
    b.put_i32(last + 1);
    for (delta, record) in (0..).zip(records) {
        put_record(&mut b, delta, record);
    }
    let length = i32::try_from(b.len() - LOG_OVERHEAD).map_err(|_| RecordError::TooLong(b.len()))?;
    b[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&b[CRC_FROM..]);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::check(b.freeze()).map_err(|_| RecordError::Batch("the batch that was just made is not one"))
}

/// An upper bound of a record's length.
fn record_len((key, value): &KeyValue) -> usize {
    const LENGTHS: usize = 5 + 1 + 1 + 5 + 5 + 5 + 1;
    LENGTHS + key.len() + value.as_ref().map_or(0, Bytes::len)
}

fn put_record(out: &mut BytesMut, offset_delta: i64, (key, value): &KeyValue) {
    let mut head = BytesMut::with_capacity(16);
    // Attributes, of which there are none, and the difference to the batch's timestamp.
    head.put_slice(&[0, 0]);
    put_varint(&mut head, offset_delta);
    put_varint(&mut head, key.len() as i64);
    let mut middle = BytesMut::with_capacity(8);
    put_varint(&mut middle, value.as_ref().map_or(-1, |v| v.len() as i64));
    let value = value.as_deref().unwrap_or_default();
    // One byte for the count of headers.
    put_varint(out, (head.len() + key.len() + middle.len() + value.len() + 1) as i64);
    out.put_slice(&head);
    out.put_slice(key);
    out.put_slice(&middle);
    out.put_slice(value);
    out.put_u8(0);
}

pub(super) fn put_varint(out: &mut BytesMut, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The records of a batch. Control batches have none for a reader.
pub fn records_of(batch: &RecordBatch) -> Result<BatchRecords, RecordError> {
    let header = batch.header();
    if header.is_control() {
        return Ok(BatchRecords { rest: Bytes::new(), left: 0 });
    }
    if header.compression() != Some(Compression::None) {
        return Err(RecordError::Batch("internal topics are not compressed"));
    }
    Ok(BatchRecords { rest: batch.bytes().slice(HEADER_LEN..), left: header.record_count })
}

/// Goes over a batch's records: key and value, as slices of the batch. Ends after the first error.
#[derive(Clone, Debug)]
pub struct BatchRecords {
    rest: Bytes,
    left: i32,
}

impl Iterator for BatchRecords {
    type Item = Result<(Option<Bytes>, Option<Bytes>), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let record = self.record().ok_or(RecordError::Batch("a record is longer than its batch"));
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

impl BatchRecords {
    fn record(&mut self) -> Option<(Option<Bytes>, Option<Bytes>)> {
        let len = usize::try_from(varint(&mut self.rest)?).ok()?;
        let mut record = split(&mut self.rest, len)?;
        let _attributes = split(&mut record, 1)?;
        let _timestamp = varint(&mut record)?;
        let _offset = varint(&mut record)?;
        // What follows are headers, which nothing here has a use for.
        Some((nullable(&mut record)?, nullable(&mut record)?))
    }
}

fn split(from: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= from.len()).then(|| from.split_to(len))
}

/// Bytes with their length before them; -1 stands for null.
#[expect(clippy::option_option, reason = "null is a value, and bytes that are too short have none")]
fn nullable(from: &mut Bytes) -> Option<Option<Bytes>> {
    match varint(from)? {
        -1 => Some(None),
        len => split(from, usize::try_from(len).ok()?).map(Some),
    }
}

fn varint(from: &mut Bytes) -> Option<i64> {
    let mut value = 0_u64;
    for (i, byte) in from.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let _ = from.split_to(i + 1);
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}
