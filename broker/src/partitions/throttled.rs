//! Followers that are to catch up slowly: what is read for them, and when.

use super::owner::{Owner, Shell};
use chronik_core::cluster::{Throttle, ThrottledRates};
use chronik_core::ids::{BrokerId, TopicPartition};
use chronik_core::record::RecordBatch;
use chronik_core::replication::Event;
use std::sync::{Arc, Mutex, PoisonError};

/// Partitions that try again at a time, for one follower.
const AT_ONCE: usize = 64;

/// What may be read for a follower at this moment.
pub(super) struct Grant {
    /// So much at most.
    pub(super) bytes: usize,
    counted: Option<Counted>,
}

/// What was counted for it before it was read.
struct Counted {
    throttle: Arc<Mutex<Throttle>>,
    follower: BrokerId,
    rates: ThrottledRates,
}

impl Grant {
    /// This has been read.
    pub(super) fn used(self, batches: &[RecordBatch]) {
        let Some(Counted { throttle, follower, rates }) = self.counted else { return };
        let sent = batches.iter().map(|batch| batch.bytes().len()).sum();
        // Plain sums: a panic of another owner leaves nothing half done in them.
        throttle.lock().unwrap_or_else(PoisonError::into_inner).correct(follower, rates, self.bytes, sent);
    }
}

impl Owner {
    /// How much may be read for a follower; `None` if it has to wait until it is resumed.
    pub(super) fn grant(&self, partition: TopicPartition, follower: BrokerId, wanted: usize) -> Option<Grant> {
        let Shell { me, throttle, .. } = &self.shell;
        let free = Some(Grant { bytes: wanted, counted: None });
        let image = self.image.as_ref();
        let rates = image.and_then(|image| Some((image, image.throttled_rates(partition, *me, follower)?)));
        // Mostly there are none, and no owner has to wait for another.
        let Some((image, rates)) = rates else { return free };
        let mut all = throttle.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rates) = all.in_force((image, rates), partition, (*me, follower)) else { return free };
        let bytes = all.take(self.now(), (image, rates), follower, wanted)?;
        Some(Grant { bytes, counted: Some(Counted { throttle: Arc::clone(throttle), follower, rates }) })
    }

    /// Lets those try again who were too early.
    pub(super) fn resume_throttled(&mut self) {
        let mut resumed = Vec::new();
        for (follower, queue) in &mut self.send_queues {
            let Some(link) = self.followers.get(follower) else { continue };
            resumed.extend(queue.next_throttled(AT_ONCE).into_iter().map(|tp| (tp, *follower, link.stream)));
        }
        for (partition, follower, stream) in resumed {
            self.step(partition, Event::Writable { follower, stream });
        }
    }
}
