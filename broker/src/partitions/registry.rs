//! Starts the owners, each with its share of the logs that are on this broker's disk.

use super::handle::{LogSizes, Partitions};
use super::input::{Input, Owners};
use super::metrics::PartitionMetrics;
use super::owner::{Owner, Shell};
use super::producer_memory::ProducerMemory;
use chronik_core::cluster::Throttle;
use chronik_core::ids::{BrokerId, ClusterId, TopicPartition};
use chronik_core::replication::{Config, LogState};
use chronik_log::{LogReader, RealDisk, Writer};
use chronik_quorum::ControllerHandle;
use chronik_quorum::events::Updates;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the newest batches that all owners together keep in memory may take.
const TAIL_BYTES: usize = 32 << 20;

/// What the owners need of their broker.
pub struct PartitionsConfig {
    /// This broker.
    pub me: BrokerId,
    /// The cluster that the recovered logs were written in; `None` on a new disk.
    pub cluster: Option<ClusterId>,
    /// How many owner tasks.
    pub owners: usize,
    /// What replicas go by.
    pub replication: Config,
    /// Writes the log.
    pub writer: Writer,
    /// Reads the log.
    pub reader: LogReader<RealDisk>,
    /// The logs that were found on the disk.
    pub recovered: HashMap<TopicPartition, LogState>,
    /// What is remembered of all producers takes so many bytes at most.
    pub producer_bytes: usize,
    /// The controller.
    pub controller: ControllerHandle,
    /// Where partitions are counted.
    pub metrics: PartitionMetrics,
    /// Ends everything.
    pub stop: CancellationToken,
}

/// Starts the owners on `tasks`.
pub fn start(config: PartitionsConfig, tasks: &TaskTracker) -> (Partitions, Owners) {
    let n = config.owners;
    let (inputs, input_queues): (Vec<_>, Vec<_>) = (0..n).map(|_| mpsc::unbounded_channel()).unzip();
    let (requests, request_queues): (Vec<_>, Vec<_>) = (0..n).map(|_| mpsc::unbounded_channel()).unzip();
    let owners = Owners::new(inputs);
    let mut counts = vec![0; n];
    for partition in config.recovered.keys() {
        counts[Partitions::owner_of(*partition, n)] += 1;
    }
    let mut shares: Vec<HashMap<TopicPartition, LogState>> = counts.into_iter().map(HashMap::with_capacity).collect();
    for (partition, log) in config.recovered {
        shares[Partitions::owner_of(partition, n)].insert(partition, log);
    }
    let watching = owners.clone();
    config.reader.watch_damage(move |partition, from| watching.send(partition, Input::Damaged { partition, from }));
    let producers = ProducerMemory::new(config.producer_bytes, n, &config.metrics);
    let origin = std::time::Instant::now();
    let throttle = Arc::new(Mutex::new(Throttle::default()));
    let replication = Arc::new(config.replication);
    for (index, ((recovered, inputs), requests)) in shares.into_iter().zip(input_queues).zip(request_queues).enumerate()
    {
        let shell = Shell {
            me: config.me,
            cluster: config.cluster,
            index,
            config: Arc::clone(&replication),
            tail_bytes: TAIL_BYTES / n,
            writer: config.writer.clone(),
            reader: config.reader.clone(),
            controller: config.controller.clone(),
            owners: owners.clone(),
            metrics: config.metrics.clone(),
            throttle: Arc::clone(&throttle),
            producers: producers.clone(),
            origin,
        };
        tasks.spawn(Owner::new(shell, recovered).run(inputs, requests, config.stop.clone()));
    }
    (Partitions::new(requests).with_sizes(Arc::new(Sizes(config.reader))), owners)
}

/// The log, for those who ask for its size alone.
struct Sizes(LogReader<RealDisk>);

impl LogSizes for Sizes {
    fn bytes(&self, partition: TopicPartition) -> Option<u64> {
        self.0.bytes(partition)
    }
}

impl std::fmt::Debug for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sizes")
    }
}

/// Brings the owners what the metadata log says, and how long this broker may lead.
pub async fn feed(owners: Owners, mut updates: Updates, controller: ControllerHandle) {
    let mut registration = controller.registration();
    loop {
        tokio::select! {
            // A lease is granted to who has applied its fencing: it must not overtake it here.
            biased;
            update = updates.recv() => {
                let Some(update) = update else { return };
                let update = Arc::new(update);
                owners.broadcast(|| Input::Metadata(Arc::clone(&update)));
            }
            changed = registration.changed() => {
                if changed.is_err() {
                    return;
                }
                if let Some(until) = registration.borrow_and_update().lease_until {
                    owners.broadcast(|| Input::Lease(until));
                }
            }
        }
    }
}
