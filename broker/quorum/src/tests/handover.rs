use super::*;
use crate::proposer::ProposeError;
use chronik_core::cluster::{Leaving, MetadataCommand, ResignReason, ResignedPartitions};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hands_over_is_succeeded_before_anybody_misses_it() {
    let cluster = Cluster::patient(3).with_slow_elections();
    let mut brokers = cluster.start_all().await;
    for _ in 0..3 {
        for broker in &brokers {
            broker.sees_alive(&[0, 1, 2]).await;
        }
        let leader = brokers[0].leader().await;
        let at = brokers.iter().position(|b| b.id == leader).unwrap();
        assert!(brokers[at].controller.hand_over(DEADLINE).await);
        for broker in &brokers {
            eventually("another leader", || async { broker.handle().leader().filter(|id| *id != leader) }).await;
        }
        // The old one is a voter like any other, and the new one decides.
        let name = format!("after-{}", Uuid::new_v4());
        brokers[at].create_topic(&name, 3).await.unwrap();
        brokers.remove(at).stop().await;
        brokers.push(cluster.start(leader.0 as usize).await);
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_proposes_nothing_and_gives_no_leases_while_it_hands_over_and_goes_on_if_nobody_succeeds_it() {
    let cluster = Cluster::patient(3).with_slow_elections();
    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    let leader = brokers[0].leader().await;
    let at = brokers.iter().position(|b| b.id == leader).unwrap();
    let (leads, other) = (&brokers[at], &brokers[(at + 1) % 3]);
    for broker in brokers.iter().filter(|b| b.id != leader) {
        cluster.cuts.cut(leader, broker.id);
    }
    let (handover, proposer) = (leads.controller.handover.clone(), leads.controller.admin.calls.proposer.clone());
    let yielding = handover.yielding.clone();
    let trying = tokio::spawn(async move { handover.run(Duration::from_secs(2)).await });
    eventually("it hands over", || async { yielding.is_under_way().then_some(()) }).await;
    let fence = MetadataCommand::Fence { id: other.id, epoch: BrokerEpoch(1) };
    assert_eq!(proposer.propose(fence).await, Err(ProposeError::NotLeader));
    assert!(!trying.await.unwrap(), "nobody was asked");
    assert!(!yielding.is_under_way());
    cluster.cuts.heal();
    let now = std::time::Instant::now();
    other.has("it has a lease that it got since", |r| r.lease_until > Some(now + cluster.timings.lease)).await;
    other.create_topic("after", 3).await.unwrap();
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_voter_keeps_what_it_leads_and_a_follower_has_nothing_to_give() {
    let cluster = Cluster::of(1);
    let broker = cluster.start(0).await;
    broker.sees_alive(&[0]).await;
    assert!(!broker.controller.hand_over(Duration::from_millis(50)).await);
    broker.stop().await;
    let brokers = Cluster::of(3).start_all().await;
    let leader = brokers[0].leader().await;
    let follower = brokers.iter().find(|b| b.id != leader).unwrap();
    follower.sees_alive(&[0, 1, 2]).await;
    assert!(follower.controller.hand_over(DEADLINE).await);
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_has_resigned_and_leaves_is_fenced_until_it_registers_anew() {
    let cluster = Cluster::patient(3);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let leaving = brokers.remove(0);
    leaving.sees_alive(&[0, 1, 2]).await;
    let resignation =
        Resignation { partitions: ResignedPartitions::All, leaving: Leaving::InSync, reason: ResignReason::Stop };
    leaving.handle().resign(resignation, DEADLINE).await.unwrap();
    leaving.handle().leave(DEADLINE).await.unwrap();
    brokers[1].sees_alive(&[1, 2]).await;
    // Its heart still beats. What the leader has heard after it applied its leave would have unfenced it, in an entry
    // before one that is proposed then.
    let left = leaving.handle().image().offset;
    let heard = || async {
        let leader = [&brokers[0], &brokers[1], &leaving].into_iter().find(|b| b.handle().leader() == Some(b.id))?;
        let observed = leader.controller.admin.calls.leader.observed().await?;
        observed.signs.get(&leaving.id).filter(|sign| sign.applied >= left).map(|_| ())
    };
    eventually("it was heard since", heard).await;
    brokers[0].create_topic("t", 2).await.unwrap();
    brokers[0].sees_alive(&[1, 2]).await;
    leaving.stop().await;
    brokers.push(cluster.start(0).await);
    brokers[0].sees_alive(&[0, 1, 2]).await;
    stop_all(brokers).await;
}
