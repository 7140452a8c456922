//! Chronik on a real Kubernetes: `chronik-e2e` makes a kind cluster, installs the operator by its chart, runs the
//! scenarios and removes the cluster.

mod brokers;
mod client;
mod command;
mod environment;
mod evidence;
mod java;
mod kubectl;
mod plugin;
mod scenarios;
mod timeline;
mod wait;

use clap::Parser;
use client::Figures;
use environment::{Environment, StartOrders};
use scenarios::{SCENARIOS, Scenario};
use std::process::ExitCode;
use std::thread;
use timeline::Timeline;

/// A kind cluster of this name is nobody's but this program's.
const CLUSTER: &str = "chronik-e2e";

/// Runs the scenarios on a kind cluster.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The scenarios to run; all but those of the long run if none is named
    scenarios: Vec<String>,

    /// The long run: all scenarios
    #[arg(long)]
    full: bool,

    /// List the scenarios
    #[arg(long)]
    list: bool,

    /// An image of broker and operator that docker has already; without it, one is built
    #[arg(long)]
    image: Option<String>,

    /// The kind cluster's name; what a run has left behind under the default name is removed
    #[arg(long, default_value = CLUSTER)]
    cluster: String,

    #[command(flatten)]
    start_orders: StartOrders,

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
    let chosen = choose(&args.scenarios, args.full)?;
    let environment =
        Environment::new(&args.cluster, args.image.as_deref().unwrap_or("chronik:dev"), args.keep, args.start_orders)?;
    let timeline = Timeline::new("prepare");
    let made = make(&environment, args, &timeline)?;
    let nodes = environment.wait_nodes();
    let installed =
        nodes.and_then(|()| environment.load_images(&timeline)).and_then(|()| environment.install_operator(&timeline));
    let passed = installed.map(|()| summarize(&run_all(&environment, &chosen)));
    // What was there before this run, and what `--keep` names, is not its to remove.
    if made && !args.keep {
        // What has passed by now has passed.
        let removed = environment.delete();
        removed.unwrap_or_else(|error| eprintln!("the kind cluster {} is left: {error:#}", args.cluster));
    }
    passed
}

/// How a scenario ended.
struct Outcome {
    scenario: &'static Scenario,
    passed: bool,
    seconds: f64,
    figures: Figures,
}

/// Prints how each scenario ended, and returns whether all passed.
fn summarize(outcomes: &[Outcome]) -> bool {
    println!();
    println!("{:<18} {:<6} {:>9} {:>14} {:>16}", "scenario", "result", "time", "slowest write", "records checked");
    for Outcome { scenario, passed, seconds, figures } in outcomes {
        let slowest = figures.slowest_ms.map_or("–".to_owned(), |ms| format!("{ms} ms"));
        let checked = if figures.checked == 0 { "–".to_owned() } else { figures.checked.to_string() };
        let result = if *passed { "passed" } else { "failed" };
        println!("{:<18} {result:<6} {seconds:>7.1} s {slowest:>14} {checked:>16}", scenario.name);
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    println!("{} passed, {failed} failed", outcomes.len() - failed);
    failed == 0
}

fn choose(names: &[String], full: bool) -> anyhow::Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().filter(|scenario| full || !scenario.full).collect());
    }
    let find = |name: &String| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| anyhow::anyhow!("no scenario {name}; --list shows them"))
    };
    names.iter().map(find).collect()
}

/// Builds the images, and makes the kind cluster if there is none to use; returns whether it was made.
fn make(environment: &Environment, args: &Args, timeline: &Timeline) -> anyhow::Result<bool> {
    if args.image.is_none() {
        environment.build_image(timeline)?;
    }
    if environment.exists()? {
        if args.keep {
            environment.build_client(timeline)?;
            return Ok(false);
        }
        anyhow::ensure!(args.cluster == CLUSTER, "the kind cluster {} exists already; --keep uses it", args.cluster);
        timeline.say("an earlier run has left its kind cluster behind, which is removed");
        environment.delete()?;
    }
    // The one waits for the kind cluster's parts most of the time, and the other for the compiler.
    thread::scope(|scope| {
        let client = scope.spawn(|| environment.build_client(timeline));
        let created = environment.create(timeline);
        let built = client.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the client could not be built")));
        // Whoever made a kind cluster removes it.
        created.and_then(|()| built.or_else(|error| environment.delete().and(Err(error))))
    })?;
    Ok(true)
}

fn run_all(environment: &Environment, chosen: &[&'static Scenario]) -> Vec<Outcome> {
    let run = |scenario: &&'static Scenario| {
        client::take_figures();
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
        Outcome { scenario, passed, seconds: timeline.seconds(), figures: client::take_figures() }
    };
    chosen.iter().map(run).collect()
}
