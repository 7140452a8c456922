//! What is measured of one cluster after the other.

use super::bench_client as client;
use super::bench_spread as spread;
use super::first_write::{Client, Writer};
use crate::harness::cluster::{Cluster, Software};
use crate::harness::counters::disk_bytes;
use crate::harness::metadata::Metadata;
use crate::report::{median, percentile};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// Whose brokers are measured.
pub(super) struct Contestant {
    pub(super) name: &'static str,
    pub(super) software: Software,
    pub(super) properties: &'static [(&'static str, &'static str)],
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    /// Whether more of it is better.
    pub(super) more: bool,
}

/// One round of one contestant: a value for each metric.
pub(super) type Figures = BTreeMap<&'static str, f64>;

/// What is measured in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// Three brokers, each partition on all of them
    Three,
    /// One broker
    One,
    /// One broker with 6, 100, 1,000 and 10,000 partitions
    Partitions,
}

const fn more(name: &'static str) -> Metric {
    Metric { name, more: true }
}

const fn less(name: &'static str) -> Metric {
    Metric { name, more: false }
}

const PARTITIONS: i32 = 6;

const START: &str = "cold start → first acks=all, ms";
const ONE_P50: &str = "one 1 KiB record at a time, p50 ms";
const ONE_P99: &str = "one 1 KiB record at a time, p99 ms";
const PACED: [(f64, &str); 3] = [
    (50.0, "2,000 records/s of 1 KiB, p50 ms"),
    (99.0, "2,000 records/s of 1 KiB, p99 ms"),
    (99.9, "2,000 records/s of 1 KiB, p99.9 ms"),
];
const DISK: &str = "bytes to a broker's disk per byte of 1 KiB records";
const CONSUMED: &str = "consume from memory, 1 KiB, MB/s";
const CPU: &str = "brokers' CPU, s, whole run";
const RSS_BEFORE: &str = "a broker's RSS before the load, MB";
const RSS_AFTER: &str = "a broker's RSS after it all, MB";
const RSS_PEAK: &str = "a broker's peak RSS, MB";

/// Of records of one size: MB/s, records/s, and what the processor time is called.
struct Throughputs {
    size: usize,
    megabytes: &'static str,
    records: &'static str,
    cpu: &'static str,
}

const THROUGHPUTS: [Throughputs; 2] = [
    Throughputs {
        size: 1024,
        megabytes: "throughput 1 KiB, MB/s",
        records: "throughput 1 KiB, records/s",
        cpu: "brokers' CPU, s per GB of 1 KiB",
    },
    Throughputs {
        size: 100,
        megabytes: "throughput 100 B, MB/s",
        records: "throughput 100 B, records/s",
        cpu: "brokers' CPU, s per million of 100 B",
    },
];

const LOAD: [Metric; 18] = [
    less(START),
    more(THROUGHPUTS[0].megabytes),
    more(THROUGHPUTS[0].records),
    more(THROUGHPUTS[1].megabytes),
    more(THROUGHPUTS[1].records),
    less(ONE_P50),
    less(ONE_P99),
    less(PACED[0].1),
    less(PACED[1].1),
    less(PACED[2].1),
    less(THROUGHPUTS[0].cpu),
    less(THROUGHPUTS[1].cpu),
    less(DISK),
    more(CONSUMED),
    less(CPU),
    less(RSS_AFTER),
    less(RSS_PEAK),
    less(RSS_BEFORE),
];

/// Partitions, and what the throughput over them is called.
const OVER: [(i32, &str); 4] = [
    (6, "1 KiB over 6 partitions, MB/s"),
    (100, "1 KiB over 100 partitions, MB/s"),
    (1_000, "1 KiB over 1,000 partitions, MB/s"),
    (10_000, "1 KiB over 10,000 partitions, MB/s"),
];
/// The same of a client that puts many partitions into a request: partitions, what the throughput is called, and what the
/// time is called until each has had its first batch.
const SPREAD: [(i32, &str, &str); 3] = [
    (6, "the same over 6, many in a request, MB/s", "first batch in each of 6, ms"),
    (1_000, "the same over 1,000, many in a request, MB/s", "first batch in each of 1,000, ms"),
    (10_000, "the same over 10,000, many in a request, MB/s", "first batch in each of 10,000, ms"),
];
const OVER_PARTITIONS: [Metric; 10] = [
    more(OVER[0].1),
    more(OVER[1].1),
    more(OVER[2].1),
    more(OVER[3].1),
    more(SPREAD[0].1),
    more(SPREAD[1].1),
    more(SPREAD[2].1),
    less(SPREAD[0].2),
    less(SPREAD[1].2),
    less(SPREAD[2].2),
];

impl Part {
    /// For files and checks.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Three => "three",
            Self::One => "one",
            Self::Partitions => "partitions",
        }
    }

    /// For tables.
    pub(super) fn title(self) -> String {
        let client = "idempotent acks=all from librdkafka";
        match self {
            Self::Three => format!("Three brokers, RF 3, min.insync.replicas 2, {PARTITIONS} partitions, {client}"),
            Self::One => format!("One broker, RF 1, {PARTITIONS} partitions, {client}"),
            Self::Partitions => {
                format!("One broker, RF 1, {client}; many in a request: from a client of the tests' own")
            }
        }
    }

    /// What it measures, in the order of its table.
    pub(super) fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Three | Self::One => &LOAD,
            Self::Partitions => &OVER_PARTITIONS,
        }
    }

    /// One round of one contestant.
    pub(super) fn measure(self, contestant: &Contestant, length: Duration) -> Result<Figures> {
        match self {
            Self::Three => load(contestant, 3, length),
            Self::One => load(contestant, 1, length),
            Self::Partitions => partitions(contestant, length),
        }
    }
}

fn load(contestant: &Contestant, brokers: usize, length: Duration) -> Result<Figures> {
    let mut figures = Figures::new();
    let mut cluster = Cluster::new(&contestant.software, brokers, contestant.properties)?;
    let mut writer = Writer::prepare(Client::Librdkafka, &cluster.bootstrap(), None)?;
    let started = cluster.start_all()?;
    writer.write()?;
    let mut put = |metric: &'static str, value: f64| figures.insert(metric, value);
    put(START, (writer.acknowledged()? - started).as_secs_f64() * 1e3);
    drop(writer);
    cluster.wait_for_brokers(brokers)?;
    let rss = |cluster: &Cluster| -> Result<f64> {
        let rss = (0..brokers).map(|id| Ok(cluster.usage(id)?.rss_bytes as f64 / 1e6)).collect::<Result<Vec<_>>>()?;
        Ok(median(&rss))
    };
    put(RSS_BEFORE, rss(&cluster)?);
    let bootstrap = cluster.bootstrap();
    let topic =
        |name: &str| -> Result<()> { Metadata::new(&bootstrap)?.create_topic(name, PARTITIONS, brokers as i32, &[]) };

    topic("latency")?;
    let single = client::one_at_a_time(&bootstrap, "latency", 1024, length / 2)?;
    put(ONE_P50, percentile(&single, 50.0));
    put(ONE_P99, percentile(&single, 99.0));
    let paced = client::paced(&bootstrap, "latency", PARTITIONS, 1024, 2_000, length)?;
    for (percent, metric) in PACED {
        put(metric, percentile(&paced, percent));
    }

    for Throughputs { size, megabytes, records, cpu: used } in THROUGHPUTS {
        let name = format!("throughput-{size}");
        topic(&name)?;
        let (cpu_before, disk_before) = (cpu(&cluster)?, disk(&cluster)?);
        let seen = client::throughput(&bootstrap, &name, PARTITIONS, size, length)?;
        put(records, seen.records_per_second);
        put(megabytes, seen.records_per_second * size as f64 / 1e6);
        let bytes = seen.records as f64 * size as f64;
        let units = if size == 1024 { bytes / 1e9 } else { seen.records as f64 / 1e6 };
        put(used, (cpu(&cluster)? - cpu_before) / units);
        if size == 1024 {
            put(DISK, (disk(&cluster)? - disk_before) / bytes / brokers as f64);
            put(CONSUMED, client::consume(&bootstrap, &name, PARTITIONS, length)? / 1e6);
        }
    }
    put(CPU, cpu(&cluster)?);
    put(RSS_AFTER, rss(&cluster)?);
    let peaks =
        (0..brokers).map(|id| Ok(cluster.usage(id)?.peak_rss_bytes as f64 / 1e6)).collect::<Result<Vec<_>>>()?;
    put(RSS_PEAK, peaks.into_iter().fold(0.0, f64::max));
    cluster.check_alive()?;
    Ok(figures)
}

/// One topic after the other, in the same cluster.
fn partitions(contestant: &Contestant, length: Duration) -> Result<Figures> {
    let mut figures = Figures::new();
    let mut cluster = Cluster::new(&contestant.software, 1, contestant.properties)?;
    cluster.start_all()?;
    cluster.wait_for_brokers(1)?;
    let bootstrap = cluster.bootstrap();
    for (partitions, metric) in OVER {
        let name = format!("over-{partitions}");
        Metadata::new(&bootstrap)?.create_topic(&name, partitions, 1, &[])?;
        let seen = client::throughput(&bootstrap, &name, partitions, 1024, length)?;
        figures.insert(metric, seen.records_per_second * 1024.0 / 1e6);
    }
    for (partitions, metric, first) in SPREAD {
        let name = format!("spread-{partitions}");
        Metadata::new(&bootstrap)?.create_topic(&name, partitions, 1, &[])?;
        let seen = spread::write(cluster.ports(0).kafka, &name, partitions, 1024, length)?;
        figures.insert(metric, seen.bytes_per_second / 1e6);
        figures.insert(first, seen.first.as_secs_f64() * 1e3);
    }
    cluster.check_alive()?;
    Ok(figures)
}

fn cpu(cluster: &Cluster) -> Result<f64> {
    (0..cluster.size()).map(|id| Ok(cluster.usage(id)?.cpu.as_secs_f64())).sum()
}

fn disk(cluster: &Cluster) -> Result<f64> {
    let written = |id| disk_bytes(cluster.pid(id)?).context("/proc/PID/io, which says what goes to the disk");
    (0..cluster.size()).map(written).sum()
}
