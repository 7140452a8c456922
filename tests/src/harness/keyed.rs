//! Batches of many small records with keys, encoded as fast as a broker takes them. The record with the number n has the key
//! n modulo the number of keys, and n as its value, so that everybody knows the last value of every key.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Bytes of the header before what the checksum is of, and where the fields behind it begin.
const LENGTH_AT: usize = 8;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;

/// So many records from this number on, in one batch that is neither compressed nor idempotent.
pub fn batch(first: u64, count: u32, keys: u64, timestamp_ms: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + count as usize * 24);
    out.put_i64(0);
    out.put_i32(0);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_u32(count - 1);
    out.put_i64(timestamp_ms);
    out.put_i64(timestamp_ms);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_u32(count);
    for delta in 0..count {
        let number = first + u64::from(delta);
        let key = (number % keys).to_be_bytes();
        // What is as long in every record: attributes, time, two lengths, key, value and no headers.
        let rest = 5 + key.len() + 8;
        put_varint(&mut out, (rest + varint_len(delta)) as u32);
        out.put_i8(0);
        put_varint(&mut out, 0);
        put_varint(&mut out, delta);
        put_varint(&mut out, key.len() as u32);
        out.put_slice(&key);
        put_varint(&mut out, 8);
        out.put_u64(number);
        put_varint(&mut out, 0);
    }
    let length = (out.len() - LENGTH_AT - 4) as u32;
    out[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&out[ATTRIBUTES_AT..]);
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

/// The key and the number of a record of such a batch.
pub fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<(u64, u64)> {
    let number = |bytes: Option<&[u8]>| Some(u64::from_be_bytes(bytes?.try_into().ok()?));
    Some((number(key)?, number(value)?))
}

/// Zigzag, of what is not negative.
fn put_varint(out: &mut BytesMut, value: u32) {
    let mut left = value << 1;
    while left >= 0x80 {
        out.put_u8(left as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}

fn varint_len(value: u32) -> usize {
    (32 - (value << 1 | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;

    #[test]
    fn another_codec_reads_what_was_meant() {
        let (first, count, keys) = (1_000_000, 20_000, 300);
        let mut bytes = batch(first, count, keys, 77);
        let records = RecordBatchDecoder::decode(&mut bytes).unwrap().records;
        assert_eq!(records.len(), count as usize);
        for (n, record) in (0..).zip(records) {
            let found = parse(record.key.as_deref(), record.value.as_deref());
            assert_eq!(found, Some(((first + n) % keys, first + n)));
            assert_eq!((record.offset, record.timestamp), (n as i64, 77));
        }
    }
}
