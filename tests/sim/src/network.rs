//! Connections between brokers: ordered while they live, and what they still deliver after they broke.

use chronik_core::ids::{BrokerEpoch, LeaderEpoch, TopicPartition};
use chronik_core::replication::{FollowerMessage, LeaderMessage, StreamId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long a frame takes at most on a network that is well.
pub(crate) const FAST_US: u64 = 3_000;

/// A broker by its place in the world.
pub(crate) type NodeId = usize;

/// What travels between brokers.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The partition.
    pub(crate) tp: TopicPartition,
    /// The leadership that it belongs to.
    pub(crate) leader_epoch: LeaderEpoch,
    /// The subscription that it belongs to.
    pub(crate) stream: StreamId,
    /// What it says.
    pub(crate) message: Message,
}

/// Either side's words.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A follower's.
    Up(FollowerMessage),
    /// A leader's.
    Down(LeaderMessage),
}

/// A connection that a follower made to a leader.
#[derive(Debug)]
pub(crate) struct Connection {
    /// No two have the same.
    pub(crate) id: u64,
    /// The follower's registration, as the handshake proved it.
    pub(crate) broker_epoch: BrokerEpoch,
    /// Towards the leader.
    pub(crate) up: VecDeque<Frame>,
    /// Towards the follower.
    pub(crate) down: VecDeque<Frame>,
    /// Under which all subscriptions over it are made, as in a broker: it outlives leaderships, and a connection to
    /// another leader may have the same.
    pub(crate) stream: StreamId,
    /// It takes no batches from the leader for now.
    pub(crate) full: bool,
    /// Since when one of its directions is cut.
    pub(crate) cut_since_us: Option<u64>,
}

/// All connections, and what cuts them.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// By follower and leader.
    pub(crate) connections: BTreeMap<(NodeId, NodeId), Connection>,
    /// Nothing gets from the first to the second.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    /// Brokers that the controller does not hear, and that do not hear it.
    pub(crate) without_controller: BTreeSet<NodeId>,
    /// Brokers that do not hear the controller, and that it hears.
    pub(crate) deaf: BTreeSet<NodeId>,
    /// Brokers that the controller does not hear, and that hear it.
    pub(crate) mute: BTreeSet<NodeId>,
    /// How long the first frame of a burst takes at most, in microseconds. What is on its way when a connection breaks is
    /// what may arrive late, so some worlds have to have much of it.
    pub(crate) slowest_us: u64,
    next_id: u64,
}

impl Network {
    /// A network on which a frame takes so long at most.
    pub(crate) fn new(slowest_us: u64) -> Self {
        Self { slowest_us, ..Self::default() }
    }

    /// Whether either direction between two brokers is cut.
    pub(crate) fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    /// Connects a follower to a leader.
    pub(crate) fn connect(&mut self, follower: NodeId, leader: NodeId, broker_epoch: BrokerEpoch, stream: StreamId) {
        self.next_id += 1;
        let connection = Connection {
            id: self.next_id,
            broker_epoch,
            up: VecDeque::new(),
            down: VecDeque::new(),
            stream,
            full: false,
            cut_since_us: None,
        };
        self.connections.insert((follower, leader), connection);
    }
}
