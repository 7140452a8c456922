//! Chronik on a real Kubernetes: `chronik-e2e` makes a kind cluster, installs the operator by its chart, runs the
//! scenarios and removes the cluster.

mod brokers;
mod client;
mod command;
mod environment;
mod evidence;
mod kubectl;
mod scenarios;
mod timeline;
mod wait;

use clap::Parser;
use environment::Environment;
use scenarios::{SCENARIOS, Scenario};
use std::process::ExitCode;
use timeline::Timeline;

/// Runs the scenarios on a kind cluster.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The scenarios to run; all of them if none is named
    scenarios: Vec<String>,

    /// List the scenarios
    #[arg(long)]
    list: bool,

    /// An image of broker and operator that docker has already; without it, one is built
    #[arg(long)]
    image: Option<String>,

    /// The kind cluster's name
    #[arg(long, default_value = "chronik-e2e")]
    cluster: String,

    /// Fail where any start takes longer than a second, and not only where most take longer than ten: for a machine
    /// that does nothing else
    #[arg(long)]
    strict: bool,

    /// Use the kind cluster if it is there, and leave it there
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for scenario in SCENARIOS {
            println!("{:<18} {}", scenario.name, scenario.about);
        }
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let chosen = choose(&args.scenarios)?;
    let environment = Environment::new(&args.cluster, args.image.as_deref().unwrap_or("chronik:dev"), args.strict)?;
    let results = prepare(&environment, args).map(|()| run_all(&environment, &chosen));
    if !args.keep {
        environment.delete()?;
    }
    let results = results?;
    println!();
    for (scenario, seconds, passed) in &results {
        println!("{:<18} {:<6} {seconds:>6.1} s", scenario.name, if *passed { "passed" } else { "failed" });
    }
    let failed = results.iter().filter(|(_, _, passed)| !passed).count();
    println!("{} passed, {failed} failed", results.len() - failed);
    Ok(failed == 0)
}

fn choose(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let find = |name: &String| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| anyhow::anyhow!("no scenario {name}; --list shows them"))
    };
    names.iter().map(find).collect()
}

fn prepare(environment: &Environment, args: &Args) -> anyhow::Result<()> {
    let timeline = Timeline::new("prepare");
    if args.image.is_none() {
        environment.build_image(&timeline)?;
    }
    environment.build_client(&timeline)?;
    if environment.exists()? {
        anyhow::ensure!(args.keep, "the kind cluster {} exists already; --keep uses it", args.cluster);
    } else {
        environment.create(&timeline)?;
    }
    environment.load_images(&timeline)?;
    environment.install_operator(&timeline)
}

fn run_all(environment: &Environment, chosen: &[&'static Scenario]) -> Vec<(&'static Scenario, f64, bool)> {
    let run = |scenario: &&'static Scenario| {
        let timeline = Timeline::new(scenario.name);
        let passed = match (scenario.run)(environment, &timeline) {
            Ok(()) => true,
            Err(error) => {
                timeline.say(format!("failed: {error:#}"));
                if let Err(error) = evidence::keep(environment, scenario.name) {
                    timeline.say(format!("evidence could not be kept: {error:#}"));
                }
                false
            }
        };
        (*scenario, timeline.seconds(), passed)
    };
    chosen.iter().map(run).collect()
}
