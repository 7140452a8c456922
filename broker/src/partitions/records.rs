//! The records inside a batch: decompressed as a stream, and only when a question cannot be answered from the
//! batch's header.

use chronik_core::ids::Offset;
use chronik_core::record::{Compression, HEADER_LEN, RecordBatch, TimestampType};
use std::io::{self, Read};

/// Where a record is, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) offset: Offset,
    /// Milliseconds since 1970.
    pub(super) timestamp: i64,
}

/// The batch's first record whose timestamp is at least that, in milliseconds since 1970.
pub(super) fn first_at_or_after(batch: &RecordBatch, timestamp: i64) -> io::Result<Option<Stamp>> {
    let header = batch.header();
    if header.timestamp_type() == TimestampType::LogAppendTime {
        let stamp = Stamp { offset: header.base_offset, timestamp: header.max_timestamp };
        return Ok((stamp.timestamp >= timestamp).then_some(stamp));
    }
    let mut records = decompressed(batch)?;
    for _ in 0..header.record_count {
        let length = u64::try_from(varint(&mut records)?).map_err(|_| malformed("negative record length"))?;
        let mut record = records.by_ref().take(length);
        let mut attributes = [0];
        record.read_exact(&mut attributes)?;
        let timestamp_delta = varint(&mut record)?;
        let offset_delta = varint(&mut record)?;
        io::copy(&mut record, &mut io::sink())?;
        let stamp = Stamp {
            offset: header.base_offset.plus(offset_delta),
            timestamp: header.base_timestamp.saturating_add(timestamp_delta),
        };
        if stamp.timestamp >= timestamp {
            return Ok(Some(stamp));
        }
    }
    Ok(None)
}

fn decompressed(batch: &RecordBatch) -> io::Result<Box<dyn Read + '_>> {
    let body = &batch.bytes()[HEADER_LEN..];
    Ok(match batch.header().compression() {
        Some(Compression::None) => Box::new(body),
        Some(Compression::Gzip) => Box::new(flate2::read::GzDecoder::new(body)),
        Some(Compression::Snappy) => Box::new(io::Cursor::new(snappy(body)?)),
        Some(Compression::Lz4) => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        Some(Compression::Zstd) => Box::new(ruzstd::decoding::StreamingDecoder::new(body).map_err(io::Error::other)?),
        None => return Err(malformed("unknown compression")),
    })
}

/// Snappy comes in blocks, with the framing of snappy-java or as one bare block.
fn snappy(body: &[u8]) -> io::Result<Vec<u8>> {
    const MAGIC: &[u8] = b"\x82SNAPPY\0";
    const FRAMING_LEN: usize = 16;
    if !body.starts_with(MAGIC) || body.len() < FRAMING_LEN {
        return snappy_block(body);
    }
    let mut rest = &body[FRAMING_LEN..];
    let mut all = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let block = after.get(..length).ok_or_else(|| malformed("snappy block ends early"))?;
        all.extend(snappy_block(block)?);
        rest = &after[length..];
    }
    Ok(all)
}

fn snappy_block(block: &[u8]) -> io::Result<Vec<u8>> {
    // Three bytes make at most 64, so a longer claim is a lie that would cost memory.
    let claimed = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    if claimed > block.len().saturating_mul(22).saturating_add(64) {
        return Err(malformed("snappy block claims an impossible length"));
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(io::Error::other)
}

/// A zigzag varint of up to 64 bits.
fn varint(from: &mut impl Read) -> io::Result<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte[0] & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(malformed("varint too long"))
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::records::{
        Compression as Codec, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
        RecordBatchEncoder, RecordEncodeOptions, TimestampType as Clock,
    };

    fn batch(codec: Codec) -> RecordBatch {
        let records: Vec<Record> = [100, 105, 103, 200]
            .iter()
            .enumerate()
            .map(|(i, timestamp)| Record {
                transactional: false,
                control: false,
                partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
                producer_id: NO_PRODUCER_ID,
                producer_epoch: NO_PRODUCER_EPOCH,
                timestamp_type: Clock::Creation,
                offset: i as i64,
                sequence: NO_SEQUENCE + i as i32,
                timestamp: *timestamp,
                key: None,
                value: Some(Bytes::from(vec![b'x'; 300])),
                headers: kafka_protocol::indexmap::IndexMap::default(),
                delete_horizon: false,
            })
            .collect();
        let mut out = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: codec };
        RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
        RecordBatch::check(out.freeze()).unwrap()
    }

    #[test]
    fn a_record_is_found_by_its_time_whatever_the_compression() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batch = batch(codec);
            let find = |at| first_at_or_after(&batch, at).unwrap();
            assert_eq!(find(0), Some(Stamp { offset: Offset(0), timestamp: 100 }), "{codec:?}");
            assert_eq!(find(101), Some(Stamp { offset: Offset(1), timestamp: 105 }), "{codec:?}");
            assert_eq!(find(200), Some(Stamp { offset: Offset(3), timestamp: 200 }), "{codec:?}");
            assert_eq!(find(201), None, "{codec:?}");
        }
    }

    #[test]
    fn a_block_that_claims_more_than_it_can_hold_is_refused() {
        assert!(snappy(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).is_err());
    }

    #[test]
    fn numbers_of_any_size_are_read_and_endless_ones_refused() {
        assert_eq!(varint(&mut &[0x01][..]).unwrap(), -1);
        assert_eq!(varint(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..]).unwrap(), i64::MIN);
        assert!(varint(&mut &[0xff; 11][..]).is_err());
    }
}
