//! A cluster that grows from three brokers to five and shrinks again, by commands alone and under load: brokers join by
//! pointing at one that is there, voters come and go one at a time, and one loses its disk meanwhile.

use super::{Settings, TimeLimit};
use crate::harness::clients::{self, Outcome};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::metadata::Metadata;
use crate::harness::{leash, wait};
use crate::load::{Load, verify};
use crate::report::Report;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const TOPIC: &str = "kept";
const PARTITIONS: usize = 6;
/// A topic with a replica on each of five brokers.
const WIDE: &str = "wide";
/// Whose disk is lost.
const WIPED: usize = 2;

/// The one step in which nobody can be written to for a while.
const RESTART: &str = "all come back together, whatever their files say";
/// From one acknowledgement of a partition to the next, in all other steps.
const WAIT: TimeLimit = TimeLimit { target: Duration::from_secs(1), always: Duration::from_secs(20) };

/// One thing that an operator does.
type Step = fn(&mut World) -> Result<String>;

/// Three brokers, of which no file ever names the two that come.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let Software::Chronik(program) = &settings.software else { bail!("these are Chronik's own commands") };
    let cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, PARTITIONS as i32, 3, &[])?;
    let load = Load::start("kept", &cluster.bootstrap(), TOPIC, PARTITIONS, 500)?;
    let mut world = World { program: program.clone(), cluster, metadata, load };
    let steps: [(&str, Step); 8] = [
        ("two brokers join by pointing at one member each", join),
        ("five vote, one after the other", |w| w.voters(&["add-voter 3", "add-voter 4"], &[0, 1, 2, 3, 4])),
        ("a new topic has replicas on all five", |w| {
            Metadata::new(&w.cluster.bootstrap())?.create_topic(WIDE, 2, 5, &[])?;
            Ok(WIDE.into())
        }),
        ("those that joined get their share of what there was", rebalance),
        ("a voter whose disk is lost is replaced", replace),
        (RESTART, restart),
        ("three vote again", |w| {
            // Whoever of them leads hands over.
            w.voters(&["remove-voter 4", "remove-voter 3"], &[0, 1, 2])
        }),
        ("two brokers are emptied and removed", shrink),
    ];
    let mut longest = Duration::ZERO;
    for (name, step) in steps {
        let begun = Instant::now();
        let outcome = step(&mut world).and_then(|said| {
            world.load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
            Ok(said)
        });
        if name != RESTART {
            longest = world.load.longest_gaps(begun, Instant::now()).into_iter().fold(longest, Duration::max);
        }
        let failed = outcome.is_err();
        report.check_result(name, outcome.with_context(|| world.cluster.tails()));
        if failed {
            break;
        }
    }
    let waited = longest.as_secs_f64() * 1e3;
    WAIT.check(settings, report, "no write waits longer while brokers and voters come and go", waited, "");
    if !report.has_failures() {
        let outcome = world.load.pause(PATIENCE).and_then(|()| verify(&world.cluster.bootstrap(), &[&world.load]));
        report.check_result("every acknowledged record is there once and in order", outcome);
    }
    if report.has_failures() {
        println!("kept: {}", world.cluster.keep().display());
    }
    Ok(())
}

struct World {
    program: PathBuf,
    cluster: Cluster,
    metadata: Metadata,
    load: Load,
}

impl World {
    fn run(&self, words: &str) -> Result<Outcome> {
        let admin: Vec<_> =
            (0..self.cluster.size()).map(|id| format!("127.0.0.1:{}", self.cluster.ports(id).admin)).collect();
        let mut command = leash::command(&self.program)?;
        command.args(words.split(' ')).args(["--admin", &admin.join(",")]);
        clients::run(command, b"", PATIENCE)
    }

    fn json(&self, words: &str) -> Result<Value> {
        let text = self.run(&format!("{words} --output json"))?.succeeded()?.text();
        serde_json::from_str(&text).with_context(|| format!("chronik {words} says {text:?}"))
    }

    fn eventually(&mut self, words: &str) -> Result<()> {
        let mut last = String::new();
        let outcome = wait::until(&format!("chronik {words}"), PATIENCE, || {
            self.cluster.check_alive()?;
            let outcome = self.run(words)?;
            last = outcome.err_tail();
            Ok(outcome.success.then_some(()))
        });
        outcome.with_context(|| format!("it said last: {last}"))
    }

    fn refused(&self, words: &str, says: &str) -> Result<()> {
        let outcome = self.run(words)?;
        ensure!(!outcome.success && outcome.err.contains(says), "chronik {words} says {:?}", outcome.err);
        Ok(())
    }

    /// Who votes, as the quorum's leader says.
    fn voting(&self) -> Result<BTreeSet<i64>> {
        let rows = self.json("quorum")?;
        let all = rows.as_array().context("a table")?.iter().filter(|row| row["role"] != "observer");
        Ok(all.filter_map(|row| row["broker"].as_i64()).collect())
    }

    fn voters(&mut self, commands: &[&str], then: &[i64]) -> Result<String> {
        for command in commands {
            self.eventually(&format!("quorum {command}"))?;
        }
        let voting = self.voting()?;
        ensure!(voting == then.iter().copied().collect(), "{voting:?} vote");
        Ok(format!("{voting:?} vote"))
    }
}

fn join(w: &mut World) -> Result<String> {
    // The second one knocks at the first one that has joined.
    for knocks_at in [1, 3] {
        let id = w.cluster.join(knocks_at)?;
        w.cluster.start(id)?;
        w.cluster.wait_for_brokers(id + 1)?;
        w.refused("quorum add-voter 9", "not members of the quorum")?;
    }
    Ok("brokers 3 and 4".into())
}

/// Planned, and then moved with a throttle that is taken away at the end.
fn rebalance(w: &mut World) -> Result<String> {
    let plan = w.json("rebalance --plan")?;
    let moves = plan["moves"].as_array().context("moves")?;
    let to_new = |m: &&Value| m["to"].as_array().is_some_and(|to| to.iter().any(|id| *id == 3 || *id == 4));
    ensure!(moves.iter().any(|m| to_new(&m)), "nothing is to come to brokers 3 and 4: {plan}");
    ensure!(moves.iter().all(|m| m["bytes"].is_u64()), "sizes are known: {plan}");
    let said = w.run("rebalance --run --throttle 50MiB")?.succeeded()?.text();
    let plan = w.json("rebalance --plan")?;
    ensure!(plan["moves"] == Value::Array(Vec::new()), "it is done: {plan}");
    let brokers = w.json("broker list")?;
    let replicas: Vec<u64> =
        brokers.as_array().context("brokers")?.iter().filter_map(|b| b["replicas"].as_u64()).collect();
    let (fewest, most) = (replicas.iter().min().context("brokers")?, replicas.iter().max().context("brokers")?);
    ensure!(replicas.len() == 5 && most - fewest <= 1, "they have {replicas:?} replicas: {said}");
    let mut command = leash::command(&w.program)?;
    command.args(["config", "get", "cluster", "default", "--bootstrap", &w.cluster.bootstrap()]);
    let left = clients::run(command, b"", PATIENCE)?.succeeded()?.text();
    ensure!(!left.contains("throttled"), "the throttle is there still: {left}");
    w.metadata.wait_for_isr(TOPIC, PARTITIONS, 3)?;
    Ok(format!("{replicas:?} replicas"))
}

fn replace(w: &mut World) -> Result<String> {
    w.cluster.kill(WIPED)?;
    fs::remove_dir_all(w.cluster.data_dir(WIPED))?;
    w.eventually(&format!("quorum remove-voter {WIPED}"))?;
    w.cluster.start(WIPED)?;
    w.metadata.wait_for_isr(TOPIC, PARTITIONS, 3)?;
    let voting = w.voting()?;
    ensure!(voting == [0, 1, 3, 4].into(), "the one that comes back with another disk votes: {voting:?}");
    w.voters(&[&format!("add-voter {WIPED}")], &[0, 1, 2, 3, 4])
}

fn restart(w: &mut World) -> Result<String> {
    w.cluster.kill_all()?;
    for id in [4, 2, 0, 3, 1] {
        w.cluster.start(id)?;
    }
    w.cluster.wait_for_brokers(5)?;
    w.metadata.wait_for_isr(TOPIC, PARTITIONS, 3)?;
    Ok(format!("{:?} vote", w.voting()?))
}

fn shrink(w: &mut World) -> Result<String> {
    w.refused("broker remove 4", "broker 4 holds replicas")?;
    Metadata::new(&w.cluster.bootstrap())?.delete_topic(WIDE)?;
    for id in [4, 3] {
        w.eventually(&format!("broker drain {id}"))?;
        w.cluster.stop(id)?;
        w.eventually(&format!("broker remove {id}"))?;
    }
    w.cluster.wait_for_brokers(3)?;
    w.metadata.wait_for_isr(TOPIC, PARTITIONS, 3)?;
    let brokers = w.json("broker list")?;
    ensure!(brokers.as_array().is_some_and(|all| all.len() == 3), "{brokers}");
    Ok("brokers 0, 1 and 2".into())
}
