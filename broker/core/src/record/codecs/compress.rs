//! Compressing records, as Kafka's clients do it.

use crate::record::Compression;
use std::io::{self, Write as _};

/// What Kafka's Java clients write before blocks of snappy: snappy-java's magic, and its versions.
const SNAPPY_JAVA: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Bytes of a block of snappy before it is compressed.
const SNAPPY_BLOCK: usize = 32 << 10;
/// Kafka's default of `compression.zstd.level`.
const ZSTD_LEVEL: i32 = 3;

/// The body, compressed: snappy in snappy-java's framing, the others with their codecs' default levels.
pub(in crate::record) fn compress(codec: Compression, body: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Compression::None => Ok(body.to_vec()),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body)?;
            encoder.finish()
        }
        Compression::Snappy => {
            let mut out = SNAPPY_JAVA.to_vec();
            for block in body.chunks(SNAPPY_BLOCK) {
                let block = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
                out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                out.extend_from_slice(&block);
            }
            Ok(out)
        }
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(body)?;
            encoder.finish().map_err(io::Error::other)
        }
        Compression::Zstd => zstd::encode_all(body, ZSTD_LEVEL),
    }
}
