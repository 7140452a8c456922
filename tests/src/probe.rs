//! A writer that asks every broker for every partition, all the time: whoever leads is found as soon as there is somebody.
//! What it sees is how long a cluster takes no writes, without the pauses and the retries of a client library.

use crate::harness::appender;
use crate::harness::asker::Asker;
use crate::harness::cluster::Cluster;
use crate::harness::wait;
use anyhow::{Result, ensure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two questions to a broker: what a gap is measured to.
const PAUSE: Duration = Duration::from_millis(5);

/// When each partition acknowledged something.
type Moments = Vec<Mutex<Vec<Instant>>>;

/// Asks until it is dropped. Its records are its topic's only ones, and may be there twice.
#[derive(Debug)]
pub struct Probe {
    moments: Arc<Moments>,
    ended: Arc<AtomicBool>,
}

impl Probe {
    /// Begins to write to each partition of a topic that is there.
    pub fn start(cluster: &Cluster, topic: &str, partitions: usize) -> Result<Self> {
        let moments: Arc<Moments> = Arc::new(std::iter::repeat_with(Mutex::default).take(partitions).collect());
        let (ended, batch) = (Arc::new(AtomicBool::new(false)), appender::batch(1)?);
        for id in 0..cluster.size() {
            let mut asker = Asker::new(cluster.address(id), &[topic.to_owned()]);
            let places = (0..partitions).map(|partition| (0, partition as i32)).collect();
            let (moments, ended, batch) = (Arc::clone(&moments), Arc::clone(&ended), batch.clone());
            // It ends by itself, a little after the probe; nobody waits for one that a broker does not answer.
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    for (_, partition) in asker.append(&places, &batch).unwrap_or_default() {
                        let now = Instant::now();
                        moments[partition as usize].lock().unwrap_or_else(PoisonError::into_inner).push(now);
                    }
                    thread::sleep(PAUSE);
                }
            });
        }
        Ok(Self { moments, ended })
    }

    /// Waits until each partition has acknowledged something after `moment`.
    pub fn wait_for_acknowledgements_after(&self, moment: Instant, patience: Duration) -> Result<()> {
        wait::until("an acknowledgement on every partition", patience, || {
            for (partition, moments) in self.moments.iter().enumerate() {
                let last = moments.lock().unwrap_or_else(PoisonError::into_inner).iter().max().copied();
                ensure!(last.is_some_and(|at| at > moment), "partition {partition} has acknowledged nothing since");
            }
            Ok(Some(()))
        })
    }

    /// The longest time without an acknowledgement on any partition, of those that began before `until` and ended after
    /// `from`. Called when each has had one after `until`.
    pub fn longest_gap(&self, from: Instant, until: Instant) -> Duration {
        let longest = |moments: &Mutex<Vec<Instant>>| {
            // Two brokers may acknowledge at the same time, on threads of their own.
            let mut moments = moments.lock().unwrap_or_else(PoisonError::into_inner).clone();
            moments.sort_unstable();
            longest_gap(&moments, from, until)
        };
        self.moments.iter().map(longest).max().unwrap_or(Duration::MAX)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// The longest time between two of these moments, in their order, that began before `until` and ended after `from`.
pub fn longest_gap(moments: &[Instant], from: Instant, until: Instant) -> Duration {
    let pairs = moments.windows(2).map(|pair| (pair[0], pair[1]));
    let within = pairs.filter(|(before, after)| *after > from && *before < until);
    within.map(|(before, after)| after - before).max().unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::longest_gap;
    use std::time::{Duration, Instant};

    #[test]
    fn a_gap_counts_if_a_part_of_it_is_within_the_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let moments = [at(0), at(90), at(100), at(140), at(150), at(300)];
        assert_eq!(longest_gap(&moments, at(95), at(145)), Duration::from_millis(40));
        assert_eq!(longest_gap(&moments, at(80), at(145)), Duration::from_millis(90));
        assert_eq!(longest_gap(&moments, at(95), at(200)), Duration::from_millis(150));
        assert_eq!(longest_gap(&moments[..1], at(0), at(200)), Duration::MAX, "it has not ended");
    }
}
