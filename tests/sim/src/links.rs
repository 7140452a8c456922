//! What a broker's shell does with connections: dials, carries frames, notices that they broke.

use crate::activity::Activity;
use crate::network::{Frame, Message, NodeId};
use crate::plant::Plant;
use crate::world::{Happening, World, note};
use chronik_core::ids::{BrokerEpoch, BrokerId, LeaderEpoch, TopicPartition};
use chronik_core::replication::{Event, FollowerMessage, LeaderMessage, StreamId};

/// A connection that carries nothing for so long is given up by both ends.
const KEEP_ALIVE_US: u64 = 1_000_000;

type Ends = (NodeId, NodeId);

impl World {
    /// A replica wants to follow that broker.
    pub(crate) fn follow(&mut self, node: NodeId, tp: TopicPartition, leader: Option<BrokerId>) {
        let to = leader.and_then(|id| self.node_of(id));
        let Some(process) = &mut self.nodes[node].process else { return };
        match (leader, to) {
            (Some(id), Some(to)) => {
                process.follows.insert(tp, id);
                if let Some(stream) = process.connected.get(&to).copied() {
                    process.inbox.push_back((tp, Event::LeaderConnected { leader: id, stream }));
                }
            }
            _ => {
                process.follows.remove(&tp);
            }
        }
    }

    /// Dials every other broker, whether it is to be followed or not, and gives up connections that are cut.
    pub(crate) fn dial(&mut self, node: NodeId) {
        self.give_up_cut(node);
        let Some(broker_epoch) = self.nodes[node].process.as_ref().and_then(|p| p.epoch) else { return };
        for to in (0..self.nodes.len()).filter(|to| *to != node) {
            let leader = self.nodes[to].id;
            let reachable = self.nodes[to].process.is_some() && self.nodes[to].stopped_until_us <= self.now_us;
            let known = self.nodes[node].process.as_ref().is_some_and(|p| p.connected.contains_key(&to));
            if !reachable || known || self.network.is_cut(node, to) {
                continue;
            }
            let repeats = self.options.plant == Some(Plant::StreamsRepeat);
            let Some(process) = &mut self.nodes[node].process else { return };
            let stream = process.next_stream(to, repeats);
            process.connected.insert(to, stream);
            let tps: Vec<_> = process.follows.iter().filter(|(_, id)| **id == leader).map(|(tp, _)| *tp).collect();
            for tp in tps {
                process.inbox.push_back((tp, Event::LeaderConnected { leader, stream }));
            }
            self.network.connect(node, to, broker_epoch, stream);
            note!(self, "b{node} connects to b{to}");
        }
        self.drain(node);
    }

    fn give_up_cut(&mut self, node: NodeId) {
        let now_us = self.now_us;
        let mut dead = Vec::new();
        for (ends, connection) in self.network.connections.iter_mut().filter(|(ends, _)| ends.0 == node) {
            let cut = self.network.cut.contains(ends) || self.network.cut.contains(&(ends.1, ends.0));
            match connection.cut_since_us {
                None if cut => connection.cut_since_us = Some(now_us),
                Some(since) if cut && now_us - since > KEEP_ALIVE_US => dead.push(*ends),
                Some(_) if !cut => connection.cut_since_us = None,
                _ => {}
            }
        }
        for ends in dead {
            self.reset(ends);
        }
    }

    /// Breaks a connection. What is on its way may still arrive, and each end notices in its own time.
    pub(crate) fn reset(&mut self, ends: Ends) {
        let Some(connection) = self.network.connections.remove(&ends) else { return };
        let (follower, leader) = ends;
        note!(self, "connection b{follower} to b{leader} breaks");
        self.counts.note(Activity::ConnectionReset);
        let incarnations = (self.nodes[follower].incarnation, self.nodes[leader].incarnation);
        let (from_follower, from_leader) = ((leader, incarnations.1), (follower, incarnations.0));
        for (frames, to, from) in [(connection.up, from_follower, follower), (connection.down, from_leader, leader)] {
            if self.rng.per_mille(500) {
                continue;
            }
            let mut at = self.now_us;
            let slowest = [5_000, 50_000, 500_000, 3_000_000][self.rng.index(4)];
            for frame in frames {
                at += self.rng.within(1, slowest);
                self.counts.note(Activity::LateFrame);
                self.at(at, Happening::ArriveLate(to, from, connection.broker_epoch, frame));
            }
        }
        self.within(0, 50_000, Happening::FollowerLost(follower, incarnations.0, leader));
        let late = if self.rng.per_mille(200) { KEEP_ALIVE_US } else { 100_000 };
        self.within(0, late, Happening::LeaderLost(leader, incarnations.1, follower, connection.stream));
    }

    /// Breaks all connections of a broker.
    pub(crate) fn reset_all_of(&mut self, node: NodeId) {
        let of_node = |ends: &&Ends| ends.0 == node || ends.1 == node;
        let dead: Vec<Ends> = self.network.connections.keys().filter(of_node).copied().collect();
        for ends in dead {
            self.reset(ends);
        }
    }

    pub(crate) fn follower_lost(&mut self, node: NodeId, incarnation: u64, leader: NodeId) {
        let id = self.nodes[leader].id;
        let Some(process) = self.process(node, incarnation) else { return };
        process.connected.remove(&leader);
        let tps: Vec<_> = process.follows.iter().filter(|(_, l)| **l == id).map(|(tp, _)| *tp).collect();
        for tp in tps {
            process.inbox.push_back((tp, Event::LeaderDisconnected { leader: id }));
        }
        self.drain(node);
    }

    pub(crate) fn leader_lost(&mut self, node: NodeId, incarnation: u64, follower: NodeId, stream: StreamId) {
        let follower = self.nodes[follower].id;
        let Some(process) = self.process(node, incarnation) else { return };
        let tps: Vec<_> = process.replicas.keys().copied().collect();
        for tp in tps {
            process.inbox.push_back((tp, Event::StreamClosed { follower, stream }));
        }
        self.drain(node);
    }

    pub(crate) fn send_up(
        &mut self,
        node: NodeId,
        tp: TopicPartition,
        (leader, stream): (BrokerId, StreamId),
        leader_epoch: LeaderEpoch,
        message: FollowerMessage,
    ) {
        let Some(to) = self.node_of(leader) else { return };
        let Some(connection) = self.network.connections.get_mut(&(node, to)).filter(|c| c.stream == stream) else {
            return;
        };
        connection.up.push_back(Frame { tp, leader_epoch, stream, message: Message::Up(message) });
        if connection.up.len() == 1 {
            let (id, slowest_us) = (connection.id, self.network.slowest_us);
            self.within(50, slowest_us, Happening::Arrive((node, to), id, true));
        }
    }

    pub(crate) fn send_down(
        &mut self,
        node: NodeId,
        tp: TopicPartition,
        (follower, stream): (BrokerId, StreamId),
        leader_epoch: LeaderEpoch,
        message: LeaderMessage,
    ) {
        let Some(to) = self.node_of(follower) else { return };
        let Some(connection) = self.network.connections.get_mut(&(to, node)).filter(|c| c.stream == stream) else {
            return;
        };
        if let LeaderMessage::Batches { from, .. } = &message {
            let id = connection.id;
            if !connection.full && self.rng.per_mille(30) {
                connection.full = true;
                self.within(1_000, 30_000, Happening::Writable((to, node), id));
            }
            let full = self.network.connections.get(&(to, node)).is_some_and(|c| c.full);
            if full {
                self.counts.note(Activity::SendRefused);
                let event = Event::SendRefused { follower, stream, from: *from };
                if let Some(process) = &mut self.nodes[node].process {
                    process.inbox.push_back((tp, event));
                }
                return;
            }
        }
        let Some(connection) = self.network.connections.get_mut(&(to, node)) else { return };
        connection.down.push_back(Frame { tp, leader_epoch, stream, message: Message::Down(message) });
        if connection.down.len() == 1 {
            let (id, slowest_us) = (connection.id, self.network.slowest_us);
            self.within(50, slowest_us, Happening::Arrive((to, node), id, false));
        }
    }

    pub(crate) fn writable(&mut self, ends: Ends, id: u64) {
        let Some(connection) = self.network.connections.get_mut(&ends).filter(|c| c.id == id) else { return };
        connection.full = false;
        let stream = connection.stream;
        let follower = self.nodes[ends.0].id;
        let Some(process) = &mut self.nodes[ends.1].process else { return };
        let tps: Vec<_> = process.replicas.keys().copied().collect();
        for tp in tps {
            process.inbox.push_back((tp, Event::Writable { follower, stream }));
        }
        self.drain(ends.1);
    }

    /// The first frame of a direction arrives, and the next sets out.
    pub(crate) fn arrive(&mut self, ends: Ends, id: u64, up: bool) {
        let Some(connection) = self.network.connections.get_mut(&ends).filter(|c| c.id == id) else { return };
        let direction = if up { ends } else { (ends.1, ends.0) };
        if self.network.cut.contains(&direction) {
            self.within(20_000, 20_000, Happening::Arrive(ends, id, up));
            return;
        }
        let frames = if up { &mut connection.up } else { &mut connection.down };
        let Some(frame) = frames.pop_front() else { return };
        let more = !frames.is_empty();
        let epoch = connection.broker_epoch;
        if more {
            self.within(1, 1_000, Happening::Arrive(ends, id, up));
        }
        let incarnation = self.nodes[direction.1].incarnation;
        self.arrive_late((direction.1, incarnation), direction.0, epoch, frame);
    }

    /// A frame arrives, whatever became of its connection.
    pub(crate) fn arrive_late(
        &mut self,
        (node, incarnation): (NodeId, u64),
        from: NodeId,
        broker_epoch: BrokerEpoch,
        frame: Frame,
    ) {
        let follower = self.nodes[from].id;
        let Frame { tp, leader_epoch, stream, message } = frame;
        let event = match message {
            Message::Up(message) => Event::FromFollower { follower, broker_epoch, leader_epoch, stream, message },
            Message::Down(message) => Event::FromLeader { leader_epoch, stream, message },
        };
        let Some(process) = self.process(node, incarnation) else { return };
        let early = !process.replicas.contains_key(&tp);
        process.inbox.push_back((tp, event));
        if early {
            self.refuse_early(node, tp, follower);
        }
        self.drain(node);
    }

    /// Answers `NotLeader` to a follower that subscribes to a partition that the broker does not have yet.
    fn refuse_early(&mut self, node: NodeId, tp: TopicPartition, follower: BrokerId) {
        let Some(process) = &mut self.nodes[node].process else { return };
        if let Some((_, Event::FromFollower { leader_epoch, stream, .. })) = process.inbox.pop_back() {
            let message = LeaderMessage::NotLeader { leader_epoch: LeaderEpoch(-1) };
            self.send_down(node, tp, (follower, stream), leader_epoch, message);
        }
    }
}
