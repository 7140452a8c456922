//! What all owners' replicas together remember of idempotent producers, and its bound (`producer.state.max.bytes`).

use super::metrics::PartitionMetrics;
use super::owner::Owner;
use chronik_core::producers::forget_idlest;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by all owners. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ProducerMemory {
    all: Arc<AtomicUsize>,
    most: usize,
    /// An owner that has more than this of what is too much forgets some.
    share: usize,
    gauge: Gauge,
}

impl ProducerMemory {
    pub(super) fn new(most: usize, owners: usize, metrics: &PartitionMetrics) -> Self {
        Self { all: Arc::default(), most, share: most / owners, gauge: metrics.producer_bytes() }
    }

    /// An owner that has counted `before` has counted `now`.
    fn change(&self, before: usize, now: usize) {
        if now >= before {
            self.all.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.all.fetch_sub(before - now, Ordering::Relaxed);
        }
        self.gauge.inc_by(now as i64 - before as i64);
    }

    /// To how much an owner that has `own` should come, if it is to forget.
    fn wanted(&self, own: usize) -> Option<usize> {
        let all = self.all.load(Ordering::Relaxed);
        let too_much = all.saturating_sub(after_forgetting(self.most));
        (all > self.most && own > self.share).then(|| own.saturating_sub(too_much).max(after_forgetting(self.share)))
    }
}

/// When it is more than `bytes`, it is brought to this: not so close that the next batch has others forgotten.
pub(crate) fn after_forgetting(bytes: usize) -> usize {
    bytes - bytes / 8
}

impl Owner {
    /// A replica that remembered `before` bytes' worth of producers remembers `now`.
    pub(super) fn count_producers(&mut self, before: usize, now: usize) {
        self.producer_bytes = self.producer_bytes + now - before;
        self.shell.producers.change(before, now);
    }

    /// Has replicas forget producers, if all that is remembered on this broker is too much.
    pub(super) fn forget_producers(&mut self) {
        let Some(wanted) = self.shell.producers.wanted(self.producer_bytes) else { return };
        let now = self.now();
        let known = self.partitions.iter_mut().map(|(tp, hosted)| {
            let (producers, appended) = hosted.replica.producers_to_forget();
            (*tp, producers, appended)
        });
        for (partition, before) in forget_idlest(now, known, wanted) {
            self.shell.reader.forget_producers(partition, before);
            let Some(hosted) = self.partitions.get_mut(&partition) else { continue };
            let (counted, bytes) = (hosted.producer_bytes, hosted.replica.producers().memory());
            hosted.producer_bytes = bytes;
            self.count_producers(counted, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_more_than_its_share_forgets_what_is_too_much() {
        let memory = ProducerMemory::new(800, 2, &PartitionMetrics::default());
        memory.change(0, 500);
        memory.change(0, 300);
        assert_eq!(memory.wanted(500), None, "as much as there may be");
        memory.change(300, 340);
        assert_eq!(memory.wanted(340), None, "the other one has more than its share");
        assert_eq!(memory.wanted(500), Some(360), "to seven eighths of all");
        assert_eq!(memory.wanted(410), Some(350), "no further than to seven eighths of its share");
        memory.change(500, 360);
        assert_eq!(memory.wanted(360), None);
    }
}
