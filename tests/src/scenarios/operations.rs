//! What operators do, on four brokers and by Chronik's own command line: stop a broker with a permit, or see what
//! speaks against it; cordon; ask how the cluster is, and get an error and not an empty answer when nobody can be sure.

use super::{Settings, Step, carry_out};
use crate::harness::appender::{self, Appender};
use crate::harness::clients::{self, Outcome};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::metadata::Metadata;
use crate::harness::{leash, wait};
use crate::report::Report;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Four brokers, three of which vote, and one command after the other.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let Software::Chronik(program) = &settings.software else { bail!("this is Chronik's own command line") };
    let mut cluster = Cluster::new(&settings.software, 4, &[])?;
    cluster.start_all()?;
    cluster.wait_for_brokers(4)?;
    let admin: Vec<String> = (0..4).map(|id| format!("127.0.0.1:{}", cluster.ports(id).admin)).collect();
    let mut world = World { program: program.clone(), admin: admin.join(","), cluster, rotten: None };
    let steps: [(&str, Step<World>); 13] = [
        ("all is well after the start", |w| {
            // It gets nothing before it is removed in the end.
            w.ok("broker cordon 3", "")?;
            w.is_well()
        }),
        ("a partition under its minimum is named, and nobody may be stopped", under_min_isr),
        ("one broker is stopped at a time", one_at_a_time),
        ("a permit runs out", runs_out),
        ("a stop that is forced says what it overruled", forced),
        ("a cordoned broker gets nothing new", cordoned),
        ("damage that nobody else could repair is named with what to do, and that helps", last_copy),
        ("a partition that has lost records everywhere waits for nobody but a person", lost_everywhere),
        ("what is left of a move is said", moving),
        ("who is not known is not found", |w| w.fails("broker cordon 9", 4, "there is no broker 9")),
        ("the quorum is shown", |w| w.ok("quorum", "leader")),
        ("a broker is removed once nothing is left on it", removed),
        ("without a majority there is an error and no answer", no_majority),
    ];
    carry_out(&mut world, &steps, report);
    if report.has_failures() {
        println!("kept: {}", world.cluster.keep().display());
    }
    Ok(())
}

struct World {
    program: PathBuf,
    admin: String,
    cluster: Cluster,
    /// Where the log is that gets damaged.
    rotten: Option<PathBuf>,
}

/// Commands for the admin API; the others get the address for clients.
const ADMIN: [&str; 4] = ["cluster", "broker", "partition", "quorum"];

impl World {
    fn run(&self, words: &str) -> Result<Outcome> {
        let mut command = leash::command(&self.program)?;
        command.args(words.split(' '));
        if ADMIN.iter().any(|name| words.starts_with(name)) {
            command.args(["--admin", &self.admin]);
        } else {
            command.args(["--bootstrap", &self.cluster.bootstrap()]);
        }
        clients::run(command, b"", PATIENCE)
    }

    fn ok(&self, words: &str, says: &str) -> Result<String> {
        self.run(words)?.succeeded()?.says(says)?;
        Ok(format!("chronik {words}"))
    }

    fn fails(&self, words: &str, code: i32, says: &str) -> Result<String> {
        let outcome = self.run(words)?;
        ensure!(outcome.code == Some(code), "chronik {words} ends with {:?}: {}", outcome.code, outcome.err);
        ensure!(outcome.err.contains(says), "chronik {words} says {:?}", outcome.err);
        Ok(format!("chronik {words}"))
    }

    fn json(&self, words: &str) -> Result<Value> {
        let text = self.run(&format!("{words} --output json"))?.succeeded()?.text();
        serde_json::from_str(&text).with_context(|| format!("chronik {words} says {text:?}"))
    }

    fn eventually_ok(&mut self, words: &str) -> Result<String> {
        wait::until(&format!("chronik {words}"), PATIENCE, || {
            self.cluster.check_alive()?;
            Ok(self.run(words)?.success.then_some(()))
        })?;
        Ok(format!("chronik {words}"))
    }

    fn is_well(&mut self) -> Result<String> {
        self.eventually_ok("cluster health")?;
        for id in 0..3 {
            wait::until(&format!("broker {id} to be in sync"), PATIENCE, || {
                Ok((self.cluster.http(id, "/insync")?.0 == 200).then_some(()))
            })?;
        }
        Ok("chronik cluster health".into())
    }
}

fn under_min_isr(w: &mut World) -> Result<String> {
    w.ok("topic create strict --partitions 1 --replicas 3 --config min.insync.replicas=3", "")?;
    w.cluster.kill(2)?;
    wait::until("the partition to be under its minimum", PATIENCE, || {
        let listed = w.json("partition list --under-min-isr")?;
        Ok(listed.as_array().is_some_and(|all| all.iter().any(|p| p["topic"] == "strict")).then_some(()))
    })?;
    w.fails("broker stop 0", 1, "strict-0")?;
    w.fails("cluster health", 1, "the cluster is not well")?;
    w.cluster.start(2)?;
    w.is_well()?;
    w.fails("broker stop 0", 1, "would be under min.insync.replicas")?;
    w.ok("topic delete strict", "")?;
    Ok("strict-0".into())
}

fn one_at_a_time(w: &mut World) -> Result<String> {
    w.ok("topic create orders --partitions 6 --replicas 3", "")?;
    w.is_well()?;
    w.ok("broker stop 2", "Broker 2 stops")?;
    w.cluster.wait_for_end(2)?;
    w.fails("broker stop 0", 1, "broker 2 holds the permit")?;
    w.fails("broker recovered 2", 1, "the permit stays open")?;
    w.cluster.start(2)?;
    w.eventually_ok("broker recovered 2")?;
    ensure!(w.json("cluster status")?["permit"].is_null(), "the permit is outstanding still");
    w.is_well()
}

fn runs_out(w: &mut World) -> Result<String> {
    w.ok("broker stop 1 --ttl 1", "Broker 1 stops")?;
    w.cluster.wait_for_end(1)?;
    wait::until("the permit to run out", PATIENCE, || Ok(w.json("cluster status")?["permit"].is_null().then_some(())))?;
    // Its time is over; that nobody else may be stopped is now because this one is missing.
    let outcome = w.run("broker stop 0")?;
    ensure!(!outcome.success && !outcome.err.contains("permit"), "it says {:?}", outcome.err);
    ensure!(outcome.err.contains("broker 1 is not in sync yet"), "it says {:?}", outcome.err);
    w.cluster.start(1)?;
    w.is_well()
}

fn forced(w: &mut World) -> Result<String> {
    w.ok("topic create strict --partitions 1 --replicas 3 --config min.insync.replicas=3", "")?;
    let said = w.json("broker stop 1 --force drill")?;
    ensure!(said["overruled"][0]["kind"] == "UNDER_MIN_ISR", "it says {said}");
    w.cluster.wait_for_end(1)?;
    w.cluster.start(1)?;
    w.eventually_ok("broker recovered 1")?;
    w.ok("topic delete strict", "")?;
    w.is_well()
}

fn cordoned(w: &mut World) -> Result<String> {
    w.ok("broker cordon 1", "")?;
    w.fails("topic create wide --partitions 1 --replicas 3", 1, "not cordoned")?;
    w.ok("topic create narrow --partitions 6 --replicas 2", "")?;
    let brokers = w.json("broker list")?;
    let of_1 =
        brokers.as_array().and_then(|all| all.iter().find(|b| b["broker"] == 1)).context("broker 1 is listed")?;
    ensure!(of_1["replicas"] == 6, "it has the six of the topic before: {of_1}");
    ensure!(of_1["state"] == "in sync, cordoned", "{of_1}");
    w.ok("broker uncordon 1", "")?;
    w.ok("topic create wide --partitions 1 --replicas 3", "")
}

/// The only copy of this topic gets damaged.
const ROTTEN: &str = "rotten";
/// Whose copy it is.
const HOLDER: usize = 2;
/// Each of one record.
const BATCHES: i64 = 20;

/// Writes batches to the damaged topic's only replica, and damages one of them; its broker is started and has found it then.
fn damage(w: &mut World) -> Result<()> {
    let mut appender = Appender::connect(w.cluster.ports(HOLDER).kafka, ROTTEN, PATIENCE)?;
    for _ in 0..BATCHES {
        appender.append(0..1, &appender::batch(1000)?)?;
    }
    let folder = w.rotten.clone().context("the log's folder")?;
    // Stopped in order, so that what is changed is in the segment and no more in the write-ahead log.
    w.cluster.stop(HOLDER)?;
    let mut segments = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    segments.retain(|path| path.extension().is_some_and(|e| e == "log"));
    let segment = segments.iter().max().context("a segment")?;
    let mut bytes = fs::read(segment)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("a segment that is not empty")? ^= 0x10;
    fs::write(segment, &bytes)?;
    w.cluster.start(HOLDER)?;
    wait::until("the damage to be known", PATIENCE, || {
        w.cluster.check_alive()?;
        // The check in the background finds it.
        let damaged = w.json("partition list --damaged")?;
        Ok(damaged.as_array().is_some_and(|all| all.iter().any(|d| d["topic"] == ROTTEN)).then_some(()))
    })
}

fn last_copy(w: &mut World) -> Result<String> {
    let before = w.cluster.partition_folders(HOLDER);
    Metadata::new(&w.cluster.bootstrap())?.create_topic_on(ROTTEN, 1, &[HOLDER as i32])?;
    // A log is there when it has something in it.
    Appender::connect(w.cluster.ports(HOLDER).kafka, ROTTEN, PATIENCE)?.append(0..1, &appender::batch(1000)?)?;
    w.rotten = Some(wait::until("the log's folder", PATIENCE, || {
        Ok(w.cluster.partition_folders(HOLDER).difference(&before).next().cloned())
    })?);
    damage(w)?;
    let damaged = w.json("partition list --damaged")?;
    let one = damaged.get(0).context("one is damaged")?;
    let from = one["damaged_from"].as_i64().context("an offset")?;
    ensure!(damaged.as_array().is_some_and(|all| all.len() == 1) && (1..=BATCHES).contains(&from), "{damaged}");
    ensure!(one["broker"] == HOLDER && one["leader"] == HOLDER && one["damaged_to"] == from, "{one}");
    let outcome = w.run("cluster health")?;
    let said = outcome.text();
    for word in [
        &*format!("broker {HOLDER} cannot read {ROTTEN}-0 in the batch at offset {from}"),
        "delete-records",
        "--unclean",
    ] {
        ensure!(!outcome.success && said.contains(word), "it does not say {word:?}: {said}");
    }
    // As it is told to: what only a damaged batch leads to is not known to be whole either.
    wait::until("no damage to be known", PATIENCE, || {
        let damaged = w.json("partition list --damaged")?;
        let Some(one) = damaged.get(0) else { return Ok(Some(())) };
        let last = one["damaged_to"].as_i64().or_else(|| one["damaged_from"].as_i64()).context("an offset")?;
        w.ok(&format!("topic delete-records {ROTTEN}-0 --before {}", last + 1), "")?;
        Ok(None)
    })?;
    w.is_well()?;
    Ok(format!("{ROTTEN}-0, offset {from}"))
}

fn lost_everywhere(w: &mut World) -> Result<String> {
    damage(w)?;
    // It cuts off what it has lost, and says so when it registers.
    w.cluster.stop(HOLDER)?;
    w.cluster.start(HOLDER)?;
    wait::until("the cluster to know what is lost", PATIENCE, || {
        Ok((w.json("cluster status")?["partitions"]["undecided_all_alive"] == 1).then_some(()))
    })?;
    let outcome = w.run("cluster health")?;
    let said = outcome.text();
    for word in [
        &*format!("{ROTTEN}-0 among them, though all that hold them are alive"),
        "waiting changes nothing",
        "--unclean",
    ] {
        ensure!(!outcome.success && said.contains(word), "it does not say {word:?}: {said}");
    }
    ensure!(!said.contains("wait for brokers that are away"), "nobody is away: {said}");
    w.ok(&format!("topic elect {ROTTEN}-0 --unclean"), ROTTEN)?;
    w.is_well()?;
    w.ok(&format!("topic delete {ROTTEN}"), "")
}

/// Slowly, so that some of it is left whenever somebody looks.
fn moving(w: &mut World) -> Result<String> {
    const HEAVY: &str = "heavy";
    const BATCHES: usize = 300;
    const THROTTLES: [&str; 2] = ["leader.replication.throttled", "follower.replication.throttled"];
    let [of_leaders, of_followers] = THROTTLES;
    Metadata::new(&w.cluster.bootstrap())?.create_topic_on(HEAVY, 1, &[0])?;
    let mut appender = Appender::connect(w.cluster.ports(0).kafka, HEAVY, PATIENCE)?;
    let batch = appender::batch(10_000)?;
    for _ in 0..BATCHES {
        appender.append(0..1, &batch)?;
    }
    w.ok(&format!("config set topic {HEAVY} {of_leaders}.replicas=* {of_followers}.replicas=*"), "")?;
    w.ok(&format!("config set cluster default {of_leaders}.rate=20000 {of_followers}.rate=20000"), "")?;
    w.ok(&format!("reassign move {HEAVY}-0 0,1"), HEAVY)?;
    let left = wait::until("what is left to be known", PATIENCE, || {
        let said = w.run("cluster health")?.text();
        let left = said.split_once(": 1 new replicas lack ").and_then(|(_, rest)| rest.split_once(" offsets"));
        Ok(left.and_then(|(offsets, _)| offsets.parse::<usize>().ok()))
    })?;
    ensure!((1..=BATCHES).contains(&left), "{left} of {BATCHES} offsets are left");
    w.ok(&format!("config unset cluster default {of_leaders}.rate {of_followers}.rate"), "")?;
    wait::until("the move to be done", PATIENCE, || {
        Ok(w.json("reassign list")?.as_array().is_some_and(Vec::is_empty).then_some(()))
    })?;
    w.ok(&format!("topic delete {HEAVY}"), "")?;
    w.is_well()?;
    Ok(format!("{left} of {BATCHES} offsets"))
}

fn removed(w: &mut World) -> Result<String> {
    w.fails("broker remove 2", 1, "votes in the controller quorum")?;
    w.ok("broker uncordon 3", "")?;
    w.ok("topic create last --partitions 1 --replicas 4", "")?;
    w.fails("broker remove 3", 1, "last-0")?;
    w.ok("topic delete last", "")?;
    w.fails("broker remove 3", 1, "broker 3 runs")?;
    w.cluster.stop(3)?;
    w.eventually_ok("broker remove 3")?;
    w.ok("broker remove 3", "")?;
    let brokers = w.json("broker list")?;
    ensure!(brokers.as_array().is_some_and(|all| all.len() == 3), "{brokers}");
    w.is_well()
}

fn no_majority(w: &mut World) -> Result<String> {
    w.cluster.kill(0)?;
    w.cluster.kill(1)?;
    w.fails("cluster status", 3, "chronik: ")?;
    w.cluster.start(0)?;
    w.cluster.start(1)?;
    w.is_well()
}
