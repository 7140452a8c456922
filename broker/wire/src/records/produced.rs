//! Record batches as a producer makes them.

use super::RecordError;
use super::batch::{CRC_FROM, LOG_OVERHEAD, put_varint};
use bytes::{BufMut as _, Bytes, BytesMut};
use chronik_core::record::{HEADER_LEN, RecordBatch};

/// A record that is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in this order. Keys are UTF-8 by Kafka's rule; brokers do not look.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl NewRecord {
    /// Bytes that it takes in a batch, so many records behind the first one. A batch takes [`HEADER_LEN`] beside its
    /// records.
    pub fn len_in_batch(&self, offset_delta: i64) -> usize {
        let body = self.body_len(offset_delta);
        varint_len(body as i64) + body
    }

    fn body_len(&self, offset_delta: i64) -> usize {
        let nullable = |bytes: Option<&Bytes>| bytes.map_or(varint_len(-1), |b| varint_len(b.len() as i64) + b.len());
        let headers = self.headers.iter().map(|(key, value)| nullable(Some(key)) + nullable(value.as_ref()));
        2 + varint_len(offset_delta)
            + nullable(self.key.as_ref())
            + nullable(self.value.as_ref())
            + varint_len(self.headers.len() as i64)
            + headers.sum::<usize>()
    }
}

/// Bytes of a number in zigzag encoding: seven bits each.
fn varint_len(value: i64) -> usize {
    let value = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// An idempotent producer, and where in its sequence a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// What InitProducerId gave.
    pub id: i64,
    /// The epoch that came with it.
    pub epoch: i16,
    /// The sequence number of the batch's first record.
    pub sequence: i32,
}

/// Makes one batch of these records, of which there must be one at least, without compression. All have the same
/// timestamp, in milliseconds since 1970.
pub fn produced_batch(
    records: &[NewRecord],
    timestamp_ms: i64,
    producer: Producer,
) -> Result<RecordBatch, RecordError> {
    let last = records.len().checked_sub(1).and_then(|n| i32::try_from(n).ok());
    let last = last.ok_or(RecordError::TooLong(records.len()))?;
    let mut b = BytesMut::with_capacity(HEADER_LEN + 64);
    b.put_i64(0);
    b.put_i32(0);
    b.put_i32(-1);
    b.put_i8(2);
    b.put_u32(0);
    b.put_i16(0);
    b.put_i32(last);
    b.put_i64(timestamp_ms);
    b.put_i64(timestamp_ms);
    b.put_i64(producer.id);
    b.put_i16(producer.epoch);
    b.put_i32(producer.sequence);
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

fn put_record(out: &mut BytesMut, offset_delta: i64, record: &NewRecord) {
    let mut body = BytesMut::new();
    // Attributes, of which there are none, and the difference to the batch's timestamp.
    body.put_slice(&[0, 0]);
    put_varint(&mut body, offset_delta);
    put_nullable(&mut body, record.key.as_deref());
    put_nullable(&mut body, record.value.as_deref());
    put_varint(&mut body, record.headers.len() as i64);
    for (key, value) in &record.headers {
        put_nullable(&mut body, Some(key));
        put_nullable(&mut body, value.as_deref());
    }
    put_varint(out, body.len() as i64);
    out.put_slice(&body);
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |b| b.len() as i64));
    out.put_slice(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_producer_writes_is_what_a_consumer_reads() {
        let records = [
            NewRecord { key: Some("k".into()), value: Some("v".into()), headers: vec![("h".into(), None)] },
            NewRecord { value: Some(vec![b'x'; 300].into()), ..NewRecord::default() },
            NewRecord { key: Some("gone".into()), ..NewRecord::default() },
        ];
        let batch = produced_batch(&records, 77, Producer { id: 5, epoch: 1, sequence: 9 }).unwrap();
        assert_eq!((batch.header().producer_id.map(|id| id.0), batch.header().base_sequence), (Some(5), 9));
        let read = batch.contents(1 << 20).unwrap();
        for ((record, content), offset) in records.iter().zip(&read).zip(0..) {
            assert_eq!((&record.key, &record.value), (&content.key, &content.value));
            assert_eq!((content.offset.0, content.timestamp), (offset, 77));
        }
        assert_eq!(read[0].headers, [("h".into(), None)]);
        assert_eq!(read.len(), 3);
        assert!(produced_batch(&[], 0, Producer { id: -1, epoch: -1, sequence: -1 }).is_err());
    }

    #[test]
    fn a_records_length_is_known_before_it_is_written() {
        for len in [0, 1, 63, 64, 8191, 8192, 20_000] {
            let bytes = || Some(Bytes::from(vec![b'x'; len]));
            let headers = vec![(Bytes::from("h"), bytes()), (Bytes::from("none"), None)];
            let record = NewRecord { key: None, value: bytes(), headers };
            let tombstone = NewRecord { key: bytes(), ..NewRecord::default() };
            for (delta, record) in [(0, &record), (63, &record), (64, &tombstone), (1 << 30, &tombstone)] {
                let mut out = BytesMut::new();
                put_record(&mut out, delta, record);
                assert_eq!(record.len_in_batch(delta), out.len(), "{len} bytes at {delta}");
            }
        }
        let records = vec![NewRecord { value: Some("v".into()), ..NewRecord::default() }; 200];
        let batch = produced_batch(&records, 0, Producer { id: 1, epoch: 0, sequence: 0 }).unwrap();
        let len: usize = records.iter().zip(0..).map(|(record, delta)| record.len_in_batch(delta)).sum();
        assert_eq!(batch.header().total_len as usize, HEADER_LEN + len);
    }
}
