use super::*;
use crate::link::{CallError, Link};
use crate::proto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_replaced_and_fenced_and_comes_back() {
    let cluster = Cluster::of(3);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let topic = brokers[0].create_topic("t", 3).await.unwrap();
    let former = brokers[0].leader().await;
    let at = brokers.iter().position(|b| b.id == former).unwrap();
    brokers.remove(at).stop().await;

    let left: Vec<i32> = brokers.iter().map(|b| b.id.0).collect();
    for broker in &brokers {
        broker.sees_alive(&left).await;
        broker
            .sees("a leader that is there", |i| {
                let p = i.partition(first_of(topic)).unwrap();
                p.leader.is_some_and(|l| left.contains(&l.0)) && !p.isr.contains(&former)
            })
            .await;
        broker.is_serving().await;
    }
    brokers[1].create_topic("while-away", 2).await.unwrap();

    let back = cluster.start(former.0 as usize).await;
    back.sees_alive(&[0, 1, 2]).await;
    back.is_serving().await;
    assert!(back.handle().image().topic_by_name("while-away").is_some());
    brokers.push(back);
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_that_still_accepts_connections_is_fenced_after_its_session() {
    let mut cluster = Cluster::of(4);
    cluster.timings = Timings::with_session(Duration::from_millis(500));
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2, 3]).await;
    let silent = brokers.pop().unwrap();
    silent.controller.shutdown().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    drop(silent.replication);
    stop_all(brokers).await;
}

/// Passes connections on to a port, for as long as its task runs; those that it has taken last longer.
async fn gate(to: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut to) = tokio::net::TcpStream::connect(to).await {
                    // Whichever side ends it.
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    (address, task)
}

/// As behind a firewall that rejects, or a Service that leads nowhere: it may go on telling readers a high watermark for
/// as long as its lease runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lives_is_not_fenced_because_its_ports_refuse() {
    let mut cluster = Cluster::patient(3);
    let mut gates = Vec::new();
    for at in 0..3 {
        let (address, gate) = gate(cluster.controllers[at]).await;
        cluster.reached_at[at] = address;
        gates.push(gate);
    }
    let mut brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    let leader = brokers[0].leader().await;
    let at = brokers.iter().position(|b| b.id != leader).unwrap();
    let Broker { id, controller, replication, .. } = brokers.remove(at);
    let fenced_at = || brokers[0].handle().image().brokers[&id].fenced_at;
    let before = fenced_at();
    drop(replication);
    gates[at].abort();
    for _ in 0..5 {
        for broker in &brokers {
            broker.peers.lost(id);
        }
        // Longer than all looks at it take.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(fenced_at(), before);

    controller.shutdown().await;
    brokers[0].sees("it is fenced now that it is gone", |i| i.alive(id).is_none()).await;
    stop_all(brokers).await;
}

/// Its heartbeat would be late only after the test's deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_is_fenced_when_a_connection_with_it_ends() {
    let mut cluster = Cluster::of(3);
    let (heartbeat, session, lease) = (DEADLINE, DEADLINE * 5, DEADLINE * 4);
    cluster.timings = Timings { heartbeat, session, lease, ..Timings::default() };
    let mut brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.has("it is unfenced", |r| r.unfenced).await;
    }
    let leader = brokers[0].leader().await;
    let at = brokers.iter().position(|b| b.id != leader).unwrap();
    let gone = brokers.remove(at);
    let id = gone.id;
    gone.stop().await;
    for broker in &brokers {
        broker.peers.lost(id);
    }
    brokers[0].sees("the one that is gone is fenced", |i| i.alive(id).is_none()).await;
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_process_that_is_heard_again_is_unfenced_under_its_epoch() {
    let cluster = Cluster::patient(3);
    let brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let topic = brokers[0].create_topic("t", 3).await.unwrap();
    let leader = brokers[0].leader().await;
    let other = brokers.iter().find(|b| b.id != leader).unwrap();
    let epoch = other.is_serving().await.epoch.unwrap();
    let fenced_at = |image: &Image| image.brokers[&other.id].fenced_at;
    let before = fenced_at(&other.handle().image());
    let fence = chronik_core::cluster::MetadataCommand::Fence { id: other.id, epoch };
    // Another one may lead by now.
    let outcome = eventually("the one that leads has it fenced", || async {
        let leader = brokers.iter().find(|b| b.handle().leader() == Some(b.id))?;
        let (raft, images) = (leader.controller.raft.clone(), leader.handle().images());
        let (electorate, yielding) =
            (leader.controller.handover.electorate.clone(), crate::handover::Yielding::default());
        let proposer = proposer::Proposer::start(leader.id, raft, images, electorate, yielding);
        proposer.propose(fence.clone()).await.ok()
    });
    outcome.await.0.unwrap();
    let image = other.sees("fenced and unfenced again", |i| fenced_at(i) > before && i.alive(other.id).is_some()).await;
    assert_eq!(image.brokers[&other.id].epoch, Some(epoch));
    let p = image.partition(first_of(topic)).unwrap();
    assert!(!p.isr.contains(&other.id), "its place in the ISR has to be won anew");
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_voter_is_filled_again_and_only_then_votes() {
    let mut cluster = Cluster::of(3);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let topic = brokers[0].create_topic("t", 3).await.unwrap();
    let cluster_id = brokers[0].handle().image().cluster_id;
    brokers.pop().unwrap().stop().await;
    cluster.wipe(2);

    // With one more down the wiped voter makes no majority: it neither founds a cluster nor votes.
    let former = stop_leader(&mut brokers).await;
    let wiped = cluster.start(2).await;
    makes_no_quorum(&cluster, &brokers[0], &wiped).await;

    brokers.push(cluster.start(former).await);
    let image = wiped.sees_alive(&[0, 1, 2]).await;
    assert_eq!(image.cluster_id, cluster_id);
    assert!(!image.partition(first_of(topic)).unwrap().isr.contains(&BrokerId(2)));

    // It has caught up, and makes a majority with one other from now on.
    let other = brokers.remove(0);
    other.stop().await;
    wiped.sees_alive(&[brokers[0].id.0, 2]).await;
    wiped.create_topic("later", 2).await.unwrap();
    brokers.push(wiped);
    stop_all(brokers).await;
}

/// Stops the one of these that leads the others, and says which it is.
async fn stop_leader(brokers: &mut Vec<Broker>) -> usize {
    let led_by = |leader: &Broker| brokers.iter().all(|b| b.handle().leader() == Some(leader.id));
    let at = eventually("one of them leads", || async { brokers.iter().position(led_by) }).await;
    let leader = brokers.remove(at);
    let id = leader.id.0 as usize;
    leader.stop().await;
    id
}

/// The one would stand for election, asks again and again, and the other neither agrees nor follows.
async fn makes_no_quorum(cluster: &Cluster, candidate: &Broker, wiped: &Broker) {
    let asked = cluster.cuts.asked(candidate.id);
    let asks_on = || async { (cluster.cuts.asked(candidate.id) > asked + 2).then_some(()) };
    eventually("the one that is left asks for votes", asks_on).await;
    assert_eq!(wiped.handle().image().offset, MetadataOffset::default());
    assert_eq!((candidate.handle().leader(), wiped.handle().leader()), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_whose_metadata_alone_is_gone_is_believed_no_more_than_a_wiped_one() {
    let mut cluster = Cluster::of(3);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    cluster.known = brokers[0].handle().image().cluster_id;
    brokers.pop().unwrap().stop().await;
    cluster.empty(2);
    let former = stop_leader(&mut brokers).await;
    let emptied = cluster.start(2).await;
    makes_no_quorum(&cluster, &brokers[0], &emptied).await;
    brokers.push(cluster.start(former).await);
    emptied.sees_alive(&[0, 1, 2]).await;
    brokers.push(emptied);
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_leader_and_a_wiped_voter_are_no_quorum() {
    let mut cluster = Cluster::of(3);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let former = brokers[0].leader().await;
    let at = brokers.iter().position(|b| b.id == former).unwrap();
    brokers.remove(at).stop().await;
    let left: Vec<i32> = brokers.iter().map(|b| b.id.0).collect();
    brokers[0].sees_alive(&left).await;
    brokers[0].create_topic("while-away", 2).await.unwrap();
    let [third, wiped] = [brokers[0].id.0 as usize, brokers[1].id.0 as usize];
    stop_all(brokers).await;
    cluster.wipe(wiped);

    let wiped = cluster.start(wiped).await;
    let former = cluster.start(former.0 as usize).await;
    makes_no_quorum(&cluster, &former, &wiped).await;
    let third = cluster.start(third).await;
    for broker in [&third, &wiped, &former] {
        let image = broker.sees_alive(&[0, 1, 2]).await;
        assert!(image.topic_by_name("while-away").is_some(), "{} has lost it", broker.id);
    }
    stop_all(vec![third, wiped, former]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_on_a_new_disk_follows_only_whom_others_follow() {
    let cluster = Cluster::of(3);
    let broker = cluster.start(0).await;
    let link = Link::open(
        BrokerId(0),
        crate::links::Places::one(BrokerId(0), endpoint(cluster.controllers[0])),
        Peers::default(),
        "test",
    );
    let stale = types::AppendEntriesRequest {
        vote: types::Vote::new_committed(7, BrokerId(1)),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    for followed_by_others in [false, true] {
        let caller = Some(proto::Caller { cluster_id: Vec::new(), from: 1, to: 0 });
        let body = crate::encoding::encode(&stale).unwrap();
        let request = proto::RaftRequest { caller, body, followed_by_others };
        let answer = link.call(DEADLINE, |mut client| async move { client.append_entries(request).await }).await;
        match answer {
            Ok(_) => {
                assert!(followed_by_others);
                assert_eq!(broker.leader().await, BrokerId(1));
            }
            Err(CallError::Refused(_)) => {
                assert!(!followed_by_others);
                assert_eq!(broker.handle().leader(), None);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_goes_on_when_a_voter_loses_its_disk_under_it() {
    let mut cluster = Cluster::of(3);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let leader = brokers[0].leader().await;
    let at = brokers.iter().position(|b| b.id != leader).unwrap();
    let gone = brokers.remove(at);
    let id = gone.id.0 as usize;
    gone.stop().await;
    cluster.wipe(id);
    let back = cluster.start(id).await;
    back.sees_alive(&[0, 1, 2]).await;
    back.is_serving().await;
    brokers.push(back);
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_process_has_a_greater_epoch_and_its_former_leaderships_are_gone() {
    let cluster = Cluster::of(3);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let topic = brokers[0].create_topic("t", 3).await.unwrap();
    let before = brokers[0].handle().image();
    let leader = before.partition(first_of(topic)).unwrap().leader.unwrap();
    let at = brokers.iter().position(|b| b.id == leader).unwrap();
    brokers.remove(at).stop().await;
    let mut back = cluster.start(leader.0 as usize).await;
    let first = next(&mut back.updates).await;
    let partition = first.image.partition(first_of(topic)).unwrap();
    assert_ne!(partition.leader, Some(leader));
    assert!(partition.leader_epoch > before.partition(first_of(topic)).unwrap().leader_epoch);
    assert!(first.image.brokers[&leader].epoch > before.brokers[&leader].epoch);
    back.is_serving().await;
    brokers.push(back);
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_means_somebody_else_or_comes_from_another_cluster_is_refused() {
    let cluster = Cluster::of(1);
    let broker = cluster.start(0).await;
    broker.is_serving().await;
    let link = Link::open(
        BrokerId(0),
        crate::links::Places::one(BrokerId(0), endpoint(cluster.controllers[0])),
        Peers::default(),
        "test",
    );
    let own = broker.handle().image().cluster_id.unwrap().0.as_bytes().to_vec();
    let strange = Uuid::new_v4().as_bytes().to_vec();
    for (cluster_id, from, to, accepted) in [
        (own.clone(), 7, 0, true),
        (Vec::new(), 7, 0, true),
        (own.clone(), 7, 1, false),
        (own.clone(), 0, 0, false),
        (own, -1, 0, false),
        (strange, 7, 0, false),
        (vec![1, 2, 3], 7, 0, false),
    ] {
        let caller = proto::Caller { cluster_id: cluster_id.clone(), from, to };
        let request = proto::ProbeRequest { caller: Some(caller), candidacy: None };
        let answer = link.call(DEADLINE, |mut client| async move { client.probe(request).await }).await;
        match answer {
            Ok(_) => assert!(accepted, "{cluster_id:?} {from} {to}"),
            Err(CallError::Refused(_)) => assert!(!accepted, "{cluster_id:?} {from} {to}"),
            Err(other) => panic!("{other:?}"),
        }
    }
    broker.stop().await;
}

/// Accepts HTTP/2 connections: one that was given up too early is followed by another.
async fn reset_all(listener: tokio::net::TcpListener) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(reset_each(stream));
    }
}

/// Reads the requests of one connection, and ends each with `ENHANCE_YOUR_CALM` (RFC 9113).
async fn reset_each(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    const HEADERS: u8 = 1;
    stream.read_exact(&mut [0; "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()]).await?;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; len as usize]).await?;
        if head[3] == HEADERS {
            stream.write_all(&[0, 0, 4, 3, 0, head[5], head[6], head[7], head[8], 0, 0, 0, 0xb]).await?;
        }
    }
}

#[tokio::test]
async fn a_call_that_the_connection_ends_may_have_been_carried_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Link::open(
        BrokerId(0),
        crate::links::Places::one(BrokerId(0), endpoint(listener.local_addr().unwrap())),
        Peers::default(),
        "test",
    );
    let server = tokio::spawn(reset_all(listener));
    let request = proto::ProposeRequest::default();
    let answer = link.call(DEADLINE, |mut client| async move { client.propose(request).await }).await;
    let Err(CallError::Lost(status)) = answer else { panic!("{answer:?}") };
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_make_no_sense_are_refused_and_harm_nobody() {
    let cluster = Cluster::of(1);
    let broker = cluster.start(0).await;
    broker.is_serving().await;
    let link = Link::open(
        BrokerId(0),
        crate::links::Places::one(BrokerId(0), endpoint(cluster.controllers[0])),
        Peers::default(),
        "test",
    );
    for seed in 0..200_u8 {
        let caller = Some(proto::Caller { cluster_id: Vec::new(), from: 7, to: 0 });
        let body: Vec<u8> = (0..seed).map(|i| i.wrapping_mul(31) ^ seed).collect();
        let vote =
            proto::VoteRequest { caller: caller.clone(), body: body.clone(), founders: Vec::new(), handed_over: None };
        // A vote may by chance be one; it is answered or refused.
        drop(link.call(DEADLINE, |mut client| async move { client.vote(vote).await }).await);
        let request = proto::ProposeRequest { caller, body, more: Vec::new() };
        let answer = link.call(DEADLINE, |mut client| async move { client.propose(request).await }).await;
        assert!(matches!(answer, Err(CallError::Refused(_))), "{answer:?}");
    }
    broker.create_topic("t", 1).await.unwrap();
    broker.stop().await;
}

/// The last entry in a broker's snapshot, if it has one.
fn snapshot_of(broker: &Broker) -> Option<u64> {
    broker.controller.raft.data_metrics().borrow().snapshot.map(|id| id.index)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_longer_than_a_snapshot_is_cut_and_still_whole_after_a_restart() {
    let cluster = Cluster::of(3);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let third = brokers.pop().unwrap();
    assert_eq!(snapshot_of(&third), None);
    third.stop().await;
    let topic = brokers[0].create_topic("t", 2).await.unwrap();
    // Either may lead when the third comes.
    for broker in &brokers {
        broker.sees("the topic", |i| i.topics.contains_key(&topic)).await;
        let raft = &broker.controller.raft;
        let before = raft.data_metrics().borrow().last_applied.unwrap().index;
        raft.trigger().snapshot().await.unwrap();
        eventually("the snapshot is there", || async { snapshot_of(broker).filter(|index| *index >= before) }).await;
        raft.trigger().purge_log(before).await.unwrap();
        eventually("the log is cut", || async { raft.data_metrics().borrow().purged.filter(|id| id.index >= before) })
            .await;
    }

    // The third is behind what is left of the log, and gets the snapshot.
    let third = cluster.start(2).await;
    third.sees_alive(&[0, 1, 2]).await;
    assert!(third.handle().image().topics.contains_key(&topic));
    eventually("it has the snapshot of another one", || async { snapshot_of(&third) }).await;
    brokers.push(third);
    stop_all(brokers).await;

    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
        assert!(broker.handle().image().topics.contains_key(&topic));
    }
    stop_all(brokers).await;
}

/// Whoever it is: the controller's leader too.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_disk_hangs_is_fenced_until_it_comes_back() {
    let cluster = Cluster::of(3);
    let brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    for hanging in [brokers[0].leader().await.0 as usize, 0, 1, 2] {
        for broker in &brokers {
            broker.is_serving().await;
        }
        let others: Vec<i32> = (0..3).filter(|id| *id != hanging as i32).collect();
        cluster.disks[hanging].begin();
        brokers[others[0] as usize].sees_alive(&others).await;
        let lease = brokers[hanging].handle().registration().borrow().lease_until;
        assert!(lease.is_none_or(|until| until <= std::time::Instant::now()), "it has given up its lease");
        cluster.disks[hanging].end();
        brokers[others[0] as usize].sees_alive(&[0, 1, 2]).await;
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_fenced_where_all_disks_hang() {
    let cluster = Cluster::of(1);
    let brokers = cluster.start_all().await;
    brokers[0].is_serving().await;
    let mut registration = brokers[0].handle().registration();
    cluster.disks[0].begin();
    registration.wait_for(|r| r.lease_until.is_some_and(|until| until <= std::time::Instant::now())).await.unwrap();
    assert!(registration.borrow().unfenced);
    cluster.disks[0].end();
    registration.wait_for(|r| r.lease_until.is_some_and(|until| until > std::time::Instant::now())).await.unwrap();
    assert!(registration.borrow().unfenced);
    stop_all(brokers).await;
}

/// While a cluster is restarted with a shorter session, its leader may have that already, and others not yet: the leader
/// would fence them while they take their leases for valid.
#[tokio::test(flavor = "multi_thread")]
async fn no_lease_is_longer_than_its_leader_grants() {
    let mut cluster = Cluster::of(3);
    let short = cluster.timings;
    let mut brokers = vec![cluster.start(0).await, cluster.start(1).await];
    for broker in &brokers {
        broker.sees_alive(&[0, 1]).await;
    }
    cluster.timings = Timings { session: DEADLINE * 2, lease: DEADLINE, ..short };
    brokers.push(cluster.start(2).await);
    brokers[2].sees_alive(&[0, 1, 2]).await;
    let registration = brokers[2].handle().registration();
    let is_short = |until: &std::time::Instant| *until <= std::time::Instant::now() + short.lease;
    eventually("a lease that is as short as the leader's", || async {
        registration.borrow().lease_until.filter(is_short)
    })
    .await;
    stop_all(brokers).await;
}
