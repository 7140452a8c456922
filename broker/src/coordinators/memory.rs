//! What the members of all groups of this broker say, counted over its shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for what members say. Cheap to clone.
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
    pub(super) fn share(&self) -> Share {
        Share { memory: self.clone(), kept: 0 }
    }
}

/// What one shard has of the room, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Share {
    memory: Memory,
    kept: usize,
}

impl Share {
    /// What is left for all shards. Two that ask at the same time may both take it: what they take beyond is little.
    pub(super) fn room(&self) -> usize {
        self.memory.most.saturating_sub(self.memory.kept.load(Ordering::Relaxed))
    }

    /// Takes what the shard keeps now in place of what it kept.
    pub(super) fn set(&mut self, kept: usize) {
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
