//! The records inside a batch with all that they hold, for a reader that shows them.

use super::codecs::{Decompress, Gzip, Lz4, Snappy, Zstd};
use super::header::{BatchHeader, COMPRESSION, Compression, HEADER_LEN};
use super::input::{Fault, Input as _, Slice, varint, varlong};
use super::walk::at;
use super::{RecordBatch, TimestampType, WalkError};
use crate::ids::Offset;
use bytes::Bytes;

/// A record and all that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its offset.
    pub offset: Offset,
    /// Milliseconds since 1970: the broker's where the batch says so, else the producer's.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers' keys and values.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl RecordBatch {
    /// The records of the batch, with what they hold. What is compressed is decompressed whole, and given up beyond
    /// `max_decompressed` bytes. A control batch's records are markers, which are returned like others.
    pub fn contents(&self, max_decompressed: u64) -> Result<Vec<Content>, WalkError> {
        let (header, max) = (self.header(), max_decompressed);
        let body = self.decompressed(max)?;
        let mut input = Slice::new(&body);
        let mut contents = Vec::new();
        for index in 0..header.record_count {
            contents.push(content(&mut input, &body, header).map_err(|fault| at(fault, index, max))?);
        }
        input.finish().map_err(|fault| at(fault, header.record_count, max))?;
        Ok(contents)
    }

    /// The records as they stand one after the other, decompressed whole, and given up beyond `max_decompressed` bytes.
    pub fn decompressed(&self, max_decompressed: u64) -> Result<Bytes, WalkError> {
        let max = max_decompressed;
        let body = self.bytes().slice(HEADER_LEN..);
        let broken = |fault| at(fault, 0, max);
        match self.header().compression() {
            Some(Compression::None) => Ok(body),
            Some(Compression::Gzip) => whole(Gzip::new(&body), max).map_err(broken),
            Some(Compression::Snappy) => whole(Snappy::new(&body), max).map_err(broken),
            Some(Compression::Lz4) => Lz4::new(&body).and_then(|from| whole(from, max)).map_err(broken),
            Some(Compression::Zstd) => Zstd::new(&body).and_then(|from| whole(from, max)).map_err(broken),
            None => Err(broken(Fault::Malformed("unknown compression type"))),
        }
    }

    /// The same records, compressed with that codec. What is so already is left alone.
    pub fn recompressed(self, codec: Compression, max_decompressed: u64) -> Result<Self, WalkError> {
        if self.header().compression() == Some(codec) {
            return Ok(self);
        }
        let body = self.decompressed(max_decompressed)?;
        let mut header = *self.header();
        header.attributes = header.attributes & !COMPRESSION | codec as i16;
        self.with_records(header, &body)
    }
}

fn whole(mut from: impl Decompress, max: u64) -> Result<Bytes, Fault> {
    let (mut all, mut piece) = (Vec::new(), Vec::new());
    loop {
        let left = max - all.len() as u64;
        let len = from.next(&mut piece, left)?;
        if len == 0 {
            return Ok(all.into());
        }
        if len as u64 > left {
            return Err(Fault::TooLong);
        }
        all.extend_from_slice(&piece[..len]);
    }
}

fn content(input: &mut Slice<'_>, body: &Bytes, header: &BatchHeader) -> Result<Content, Fault> {
    let length = usize::try_from(varint(input)?).map_err(|_| Fault::Malformed("a negative length"))?;
    let mut record = Slice::new(input.take(length)?);
    // Kafka uses none of a record's attributes.
    record.byte()?;
    let delta = varlong(&mut record)?;
    let timestamp = match header.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp,
        TimestampType::CreateTime => {
            header.base_timestamp.checked_add(delta).ok_or(Fault::Malformed("a timestamp of more than 64 bits"))?
        }
    };
    let offset = header.base_offset.plus(i64::from(varint(&mut record)?));
    let key = nullable(&mut record, body)?;
    let value = nullable(&mut record, body)?;
    let mut headers = Vec::new();
    for _ in 0..varint(&mut record)? {
        let name = nullable(&mut record, body)?.ok_or(Fault::Malformed("a header without a key"))?;
        headers.push((name, nullable(&mut record, body)?));
    }
    record.finish()?;
    Ok(Content { offset, timestamp, key, value, headers })
}

/// Bytes with their length before them, where -1 stands for null; a slice of the body.
fn nullable(input: &mut Slice<'_>, body: &Bytes) -> Result<Option<Bytes>, Fault> {
    match varint(input)? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| Fault::Malformed("a negative length"))?;
            Ok(Some(body.slice_ref(input.take(length)?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{batch_of, encoded, samples};
    use super::*;

    #[test]
    fn every_codec_gives_back_what_was_written_and_is_given_up_beyond_the_limit() {
        let written = samples(20, 5000);
        let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        for codec in codecs {
            let bytes = batch_of(codec, 20, &encoded(&written)).bytes();
            let batch = RecordBatch::check(Bytes::copy_from_slice(&bytes)).unwrap();
            let read = batch.contents(1 << 20).unwrap();
            assert_eq!(read.len(), written.len(), "{codec:?}");
            for (read, written) in read.iter().zip(&written) {
                assert_eq!(read.key.as_deref(), written.key.as_deref());
                assert_eq!(read.value.as_deref(), written.value.as_deref());
                assert_eq!(read.headers[0].0, written.headers[0].0);
            }
            if codec != Compression::None {
                assert!(batch.contents(4000).is_err(), "{codec:?}");
            }
        }
    }

    #[test]
    fn a_batch_can_be_compressed_in_another_way_and_says_the_same() {
        let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        let written = encoded(&samples(20, 5000));
        for from in codecs {
            for to in codecs {
                let bytes = batch_of(from, 20, &written).bytes();
                let batch = RecordBatch::check(Bytes::copy_from_slice(&bytes)).unwrap();
                let again = batch.clone().recompressed(to, 1 << 20).unwrap();
                let checked = RecordBatch::check(again.bytes().clone()).unwrap();
                assert_eq!(checked.header(), again.header());
                assert_eq!(checked.header().compression(), Some(to), "{from:?}");
                assert_eq!(checked.contents(1 << 20), batch.contents(1 << 20), "{from:?} to {to:?}");
                assert_eq!(checked.header().record_count, 20);
                if from != Compression::None && to != from {
                    assert!(batch.recompressed(to, 4000).is_err(), "{from:?} to {to:?}");
                }
            }
        }
    }
}
