//! What a broker does with the processor: a flame graph, and what a record and a batch cost.
//!
//! The same load again and again: first with nothing attached, which is what the costs are counted in, then under `perf`.
//! What slows the brokers down most, probes on functions, comes last.

use super::Settings;
use super::{bench_client as client, bench_spread as spread};
use crate::harness::cluster::{Cluster, Software};
use crate::harness::counters::Counters;
use crate::harness::metadata::Metadata;
use crate::harness::perf::{self, Attached, Counts, Probes};
use crate::harness::target;
use crate::report::{Report, Table};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the brokers are watched at.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// One broker, or three with replication factor 3
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3))]
    brokers: u64,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    size: usize,
    /// Partitions of the topic
    #[arg(long, default_value_t = 6)]
    partitions: i32,
    /// Records a second, each sent at once [default: as many as go]
    #[arg(long)]
    rate: Option<u32>,
    /// From a client that puts many partitions into a request, and costs little: without it thousands of partitions keep
    /// librdkafka busy, and not the broker
    #[arg(long, conflicts_with_all = ["rate", "brokers"])]
    spread: bool,
    /// How long each part takes [default: 10; with --quick 3]
    #[arg(long)]
    seconds: Option<u64>,
}

/// Lines of the table of functions.
const FUNCTIONS: usize = 25;
/// System calls that are named; there are few others.
const CALLS: usize = 12;

struct Load {
    cluster: Cluster,
    options: Options,
    length: Duration,
    topics: usize,
}

/// What one part of the profile saw.
struct Seen {
    records: f64,
    counters: Counters,
}

/// Runs all parts, and prints and keeps what came of them.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    let Software::Chronik(binary) = &settings.software else { anyhow::bail!("only Chronik is profiled") };
    perf::check()?;
    let folder = target().join("profile");
    std::fs::create_dir_all(&folder)?;
    let mut cluster = Cluster::new(&settings.software, options.brokers as usize, &[])?;
    cluster.start_all()?;
    cluster.wait_for_brokers(options.brokers as usize)?;
    let length = Duration::from_secs(options.seconds.unwrap_or(if settings.quick { 3 } else { 10 }));
    let mut load = Load { cluster, options: options.clone(), length, topics: 0 };
    load.run("the first load", || Ok(()))?;

    let (bare, ()) = load.run("counted with nothing attached", || Ok(()))?;
    report.table(costs(&load.title(), &bare));
    report.table(threads(&bare));

    let data = folder.join("perf.data");
    let pids = load.pids()?;
    let (_, recording) = load.run("recorded", || perf::record(&pids, &data))?;
    recording.stop()?;
    let svg = load.svg(&folder);
    let functions = perf::flame_graph(&data, &svg, &load.title())?;
    ensure!(!functions.is_empty(), "perf took no samples of the brokers");
    report.table(functions_table(&functions));
    report.check("a flame graph is made", true, svg.display());

    let counted = load.counted("system calls counted", || perf::count_system_calls(&pids, &folder));
    report_counts(report, "System calls and woken threads", counted, perf::counts);
    let counted = Probes::place(binary).and_then(|probes| {
        let counted = load.counted("functions counted", || probes.count(&pids, &folder));
        drop(probes);
        counted
    });
    report_counts(report, "Functions, which run slower while they are counted", counted, Probes::sums);
    load.cluster.check_alive()
}

impl Load {
    fn title(&self) -> String {
        let Options { brokers, size, partitions, rate, spread, .. } = &self.options;
        let rate = rate.map_or("as many as go".to_owned(), |rate| format!("{rate} a second"));
        let client = if *spread { ", many partitions in a request" } else { "" };
        format!("{brokers} broker(s), RF {brokers}, {partitions} partitions, records of {size} B, {rate}{client}")
    }

    fn svg(&self, folder: &Path) -> PathBuf {
        let Options { brokers, size, partitions, rate, spread, .. } = &self.options;
        let rate = rate.map_or(String::new(), |rate| format!("-{rate}-a-second"));
        let spread = if *spread { "-spread" } else { "" };
        folder.join(format!("{brokers}-brokers-{partitions}-partitions-{size}-bytes{rate}{spread}.svg"))
    }

    fn pids(&self) -> Result<Vec<u32>> {
        (0..self.cluster.size()).map(|id| self.cluster.pid(id)).collect()
    }

    /// Writes for a while to a topic of its own; `watch` begins to watch when that is there.
    fn run<W>(&mut self, part: &str, watch: impl FnOnce() -> Result<W>) -> Result<(Seen, W)> {
        println!("{part}: {} s", self.length.as_secs());
        let Options { brokers, size, partitions, rate, spread, .. } = self.options;
        let bootstrap = self.cluster.bootstrap();
        self.topics += 1;
        let topic = format!("profile-{}", self.topics);
        let metadata = Metadata::new(&bootstrap)?;
        metadata.create_topic(&topic, partitions, brokers as i32, &[])?;
        let watching = watch()?;
        let before = Counters::of(&self.cluster)?;
        let records = match rate {
            None if spread => {
                let address = self.cluster.ports(0).kafka;
                spread::write(address, &topic, partitions, size, self.length)?.bytes as f64 / size as f64
            }
            None => client::throughput(&bootstrap, &topic, partitions, size, self.length)?.records as f64,
            Some(rate) => {
                client::paced(&bootstrap, &topic, partitions, size, rate, self.length)?;
                self.length.as_secs_f64() * f64::from(rate)
            }
        };
        let counters = Counters::of(&self.cluster)? - before;
        metadata.delete_topic(&topic)?;
        Ok((Seen { records, counters }, watching))
    }

    fn counted(&mut self, part: &str, watch: impl FnOnce() -> Result<Attached>) -> Result<(Seen, String)> {
        let (seen, watching) = self.run(part, watch)?;
        Ok((seen, watching.stop()?))
    }
}

fn report_counts(report: &mut Report, title: &str, counted: Result<(Seen, String)>, read: impl Fn(&str) -> Counts) {
    let table = counted.and_then(|(seen, said)| {
        let counts = read(&said);
        ensure!(!counts.is_empty(), "nothing was counted:\n{said}");
        Ok(counts_table(title, &seen, &counts))
    });
    match table {
        Ok(table) => report.table(table),
        Err(error) => report.could_not_run(format!("{title}: {error:#}")),
    }
}

fn costs(title: &str, seen: &Seen) -> Table {
    let Seen { records, counters: c } = seen;
    let batches = c.log_operations;
    let mut table = Table::new(
        &format!("{title}; all brokers together. A batch is one operation of one log: each replica has its own."),
        &["figure", "in all", "per batch", "per million records", "per GB of batches"],
    );
    let mut row = |name: &str, value: f64| {
        table.row(vec![
            name.to_owned(),
            readable(value),
            readable(value / batches),
            readable(value / records * 1e6),
            readable(value / c.log_bytes * 1e9),
        ]);
    };
    row("records", *records);
    row("batches", batches);
    row("produce requests", c.produce_requests);
    row("commit rounds", c.rounds);
    row("CPU, s", c.cpu_s());
    row("of it in user mode, s", c.user_s);
    row("of it in the kernel, s", c.system_s);
    row("waits of threads", c.waits);
    row("preemptions of threads", c.preemptions);
    row("bytes of batches", c.log_bytes);
    row("bytes to the disk", c.disk_bytes);
    table
}

fn threads(seen: &Seen) -> Table {
    let mut table = Table::new("CPU by the name of the thread", &["thread", "s", "share", "s per million records"]);
    let mut threads: Vec<_> = seen.counters.by_thread.iter().collect();
    threads.sort_by(|a, b| b.1.total_cmp(a.1));
    let all: f64 = threads.iter().map(|(_, seconds)| **seconds).sum();
    for (name, seconds) in threads.into_iter().filter(|(_, seconds)| **seconds > 0.0) {
        let per_million = readable(seconds / seen.records * 1e6);
        table.row(vec![name.clone(), readable(*seconds), percent(seconds / all), per_million]);
    }
    table
}

fn functions_table(functions: &[(String, f64)]) -> Table {
    let mut table = Table::new("Functions by their own time", &["share", "function"]);
    for (name, share) in functions.iter().take(FUNCTIONS) {
        table.row(vec![percent(*share), name.clone()]);
    }
    table
}

fn counts_table(title: &str, seen: &Seen, counts: &Counts) -> Table {
    let mut table = Table::new(title, &["what", "in all", "per batch", "per thousand records"]);
    let mut counts: Vec<_> = counts.iter().filter(|(_, count)| **count > 0.0).collect();
    counts.sort_by(|a, b| b.1.total_cmp(a.1));
    for (name, count) in counts.into_iter().take(CALLS) {
        let per_batch = readable(count / seen.counters.log_operations);
        table.row(vec![name.clone(), readable(*count), per_batch, readable(count / seen.records * 1e3)]);
    }
    table
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Three digits or all before the point; a dash for what cannot be divided.
fn readable(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".into(),
        0.0 => "0".into(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.2}"),
        v if v >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_divided_by_batches_records_and_bytes() {
        let counters =
            Counters { user_s: 1.0, system_s: 3.0, log_operations: 2000.0, log_bytes: 2e9, ..Counters::default() };
        let table = costs("", &Seen { records: 1e6, counters });
        let cpu = table.rows().iter().find(|row| row[0] == "CPU, s").expect("a row");
        assert_eq!(cpu[1..], ["4.00", "0.0020", "4.00", "2.00"]);
    }

    #[test]
    fn what_cannot_be_divided_is_a_dash() {
        assert_eq!(readable(f64::INFINITY), "-");
        assert_eq!(readable(f64::NAN), "-");
    }
}
