//! The creation of one topic, over as many tries as it takes to learn what became of it.
//!
//! A try without a known outcome may have been carried out, and whoever saw the topic may have deleted it since. So the
//! next try has an id of its own: brokers and clients that know the deleted topic by its id must not take the new one
//! for it (KIP-516). That the name is taken by a topic with an id of an earlier try is success.

use crate::CreateTopic;
use crate::TopicDefaults;
use chronik_core::cluster::{Image, MetadataCommand, Outcome, Refusal};
use chronik_core::ids::TopicId;

/// A topic that is being created.
pub(super) struct Creation {
    topic: CreateTopic,
    defaults: TopicDefaults,
    /// The current try's.
    id: TopicId,
    /// Those of tries that may have been carried out.
    earlier: Vec<TopicId>,
}

impl Creation {
    /// `id` is drawn at random, as are those that follow it.
    pub(super) fn new(topic: CreateTopic, defaults: TopicDefaults, id: TopicId) -> Self {
        Self { topic, defaults, id, earlier: Vec::new() }
    }

    /// What the current try proposes.
    pub(super) fn command(&self) -> MetadataCommand {
        let Self { topic, defaults, id, .. } = self;
        MetadataCommand::CreateTopic {
            id: *id,
            name: topic.name.clone(),
            partitions: topic.partitions.unwrap_or(defaults.partitions),
            replication_factor: topic.replication_factor.unwrap_or(defaults.replication_factor),
            assignments: topic.assignments.clone(),
            configs: topic.configs.clone(),
            default_min_insync_replicas: defaults.min_insync_replicas,
        }
    }

    /// The current try may have been carried out, or may yet be: the next one has this id.
    pub(super) fn try_again(&mut self, id: TopicId) {
        self.earlier.push(std::mem::replace(&mut self.id, id));
    }

    /// The topic's id, by the outcome of the last try and an image that has it applied.
    pub(super) fn created(&self, outcome: Outcome, image: &Image) -> Result<TopicId, Refusal> {
        match outcome {
            Ok(_) => Ok(self.id),
            Err(Refusal::TopicExists(name)) => match image.topic_ids.get(&*name) {
                Some(id) if self.earlier.contains(id) => Ok(*id),
                _ => Err(Refusal::TopicExists(name)),
            },
            Err(refusal) => Err(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::{Answer, Endpoint, Member, MetadataVersion, SupportedVersions};
    use chronik_core::ids::{BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, MetadataOffset};
    use std::collections::BTreeMap;
    use uuid::Uuid;

    struct Log {
        image: Image,
    }

    impl Log {
        /// A cluster of one broker that is alive.
        fn new() -> Self {
            let mut log = Self { image: Image::default() };
            let endpoint = Endpoint { host: "localhost".into(), port: 1 };
            let id = BrokerId(0);
            let member = Member { id, kafka: endpoint.clone(), replication: endpoint, rack: None };
            log.apply(&MetadataCommand::CreateCluster {
                cluster_id: ClusterId(Uuid::from_u128(1)),
                members: vec![member.clone()],
                metadata_version: MetadataVersion::LATEST,
            })
            .unwrap();
            let registered = log.apply(&MetadataCommand::RegisterBroker {
                member,
                directory: DirectoryId(Uuid::from_u128(2)),
                incarnation: IncarnationId(Uuid::from_u128(3)),
                damaged: Vec::new(),
                versions: SupportedVersions::HERE,
            });
            let Ok(Answer::Registered(BrokerEpoch(epoch))) = registered else { panic!("{registered:?}") };
            log.apply(&MetadataCommand::Unfence { id, epoch: BrokerEpoch(epoch) }).unwrap();
            log
        }

        fn apply(&mut self, command: &MetadataCommand) -> Outcome {
            self.image.apply(MetadataOffset(self.image.offset.0 + 1), command).0
        }
    }

    fn creation(id: TopicId) -> Creation {
        let topic = CreateTopic {
            name: "t".into(),
            partitions: None,
            replication_factor: None,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
            validate_only: false,
        };
        Creation::new(topic, TopicDefaults { partitions: 1, replication_factor: 1, min_insync_replicas: 1 }, id)
    }

    const FIRST: TopicId = TopicId(Uuid::from_u128(11));
    const SECOND: TopicId = TopicId(Uuid::from_u128(12));

    /// The first try was carried out, and nobody was told.
    fn tried() -> (Log, Creation) {
        let (mut log, creation) = (Log::new(), creation(FIRST));
        log.apply(&creation.command()).unwrap();
        (log, creation)
    }

    #[test]
    fn a_retry_after_a_deletion_does_not_bring_the_deleted_topics_id_back() {
        let (mut log, mut creation) = tried();
        log.apply(&MetadataCommand::DeleteTopic { id: FIRST }).unwrap();
        creation.try_again(SECOND);
        let outcome = log.apply(&creation.command());
        assert_eq!(creation.created(outcome, &log.image), Ok(SECOND));
        assert!(!log.image.topics.contains_key(&FIRST));
    }

    #[test]
    fn a_retry_finds_what_an_earlier_try_created() {
        let (mut log, mut creation) = tried();
        creation.try_again(SECOND);
        let outcome = log.apply(&creation.command());
        assert_eq!(creation.created(outcome, &log.image), Ok(FIRST));
        assert_eq!(log.image.topics.len(), 1);
    }

    #[test]
    fn a_retry_does_not_take_anothers_topic_for_its_own() {
        let (mut log, mut creation) = tried();
        log.apply(&MetadataCommand::DeleteTopic { id: FIRST }).unwrap();
        log.apply(&self::creation(TopicId(Uuid::from_u128(99))).command()).unwrap();
        creation.try_again(SECOND);
        let outcome = log.apply(&creation.command());
        assert_eq!(creation.created(outcome, &log.image), Err(Refusal::TopicExists("t".into())));
    }
}
