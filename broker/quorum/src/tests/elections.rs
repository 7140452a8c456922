//! Voters that are cut off and come back, and leaders that nobody answers.

use super::*;
use crate::link::{CallError, Link};
use crate::proto;
use chronik_core::cluster::{Answer, Election, MetadataCommand};
use types::{LogId, Vote, VoteRequest, VoteResponse};

fn vote(broker: &Broker) -> Vote {
    broker.controller.raft.server_metrics().borrow().vote
}

/// Three voters, the first of which leads.
async fn led() -> (Cluster, Vec<Broker>) {
    let cluster = Cluster::patient(3);
    let mut brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    eventually("all follow the same one", || async {
        let leader = brokers[0].handle().leader()?;
        brokers.iter().all(|b| b.handle().leader() == Some(leader) && vote(b) == vote(&brokers[0])).then_some(())
    })
    .await;
    let leader = brokers[0].leader().await;
    brokers.sort_by_key(|broker| broker.id != leader);
    (cluster, brokers)
}

fn cut_both_ways(cluster: &Cluster, one: BrokerId, other: BrokerId) {
    cluster.cuts.cut(one, other);
    cluster.cuts.cut(other, one);
}

/// Until the voter has tried that often to be elected.
async fn asks_often(cluster: &Cluster, voter: BrokerId) {
    let before = cluster.cuts.asked(voter);
    eventually("it asks for votes", || async { (cluster.cuts.asked(voter) >= before + 8).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_was_cut_off_deposes_nobody_when_it_comes_back() {
    let (cluster, brokers) = led().await;
    let (led_by, away) = (vote(&brokers[0]), &brokers[2]);
    for other in [brokers[0].id, brokers[1].id] {
        cut_both_ways(&cluster, away.id, other);
    }
    asks_often(&cluster, away.id).await;
    assert_eq!(vote(away), led_by, "it has not stood for election");
    assert_eq!(away.handle().leader(), None, "it knows that it does not hear the leader");
    brokers[1].create_topic("meanwhile", 2).await.unwrap();
    cluster.cuts.heal();
    away.sees("what was decided meanwhile", |i| i.topic_by_name("meanwhile").is_some()).await;
    away.create_topic("after", 3).await.unwrap();
    for broker in &brokers {
        assert_eq!(vote(broker), led_by, "broker {}", broker.id);
    }
    stop_all(brokers).await;
}

/// It misses the leader, which it does not hear, and reaches all.
#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_is_deaf_for_the_leader_alone_finds_no_majority() {
    let (cluster, brokers) = led().await;
    let (led_by, deaf) = (vote(&brokers[0]), &brokers[2]);
    cluster.cuts.cut(brokers[0].id, deaf.id);
    asks_often(&cluster, deaf.id).await;
    cluster.cuts.heal();
    deaf.create_topic("after", 3).await.unwrap();
    for broker in &brokers {
        assert_eq!(vote(broker), led_by, "broker {}", broker.id);
    }
    stop_all(brokers).await;
}

/// Its heartbeats go on, and with them nobody else would ever be elected.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_heard_and_hears_nobody_is_replaced() {
    let (cluster, brokers) = led().await;
    let former = brokers[0].id;
    for other in [brokers[1].id, brokers[2].id] {
        cluster.cuts.cut(other, former);
    }
    for broker in &brokers[1..] {
        eventually("another leader", || async { broker.handle().leader().filter(|id| *id != former) }).await;
    }
    brokers[1].create_topic("meanwhile", 2).await.unwrap();
    cluster.cuts.heal();
    brokers[0].sees("what was decided meanwhile", |i| i.topic_by_name("meanwhile").is_some()).await;
    brokers[0].create_topic("after", 3).await.unwrap();
    stop_all(brokers).await;
}

/// Raft waits for its disk there and answers nothing meanwhile, heartbeats neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_waits_for_a_follower_that_is_at_a_large_entry() {
    let (cluster, mut brokers) = led().await;
    // There is no majority without the second one then.
    brokers.pop().expect("three of them").stop().await;
    let left: Vec<i32> = brokers.iter().map(|broker| broker.id.0).collect();
    brokers[0].sees_alive(&left).await;
    let led_by = vote(&brokers[0]);
    let (release, released) = std::sync::mpsc::channel::<()>();
    brokers[1].controller.raft.external_request(move |_| {
        tokio::task::block_in_place(|| {
            // It ends with the test, too.
            let _ = released.recv();
        });
    });
    // Of partitions that there are not: it is in the log all the same.
    let named = (0..20_000).map(|n| TopicPartition { topic: TopicId(Uuid::max()), partition: PartitionId(n) });
    let command = MetadataCommand::ElectLeaders { partitions: Some(named.collect()), election: Election::Preferred };
    let handle = brokers[0].handle();
    let decided = tokio::spawn(async move { handle.decide(command, DEADLINE).await });
    // Longer than it waits for who is silent.
    tokio::time::sleep(cluster.timings.election_max * 15).await;
    assert_eq!(vote(&brokers[0]), led_by, "it gave up");
    drop(release);
    let decided = decided.await.unwrap();
    assert!(matches!(decided, Ok(Answer::Elected(_))), "{decided:?}");
    assert_eq!(vote(&brokers[0]), led_by);
    stop_all(brokers).await;
}

/// Of three that hear nobody none is elected, and one is as soon as they hear each other.
#[tokio::test(flavor = "multi_thread")]
async fn voters_that_were_all_alone_elect_one_when_they_are_not() {
    let (cluster, brokers) = led().await;
    for one in &brokers {
        for other in brokers.iter().filter(|other| other.id != one.id) {
            cluster.cuts.cut(one.id, other.id);
        }
    }
    for broker in &brokers {
        eventually("it follows nobody", || async { broker.handle().leader().is_none().then_some(()) }).await;
        asks_often(&cluster, broker.id).await;
    }
    cluster.cuts.heal();
    for broker in &brokers {
        broker.create_topic(&format!("after-{}", broker.id), 3).await.unwrap();
    }
    stop_all(brokers).await;
}

/// As a voter of a former version asks, which does not ask whether it may, and with a log that is ahead of all.
async fn ask_for_vote(voter: &Broker, cluster: &Cluster, term: u64, handed_over: Option<u64>) -> Option<VoteResponse> {
    let candidate = BrokerId(2);
    let places = crate::links::Places::one(voter.id, endpoint(cluster.controllers[voter.id.0 as usize]));
    let link = Link::open(voter.id, places, Peers::default(), "test");
    let caller = Some(proto::Caller { cluster_id: Vec::new(), from: candidate.0, to: voter.id.0 });
    let last = LogId::new(openraft::CommittedLeaderId::new(term, candidate), 10_000);
    let vote = VoteRequest::new(Vote::new(term, candidate), Some(last));
    let body = crate::encoding::encode(&vote).unwrap();
    let request = proto::VoteRequest { caller, body, founders: Vec::new(), handed_over };
    match link.call(DEADLINE, |mut client| async move { client.vote(request).await }).await {
        Ok(answer) => Some(crate::encoding::decode(&answer.body).unwrap()),
        Err(CallError::Refused(_)) => None,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_followed_does_not_give_way_to_a_higher_term_unless_it_hands_over() {
    let cluster = Cluster { voters: 2, ..Cluster::patient(2).with_slow_elections() };
    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1]).await;
    }
    let leader = brokers[0].leader().await;
    let [leads, follows] = if brokers[0].id == leader { [0, 1] } else { [1, 0] }.map(|at: usize| &brokers[at]);
    let led_by = vote(leads);
    let term = led_by.leader_id().term;
    assert_eq!(ask_for_vote(leads, &cluster, term + 7, None).await, None);
    assert_eq!(ask_for_vote(leads, &cluster, term + 7, Some(term + 6)).await, None, "another one's");
    let refused = ask_for_vote(follows, &cluster, term + 7, None).await;
    assert!(refused.is_some_and(|answer| !answer.vote_granted));
    assert_eq!((vote(leads), vote(follows)), (led_by, led_by));
    let granted = ask_for_vote(leads, &cluster, term + 1, Some(term)).await;
    assert!(granted.is_some_and(|answer| answer.vote_granted));
    stop_all(brokers).await;
}

/// A way to a port, whose connections all end when they are told to.
async fn way(to: SocketAddr) -> (SocketAddr, watch::Sender<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (ending, ends) = watch::channel(());
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut ends = ends.clone();
            ends.mark_unchanged();
            tokio::spawn(async move {
                let Ok(mut to) = tokio::net::TcpStream::connect(to).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                    _ = ends.changed() => {}
                }
            });
        }
    });
    (address, ending)
}

/// As when it was paused, or its host was away, since it was asked something last.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_for_its_vote_over_a_connection_that_has_ended_is_asked_again() {
    let cluster = Cluster { voters: 3, ..Cluster::patient(4) };
    let mut brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2, 3]).await;
    }
    // It asks for no votes itself.
    let asked = brokers.pop().expect("the one that does not vote");
    stop_all(brokers).await;
    let (address, ending) = way(cluster.controllers[3]).await;
    let configured = [(asked.id, endpoint(address))].into();
    let links = crate::links::Links::new(BrokerId(0), Peers::default(), configured, None, asked.handle().images());
    let last_log = Some(proto::LogEnd { term: 1_000, index: 10_000, leader: Some(0) });
    let candidacy = proto::Candidacy { last_log, founders: Vec::new() };
    let asks = || crate::bootstrap::asks(links.clone(), asked.id, candidacy.clone(), DEADLINE);
    eventually("it misses the leader", || async { asks().await.1.then_some(()) }).await;
    ending.send_replace(());
    assert!(asks().await.1, "the first call finds that the connection has ended");
    asked.stop().await;
}
