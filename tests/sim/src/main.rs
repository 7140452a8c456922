//! `chronik-sim [--groups] --seeds A..B [--steps N] [--without FAULT] [--trace] [--expect RULE]`: runs seeds, and says which one breaks a
//! rule.

use anyhow::{Context, Result, bail};
use chronik_sim::{GroupOptions, GroupRule, Invariant, Kind, Options, Report, run, run_and_explain, run_groups};
use clap::Parser;
use std::ops::Range;
use std::process::ExitCode;

/// Runs the deterministic simulator.
#[derive(Parser)]
struct Arguments {
    /// Group coordinators, and not replicas.
    #[arg(long)]
    groups: bool,
    /// Which seeds, the last one excluded.
    #[arg(long, default_value = "0..100", value_parser = seeds)]
    seeds: Range<u64>,
    /// Events of each run before the faults stop.
    #[arg(long)]
    steps: Option<u64>,
    /// Faults to leave out.
    #[arg(long, value_name = "FAULT")]
    without: Vec<Kind>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Look for a seed that breaks this rule, and fail if there is none: for sources with a fault in them.
    #[arg(long, value_name = "RULE", value_parser = rule)]
    expect: Option<Rule>,
}

/// A rule of the replicas' or of the groups'.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Replicas(Invariant),
    Groups(GroupRule),
}

fn rule(name: &str) -> Result<Rule> {
    let replicas = Invariant::PLANTED.into_iter().find(|rule| format!("{rule:?}") == name).map(Rule::Replicas);
    let groups = GroupRule::ALL.into_iter().find(|rule| format!("{rule:?}") == name).map(Rule::Groups);
    replicas.or(groups).with_context(|| format!("there is no rule {name}"))
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
    let (steps, without) = (arguments.steps.unwrap_or(usual.steps), arguments.without.clone());
    Options { steps, trace: arguments.trace, without, ..usual }
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
fn search(arguments: &Arguments, expected: Rule) -> ExitCode {
    let violation = |seed| match expected {
        Rule::Replicas(rule) => {
            let violation = run(options(arguments, seed)).violation;
            violation.filter(|v| v.invariant == rule).map(|v| v.to_string())
        }
        Rule::Groups(rule) => {
            let violation = run_groups(group_options(arguments, seed)).violation;
            violation.filter(|v| v.rule == rule).map(|v| v.to_string())
        }
    };
    for seed in arguments.seeds.clone() {
        if let Some(violation) = violation(seed) {
            println!("seed {seed} breaks the rule: {violation}");
            return ExitCode::SUCCESS;
        }
    }
    println!("no seed of {:?} breaks {expected:?}", arguments.seeds);
    ExitCode::FAILURE
}

fn group_options(arguments: &Arguments, seed: u64) -> GroupOptions {
    let usual = GroupOptions::new(seed);
    GroupOptions { steps: arguments.steps.unwrap_or(usual.steps), trace: arguments.trace, ..usual }
}

fn run_all_groups(arguments: &Arguments) -> ExitCode {
    let mut broken = 0;
    for seed in arguments.seeds.clone() {
        let report = run_groups(group_options(arguments, seed));
        for line in &report.lines {
            println!("{line}");
        }
        let (steps, seconds, counts) = (report.steps, report.simulated_us as f64 / 1e6, report.counts);
        println!("seed {seed}: {steps} steps, {seconds:.1} s simulated, {counts:?}");
        if let Some(violation) = &report.violation {
            println!("seed {seed} breaks a rule: {violation}");
            broken += 1;
        }
    }
    println!("{} seeds, {broken} broken", arguments.seeds.end - arguments.seeds.start);
    ExitCode::from(u8::from(broken > 0))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(expected) = arguments.expect {
        return search(&arguments, expected);
    }
    if arguments.groups {
        return run_all_groups(&arguments);
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
