//! One LZ4 frame of independent blocks: all that Kafka's Java clients read.
//!
//! Layout (little endian): magic 4, flags 1, block size 1, content size 8 if flagged, header checksum 1; then blocks
//! of length 4 and data, with a checksum of 4 if flagged; an end mark, and the content's checksum if flagged.

use super::Decompress;
use crate::record::input::Fault;
use std::hash::Hasher as _;
use twox_hash::XxHash32;

const MAGIC: u32 = 0x184d_2204;
/// In a block's length: its data is not compressed.
const STORED: u32 = 1 << 31;
/// The most that a byte of a block decompresses to.
const MAX_RATIO: usize = 255;

const ENDS_EARLY: Fault = Fault::Malformed("the lz4 frame ends early");

/// A body that is an LZ4 frame.
pub(in crate::record) struct Lz4<'a> {
    rest: &'a [u8],
    max_block: usize,
    block_checksums: bool,
    /// Of the content so far, if the frame carries one.
    checksum: Option<XxHash32>,
    /// Bytes that the header promises and that have not come yet.
    promised: Option<u64>,
    ended: bool,
}

impl<'a> Lz4<'a> {
    pub(in crate::record) fn new(body: &'a [u8]) -> Result<Self, Fault> {
        let mut rest = body;
        if u32_le(&mut rest)? != MAGIC {
            return Err(Fault::Malformed("no lz4 frame"));
        }
        let descriptor = rest;
        let [flags, block_size] = *take::<2>(&mut rest)?;
        // Version 1, no dictionary, and the reserved bit is zero.
        if flags & 0b1100_0011 != 0b0100_0000 {
            return Err(Fault::Malformed("the lz4 frame has flags that Kafka's clients do not read"));
        }
        if flags & 0b0010_0000 == 0 {
            return Err(Fault::Malformed("the lz4 frame has dependent blocks, which Kafka's clients do not read"));
        }
        let max_block = match block_size {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(Fault::Malformed("the lz4 frame has an unknown block size")),
        };
        let promised = if flags & 0b1000 == 0 { None } else { Some(u64::from_le_bytes(*take::<8>(&mut rest)?)) };
        let descriptor = &descriptor[..descriptor.len() - rest.len()];
        let [checksum] = *take::<1>(&mut rest)?;
        if checksum != (XxHash32::oneshot(0, descriptor) >> 8) as u8 {
            return Err(Fault::Malformed("the checksum of the lz4 frame's header is wrong"));
        }
        Ok(Self {
            rest,
            max_block,
            block_checksums: flags & 0b1_0000 != 0,
            checksum: (flags & 0b100 != 0).then(|| XxHash32::with_seed(0)),
            promised,
            ended: false,
        })
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.ended = true;
        if let Some(checksum) = &self.checksum
            && u64::from(u32_le(&mut self.rest)?) != checksum.finish()
        {
            return Err(Fault::Malformed("the checksum of the lz4 frame's content is wrong"));
        }
        if self.promised.is_some_and(|left| left > 0) {
            return Err(Fault::Malformed("the lz4 frame is shorter than it says"));
        }
        if !self.rest.is_empty() {
            return Err(Fault::Malformed("bytes follow the lz4 frame"));
        }
        Ok(())
    }

    /// Decompresses the next block; `None` at the end mark.
    fn block(&mut self, piece: &mut Vec<u8>) -> Result<Option<usize>, Fault> {
        let header = u32_le(&mut self.rest)?;
        let length = (header & !STORED) as usize;
        if length == 0 {
            self.end()?;
            return Ok(None);
        }
        if length > self.max_block {
            return Err(Fault::Malformed("an lz4 block is longer than its frame allows"));
        }
        let (block, rest) = self.rest.split_at_checked(length).ok_or(ENDS_EARLY)?;
        self.rest = rest;
        if self.block_checksums && u32_le(&mut self.rest)? != XxHash32::oneshot(0, block) {
            return Err(Fault::Malformed("the checksum of an lz4 block is wrong"));
        }
        if header & STORED != 0 {
            grow(piece, length);
            piece[..length].copy_from_slice(block);
            return Ok(Some(length));
        }
        let most = self.max_block.min(length.saturating_mul(MAX_RATIO));
        grow(piece, most);
        let length = lz4_flex::block::decompress_into(block, &mut piece[..most]);
        length.map(Some).map_err(|_| Fault::Malformed("an lz4 block is broken"))
    }
}

impl Decompress for Lz4<'_> {
    fn next(&mut self, piece: &mut Vec<u8>, _left: u64) -> Result<usize, Fault> {
        while !self.ended {
            let Some(length) = self.block(piece)? else { break };
            if let Some(checksum) = &mut self.checksum {
                checksum.write(&piece[..length]);
            }
            if let Some(promised) = &mut self.promised {
                *promised = promised
                    .checked_sub(length as u64)
                    .ok_or(Fault::Malformed("the lz4 frame is longer than it says"))?;
            }
            if length > 0 {
                return Ok(length);
            }
        }
        Ok(0)
    }
}

fn grow(piece: &mut Vec<u8>, to: usize) {
    if piece.len() < to {
        piece.resize(to, 0);
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Fault> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or(ENDS_EARLY)?;
    *rest = after;
    Ok(taken)
}

fn u32_le(rest: &mut &[u8]) -> Result<u32, Fault> {
    take::<4>(rest).map(|bytes| u32::from_le_bytes(*bytes))
}
