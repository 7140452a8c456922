//! Apache Kafka's own integration tests, against brokers in processes of their own. `tests/kafka-suite` says how.

mod build;
mod jvms;
mod manifest;
mod outcome;
mod reasons;

use super::Settings;
use crate::harness::cluster::Software;
use crate::report::{Report, Table};
use anyhow::{Context, Result, ensure};
use build::{Suite, folder, sources};
use clap::Args;
use jvms::Jvms;
use manifest::{Judgement, Manifest};
use outcome::{Ending, Outcome};
use regex::{Regex, RegexSet};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::num::NonZero;
use std::thread;
use std::time::Duration;

/// Failures that nobody knows of are tried again while they are a few: so many at least, and this part of all tests.
/// More of them are one fault.
const A_FEW: (usize, usize) = (10, 25);

/// A run of at least so many tests is one of all of them, and not of what a filter chose.
const ALL: usize = 1000;

/// Of all tests, so many pass at least.
const LEAST_PASSED: usize = 520;

/// Of the tests that need nothing of what is left aside, so many in a thousand pass at least.
const LEAST_PER_MILLE: usize = 900;

/// How much longer a test may take that is tried again. Some wait for minutes by themselves; a fault stays one.
const PATIENCE: u32 = 4;

/// A test that takes so long, in milliseconds, may be over the limit on a slower machine.
const LONG: u64 = 20_000;

/// Which tests, and how.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Options {
    /// The tests whose `Class#method` matches this, known failures too [default: what `tests/kafka-suite/chosen.txt`
    /// says, without known failures; with --full all]
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
    /// Run nothing, and take the results of the run before
    #[arg(long, conflicts_with_all = ["filter", "jobs", "limit", "keep"])]
    last: bool,
    /// Write what was seen to `tests/kafka-suite/known-failures.tsv`; reasons that are there stay
    #[arg(long)]
    bless: bool,
    /// With --bless: find all reasons anew, except that internals are needed
    #[arg(long, requires = "bless")]
    new_reasons: bool,
    /// Test JVMs at a time [default: two for each processor, as most tests wait]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Seconds for one test [default: 60, and 180 with --software kafka]
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    /// Keep the folders of clusters whose test failed, until the next run
    #[arg(long)]
    keep: bool,
}

/// Runs them, and holds what became of them against the known failures.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    let is_kafka = matches!(settings.software, Software::Kafka(_));
    ensure!(!(is_kafka && options.bless), "the known failures are Chronik's");
    fs::create_dir_all(folder())?;
    let lock = File::create(folder().join("lock"))?;
    lock.try_lock().ok().context("the suite runs already in this work tree")?;
    let path = sources().join("known-failures.tsv");
    let mut manifest = if is_kafka { Manifest::default() } else { Manifest::load(&path)? };
    let suite = Suite::build()?;
    let results = folder().join(format!("results-{}.tsv", settings.software.name()));
    let (outcomes, unsteady) = if options.last {
        let text = fs::read_to_string(&results).with_context(|| format!("read {}", results.display()))?;
        (text.lines().map(Outcome::parse).collect::<Result<_>>()?, Vec::new())
    } else {
        run_tests(settings, options, &suite, &manifest)?
    };
    if options.bless {
        let heard: BTreeSet<_> = outcomes.iter().map(Outcome::method).collect();
        let everything = suite.tests.iter().all(|test| heard.contains(test.as_str()));
        manifest.bless(&outcomes, everything, options.new_reasons);
        manifest.save(&path)?;
    }
    let lines: Vec<_> = outcomes.iter().map(|o| o.line() + "\n").collect();
    fs::write(results, lines.concat())?;
    report_outcomes(settings, &manifest, &outcomes, &unsteady, report);
    Ok(())
}

/// What became of the tests that were asked for, and which of them failed only beside others.
fn run_tests(
    settings: &Settings,
    options: &Options,
    suite: &Suite,
    manifest: &Manifest,
) -> Result<(Vec<Outcome>, Vec<String>)> {
    let is_kafka = matches!(settings.software, Software::Kafka(_));
    let tests = choose(settings, options, suite, manifest)?;
    ensure!(!tests.is_empty(), "no test has such a name");
    remove_leftovers()?;
    let mut data = tempfile::Builder::new().prefix("data-").tempdir_in(folder())?;
    data.disable_cleanup(options.keep);
    let mut jvms = Jvms {
        suite,
        software: &settings.software,
        limit: Duration::from_secs(options.limit.unwrap_or(if is_kafka { 180 } else { 60 })),
        jobs: options.jobs.unwrap_or_else(|| 2 * thread::available_parallelism().map_or(1, NonZero::get)),
        keep: options.keep,
        data: data.path().to_owned(),
    };
    println!("{} methods, {} JVMs at a time; logs in {}", tests.len(), jvms.jobs, folder().join("logs").display());
    let mut outcomes = jvms.run(&tests)?;
    (jvms.jobs, jvms.limit) = (1, jvms.limit * PATIENCE);
    let unsteady = try_again(&jvms, manifest, &mut outcomes)?;
    Ok((outcomes, unsteady))
}

/// Clusters' folders of a run that was killed, or that kept them.
fn remove_leftovers() -> Result<()> {
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("data-")) {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

fn choose(settings: &Settings, options: &Options, suite: &Suite, manifest: &Manifest) -> Result<Vec<String>> {
    let all = suite.tests.iter();
    if let Some(filter) = &options.filter {
        return Ok(all.filter(|test| filter.is_match(test)).cloned().collect());
    }
    if settings.full {
        return Ok(all.cloned().collect());
    }
    let path = sources().join("chosen.txt");
    let text = fs::read_to_string(&path)?;
    let chosen = RegexSet::new(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')))
        .with_context(|| path.display().to_string())?;
    Ok(all.filter(|test| chosen.is_match(test) && !manifest.knows(test)).cloned().collect())
}

/// Failures that nobody knows of are run once more, one at a time and with more patience, as Kafka's own build does;
/// which of them pass then is returned. Who needs internals will need them again.
fn try_again(jvms: &Jvms<'_>, manifest: &Manifest, outcomes: &mut Vec<Outcome>) -> Result<Vec<String>> {
    let unexpected = manifest.judge(outcomes).unexpected;
    let again = unexpected.iter().filter(|o| o.ending != Ending::Internals).map(|o| o.method().to_owned());
    let again: BTreeSet<_> = again.collect();
    let (least, part) = A_FEW;
    if again.is_empty() || again.len() > least.max(outcomes.len() / part) {
        return Ok(Vec::new());
    }
    println!("once more, one at a time: {} methods", again.len());
    let second = jvms.run(&again.iter().cloned().collect::<Vec<_>>())?;
    let unsteady = second.iter().filter(|o| o.ending == Ending::Passed && manifest.reason(&o.test).is_none());
    let unsteady = unsteady.map(|o| o.test.clone()).collect();
    outcomes.retain(|o| !again.contains(o.method()));
    outcomes.extend(second);
    outcomes.sort_by(|a, b| a.test.cmp(&b.test));
    Ok(unsteady)
}

fn report_outcomes(
    settings: &Settings,
    manifest: &Manifest,
    outcomes: &[Outcome],
    unsteady: &[String],
    report: &mut Report,
) {
    let judgement = manifest.judge(outcomes);
    let waiting = waiting(manifest, outcomes);
    if !waiting.rows().is_empty() {
        report.table(waiting);
    }
    let dropped = count(outcomes.iter().flat_map(|o| o.dropped.iter().map(String::as_str)));
    if !dropped.is_empty() {
        let mut table = Table::new(
            "Broker properties that were left out, as the broker does not take them",
            &["property", "tests"],
        );
        for (property, tests) in dropped {
            table.row(vec![property.to_owned(), tests.to_string()]);
        }
        report.table(table);
    }
    for outcome in &judgement.unexpected {
        let kind = if outcome.ending == Ending::Error { "the suite's own fault: " } else { "" };
        report.check(&outcome.test, false, format!("{kind}{} [{}]", outcome.error, outcome.refusals.join(", ")));
    }
    for outcome in &judgement.mended {
        println!("passes, and known-failures.tsv says that it fails: {}", outcome.test);
    }
    for outcome in outcomes.iter().filter(|o| o.ending == Ending::Passed && o.millis > LONG) {
        println!("passed after {} s: {}", outcome.millis / 1000, outcome.test);
    }
    let others = without_what_is_aside(manifest, outcomes);
    if let Some(others) = &others {
        println!("{}", others.text);
    }
    for test in unsteady {
        println!("failed, and passed when it ran alone: {test}");
    }
    if settings.strict {
        report.check(
            "what is known to fail fails",
            judgement.mended.is_empty(),
            format!("{} pass", judgement.mended.len()),
        );
        report.check("no test both fails and passes", unsteady.is_empty(), format!("{} do", unsteady.len()));
    }
    let Judgement { passed, failed_as_known, needs_internals, skipped, unexpected, .. } = &judgement;
    // Known failures are no excuse for fewer than these, which the tests as a whole have to show.
    if settings.full && outcomes.len() >= ALL {
        report.check(format!("{LEAST_PASSED} pass"), *passed >= LEAST_PASSED, format!("{passed} do"));
        if let Some(others) = others {
            let enough = others.per_mille >= LEAST_PER_MILLE;
            report.check("nine of ten that need nothing of what is left aside pass", enough, others.text);
        }
    }
    let mut counts = format!("{passed} passed, {failed_as_known} failed as known, {needs_internals} need internals");
    for (number, what) in [(unexpected.len(), "failed unexpectedly"), (*skipped, "skipped")] {
        if number > 0 {
            counts = format!("{counts}, {number} {what}");
        }
    }
    report.check("Apache Kafka's own tests", unexpected.is_empty() && *passed > 0, counts);
}

/// How many tests pass of those that need nothing of what is left aside.
struct Others {
    per_mille: usize,
    text: String,
}

fn without_what_is_aside(manifest: &Manifest, outcomes: &[Outcome]) -> Option<Others> {
    let good = |o: &&Outcome| o.ending == Ending::Passed;
    let counts = outcomes.iter().filter(|o| {
        // A reason is no longer true of a test that passes, unless that test is flaky.
        let reason = manifest.reason(&o.test).filter(|reason| !good(o) || reasons::is_unsteady(reason));
        o.ending != Ending::Skipped && !reasons::is_aside(o.method(), reason)
    });
    let (passed, failed): (Vec<_>, Vec<_>) = counts.partition(good);
    let all = passed.len() + failed.len();
    let per_mille = (passed.len() * 1000).checked_div(all)?;
    let aside = reasons::ASIDE.join(", ");
    let (whole, tenth) = (per_mille / 10, per_mille % 10);
    let text = format!("{} of {all} ({whole}.{tenth} %) pass of the tests that need none of {aside}", passed.len());
    Some(Others { per_mille, text })
}

/// How many of the known failures wait for what.
fn waiting(manifest: &Manifest, outcomes: &[Outcome]) -> Table {
    let mut table = Table::new("Known failures by what they wait for", &["feature", "tests", "and nothing else"]);
    let mut waits: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for reason in outcomes.iter().filter(|o| o.fails()).filter_map(|o| manifest.reason(&o.test)) {
        let parts = reasons::parts(reason);
        for part in &parts {
            let (all, alone) = waits.entry(part).or_default();
            *all += 1;
            *alone += usize::from(parts.len() == 1);
        }
    }
    let mut rows: Vec<_> = waits.into_iter().collect();
    rows.sort_by_key(|(_, (all, _))| std::cmp::Reverse(*all));
    for (feature, (all, alone)) in rows {
        table.row(vec![feature.to_owned(), all.to_string(), alone.to_string()]);
    }
    table
}

fn count<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
