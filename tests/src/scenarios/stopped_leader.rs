//! A leader that hangs past its lease and then goes on where it stood: it may acknowledge nothing more, and tell
//! readers nothing that the next leader would not.

use super::Settings;
use super::stale_leader::{Answer, Loyal, agrees, end};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::metadata::Metadata;
use crate::harness::raw::Raw;
use crate::harness::wait;
use crate::load::{Load, read_all, verify};
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{ApiKey, DescribeProducersRequest, DescribeProducersResponse, RequestKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::time::Instant;

const TOPIC: &str = "stopped-leader";

/// SIGSTOP of the only partition's leader, writes through its successor, SIGCONT.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let rounds = settings.rounds.unwrap_or(if settings.quick { 1 } else { 3 });
    // Kafka's leaders have no lease: one that was deposed may acknowledge what no follower has to have.
    let acks: &[i16] = if let Software::Kafka(_) = settings.software { &[-1] } else { &[-1, 1] };
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, 1, 3, &[])?;
    let mut loads = vec![Load::start("before", &cluster.bootstrap(), TOPIC, 1, 1_000)?];
    for round in 1..=rounds {
        let outcome = one_round(&mut cluster, &metadata, &mut loads, acks).with_context(|| cluster.tails());
        let failed = outcome.is_err();
        report.check_result(format!("round {round}: a leader resumed past its lease acknowledges nothing"), outcome);
        if failed {
            println!("kept: {}", cluster.keep().display());
            break;
        }
    }
    let described = producers_everywhere(&cluster).with_context(|| cluster.tails());
    report.check_result("every replica describes the same producers", described);
    Ok(())
}

/// DescribeProducers (KIP-664), which Kafka answers on followers too.
fn producers_everywhere(cluster: &Cluster) -> Result<String> {
    let topic =
        TopicRequest::default().with_name(TopicName(StrBytes::from_static_str(TOPIC))).with_partition_indexes(vec![0]);
    let request = RequestKind::DescribeProducers(DescribeProducersRequest::default().with_topics(vec![topic]));
    let on = |id: usize| -> Result<BTreeMap<i64, i32>> {
        let mut raw = Raw::connect(cluster.ports(id).kafka, PATIENCE)?;
        let answer: DescribeProducersResponse = raw.ask(ApiKey::DescribeProducers, 0, &request)?;
        let partition = answer.topics.first().and_then(|t| t.partitions.first()).context("a partition")?;
        ensure!(partition.error_code == 0, "broker {id}: error {}", partition.error_code);
        Ok(partition.active_producers.iter().map(|p| (p.producer_id.0, p.last_sequence)).collect())
    };
    let count = wait::until("the same producers everywhere", PATIENCE, || {
        let all: Vec<_> = (0..cluster.size()).map(on).collect::<Result<_>>()?;
        let same = !all[0].is_empty() && all.iter().all(|other| *other == all[0]);
        Ok(same.then(|| all[0].len()))
    })?;
    Ok(format!("{count} producers"))
}

fn one_round(cluster: &mut Cluster, metadata: &Metadata, loads: &mut Vec<Load>, acks: &[i16]) -> Result<String> {
    loads[0].resume();
    loads[0].wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    let leader = metadata.leader(TOPIC, 0)?;
    let (mut loyal, served) = Loyal::to(cluster.ports(leader).kafka, TOPIC, acks)?;
    cluster.pause(leader)?;
    let written = loyal.send().and_then(|()| write_through_the_successor(cluster, leader, loads));
    let waiting = what_waits(cluster, leader, &loyal, &loads[0]);
    cluster.resume(leader)?;
    let answers = loyal.answers(PATIENCE);
    let (committed, waiting) = (written?, waiting?);
    let mut answers = answers?;
    let refused = answers.iter().filter(|answer| **answer == Answer::Refused).count();
    let reads = format!("{refused} of {} reads refused", answers.len());
    // The first writer has been talking to the stopped leader all the time: its connection stayed open.
    loads[0].wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    metadata.wait_for_isr(TOPIC, 1, 3)?;
    cluster.check_alive()?;
    loads.iter().try_for_each(|load| load.pause(PATIENCE))?;
    let state = verify(&cluster.bootstrap(), &loads.iter().collect::<Vec<_>>())?;
    answers.push(served);
    let log = read_all(&cluster.bootstrap(), TOPIC, 1, PATIENCE)?.remove(0);
    answers.iter().try_for_each(|answer| agrees(answer, &log, committed)).context("read from the old leader")?;
    Ok(format!("{state}; {waiting} writes waited; {reads}"))
}

/// A new writer, who knows the living brokers alone, fills the offsets that the stopped leader has in mind for
/// what waits in its sockets. Says how far the successor has committed.
fn write_through_the_successor(cluster: &Cluster, stopped: usize, loads: &mut Vec<Load>) -> Result<i64> {
    let others = (0..cluster.size()).filter(|id| *id != stopped);
    let addresses: Vec<_> = others.map(|id| format!("127.0.0.1:{}", cluster.ports(id).kafka)).collect();
    let metadata = Metadata::new(&addresses.join(","))?;
    let successor = wait::until("another leader", PATIENCE, || {
        Ok(metadata.partitions(TOPIC)?[0].leader.filter(|now| *now as usize != stopped))
    })?;
    let load = Load::start(&format!("after{}", loads.len()), &addresses.join(","), TOPIC, 1, 500)?;
    wait::until("100 records through the next leader", PATIENCE, || Ok((load.acknowledged() > 100).then_some(())))?;
    loads.push(load);
    end(cluster.ports(successor as usize).kafka, TOPIC)
}

/// Fails unless the leader hangs and owes answers: what nobody asks of it, it cannot answer wrongly.
fn what_waits(cluster: &Cluster, leader: usize, loyal: &Loyal, load: &Load) -> Result<u64> {
    ensure!(cluster.is_paused(leader)?, "broker {leader} does not hang");
    ensure!(loyal.waits()?, "broker {leader} has answered although it hangs");
    let pending = load.pending();
    ensure!(pending > 0, "no write waits for broker {leader}");
    Ok(pending)
}
