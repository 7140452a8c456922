//! Test JVMs: each runs some tests of a class, one after the other, as Kafka's tests use statics of their JVM.

use super::build::{Suite, folder};
use super::outcome::{Outcome, method_of};
use crate::harness::cluster::Software;
use crate::harness::ports;
use crate::harness::process::Process;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Tests that one JVM runs: it takes seconds to start, and what it ends badly is lost for all of them.
const TESTS_A_JVM: usize = 10;
/// For several clusters, as a client that a test left open must not find the next one.
const PORTS_A_JVM: usize = 150;

/// What all JVMs of a run have in common.
pub(super) struct Jvms<'a> {
    pub(super) suite: &'a Suite,
    pub(super) software: &'a Software,
    /// For one test.
    pub(super) limit: Duration,
    /// At a time.
    pub(super) jobs: usize,
    /// Clusters of failed tests keep their folders.
    pub(super) keep: bool,
    /// Where clusters have their folders.
    pub(super) data: PathBuf,
}

/// Tests of one class.
struct Batch {
    name: String,
    class: String,
    methods: Vec<String>,
}

/// Puts tests together that one JVM can run; the largest first, so that the end is not one JVM's.
fn batches(tests: &[String]) -> Vec<Batch> {
    let mut classes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (class, method) in tests.iter().filter_map(|test| test.split_once('#')) {
        classes.entry(class).or_default().push(method.to_owned());
    }
    let mut batches: Vec<_> = classes
        .iter()
        .flat_map(|(class, methods)| {
            let size = methods.len().div_ceil(methods.len().div_ceil(TESTS_A_JVM));
            methods.chunks(size).enumerate().map(move |(part, methods)| Batch {
                name: format!("{class}-{part}"),
                class: (*class).to_owned(),
                methods: methods.to_vec(),
            })
        })
        .collect();
    batches.sort_by_key(|batch| std::cmp::Reverse(batch.methods.len()));
    batches
}

impl Jvms<'_> {
    /// Runs tests, and returns what became of each, sorted by name.
    pub(super) fn run(&self, tests: &[String]) -> Result<Vec<Outcome>> {
        let batches = batches(tests);
        let (total, jobs) = (batches.len(), self.jobs.clamp(1, batches.len().max(1)));
        let queue = Mutex::new(VecDeque::from(batches));
        let done = Mutex::new((0, Vec::new()));
        let worker = || -> Result<()> {
            let ports = (0..PORTS_A_JVM).map(|_| ports::free()).collect::<Result<Vec<_>>>()?;
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(batch) = next else { return Ok(()) };
                let outcomes = self.batch(&batch, &ports)?;
                let failed = outcomes.iter().filter(|o| o.fails()).count();
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.0 += 1;
                println!("{}/{total} {}: {} tests, {failed} failed", done.0, batch.name, outcomes.len());
                done.1.extend(outcomes);
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
        })?;
        let (_, mut outcomes) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcomes.sort_by(|a, b| a.test.cmp(&b.test));
        Ok(outcomes)
    }

    fn batch(&self, batch: &Batch, ports: &[u16]) -> Result<Vec<Outcome>> {
        let logs = folder().join("logs");
        fs::create_dir_all(&logs)?;
        let (results, log) = (logs.join(format!("{}.tsv", batch.name)), logs.join(format!("{}.log", batch.name)));
        for old in [&results, &log] {
            let _ = fs::remove_file(old);
        }
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        let mut settings = vec![
            ("leash", format!("/proc/{}/exe", process::id())),
            ("data", self.data.display().to_string()),
            ("limit", self.limit.as_secs().to_string()),
            ("keep", self.keep.to_string()),
            ("ports", ports.join(",")),
        ];
        match self.software {
            Software::Chronik(binary) => settings.push(("chronik", binary.display().to_string())),
            Software::Kafka(_) => settings.push(("kafka", true.to_string())),
        }
        let mut command = self.suite.jvm(&settings)?;
        command.arg(&results).arg(&batch.class).args(&batch.methods);
        let end = self.watch(Process::start(&batch.name, command, &log)?, &log)?;
        let text = fs::read(&results).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        // What was cut off when the JVM was ended is no result.
        let mut outcomes: Vec<_> = text.lines().filter_map(|line| Outcome::parse(line).ok()).collect();
        let heard: BTreeSet<_> = outcomes.iter().map(|o| method_of(&o.test).to_owned()).collect();
        let names = batch.methods.iter().map(|method| format!("{}#{method}", batch.class));
        outcomes.extend(names.filter(|name| !heard.contains(name)).map(|name| Outcome::missing(&name, &end)));
        Ok(outcomes)
    }

    /// Waits until a JVM ends, and ends it when it has been silent for too long: it says when a test begins.
    fn watch(&self, mut jvm: Process, log: &Path) -> Result<String> {
        // A cluster may take two minutes to start; then the limit is for set-up, test and clean-up each.
        let patience = Duration::from_mins(3) + self.limit * 4;
        let mut seen = (0, Instant::now());
        loop {
            if let Some(status) = jvm.has_ended()? {
                return Ok(format!("its JVM ended with {status}; see {}", log.display()));
            }
            let length = fs::metadata(log).context("the log of a JVM")?.len();
            if length != seen.0 {
                seen = (length, Instant::now());
            }
            if seen.1.elapsed() > patience {
                jvm.kill()?;
                return Ok(format!("its JVM was ended, as it hung; see {}", log.display()));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TESTS_A_JVM, batches};

    #[test]
    fn every_test_is_in_one_batch_and_no_batch_is_too_large() {
        let tests: Vec<_> = (0..25).map(|n| format!("a.Large#test{n}")).chain(["b.Small#test".to_owned()]).collect();
        let batches = batches(&tests);
        let mut seen: Vec<_> =
            batches.iter().flat_map(|b| b.methods.iter().map(|m| format!("{}#{m}", b.class))).collect();
        seen.sort();
        let mut wanted = tests.clone();
        wanted.sort();
        assert_eq!(seen, wanted);
        assert!(batches.iter().all(|b| (1..=TESTS_A_JVM).contains(&b.methods.len())));
    }
}
