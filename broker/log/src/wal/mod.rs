//! The write-ahead log: what makes a round of operations durable with one write and one sync.
//!
//! The log is a sequence of blocks, one a round (more only where a round does not fit its segment), in
//! segment files `wal/<number as 16 hex digits>.wal`. A position in it is an LSN: bytes of blocks since the
//! log was created. Blocks start at multiples of 4096 bytes, so that no write ever touches a page of a block that an
//! earlier sync made durable, but for a recovery's, which writes the last blocks again as they are. The next segment is
//! made before it is needed, at its full length: a new file of zeroes, or one that a checkpoint has made superfluous,
//! renamed to its new number, to be written over. So rounds find its space there, and syncs change no metadata. The first
//! segment of a run grows by steps of zeroes, as does one that is needed before it is ready.
//!
//! A block (little endian):
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | magic `CWB` and a digit, which is the version (see `format`) |
//! | 4 | 4 | CRC-32C of the header's bytes 0 to 3 and 8 to 63 |
//! | 8 | 4 | payload bytes |
//! | 12 | 4 | CRC-32C of the payload |
//! | 16 | 8 | LSN of the block |
//! | 24 | 8 | LSN below which all was synced when this block was written |
//! | 32 | 8 | number of the segment |
//! | 40 | 8 | run: counts the times the log was opened |
//! | 48 | 4 | operations in the payload |
//! | 52 | 4 | zero |
//! | 56 | 8 | nonce: the log's random number |
//! | 64 | … | payload, then zeroes to the next multiple of 4096 |
//!
//! An operation is 32 bytes (kind 1, length 3, partition 4, topic id 16, value 8), and a batch's bytes follow
//! an append. Kinds: 1 append (value: bytes of the batch), 2 truncate (value: the new end), 3 delete,
//! 4 advance the start (value: the new start; not in version 2), 5 begin at (value: the new start; not in version 3; as
//! many bytes as the length says follow, which are producers as `chronik_core::producers` encodes them), 6 append by
//! reference (value: bytes of the batch; not in version 4; 80 bytes follow: the batch's header 61, zeroes 3, base offset of
//! the segment that has the batch 8, byte in it 8; see `once`). The length is zero but for kind 5, and for an append whose
//! length is 1: it announces such references (not in version 4).
//!
//! A block says its version itself, so that a log may hold blocks of several; it is written in version 3 where that knows
//! all of its operations. Version 2 differs by its CRC, which does
//! not cover the magic. The header's fields are where they are in all versions: a block of a newer one, where the next
//! block of the chain belongs, is refused and not taken for the chain's end.
//!
//! **Where the log ends.** The chain starts at the checkpoint's position; the next block is valid if its
//! magic, CRCs, nonce, LSN, segment number and run are the expected ones. So what a recycled segment still holds
//! (other segment number), what a former run left behind its torn end (other run) and a gap (other LSN) all
//! end the chain. The nonce was drawn when the log was created and is in its checkpoint: segments are full of
//! bytes that producers chose, at positions where blocks may start, and without it these could pass for blocks.
//! Whether that end is a torn write or damage follows from the "synced" field: if any block
//! header of this log and run, behind the end of the chain or in a later segment, says that more was synced than
//! the chain holds, then something durable is gone (see [`crate::Options::open_with_wal_loss`]). The same counts of a place there
//! that the disk cannot read. Otherwise nothing behind the end was ever acknowledged. A block that nothing says to have been
//! synced also ends the chain if it refers to a batch that is not in its segment; a batch that the disk cannot read there is
//! damage to its partition.
//!
//! So that the last block has such a header behind it too, a seal is written there once it is synced, unless another
//! block follows at once: a page with a header that has all ones for its LSN, and no payload. With that LSN it is no
//! block of the chain: LSNs go on as if it were not there, whether the next block is written over it or begins the
//! next segment. A crash in the middle of that leaves the seal, a torn block or a whole one, and either of the first
//! two ends the chain where the seal was. (An empty block that is a part of the chain would move it on: of a round in
//! two segments, of which a crash left only the second block, that one could be the next.) A seal is not synced;
//! blocks leave a page for it at their segment's end. So what goes unnoticed is damage to the very last block where a
//! power cut took the seal, or the process ended before it was written: that looks like a torn one. (A partition's
//! segment may still hold its batches, see `recovery`.)

pub(crate) mod entry;
pub(crate) mod replay;
pub(crate) mod segment;
pub(crate) mod writer;

use chronik_core::ids::Lsn;

/// By what a log knows its own blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Drawn at random when the log was created.
    pub(crate) nonce: u64,
    /// Counts the times the log was opened.
    pub(crate) run: u64,
}

/// Where a block goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Bytes of blocks before it.
    pub(crate) lsn: Lsn,
    /// The segment's number.
    pub(crate) segment: u64,
    /// The byte in that segment.
    pub(crate) offset: u64,
}
