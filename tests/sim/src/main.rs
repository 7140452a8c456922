//! `chronik-sim --seeds A..B [--steps N] [--trace] [--expect RULE]`: runs seeds, and says which one breaks a rule.

use anyhow::{Context, Result, bail};
use chronik_sim::{Invariant, Options, Report, run, run_and_explain};
use clap::Parser;
use std::ops::Range;
use std::process::ExitCode;

/// Runs the deterministic simulator.
#[derive(Parser)]
struct Arguments {
    /// Which seeds, the last one excluded.
    #[arg(long, default_value = "0..100", value_parser = seeds)]
    seeds: Range<u64>,
    /// Events of each run before the faults stop.
    #[arg(long)]
    steps: Option<u64>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Look for a seed that breaks this rule, and fail if there is none: for sources with a fault in them.
    #[arg(long, value_name = "RULE", value_parser = invariant)]
    expect: Option<Invariant>,
}

fn invariant(name: &str) -> Result<Invariant> {
    let found = Invariant::PLANTED.into_iter().find(|invariant| format!("{invariant:?}") == name);
    found.with_context(|| format!("there is no rule {name}"))
}

fn seeds(text: &str) -> Result<Range<u64>> {
    let (from, to) = text.split_once("..").context("a range is written A..B")?;
    let (from, to) = (from.trim().parse()?, to.trim().parse()?);
    if from >= to {
        bail!("no seeds in {text}");
    }
    Ok(from..to)
}

fn options(arguments: &Arguments, seed: u64) -> Options {
    let usual = Options::new(seed);
    Options { steps: arguments.steps.unwrap_or(usual.steps), trace: arguments.trace, ..usual }
}

fn print(report: &Report) {
    println!(
        "seed {} trace {:016x}: {} steps, {:.1} s simulated, {} faults, {} leaderships, {} batches acknowledged",
        report.seed,
        report.trace_hash,
        report.steps,
        report.simulated_us as f64 / 1e6,
        report.faults,
        report.elections,
        report.acknowledged
    );
}

/// Looks for a seed at which that rule is seen to be broken. Others may break before it: one fault may break more than
/// one promise.
fn search(arguments: &Arguments, expected: Invariant) -> ExitCode {
    for seed in arguments.seeds.clone() {
        let violation = run(options(arguments, seed)).violation;
        if let Some(violation) = violation.filter(|v| v.invariant == expected) {
            println!("seed {seed} breaks the rule: {violation}");
            return ExitCode::SUCCESS;
        }
    }
    println!("no seed of {:?} breaks {expected:?}", arguments.seeds);
    ExitCode::FAILURE
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(expected) = arguments.expect {
        return search(&arguments, expected);
    }
    let mut broken = 0;
    for seed in arguments.seeds.clone() {
        let report = run_and_explain(&options(&arguments, seed));
        for line in &report.lines {
            println!("{line}");
        }
        print(&report);
        if let Some(violation) = &report.violation {
            println!("seed {seed} breaks a rule: {violation}");
            broken += 1;
        }
    }
    println!("{} seeds, {broken} broken", arguments.seeds.end - arguments.seeds.start);
    ExitCode::from(u8::from(broken > 0))
}
