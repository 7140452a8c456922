//! A file's content: what can be read of it, and what is durable.

use std::collections::BTreeSet;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: u64 = 512;

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) data: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
    /// Failures to write it back.
    pub(super) errors: u64,
    /// Sectors that cannot be read until they are written again.
    pub(super) bad: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Inode {
    pub(super) fn change(&mut self, change: Change) {
        match &change {
            Change::Write(at, bytes) => self.bad.retain(|s| !overlaps(*s, *at, bytes.len())),
            Change::SetLen(len) => self.bad.retain(|s| s * SECTOR < *len),
        }
        change.apply(&mut self.data);
        self.pending.push(change);
    }
}

impl Change {
    pub(super) fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let (from, to) = (*offset as usize, *offset as usize + bytes.len());
                if data.len() < to {
                    data.resize(to, 0);
                }
                data[from..to].copy_from_slice(bytes);
            }
            Self::SetLen(len) => data.resize(*len as usize, 0),
        }
    }

    /// The change in pieces that survive or not by themselves.
    pub(super) fn sectors(&self) -> Vec<Self> {
        let Self::Write(offset, bytes) = self else { return vec![self.clone()] };
        let mut pieces = Vec::new();
        let (mut at, mut rest) = (*offset, bytes.as_slice());
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min((SECTOR - at % SECTOR) as usize));
            pieces.push(Self::Write(at, piece.to_vec()));
            at += piece.len() as u64;
            rest = more;
        }
        pieces
    }
}

pub(super) fn overlaps(sector: u64, at: u64, bytes: usize) -> bool {
    at < (sector + 1) * SECTOR && sector * SECTOR < at + bytes as u64
}
