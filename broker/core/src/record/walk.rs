//! The records inside a batch, one after the other, without keeping them.

use super::codecs::{Decompress, Gzip, Lz4, Snappy, Zstd};
use super::header::{BatchHeader, Compression, HEADER_LEN};
use super::input::{Fault, Input, Slice, Stream, varint, varlong};
use super::{RecordBatch, TimestampType};
use crate::ids::Offset;
use std::ops::ControlFlow;

/// Bytes that a batch may decompress to which is not long itself.
pub const MAX_DECOMPRESSED: u64 = 256 << 20;
/// One that is long may decompress to this many times as much.
const FACTOR: u64 = 4;

/// Bytes that a batch of so many may decompress to: `least`, or some times what it has itself.
pub fn max_decompressed(least: u64, bytes: usize) -> u64 {
    least.max((bytes as u64).saturating_mul(FACTOR))
}

/// What a walk reports of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the batch, from 0.
    pub index: i32,
    /// Its offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since 1970, as the producer gave it; -1 for none.
    pub timestamp: i64,
    /// Whether it has a key, be it an empty one.
    pub has_key: bool,
}

/// Where a record is, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The record's offset.
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// Why the records of a batch cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// They are not what the format says.
    #[error("record {record} of the batch: {what}")]
    Malformed {
        /// The index of the record that could not be read; the count of records when what follows them is wrong.
        record: i32,
        /// What is wrong.
        what: &'static str,
    },
    /// They decompress to more than is allowed.
    #[error("the batch decompresses to more than {max} bytes")]
    TooLong {
        /// The limit, in bytes.
        max: u64,
    },
}

impl RecordBatch {
    /// Visits each record of the batch, checking that each is where and as long as it says and that nothing follows
    /// the last one. Stops early when `visit` breaks, and returns what it breaks with.
    ///
    /// What is compressed is decompressed in pieces, and given up beyond `max_decompressed` bytes.
    pub fn walk<B>(
        &self,
        max_decompressed: u64,
        visit: impl FnMut(Record) -> ControlFlow<B>,
    ) -> Result<Option<B>, WalkError> {
        let body = &self.bytes()[HEADER_LEN..];
        let header = self.header();
        let max = max_decompressed;
        let broken = |fault| at(fault, 0, max);
        match header.compression() {
            Some(Compression::None) => records(&mut Slice::new(body), header, max, visit),
            Some(Compression::Gzip) => stream(Gzip::new(body), header, max, visit),
            Some(Compression::Snappy) => stream(Snappy::new(body), header, max, visit),
            Some(Compression::Lz4) => stream(Lz4::new(body).map_err(broken)?, header, max, visit),
            Some(Compression::Zstd) => stream(Zstd::new(body).map_err(broken)?, header, max, visit),
            None => Err(broken(Fault::Malformed("unknown compression type"))),
        }
    }

    /// The batch's first record from that offset on whose timestamp is at least that, in milliseconds since 1970.
    pub fn first_at_or_after(
        &self,
        timestamp: i64,
        from: Offset,
        max_decompressed: u64,
    ) -> Result<Option<Stamp>, WalkError> {
        let header = self.header();
        if header.record_count == 0 || header.end_offset() <= from {
            return Ok(None);
        }
        let appended = (header.timestamp_type() == TimestampType::LogAppendTime).then_some(header.max_timestamp);
        match appended {
            Some(at) if at < timestamp => return Ok(None),
            Some(at) if header.base_offset >= from => {
                return Ok(Some(Stamp { offset: header.base_offset, timestamp: at }));
            }
            _ => {}
        }
        self.walk(max_decompressed, |record| {
            let offset = header.base_offset.plus(i64::from(record.offset_delta));
            let stamp = Stamp { offset, timestamp: appended.unwrap_or(record.timestamp) };
            if offset < from || stamp.timestamp < timestamp {
                return ControlFlow::Continue(());
            }
            ControlFlow::Break(stamp)
        })
    }

    /// Of the batch's records from that offset on, the first with the greatest timestamp.
    pub fn greatest_from(&self, from: Offset, max_decompressed: u64) -> Result<Option<Stamp>, WalkError> {
        let header = self.header();
        if header.timestamp_type() == TimestampType::LogAppendTime {
            return self.first_at_or_after(header.max_timestamp, from, max_decompressed);
        }
        let mut greatest: Option<Stamp> = None;
        self.walk(max_decompressed, |record| {
            let offset = header.base_offset.plus(i64::from(record.offset_delta));
            if offset >= from && greatest.is_none_or(|known| record.timestamp > known.timestamp) {
                greatest = Some(Stamp { offset, timestamp: record.timestamp });
            }
            ControlFlow::<()>::Continue(())
        })?;
        Ok(greatest)
    }
}

pub(super) fn at(fault: Fault, record: i32, max: u64) -> WalkError {
    match fault {
        Fault::Malformed(what) => WalkError::Malformed { record, what },
        Fault::TooLong => WalkError::TooLong { max },
    }
}

fn stream<B>(
    from: impl Decompress,
    header: &BatchHeader,
    max: u64,
    visit: impl FnMut(Record) -> ControlFlow<B>,
) -> Result<Option<B>, WalkError> {
    records(&mut Stream::new(from, max), header, max, visit)
}

fn records<I: Input, B>(
    input: &mut I,
    header: &BatchHeader,
    max: u64,
    mut visit: impl FnMut(Record) -> ControlFlow<B>,
) -> Result<Option<B>, WalkError> {
    for index in 0..header.record_count {
        let record = record(input, index, header.base_timestamp).map_err(|fault| at(fault, index, max))?;
        if let ControlFlow::Break(with) = visit(record) {
            return Ok(Some(with));
        }
    }
    input.finish().map_err(|fault| at(fault, header.record_count, max))?;
    Ok(None)
}

/// Reads one record: length, attributes, timestamp delta, offset delta, key, value, headers.
#[inline]
fn record<I: Input>(input: &mut I, index: i32, base_timestamp: i64) -> Result<Record, Fault> {
    let length = u64::try_from(varint(input)?).map_err(|_| Fault::Malformed("a negative length"))?;
    if !input.may_have(length) {
        return Err(Fault::Malformed("it is longer than what is left of the batch"));
    }
    let end = input.position() + length;
    // Kafka uses none of a record's attributes.
    input.byte()?;
    let timestamp =
        base_timestamp.checked_add(varlong(input)?).ok_or(Fault::Malformed("a timestamp of more than 64 bits"))?;
    let offset_delta = varint(input)?;
    let has_key = nullable(input, end)?;
    nullable(input, end)?;
    let headers = varint(input)?;
    if headers != 0 {
        skip_headers(input, headers, end)?;
    }
    if input.position() != end {
        return Err(Fault::Malformed("its parts are not as long as the whole"));
    }
    Ok(Record { index, offset_delta, timestamp, has_key })
}

/// Passes over bytes with their length before them, where -1 stands for null. Whether there are any.
#[inline]
fn nullable<I: Input>(input: &mut I, end: u64) -> Result<bool, Fault> {
    let length = varint(input)?;
    if length < 0 {
        return if length == -1 { Ok(false) } else { Err(Fault::Malformed("a negative length")) };
    }
    skip(input, length as u64, end)?;
    Ok(true)
}

#[inline]
fn skip<I: Input>(input: &mut I, length: u64, end: u64) -> Result<(), Fault> {
    if input.position() + length > end {
        return Err(Fault::Malformed("one of its parts is longer than the whole"));
    }
    input.skip(length)
}

fn skip_headers<I: Input>(input: &mut I, count: i32, end: u64) -> Result<(), Fault> {
    let count = u64::try_from(count).map_err(|_| Fault::Malformed("a negative count of headers"))?;
    // A header has two bytes at least.
    if count * 2 > end.saturating_sub(input.position()) {
        return Err(Fault::Malformed("more headers than bytes for them"));
    }
    for _ in 0..count {
        let key = u64::try_from(varint(input)?).map_err(|_| Fault::Malformed("a header without a key"))?;
        skip(input, key, end)?;
        nullable(input, end)?;
    }
    Ok(())
}
