//! What a broker's shell does for its replicas: it carries events in and commands out.

use crate::activity::Activity;
use crate::checker::Invariant;
use crate::network::NodeId;
use crate::node::{Asked, Node, Process, config};
use crate::patterns::SLOW_SYNC_US;
use crate::world::{Happening, World, note};
use chronik_core::cluster::MetadataCommand;
use chronik_core::ids::{BrokerId, Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use chronik_core::replication::{Command, Event, FollowerMessage, ProduceError, Replica, Ticket};
use chronik_core::time::Instant;
use chronik_log::Op;
use std::collections::BTreeMap;

impl World {
    /// The broker's process, if it is still that one.
    pub(crate) fn process(&mut self, node: NodeId, incarnation: u64) -> Option<&mut Process> {
        let node = &mut self.nodes[node];
        node.process.as_mut().filter(|_| node.incarnation == incarnation)
    }

    /// The time by a broker's clock.
    pub(crate) fn clock(&self, node: NodeId) -> Instant {
        let n = &self.nodes[node];
        Instant(self.now_us * n.clock_per_mille / 1_000 + n.clock_ahead_us)
    }

    /// An event for one replica.
    pub(crate) fn replica_event(&mut self, node: NodeId, incarnation: u64, tp: TopicPartition, event: Event) {
        let Some(process) = self.process(node, incarnation) else { return };
        process.inbox.push_back((tp, event));
        self.drain(node);
    }

    /// The replica of a partition, made from the log if there is none yet.
    pub(crate) fn ensure_replica(&mut self, node: NodeId, tp: TopicPartition) {
        let id = self.nodes[node].id;
        let Some(process) = &mut self.nodes[node].process else { return };
        if !process.replicas.contains_key(&tp) {
            let replica = Replica::new(id, config(), process.log_state(tp));
            process.replicas.insert(tp, replica);
        }
    }

    /// Lets the replicas of a broker take all events that wait for them.
    pub(crate) fn drain(&mut self, node: NodeId) {
        let (now, room) = (self.clock(node), self.has_room(node));
        loop {
            self.note_unclean();
            let Some(process) = &mut self.nodes[node].process else { return };
            let Some((tp, event)) = process.inbox.pop_front() else { return };
            let Some(replica) = process.replicas.get_mut(&tp) else { continue };
            let (kind, truncated) = (kind(&event), matches!(event, Event::Truncated { .. }));
            let mut commands = Vec::new();
            replica.meet(now, process.lease, room, &mut commands);
            replica.step(now, event, &mut commands);
            if replica.needs_tick(now) {
                process.ticking.insert(tp);
            }
            let s = replica.status();
            note!(
                self,
                "b{node} p{} {kind} -> {:?} e{} end {} durable {} committed {} commands {}",
                tp.partition,
                s.role,
                s.leader_epoch,
                s.log_end,
                s.durable_end,
                s.committed,
                commands.len()
            );
            // What a leader begins with counts, whatever it does at once.
            self.begin_era(node, tp);
            for command in commands {
                self.execute(node, tp, command);
            }
            if truncated && !self.has_to_keep(node, tp) {
                self.checker.high_watermarks.remove(&(node, tp));
            }
            self.check_replica(node, tp);
            if truncated && let Some(process) = &mut self.nodes[node].process {
                process.repairing.remove(&tp);
            }
        }
    }

    fn execute(&mut self, node: NodeId, tp: TopicPartition, command: Command) {
        let incarnation = self.nodes[node].incarnation;
        let Some(process) = &mut self.nodes[node].process else { return };
        match command {
            Command::Append { batch } => {
                process.logs.entry(tp).or_default().push(batch.clone());
                self.write(node, Op::Append { partition: tp, batch });
            }
            Command::Truncate { to } => {
                self.damage_in_the_way(node, tp, to);
                self.truncate(node, tp, to, Op::Truncate { partition: tp, to });
            }
            Command::Repair { to } => self.truncate(node, tp, to, Op::Repair { partition: tp, to }),
            Command::AdvanceStart { to } => {
                note!(self, "b{node} p{} moves its start to {to}", tp.partition);
                self.counts.note(Activity::StartMoved);
                self.write(node, Op::AdvanceStart { partition: tp, to });
            }
            Command::BeginAt { at, producers } => {
                note!(self, "b{node} p{} begins anew at {at}", tp.partition);
                self.counts.note(Activity::BegunAnew);
                process.beginning.insert(tp, at);
                let op = match producers {
                    Some(producers) => Op::BeginAt { partition: tp, at, producers },
                    None => Op::AdvanceStart { partition: tp, to: at },
                };
                self.write(node, op);
            }
            Command::Reply { ticket, result } => {
                if let Some(asked) = process.tickets.remove(&ticket) {
                    self.reply(node, tp, asked, result);
                } else {
                    let how = format!("broker {node} answered {ticket:?} twice");
                    self.checker.fail(Invariant::AnsweredOnce, how);
                }
            }
            Command::Send { follower, stream, leader_epoch, message } => {
                self.send_down(node, tp, (follower, stream), leader_epoch, message);
            }
            Command::Read { follower, stream, from, max_bytes } => {
                let batches = process.read(tp, from, max_bytes, self.faults.over);
                self.counts.note(Activity::CatchUpRead);
                let event = Event::ReadDone { follower, stream, from, batches };
                // A slow one may end after the leadership for which it was made.
                let slow = !self.faults.over && self.rng.per_mille(50);
                if slow {
                    self.counts.note(Activity::SlowRead);
                }
                let slowest = if slow { 2_000_000 } else { 2_000 };
                self.within(10, slowest, Happening::Replica(node, incarnation, tp, event));
            }
            Command::ToLeader { leader, leader_epoch, stream, message } => {
                if matches!(message, FollowerMessage::Ack { .. }) {
                    self.checker.takes_up(node, tp, leader_epoch);
                }
                self.send_up(node, tp, (leader, stream), leader_epoch, message);
            }
            Command::Follow { leader } => self.follow(node, tp, leader),
            Command::AlterPartition { leader_epoch, partition_epoch, isr } => {
                let Some(broker_epoch) = process.epoch else { return };
                let leader = self.nodes[node].id;
                note!(self, "b{node} p{} wants isr {isr:?} at {partition_epoch}", tp.partition);
                let command = MetadataCommand::AlterPartition {
                    leader,
                    broker_epoch,
                    partition: tp,
                    leader_epoch,
                    partition_epoch,
                    isr,
                };
                self.ask_for_isr(node, tp, partition_epoch, command);
            }
            Command::GiveUpCopy => self.give_up_copy(node, tp),
            Command::Wake => {}
        }
    }

    fn reply(
        &mut self,
        node: NodeId,
        tp: TopicPartition,
        asked: Asked,
        result: Result<chronik_core::replication::Produced, ProduceError>,
    ) {
        note!(self, "b{node} p{} answers {asked:?}: {result:?}", tp.partition);
        if let Ok(produced) = result {
            self.check_acknowledgement(node, tp, asked, produced.base_offset);
        }
        self.answer(asked, result);
    }

    /// A producer's batch arrives.
    pub(crate) fn request(
        &mut self,
        node: NodeId,
        incarnation: u64,
        asked: Asked,
        tp: TopicPartition,
        batch: RecordBatch,
    ) {
        let Some(process) = self.process(node, incarnation) else { return };
        if !process.replicas.contains_key(&tp) {
            self.answer(asked, Err(ProduceError::NotLeader));
            return;
        }
        let acks = self.producers[asked.producer].acks();
        let Some(process) = self.process(node, incarnation) else { return };
        process.last_ticket += 1;
        let ticket = Ticket(process.last_ticket);
        process.tickets.insert(ticket, asked);
        process.inbox.push_back((tp, Event::Produce { ticket, batch, acks }));
        self.drain(node);
    }

    fn truncate(&mut self, node: NodeId, tp: TopicPartition, to: Offset, op: Op) {
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.unreadable.get(&tp).is_some_and(|bad| to <= bad.from) {
            process.repairing.insert(tp);
        }
        note!(self, "b{node} p{} truncates to {to}", tp.partition);
        self.counts.note(Activity::Truncation);
        self.check_truncation(node, tp, to);
        self.write(node, op);
    }

    /// What a disk had to cut off beyond what was asked for is looked at like what was asked for.
    fn check_cuts(&mut self, node: NodeId, ops: &[Op]) {
        for op in ops {
            if let Op::Truncate { partition, to } | Op::Repair { partition, to } = op
                && let Some(found) = self.nodes[node].disk.bounds(*partition)
                && found.end < *to
            {
                self.check_truncation(node, *partition, found.end);
            }
        }
    }

    /// Hands something to the disk: it goes with the next round, which begins at once if none is under way.
    pub(crate) fn write(&mut self, node: NodeId, op: Op) {
        let Some(process) = &mut self.nodes[node].process else { return };
        process.queue.push(op);
        self.sync(node);
    }

    fn sync(&mut self, node: NodeId) {
        let incarnation = self.nodes[node].incarnation;
        let (now_us, Node { slow_until_us, slow_syncs_until_us, hung_until_us, .. }) = (self.now_us, &self.nodes[node]);
        let slow_syncs = *slow_syncs_until_us > now_us;
        let (slow, hangs_us) = (*slow_until_us > now_us, hung_until_us.saturating_sub(now_us));
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.syncing.is_empty() && !process.queue.is_empty() {
            process.syncing = std::mem::take(&mut process.queue);
            process.syncing_since_us = now_us;
            let (low, high) = match (slow_syncs, slow) {
                (true, _) => (SLOW_SYNC_US, SLOW_SYNC_US),
                (false, true) => (50_000, 900_000),
                (false, false) => (200, 5_000),
            };
            self.within(hangs_us + low, hangs_us + high, Happening::Synced(node, incarnation));
        }
    }

    /// A round is on the disk.
    pub(crate) fn synced(&mut self, node: NodeId, incarnation: u64) {
        if self.process(node, incarnation).is_none() {
            return;
        }
        let Node { process: Some(process), disk, .. } = &mut self.nodes[node] else { return };
        let ops = std::mem::take(&mut process.syncing);
        if let Err(how) = disk.commit(&ops) {
            if disk.has_failed() {
                process.syncing = ops;
                self.disk_failed(node);
                return;
            }
            self.checker.fail(Invariant::LogRecovers, format!("broker {node}'s log: {how}"));
            return;
        }
        self.check_cuts(node, &ops);
        let Node { process: Some(process), disk, durable, rotten, .. } = &mut self.nodes[node] else { return };
        let mut ends: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        let mut deleted = Vec::new();
        for op in &ops {
            match op {
                Op::Append { partition: tp, batch } => {
                    ends.insert(*tp, batch.header().end_offset());
                    durable.insert(*tp, batch.header().end_offset());
                }
                Op::Truncate { partition: tp, to } | Op::Repair { partition: tp, to } => {
                    if let Some(end) = ends.remove(tp) {
                        process.inbox.push_back((*tp, Event::Durable { end }));
                    }
                    let found = disk.bounds(*tp);
                    if matches!(op, Op::Truncate { .. }) && found.as_ref().is_some_and(|found| found.end > *to) {
                        self.counts.note(Activity::TruncationRefused);
                        let log = process.log_state(*tp);
                        if let Some(bad) = process.unreadable.get(tp) {
                            process.inbox.push_back((*tp, Event::Damaged { from: bad.from }));
                        }
                        process.inbox.push_back((*tp, Event::Truncated { log }));
                        continue;
                    }
                    crate::storage::apply(&mut process.logs, op);
                    if let Some(found) = found.as_ref().filter(|_| process.unreadable.contains_key(tp)) {
                        // What is lost may have come before where it was to be cut.
                        let to = found.end;
                        crate::storage::apply(&mut process.logs, &Op::Truncate { partition: *tp, to });
                    }
                    process.take_bounds(*tp, found);
                    process.take_snapshot(*tp, disk.producers(*tp));
                    let repaired = process.repairing.contains(tp);
                    if repaired && process.unreadable.remove(tp).is_some_and(|bad| bad.lasts) {
                        *rotten = process.unreadable.values().any(|bad| bad.lasts);
                    }
                    if let Some(bad) = process.unreadable.get(tp) {
                        process.inbox.push_back((*tp, Event::Damaged { from: bad.from }));
                    }
                    let log = process.log_state(*tp);
                    durable.insert(*tp, log.end);
                    process.inbox.push_back((*tp, Event::Truncated { log }));
                }
                Op::AdvanceStart { partition: tp, to } | Op::BeginAt { partition: tp, at: to, .. } => {
                    if let Some(end) = ends.remove(tp) {
                        process.inbox.push_back((*tp, Event::Durable { end }));
                    }
                    crate::storage::apply(&mut process.logs, op);
                    process.take_snapshot(*tp, disk.producers(*tp));
                    let end = durable.entry(*tp).or_default();
                    *end = (*end).max(*to);
                    let log = process.log_state(*tp);
                    process.start_moved(*tp, &**disk);
                    *rotten &= process.unreadable.values().any(|bad| bad.lasts);
                    let damaged = process.unreadable.get(tp).map(|bad| bad.from);
                    let begun = process.beginning.get(tp) == Some(to);
                    process.inbox.push_back((
                        *tp,
                        if begun {
                            process.beginning.remove(tp);
                            if process.unreadable.remove(tp).is_some_and(|bad| bad.lasts) {
                                *rotten = process.unreadable.values().any(|bad| bad.lasts);
                            }
                            Event::Truncated { log }
                        } else {
                            Event::StartAdvanced { start: log.start, first_batch: log.first_batch, damaged }
                        },
                    ));
                }
                Op::Delete { partition: tp } => {
                    ends.remove(tp);
                    // What was queued before it may have made the log anew.
                    crate::storage::apply(&mut process.logs, op);
                    durable.remove(tp);
                    process.deleting.remove(tp);
                    deleted.push(*tp);
                }
            }
        }
        process.inbox.extend(ends.into_iter().map(|(tp, end)| (tp, Event::Durable { end })));
        self.round_ended(node, deleted);
    }

    fn round_ended(&mut self, node: NodeId, deleted: Vec<TopicPartition>) {
        self.sync(node);
        self.drain(node);
        // Whoever was given the partition again meanwhile begins with nothing.
        let id = self.nodes[node].id;
        for tp in deleted {
            self.update_replica(node, tp, id);
        }
        self.drain(node);
    }

    /// By its number.
    pub(crate) fn node_of(&self, id: BrokerId) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.id == id)
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Metadata(_) => "metadata",
        Event::Lease(_) => "lease",
        Event::Room(_) => "room",
        Event::Produce { .. } => "produce",
        Event::Durable { .. } => "durable",
        Event::Truncated { .. } => "truncated",
        Event::FromFollower { .. } => "from follower",
        Event::StreamClosed { .. } => "stream closed",
        Event::SendRefused { .. } => "send refused",
        Event::Writable { .. } => "writable",
        Event::ReadDone { .. } => "read done",
        Event::LeaderConnected { .. } => "leader connected",
        Event::LeaderDisconnected { .. } => "leader disconnected",
        Event::FromLeader { .. } => "from leader",
        Event::AlterPartitionFailed { .. } => "alter failed",
        Event::Abandoned { .. } => "abandoned",
        Event::AdvanceStart { .. } => "advance start",
        Event::StartAdvanced { .. } => "start advanced",
        Event::Damaged { .. } => "damaged",
        Event::CopyKept => "copy kept",
        Event::Tick => "tick",
    }
}
