//! Writes while, on the same broker, thousands of partitions are deleted and followers of a thousand cut their logs back: what
//! they wait beyond the ordinary.

use super::log_figures::{SMALL_BYTES, create_topics, write_to_each};
use super::waits::Waits;
use super::{Settings, TimeLimit};
use crate::harness::appender::{self, Appender};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::files::files;
use crate::harness::metadata::Metadata;
use crate::harness::raw::Raw;
use crate::harness::wait;
use crate::load::read_each;
use crate::report::{Report, ms};
use anyhow::{Context as _, Result, anyhow, ensure};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{ApiKey, ElectLeadersRequest, ElectLeadersResponse, RequestKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use rdkafka::message::Message as _;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What is written to all the time, on [`HERE`] alone.
const ELSEWHERE: &str = "elsewhere";
/// Partitions that [`HERE`] leads and then follows.
const CUT: &str = "elsewhere-cut";
/// What fills the way to the other replica, so that it does not hear of what will be cut.
const BALLAST: &str = "elsewhere-ballast";
/// More partitions of it than a connection takes records of this size before any is acknowledged.
const BALLAST_PARTITIONS: usize = 16;
const BALLAST_BYTES: usize = 900_000;
/// The broker on which all of it happens, and the one that leads next.
const HERE: usize = 0;
const OTHER: usize = 1;
/// A record that will be cut is longer than the others, by which it is known.
const CUT_BYTES: usize = SMALL_BYTES + 1;
/// How much longer than any before a write may take.
const SLOWER: TimeLimit = TimeLimit { target: Duration::from_millis(50), always: Duration::from_secs(2) };
/// How long writes are watched before.
const ORDINARY: Duration = Duration::from_secs(2);
/// From one look at the files to the next.
const LOOK: Duration = Duration::from_millis(200);
/// Characters of an id in hexadecimal.
const TOPIC_ID_LEN: usize = 36;
/// The newest version without tagged fields.
const ELECT_LEADERS: i16 = 1;

/// A cluster of three: two with replicas, and one more that votes.
pub(super) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    // The other replica hangs for a moment, and stays an in-sync one.
    let properties = [("auto.leader.rebalance.enable", "false"), ("broker.session.timeout.ms", "10000")];
    let mut cluster = Cluster::of_three(&settings.software, &properties)?;
    let outcome = disturb(settings, &mut cluster, report).with_context(|| cluster.tails());
    if outcome.is_err() {
        println!("kept: {}", cluster.keep().display());
    }
    outcome
}

fn disturb(settings: &Settings, cluster: &mut Cluster, report: &mut Report) -> Result<()> {
    let (gone, cut) = if settings.full { (5_000, 1_000) } else { (500, 100) };
    let metadata = Metadata::new(&cluster.bootstrap())?;
    let (here, other) = (HERE as i32, OTHER as i32);
    metadata.create_topic_on(ELSEWHERE, 1, &[here])?;
    metadata.create_topic_on(BALLAST, BALLAST_PARTITIONS, &[here, other])?;
    metadata.create_topic_on(CUT, cut, &[other, here])?;
    lead_here(cluster, &metadata, cut)?;
    let port = cluster.ports(HERE).kafka;
    Appender::connect(port, CUT, PATIENCE)?.append(0..cut as i32, &appender::batch(SMALL_BYTES)?)?;
    wait::until("a folder of each partition", PATIENCE, || {
        Ok((cluster.partition_folders(HERE).len() >= cut).then_some(()))
    })?;
    let before = cluster.partition_folders(HERE);
    let topics = create_topics(&metadata, gone)?;
    write_to_each(&topics, cluster, report)?;
    let doomed = Doomed::those_but(cluster, &before);
    wait::until("a file of each partition", PATIENCE, || Ok((doomed.files(cluster) >= gone).then_some(())))?;
    let mut appender = Appender::connect(port, ELSEWHERE, PATIENCE)?;
    let ordinary = Waits::watch(&mut appender, ORDINARY, || true)?;

    write_what_will_be_cut(cluster, cut)?;
    let over = AtomicBool::new(false);
    let (during, deleted, followed) = thread::scope(|scope| {
        let deletion = scope.spawn(|| delete(cluster, &metadata, &topics, &doomed));
        let following = scope.spawn(|| follow(cluster, &metadata, cut));
        let both = scope.spawn(|| {
            let ended = (deletion.join(), following.join());
            over.store(true, Ordering::Relaxed);
            ended
        });
        let during = Waits::watch(&mut appender, Duration::ZERO, || over.load(Ordering::Relaxed))?;
        let panicked = |_| anyhow!("a thread panicked");
        let (deleted, followed) = both.join().map_err(panicked)?;
        anyhow::Ok((during, deleted.map_err(panicked)??, followed.map_err(panicked)??))
    })?;
    cluster.check_alive()?;
    let kept = kept(cluster, cut)?;
    let name = format!("{cut} followers cut off what their next leader lacks");
    report.check(name, kept == 0, format!("{kept} of them still have it"));
    let when = format!("while {gone} partitions are deleted and {cut} followers cut their logs back");
    let row = format!("{when}, in {} and {}", ms(deleted), ms(followed));
    Waits::show(report, &[("before", &ordinary), (&row, &during)]);
    during.check_worst(settings, report, SLOWER, (&when, &ordinary));
    Ok(())
}

/// Has [`HERE`] lead what it is not the preferred leader of.
fn lead_here(cluster: &mut Cluster, metadata: &Metadata, cut: usize) -> Result<()> {
    cluster.stop(OTHER)?;
    wait_for_leader(metadata, cut, HERE)?;
    cluster.start(OTHER)?;
    metadata.wait_for_isr(CUT, cut, 2)?;
    metadata.wait_for_isr(BALLAST, BALLAST_PARTITIONS, 2)
}

fn wait_for_leader(metadata: &Metadata, cut: usize, leader: usize) -> Result<()> {
    wait::until("the leader", PATIENCE, || {
        let partitions = metadata.partitions(CUT)?;
        let led = partitions.iter().filter(|p| p.leader == Some(leader as i32)).count();
        ensure!(led == cut, "broker {leader} leads {led} of {cut} partitions");
        Ok(Some(()))
    })
}

/// Has the other replica hang, and writes records that do not reach it.
fn write_what_will_be_cut(cluster: &Cluster, cut: usize) -> Result<()> {
    let port = cluster.ports(HERE).kafka;
    let mut ballast = Appender::connect(port, BALLAST, PATIENCE)?.with_acks(1);
    let mut alone = Appender::connect(port, CUT, PATIENCE)?.with_acks(1);
    cluster.pause(OTHER)?;
    ballast.append(0..BALLAST_PARTITIONS as i32, &appender::batch(BALLAST_BYTES)?)?;
    alone.append(0..cut as i32, &appender::batch(CUT_BYTES)?)?;
    Ok(())
}

fn elect_preferred(port: u16, cut: usize) -> Result<()> {
    let partitions = TopicPartitions::default()
        .with_topic(TopicName(StrBytes::from_static_str(CUT)))
        .with_partitions((0..cut as i32).collect());
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![partitions])).with_timeout_ms(30_000);
    let request = RequestKind::ElectLeaders(request);
    let answer: ElectLeadersResponse =
        Raw::connect(port, PATIENCE)?.ask(ApiKey::ElectLeaders, ELECT_LEADERS, &request)?;
    let results = || answer.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
    let refused = results().find(|partition| partition.error_code != 0);
    ensure!(answer.error_code == 0 && refused.is_none(), "the election is refused: {answer:?}");
    ensure!(results().count() == cut, "{} of {cut} partitions got a leader", results().count());
    Ok(())
}

/// Has the other replica lead, and waits until every partition has a record of its new leader on both. Says how long it took.
fn follow(cluster: &Cluster, metadata: &Metadata, cut: usize) -> Result<Duration> {
    let since = Instant::now();
    elect_preferred(cluster.ports(HERE).kafka, cut)?;
    cluster.resume(OTHER)?;
    wait_for_leader(metadata, cut, OTHER)?;
    let mut appender = Appender::connect(cluster.ports(OTHER).kafka, CUT, PATIENCE)?;
    let record = appender::batch(SMALL_BYTES)?;
    wait::until("an acknowledged write to each partition", PATIENCE, || {
        appender.append(0..cut as i32, &record).map(Some)
    })?;
    metadata.wait_for_isr(CUT, cut, 2)?;
    Ok(since.elapsed())
}

/// How many partitions have a record that was to be cut.
fn kept(cluster: &Cluster, cut: usize) -> Result<usize> {
    let mut kept = BTreeSet::new();
    read_each(&cluster.bootstrap(), CUT, cut, PATIENCE, |message| {
        if message.payload_len() == CUT_BYTES {
            kept.insert(message.partition());
        }
    })?;
    Ok(kept.len())
}

/// The topics that are deleted, by what their partitions' folders are called after, whatever becomes of these.
struct Doomed(BTreeSet<String>);

impl Doomed {
    fn those_but(cluster: &Cluster, before: &BTreeSet<PathBuf>) -> Self {
        Self(cluster.partition_folders(HERE).difference(before).filter_map(|folder| topic_of(folder)).collect())
    }

    /// How many files they have.
    fn files(&self, cluster: &Cluster) -> usize {
        let is_one = |folder: &PathBuf| topic_of(folder).is_some_and(|topic| self.0.contains(&topic));
        cluster.partition_folders(HERE).iter().filter(|folder| is_one(folder)).map(|folder| files(folder).len()).sum()
    }
}

/// The first part of a folder's name, which is the topic's id.
fn topic_of(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_str()?.get(..TOPIC_ID_LEN)?.to_owned())
}

/// Deletes topics with one request, and waits until a tenth of their files is left at most. Says how long it took.
fn delete(cluster: &Cluster, metadata: &Metadata, topics: &[(String, i32)], doomed: &Doomed) -> Result<Duration> {
    let (since, before) = (Instant::now(), doomed.files(cluster));
    metadata.delete_topics(&topics.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())?;
    loop {
        let files = doomed.files(cluster);
        if files <= before / 10 {
            return Ok(since.elapsed());
        }
        ensure!(since.elapsed() < PATIENCE, "{files} of {before} files are left");
        // Looking often would be what the writes wait for.
        thread::sleep(LOOK);
    }
}
