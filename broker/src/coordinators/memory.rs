//! What the members of all groups of this broker say, and what the groups have committed, counted over its shards.

use chronik_core::groups::{Room, Shard};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for what all groups keep. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct GroupMemory {
    /// What members say.
    pub(super) members: Memory,
    /// The groups themselves, and what they have committed: in a room of its own, as it stays when members go.
    pub(super) offsets: Memory,
}

/// What one shard has of it.
#[derive(Debug)]
pub(super) struct GroupShares {
    members: Share,
    offsets: Share,
}

impl GroupMemory {
    /// What one shard has of it, from nothing on.
    pub(super) fn shares(&self) -> GroupShares {
        GroupShares { members: self.members.share(), offsets: self.offsets.share() }
    }
}

impl GroupShares {
    /// What is left for all shards.
    pub(super) fn room(&self) -> Room {
        Room { members: self.members.room(), offsets: self.offsets.room() }
    }

    /// Takes what the shard keeps now in place of what it kept.
    pub(super) fn set(&mut self, shard: &Shard) {
        self.members.set(shard.kept());
        self.offsets.set(shard.committed());
    }
}

/// Room for one kind of it. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    most: usize,
    kept: Arc<AtomicUsize>,
}

impl Memory {
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: Arc::new(AtomicUsize::new(0)) }
    }

    /// What one shard has of it, from nothing on.
    fn share(&self) -> Share {
        Share { memory: self.clone(), kept: 0 }
    }
}

/// What one shard has of the room, for as long as it is kept.
#[derive(Debug)]
struct Share {
    memory: Memory,
    kept: usize,
}

impl Share {
    /// What is left for all shards. Two that ask at the same time may both take it: what they take beyond is little.
    fn room(&self) -> usize {
        self.memory.most.saturating_sub(self.memory.kept.load(Ordering::Relaxed))
    }

    /// Takes what the shard keeps now in place of what it kept.
    fn set(&mut self, kept: usize) {
        if kept != self.kept {
            // In two steps the sum is never less than nothing.
            self.memory.kept.fetch_add(kept, Ordering::Relaxed);
            self.memory.kept.fetch_sub(self.kept, Ordering::Relaxed);
            self.kept = kept;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_room_and_give_it_back_when_they_end() {
        let memory = Memory::new(100);
        let (mut one, mut other) = (memory.share(), memory.share());
        one.set(60);
        other.set(30);
        assert_eq!((one.room(), other.room()), (10, 10));
        other.set(50);
        assert_eq!(one.room(), 0);
        drop(one);
        assert_eq!(other.room(), 50);
    }
}
