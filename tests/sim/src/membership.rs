//! What a broker's shell has to do with the controller: it registers, is heard, and hears of metadata.

use crate::activity::Activity;
use crate::controller::{LEASE_US, concerned, member};
use crate::network::NodeId;
use crate::plant;
use crate::world::{Happening, World, note};
use chronik_core::cluster::{Change, MetadataCommand, SupportedVersions};
use chronik_core::ids::{BrokerEpoch, MetadataOffset, PartitionEpoch, TopicPartition};
use chronik_core::replication::{Event, PartitionState};
use chronik_core::time::Instant;
use chronik_log::Op;

/// A broker whose disk has been at a round for so long takes no lease, and gives up the one that it has.
const STALL_US: u64 = 1_000_000;
/// So long after that it says so.
const GIVES_UP_US: u64 = 10_000;
/// Without an answer for so long, an ISR change's outcome is unknown.
const ALTER_TIMEOUT_US: u64 = 150_000;

/// What a broker says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beat {
    /// When, by its clock.
    sent_us: u64,
    applied: MetadataOffset,
    /// Its disk hangs: it takes no lease.
    hangs: bool,
    /// It has given up its lease, and says so.
    stalled: bool,
}

impl World {
    /// Whether the controller hears a broker.
    pub(crate) fn reaches_controller(&self, node: NodeId) -> bool {
        !self.network.without_controller.contains(&node) && !self.network.mute.contains(&node)
    }

    /// Whether a broker hears the controller.
    pub(crate) fn hears_controller(&self, node: NodeId) -> bool {
        !self.network.without_controller.contains(&node) && !self.network.deaf.contains(&node)
    }

    /// A broker's timer: its replicas, its connections, its heartbeat.
    pub(crate) fn tick(&mut self, node: NodeId, incarnation: u64) {
        self.fence_silent();
        let (now, room) = (self.clock(node), self.has_room(node));
        let Some(process) = self.process(node, incarnation) else { return };
        let lease_and_room = (now < process.lease, room);
        // As in the broker: replicas that wait for no time get a tick only when a lease or room begins or ends.
        let all = std::mem::replace(&mut process.lease_and_room, lease_and_room) != lease_and_room;
        let ticking = std::mem::take(&mut process.ticking);
        let hear = process.replicas.keys().filter(|tp| all || ticking.contains(tp));
        process.inbox.extend(hear.map(|tp| (*tp, Event::Tick)));
        let (epoch, applied) = (process.epoch, process.image.offset);
        let (hangs, stalled) = self.gives_up(node);
        self.drain(node);
        self.dial(node);
        if self.reaches_controller(node) {
            if epoch.is_some() {
                let sent_us = self.clock(node).0;
                let late = if self.rng.per_mille(20) { 400_000 } else { 4_000 };
                let beat = Beat { sent_us, applied, hangs, stalled };
                self.within(100, late, Happening::Heartbeat(node, incarnation, beat));
            } else {
                self.register(node, incarnation);
            }
        }
        self.within(10_000, 60_000, Happening::Tick(node, incarnation));
    }

    /// A broker whose disk hangs gives up its lease, and says so when nothing goes on under it. Returns whether it hangs,
    /// and whether it says so.
    fn gives_up(&mut self, node: NodeId) -> (bool, bool) {
        let (now, now_us) = (self.clock(node), self.now_us);
        let Some(process) = &mut self.nodes[node].process else { return (false, false) };
        if process.syncing.is_empty() || process.syncing_since_us + STALL_US >= now_us {
            process.given_up_us = None;
            return (false, false);
        }
        process.lease = process.lease.min(now);
        let since = *process.given_up_us.get_or_insert(now_us);
        (true, since + GIVES_UP_US <= now_us)
    }

    fn register(&mut self, node: NodeId, incarnation: u64) {
        let away = self.is_controller_away();
        if away && !self.commits_unheard() {
            return;
        }
        let n = &mut self.nodes[node];
        let command = MetadataCommand::RegisterBroker {
            member: member(n.id),
            directory: n.directory,
            incarnation: n.incarnation_id(),
            damaged: n.damaged.clone(),
            versions: SupportedVersions::HERE,
        };
        let Some(epoch) = self.controller.register(self.now_us, command, n.id) else { return };
        n.wiped = false;
        n.damaged.clear();
        note!(self, "b{node} registers under {epoch}");
        if !away && !self.rng.per_mille(100) && self.hears_controller(node) {
            self.within(200, 5_000, Happening::Registered(node, incarnation, epoch));
        }
    }

    pub(crate) fn registered(&mut self, node: NodeId, incarnation: u64, epoch: BrokerEpoch) {
        let Some(process) = self.process(node, incarnation) else { return };
        process.epoch = Some(epoch);
        self.introduce(node);
        self.drain(node);
    }

    pub(crate) fn heartbeat(&mut self, node: NodeId, incarnation: u64, beat: Beat) {
        let Beat { sent_us, applied, hangs, stalled } = beat;
        let id = self.nodes[node].id;
        let Some(epoch) = self.process(node, incarnation).and_then(|p| p.epoch) else { return };
        if !self.reaches_controller(node) || self.is_controller_away() {
            return;
        }
        self.fence_silent();
        if hangs {
            self.counts.note(Activity::LeaseGivenUp);
        }
        let given = if stalled && self.fences_hung() {
            self.controller.hangs(self.now_us, id, epoch);
            false
        } else {
            self.controller.heartbeat(self.now_us, id, epoch, applied)
        };
        if given && !hangs && !self.rng.per_mille(20) && self.hears_controller(node) {
            self.within(100, 4_000, Happening::Lease(node, incarnation, sent_us + LEASE_US));
        }
        if self.rng.per_mille(200) {
            let older = self.old_producers.then_some((id, epoch));
            let (partitions, unclean) = (self.partitions.len() as i32, self.unclean.by_config);
            self.controller.create_topic(older, partitions, self.replication_factor, self.min_insync, unclean);
        }
    }

    pub(crate) fn lease(&mut self, node: NodeId, incarnation: u64, until_us: u64) {
        let Some(process) = self.process(node, incarnation) else { return };
        if process.given_up_us.is_none() {
            process.lease = process.lease.max(Instant(until_us));
        }
    }

    /// Has a replica know of the lease before it is asked something.
    pub(crate) fn renew(&mut self, node: NodeId, tp: TopicPartition) {
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.replicas.get(&tp).is_some_and(|replica| replica.lease() != process.lease) {
            process.inbox.push_back((tp, Event::Lease(process.lease)));
            self.drain(node);
        }
    }

    /// Whether a broker's disk takes what is appended.
    pub(crate) fn has_room(&self, node: NodeId) -> bool {
        self.nodes[node].full_until_us <= self.now_us
    }

    /// Applies entries of the metadata log that have come, perhaps not all that there are.
    pub(crate) fn metadata(&mut self, node: NodeId, incarnation: u64) {
        let reached = self.hears_controller(node);
        let id = self.nodes[node].id;
        let Some(process) = self.process(node, incarnation) else { return };
        let next = process.image.offset.0 as usize;
        let waiting = self.controller.log.len() - next;
        let count = if !reached || waiting == 0 {
            0
        } else if self.rng.per_mille(700) {
            waiting
        } else {
            self.rng.index(waiting + 1)
        };
        for at in next..next + count {
            let Some(process) = &mut self.nodes[node].process else { return };
            let (_, changes) = plant::apply(
                &mut process.image,
                MetadataOffset(at as u64 + 1),
                &self.controller.log[at],
                self.options.plant,
            );
            if !process.introduced {
                self.introduce(node);
                continue;
            }
            for change in changes {
                if let Change::PartitionDeleted(tp) = change {
                    self.forget_waiting(node, tp);
                    self.drop_log(node, tp);
                }
                let Some(process) = &self.nodes[node].process else { return };
                for tp in concerned(&process.image, change) {
                    self.update_replica(node, tp, id);
                }
            }
        }
        self.drain(node);
        let lag = if self.rng.per_mille(20) { 300_000 } else { 20_000 };
        self.within(1_000, lag, Happening::Metadata(node, incarnation));
    }

    /// Tells the replicas of all metadata at once, when the broker knows what came of its own registration.
    fn introduce(&mut self, node: NodeId) {
        let id = self.nodes[node].id;
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.introduced || !process.is_current() {
            return;
        }
        process.introduced = true;
        let tps: Vec<_> = process.image.partitions().map(|(tp, _, _)| tp).collect();
        let deleted = |tp: &&TopicPartition| process.image.partition(**tp).is_none();
        let forgotten: Vec<_> = process.logs.keys().filter(deleted).copied().collect();
        for tp in tps {
            self.update_replica(node, tp, id);
        }
        for tp in forgotten {
            self.drop_log(node, tp);
        }
    }

    /// Passes to a partition's replica its state in the metadata.
    pub(crate) fn update_replica(&mut self, node: NodeId, tp: TopicPartition, id: chronik_core::ids::BrokerId) {
        let Some(process) = &self.nodes[node].process else { return };
        let Some(state) = process.state(tp).filter(|_| !process.deleting.contains(&tp)) else { return };
        if !state.replicas.iter().any(|(r, _)| *r == id) {
            self.leave(node, tp, state);
            return;
        }
        self.ensure_replica(node, tp);
        let Some(process) = &mut self.nodes[node].process else { return };
        process.inbox.push_back((tp, Event::Metadata(state)));
    }

    /// A broker is no replica of a partition any more: it ends what it led, and drops its log.
    fn leave(&mut self, node: NodeId, tp: TopicPartition, state: PartitionState) {
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.replicas.contains_key(&tp) {
            process.inbox.push_back((tp, Event::Metadata(state)));
            self.drain(node);
        }
        self.drop_log(node, tp);
    }

    /// Requests for a topic that was deleted get no answer.
    fn forget_waiting(&mut self, node: NodeId, tp: TopicPartition) {
        let Self { nodes, producers, .. } = self;
        if let Some(process) = &mut nodes[node].process {
            process.tickets.retain(|_, asked| producers[asked.producer].partition() != tp);
        }
    }

    /// A broker drops all that it has of a partition.
    fn drop_log(&mut self, node: NodeId, tp: TopicPartition) {
        let Some(process) = &mut self.nodes[node].process else { return };
        process.follows.remove(&tp);
        process.beginning.remove(&tp);
        process.ticking.remove(&tp);
        process.unreadable.remove(&tp);
        process.repairing.remove(&tp);
        // A replica without a log may have asked the disk for one: it goes after what was queued.
        let had_replica = process.replicas.remove(&tp).is_some();
        let had_log = process.logs.remove(&tp).is_some();
        if had_replica || had_log {
            note!(self, "b{node} p{} is no replica any more", tp.partition);
            self.counts.note(Activity::LogDropped);
            process.deleting.insert(tp);
            self.write(node, Op::Delete { partition: tp });
        }
        self.checker.agreed.remove(&(node, tp));
        self.checker.high_watermarks.remove(&(node, tp));
    }

    /// Sends an ISR change on its way. Request and answer may each be lost, and the request may arrive after
    /// its sender has given it up.
    pub(crate) fn ask_for_isr(
        &mut self,
        node: NodeId,
        tp: TopicPartition,
        epoch: PartitionEpoch,
        command: MetadataCommand,
    ) {
        let incarnation = self.nodes[node].incarnation;
        let timeout = self.now_us + ALTER_TIMEOUT_US;
        let lost = !self.reaches_controller(node) || self.rng.per_mille(100);
        if lost {
            self.counts.note(Activity::IsrChangeLost);
            self.at(timeout, Happening::AlterFailed(node, incarnation, tp, epoch, false));
        } else if self.rng.per_mille(100) {
            self.at(timeout, Happening::AlterFailed(node, incarnation, tp, epoch, false));
            // Nobody waits for its answer any more.
            self.counts.note(Activity::IsrChangeLate);
            self.within(100, 3_000_000, Happening::AlterPartition(node, 0, tp, command));
        } else {
            self.within(100, 5_000, Happening::AlterPartition(node, incarnation, tp, command));
        }
    }

    pub(crate) fn alter_partition(
        &mut self,
        node: NodeId,
        incarnation: u64,
        tp: TopicPartition,
        command: MetadataCommand,
    ) {
        let MetadataCommand::AlterPartition { partition_epoch, .. } = command else { return };
        let away = self.is_controller_away();
        if away && !self.commits_unheard() {
            self.alter_unheard(node, incarnation, tp, partition_epoch);
            return;
        }
        let outcome = self.controller.apply(command);
        note!(self, "controller: isr of p{} by b{node}: {outcome:?}", tp.partition);
        if away {
            self.alter_unheard(node, incarnation, tp, partition_epoch);
            return;
        }
        if incarnation == 0 {
            return;
        }
        let answer_lost = self.rng.per_mille(100) || !self.hears_controller(node);
        match outcome {
            Err(_) if !answer_lost => {
                self.within(100, 5_000, Happening::AlterFailed(node, incarnation, tp, partition_epoch, true));
            }
            _ if answer_lost => {
                self.counts.note(Activity::IsrAnswerLost);
                let timeout = self.now_us + ALTER_TIMEOUT_US;
                self.at(timeout, Happening::AlterFailed(node, incarnation, tp, partition_epoch, false));
            }
            _ => {}
        }
    }

    /// The controller is gone before it has answered.
    fn alter_unheard(&mut self, node: NodeId, incarnation: u64, tp: TopicPartition, epoch: PartitionEpoch) {
        // Of one that came late nobody waits for the answer.
        if incarnation != 0 {
            self.counts.note(Activity::IsrAnswerLost);
            let timeout = self.now_us + ALTER_TIMEOUT_US;
            self.at(timeout, Happening::AlterFailed(node, incarnation, tp, epoch, false));
        }
    }

    /// Brokers that are silent are fenced, by a controller that is there.
    fn fence_silent(&mut self) {
        if !self.is_controller_away() {
            self.controller.fence_silent(self.now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Disks, Options};
    use chronik_core::ids::{BrokerId, LeaderEpoch, Offset, ProducerId};

    /// Metadata that gives the partition to others.
    fn elsewhere() -> PartitionState {
        PartitionState {
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(3),
            partition_epoch: PartitionEpoch(5),
            isr: vec![BrokerId(1)],
            replicas: vec![(BrokerId(1), Some(BrokerEpoch(2)))],
            stopping: Vec::new(),
            elr: Vec::new(),
            removing: Vec::new(),
            min_insync_replicas: 1,
            older_producers: ProducerId(0),
        }
    }

    /// A replica begins anew, and is removed before the disk has done that.
    fn removed_while_it_begins_anew(disks: Disks, had_log: bool) {
        let mut world = World::new(Options { disks, ..Options::new(0) });
        let tp = world.partitions[0];
        world.resume(0);
        let incarnation = world.nodes[0].incarnation;
        if had_log {
            world.write(0, Op::AdvanceStart { partition: tp, to: Offset(3) });
            world.synced(0, incarnation);
            assert!(world.nodes[0].durable.contains_key(&tp));
        }
        world.ensure_replica(0, tp);
        world.write(0, Op::AdvanceStart { partition: tp, to: Offset(7) });
        world.leave(0, tp, elsewhere());
        for _ in 0..2 {
            world.synced(0, incarnation);
        }
        let node = &mut world.nodes[0];
        assert!(node.durable.is_empty(), "{:?}", node.durable);
        assert!(node.process.as_ref().is_some_and(|p| p.logs.is_empty() && p.deleting.is_empty()));
        assert!(node.disk.open().expect("a log").logs.is_empty());
    }

    #[test]
    fn what_a_removed_replica_had_queued_leaves_no_log() {
        for had_log in [false, true] {
            removed_while_it_begins_anew(Disks::Model, had_log);
            removed_while_it_begins_anew(Disks::Simulated, had_log);
        }
    }
}
