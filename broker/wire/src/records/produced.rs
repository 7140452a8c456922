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
}
