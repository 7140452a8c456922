//! Consumer groups that process a topic and commit as they go, and what their members must not be given.

use crate::harness::wait;
use crate::load::{Record, read_all};
use crate::progress::{Assignment, Progress, checksum};
use anyhow::{Context as _, Result, ensure};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a member processes between two commits.
const COMMITS_EACH: Duration = Duration::from_millis(50);

/// What all members of a group share.
#[derive(Debug, Default)]
struct Ledger {
    partitions: Vec<Mutex<Progress>>,
    broken: Mutex<Vec<String>>,
    commits: AtomicU64,
}

impl Ledger {
    fn partition(&self, partition: i32) -> MutexGuard<'_, Progress> {
        self.partitions[partition as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a member is assigned; written and read by its own thread alone, which also calls it back.
struct Assigned {
    ledger: Arc<Ledger>,
    partitions: Mutex<BTreeMap<i32, Assignment>>,
}

impl ClientContext for Assigned {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ConsumerContext for Assigned {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let mut mine = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        match rebalance {
            Rebalance::Assign(list) => {
                for partition in list.elements().iter().map(TopicPartitionListElem::partition) {
                    mine.insert(partition, self.ledger.partition(partition).assigned());
                }
            }
            Rebalance::Revoke(list) => {
                for element in list.elements() {
                    mine.remove(&element.partition());
                }
            }
            Rebalance::Error(_) => {}
        }
    }
}

/// A group of threads, each a member.
pub struct ConsumingGroup {
    bootstrap: String,
    name: String,
    topic: String,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl ConsumingGroup {
    /// Starts so many members. `protocol` is `classic` or `consumer` (KIP-848).
    pub fn start(
        bootstrap: &str,
        name: &str,
        protocol: &str,
        topic: &str,
        partitions: usize,
        members: usize,
    ) -> Result<Self> {
        let partitions = std::iter::repeat_with(Mutex::default).take(partitions).collect();
        let mut group = Self {
            bootstrap: bootstrap.to_owned(),
            name: name.to_owned(),
            topic: topic.to_owned(),
            ledger: Arc::new(Ledger { partitions, ..Ledger::default() }),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..members {
            let mut config = group.config();
            config.set("auto.offset.reset", "earliest").set("group.protocol", protocol);
            if protocol == "classic" {
                config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "500");
                config.set("partition.assignment.strategy", "cooperative-sticky");
            }
            let assigned = Assigned { ledger: Arc::clone(&group.ledger), partitions: Mutex::default() };
            let consumer: BaseConsumer<Assigned> = config.create_with_context(assigned)?;
            consumer.subscribe(&[topic])?;
            let (topic, stop) = (group.topic.clone(), Arc::clone(&group.stop));
            group.threads.push(std::thread::spawn(move || consume(&consumer, &topic, &stop)));
        }
        Ok(group)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("group.id", &self.name).set("log_level", "0");
        config.set("enable.auto.commit", "false").set("socket.timeout.ms", "3000");
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        config
    }

    /// Waits until all that is in the topic now was processed, and says what was broken until then.
    pub fn catch_up(&self, patience: Duration) -> Result<String> {
        let log = read_all(&self.bootstrap, &self.topic, self.ledger.partitions.len(), patience)?;
        self.process_all(&log, patience)?;
        self.check_promises()?;
        Ok(format!("{} processed", log.iter().map(Vec::len).sum::<usize>()))
    }

    fn process_all(&self, log: &[Vec<Record>], patience: Duration) -> Result<()> {
        wait::until("all records to be processed", patience, || {
            for (partition, records) in log.iter().enumerate() {
                let processed = self.ledger.partition(partition as i32).processed();
                let end = records.last().map_or(0, |(offset, _)| offset + 1);
                ensure!(processed >= end, "partition {partition} ends at {end}, and {processed} are processed");
            }
            Ok(Some(()))
        })
    }

    fn check_promises(&self) -> Result<()> {
        let broken = self.ledger.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let first = broken[..broken.len().min(5)].join("; ");
        ensure!(broken.is_empty(), "{} promises broken, first: {first}", broken.len());
        Ok(())
    }

    /// Waits until all that is in the topic now was processed, stops the members, and says what was broken.
    pub fn end(mut self, patience: Duration) -> Result<String> {
        let log = read_all(&self.bootstrap, &self.topic, self.ledger.partitions.len(), patience)?;
        let caught_up = self.process_all(&log, patience);
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow::anyhow!("a member panicked"))??;
        }
        self.check_promises()?;
        caught_up?;
        let committed = wait::until("the committed offsets", patience, || self.committed().map(Some))?;
        let mut again = 0;
        for (partition, records) in log.iter().enumerate() {
            let progress = self.ledger.partition(partition as i32);
            let found = committed.get(&(partition as i32)).copied().unwrap_or(0);
            progress.found(found).map_err(|violation| anyhow::anyhow!("partition {partition}: {violation}"))?;
            let sum = records.iter().fold(0_u64, |sum, (offset, value)| sum.wrapping_add(checksum(*offset, value)));
            ensure!(progress.checksum() == sum, "partition {partition}: other records were processed than are there");
            again += progress.again();
        }
        let records: usize = log.iter().map(Vec::len).sum();
        let commits = self.ledger.commits.load(Ordering::Relaxed);
        ensure!(commits > 0, "nothing was committed");
        Ok(format!("{records} records, {again} of them again, {commits} commits"))
    }

    fn committed(&self) -> Result<BTreeMap<i32, i64>> {
        let consumer: BaseConsumer = self.config().create()?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.topic, 0, self.ledger.partitions.len() as i32 - 1);
        let found = consumer.committed_offsets(asked, Duration::from_secs(5)).context("the committed offsets")?;
        let offset = |offset| if let Offset::Offset(n) = offset { n } else { 0 };
        Ok(found.elements().iter().map(|element| (element.partition(), offset(element.offset()))).collect())
    }
}

impl Drop for ConsumingGroup {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn consume(consumer: &BaseConsumer<Assigned>, topic: &str, stop: &AtomicBool) -> Result<()> {
    let (context, mut begun) = (Arc::clone(consumer.context()), Instant::now());
    let mut processed: BTreeMap<i32, i64> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        // Errors are the client's own business: it goes on, and what it makes of them is what counts.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            let partition = message.partition();
            let mut mine = context.partitions.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(assignment) = mine.get_mut(&partition) {
                let value = message.payload().unwrap_or_default();
                let outcome = context.ledger.partition(partition).process(assignment, message.offset(), value);
                if let Err(violation) = outcome {
                    let mut broken = context.ledger.broken.lock().unwrap_or_else(PoisonError::into_inner);
                    broken.push(format!("partition {partition}: {violation}"));
                }
                processed.insert(partition, message.offset() + 1);
            }
        }
        if begun.elapsed() >= COMMITS_EACH {
            commit(consumer, &context, topic, &mut processed)?;
            begun = Instant::now();
        }
    }
    commit(consumer, &context, topic, &mut processed)
}

/// Commits what was processed of the partitions that are still the member's own.
fn commit(
    consumer: &BaseConsumer<Assigned>,
    context: &Assigned,
    topic: &str,
    processed: &mut BTreeMap<i32, i64>,
) -> Result<()> {
    {
        let mine = context.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        processed.retain(|partition, _| mine.contains_key(partition));
    }
    if processed.is_empty() {
        return Ok(());
    }
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in &*processed {
        offsets.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    // What failed is committed with the next ones.
    if consumer.commit(&offsets, CommitMode::Sync).is_ok() {
        context.ledger.commits.fetch_add(1, Ordering::Relaxed);
        for (partition, offset) in std::mem::take(processed) {
            context.ledger.partition(partition).committed(offset);
        }
    }
    Ok(())
}
