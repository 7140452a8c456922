//! A writer that asks every broker for every partition, all the time: whoever leads is found as soon as there is somebody.
//! What it sees is how long a cluster takes no writes, without the pauses and the retries of a client library. Beside it a
//! consumer of librdkafka, which reads what it writes.

use crate::harness::appender;
use crate::harness::asker::Asker;
use crate::harness::cluster::Cluster;
use crate::harness::wait;
use anyhow::{Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two questions to a broker: what a gap is measured to.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a reader waits for a record before it looks whether it is over.
const PATIENCE: Duration = Duration::from_millis(100);

/// When something happened to each partition.
#[derive(Debug)]
pub struct Moments {
    /// What it was.
    what: &'static str,
    partitions: Vec<Mutex<Vec<Instant>>>,
}

impl Moments {
    fn new(what: &'static str, partitions: usize) -> Arc<Self> {
        Arc::new(Self { what, partitions: std::iter::repeat_with(Mutex::default).take(partitions).collect() })
    }

    fn note(&self, partition: i32) {
        let now = Instant::now();
        self.partitions[partition as usize].lock().unwrap_or_else(PoisonError::into_inner).push(now);
    }

    /// Waits until it has happened to each partition after `moment`.
    pub fn wait_for_each_after(&self, moment: Instant, patience: Duration) -> Result<()> {
        wait::until(self.what, patience, || {
            for (partition, moments) in self.partitions.iter().enumerate() {
                let last = moments.lock().unwrap_or_else(PoisonError::into_inner).iter().max().copied();
                ensure!(last.is_some_and(|at| at > moment), "nothing of partition {partition} since");
            }
            Ok(Some(()))
        })
    }

    /// The longest time without it on any partition, of those that began before `until` and ended after `from`. Called when
    /// it has happened to each after `until`.
    pub fn longest_gap(&self, from: Instant, until: Instant) -> Duration {
        let longest = |moments: &Mutex<Vec<Instant>>| {
            // Two brokers may acknowledge at the same time, on threads of their own.
            let mut moments = moments.lock().unwrap_or_else(PoisonError::into_inner).clone();
            moments.sort_unstable();
            longest_gap(&moments, from, until)
        };
        self.partitions.iter().map(longest).max().unwrap_or(Duration::MAX)
    }
}

/// Asks until it is dropped. Its records are its topic's only ones, and may be there twice.
#[derive(Debug)]
pub struct Probe {
    /// When each partition acknowledged something.
    pub acknowledged: Arc<Moments>,
    ended: Arc<AtomicBool>,
}

impl Probe {
    /// Begins to write to each partition of a topic that is there.
    pub fn start(cluster: &Cluster, topic: &str, partitions: usize) -> Result<Self> {
        let moments = Moments::new("an acknowledgement on every partition", partitions);
        let (ended, batch) = (Arc::new(AtomicBool::new(false)), appender::batch(1)?);
        for id in 0..cluster.size() {
            let mut asker = Asker::new(cluster.address(id), &[topic.to_owned()]);
            let places = (0..partitions).map(|partition| (0, partition as i32)).collect();
            let (moments, ended, batch) = (Arc::clone(&moments), Arc::clone(&ended), batch.clone());
            // It ends by itself, a little after the probe; nobody waits for one that a broker does not answer.
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    for (_, partition) in asker.append(&places, &batch).unwrap_or_default() {
                        moments.note(partition);
                    }
                    thread::sleep(PAUSE);
                }
            });
        }
        Ok(Self { acknowledged: moments, ended })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Reads all partitions of a topic from their ends on, until it is dropped.
pub struct Reader {
    /// When a record of each partition arrived.
    pub read: Arc<Moments>,
    ended: Arc<AtomicBool>,
}

impl Reader {
    /// As a client reads that has only said where its brokers are.
    pub fn start(bootstrap: &str, topic: &str, partitions: usize) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions as i32 {
            all.add_partition_offset(topic, partition, Offset::End)?;
        }
        consumer.assign(&all)?;
        let (read, ended) = (Moments::new("a record of every partition", partitions), Arc::new(AtomicBool::new(false)));
        let (moments, over) = (Arc::clone(&read), Arc::clone(&ended));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // What it says of lost connections is what is measured.
                if let Some(Ok(message)) = consumer.poll(PATIENCE) {
                    moments.note(message.partition());
                }
            }
        });
        Ok(Self { read, ended })
    }
}

impl Drop for Reader {
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
