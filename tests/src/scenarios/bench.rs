//! Chronik beside Apache Kafka: the same client, the same machine, one after the other, in alternation.
//!
//! Kafka runs with its default settings, which do not sync what they acknowledge; with `--synced` it also runs with
//! `log.flush.interval.messages=1`, which is the promise that Chronik always gives.

use super::Settings;
use super::bench_chart::chart;
use super::bench_parts::{Contestant, Figures, Metric, Part};
use crate::harness::cluster::Software;
use crate::harness::kafka::Kafka;
use crate::harness::target;
use crate::report::{Report, Table, median};
use anyhow::{Result, ensure};
use serde_json::json;
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
    /// What is measured: three brokers, one, or one with more and more partitions
    #[arg(long, value_enum, value_delimiter = ',', default_value = "three")]
    parts: Vec<Part>,
    /// Measure Chronik alone, to compare the figures with earlier ones
    #[arg(long)]
    alone: bool,
}

/// What a contestant's rounds brought.
#[derive(Debug, Default)]
struct Rounds {
    complete: Vec<Figures>,
    /// How many did not come to their end, or brought something that is no figure.
    failed: usize,
}

/// Both, in alternation; the tables show medians and their ratios.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    let rounds = settings.rounds.unwrap_or(match (settings.quick, settings.full) {
        (true, _) => 1,
        (_, true) => 5,
        _ => 3,
    });
    let seconds = options.seconds.unwrap_or(if settings.quick { 3 } else { 10 });
    let contestants = contestants(settings, options, report);
    for part in &options.parts {
        measure(*part, rounds, Duration::from_secs(seconds), &contestants, report)?;
    }
    Ok(())
}

fn measure(part: Part, rounds: usize, length: Duration, contestants: &[Contestant], report: &mut Report) -> Result<()> {
    let mut all: Vec<Rounds> = contestants.iter().map(|_| Rounds::default()).collect();
    for round in 1..=rounds {
        for (contestant, rounds_of) in contestants.iter().zip(&mut all) {
            println!("{}, round {round} of {rounds}: {}", part.name(), contestant.name);
            let outcome = part.measure(contestant, length).and_then(|figures| whole(part.metrics(), figures));
            let outcome = outcome.map(|figures| rounds_of.complete.push(figures));
            rounds_of.failed += usize::from(outcome.is_err());
            let name = format!("{}, round {round}, {}", part.name(), contestant.name);
            report.check_result(name, outcome.map(|()| "measured".into()));
        }
    }
    let title = format!("{}; medians of {rounds}, with {} s for each throughput", part.title(), length.as_secs());
    let names: Vec<_> = contestants.iter().map(|c| c.name).collect();
    keep(part, &title, &names, &all)?;
    report.table(table(&title, part.metrics(), &names, &all));
    Ok(())
}

/// Writes all rounds as JSON, and the ratios as a chart.
fn keep(part: Part, title: &str, names: &[&str], all: &[Rounds]) -> Result<()> {
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let contestants: Vec<_> = names
        .iter()
        .zip(all)
        .map(|(name, rounds)| json!({ "name": name, "rounds": rounds.complete, "failed": rounds.failed }))
        .collect();
    let better: Vec<_> = part.metrics().iter().map(|m| json!({ "figure": m.name, "more_is_better": m.more })).collect();
    let kept = json!({ "title": title, "figures": better, "contestants": contestants });
    std::fs::write(folder.join(format!("{}.json", part.name())), serde_json::to_vec_pretty(&kept)?)?;
    let Some(peer) = all.get(1) else { return Ok(()) };
    let ratio = |metric: &Metric| Some((metric.name, all[0].median(metric)? / peer.median(metric)?, metric.more));
    let ratios: Vec<_> = part.metrics().iter().filter_map(ratio).collect();
    let svg = chart(&format!("{} / {}. {title}", names[0], names[1]), &ratios);
    Ok(std::fs::write(folder.join(format!("{}.svg", part.name())), svg)?)
}

/// A round counts as a whole: every metric has a value, and one that can be divided by.
fn whole(metrics: &[Metric], figures: Figures) -> Result<Figures> {
    for Metric { name, .. } in metrics {
        let value = figures.get(name).copied().unwrap_or(f64::NAN);
        ensure!(value.is_finite() && value > 0.0, "{name}: {value}");
    }
    Ok(figures)
}

fn contestants(settings: &Settings, options: &Options, report: &mut Report) -> Vec<Contestant> {
    let mut contestants = Vec::new();
    if let Software::Chronik(_) = settings.software {
        contestants.push(Contestant { name: "chronik", software: settings.software.clone(), properties: &[] });
    }
    if options.alone {
        return contestants;
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

/// Medians and their ratios. A contestant with a round that failed has no figure, and nobody is compared with it: the
/// rounds that are left are not those that the others are measured by.
fn table(title: &str, metrics: &[Metric], names: &[&str], all: &[Rounds]) -> Table {
    let mut columns = vec!["figure".to_owned()];
    columns.extend(names.iter().map(|name| (*name).to_owned()));
    columns.extend(names.iter().skip(1).map(|name| format!("{} / {name}", names[0])));
    columns.push("better is".into());
    let mut table = Table::new(title, &columns.iter().map(String::as_str).collect::<Vec<_>>());
    for metric in metrics {
        let medians: Vec<_> = all.iter().map(|rounds| rounds.median(metric)).collect();
        let shown = |value: Option<String>| value.unwrap_or_else(|| "failed".into());
        let mut row = vec![metric.name.to_owned()];
        row.extend(medians.iter().map(|value| shown(value.map(readable))));
        let ratio = |other: &Option<f64>| Some(format!("{:.2}", medians[0]? / (*other)?));
        row.extend(medians.iter().skip(1).map(|other| shown(ratio(other))));
        row.push(if metric.more { "more" } else { "less" }.into());
        table.row(row);
    }
    table
}

impl Rounds {
    /// The median of all rounds, if all came to their end.
    fn median(&self, metric: &Metric) -> Option<f64> {
        let values: Option<Vec<_>> = self.complete.iter().map(|figures| figures.get(metric.name).copied()).collect();
        values.filter(|values| self.failed == 0 && !values.is_empty()).map(|values| median(&values))
    }
}

fn readable(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: [Metric; 2] = [Metric { name: "speed", more: true }, Metric { name: "delay", more: false }];

    fn figures(value: f64) -> Figures {
        METRICS.iter().map(|metric| (metric.name, value)).collect()
    }

    fn cells(all: &[Rounds]) -> Vec<String> {
        table("", &METRICS, &["one", "other"], all).rows().first().expect("a row").clone()
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
        assert!(whole(&METRICS, figures(1.0)).is_ok());
        for none in [f64::NAN, f64::INFINITY, 0.0] {
            let mut spoiled = figures(1.0);
            spoiled.insert("speed", none);
            assert!(whole(&METRICS, spoiled).is_err());
        }
        let mut partial = figures(1.0);
        partial.remove("delay");
        assert!(whole(&METRICS, partial).is_err());
    }
}
