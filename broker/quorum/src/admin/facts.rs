//! The facts, out of one confirmed view.

use super::confirm::{Member, View};
use super::lags::{Lags, missing};
use super::{Calls, Failure};
use crate::starts::Starts;
use chronik_admin as api;
use chronik_admin::missing_replica::Why;
use chronik_core::cluster::{self, Ailing, Ailment, Holdings, Image};
use chronik_core::ids::{BrokerId, TopicPartition};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Partitions listed when the request does not say.
const PARTITIONS: usize = 1000;
/// Partitions listed at most: what fits into one message.
const MAX_PARTITIONS: usize = 20_000;
/// Topic names by replication factor.
const NAMES: usize = 10;
/// Partitions that a refusal names.
pub(super) const NAMED: usize = 100;

impl Calls {
    pub(super) async fn facts(&self, request: api::FactsRequest) -> Result<api::FactsResponse, Failure> {
        let view = self.view().await?;
        let most = if request.max_partitions == 0 { PARTITIONS } else { request.max_partitions as usize };
        let View { term, image, .. } = &view;
        let lags = if request.lags { self.lags(image).await } else { Lags::default() };
        Ok(api::FactsResponse {
            cluster_id: image.cluster_id.unwrap_or_default().to_string(),
            offset: image.offset.0,
            term: *term,
            metadata_version: image.metadata_version.0.into(),
            brokers: brokers(&view, &self.starts),
            partitions: Some(partitions(image, &lags, most.min(MAX_PARTITIONS))),
            quorum: Some(quorum(self.me, &view)),
            reassignments: reassignments(image, &lags),
            permit: permit(&view),
            topics: topics(image),
            damaged: damaged(&view, &lags, most.min(MAX_PARTITIONS)),
            need_all_replicas: Some(need_all_replicas(image)),
        })
    }
}

fn brokers(view: &View, starts: &Starts) -> Vec<api::Broker> {
    let holdings = view.image.holdings();
    let held = |id: &BrokerId| holdings.get(id).copied().unwrap_or_default();
    let lost = lost_alone(&view.image);
    let lost = |id: &BrokerId| lost.get(id).copied().unwrap_or_default();
    let starting = |b: &cluster::Broker| starts.of(Instant::now(), b.id).filter(|_| b.fenced);
    let with = |b: &cluster::Broker| api::Broker {
        starting: starting(b).map(|so_far| api::Starting { read: so_far.read, total: so_far.total }),
        ..broker(view, b, held(&b.id), lost(&b.id))
    };
    view.image.brokers.values().map(with).collect()
}

/// The partitions that each broker is the only replica of, and does not serve as it has lost them: there is nobody to catch
/// up from.
fn lost_alone(image: &Image) -> BTreeMap<BrokerId, usize> {
    let mut lost = BTreeMap::new();
    for ailing in image.ailing().filter(is_lost_alone) {
        for id in ailing.partition.replicas.iter().filter(|id| ailing.partition.lacks(**id)) {
            *lost.entry(*id).or_default() += 1;
        }
    }
    lost
}

fn broker(view: &View, broker: &cluster::Broker, held: Holdings, lost: usize) -> api::Broker {
    // What a former process has said is not about this one.
    let sign = view.observed.signs.get(&broker.id).filter(|sign| broker.epoch == Some(sign.epoch));
    let quorum = &view.quorum;
    let behind = quorum.voters.iter().chain(&quorum.observers).any(|m| m.id == broker.id && !m.caught_up);
    let missed = Holdings { out_of_sync: held.out_of_sync.saturating_sub(lost), ..held };
    api::Broker {
        id: broker.id.0,
        incarnation: broker.incarnation.map(|id| id.to_string()),
        directory_id: broker.directory.map(|id| id.to_string()),
        epoch: broker.epoch.map(|epoch| epoch.0),
        version: sign.map(|sign| sign.version.clone()).filter(|version| !version.is_empty()),
        min_metadata_version: broker.versions.min.0.into(),
        max_metadata_version: broker.versions.max.0.into(),
        fenced: broker.fenced,
        cordoned: broker.cordoned,
        recovering: broker.fenced || broker.is_recovering(missed) || behind,
        disk: sign.and_then(|sign| sign.disk).map(|disk| api::Disk {
            total: disk.total,
            used: disk.total.saturating_sub(disk.free),
            free: disk.free,
        }),
        leaders: count(held.leaders),
        replicas: count(held.replicas),
        out_of_sync: count(held.out_of_sync),
        only_replica: count(held.only_replica),
        rack: broker.rack.as_deref().map(str::to_owned),
        voter: view.quorum.is_voter(broker.id),
        applied: sign.map(|sign| sign.applied.0),
        heard_ms_ago: sign.map(|sign| millis(Instant::now().saturating_duration_since(sign.at))),
        kafka: Some(endpoint(&broker.kafka)),
        damaged: sign.and_then(|sign| sign.damages.as_ref()).map(|damages| count(damages.total)),
        starting: None,
    }
}

/// What brokers have said that their disks have lost, of replicas that they have still.
fn damaged(view: &View, lags: &Lags, most: usize) -> Vec<api::DamagedReplica> {
    let image = &view.image;
    let said = image.brokers.values().filter_map(|b| {
        let sign = view.observed.signs.get(&b.id).filter(|sign| b.epoch == Some(sign.epoch))?;
        Some((b.id, sign.damages.as_ref()?))
    });
    let all = said.flat_map(|(id, damages)| damages.first.iter().map(move |log| (id, log)));
    let replicas = all.filter_map(|(id, log)| {
        let topic = image.topics.get(&log.partition.topic)?;
        let of = image.partition(log.partition).filter(|of| of.replicas.contains(&id))?;
        let partition = Some(partition((image, lags), log.partition, topic, of));
        Some(api::DamagedReplica { broker: id.0, from: log.from.0, to: log.to.map(|to| to.0), partition })
    });
    replicas.take(most).collect()
}

fn endpoint(at: &cluster::Endpoint) -> api::Endpoint {
    api::Endpoint { host: at.host.to_string(), port: at.port.into() }
}

fn partitions(image: &Image, lags: &Lags, most: usize) -> api::Partitions {
    let mut ailing: Vec<Ailing<'_>> = image.ailing().collect();
    ailing.sort_by_key(|a| a.ailment);
    let with = |ailment| count(ailing.iter().filter(|a| a.ailment == ailment).count());
    let undecided = || ailing.iter().filter(|a| image.is_undecided(a.partition));
    let all_alive = |a: &Ailing<'_>| a.partition.replicas.iter().all(|id| image.alive(*id).is_some());
    api::Partitions {
        total: count(image.topics.values().map(|topic| topic.partitions.len()).sum()),
        offline: with(Ailment::Offline),
        under_min_isr: with(Ailment::UnderMinIsr),
        under_replicated: count(ailing.len()),
        not_well: ailing.iter().take(most).map(|a| partition((image, lags), a.id, a.topic, a.partition)).collect(),
        undecided: count(undecided().count()),
        unclean_elections: image.unclean_elections,
        offline_only_replica: count(ailing.iter().filter(|a| is_lost_alone(a)).count()),
        undecided_all_alive: count(undecided().filter(|a| all_alive(a)).count()),
    }
}

/// Whether nobody leads the partition, and there is no other replica that could.
fn is_lost_alone(ailing: &Ailing<'_>) -> bool {
    ailing.ailment == Ailment::Offline && ailing.partition.replicas.len() == 1
}

fn why(image: &Image, id: BrokerId) -> Why {
    match image.brokers.get(&id) {
        Some(b) if !b.fenced => Why::CatchingUp,
        Some(b) if b.epoch.is_some() => Why::Fenced,
        _ => Why::NeverSeen,
    }
}

fn partition(
    (image, lags): (&Image, &Lags),
    id: TopicPartition,
    topic: &cluster::Topic,
    p: &cluster::Partition,
) -> api::Partition {
    let lacking = p.replicas.iter().filter(|id| p.lacks(**id));
    api::Partition {
        topic: topic.name.to_string(),
        topic_id: id.topic.to_string(),
        partition: id.partition.0,
        leader: p.leader.map(|id| id.0),
        leader_epoch: p.leader_epoch.0,
        partition_epoch: p.partition_epoch.0,
        replicas: numbers(&p.replicas),
        isr: numbers(&p.isr),
        elr: numbers(&p.elr),
        missing: lacking.map(|of| missing(lags, id, *of, why(image, *of))).collect(),
        min_isr: count(p.min_insync_replicas(topic.min_insync_replicas)),
        offline: p.leader.is_none(),
        under_min_isr: p.isr.len() < p.min_insync_replicas(topic.min_insync_replicas),
        undecided: image.is_undecided(p),
    }
}

fn quorum(me: BrokerId, view: &View) -> api::Quorum {
    let members = |members: &[Member]| {
        members
            .iter()
            .map(|m| api::QuorumMember {
                broker: m.id.0,
                matched: m.matched,
                caught_up: m.caught_up,
                heard_ms_ago: m.heard_at.map(|at| millis(at.elapsed())),
                controller: m.place.as_ref().map(endpoint),
            })
            .collect()
    };
    api::Quorum {
        leader: me.0,
        term: view.term,
        last_index: view.quorum.last_index,
        committed: view.quorum.committed,
        voters: members(&view.quorum.voters),
        observers: members(&view.quorum.observers),
    }
}

fn reassignments(image: &Image, lags: &Lags) -> Vec<api::Reassignment> {
    let moving = image.partitions().filter(|(_, _, p)| p.is_reassigning());
    let moving = moving.map(|(tp, topic, p)| api::Reassignment {
        topic: topic.name.to_string(),
        partition: tp.partition.0,
        replicas: numbers(&p.replicas),
        adding: numbers(&p.adding),
        removing: numbers(&p.removing),
        missing: p
            .adding
            .iter()
            .filter(|id| !p.isr.contains(id))
            .map(|id| missing(lags, tp, *id, why(image, *id)))
            .collect(),
    });
    moving.take(MAX_PARTITIONS).collect()
}

/// The outstanding permit, with what this leader has counted of its time.
pub(super) fn permit(view: &View) -> Option<api::Permit> {
    let permit = view.image.permit.as_ref()?;
    Some(permit_of(permit, view.observed.permit_left))
}

pub(super) fn permit_of(permit: &cluster::Permit, left: Option<Duration>) -> api::Permit {
    api::Permit {
        id: permit.id.0,
        broker: permit.broker.0,
        incarnation: permit.incarnation.to_string(),
        ttl_ms: permit.ttl_ms,
        left_ms: left.map_or(permit.ttl_ms, millis),
        forced: permit.forced.clone().unwrap_or_default(),
    }
}

/// While a partition moves it has replicas that come beside those that go: it is what it was, or what it will be, that
/// counts.
fn factor(partition: &cluster::Partition) -> usize {
    partition.original_replicas().count().max(partition.target_replicas().count())
}

fn topics(image: &Image) -> Vec<api::TopicsByFactor> {
    let mut by_factor: BTreeMap<u32, api::TopicsByFactor> = BTreeMap::new();
    for topic in image.topic_ids.values().filter_map(|id| image.topics.get(id)) {
        let replication_factor = count(topic.partitions.iter().map(factor).max().unwrap_or(0));
        let topics = by_factor.entry(replication_factor).or_default();
        topics.replication_factor = replication_factor;
        topics.topics += 1;
        if topics.names.len() < NAMES {
            topics.names.push(topic.name.to_string());
        }
    }
    by_factor.into_values().collect()
}

/// The topics with a partition that needs all of its replicas in sync, where these are several.
fn need_all_replicas(image: &Image) -> api::NamedTopics {
    let needs_all = |topic: &cluster::Topic| {
        topic.partitions.iter().any(|partition| {
            let replicas = partition.target_replicas().count();
            replicas > 1 && partition.min_insync_replicas(topic.min_insync_replicas) >= replicas
        })
    };
    let mut found = api::NamedTopics::default();
    for topic in image.topic_ids.values().filter_map(|id| image.topics.get(id)).filter(|topic| needs_all(topic)) {
        found.topics += 1;
        if found.names.len() < NAMES {
            found.names.push(topic.name.to_string());
        }
    }
    found
}

/// The first of these, by their topics' names.
pub(super) fn named(image: &Image, partitions: &[TopicPartition]) -> (Vec<api::PartitionId>, u32) {
    let name = |tp: &TopicPartition| image.topics.get(&tp.topic).map_or_else(String::new, |t| t.name.to_string());
    let first = partitions.iter().take(NAMED);
    let first = first.map(|tp| api::PartitionId { topic: name(tp), partition: tp.partition.0 }).collect();
    (first, count(partitions.len()))
}

pub(super) fn numbers(ids: &[BrokerId]) -> Vec<i32> {
    ids.iter().map(|id| id.0).collect()
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::{LeaderEpoch, PartitionEpoch};

    fn ids(numbers: &[i32]) -> Vec<BrokerId> {
        numbers.iter().copied().map(BrokerId).collect()
    }

    /// On these brokers, of which nobody leads.
    fn lost(replicas: &[i32]) -> cluster::Partition {
        cluster::Partition {
            replicas: ids(replicas),
            isr: Vec::new(),
            elr: Box::default(),
            leader: None,
            adding: Box::default(),
            removing: Box::default(),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
        }
    }

    fn image(partitions: &[cluster::Partition]) -> Image {
        let mut image = Image::default();
        let topic = cluster::Topic {
            id: image.topic_ids.get("t").copied().unwrap_or_default(),
            name: "t".into(),
            partitions: partitions.iter().cloned().collect(),
            configs: image.cluster_configs.clone(),
            min_insync_replicas: 1,
            default_min_insync_replicas: 1,
            older_producers: image.next_producer_id,
        };
        image.topic_ids.insert(topic.name.clone(), topic.id);
        image.topics.insert(topic.id, topic);
        image
    }

    #[test]
    fn a_partition_that_moves_counts_with_the_replicas_that_it_had_or_will_have() {
        let moving = |replicas: &[i32], adding: &[i32], removing: &[i32]| cluster::Partition {
            adding: ids(adding).into(),
            removing: ids(removing).into(),
            ..lost(replicas)
        };
        for (partition, expected) in [
            (moving(&[0, 1, 2], &[], &[]), 3),
            (moving(&[0, 1, 2, 4], &[2], &[4]), 3),
            (moving(&[0, 1, 2, 3, 4], &[3, 4], &[]), 5),
            (moving(&[0, 1, 2], &[], &[1, 2]), 3),
        ] {
            let found = topics(&image(std::slice::from_ref(&partition)));
            assert_eq!(found[0].replication_factor, expected, "{partition:?}");
        }
    }

    #[test]
    fn a_topic_that_no_broker_can_be_stopped_for_is_named_unless_it_has_one_replica_alone() {
        let growing = cluster::Partition { adding: ids(&[2]).into(), ..lost(&[0, 1, 2]) };
        let shrinking = cluster::Partition { removing: ids(&[2]).into(), ..lost(&[0, 1, 2]) };
        for (partitions, least, named) in [
            (vec![lost(&[0, 1, 2])], 2, 0),
            (vec![lost(&[0, 1, 2])], 3, 1),
            (vec![lost(&[0, 1, 2])], 4, 1),
            (vec![lost(&[0, 1, 2]), lost(&[0, 1])], 2, 1),
            (vec![lost(&[0])], 1, 0),
            (vec![growing], 2, 0),
            (vec![shrinking], 2, 1),
        ] {
            let mut image = image(&partitions);
            let id = image.topic_ids.get("t").copied().unwrap_or_default();
            image.topics.get_mut(&id).expect("the topic").min_insync_replicas = least;
            let found = need_all_replicas(&image);
            assert_eq!((found.topics, found.names.len()), (named, named as usize), "{partitions:?} {least}");
        }
    }

    #[test]
    fn a_partition_that_lost_its_only_replica_is_told_apart_and_nobody_catches_up_with_it() {
        let image = image(&[lost(&[2]), lost(&[1, 2])]);
        let found = partitions(&image, &Lags::default(), 10);
        assert_eq!((found.offline, found.under_replicated, found.offline_only_replica), (2, 2, 1));
        assert_eq!(lost_alone(&image), [(BrokerId(2), 1)].into());
    }
}
