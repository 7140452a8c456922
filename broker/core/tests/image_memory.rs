//! What the metadata of a partition costs a broker that has no replica of it. A process of its own, as it goes by all
//! that the process has in memory.

use chronik_core::cluster::{
    Answer, Endpoint, Image, Member, MetadataCommand, MetadataVersion, Outcome, SupportedVersions,
};
use chronik_core::ids::{BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, MetadataOffset, TopicId};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Bytes that a partition may take.
const MOST: usize = 200;
const TOPICS: u128 = 20;
const PARTITIONS_EACH: i32 = 5_000;
const BROKERS: i32 = 7;

fn apply(image: &mut Image, command: &MetadataCommand) -> Outcome {
    image.apply(MetadataOffset(image.offset.0 + 1), command).0
}

fn cluster() -> Image {
    let mut image = Image::default();
    let endpoint = Endpoint { host: "localhost".into(), port: 1 };
    let member = |id| Member { id: BrokerId(id), kafka: endpoint.clone(), replication: endpoint.clone(), rack: None };
    let create = MetadataCommand::CreateCluster {
        cluster_id: ClusterId(Uuid::from_u128(1)),
        members: (0..BROKERS).map(member).collect(),
        metadata_version: MetadataVersion::LATEST,
    };
    apply(&mut image, &create).expect("created");
    for id in 0..BROKERS {
        let register = MetadataCommand::RegisterBroker {
            member: member(id),
            directory: DirectoryId(Uuid::from_u128(100 + id as u128)),
            incarnation: IncarnationId(Uuid::from_u128(200 + id as u128)),
            damaged: Vec::new(),
            versions: SupportedVersions::HERE,
        };
        let Ok(Answer::Registered(BrokerEpoch(epoch))) = apply(&mut image, &register) else { panic!("registered") };
        apply(&mut image, &MetadataCommand::Unfence { id: BrokerId(id), epoch: BrokerEpoch(epoch) }).expect("unfenced");
    }
    image
}

fn create_topics(image: &mut Image, ids: std::ops::Range<u128>) {
    for n in ids {
        let create = MetadataCommand::CreateTopic {
            id: TopicId(Uuid::from_u128(n)),
            name: format!("topic-{n}"),
            partitions: PARTITIONS_EACH,
            replication_factor: 3,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
            default_min_insync_replicas: 2,
        };
        apply(image, &create).expect("created");
    }
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a resident size");
    line.trim().trim_end_matches("kB").trim().parse::<usize>().expect("a number") * 1024
}

#[test]
fn a_partition_that_is_elsewhere_takes_at_most_200_bytes() {
    let mut image = cluster();
    // What the first creation takes for itself is not counted again.
    create_topics(&mut image, 0..1);
    let before = resident();
    create_topics(&mut image, 1..1 + TOPICS);
    let partitions = TOPICS as usize * PARTITIONS_EACH as usize;
    assert_eq!(image.partitions().count(), partitions + PARTITIONS_EACH as usize);
    let each = resident().saturating_sub(before) / partitions;
    println!("{each} bytes a partition, {partitions} partitions");
    assert!(each <= MOST, "{each} bytes a partition");
}
