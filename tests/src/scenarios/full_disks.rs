//! Small disks that fill. One: the cluster goes on, and the broker comes back by itself. All of them: producers are
//! refused, and reading, deleting, metadata and restarts go on; with room all is written again, and nothing that was
//! acknowledged is lost.

use super::Settings;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::{leash, namespaces, wait};
use crate::load::read_all;
use crate::report::Report;
use anyhow::{Context as _, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const TOPIC: &str = "full-disks";
/// A few times what the write-ahead log takes.
const DISK: &str = "size=256m";
const RESERVE: &str = "32MiB";
const RECORD_BYTES: usize = 100_000;
/// Looks at a disk that find as much room as the one before, until it is believed.
const STEADY: usize = 15;

/// All of it, in a mount namespace that ends with this process.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    namespaces::enter(&["--mount"])?;
    let mut cluster =
        Cluster::new(&settings.software, 3, &[("log.disk.reserve", RESERVE), ("log.segment.bytes", "4MiB")])?;
    let disks = (0..3).map(|id| SmallDisk::mount(&cluster.data_dir(id))).collect::<Result<Vec<_>>>()?;
    let outcome = cluster.start_all().map(drop).and_then(|()| fill(&mut cluster, &disks, report));
    report.check_result("every broker lives", cluster.check_alive().map(|()| "yes".into()));
    if outcome.is_err() || report.has_failures() {
        println!("{}", cluster.tails());
    }
    cluster.kill_all()?;
    outcome
}

/// A file system of its own for a broker's data; gone when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let mut mount = leash::command(Path::new("mount"))?;
        mount.args(["-t", "tmpfs", "-o", DISK, "chronik-test"]).arg(at);
        let status = leash::spawn(mount)?.wait()?;
        ensure!(status.success(), "mount ended with {status}");
        Ok(Self(at.to_owned()))
    }

    /// Somebody else takes all that is left.
    fn fill(&self) -> Result<()> {
        let file = File::create(self.0.join("foreign"))?;
        // When the broker takes none any more: an attempt at more than there is would have it give up its ballast.
        let (mut last, mut same) = (0, 0);
        wait::until("all that is left", PATIENCE, || {
            let found = rustix::fs::statvfs(&self.0)?;
            let left = found.f_bavail * found.f_frsize;
            same = if left == last { same + 1 } else { 0 };
            last = left;
            if same < STEADY {
                return Ok(None);
            }
            same = 0;
            Ok(Some(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, left)?))
        })
    }

    /// And gives it back.
    fn clear(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.join("foreign"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Those who have files open there are about to end.
        let umount = leash::command(Path::new("umount")).and_then(|mut umount| {
            umount.arg("--lazy").arg(&self.0);
            Ok(leash::spawn(umount)?.wait()?)
        });
        if let Err(error) = umount {
            println!("umount: {error:#}");
        }
    }
}

fn fill(cluster: &mut Cluster, disks: &[SmallDisk], report: &mut Report) -> Result<()> {
    cluster.wait_for_brokers(3)?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, 1, 3, &[("min.insync.replicas", "2")])?;
    metadata.wait_for_isr(TOPIC, 1, 3)?;
    let writer = Writer::new(&cluster.bootstrap())?;
    writer.write(20)?;

    let follower = (metadata.leader(TOPIC, 0)? + 1) % 3;
    disks[follower].fill()?;
    report.check_result(
        "one disk that fills stops nobody",
        writer.write(50).map(|()| "50 records are acknowledged".into()),
    );
    report.check_result(
        "its broker leaves the ISR",
        wait::until("an ISR of two", PATIENCE, || {
            // As long as its write-ahead log has room, it is in sync.
            writer.write(5)?;
            let isr = &metadata.partitions(TOPIC)?[0].isr;
            Ok((isr.len() == 2).then(|| format!("{isr:?}")))
        }),
    );
    cluster.kill(follower)?;
    cluster.start(follower)?;
    cluster.wait_for_brokers(3)?;
    report.check("it starts on a full disk", true, "in the metadata");
    disks[follower].clear()?;
    report.check_result("with room it comes back", metadata.wait_for_isr(TOPIC, 1, 3).map(|()| "in sync".into()));

    report.check_result("all disks fill, and producers are refused", refused(cluster, &writer));
    let lost = || writer.lost(&cluster.bootstrap());
    report.check_result("all that was acknowledged is read", lost());
    report.check_result("topics are created", metadata.create_topic("other", 1, 3, &[]).map(|()| "one".into()));
    cluster.kill_all()?;
    disks.iter().try_for_each(SmallDisk::fill)?;
    cluster.start_all()?;
    cluster.wait_for_brokers(3)?;
    report.check("all start on full disks", true, "in the metadata");
    report.check_result("and have what was acknowledged", writer.lost(&cluster.bootstrap()));
    disks.iter().try_for_each(SmallDisk::clear)?;

    report.check_result("records are deleted", delete_half(&cluster.bootstrap(), &writer));
    report.check_result("writing goes on by itself", writer.write(20).map(|()| "20 records are acknowledged".into()));
    metadata.wait_for_isr(TOPIC, 1, 3)?;
    report.check_result("nothing that was acknowledged is lost", writer.lost(&cluster.bootstrap()));
    Ok(())
}

/// Writes until brokers refuse.
fn refused(cluster: &Cluster, writer: &Writer) -> Result<String> {
    wait::until("a refusal", PATIENCE * 2, || {
        // What is refused is tried again by the client until it gives up.
        let _ = writer.write(20);
        let mut refused = 0;
        for id in 0..3 {
            let (_, text) = cluster.http(id, "/metrics")?;
            let line = text.lines().find(|line| line.starts_with("chronik_disk_refused_batches_total "));
            refused += line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).context("a count")?;
        }
        Ok((refused > 0).then(|| format!("{refused} batches, after {} records", writer.acknowledged().len())))
    })
}

fn delete_half(bootstrap: &str, writer: &Writer) -> Result<String> {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create()?;
    let greatest = *writer.acknowledged().values().max().context("records")?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, Offset::Offset(greatest / 2))?;
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let done = futures::executor::block_on(admin.delete_records(&list, &options))?;
    done.find_partition(TOPIC, 0).context("the partition in the answer")?.error()?;
    writer.forget_below(greatest / 2);
    Ok(format!("those before {}", greatest / 2))
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("log_level", "0");
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
    config
}

/// The offsets of acknowledged records by their number.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeMap<u64, i64>>>);

impl ClientContext for Ledger {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ProducerContext for Ledger {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        if let Ok(message) = result {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*number, message.offset());
        }
    }
}

/// Writes large numbered records, and remembers which were acknowledged.
struct Writer {
    producer: BaseProducer<Ledger>,
    ledger: Ledger,
    next: Mutex<u64>,
}

impl Writer {
    fn new(bootstrap: &str) -> Result<Self> {
        let ledger = Ledger::default();
        let mut config = config(bootstrap);
        config.set("enable.idempotence", "false").set("acks", "all").set("message.timeout.ms", "8000");
        config.set("batch.num.messages", "5").set("linger.ms", "1");
        Ok(Self { producer: config.create_with_context(ledger.clone())?, ledger, next: Mutex::default() })
    }

    fn acknowledged(&self) -> BTreeMap<u64, i64> {
        self.ledger.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget_below(&self, offset: i64) {
        self.ledger.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, at| *at >= offset);
    }

    /// Fails unless all are acknowledged.
    fn write(&self, count: usize) -> Result<()> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.acknowledged().len();
        for _ in 0..count {
            let mut value = vec![b'x'; RECORD_BYTES];
            value[..8].copy_from_slice(&next.to_le_bytes());
            let record = BaseRecord::<(), _, _>::with_opaque_to(TOPIC, Box::new(*next)).partition(0).payload(&value);
            self.producer.send(record).map_err(|(e, _)| e)?;
            *next += 1;
        }
        self.producer.flush(Duration::from_secs(30))?;
        let acknowledged = self.acknowledged().len() - before;
        ensure!(acknowledged == count, "{acknowledged} of {count} records are acknowledged");
        Ok(())
    }

    /// Fails if an acknowledged record is not where it was said to be.
    fn lost(&self, bootstrap: &str) -> Result<String> {
        let read = read_from_start(bootstrap)?;
        let acknowledged = self.acknowledged();
        for (number, offset) in &acknowledged {
            ensure!(read.get(offset) == Some(number), "record {number}, acknowledged at {offset}, is not there");
        }
        Ok(format!("{} acknowledged, {} read", acknowledged.len(), read.len()))
    }
}

/// Numbers by offset.
fn read_from_start(bootstrap: &str) -> Result<BTreeMap<i64, u64>> {
    let records = read_all(bootstrap, TOPIC, 1, PATIENCE)?.remove(0);
    let number = |value: &[u8]| value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    records.iter().map(|(offset, value)| Ok((*offset, number(value).context("a number")?))).collect()
}
