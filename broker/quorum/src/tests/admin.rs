use super::*;
use chronik_admin::refusal::Kind;
use chronik_admin::{self as api, Admin as _};
use chronik_core::cluster::{Leaving, ResignReason, ResignedPartitions};
use chronik_core::ids::Offset;
use prost::Message as _;
use tonic::{Code, Request, Status};

async fn facts(broker: &Broker) -> Result<api::FactsResponse, Status> {
    let answer = broker.controller.admin().facts(Request::new(api::FactsRequest::default())).await;
    answer.map(tonic::Response::into_inner)
}

async fn sees_facts(broker: &Broker, what: &str, holds: impl Fn(&api::FactsResponse) -> bool) -> api::FactsResponse {
    eventually(what, || async { facts(broker).await.ok().filter(&holds) }).await
}

async fn request_stop(by: &Broker, facts: &api::FactsResponse, id: i32, ttl_ms: u64) -> api::RequestStopResponse {
    let incarnation = facts.brokers[usize::try_from(id).unwrap()].incarnation.clone().unwrap();
    let request = api::RequestStopRequest { broker: id, incarnation, ttl_ms, force: String::new() };
    by.controller.admin().request_stop(Request::new(request)).await.unwrap().into_inner()
}

/// What a broker answers to the leader's order.
async fn ordered(links: &links::Links, broker: BrokerId, body: Vec<u8>) -> proto::AdminResponse {
    let caller = Some(links.caller(broker));
    let order = proto::AdminRequest { caller, name: "stop-here".into(), body };
    links.call(broker, DEADLINE, |mut client| async move { client.admin(order).await }).await.expect("an answer")
}

async fn recovered(by: &Broker, permit: u64) -> api::RecoveredResponse {
    let request = api::RecoveredRequest { permit, unused: false };
    by.controller.admin().recovered(Request::new(request)).await.unwrap().into_inner()
}

fn well(facts: &api::FactsResponse) -> bool {
    let quorum = facts.quorum.as_ref().unwrap();
    facts.brokers.iter().all(|b| !b.recovering && b.disk.is_some()) && quorum.voters.iter().all(|v| v.caught_up)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broker_tells_the_same_facts_and_without_a_majority_an_error() {
    let cluster = Cluster::patient(4);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2, 3]).await;
    let leader = brokers[0].leader().await;
    for broker in &brokers {
        let facts = sees_facts(broker, "facts of a cluster that is well", well).await;
        assert_eq!(facts.quorum.as_ref().unwrap().leader, leader.0);
        assert_eq!(facts.brokers.iter().map(|b| b.voter).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!(facts.brokers[3].version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(facts.brokers[3].disk, Some(api::Disk { total: 100, used: 60, free: 40 }));
        assert!(facts.offset > 0 && facts.term > 0);
    }
    let left = brokers.iter().position(|b| b.id == leader).unwrap();
    let left = brokers.remove(left);
    let observer = brokers.pop().unwrap();
    stop_all(brokers).await;
    for broker in [&left, &observer] {
        let error = facts(broker).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        let next = "asked the voters 0, 1, 2, and heard";
        assert!(error.message().contains(next) && error.message().contains("start at least"), "{error}");
    }
    stop_all(vec![left, observer]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_is_given_once_and_closed_when_its_broker_is_back() {
    let cluster = Cluster::patient(3);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let facts = sees_facts(&brokers[0], "facts of a cluster that is well", well).await;
    let first = request_stop(&brokers[0], &facts, 2, 3_600_000).await;
    let permit = first.permit.expect("nothing speaks against it");
    assert_eq!(first.refusals, []);
    let again = request_stop(&brokers[1], &facts, 2, 3_600_000).await;
    assert_eq!(again.permit.unwrap().id, permit.id);
    let second = request_stop(&brokers[1], &facts, 0, 3_600_000).await;
    assert_eq!(second.permit, None);
    let kinds: Vec<Kind> = second.refusals.iter().map(api::Refusal::kind).collect();
    assert_eq!(kinds, [Kind::PermitOutstanding], "{second:?}");
    assert_eq!(second.refusals[0].brokers, [2]);
    assert!(!recovered(&brokers[0], permit.id).await.closed, "it has not even been stopped");

    brokers.pop().unwrap().stop().await;
    assert!(!recovered(&brokers[0], permit.id).await.closed, "it is away");
    brokers.push(cluster.start(2).await);
    let back = || async { recovered(&brokers[0], permit.id).await.closed.then_some(()) };
    eventually("the broker is back and its permit closed", back).await;
    assert!(recovered(&brokers[1], permit.id).await.closed, "once more says the same");
    let facts = sees_facts(&brokers[1], "facts of a cluster that is well", well).await;
    assert_eq!(facts.permit, None);
    let stale = request_stop(&brokers[1], &facts, 0, 3_600_000).await;
    assert!(stale.permit.is_some(), "the next one's turn: {stale:?}");
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_without_which_there_is_no_majority_may_not_be_stopped() {
    let cluster = Cluster::patient(3);
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    sees_facts(&brokers[0], "facts of a cluster that is well", well).await;
    brokers.pop().unwrap().stop().await;
    let missing = |facts: &api::FactsResponse| !facts.quorum.as_ref().unwrap().voters[2].caught_up;
    // Told apart from a stopped broker by nothing but that its voter answers no more: it holds no partitions.
    let facts = eventually("the voter is missed", || async { facts(&brokers[0]).await.ok().filter(missing) }).await;
    let refused = request_stop(&brokers[0], &facts, 0, 60_000).await;
    assert_eq!(refused.permit, None);
    let votes = refused.refusals.iter().find(|r| r.kind() == Kind::Votes).expect("votes are named");
    assert_eq!(votes.brokers, [0, 2]);
    stop_all(brokers).await;
}

/// It holds no partitions that would be missed, and its vote is there as long as it is.
#[tokio::test(flavor = "multi_thread")]
async fn no_permit_is_given_while_another_broker_is_about_to_stop() {
    let cluster = Cluster::patient(3);
    let mut brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    let facts = sees_facts(&brokers[0], "facts of a cluster that is well", well).await;
    let (partitions, leaving, reason) = (ResignedPartitions::All, Leaving::InSync, ResignReason::Stop);
    brokers[2].handle().resign(Resignation { partitions, leaving, reason }, DEADLINE).await.unwrap();
    let refused = request_stop(&brokers[0], &facts, 1, 60_000).await;
    assert_eq!(refused.permit, None);
    let peers = refused.refusals.iter().find(|r| r.kind() == Kind::PeerRecovering).expect("who stops is named");
    assert_eq!(peers.brokers, [2]);
    brokers.pop().unwrap().stop().await;
    brokers.push(cluster.start(2).await);
    let granted = || async { request_stop(&brokers[0], &facts, 1, 60_000).await.permit };
    eventually("it is back, and another one may be stopped", granted).await;
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_that_is_not_used_runs_out() {
    let cluster = Cluster::patient(3);
    let brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let facts = sees_facts(&brokers[0], "facts of a cluster that is well", well).await;
    assert!(request_stop(&brokers[0], &facts, 1, 1_000).await.permit.is_some());
    sees_facts(&brokers[0], "the permit has run out", |facts| facts.permit.is_none()).await;
    assert!(request_stop(&brokers[0], &facts, 2, 60_000).await.permit.is_some());
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_told_to_stop_by_who_holds_its_permit_alone() {
    let cluster = Cluster::patient(3);
    let mut brokers = Vec::new();
    let mut stops = Vec::new();
    for id in 0..3 {
        let config = cluster.config(id).await;
        stops.push(config.stop.clone());
        let replication = std::net::TcpListener::bind(cluster.replication[id]).unwrap();
        let peers = config.peers.clone();
        let controller = start(config).await.unwrap();
        let updates = controller.subscribe();
        brokers.push(Broker { id: BrokerId(id as i32), controller, updates, peers, replication });
    }
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let facts = sees_facts(&brokers[0], "facts of a cluster that is well", well).await;
    let incarnation = |id: usize| facts.brokers[id].incarnation.clone().unwrap();
    let permit = request_stop(&brokers[0], &facts, 1, 60_000).await.permit.unwrap().id;
    let admin = brokers[0].controller.admin();
    for (broker, incarnation, permit) in
        [(2, incarnation(2), permit), (1, incarnation(2), permit), (1, incarnation(1), 0)]
    {
        let request = api::StopRequest { broker, incarnation, permit };
        assert_eq!(admin.stop(Request::new(request)).await.unwrap_err().code(), Code::FailedPrecondition);
    }
    let request = api::StopRequest { broker: 1, incarnation: incarnation(1), permit };
    // An order that was on its way for as long as another permit lasted.
    let late = api::StopRequest { permit: permit - 1, ..request.clone() };
    let leader = brokers[0].leader().await;
    let links = brokers[usize::try_from(leader.0).unwrap()].controller.handover.links.clone();
    if leader != BrokerId(1) {
        let answer = ordered(&links, BrokerId(1), late.encode_to_vec()).await;
        assert_eq!(answer.code, i32::from(Code::FailedPrecondition), "{}", answer.message);
    }
    assert!(!stops[1].is_cancelled());
    admin.stop(Request::new(request)).await.unwrap();
    stops[1].cancelled().await;
    assert!(!stops[0].is_cancelled() && !stops[2].is_cancelled());
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cordoning_is_told_and_an_unknown_broker_is_not_found() {
    let cluster = Cluster::patient(3);
    let brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let admin = brokers[1].controller.admin();
    for _ in 0..2 {
        admin.cordon(Request::new(api::CordonRequest { broker: 2 })).await.unwrap();
    }
    let told = facts(&brokers[2]).await.unwrap();
    assert_eq!(told.brokers.iter().map(|b| b.cordoned).collect::<Vec<_>>(), [false, false, true]);
    admin.uncordon(Request::new(api::UncordonRequest { broker: 2 })).await.unwrap();
    assert!(!facts(&brokers[0]).await.unwrap().brokers[2].cordoned);
    let stranger = admin.cordon(Request::new(api::CordonRequest { broker: 9 })).await.unwrap_err();
    assert_eq!(stranger.code(), Code::NotFound);
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_disk_has_lost_is_told_by_every_broker_until_it_is_repaired() {
    let cluster = Cluster::patient(3);
    let brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let topic = brokers[0].create_topic("t", 3).await.unwrap();
    let damaged = |n: i32| DamagedLog {
        partition: TopicPartition { topic, partition: PartitionId(n) },
        from: Offset(7),
        to: Some(Offset(9)),
    };
    let none = |facts: &api::FactsResponse| facts.brokers.iter().all(|b| b.damaged == Some(0));
    sees_facts(&brokers[0], "that nothing is damaged", none).await;
    // The second of these is no partition (any more).
    cluster.damages[1].send_replace(Arc::new(Damages::of([0, 5].map(damaged).into_iter())));
    for broker in &brokers {
        let facts = sees_facts(broker, "damage", |facts| facts.brokers[1].damaged == Some(2)).await;
        let named = facts.damaged.iter().map(|d| {
            let partition = d.partition.as_ref().unwrap();
            (d.broker, partition.topic.as_str(), partition.partition, d.from, d.to)
        });
        assert_eq!(named.collect::<Vec<_>>(), [(1, "t", 0, 7, Some(9))]);
        assert!(facts.damaged.iter().all(|d| d.partition.as_ref().unwrap().isr.len() == 3));
    }
    cluster.damages[1].send_replace(Arc::default());
    sees_facts(&brokers[2], "that it is repaired", none).await;
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_asked_how_far_replicas_are_behind_where_that_is_asked_for() {
    let cluster = Cluster::patient(3);
    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    let topic = brokers[0].create_topic("t", 3).await.unwrap();
    eventually("one replica is not in sync", || async {
        let image = brokers[0].handle().image();
        let now = image.partition(first_of(topic))?;
        let leader = brokers.iter().find(|b| Some(b.id) == now.leader)?;
        let isr = [now.leader?, *now.replicas.iter().find(|id| Some(**id) != now.leader)?];
        let change = AlterPartition {
            partition: first_of(topic),
            leader_epoch: now.leader_epoch,
            partition_epoch: now.partition_epoch,
            isr: isr.iter().map(|id| (*id, image.brokers[id].epoch.unwrap())).collect(),
        };
        requests::alter(leader, change).await.ok()
    })
    .await;
    for broker in &brokers {
        let lagging = |facts: &api::FactsResponse| {
            let partitions = facts.partitions.as_ref().unwrap();
            let all: Vec<api::MissingReplica> = partitions.not_well.iter().flat_map(|p| p.missing.clone()).collect();
            <[api::MissingReplica; 1]>::try_from(all).ok()
        };
        let [unasked] =
            lagging(&sees_facts(broker, "a replica that is missing", |f| lagging(f).is_some()).await).unwrap();
        assert_eq!((unasked.behind, unasked.behind_for_ms), (None, None), "what was not asked is not known");
        let asked = || async {
            let request = Request::new(api::FactsRequest { max_partitions: 10, lags: true });
            let facts = broker.controller.admin().facts(request).await.ok()?.into_inner();
            let [replica] = lagging(&facts)?;
            replica.behind.map(|behind| (replica.broker, behind, replica.behind_for_ms))
        };
        let (id, behind, ms) = eventually("the leader says how far it is behind", asked).await;
        assert_eq!((behind, ms), (70 + id as u64, Some(7000)));
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_opens_its_log_is_shown_with_how_far_it_is() {
    let cluster = Cluster::patient(3);
    let mut brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    let leader = brokers[0].leader().await;
    let place = brokers.iter().position(|b| b.id != leader).unwrap();
    let stopped = brokers.remove(place);
    let id = stopped.id;
    let of_it = |facts: &api::FactsResponse| facts.brokers[usize::try_from(id.0).unwrap()].clone();
    stopped.stop().await;
    sees_facts(&brokers[0], "that it is away", |facts| of_it(facts).fenced && of_it(facts).starting.is_none()).await;
    let others = (0..3).map(|id| cluster.controller_port(id)).collect();
    let starter = Starter { me: id, peers: Peers::default(), others, cluster_id: None };
    let told = tokio::spawn(starter.tell(|| StartProgress { read: 50, total: 200 }));
    for broker in &brokers {
        let starting = Some(api::Starting { read: 50, total: 200 });
        sees_facts(broker, "that it is starting", |facts| of_it(facts).starting == starting).await;
    }
    told.abort();
    brokers.push(cluster.start(place).await);
    sees_facts(&brokers[0], "that it is back", |facts| !of_it(facts).fenced && of_it(facts).starting.is_none()).await;
    stop_all(brokers).await;
}
