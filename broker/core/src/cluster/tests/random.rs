use super::config::{ConfigChange, ConfigOp, ConfigResource, UNCLEAN_LEADER_ELECTION_ENABLE};
use super::*;
use proptest::prelude::*;

/// One step of a random history, in terms of whatever there is by then.
#[derive(Clone, Debug)]
enum Step {
    Register {
        id: i32,
        wiped: bool,
        damaged: Option<(u128, i32)>,
    },
    Fence(i32),
    Unfence(i32),
    Create {
        topic: u128,
        partitions: i32,
        factor: i16,
        min_insync: i32,
    },
    Delete(u128),
    Resign {
        id: i32,
        topic: Option<u128>,
        leaving: Leaving,
        reason: ResignReason,
    },
    Alter {
        topic: u128,
        partition: i32,
        isr: Vec<i32>,
        stale: bool,
    },
    Reassign {
        topic: u128,
        partition: i32,
        replicas: Option<Vec<i32>>,
    },
    /// Whether leaders may lack records.
    Unclean {
        topic: Option<u128>,
        enable: bool,
    },
}

/// Any step.
fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => step(),
        1 => (prop::option::weighted(0.7, 1..4_u128), prop::bool::weighted(0.8))
            .prop_map(|(topic, enable)| Step::Unclean { topic, enable }),
    ]
}

/// One after which no leader lacks records.
fn step() -> impl Strategy<Value = Step> {
    let broker = 0..5_i32;
    let topic = 1..4_u128;
    prop_oneof![
        3 => (broker.clone(), prop::bool::weighted(0.2), prop::option::weighted(0.3, (topic.clone(), 0..3)))
            .prop_map(|(id, wiped, damaged)| Step::Register { id, wiped, damaged }),
        4 => broker.clone().prop_map(Step::Fence),
        6 => broker.clone().prop_map(Step::Unfence),
        2 => (topic.clone(), 1..5, 1..5_i16, 1..4)
            .prop_map(|(topic, partitions, factor, min_insync)| Step::Create { topic, partitions, factor, min_insync }),
        1 => topic.clone().prop_map(Step::Delete),
        3 => (broker.clone(), prop::option::of(topic.clone()), leaving(), prop::bool::ANY).prop_map(
            |(id, topic, leaving, stop)| {
                let reason = if stop { ResignReason::Stop } else { ResignReason::Disk };
                Step::Resign { id, topic, leaving, reason }
            }
        ),
        4 => (topic.clone(), 0..3, prop::option::weighted(0.8, prop::collection::vec(broker.clone(), 1..4)))
            .prop_map(|(topic, partition, replicas)| Step::Reassign { topic, partition, replicas }),
        8 => (topic, 0..5, prop::collection::vec(broker, 0..5), prop::bool::weighted(0.1))
            .prop_map(|(topic, partition, isr, stale)| Step::Alter { topic, partition, isr, stale }),
    ]
}

fn leaving() -> impl Strategy<Value = Leaving> {
    prop_oneof![Just(Leaving::Leadership), Just(Leaving::InSync), Just(Leaving::Copy)]
}

fn command(image: &Image, step: &Step, n: u128) -> Option<MetadataCommand> {
    let epoch = |id: i32| image.brokers.get(&BrokerId(id)).and_then(|b| b.epoch).unwrap_or(BrokerEpoch(-1));
    Some(match step {
        Step::Register { id, wiped, damaged } => MetadataCommand::RegisterBroker {
            member: member(*id),
            directory: if *wiped {
                DirectoryId(uuid(1000 + n))
            } else {
                image.brokers.get(&BrokerId(*id)).and_then(|b| b.directory).unwrap_or(DirectoryId(uuid(*id as u128)))
            },
            incarnation: IncarnationId(uuid(n)),
            damaged: damaged.iter().map(|(topic, partition)| tp(*topic, *partition)).collect(),
            versions: SupportedVersions::HERE,
        },
        Step::Fence(id) => MetadataCommand::Fence { id: BrokerId(*id), epoch: epoch(*id) },
        Step::Unfence(id) => MetadataCommand::Unfence { id: BrokerId(*id), epoch: epoch(*id) },
        Step::Create { topic, partitions, factor, min_insync } => MetadataCommand::CreateTopic {
            id: TopicId(uuid(*topic)),
            name: format!("t{topic}"),
            partitions: *partitions,
            replication_factor: *factor,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
            default_min_insync_replicas: *min_insync,
        },
        Step::Delete(topic) => MetadataCommand::DeleteTopic { id: TopicId(uuid(*topic)) },
        Step::Resign { id, topic, leaving, reason } => MetadataCommand::Resign {
            broker: BrokerId(*id),
            broker_epoch: epoch(*id),
            partitions: match topic {
                Some(topic) => ResignedPartitions::These((0..3).map(|p| tp(*topic, p)).collect()),
                None => ResignedPartitions::All,
            },
            leaving: *leaving,
            reason: *reason,
        },
        Step::Reassign { topic, partition, replicas } => MetadataCommand::AlterPartitionReassignments {
            partitions: vec![Reassignment {
                partition: tp(*topic, *partition),
                replicas: replicas.as_deref().map(ids),
            }],
            may_change_factor: true,
        },
        Step::Unclean { topic, enable } => {
            let known = match topic {
                Some(topic) => &image.topics.get(&TopicId(uuid(*topic)))?.configs,
                None => &image.cluster_configs,
            };
            let value = enable.to_string();
            // What changes nothing is reported all the same.
            if known.get(UNCLEAN_LEADER_ELECTION_ENABLE).is_some_and(|known| **known == *value) {
                return None;
            }
            MetadataCommand::AlterConfigs {
                resource: topic.map_or(ConfigResource::Cluster, |topic| ConfigResource::Topic(TopicId(uuid(topic)))),
                replace: false,
                changes: vec![ConfigChange { name: UNCLEAN_LEADER_ELECTION_ENABLE.into(), op: ConfigOp::Set(value) }],
            }
        }
        Step::Alter { topic, partition, isr, stale } => {
            let p = image.partition(tp(*topic, *partition))?;
            let leader = p.leader?;
            let mut isr = isr.clone();
            isr.push(leader.0);
            isr.sort_unstable();
            isr.dedup();
            MetadataCommand::AlterPartition {
                leader,
                broker_epoch: epoch(leader.0),
                partition: tp(*topic, *partition),
                leader_epoch: p.leader_epoch,
                partition_epoch: PartitionEpoch(p.partition_epoch.0 - i32::from(*stale)),
                isr: isr.into_iter().map(|id| (BrokerId(id), epoch(id))).collect(),
            }
        }
    })
}

/// Where leaders may lack records, no partition waits while a replica may lead that is not just being added.
fn nobody_waits_in_vain(image: &Image) {
    let of_all = image.cluster_configs.get(UNCLEAN_LEADER_ELECTION_ENABLE);
    for (tp, topic, p) in image.partitions() {
        let asks = topic.configs.get(UNCLEAN_LEADER_ELECTION_ENABLE).or(of_all).is_some_and(|value| &**value == "true");
        let waits = p.leader.is_none() && p.original_replicas().any(|id| image.may_lead(id));
        assert!(!asks || !waits, "{tp}: {p:?}");
    }
}

/// Epochs only grow, and leadership changes with the leader epoch alone.
fn epochs_grow(before: &Image, after: &Image) {
    for (tp, _, old) in before.partitions() {
        let Some(new) = after.partition(tp) else { continue };
        assert!(new.leader_epoch >= old.leader_epoch && new.partition_epoch >= old.partition_epoch);
        assert_eq!(new == old, new.partition_epoch == old.partition_epoch, "{old:?} → {new:?}");
        let keeps = new.leader == old.leader && old.replicas.iter().all(|id| new.replicas.contains(id));
        assert_eq!(keeps, new.leader_epoch == old.leader_epoch, "{old:?} → {new:?}");
    }
    for (id, old) in &before.brokers {
        assert!(after.brokers[id].epoch >= old.epoch);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_history_breaks_the_invariants(steps in prop::collection::vec(any_step(), 1..120)) {
        let mut cluster = Cluster::of(3);
        let mut log = Vec::new();
        for (n, step) in (0..).zip(&steps) {
            let Some(command) = command(&cluster.image, step, n) else { continue };
            let before = cluster.image.clone();
            // Checks `valid`, and that changes are reported and refusals change nothing.
            drop(cluster.apply(&command));
            nobody_waits_in_vain(&cluster.image);
            epochs_grow(&before, &cluster.image);
            log.push(command);
        }
        let mut replayed = Cluster::of(3);
        for command in &log {
            drop(replayed.apply(command));
        }
        prop_assert_eq!(&replayed.image, &cluster.image);
    }

    /// What makes an elected replica safe: it was in the ISR when something could last be committed, and has
    /// lost neither its disk nor anything of the partition since.
    #[test]
    fn no_leader_lacks_what_may_be_committed(steps in prop::collection::vec(step(), 1..120)) {
        let mut cluster = Cluster::of(3);
        // By partition: who holds all that may be committed, as the directories that hold it.
        let mut complete: BTreeMap<TopicPartition, Vec<(BrokerId, Option<DirectoryId>)>> = BTreeMap::new();
        for (n, step) in (0..).zip(&steps) {
            let Some(command) = command(&cluster.image, step, n) else { continue };
            let outcome = cluster.apply(&command).0;
            if let (MetadataCommand::Resign { broker, leaving: Leaving::Copy, .. }, Ok(Answer::Resigned { .. })) =
                (&command, &outcome)
            {
                // Where the broker is not needed any more its copy may not be counted on again.
                for (tp, _, p) in cluster.image.partitions() {
                    if !p.isr.contains(broker) && !p.elr.contains(broker) {
                        complete.entry(tp).or_default().retain(|(id, _)| id != broker);
                    }
                }
            }
            if let MetadataCommand::RegisterBroker { member, damaged, .. } = &command {
                for tp in damaged {
                    complete.entry(*tp).or_default().retain(|(id, _)| *id != member.id);
                }
            }
            if let (MetadataCommand::AlterPartition { partition, isr, .. }, Ok(_)) = (&command, &outcome) {
                // Its leader says that they hold all that it has; one of them may lead at once, where others go.
                let vouched = isr.iter().map(|(id, _)| (*id, cluster.image.brokers[id].directory));
                complete.entry(*partition).or_default().extend(vouched);
            }
            complete.retain(|tp, _| cluster.image.partition(*tp).is_some());
            for (tp, topic, p) in cluster.image.partitions() {
                let holders = complete.entry(tp).or_default();
                let now = |id: &BrokerId| (*id, cluster.image.brokers[id].directory);
                if let Some(leader) = &p.leader && p.partition_epoch.0 > 0 {
                    prop_assert!(holders.contains(&now(leader)), "{tp}: {leader} of {p:?} is not among {holders:?}");
                }
                let commits = p.isr.len() >= p.min_insync_replicas(topic.min_insync_replicas) && p.elr.is_empty();
                if commits || p.partition_epoch.0 == 0 {
                    *holders = p.isr.iter().map(now).collect();
                } else {
                    // Nothing is committed meanwhile; who is in sync with the leader has it all as well.
                    holders.extend(p.isr.iter().map(now).filter(|r| !holders.contains(r)).collect::<Vec<_>>());
                }
            }
        }
    }
}
