//! A sorted map that is small while it has few entries: most partitions have one producer.

use std::collections::BTreeMap;

/// As many entries are searched as fast in a row as in a tree, whose first node has room for eleven.
const FEW: usize = 8;

/// Entries in the order of their keys.
#[derive(Clone, Debug)]
pub(super) enum Sorted<K, V> {
    /// No larger than it must be.
    Few(Vec<(K, V)>),
    Many(BTreeMap<K, V>),
}

impl<K: Ord, V> Sorted<K, V> {
    pub(super) const fn new() -> Self {
        Self::Few(Vec::new())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::Few(few) => few.iter().find(|(k, _)| k == key).map(|(_, value)| value),
            Self::Many(many) => many.get(key),
        }
    }

    /// Puts a value in the place of the one that the key had.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match self {
            Self::Few(few) => match few.binary_search_by(|(k, _)| k.cmp(&key)) {
                Ok(at) => few[at].1 = value,
                Err(_) if few.len() == FEW => {
                    let mut many: BTreeMap<_, _> = std::mem::take(few).into_iter().collect();
                    many.insert(key, value);
                    *self = Self::Many(many);
                }
                Err(at) => {
                    few.reserve_exact(1);
                    few.insert(at, (key, value));
                }
            },
            Self::Many(many) => {
                many.insert(key, value);
            }
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Self::Few(few) => {
                let at = few.iter().position(|(k, _)| k == key)?;
                Some(few.remove(at).1)
            }
            Self::Many(many) => {
                let value = many.remove(key);
                if many.is_empty() {
                    *self = Self::new();
                }
                value
            }
        }
    }

    pub(super) fn first(&self) -> Option<(&K, &V)> {
        match self {
            Self::Few(few) => few.first().map(|(key, value)| (key, value)),
            Self::Many(many) => many.first_key_value(),
        }
    }

    pub(super) fn last(&self) -> Option<(&K, &V)> {
        match self {
            Self::Few(few) => few.last().map(|(key, value)| (key, value)),
            Self::Many(many) => many.last_key_value(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(key, value)| (key, value));
        few.chain(many.into_iter().flatten())
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V: PartialEq> PartialEq for Sorted<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Ord, V: Eq> Eq for Sorted<K, V> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_map(changes in prop::collection::vec((any::<bool>(), 0u8..20, any::<u8>()), 0..100)) {
            let (mut sorted, mut model) = (Sorted::new(), BTreeMap::new());
            for (adds, key, value) in changes {
                if adds {
                    sorted.insert(key, value);
                    model.insert(key, value);
                } else {
                    prop_assert_eq!(sorted.remove(&key), model.remove(&key));
                }
                prop_assert!(sorted.iter().eq(&model));
                prop_assert_eq!(sorted.first(), model.first_key_value());
                prop_assert_eq!(sorted.last(), model.last_key_value());
                prop_assert_eq!(sorted.len(), model.len());
                prop_assert_eq!(sorted.get(&key), model.get(&key));
            }
            let mut again = Sorted::new();
            for (key, value) in &model {
                again.insert(*key, *value);
            }
            prop_assert!(sorted == again, "however it came to be");
        }
    }
}
