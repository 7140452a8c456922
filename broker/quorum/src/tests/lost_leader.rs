use super::*;
use crate::cuts::{What, leases_of_silent};
use crate::lost_leader::{Candidate, Leadership, ask};

/// Brokers that all vote, with elections that take a minute by themselves: a leader that is replaced sooner was not merely
/// missed. Votes that are split when a cluster is founded would take as long, so that another one is founded then.
async fn voters(count: usize) -> (Cluster, Vec<Broker>) {
    let all: Vec<i32> = (0..).take(count).collect();
    eventually("a cluster whose first election is not split", || async {
        let cluster = Cluster { voters: count, ..Cluster::patient(count).with_slow_elections() };
        let brokers = cluster.start_all().await;
        let serve = futures::future::join_all(brokers.iter().map(|broker| broker.sees_alive(&all)));
        if tokio::time::timeout(DEADLINE / 6, serve).await.is_ok() {
            return Some((cluster, brokers));
        }
        stop_all(brokers).await;
        None
    })
    .await
}

/// The leadership that all of them know, at its place among them.
async fn leadership(brokers: &[Broker]) -> (usize, Leadership) {
    let leader = brokers[0].leader().await;
    for broker in brokers {
        eventually("the same leader", || async { broker.handle().leader().filter(|id| *id == leader) }).await;
    }
    let term = brokers[0].controller.raft.server_metrics().borrow().vote.leader_id().term;
    (brokers.iter().position(|b| b.id == leader).unwrap(), Leadership { term, leader })
}

/// Ends the leader of a cluster of that many, and says whether it was replaced much sooner than it is missed.
async fn is_replaced_at_once(count: usize) -> bool {
    let (_cluster, mut brokers) = voters(count).await;
    let (at, Leadership { leader, .. }) = leadership(&brokers).await;
    brokers.remove(at).stop().await;
    let replaced = futures::future::join_all(brokers.iter().map(|broker| {
        eventually("another leader", || async {
            // One of them has noticed, and looks again where an answer took too long for it.
            brokers[0].peers.lost(leader);
            broker.handle().leader().filter(|id| *id != leader)
        })
    }));
    let is_replaced = tokio::time::timeout(DEADLINE / 6, replaced).await.is_ok();
    if is_replaced {
        brokers[1].create_topic("after", 2).await.unwrap();
    }
    stop_all(brokers).await;
    is_replaced
}

/// An election that comes to nothing, as a vote took too long, is repeated only when the leader is missed: then it is tried
/// with another cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_gone_is_replaced_before_it_is_missed() {
    const TRIES: usize = 8;
    for count in [3, 5] {
        let mut tries = 0;
        while !is_replaced_at_once(count).await {
            tries += 1;
            assert!(tries < TRIES, "none of {TRIES} leaders of {count} voters was replaced at once");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_agrees_that_a_leader_is_gone_which_answers_its_port() {
    let (_cluster, brokers) = voters(3).await;
    let (at, led) = leadership(&brokers).await;
    let (mistaken, other) = ((at + 1) % 3, (at + 2) % 3);
    let links = brokers[mistaken].controller.handover.links.clone();
    // However far ahead it says that it is.
    let candidate = Candidate { log: Some((u64::MAX, u64::MAX)), id: brokers[mistaken].id };
    assert!(!ask(links.clone(), brokers[other].id, led, candidate).await);
    assert!(!ask(links, led.leader, led, candidate).await);
    for broker in &brokers {
        broker.peers.lost(led.leader);
    }
    brokers[mistaken].create_topic("meanwhile", 3).await.unwrap();
    assert_eq!(leadership(&brokers).await, (at, led));
    stop_all(brokers).await;
}

/// Its leases go on for a while after its last message: it is cut off, and taken for gone at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_replaced_while_it_lives_is_fenced_when_its_leases_have_ended() {
    let cluster = Cluster::of(3);
    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    let (at, Leadership { leader, .. }) = leadership(&brokers).await;
    for other in brokers.iter().filter(|broker| broker.id != leader) {
        cluster.cuts.cut(leader, other.id);
        cluster.cuts.cut(other.id, leader);
    }
    cluster.cuts.refuse(cluster.controllers[leader.0 as usize].port());
    let others: Vec<&Broker> = brokers.iter().filter(|broker| broker.id != leader).collect();
    eventually("another leader", || async {
        for broker in &others {
            broker.peers.lost(leader);
        }
        others[0].handle().leader().filter(|id| *id != leader)
    })
    .await;
    let silent = || async {
        let deeds = cluster.cuts.deeds();
        let found = |what| matches!(what, What::FoundSilent { .. });
        deeds.iter().any(|deed| deed.broker.0 == leader && found(deed.what)).then_some(deeds)
    };
    let deeds = eventually("it is found silent", silent).await;
    assert_eq!(leases_of_silent(&deeds, cluster.timings.lease), [""; 0]);
    cluster.cuts.heal();
    brokers[at].sees_alive(&[0, 1, 2]).await;
    stop_all(brokers).await;
}
