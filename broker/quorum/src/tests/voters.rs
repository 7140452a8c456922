//! Brokers that join, and voters that come and go.

use super::*;
use chronik_admin::{self as api, Admin as _};
use openraft::{ChangeMembers, ServerState};
use tonic::{Code, Request, Status};

async fn change(by: &Broker, voters: &[i32]) -> Result<api::ChangeVotersResponse, Status> {
    let request = api::ChangeVotersRequest { voters: voters.to_vec(), seen: Vec::new() };
    by.controller.admin().change_voters(Request::new(request)).await.map(tonic::Response::into_inner)
}

/// Those vote from now on, once they are caught up.
async fn vote(by: &Broker, voters: &[i32]) {
    let changed = || async { change(by, voters).await.ok().filter(|answer| answer.refusals.is_empty()) };
    eventually(&format!("{voters:?} vote"), changed).await;
    assert_eq!(voters_seen(by).await, voters);
}

async fn facts(by: &Broker) -> api::FactsResponse {
    let ask = || async { by.controller.admin().facts(Request::new(api::FactsRequest::default())).await.ok() };
    eventually("there are facts", ask).await.into_inner()
}

async fn voters_seen(by: &Broker) -> Vec<i32> {
    facts(by).await.quorum.unwrap().voters.iter().map(|v| v.broker).collect()
}

fn term(broker: &Broker) -> u64 {
    broker.controller.raft.server_metrics().borrow().vote.leader_id().term
}

/// Takes out those brokers.
fn take(brokers: &mut Vec<Broker>, ids: &[BrokerId]) -> Vec<Broker> {
    let (taken, left) = brokers.drain(..).partition(|b: &Broker| ids.contains(&b.id));
    *brokers = left;
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_joins_by_any_member_and_nobody_is_told_of_it() {
    let mut cluster = Cluster::growing(3, 5);
    let mut brokers = vec![cluster.start(0).await, cluster.start(1).await, cluster.start(2).await];
    brokers[0].sees_alive(&[0, 1, 2]).await;
    brokers[0].create_topic("before", 3).await.unwrap();
    // By one that does not lead, and by one that has joined itself.
    let leader = brokers[0].leader().await;
    cluster.known_member = (0..3).find(|id| BrokerId(*id as i32) != leader).unwrap();
    brokers.push(cluster.start(3).await);
    brokers[3].sees_alive(&[0, 1, 2, 3]).await;
    cluster.known_member = 3;
    brokers.push(cluster.start(4).await);
    for broker in &brokers {
        let image = broker.sees_alive(&[0, 1, 2, 3, 4]).await;
        assert!(image.topic_by_name("before").is_some());
    }
    brokers[4].create_topic("by-who-joined", 5).await.unwrap();
    assert_eq!(voters_seen(&brokers[4]).await, [0, 1, 2]);
    stop_all(brokers).await;

    let brokers = futures::future::join_all([4, 3, 2, 1, 0].map(|id| cluster.start(id))).await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2, 3, 4]).await;
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_voter_becomes_five_and_the_first_one_may_go_for_good() {
    let cluster = Cluster::growing(1, 5);
    let mut brokers = Vec::new();
    for id in 0..5 {
        brokers.push(cluster.start(id).await);
        brokers[id].is_serving().await;
    }
    vote(&brokers[1], &[0, 1, 2]).await;
    vote(&brokers[4], &[0, 1, 2, 3, 4]).await;
    // By whoever leads, which may be one of those whose votes are removed.
    vote(&brokers[3], &[2, 3, 4]).await;
    take(&mut brokers, &[BrokerId(0)]).pop().unwrap().stop().await;
    brokers[0].sees("the first one is fenced", |i| i.alive(BrokerId(0)).is_none()).await;
    let request = || Request::new(api::RemoveBrokerRequest { broker: 0 });
    let answer = brokers[0].controller.admin().remove_broker(request()).await.unwrap().into_inner();
    assert_eq!(answer.refusals, []);
    stop_all(brokers).await;

    // All that they were told of by a file is a broker that is gone.
    let mut brokers = Vec::new();
    for id in [4, 2, 3, 1] {
        brokers.push(cluster.start(id).await);
    }
    for broker in &brokers {
        let image = broker.sees_alive(&[1, 2, 3, 4]).await;
        assert!(!image.brokers.contains_key(&BrokerId(0)));
    }
    vote(&brokers[0], &[4]).await;
    brokers[3].create_topic("t", 3).await.unwrap();
    stop_all(brokers).await;
}

/// Who votes is not changed by files: what they name beyond the first voters waits for nothing, and is asked for in vain by
/// nobody.
#[tokio::test(flavor = "multi_thread")]
async fn voters_that_files_name_later_are_members_and_vote_when_they_are_told_to() {
    let mut cluster = Cluster::growing(1, 3);
    let first = cluster.start(0).await;
    first.is_serving().await;
    first.create_topic("before", 1).await.unwrap();
    first.stop().await;
    (cluster.first, cluster.voters) = (3, 3);
    let first = cluster.start(0).await;
    first.is_serving().await;
    let mut brokers = vec![first, cluster.start(1).await, cluster.start(2).await];
    for broker in &brokers {
        let image = broker.sees_alive(&[0, 1, 2]).await;
        assert!(image.topic_by_name("before").is_some(), "there is one cluster");
    }
    assert_eq!(voters_seen(&brokers[2]).await, [0]);
    let last_index = async || facts(&brokers[0]).await.quorum.unwrap().last_index;
    let before = last_index().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(last_index().await, before, "nobody tries again and again");
    brokers[0].create_topic("with-one-voter", 3).await.unwrap();

    vote(&brokers[1], &[0, 1, 2]).await;
    brokers.remove(0).stop().await;
    brokers[0].sees_alive(&[1, 2]).await;
    brokers[0].create_topic("without-the-first-one", 2).await.unwrap();
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_vote_is_removed_hands_over_and_stays_a_member() {
    let cluster = Cluster::growing(3, 3);
    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    let leader = brokers[0].leader().await;
    let left: Vec<i32> = (0..3).filter(|id| *id != leader.0).collect();
    vote(&brokers[usize::try_from(leader.0).unwrap()], &left).await;
    for broker in &brokers {
        let next = eventually("another leader", || async { broker.handle().leader().filter(|id| *id != leader) }).await;
        assert!(left.contains(&next.0));
        broker.sees_alive(&[0, 1, 2]).await;
        broker.create_topic(&format!("by-{}", broker.id), 3).await.unwrap();
    }
    assert_eq!(facts(&brokers[0]).await.quorum.unwrap().observers[0].broker, leader.0);
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_that_are_caught_up_stay_a_majority() {
    let cluster = Cluster::growing(3, 4);
    let mut brokers = cluster.start_all().await;
    brokers[3].sees_alive(&[0, 1, 2, 3]).await;
    assert_eq!(change(&brokers[0], &[]).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(change(&brokers[0], &[0, 1, 2, 9]).await.unwrap_err().code(), Code::NotFound);
    let leader = brokers[0].leader().await;
    let away = brokers.iter().map(|b| b.id).find(|id| *id != leader && id.0 < 3).unwrap();
    take(&mut brokers, &[away]).pop().unwrap().stop().await;
    brokers[0].sees("one is fenced", |i| i.alive(away).is_none()).await;
    // It holds nothing, but would go on being one of three that a majority is counted of.
    let forget = chronik_core::cluster::MetadataCommand::UnregisterBroker { id: away };
    let refused = brokers[0].handle().decide(forget, DEADLINE).await.unwrap_err().to_string();
    assert!(refused.contains("remove its vote first"), "{refused}");
    let well: Vec<i32> = (0..3).filter(|id| *id != away.0).collect();
    // Of the two that would be left only one is there.
    let refused = || async {
        let answer = change(&brokers[0], &[well[0], away.0]).await.ok()?;
        answer.refusals.first().map(|r| r.reason.clone())
    };
    let reason = eventually("a refusal", refused).await;
    assert!(reason.contains("would be no majority of 2"), "{reason}");
    assert_eq!(voters_seen(&brokers[0]).await, [0, 1, 2]);
    // The one that is away can go, and then another one can come.
    vote(&brokers[0], &well).await;
    let mut four = [well[0], well[1], 3];
    four.sort_unstable();
    vote(&brokers[0], &four).await;
    let refused = change(&brokers[0], &[0, 1, 2, 3]).await.unwrap();
    assert!(refused.refusals[0].reason.contains("it can vote once it has caught up"), "{refused:?}");
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_through_whatever_becomes_of_its_leader() {
    let cluster = Cluster::growing(3, 5);
    let mut brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2, 3, 4]).await;
    }
    vote(&brokers[0], &[0, 1, 2, 3, 4]).await;
    for voters in [&[0, 1, 2][..], &[0, 1, 2, 3, 4]] {
        let leader = brokers[0].leader().await;
        let gone = take(&mut brokers, &[leader]).pop().unwrap();
        let by = brokers.iter().max_by_key(|b| b.id).unwrap();
        // It may have been carried out, in part, or not at all.
        let (_, ()) = tokio::join!(change(by, voters), gone.stop());
        brokers.push(cluster.start(usize::try_from(leader.0).unwrap()).await);
        brokers.last().unwrap().is_serving().await;
        vote(&brokers[0], voters).await;
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_left_half_done_is_ended() {
    let cluster = Cluster::growing(3, 4);
    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2, 3]).await;
    }
    let begun = || async {
        let leader = brokers[0].handle().leader()?;
        let raft = &brokers.iter().find(|b| b.id == leader)?.controller.raft;
        let mut metrics = raft.server_metrics();
        let add = ChangeMembers::AddVoterIds([BrokerId(3)].into());
        tokio::select! {
            biased;
            seen = metrics.wait_for(|m| m.membership_config.membership().get_joint_config().len() > 1) => seen.ok().map(|_| ()),
            _ = raft.change_membership(add, true) => Some(()),
        }
    };
    eventually("a change has begun", begun).await;
    let ended = || async {
        let quorum = facts(&brokers[0]).await.quorum.unwrap();
        let metrics = brokers.iter().map(|b| b.controller.raft.server_metrics());
        let half = metrics.filter(|m| m.borrow().membership_config.membership().get_joint_config().len() > 1).count();
        (quorum.voters.len() == 4 && half == 0).then_some(())
    };
    eventually("the change has ended", ended).await;
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_was_removed_while_it_was_away_disturbs_nobody() {
    let cluster = Cluster::growing(3, 3);
    let mut brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    let leader = brokers[0].leader().await;
    let away = brokers.iter().map(|b| b.id).find(|id| *id != leader).unwrap();
    take(&mut brokers, &[away]).pop().unwrap().stop().await;
    let left: Vec<i32> = (0..3).filter(|id| *id != away.0).collect();
    vote(&brokers[0], &left).await;
    let (leader, before) = (brokers[0].leader().await, term(&brokers[0]));
    let back = cluster.start(usize::try_from(away.0).unwrap()).await;
    back.sees_alive(&[0, 1, 2]).await;
    back.create_topic("t", 3).await.unwrap();
    assert_eq!((brokers[0].leader().await, term(&brokers[0])), (leader, before));
    assert_eq!(back.controller.raft.server_metrics().borrow().state, ServerState::Learner);
    brokers.push(back);
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_neither_votes_nor_stands_for_election() {
    let cluster = Cluster::growing(3, 4);
    let mut brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2, 3]).await;
    }
    let observer = brokers.pop().unwrap();
    let leader = brokers[0].leader().await;
    let left = brokers.iter().map(|b| b.id).find(|id| *id != leader).unwrap();
    let left = take(&mut brokers, &[left]).pop().unwrap();
    let before = term(&observer);
    stop_all(brokers).await;
    let asked = cluster.cuts.asked(left.id);
    let asks_on = || async { (cluster.cuts.asked(left.id) > asked + 2).then_some(()) };
    eventually("the one that is left asks for votes", asks_on).await;
    assert_eq!(left.handle().leader(), None);
    assert_eq!(
        (term(&observer), &observer.controller.raft.server_metrics().borrow().state),
        (before, &ServerState::Learner)
    );
    stop_all(vec![left, observer]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_voter_is_replaced_by_command() {
    let mut cluster = Cluster::growing(3, 3);
    let mut brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    let lost = brokers.iter().map(|b| b.id).find(|id| Some(*id) != brokers[0].handle().leader()).unwrap();
    let at = usize::try_from(lost.0).unwrap();
    take(&mut brokers, &[lost]).pop().unwrap().stop().await;
    cluster.wipe(at);
    let left: Vec<i32> = (0..3).filter(|id| *id != lost.0).collect();
    vote(&brokers[0], &left).await;
    let back = cluster.start(at).await;
    let image = back.sees_alive(&[0, 1, 2]).await;
    assert_eq!(image.brokers[&lost].directory, Some(cluster.directories[at]));
    assert_eq!(voters_seen(&back).await, left, "it is another disk, whose vote nobody has asked for");
    vote(&brokers[0], &[0, 1, 2]).await;
    // It is as good as any other one now.
    let gone = brokers.pop().unwrap();
    gone.stop().await;
    back.create_topic("t", 2).await.unwrap();
    stop_all(vec![brokers.pop().unwrap(), back]).await;
}

/// Its file does not say that it votes, and its disk says nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_voter_that_had_joined_is_believed_no_more_than_a_first_one() {
    let mut cluster = Cluster::growing(1, 3);
    let mut brokers = Vec::new();
    for id in 0..3 {
        brokers.push(cluster.start(id).await);
        brokers[id].is_serving().await;
    }
    vote(&brokers[0], &[0, 1, 2]).await;
    stop_all(brokers).await;
    cluster.wipe(2);
    let (first, wiped) = (cluster.start(0).await, cluster.start(2).await);
    let asked = cluster.cuts.asked(first.id);
    let asks_on = || async { (cluster.cuts.asked(first.id) > asked + 2).then_some(()) };
    eventually("the first one asks for votes", asks_on).await;
    assert_eq!(wiped.handle().image().offset, MetadataOffset::default());
    assert_eq!((first.handle().leader(), wiped.handle().leader()), (None, None));
    let second = cluster.start(1).await;
    wiped.sees_alive(&[0, 1, 2]).await;
    stop_all(vec![first, second, wiped]).await;
}
