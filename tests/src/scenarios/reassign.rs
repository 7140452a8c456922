//! Partitions that move to other brokers and back under load: by Kafka's own tools, which know nothing but the
//! address, and by Chronik's command line. A broker is killed in the middle, a move is taken back, a broker is emptied.

use super::java_tools::{CLUSTER, QUORUM, Tools};
use super::{Settings, Step, carry_out};
use crate::harness::clients::{self, Outcome};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::kafka::Kafka;
use crate::harness::metadata::Metadata;
use crate::harness::{leash, wait};
use crate::load::{Load, verify};
use crate::report::Report;
use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
const TOPIC: &str = "moved";
const PARTITIONS: usize = 2;
/// Bytes of each record of what is moved slowly.
const RECORD_BYTES: usize = 900_000;
/// Records a second.
const RATE: u32 = 500;

/// Four brokers, a topic on two of them, and one command after the other.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let Software::Chronik(program) = &settings.software else { bail!("some of it is Chronik's own command line") };
    let kafka = match Kafka::fetch() {
        Ok(kafka) => kafka,
        Err(e) => {
            report.could_not_run(format!("Kafka's tools: {e:#}"));
            return Ok(());
        }
    };
    let mut cluster = Cluster::new(&settings.software, 4, &[])?;
    cluster.start_all()?;
    cluster.wait_for_brokers(4)?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, PARTITIONS as i32, 2, &[("min.insync.replicas", "2")])?;
    let load = Load::start("a", &cluster.bootstrap(), TOPIC, PARTITIONS, RATE)?;
    let admin: Vec<String> = (0..4).map(|id| format!("127.0.0.1:{}", cluster.ports(id).admin)).collect();
    let folder = tempfile::tempdir()?;
    let plan = folder.path().join("plan.json");
    let mut world = World { program: program.clone(), admin: admin.join(","), kafka, cluster, metadata, load, plan };
    let steps: [(&str, Step<World>); 11] = [
        ("kafka-reassign-partitions --execute and --verify", there),
        ("kafka-reassign-partitions --throttle", throttled),
        ("a broker that gets a partition is killed in the middle, and comes back", killed),
        ("kafka-reassign-partitions --list and --cancel", cancelled),
        ("kafka-leader-election", preferred),
        ("kafka-leader-election of whoever is there", unclean),
        ("unclean.leader.election.enable of a topic", unclean_by_itself),
        ("kafka-metadata-quorum remove-controller and add-controller", votes_no_more),
        ("every acknowledged record is there once and in order", |w| {
            w.load.pause(PATIENCE)?;
            let state = verify(&w.cluster.bootstrap(), &[&w.load])?;
            w.load.resume();
            Ok(state)
        }),
        ("a broker is drained, and so is every record after that", drained),
        ("kafka-cluster unregister", unregistered),
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
    kafka: Kafka,
    cluster: Cluster,
    metadata: Metadata,
    load: Load,
    /// What is to be moved, as Kafka's tools read it.
    plan: PathBuf,
}

impl World {
    fn tool(&self, class: &str, arguments: &[&str], says: &str) -> Result<()> {
        let tools = Tools { kafka: &self.kafka, bootstrap: self.cluster.bootstrap() };
        let all = [&["--bootstrap-server", "BOOTSTRAP"][..], arguments].concat();
        tools.call(class, &all, b"")?.succeeded()?.says(says)?;
        Ok(())
    }

    fn chronik(&self, words: &str) -> Result<Outcome> {
        let mut command = leash::command(&self.program)?;
        command.args(words.split(' '));
        if words.starts_with("broker") || words.starts_with("quorum") {
            command.args(["--admin", &self.admin]);
        } else {
            command.args(["--bootstrap", &self.cluster.bootstrap()]);
        }
        clients::run(command, b"", PATIENCE)?.succeeded()
    }

    /// Has the plan say that all partitions are to be on these brokers.
    fn plan(&self, replicas: &[i32]) -> Result<&str> {
        let one = |partition| json!({ "topic": TOPIC, "partition": partition, "replicas": replicas });
        let partitions: Vec<_> = (0..PARTITIONS).map(one).collect();
        fs::write(&self.plan, json!({ "version": 1, "partitions": partitions }).to_string())?;
        self.plan.to_str().context("a folder with a name that is text")
    }

    /// Waits until exactly these brokers have replicas of all partitions, the first of which may not lead yet.
    fn wait_for_replicas(&mut self, replicas: &[i32]) -> Result<()> {
        let mut isr = replicas.to_vec();
        isr.sort_unstable();
        wait::until(&format!("the partitions to be on {replicas:?}"), PATIENCE, || {
            self.cluster.check_alive()?;
            let Ok(partitions) = self.metadata.partitions(TOPIC) else { return Ok(None) };
            let there = partitions.iter().all(|p| p.replicas == replicas && p.isr == isr && p.leader.is_some());
            Ok(there.then_some(()))
        })
    }

    /// Waits until a broker has no folder of any partition.
    fn wait_for_no_logs(&self, broker: i32) -> Result<()> {
        let root = self.cluster.data_dir(usize::try_from(broker)?);
        wait::until(&format!("broker {broker} to have dropped its logs"), PATIENCE, || {
            Ok((logs_under(&root, 2)? == 0).then_some(()))
        })
    }
}

/// Folders named by a topic's id and a partition, so many levels down.
fn logs_under(folder: &std::path::Path, levels: usize) -> Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // One that is being removed may be gone by now.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name();
        let of_partition = name.to_str().and_then(|name| name.rsplit_once('-'));
        if of_partition.is_some_and(|(topic, index)| topic.len() == 36 && index.parse::<i32>().is_ok()) {
            found += 1;
        } else if levels > 1 {
            found += logs_under(&entry.path(), levels - 1).unwrap_or(0);
        }
    }
    Ok(found)
}

/// There, whoever had them before.
fn there(w: &mut World) -> Result<String> {
    let first = w.metadata.partitions(TOPIC)?.first().map(|p| p.replicas.clone()).context("a partition")?;
    let others: Vec<i32> = (0..4).filter(|id| !first.contains(id)).collect();
    let plan = w.plan(&others)?.to_owned();
    let file = ["--reassignment-json-file", &plan];
    w.tool(REASSIGN, &[&file[..], &["--execute"]].concat(), "Successfully started partition reassignments")?;
    w.wait_for_replicas(&others)?;
    for id in &first {
        w.wait_for_no_logs(*id)?;
    }
    w.tool(REASSIGN, &[&file[..], &["--verify"]].concat(), "Reassignment of partition moved-1 is completed")?;
    w.chronik("reassign move moved-0 0,1 --wait")?;
    w.chronik("reassign move moved-1 0,1 --wait")?;
    w.wait_for_replicas(&[0, 1])?;
    Ok(format!("to {others:?}, and to 0 and 1 again"))
}

/// A replica of another topic is copied no faster than was asked for, while what is in sync is written to as before.
fn throttled(w: &mut World) -> Result<String> {
    const SLOW: &str = "slow";
    const BYTES_PER_SECOND: u32 = 1_000_000;
    const RECORDS: usize = 6;
    w.metadata.create_topic(SLOW, 1, 2, &[])?;
    fill(&w.cluster.bootstrap(), SLOW, RECORDS)?;
    let before = w.metadata.partitions(SLOW)?.first().map(|p| p.replicas.clone()).context("a partition")?;
    let new = (0..4).find(|id| !before.contains(id)).context("another broker")?;
    let replicas = [before[0], new];
    let plan = json!({ "version": 1, "partitions": [{ "topic": SLOW, "partition": 0, "replicas": replicas }] });
    fs::write(&w.plan, plan.to_string())?;
    let plan = w.plan.to_str().context("a folder with a name that is text")?.to_owned();
    let file = ["--reassignment-json-file", &plan];
    let rate = BYTES_PER_SECOND.to_string();
    let begun = Instant::now();
    let says = "The inter-broker throttle limit was set to 1000000 B/s";
    let execute = w.tool(REASSIGN, &[&file[..], &["--execute", "--throttle", &rate]].concat(), says);
    execute.and_then(|()| w.load.wait_for_acknowledgements_after(Instant::now(), PATIENCE))?;
    wait::until("the partition to be moved", PATIENCE, || {
        let partitions = w.metadata.partitions(SLOW)?;
        Ok(partitions.iter().all(|p| p.replicas == replicas && p.isr.len() == 2).then_some(()))
    })?;
    let took = begun.elapsed();
    // Half a second's worth may go at once, and the last batch as a whole.
    let least = (RECORDS * RECORD_BYTES - RECORD_BYTES) as f64 / f64::from(BYTES_PER_SECOND) - 0.5;
    ensure!(took.as_secs_f64() > least, "it took {took:?}, and was to take {least:.1} s at least");
    w.tool(REASSIGN, &[&file[..], &["--verify"]].concat(), "Clearing topic-level throttles on topic slow")?;
    let left = w.chronik("config get topic slow")?.text();
    ensure!(!left.contains('*') && !left.contains("0:"), "the throttle is there still: {left}");
    w.metadata.delete_topic(SLOW)?;
    Ok(format!("{} bytes in {:.1} s", RECORDS * RECORD_BYTES, took.as_secs_f64()))
}

/// So many records to a topic's only partition, one in a batch.
fn fill(bootstrap: &str, topic: &str, records: usize) -> Result<()> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("batch.num.messages", "1").create()?;
    let value: Vec<u8> = (0..RECORD_BYTES).map(|n| (n.wrapping_mul(31) >> 8) as u8).collect();
    for _ in 0..records {
        let sent = producer.send(BaseRecord::<(), _>::to(topic).payload(&value).partition(0));
        sent.map_err(|(error, _)| error).context("a record was not taken")?;
    }
    producer.flush(PATIENCE)?;
    let (_, end) = producer.client().fetch_watermarks(topic, 0, PATIENCE)?;
    ensure!(end == records as i64, "the partition ends at {end}");
    Ok(())
}

/// Nothing is lost while who should get a partition is away, and it goes on when that is back.
fn killed(w: &mut World) -> Result<String> {
    for partition in 0..PARTITIONS {
        w.chronik(&format!("reassign move moved-{partition} 2,3"))?;
    }
    w.cluster.kill(3)?;
    w.cluster.wait_for_brokers(3)?;
    for partition in 0..PARTITIONS {
        // One that was done by then is moved back, and to where it cannot be done.
        w.chronik(&format!("reassign move moved-{partition} 0,3"))?;
    }
    w.load.wait_for_acknowledgements_after(std::time::Instant::now(), PATIENCE)?;
    w.cluster.start(3)?;
    w.wait_for_replicas(&[0, 3])?;
    Ok("to 2 and 3, with 3 killed".into())
}

fn cancelled(w: &mut World) -> Result<String> {
    w.cluster.kill(1)?;
    for partition in 0..PARTITIONS {
        w.chronik(&format!("reassign move moved-{partition} 1,2"))?;
    }
    w.tool(REASSIGN, &["--list"], "moved-0: replicas: 1,2,0,3. adding: 1,2. removing: 0,3.")?;
    let plan = w.plan(&[1, 2])?.to_owned();
    // Of throttles each broker is asked on its own, and one of them is away.
    let cancel = ["--reassignment-json-file", &plan, "--cancel", "--preserve-throttles"];
    w.tool(REASSIGN, &cancel, "Successfully cancelled partition reassignments")?;
    w.cluster.start(1)?;
    w.wait_for_replicas(&[0, 3])?;
    w.wait_for_no_logs(1)?;
    w.wait_for_no_logs(2)?;
    Ok("0 and 3 keep them".into())
}

/// Another order is another preferred leader, who leads when somebody asks for it.
fn preferred(w: &mut World) -> Result<String> {
    let before = w.metadata.leader(TOPIC, 0)?;
    let order: [i32; 2] = if before == 0 { [3, 0] } else { [0, 3] };
    for partition in 0..PARTITIONS {
        w.chronik(&format!("reassign move moved-{partition} {},{}", order[0], order[1]))?;
    }
    ensure!(w.metadata.leader(TOPIC, 0)? == before, "nobody has asked for an election");
    let all = ["--election-type", "preferred", "--all-topic-partitions"];
    w.tool(ELECTION, &all, "Successfully completed leader election (PREFERRED)")?;
    wait::until("the preferred replica to lead", PATIENCE, || {
        let partitions = w.metadata.partitions(TOPIC)?;
        Ok(partitions.iter().all(|p| p.leader == Some(order[0])).then_some(()))
    })?;
    Ok(format!("{} leads", order[0]))
}

/// An operator's last resort: a replica leads that lacks what only a broker has that is gone.
fn unclean(w: &mut World) -> Result<String> {
    const LOST: &str = "lost";
    w.metadata.create_topic_on(LOST, 1, &[2, 3])?;
    w.metadata.set_configs(LOST, &[("min.insync.replicas", "1")])?;
    w.cluster.kill(3)?;
    // Acknowledged when broker 3 does not count any more.
    fill(&w.cluster.bootstrap(), LOST, 1)?;
    w.cluster.kill(2)?;
    w.cluster.start(3)?;
    w.cluster.wait_for_brokers(3)?;
    let partition = ["--topic", LOST, "--partition", "0"];
    let tools = Tools { kafka: &w.kafka, bootstrap: w.cluster.bootstrap() };
    let preferred = [&["--bootstrap-server", "BOOTSTRAP", "--election-type", "preferred"][..], &partition].concat();
    let refused = tools.call(ELECTION, &preferred, b"")?;
    ensure!(!refused.success, "a replica leads that lacks something, and nobody has said that it may");
    let whoever = [&["--election-type", "unclean"][..], &partition].concat();
    w.tool(ELECTION, &whoever, "Successfully completed leader election (UNCLEAN)")?;
    ensure!(w.metadata.leader(LOST, 0)? == 3, "broker 2 is gone");
    w.cluster.start(2)?;
    w.metadata.wait_for_isr(LOST, 1, 2)?;
    w.metadata.delete_topic(LOST)?;
    w.load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    Ok("broker 3 leads, and broker 2 gives way".into())
}

/// The same where the topic asks for it: nobody has to.
fn unclean_by_itself(w: &mut World) -> Result<String> {
    const LOST: &str = "lost-by-itself";
    w.metadata.create_topic_on(LOST, 1, &[2, 3])?;
    w.metadata.set_configs(LOST, &[("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")])?;
    w.cluster.kill(3)?;
    fill(&w.cluster.bootstrap(), LOST, 1)?;
    w.cluster.kill(2)?;
    w.cluster.start(3)?;
    w.cluster.wait_for_brokers(3)?;
    wait::until("broker 3 to lead", PATIENCE, || Ok((w.metadata.leader(LOST, 0).ok() == Some(3)).then_some(())))?;
    w.cluster.start(2)?;
    w.metadata.wait_for_isr(LOST, 1, 2)?;
    w.metadata.delete_topic(LOST)?;
    w.load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    Ok("broker 3 leads as soon as it is back, and broker 2 gives way".into())
}

/// A voter is named by its directory too. It votes again when that is asked for, as by who sits at a controller of Kafka's: the
/// tool reads who it is from that one's files.
fn votes_no_more(w: &mut World) -> Result<String> {
    let tools = Tools { kafka: &w.kafka, bootstrap: w.cluster.bootstrap() };
    let describe = |what| {
        let arguments = ["--bootstrap-server", "BOOTSTRAP", "describe", what];
        Ok::<_, anyhow::Error>(tools.call(QUORUM, &arguments, b"")?.succeeded()?.text())
    };
    let rows = describe("--replication")?;
    let mut rows = rows.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let voter = rows.find(|row| row.last() == Some(&"Follower")).context("a voter that does not lead")?;
    let (id, directory) = (voter[0].to_owned(), voter[1].to_owned());
    let named = ["--controller-id", &id, "--controller-directory-id", &directory];
    let remove = [&["--bootstrap-server", "BOOTSTRAP", "remove-controller"][..], &named].concat();
    tools.call(QUORUM, &remove, b"")?.succeeded()?;
    let is_one = |rows: String| {
        let is_it = |line: &str| line.split_whitespace().next() == Some(&id) && !line.ends_with("Observer");
        rows.lines().any(|line| is_it(line.trim_end()))
    };
    ensure!(!is_one(describe("--replication")?), "broker {id} votes");
    let files = tempfile::tempdir()?;
    let cluster_id = tools.says(CLUSTER, &["cluster-id", "--bootstrap-server", "BOOTSTRAP"], "Cluster ID: ")?;
    let cluster_id = cluster_id.trim_start_matches("Cluster ID: ");
    let identity = format!("version=1\ncluster.id={cluster_id}\nnode.id={id}\ndirectory.id={directory}\n");
    fs::write(files.path().join("meta.properties"), identity)?;
    let config = files.path().join("controller.properties");
    let listener = format!("CONTROLLER://127.0.0.1:{}", w.cluster.ports(id.parse()?).controller);
    let properties = format!(
        "process.roles=controller\nnode.id={id}\nmetadata.log.dir={}\nlisteners={listener}\nadvertised.listeners={listener}\n\
         controller.listener.names=CONTROLLER\nlistener.security.protocol.map=CONTROLLER:PLAINTEXT\n\
         controller.quorum.bootstrap.servers=127.0.0.1:1\n",
        files.path().display()
    );
    fs::write(&config, properties)?;
    let config = config.to_str().context("a path of UTF-8")?;
    let add = ["--bootstrap-server", "BOOTSTRAP", "--command-config", config, "add-controller"];
    tools.call(QUORUM, &add, b"")?.succeeded()?.says("Added controller")?;
    ensure!(is_one(describe("--replication")?), "broker {id} does not vote");
    Ok(format!("broker {id}, and again"))
}

fn drained(w: &mut World) -> Result<String> {
    let moves = w.chronik("broker drain 3 --plan")?.text();
    ensure!(moves.contains(TOPIC), "the plan says {moves:?}");
    w.chronik("broker drain 3")?.says("Broker 3 holds nothing")?;
    let partitions = w.metadata.partitions(TOPIC)?;
    ensure!(partitions.iter().all(|p| !p.replicas.contains(&3)), "{partitions:?}");
    w.wait_for_no_logs(3)?;
    w.load.pause(PATIENCE)?;
    verify(&w.cluster.bootstrap(), &[&w.load])
}

/// What holds nothing and does not run is forgotten.
fn unregistered(w: &mut World) -> Result<String> {
    w.cluster.stop(3)?;
    let tools = Tools { kafka: &w.kafka, bootstrap: w.cluster.bootstrap() };
    let unregister = ["unregister", "--bootstrap-server", "BOOTSTRAP", "--id", "3"];
    wait::until("broker 3 to be forgotten", PATIENCE, || {
        let outcome = tools.call(CLUSTER, &unregister, b"")?;
        Ok(outcome.text().contains("Broker 3 is no longer registered").then_some(()))
    })?;
    Ok("broker 3".into())
}
