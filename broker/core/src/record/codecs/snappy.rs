//! Snappy: blocks in the framing of snappy-java, which Kafka's clients write, or one bare block.

use super::Decompress;
use crate::record::input::Fault;

/// The start of snappy-java's framing. Behind it are two version numbers, and blocks with their lengths before them.
const MAGIC: &[u8] = b"\x82SNAPPY\0";
const FRAMING_LEN: usize = 16;

/// The most that a block decompresses to: three bytes make 64 at most. A longer claim is a lie that would cost memory.
const MAX_RATIO: usize = 22;

/// A body compressed with snappy.
pub(in crate::record) struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
    decoder: snap::raw::Decoder,
}

impl<'a> Snappy<'a> {
    pub(in crate::record) fn new(body: &'a [u8]) -> Self {
        let framed = body.len() >= FRAMING_LEN && body.starts_with(MAGIC);
        let rest = if framed { &body[FRAMING_LEN..] } else { body };
        Self { rest, framed, decoder: snap::raw::Decoder::new() }
    }

    fn next_block(&mut self) -> Result<&'a [u8], Fault> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (length, after) =
            self.rest.split_first_chunk::<4>().ok_or(Fault::Malformed("a snappy block has no length"))?;
        let (block, rest) = after
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or(Fault::Malformed("a snappy block ends early"))?;
        self.rest = rest;
        Ok(block)
    }
}

impl Decompress for Snappy<'_> {
    fn next(&mut self, piece: &mut Vec<u8>, left: u64) -> Result<usize, Fault> {
        const BROKEN: Fault = Fault::Malformed("a snappy block is broken");
        while !self.rest.is_empty() {
            let block = self.next_block()?;
            let length = snap::raw::decompress_len(block).map_err(|_| BROKEN)?;
            if length > block.len().saturating_mul(MAX_RATIO).saturating_add(64) {
                return Err(Fault::Malformed("a snappy block claims an impossible length"));
            }
            if length as u64 > left {
                return Err(Fault::TooLong);
            }
            if piece.len() < length {
                piece.resize(length, 0);
            }
            let length = self.decoder.decompress(block, piece).map_err(|_| BROKEN)?;
            if length > 0 {
                return Ok(length);
            }
        }
        Ok(0)
    }
}
