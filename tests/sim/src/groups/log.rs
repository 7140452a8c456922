//! The partition's log: what is committed, and what is appended and may still be lost.

use chronik_core::groups::{GroupRecord, RecordKey, RecordValue};
use std::collections::{BTreeMap, VecDeque};

/// One partition of `__consumer_offsets`.
#[derive(Debug, Default)]
pub(super) struct OffsetsLog {
    /// In order.
    committed: Vec<GroupRecord>,
    /// Appended by the coordinator of now, each with the append's number.
    pending: VecDeque<(u64, Vec<GroupRecord>)>,
    /// All values that a key has had, each with the place in the log that it was committed at.
    values: BTreeMap<RecordKey, Vec<(usize, Option<RecordValue>)>>,
}

impl OffsetsLog {
    /// Where the committed part ends.
    pub(super) fn end(&self) -> usize {
        self.committed.len()
    }

    pub(super) fn append(&mut self, number: u64, records: Vec<GroupRecord>) {
        self.pending.push_back((number, records));
    }

    /// Commits the append of that number and all before it; what was committed.
    pub(super) fn commit(&mut self, number: u64) -> Vec<GroupRecord> {
        let mut all = Vec::new();
        while self.pending.front().is_some_and(|(n, _)| *n <= number) {
            let Some((_, records)) = self.pending.pop_front() else { break };
            for record in records {
                self.values.entry(record.key.clone()).or_default().push((self.committed.len(), record.value.clone()));
                self.committed.push(record.clone());
                all.push(record);
            }
        }
        all
    }

    /// The coordinator is gone: the first `kept` of its appends are found by the next one, the others are lost.
    pub(super) fn cut(&mut self, kept: usize) -> (Vec<GroupRecord>, usize) {
        let last = kept.checked_sub(1).and_then(|at| self.pending.get(at)).map(|(number, _)| *number);
        let committed = last.map(|number| self.commit(number)).unwrap_or_default();
        let cut = self.pending.len();
        self.pending.clear();
        (committed, cut)
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The committed value of a key.
    pub(super) fn value(&self, key: &RecordKey) -> Option<&RecordValue> {
        self.values.get(key)?.last()?.1.as_ref()
    }

    /// The value that a key had before that place.
    pub(super) fn value_before(&self, key: &RecordKey, at: usize) -> Option<&RecordValue> {
        self.values.get(key)?.iter().rev().find(|(a, _)| *a < at)?.1.as_ref()
    }

    /// All values that the key had at some time since the log ended at `since`.
    pub(super) fn values_since(&self, key: &RecordKey, since: usize) -> Vec<Option<&RecordValue>> {
        let all = self.values.get(key).map(Vec::as_slice).unwrap_or_default();
        let mut found: Vec<_> = all.iter().filter(|(at, _)| *at >= since).map(|(_, value)| value.as_ref()).collect();
        found.push(self.value_before(key, since));
        found
    }

    /// How many tombstones the key has had.
    pub(super) fn tombstones(&self, key: &RecordKey) -> usize {
        self.values.get(key).map_or(0, |values| values.iter().filter(|(_, value)| value.is_none()).count())
    }

    /// The log, of which the first `cleaned` records have been compacted: the last one of each key is left.
    pub(super) fn read(&self, cleaned: usize) -> impl Iterator<Item = &GroupRecord> {
        let kept = move |(at, record): &(usize, &GroupRecord)| {
            let last = self.values.get(&record.key).and_then(|v| v.iter().rev().find(|(at, _)| *at < cleaned));
            *at >= cleaned || last.is_some_and(|(last, _)| last == at)
        };
        self.committed.iter().enumerate().filter(kept).map(|(_, record)| record)
    }
}
