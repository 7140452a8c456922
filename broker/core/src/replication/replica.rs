//! The replica of one partition: which role it has, and what an event means to it in that role.

use super::context::Context;
use super::damage::{Damage, Next, Standing};
use super::event::{
    Command, Config, Event, FollowerMessage, LeaderMessage, LogState, PartitionState, ProduceError, StreamId,
};
use super::follower::Follower;
use super::isr::IsrView;
use super::leader::Leader;
use super::log::Log;
use super::status::{Lag, Readable, Role as RoleName, Status};
use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch, ProducerId};
use crate::producers::{Appended, Producers};
use crate::time::Instant;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many followers may subscribe to a leadership that this broker does not know of yet. More than any
/// replication factor in use; whoever comes in vain tries again.
const MAX_EARLY: usize = 16;

/// The replica of one partition on this broker.
#[derive(Debug)]
pub struct Replica {
    pub(super) me: BrokerId,
    /// Shared by all replicas of a broker.
    config: Arc<Config>,
    pub(super) log: Log,
    /// What the metadata log says. While a truncation is under way, the role may lag behind it.
    pub(super) state: PartitionState,
    pub(super) lease: Instant,
    room: bool,
    pub(super) role: Role,
    /// Subscriptions to a leader epoch that this replica has not yet seen in the metadata log: the follower has
    /// learnt of the election first.
    early: BTreeMap<BrokerId, Early>,
    /// What the disk has lost, until it is repaired. Boxed, as hardly any replica has that.
    pub(super) damage: Option<Box<Damage>>,
}

#[derive(Debug)]
pub(super) enum Role {
    Idle,
    Leader(Leader),
    Follower(Follower),
}

#[derive(Clone, Copy, Debug)]
struct Early {
    broker_epoch: BrokerEpoch,
    leader_epoch: LeaderEpoch,
    stream: StreamId,
    message: FollowerMessage,
}

macro_rules! context {
    ($self:ident, $now:expr, $out:expr) => {
        Context {
            me: $self.me,
            now: $now,
            config: &$self.config,
            log: &mut $self.log,
            out: $out,
            state: &$self.state,
            lease: $self.lease,
            room: $self.room,
        }
    };
}

impl Replica {
    /// A replica on broker `me` whose recovered log is as `log` says. It has no role before metadata gives it
    /// one.
    pub fn new(me: BrokerId, config: impl Into<Arc<Config>>, log: LogState) -> Self {
        let state = PartitionState {
            leader: None,
            leader_epoch: LeaderEpoch(-1),
            partition_epoch: PartitionEpoch(-1),
            isr: Vec::new(),
            replicas: Vec::new(),
            stopping: Vec::new(),
            elr: Vec::new(),
            removing: Vec::new(),
            min_insync_replicas: 1,
            older_producers: ProducerId(0),
        };
        Self {
            me,
            config: config.into(),
            log: Log::new(log),
            state,
            lease: Instant::default(),
            room: true,
            role: Role::Idle,
            early: BTreeMap::new(),
            damage: None,
        }
    }

    /// Takes an event, and adds to `out` what is to be done about it, in order.
    pub fn step(&mut self, now: Instant, event: Event, out: &mut Vec<Command>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.watch(now, self.log.end);
        }
        match event {
            Event::Metadata(state) => self.metadata(now, state, out),
            Event::Lease(until) => self.lease = until,
            Event::Room(room) => self.room(now, room, out),
            Event::Durable { end } => self.durable(now, end, out),
            Event::StartAdvanced { start, first_batch, damaged } => {
                self.start_advanced(now, (start, first_batch), damaged, out);
            }
            Event::Truncated { log } => self.truncated(now, log, out),
            Event::Damaged { from } => self.damaged(now, from, out),
            Event::CopyKept => {
                if let Some(damage) = &mut self.damage {
                    damage.kept(self.state.partition_epoch, now);
                }
            }
            Event::FromFollower { .. } | Event::StreamClosed { .. } => self.follower_event(now, event, out),
            Event::Produce { ticket, .. } if !matches!(self.role, Role::Leader(_)) => {
                out.push(Command::Reply { ticket, result: Err(ProduceError::NotLeader) });
            }
            _ => self.in_role(now, event, out),
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.advance(&mut context!(self, now, out));
        }
        self.repair_damage(now, out);
        debug_assert!(self.valid(now, out), "the replica contradicts itself: {self:?}");
    }

    /// Hears what holds for all replicas of its broker, if it is something else than it knows: until when it may act, and
    /// whether the disk has room. To be called before each event, and when either begins or ends.
    pub fn meet(&mut self, now: Instant, lease: Instant, room: bool, out: &mut Vec<Command>) {
        if self.room != room {
            self.step(now, Event::Room(room), out);
        }
        if self.lease != lease {
            self.step(now, Event::Lease(lease), out);
        }
    }

    /// Whether something is to happen here by time alone. If not, an [`Event::Tick`] would do nothing, however late, before
    /// another event comes.
    pub fn needs_tick(&mut self, now: Instant) -> bool {
        let mut nothing = Vec::new();
        let cx = &context!(self, now, &mut nothing);
        let in_role = match &self.role {
            Role::Leader(leader) => leader.needs_tick(cx),
            Role::Follower(follower) => follower.needs_tick(),
            Role::Idle => false,
        };
        in_role || self.damage.is_some()
    }

    fn room(&mut self, now: Instant, room: bool, out: &mut Vec<Command>) {
        self.room = room;
        let cx = &mut context!(self, now, out);
        if let Role::Follower(follower) = &mut self.role
            && room
        {
            follower.has_room(cx);
        }
    }

    fn in_role(&mut self, now: Instant, event: Event, out: &mut Vec<Command>) {
        let cx = &mut context!(self, now, out);
        match &mut self.role {
            Role::Leader(leader) => leader.on(cx, event),
            Role::Follower(follower) => match event {
                Event::LeaderConnected { leader, stream } => follower.connected(cx, leader, stream),
                Event::LeaderDisconnected { leader } => follower.disconnected(leader),
                Event::FromLeader { leader_epoch, stream, message } => {
                    follower.handle(cx, leader_epoch, stream, message);
                }
                Event::Tick => follower.tick(cx),
                _ => {}
            },
            Role::Idle => {}
        }
        if let Role::Follower(follower) = &self.role
            && let Some(superseded) = follower.superseded()
        {
            self.damaged(now, superseded.from, out);
            if let Some(damage) = self.damage.as_mut().filter(|_| superseded.gives_way) {
                damage.gives_way();
            }
        }
    }

    fn metadata(&mut self, now: Instant, state: PartitionState, out: &mut Vec<Command>) {
        let known = &self.state;
        if state.leader_epoch < known.leader_epoch || state.partition_epoch < known.partition_epoch {
            return;
        }
        self.state = state;
        self.take_role(now, out);
        for (follower, early) in std::mem::take(&mut self.early) {
            let Early { broker_epoch, leader_epoch, stream, message } = early;
            let event = Event::FromFollower { follower, broker_epoch, leader_epoch, stream, message };
            self.follower_event(now, event, out);
        }
    }

    /// Takes the role that metadata gives, unless a truncation has to end first.
    fn take_role(&mut self, now: Instant, out: &mut Vec<Command>) {
        let epoch = self.state.leader_epoch;
        let cx = &mut context!(self, now, out);
        let leads = leads(cx.state, cx.me);
        let assigned = cx.state.replicas.iter().any(|(id, _)| *id == cx.me);
        let leader_to_follow = cx.state.leader.filter(|id| assigned && *id != cx.me);
        match &mut self.role {
            Role::Follower(follower) if follower.is_truncating() => return,
            Role::Leader(leader) if leads && leader.epoch == epoch => return leader.metadata(cx, cx.state),
            Role::Follower(f) if leader_to_follow == Some(f.leader) && f.epoch == epoch => return,
            _ => {}
        }
        match std::mem::replace(&mut self.role, Role::Idle) {
            Role::Leader(leader) => {
                leader.end(cx);
                cx.out.push(Command::Wake);
            }
            Role::Follower(_) if leader_to_follow.is_none() => cx.out.push(Command::Follow { leader: None }),
            _ => {}
        }
        if leads {
            self.role = Role::Leader(Leader::start(cx, cx.state));
            cx.out.push(Command::Wake);
        } else if let Some(leader) = leader_to_follow {
            self.role = Role::Follower(Follower::start(cx, leader, epoch));
        }
    }

    fn damaged(&mut self, now: Instant, from: Offset, out: &mut Vec<Command>) {
        let from = from.max(self.log.start);
        let epoch = self.state.leader_epoch;
        let silent = matches!(&self.role, Role::Follower(f) if f.epoch == epoch && !f.has_subscribed());
        let told_in = if silent { LeaderEpoch(epoch.0.saturating_sub(1)) } else { epoch };
        let mut damage = Damage::new(from, told_in, now);
        if let Some(known) = self.damage.take() {
            damage.comes_after(*known);
        }
        let from = damage.from;
        self.damage = Some(Box::new(damage));
        self.log.damaged = Some(from);
        let cx = &mut context!(self, now, out);
        if let Role::Follower(follower) = &mut self.role {
            follower.damaged(cx);
        }
    }

    fn start_advanced(
        &mut self,
        now: Instant,
        (start, first_batch): (Offset, Offset),
        damaged: Option<Offset>,
        out: &mut Vec<Command>,
    ) {
        self.log.start_advanced(start, first_batch);
        if self.log.start == self.log.end && !matches!(self.role, Role::Leader(_)) {
            // As after a start from the disk: an epoch without records would have the next leader begin this log anew.
            self.log.epochs.drop_from(self.log.end);
        }
        let removed = match &mut self.damage {
            Some(damage) if !damage.is_cut() && damage.from < self.log.start => {
                match damaged {
                    Some(from) => damage.from = from.max(self.log.start),
                    None => damage.removed(),
                }
                self.log.damaged = damaged.map(|_| damage.from);
                true
            }
            _ => false,
        };
        let cx = &mut context!(self, now, out);
        if let Role::Follower(follower) = &mut self.role {
            if removed {
                follower.damaged(cx);
            }
            follower.durable(cx);
        }
    }

    /// Takes the next step to repair damage.
    fn repair_damage(&mut self, now: Instant, out: &mut Vec<Command>) {
        let Some(damage) = &mut self.damage else { return };
        let follower = match &self.role {
            Role::Follower(follower) if follower.is_truncating() => return,
            Role::Follower(follower) => Some(follower),
            Role::Leader(_) | Role::Idle => None,
        };
        let epoch = self.state.leader_epoch;
        if follower.is_some_and(|f| f.has_claimed() && f.epoch == epoch) {
            damage.acknowledged(epoch, now);
        }
        let (isr, elr) = (&self.state.isr, &self.state.elr);
        let standing = Standing {
            epoch,
            partition_epoch: self.state.partition_epoch,
            log_end: self.log.end,
            counted: self.state.leader == Some(self.me) || isr.contains(&self.me) || elr.contains(&self.me),
            follows: follower.is_some_and(|f| f.epoch == epoch),
            unsubscribed: follower.is_none_or(|f| !f.has_subscribed()),
        };
        let from = damage.from;
        let next = damage.next(now, standing);
        if damage.is_cut() {
            // What is left can be read.
            self.log.damaged = None;
        }
        match next {
            Next::Wait => {}
            Next::GiveUpCopy => out.push(Command::GiveUpCopy),
            Next::Done => {
                self.damage = None;
                self.log.damaged = None;
            }
            Next::Repair => {
                damage.cut(self.log.high_watermark);
                let cx = &mut context!(self, now, out);
                if let Role::Follower(follower) = &mut self.role {
                    follower.repair(cx, from);
                }
            }
        }
    }

    fn durable(&mut self, now: Instant, end: Offset, out: &mut Vec<Command>) {
        let cx = &mut context!(self, now, out);
        match &mut self.role {
            // What is durable then is what the truncation leaves.
            Role::Follower(follower) if follower.is_truncating() => return,
            _ => cx.log.durable = cx.log.durable.max(end.min(cx.log.end)),
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.durable(cx);
        }
    }

    fn truncated(&mut self, now: Instant, log: LogState, out: &mut Vec<Command>) {
        let Role::Follower(follower) = &self.role else { return };
        if !follower.is_truncating() {
            return;
        }
        let asked = follower.cut_to();
        if log.end > asked {
            // Damage was in the way: all is as it was, and on the disk.
            self.log.durable = self.log.end;
        } else {
            self.log.truncated(log);
        }
        // Where everything was dropped, there is nothing left that could be damaged.
        let (start, end) = (self.log.start, self.log.end);
        let dropped = start == end && end >= asked;
        self.damage.take_if(|damage| !damage.is_cut() && dropped && damage.from < start);
        self.log.damaged = self.damage.as_ref().filter(|damage| !damage.is_cut()).map(|damage| damage.from);
        let stays = |f: &Follower| self.state.leader == Some(f.leader) && self.state.leader_epoch == f.epoch;
        let cx = &mut context!(self, now, out);
        if let Role::Follower(follower) = &mut self.role {
            if stays(follower) {
                follower.truncated(cx);
            } else {
                follower.stop_truncating();
            }
        }
        self.take_role(now, out);
    }

    /// Followers speak to whom they take for the leader: it may be too early for that, or too late.
    fn follower_event(&mut self, now: Instant, event: Event, out: &mut Vec<Command>) {
        match event {
            Event::StreamClosed { follower, stream } => {
                if self.early.get(&follower).is_some_and(|early| early.stream == stream) {
                    self.early.remove(&follower);
                }
                self.in_role(now, event, out);
            }
            Event::FromFollower { follower, broker_epoch, leader_epoch, stream, message } => {
                let subscribes = matches!(message, FollowerMessage::Subscribe { .. });
                let known = self.state.leader_epoch;
                if matches!(&self.role, Role::Leader(leader) if leader.epoch == leader_epoch) {
                    self.in_role(now, event, out);
                } else if subscribes && leader_epoch > known && self.has_room_for_early(follower) {
                    let early = Early { broker_epoch, leader_epoch, stream, message };
                    let known = self.early.entry(follower).or_insert(early);
                    // A former connection may still deliver what was sent before the newer one was made.
                    if (early.broker_epoch, early.stream) >= (known.broker_epoch, known.stream) {
                        *known = early;
                    }
                } else if subscribes {
                    // Said in the epoch that was asked for, so that the follower listens.
                    let message = LeaderMessage::NotLeader { leader_epoch: known };
                    out.push(Command::Send { follower, stream, leader_epoch, message });
                }
            }
            _ => {}
        }
    }

    fn has_room_for_early(&self, follower: BrokerId) -> bool {
        self.early.len() < MAX_EARLY || self.early.contains_key(&follower)
    }

    /// What clients may read; `None` if this replica does not lead. What it has once known to be committed may be read
    /// without a lease and before it knows more.
    pub fn readable(&self, now: Instant) -> Option<Readable> {
        let high_watermark = self.leadership(now).and_then(|_| self.high_watermark());
        matches!(self.role, Role::Leader(_)).then_some(Readable { end: self.log.high_watermark, high_watermark })
    }

    /// All that is committed; `None` if this replica does not lead, or does not know yet because its high watermark has
    /// not reached the start of its epoch.
    pub fn high_watermark(&self) -> Option<Offset> {
        match &self.role {
            Role::Leader(leader) => Some(self.log.high_watermark).filter(|hw| *hw >= leader.epoch_start),
            _ => None,
        }
    }

    /// The leadership's epoch, while this replica leads and its lease holds.
    pub fn leadership(&self, now: Instant) -> Option<LeaderEpoch> {
        match &self.role {
            Role::Leader(leader) if now < self.lease => Some(leader.epoch),
            _ => None,
        }
    }

    /// Until when this broker may act, as far as this replica knows.
    pub fn lease(&self) -> Instant {
        self.lease
    }

    /// The newest leader epoch in the metadata; -1 before any.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state.leader_epoch
    }

    /// The offset after the last record, committed or not.
    pub fn log_end(&self) -> Offset {
        self.log.end
    }

    /// The first offset that is still there.
    pub fn log_start(&self) -> Offset {
        self.log.start
    }

    /// The least first offset of this replica and of all others that are alive: what is before it is gone wherever a
    /// leader may be elected. `None` if this replica does not lead.
    pub fn low_watermark(&self) -> Option<Offset> {
        let Role::Leader(leader) = &self.role else { return None };
        let alive = |id: &BrokerId| self.state.replicas.iter().any(|(other, epoch)| other == id && epoch.is_some());
        let others = leader.followers.iter().filter(|(id, _)| alive(id)).filter_map(|(_, p)| p.low_watermark());
        Some(others.fold(self.log.start, Offset::min))
    }

    /// End of what is synced on this broker.
    pub fn durable_end(&self) -> Offset {
        self.log.durable
    }

    /// The greatest epoch not above `epoch`, and where it ends here; `None` if it is newer than all known ones
    /// (KIP-279).
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.log.epochs.end_of(epoch, self.log.end)
    }

    /// The idempotent producers that wrote to the log.
    pub fn producers(&self) -> &Producers {
        &self.log.producers
    }

    /// The idempotent producers, to forget some of them, and when they wrote.
    pub fn producers_to_forget(&mut self) -> (&mut Producers, &Appended) {
        (&mut self.log.producers, &self.log.appended)
    }

    /// Every leader epoch of the log with the offset of its first record, oldest first.
    pub fn epochs(&self) -> &[(LeaderEpoch, Offset)] {
        self.log.epochs.entries()
    }

    /// The leader's view of the ISR, while this replica leads.
    pub fn isr(&self) -> Option<&IsrView> {
        match &self.role {
            Role::Leader(leader) => Some(&leader.isr),
            _ => None,
        }
    }

    /// The followers that are not in sync, of a partition that is led here.
    pub fn lags(&self, now: Instant) -> Vec<Lag> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let outside = leader.followers.iter().filter(|(id, _)| !leader.isr.committed().contains(id));
        let lag = outside.map(|(id, progress)| Lag {
            follower: *id,
            behind: progress.known_end().map(|end| u64::try_from(self.log.end.0 - end.0).unwrap_or(0)),
            for_at_least: now.since(progress.caught_up_at),
        });
        lag.collect()
    }

    /// For logs and metrics.
    pub fn status(&self) -> Status {
        let (role, pending) = match &self.role {
            Role::Idle => (RoleName::Idle, 0),
            Role::Leader(leader) => (RoleName::Leader, leader.pending()),
            Role::Follower(follower) if follower.is_truncating() => (RoleName::Truncating, 0),
            Role::Follower(follower) if follower.is_refusing() => (RoleName::RefusingToTruncate, 0),
            Role::Follower(_) => (RoleName::Follower, 0),
        };
        Status {
            role,
            leader_epoch: self.state.leader_epoch,
            log_end: self.log.end,
            durable_end: self.log.durable,
            committed: self.log.high_watermark,
            pending,
        }
    }

    fn valid(&mut self, now: Instant, out: &mut Vec<Command>) -> bool {
        let cx = &context!(self, now, out);
        let role = match &self.role {
            Role::Leader(leader) => leader.valid(cx),
            Role::Follower(_) | Role::Idle => true,
        };
        role && self.log.valid() && self.early.len() <= MAX_EARLY
    }
}

/// Whether metadata makes this broker the leader. A leader that is fenced, or not in the ISR, is none: such an
/// entry is of a former registration, or wrong.
fn leads(state: &PartitionState, me: BrokerId) -> bool {
    state.leader == Some(me)
        && state.isr.contains(&me)
        && state.replicas.iter().any(|(id, epoch)| *id == me && epoch.is_some())
}
