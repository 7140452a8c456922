//! `cargo xtask test`: everything that this machine can run, in the order in which failures are cheapest.

use crate::build;
use crate::check::Need;
use crate::command::{cargo, run};
use crate::image;
use crate::mutants::Mutants;
use clap::Args;
use std::time::Instant;

/// Prepare what the tests need, run all that this machine can, and name what it could not.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// What could not be run counts as failed.
    #[arg(long)]
    all: bool,
    /// Fail where something takes longer than its target, and not only where it takes far longer: for a machine that
    /// does nothing else.
    #[arg(long)]
    strict: bool,
    /// The long run: as many rounds as there are for figures to publish, and all of Apache Kafka's own tests.
    #[arg(long)]
    full: bool,
    /// Only the suites whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

struct Suite {
    name: &'static str,
    needs: &'static [Need],
    run: fn(&Test) -> anyhow::Result<()>,
}

const SUITES: &[Suite] = &[
    Suite { name: "format", needs: &[], run: |_| run(&mut cargo(&["fmt", "--all", "--check"])) },
    Suite { name: "lints", needs: &[], run: lints },
    Suite { name: "unit tests and simulation", needs: &[], run: unit_tests },
    Suite { name: "start orders", needs: &[Need::Python], run: |test| outside(test, &["start-orders"]) },
    Suite { name: "lose a leader", needs: &[], run: |test| outside(test, &["failover"]) },
    Suite { name: "a thousand topics", needs: &[], run: |test| outside(test, &["many-topics"]) },
    Suite { name: "kill all brokers", needs: &[], run: |test| outside(test, &["crash-all"]) },
    Suite { name: "stop a leader past its lease", needs: &[], run: |test| outside(test, &["stopped-leader"]) },
    Suite { name: "a broker comes back", needs: &[], run: |test| outside(test, &["returning"]) },
    Suite { name: "disks are damaged", needs: &[], run: |test| outside(test, &["damaged-disks"]) },
    Suite { name: "a broker is far behind", needs: &[], run: |test| outside(test, &["far-behind"]) },
    Suite { name: "records leave", needs: &[], run: |test| outside(test, &["retention"]) },
    Suite { name: "compaction", needs: &[Need::Python], run: |test| outside(test, &["compaction"]) },
    Suite { name: "a large log is cleaned", needs: &[], run: |test| outside(test, &["cleaning"]) },
    Suite { name: "disks fill", needs: &[Need::Namespaces], run: |test| outside(test, &["full-disks"]) },
    Suite { name: "a disk hangs", needs: &[Need::Compiler], run: |test| outside(test, &["hung-disk"]) },
    Suite { name: "hostile frames", needs: &[], run: |test| outside(test, &["hostile"]) },
    Suite { name: "memory", needs: &[], run: |test| outside(test, &["memory"]) },
    Suite { name: "consumer groups", needs: &[Need::Python], run: |test| outside(test, &["groups"]) },
    Suite { name: "figures of groups", needs: &[], run: |test| outside(test, &["group-figures"]) },
    Suite { name: "figures of the log", needs: &[], run: |test| outside(test, &["log-figures"]) },
    Suite { name: "chaos", needs: &[], run: |test| outside(test, &["chaos"]) },
    Suite { name: "full load", needs: &[], run: |test| outside(test, &["full-load"]) },
    Suite { name: "the network fails", needs: &[Need::Network], run: |test| outside(test, &["network"]) },
    Suite { name: "command line", needs: &[], run: |test| outside(test, &["cli"]) },
    Suite { name: "README's first page", needs: &[], run: |test| outside(test, &["readme"]) },
    Suite { name: "a cluster grows and shrinks", needs: &[], run: |test| outside(test, &["growing"]) },
    Suite { name: "operations", needs: &[], run: |test| outside(test, &["operations"]) },
    Suite { name: "consumers read in their rack", needs: &[], run: |test| outside(test, &["racks"]) },
    Suite { name: "partitions move", needs: &[Need::Java], run: |test| outside(test, &["reassign"]) },
    Suite {
        name: "clients of C, Python and Java",
        needs: &[Need::Python, Need::Java],
        run: |test| outside(test, &["clients", "kcat", "python", "java"]),
    },
    Suite { name: "tools for groups", needs: &[Need::Java], run: |test| outside(test, &["clients", "java-groups"]) },
    Suite { name: "Kafka Connect", needs: &[Need::Java], run: |test| outside(test, &["connect"]) },
    Suite { name: "Kafka Streams", needs: &[Need::Java], run: |test| outside(test, &["streams"]) },
    Suite { name: "a client of Go", needs: &[Need::Go], run: |test| outside(test, &["clients", "go"]) },
    Suite {
        name: "a client of JavaScript",
        needs: &[Need::Node],
        run: |test| outside(test, &["clients", "javascript"]),
    },
    Suite { name: "Kafka's own tests", needs: &[Need::Java], run: |test| outside(test, &["kafka-suite"]) },
    Suite {
        name: "benchmark, one quick round",
        needs: &[Need::Java],
        run: |test| outside(test, &["bench", "--quick"]),
    },
    Suite { name: "end to end on kind", needs: &[Need::Kind], run: end_to_end },
];

/// Of the long run alone.
const LONG_SUITES: &[Suite] = &[
    Suite { name: "deliberate faults", needs: &[], run: |_| Mutants::default().run() },
    Suite { name: "the image, built twice", needs: &[Need::Kind], run: |_| image::twice("chronik:dev") },
];

fn lints(_: &Test) -> anyhow::Result<()> {
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// All but the tests in documentation, as there are none, and each crate would be built for them once more. A test that
/// lacks a program of its own passes without it, unless `CHRONIK_TEST_ALL` is set.
fn unit_tests(test: &Test) -> anyhow::Result<()> {
    let mut command = cargo(&["test", "--workspace", "--tests"]);
    if test.all {
        command.env("CHRONIK_TEST_ALL", "1");
    }
    run(&mut command)
}

fn outside(test: &Test, args: &[&str]) -> anyhow::Result<()> {
    let mut command = build::tests_binary()?;
    command.args(args);
    if test.all {
        command.arg("--all");
    }
    if test.strict {
        command.arg("--strict");
    }
    // The benchmark is a quick round in the long run too: `cargo xtask bench` is for its figures.
    if test.full && !args.contains(&"--quick") {
        command.arg("--full");
    }
    run(&mut command)
}

fn end_to_end(test: &Test) -> anyhow::Result<()> {
    image::load("chronik:dev")?;
    let mut command = cargo(&["run", "--quiet", "--package", "chronik-e2e", "--", "--image", "chronik:dev"]);
    if test.full {
        command.arg("--full");
    }
    if test.strict {
        command.arg("--strict");
    }
    run(&mut command)
}

impl Test {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let chosen = |s: &&Suite| self.only.as_deref().is_none_or(|part| s.name.contains(part));
        let mut summary = Vec::new();
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        let long = if self.full { LONG_SUITES } else { &[] };
        for suite in SUITES.iter().chain(long).filter(chosen) {
            println!("\n=== {}", suite.name);
            let started = Instant::now();
            let missing = suite.needs.iter().find_map(|need| need.missing());
            let outcome = match missing {
                Some(reason) if self.all => {
                    failed += 1;
                    format!("FAILED: could not run: {reason}")
                }
                Some(reason) => {
                    skipped += 1;
                    format!("could not run: {reason}")
                }
                None => match (suite.run)(&self) {
                    Ok(()) => {
                        passed += 1;
                        "passed".to_owned()
                    }
                    Err(error) => {
                        failed += 1;
                        format!("FAILED: {error:#}")
                    }
                },
            };
            summary.push(format!("{:>6.0} s  {:<28} {outcome}", started.elapsed().as_secs_f64(), suite.name));
        }
        println!("\n=== suites");
        for line in &summary {
            println!("{line}");
        }
        let note = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        println!("\n{passed} passed, {failed} failed{note}");
        anyhow::ensure!(failed == 0 && passed > 0, "not all suites passed");
        Ok(())
    }
}
