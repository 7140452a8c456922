//! Finding partitions in the metadata, and telling clients where their leaders are (KIP-951).

use super::listener::ListenerName;
use chronik_core::cluster::{Broker, Endpoint, Image, Topic};
use chronik_core::ids::{BrokerId, LeaderEpoch, PartitionId, TopicPartition};
use chronik_wire::ErrorCode;
use chronik_wire::TopicRef;
use chronik_wire::messages::{LeaderIdAndEpoch, NodeEndpoint, StrBytes, message, topic_id};

/// Finds a topic as a request names it, or the error that Kafka has for it.
pub(super) fn find_topic<'a>(image: &'a Image, topic: &TopicRef) -> Result<&'a Topic, ErrorCode> {
    match topic {
        TopicRef::Name(name) => image.topic_by_name(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        TopicRef::Id(id) => topic_id(*id).and_then(|id| image.topics.get(&id)).ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
    }
}

/// The partition of that index, if the topic has it.
pub(super) fn find_partition(topic: &Topic, index: i32) -> Result<TopicPartition, ErrorCode> {
    usize::try_from(index)
        .ok()
        .filter(|i| *i < topic.partitions.len())
        .map(|_| TopicPartition { topic: topic.id, partition: PartitionId(index) })
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// A leader epoch from the wire; negative ones mean "not known".
pub(super) fn epoch(wire: i32) -> Option<LeaderEpoch> {
    (wire >= 0).then_some(LeaderEpoch(wire))
}

/// Collects the leaders that an answer names, with their addresses once each.
#[derive(Debug)]
pub(super) struct Leaders<'a> {
    listener: &'a ListenerName,
    endpoints: Vec<NodeEndpoint>,
}

impl<'a> Leaders<'a> {
    /// For a client that came through that listener.
    pub(super) fn of(listener: &'a ListenerName) -> Self {
        Self { listener, endpoints: Vec::new() }
    }

    /// The partition's leader as the metadata has it, unless it is the one who has just said otherwise.
    pub(super) fn name(
        &mut self,
        image: &Image,
        partition: TopicPartition,
        except: Option<BrokerId>,
    ) -> Option<LeaderIdAndEpoch> {
        let state = image.partition(partition)?;
        let leader = image.alive(state.leader.filter(|leader| Some(*leader) != except)?)?;
        if self.endpoints.iter().all(|e| e.node_id != leader.id.0) {
            self.endpoints.push(endpoint(leader, &self.listener.endpoint(image, leader)?));
        }
        Some(message!(LeaderIdAndEpoch { leader_id: leader.id.0, leader_epoch: state.leader_epoch.0 }))
    }

    /// Where the named leaders are.
    pub(super) fn into_endpoints(self) -> Vec<NodeEndpoint> {
        self.endpoints
    }
}

fn endpoint(broker: &Broker, at: &Endpoint) -> NodeEndpoint {
    message!(NodeEndpoint {
        node_id: broker.id.0,
        host: StrBytes::from(&*at.host),
        port: i32::from(at.port),
        rack: broker.rack.as_deref().map(StrBytes::from),
    })
}

/// A live broker that requests for the controller can be sent to: each of them passes them on.
pub(super) fn controller_id(image: &Image, leader: Option<BrokerId>, me: BrokerId) -> i32 {
    leader
        .into_iter()
        .chain([me])
        .chain(image.brokers.keys().copied())
        .find(|id| image.alive(*id).is_some())
        .map_or(-1, |id| id.0)
}
