//! The last offset of each key, in a fixed amount of memory.

use crate::ids::Offset;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use std::hash::Hasher as _;

/// Bytes of an entry.
const ENTRY: usize = 24;
/// The least number of entries that there is room for: each cleaning must make progress, if only by a record.
const LEAST: usize = 10;

/// A hash table of open addressing. It keeps 128 bits of a keyed hash in place of a key (as Kafka keeps an MD5): that two
/// of a billion keys share them has a chance of less than 10^-20, and nobody who does not know the hash's key can look for
/// two that do.
#[derive(Debug)]
pub struct OffsetMap {
    /// Two halves of the hash, and the offset after that of the record; zero where there is no entry.
    slots: Vec<[u64; 3]>,
    len: usize,
    /// The hash's key.
    secret: (u64, u64),
}

/// There is no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for another key")]
pub struct Full;

impl OffsetMap {
    /// A map that takes `bytes` at most, and no more than `keys` keys need. `secret` is drawn at random.
    pub fn new(bytes: usize, keys: usize, secret: (u64, u64)) -> Self {
        // Filled to nine tenths, as Kafka's `log.cleaner.io.buffer.load.factor` has it.
        let wanted = keys.saturating_add(keys / 9).saturating_add(1);
        let slots = (bytes / ENTRY).min(wanted).max(LEAST);
        Self { slots: vec![[0; 3]; slots], len: 0, secret }
    }

    /// Notes that the key's last record so far is at `offset`. Offsets of one key must come in their order.
    pub fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = self.hash(key);
        let at = self.find(hash);
        if self.slots[at][2] == 0 {
            if self.len >= self.slots.len() * 9 / 10 {
                return Err(Full);
            }
            self.len += 1;
        }
        self.slots[at] = [hash.0, hash.1, (offset.0 as u64).wrapping_add(1)];
        Ok(())
    }

    /// The key's last offset.
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let found = self.slots[self.find(self.hash(key))][2];
        found.checked_sub(1).map(|offset| Offset(offset as i64))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot that has that hash, or the one where it belongs. There is always a free one, so this ends.
    fn find(&self, hash: (u64, u64)) -> usize {
        let mut at = (hash.0 % self.slots.len() as u64) as usize;
        loop {
            let [a, b, end] = self.slots[at];
            if end == 0 || (a, b) == hash {
                return at;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(key);
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_knows_the_last_offset_of_each_key_and_takes_no_more_than_fit() {
        let mut map = OffsetMap::new(100_000, usize::MAX, (1, 2));
        let mut model = BTreeMap::new();
        let mut offset = 0;
        let full = loop {
            let key = (offset * offset % 7919).to_string();
            if map.put(key.as_bytes(), Offset(offset)).is_err() {
                break key;
            }
            model.insert(key, offset);
            offset += 1;
        };
        assert_eq!(map.len(), model.len());
        assert!((3700..=3750).contains(&map.len()), "{}", map.len());
        assert_eq!(map.get(full.as_bytes()), None);
        for (key, offset) in &model {
            assert_eq!(map.get(key.as_bytes()), Some(Offset(*offset)));
            map.put(key.as_bytes(), Offset(offset + 1_000_000)).expect("it is there already");
        }
        assert_eq!(map.get(b"none"), None);
    }

    #[test]
    fn it_takes_no_more_memory_than_its_keys_need() {
        let map = OffsetMap::new(1 << 30, 9000, (1, 2));
        assert!(map.slots.len() <= 10_010, "{}", map.slots.len());
        for keys in [1, 9, 10, 11, 99, 1000, 1025] {
            let mut map = OffsetMap::new(1 << 30, keys, (1, 2));
            let fit = (0..keys).all(|key| map.put(&key.to_be_bytes(), Offset(key as i64)).is_ok());
            assert!(fit, "there is memory for all of {keys}");
        }
        assert_eq!(OffsetMap::new(0, 0, (1, 2)).slots.len(), LEAST);
    }
}
