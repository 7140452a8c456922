//! The compressions of record batches: each is decompressed as a stream in pieces of bounded length, and compressed whole.
//!
//! What is accepted is what Kafka's Java clients can read, as one of them may be the reader.

mod compress;
mod lz4;
mod snappy;

use super::input::Fault;
use std::io::Read;

pub(super) use compress::compress;
pub(super) use lz4::Lz4;
pub(super) use snappy::Snappy;

/// Bytes that gzip and zstd decompress at a time.
const PIECE: usize = 64 << 10;

/// A compressed body, decompressed in pieces.
pub(super) trait Decompress {
    /// Decompresses the next piece into the front of `piece`, which grows as needed, and returns its length: zero at
    /// the end, which must be the end of the body as well. May refuse a piece longer than `left` with
    /// [`Fault::TooLong`], where that saves decompressing it.
    fn next(&mut self, piece: &mut Vec<u8>, left: u64) -> Result<usize, Fault>;
}

/// Gzip, perhaps of several members, as Java's `GZIPInputStream` reads them.
pub(super) struct Gzip<'a>(flate2::bufread::MultiGzDecoder<&'a [u8]>);

impl<'a> Gzip<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self(flate2::bufread::MultiGzDecoder::new(body))
    }
}

impl Decompress for Gzip<'_> {
    fn next(&mut self, piece: &mut Vec<u8>, _left: u64) -> Result<usize, Fault> {
        piece.resize(PIECE, 0);
        self.0.read(piece).map_err(|_| Fault::Malformed("the gzip stream is broken"))
    }
}

/// Zstandard. The window that a frame may ask for is the library's default of 128 MiB, which is also that of Java's
/// clients; memory for it is used only as far as data is decompressed.
pub(super) struct Zstd<'a>(zstd::stream::read::Decoder<'static, &'a [u8]>);

impl<'a> Zstd<'a> {
    pub(super) fn new(body: &'a [u8]) -> Result<Self, Fault> {
        let decoder = zstd::stream::read::Decoder::with_buffer(body);
        decoder.map(Self).map_err(|_| Fault::Malformed("no memory for a zstd decoder"))
    }
}

impl Decompress for Zstd<'_> {
    fn next(&mut self, piece: &mut Vec<u8>, _left: u64) -> Result<usize, Fault> {
        piece.resize(PIECE, 0);
        self.0.read(piece).map_err(|_| Fault::Malformed("the zstd stream is broken"))
    }
}
