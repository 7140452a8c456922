//! Batches for tests whose records can be read, and their compression as clients do it.

use super::Compression;
use super::testing::BatchBuilder;

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Relative to the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Relative to the batch's base offset.
    pub offset_delta: i32,
    /// `None` is null.
    pub key: Option<Vec<u8>>,
    /// `None` is null.
    pub value: Option<Vec<u8>>,
    /// Keys and values.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Sample {
    /// Appends it as it stands in a batch.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = vec![0];
        varint(self.timestamp_delta, &mut body);
        varint(i64::from(self.offset_delta), &mut body);
        for part in [&self.key, &self.value] {
            nullable(part.as_deref(), &mut body);
        }
        varint(self.headers.len() as i64, &mut body);
        for (key, value) in &self.headers {
            nullable(Some(key), &mut body);
            nullable(value.as_deref(), &mut body);
        }
        varint(body.len() as i64, out);
        out.extend_from_slice(&body);
    }
}

/// So many records with a key, a value and a header, a millisecond apart.
pub fn samples(count: i32, value_len: usize) -> Vec<Sample> {
    let one = |n: i32| Sample {
        timestamp_delta: i64::from(n),
        offset_delta: n,
        key: Some(n.to_string().into_bytes()),
        value: Some((0..value_len).map(|i| (i % 61) as u8 + b'A').collect()),
        headers: vec![(b"h".to_vec(), Some(b"x".to_vec()))],
    };
    (0..count).map(one).collect()
}

/// The records as they stand in a batch that is not compressed.
pub fn encoded(records: &[Sample]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        record.encode(&mut out);
    }
    out
}

/// A batch of `count` records whose body has exactly `len` bytes, or as many bytes of nonsense if they are too few.
pub fn filled(count: i32, len: usize) -> BatchBuilder {
    const EMPTY: usize = 7;
    let mut body = Vec::new();
    for n in 0..count.saturating_sub(1) {
        Sample { offset_delta: n, ..Sample::default() }.encode(&mut body);
    }
    // The last one takes the rest. Its lengths are written with as many bytes as the greatest would need.
    let mut offset_delta = Vec::new();
    varint(i64::from(count - 1), &mut offset_delta);
    let wide = 5;
    let fixed = wide + 2 + offset_delta.len() + 1 + wide + 1;
    match len.checked_sub(body.len() + fixed) {
        Some(value) => {
            wide_varint(value + fixed - wide, &mut body);
            body.extend_from_slice(&[0, 0]);
            body.extend_from_slice(&offset_delta);
            body.push(1);
            wide_varint(value, &mut body);
            body.resize(body.len() + value, b'x');
            body.push(0);
        }
        // A value of a few bytes, with lengths of one byte.
        None if len >= body.len() + EMPTY + offset_delta.len() - 1 => {
            let value = len - (body.len() + EMPTY + offset_delta.len() - 1);
            let last = Sample { offset_delta: count - 1, value: Some(vec![b'x'; value]), ..Sample::default() };
            last.encode(&mut body);
        }
        None => body = vec![b'x'; len],
    }
    BatchBuilder::new(count).records(&body)
}

/// Compresses a body as clients do: snappy in snappy-java's framing, in blocks of 32 KiB.
pub fn compressed(codec: Compression, body: &[u8]) -> Vec<u8> {
    super::codecs::compress(codec, body).expect("into memory")
}

/// A batch of that many records with those bytes for them, compressed.
pub fn batch_of(codec: Compression, count: i32, body: &[u8]) -> BatchBuilder {
    BatchBuilder::new(count).with(22, &[codec as u8]).records(&compressed(codec, body))
}

fn nullable(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    varint(bytes.map_or(-1, |b| b.len() as i64), out);
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// A zigzag varint.
pub fn varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A varint of five bytes whatever its value.
fn wide_varint(value: usize, out: &mut Vec<u8>) {
    let zigzag = (value as u64) << 1;
    for n in 0..5 {
        out.push((zigzag >> (7 * n)) as u8 & 0x7f | if n < 4 { 0x80 } else { 0 });
    }
}
