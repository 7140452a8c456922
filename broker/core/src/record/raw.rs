//! The records inside a batch as bytes, for whoever writes some of them again.

use super::input::{Fault, Input as _, Slice, varint, varlong};
use super::walk::at;
use super::{BatchHeader, RecordBatch, WalkError};

/// A record, as it stands in a batch that was decompressed.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Its offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since 1970, as its producer gave it.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Whether it has a value; if not, it is a tombstone.
    pub has_value: bool,
    /// Kafka uses none of these.
    attributes: u8,
    /// All that comes after its timestamp.
    rest: &'a [u8],
}

impl RawRecord<'_> {
    /// Bytes that it takes in a batch, at most.
    pub fn encoded_len(&self) -> usize {
        2 * 10 + 1 + self.rest.len()
    }

    /// Appends it as it stands in a batch with that base timestamp.
    pub fn encode(&self, base_timestamp: i64, out: &mut Vec<u8>) {
        let mut delta = [0; 10];
        let delta = zigzag(self.timestamp.wrapping_sub(base_timestamp), &mut delta);
        let mut length = [0; 10];
        let length = zigzag((1 + delta.len() + self.rest.len()) as i64, &mut length);
        out.extend_from_slice(length);
        out.push(self.attributes);
        out.extend_from_slice(delta);
        out.extend_from_slice(self.rest);
    }
}

impl RecordBatch {
    /// The records in `body`, which is what [`Self::decompressed`] gave, one after the other: there may be one each few
    /// bytes, and together they would take many times as much. What cannot be read is the last one. `max_decompressed` is
    /// for the error.
    pub fn raw_records<'a>(
        &self,
        body: &'a [u8],
        max_decompressed: u64,
    ) -> impl Iterator<Item = Result<RawRecord<'a>, WalkError>> + use<'a> {
        let (header, count) = (*self.header(), self.header().record_count);
        let mut input = Slice::new(body);
        // `None` after the last one.
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let index = next.take()?;
            let found = if index < count { Some(record(&mut input, &header)) } else { input.finish().err().map(Err) };
            let found = found?.map_err(|fault| at(fault, index, max_decompressed));
            next = found.is_ok().then_some(index + 1);
            Some(found)
        })
    }
}

fn record<'a>(input: &mut Slice<'a>, header: &BatchHeader) -> Result<RawRecord<'a>, Fault> {
    let length = usize::try_from(varint(input)?).map_err(|_| Fault::Malformed("a negative length"))?;
    let all = input.take(length)?;
    let mut record = Slice::new(all);
    let attributes = record.byte()?;
    let timestamp = header
        .base_timestamp
        .checked_add(varlong(&mut record)?)
        .ok_or(Fault::Malformed("a timestamp of more than 64 bits"))?;
    let rest = &all[record.position() as usize..];
    let offset_delta = varint(&mut record)?;
    let key = nullable(&mut record)?;
    let has_value = nullable(&mut record)?.is_some();
    Ok(RawRecord { offset_delta, timestamp, key, has_value, attributes, rest })
}

/// Bytes with their length before them, where -1 stands for null.
fn nullable<'a>(input: &mut Slice<'a>) -> Result<Option<&'a [u8]>, Fault> {
    match varint(input)? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| Fault::Malformed("a negative length"))?;
            input.take(length).map(Some)
        }
    }
}

fn zigzag(value: i64, out: &mut [u8; 10]) -> &[u8] {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut len = 0;
    while rest >= 0x80 {
        out[len] = rest as u8 | 0x80;
        rest >>= 7;
        len += 1;
    }
    out[len] = rest as u8;
    &out[..=len]
}
