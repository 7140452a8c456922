//! Chronik beside Apache Kafka: the same client, the same machine, one after the other, in alternation.
//!
//! Kafka runs with its default settings, which do not sync what they acknowledge; with `--synced` it also runs with
//! `log.flush.interval.messages=1`, which is the promise that Chronik always gives.

use super::Settings;
use super::bench_client as client;
use super::first_write::{Client, Writer};
use crate::harness::cluster::{Cluster, Software};
use crate::harness::kafka::Kafka;
use crate::harness::metadata::Metadata;
use crate::report::{Report, Table, median, percentile};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::time::Duration;

/// What to run of it.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Also measure Kafka with every write synced, as Chronik's are
    #[arg(long)]
    synced: bool,
    /// How long each throughput is measured, in seconds [default: 10; with --quick 3]
    #[arg(long)]
    seconds: Option<u64>,
}

const PARTITIONS: i32 = 6;

struct Contestant {
    name: &'static str,
    software: Software,
    properties: &'static [(&'static str, &'static str)],
}

/// What is measured, in the order of the table, and whether more of it is better.
const METRICS: [(&str, bool); 15] = [
    ("cold start → first acks=all, ms", false),
    ("throughput 1 KiB, MB/s", true),
    ("throughput 1 KiB, records/s", true),
    ("throughput 100 B, MB/s", true),
    ("throughput 100 B, records/s", true),
    ("one 1 KiB record at a time, p50 ms", false),
    ("one 1 KiB record at a time, p99 ms", false),
    ("2,000 records/s of 1 KiB, p50 ms", false),
    ("2,000 records/s of 1 KiB, p99 ms", false),
    ("brokers' CPU, s per GB of 1 KiB", false),
    ("brokers' CPU, s per million of 100 B", false),
    ("brokers' CPU, s, whole run", false),
    ("a broker's RSS after it all, MB", false),
    ("a broker's peak RSS, MB", false),
    ("a broker's RSS before the load, MB", false),
];

/// One round of one contestant: a value for each metric.
type Figures = BTreeMap<&'static str, f64>;

/// What a contestant's rounds brought.
#[derive(Debug, Default)]
struct Rounds {
    complete: Vec<Figures>,
    /// How many did not come to their end, or brought something that is no figure.
    failed: usize,
}

/// Both, in alternation; the table holds medians and their ratios.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    let rounds = settings.rounds.unwrap_or(match (settings.quick, settings.full) {
        (true, _) => 1,
        (_, true) => 5,
        _ => 3,
    });
    let seconds = options.seconds.unwrap_or(if settings.quick { 3 } else { 10 });
    let contestants = contestants(settings, options, report);
    let mut all: Vec<Rounds> = contestants.iter().map(|_| Rounds::default()).collect();
    for round in 1..=rounds {
        for (contestant, rounds_of) in contestants.iter().zip(&mut all) {
            println!("round {round} of {rounds}: {}", contestant.name);
            let outcome = measure(contestant, Duration::from_secs(seconds)).and_then(whole);
            let outcome = outcome.map(|figures| rounds_of.complete.push(figures));
            rounds_of.failed += usize::from(outcome.is_err());
            report.check_result(format!("round {round}, {}", contestant.name), outcome.map(|()| "measured".into()));
        }
    }
    let title = format!(
        "Three brokers, RF 3, min.insync.replicas 2, {PARTITIONS} partitions, idempotent acks=all from librdkafka; \
         medians of {rounds}"
    );
    let names: Vec<_> = contestants.iter().map(|c| c.name).collect();
    report.table(table(&title, &names, &all));
    Ok(())
}

/// A round counts as a whole: every metric has a value, and one that can be divided by.
fn whole(figures: Figures) -> Result<Figures> {
    for (metric, _) in METRICS {
        let value = figures.get(metric).copied().unwrap_or(f64::NAN);
        ensure!(value.is_finite() && value > 0.0, "{metric}: {value}");
    }
    Ok(figures)
}

fn contestants(settings: &Settings, options: &Options, report: &mut Report) -> Vec<Contestant> {
    let mut contestants = Vec::new();
    if let Software::Chronik(_) = settings.software {
        contestants.push(Contestant { name: "chronik", software: settings.software.clone(), properties: &[] });
    }
    match Kafka::fetch() {
        Ok(kafka) => {
            let software = Software::Kafka(kafka);
            contestants.push(Contestant { name: "kafka", software: software.clone(), properties: &[] });
            if options.synced {
                let properties = &[("log.flush.interval.messages", "1")];
                contestants.push(Contestant { name: "kafka synced", software, properties });
            }
        }
        Err(e) => report.could_not_run(format!("the benchmark beside Apache Kafka: {e:#}")),
    }
    contestants
}

fn measure(contestant: &Contestant, length: Duration) -> Result<Figures> {
    let mut figures = Figures::new();
    let mut cluster = Cluster::new(&contestant.software, 3, contestant.properties)?;
    let mut writer = Writer::prepare(Client::Librdkafka, &cluster.bootstrap(), None)?;
    let started = cluster.start_all()?;
    writer.go()?;
    let mut put = |metric: &'static str, value: f64| figures.insert(metric, value);
    put("cold start → first acks=all, ms", (writer.acknowledged()? - started).as_secs_f64() * 1e3);
    drop(writer);
    cluster.wait_for_brokers(3)?;
    let rss = |cluster: &Cluster| -> Result<f64> {
        let rss = (0..3).map(|id| Ok(cluster.usage(id)?.rss_bytes as f64 / 1e6)).collect::<Result<Vec<_>>>()?;
        Ok(median(&rss))
    };
    put("a broker's RSS before the load, MB", rss(&cluster)?);
    let bootstrap = cluster.bootstrap();
    let topic = |name: &str| -> Result<()> { Metadata::new(&bootstrap)?.create_topic(name, PARTITIONS, 3, &[]) };

    topic("latency")?;
    let single = client::one_at_a_time(&bootstrap, "latency", 1024, length / 2)?;
    put("one 1 KiB record at a time, p50 ms", percentile(&single, 50.0));
    put("one 1 KiB record at a time, p99 ms", percentile(&single, 99.0));
    let paced = client::paced(&bootstrap, "latency", PARTITIONS, 1024, 2_000, length)?;
    put("2,000 records/s of 1 KiB, p50 ms", percentile(&paced, 50.0));
    put("2,000 records/s of 1 KiB, p99 ms", percentile(&paced, 99.0));

    for (size, megabytes, records, cpu_metric) in [
        (1024, METRICS[1].0, METRICS[2].0, "brokers' CPU, s per GB of 1 KiB"),
        (100, METRICS[3].0, METRICS[4].0, "brokers' CPU, s per million of 100 B"),
    ] {
        topic(&format!("throughput-{size}"))?;
        let before = cpu(&cluster)?;
        let seen = client::throughput(&bootstrap, &format!("throughput-{size}"), PARTITIONS, size, length)?;
        let used = cpu(&cluster)? - before;
        put(records, seen.records_per_second);
        put(megabytes, seen.records_per_second * size as f64 / 1e6);
        let units = if size == 1024 { seen.records as f64 * 1024.0 / 1e9 } else { seen.records as f64 / 1e6 };
        put(cpu_metric, used / units);
    }
    put("brokers' CPU, s, whole run", cpu(&cluster)?);
    put("a broker's RSS after it all, MB", rss(&cluster)?);
    let peaks = (0..3).map(|id| Ok(cluster.usage(id)?.peak_rss_bytes as f64 / 1e6)).collect::<Result<Vec<_>>>()?;
    put("a broker's peak RSS, MB", peaks.into_iter().fold(0.0, f64::max));
    cluster.check_alive()?;
    Ok(figures)
}

fn cpu(cluster: &Cluster) -> Result<f64> {
    (0..cluster.size()).map(|id| Ok(cluster.usage(id)?.cpu.as_secs_f64())).sum()
}

/// Medians and their ratios. A contestant with a round that failed has no figure, and nobody is held against it: the
/// rounds that are left are not those that the others are measured by.
fn table(title: &str, names: &[&str], all: &[Rounds]) -> Table {
    let mut columns = vec!["figure".to_owned()];
    columns.extend(names.iter().map(|name| (*name).to_owned()));
    columns.extend(names.iter().skip(1).map(|name| format!("{} / {name}", names[0])));
    columns.push("better is".into());
    let mut table = Table::new(title, &columns.iter().map(String::as_str).collect::<Vec<_>>());
    for (metric, more_is_better) in METRICS {
        let medians: Vec<_> = all.iter().map(|rounds| rounds.median(metric)).collect();
        let shown = |value: Option<String>| value.unwrap_or_else(|| "failed".into());
        let mut row = vec![metric.to_owned()];
        row.extend(medians.iter().map(|value| shown(value.map(readable))));
        let ratio = |other: &Option<f64>| Some(format!("{:.2}", medians[0]? / (*other)?));
        row.extend(medians.iter().skip(1).map(|other| shown(ratio(other))));
        row.push(if more_is_better { "more" } else { "less" }.into());
        table.row(row);
    }
    table
}

impl Rounds {
    /// The median of all rounds, if all came to their end.
    fn median(&self, metric: &str) -> Option<f64> {
        let values: Option<Vec<_>> = self.complete.iter().map(|figures| figures.get(metric).copied()).collect();
        values.filter(|values| self.failed == 0 && !values.is_empty()).map(|values| median(&values))
    }
}

fn readable(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(value: f64) -> Figures {
        METRICS.iter().map(|(metric, _)| (*metric, value)).collect()
    }

    fn cells(all: &[Rounds]) -> Vec<String> {
        table("", &["one", "other"], all).rows().first().expect("a row").clone()
    }

    #[test]
    fn a_ratio_is_that_of_the_medians() {
        let one = Rounds { complete: vec![figures(1.0), figures(3.0), figures(8.0)], failed: 0 };
        let other = Rounds { complete: vec![figures(2.0)], failed: 0 };
        assert_eq!(cells(&[one, other])[1..4], ["3.00", "2.00", "1.50"]);
    }

    #[test]
    fn a_round_that_failed_leaves_no_figure_and_no_ratio() {
        let one = Rounds { complete: vec![figures(1.0), figures(3.0)], failed: 1 };
        let other = Rounds { complete: vec![figures(2.0)], failed: 0 };
        assert_eq!(cells(&[one, other])[1..4], ["failed", "2.00", "failed"]);
        assert_eq!(cells(&[Rounds::default(), Rounds::default()])[1..4], ["failed", "failed", "failed"]);
    }

    #[test]
    fn a_round_without_a_figure_or_with_what_is_none_is_not_whole() {
        assert!(whole(figures(1.0)).is_ok());
        for none in [f64::NAN, f64::INFINITY, 0.0] {
            let mut spoiled = figures(1.0);
            spoiled.insert(METRICS[4].0, none);
            assert!(whole(spoiled).is_err());
        }
        let mut partial = figures(1.0);
        partial.remove(METRICS[14].0);
        assert!(whole(partial).is_err());
    }
}
