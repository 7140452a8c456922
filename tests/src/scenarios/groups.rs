//! Consumer groups: unmodified clients share a topic, coordinators are killed under commits, and replicas are missing.
//! No offset whose commit was answered goes back, and every group goes on.

use super::clients::python_script;
use super::committer::{Commits, Committer};
use super::{Settings, TimeLimit, few_in_sync, group_kills, stopped_coordinator};
use crate::harness::clients as programs;
use crate::harness::cluster::{Cluster, Software};
use crate::harness::metadata::Metadata;
use crate::report::{Report, Table, ms, percentile};
use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::time::{Duration, Instant};

const TOPIC: &str = "groups";
const OFFSETS: &str = "__consumer_offsets";
/// Groups that commit while brokers are killed.
const GROUPS: usize = 20;
/// From a coordinator's death to the next commit of each of its groups.
const GOES_ON: TimeLimit = TimeLimit { target: Duration::from_secs(2), always: Duration::from_secs(15) };
/// How long one commit, or one question for it, may take.
const REQUEST: Duration = Duration::from_secs(10);

/// Clients first, then the kills.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let properties = [("group.initial.rebalance.delay.ms", "500")];
    let mut cluster = Cluster::of_three(&settings.software, &properties)?;
    match programs::python() {
        Ok(python) => {
            python_script(report, &cluster, &python, "kafka-python", "groups.py");
            python_script(report, &cluster, &python, "confluent-kafka", "groups_confluent.py");
        }
        Err(e) => report.could_not_run(format!("Python's clients: {e:#}")),
    }
    kills(settings, report, &mut cluster)?;
    group_kills::run(settings, report, &mut cluster)?;
    // It knows how Chronik's coordinators answer when they go on.
    if matches!(settings.software, Software::Chronik(_)) {
        stopped_coordinator::run(settings, report, &cluster);
        few_in_sync::run(settings, report, &mut cluster);
    }
    report.check_result("every broker lives", cluster.check_alive().map(|()| "yes".into()));
    if report.has_failures() {
        println!("kept: {}", cluster.keep().display());
    }
    Ok(())
}

/// `kill -9` of one broker after the other, each of which coordinates about a third of the groups.
fn kills(settings: &Settings, report: &mut Report, cluster: &mut Cluster) -> Result<()> {
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, 1, 3, &[])?;
    let start = |n| -> Result<Committer> {
        let name = format!("committer-{n}");
        let consumer = consumer(&cluster.bootstrap(), &name)?;
        Ok(Committer::start(name, move |commits| commit(&consumer, commits)))
    };
    let groups: Vec<_> = (0..GROUPS).map(start).collect::<Result<_>>()?;
    let mut table = Table::new("kill -9 of a coordinator under commits", &["killed", "median", "slowest group"]);
    let mut slowest = Duration::ZERO;
    for victim in 0..cluster.size() {
        let outcome = one_kill(cluster, &metadata, &groups, victim);
        if let Ok(gaps) = &outcome {
            let worst = gaps.iter().max().copied().unwrap_or_default();
            let millis: Vec<_> = gaps.iter().map(|gap| gap.as_secs_f64() * 1e3).collect();
            table.row(vec![format!("broker {victim}"), format!("{:.0} ms", percentile(&millis, 50.0)), ms(worst)]);
            slowest = slowest.max(worst);
        }
        let failed = outcome.is_err();
        let outcome = outcome.map(|_| format!("{GROUPS} groups commit")).with_context(|| cluster.tails());
        report.check_result(format!("kill -9 of broker {victim}: every group goes on"), outcome);
        if failed {
            break;
        }
    }
    report.table(table);
    if matches!(settings.software, Software::Chronik(_)) {
        GOES_ON.check(settings, report, "the longest time to a group's next commit", slowest.as_secs_f64() * 1e3, "");
    }
    let found = |group: &str| committed(&consumer(&cluster.bootstrap(), group)?);
    let ends: Vec<_> = groups.into_iter().map(|group| group.end(found)).collect();
    let bad: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).map(|e| format!("{e:#}")).collect();
    let commits: i64 = ends.iter().flatten().sum();
    let detail = if bad.is_empty() { format!("{commits} commits answered") } else { bad.join("; ") };
    report.check("no committed offset goes back", bad.is_empty() && commits > 0, detail);
    Ok(())
}

/// How long it took each group until its next commit.
fn one_kill(cluster: &mut Cluster, metadata: &Metadata, groups: &[Committer], victim: usize) -> Result<Vec<Duration>> {
    for group in groups {
        group.wait_for_commit_after(Instant::now())?;
    }
    let killed = Instant::now();
    cluster.kill(victim)?;
    let after: Vec<_> = groups.iter().map(|group| group.wait_for_commit_after(killed)).collect::<Result<_>>()?;
    cluster.start(victim)?;
    let partitions = metadata.partitions(OFFSETS).map_or(50, |all| all.len());
    metadata.wait_for_isr(OFFSETS, partitions, 3)?;
    Ok(after.into_iter().map(|at| at.saturating_duration_since(killed)).collect())
}

fn consumer(bootstrap: &str, group: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", group).set("enable.auto.commit", "false");
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200").set("log_level", "0");
    config.set("socket.timeout.ms", "3000");
    let consumer: BaseConsumer = config.create()?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(TOPIC, 0, Offset::End)?;
    consumer.assign(&assignment)?;
    Ok(consumer)
}

/// One commit after the other, each when the one before has been answered; what is committed is read now and then.
fn commit(consumer: &BaseConsumer, commits: &Commits) -> Result<()> {
    let mut next = 0;
    while commits.goes_on() {
        // A commit that failed may have been carried out: its offset is not used again.
        next += 1;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(TOPIC, 0, Offset::Offset(next))?;
        let begun = Instant::now();
        if consumer.commit(&offsets, CommitMode::Sync).is_ok() {
            commits.committed(next, begun);
        }
        if next % 20 == 0 {
            let before = commits.answered();
            if let Ok(Some(found)) = committed(consumer) {
                ensure!(found >= before, "the commit of {before} was answered, and {found} is committed");
            }
        }
    }
    Ok(())
}

fn committed(consumer: &BaseConsumer) -> Result<Option<i64>> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(TOPIC, 0);
    let found = consumer.committed_offsets(asked, REQUEST)?;
    Ok(match found.elements().first().map(rdkafka::topic_partition_list::TopicPartitionListElem::offset) {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    })
}
