//! The follower's side: it subscribes, cuts its log back where it went another way, and appends.

use super::context::Context;
use super::event::{Command, FollowerMessage, LeaderMessage, StreamId};
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::record::RecordBatch;
use crate::time::Instant;
use bytes::Bytes;
use std::time::Duration;

/// How long after a refusal the next subscription is tried, when no metadata comes before.
const RETRY_SUBSCRIBE: Duration = Duration::from_millis(50);

/// One followership: of one leader in one epoch.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) leader: BrokerId,
    pub(super) epoch: LeaderEpoch,
    phase: Phase,
    /// The leader may have heard of this log in this epoch.
    subscribed: bool,
    /// Bytes appended since the last acknowledgement to the leader.
    unacknowledged_bytes: usize,
    /// Where the last truncation that was asked for was to end.
    cut_to: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Disconnected,
    /// Subscribed, and not answered yet.
    Subscribing(StreamId),
    /// Subscribed as a log that ends before its damage, and not answered yet.
    Claiming(StreamId),
    /// The leader has answered that: it does not take this log for a whole one.
    Claimed(StreamId),
    /// The log is a prefix of the leader's.
    Streaming(StreamId),
    /// As when streaming, but what came last was not taken, as the disk had no room.
    Full(StreamId),
    /// The log is being cut back; the stream to subscribe again on, if it is still there.
    Truncating(Option<StreamId>),
    /// The other side does not lead yet.
    Waiting(StreamId, Instant),
    /// The leader has not got an epoch that is committed here, and its log comes further: compaction has left nothing of
    /// it there, or an operator has elected a leader without it. What is from the offset on is to be had from the leader
    /// as it is there, once nobody counts on it here.
    Superseded(StreamId, Superseded),
    /// The leader asked to cut back what is committed, its own log ends before, and this replica counts: it cannot have
    /// been elected rightly. What is here is kept, and nothing is taken from it.
    Refusing,
}

impl Phase {
    /// The connection to the leader, as far as it is there and of use.
    fn stream(self) -> Option<StreamId> {
        match self {
            Self::Subscribing(stream)
            | Self::Claiming(stream)
            | Self::Claimed(stream)
            | Self::Streaming(stream)
            | Self::Full(stream)
            | Self::Waiting(stream, _)
            | Self::Superseded(stream, _) => Some(stream),
            Self::Truncating(stream) => stream,
            Self::Disconnected | Self::Refusing => None,
        }
    }
}

/// From where on a log is not as its leader's, though it was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superseded {
    pub(super) from: Offset,
    /// The leader has not got as much: what was committed is given up.
    pub(super) gives_way: bool,
}

impl Follower {
    /// Follows the leader of that epoch.
    pub(super) fn start(cx: &mut Context<'_>, leader: BrokerId, epoch: LeaderEpoch) -> Self {
        cx.out.push(Command::Follow { leader: Some(leader) });
        Self {
            leader,
            epoch,
            phase: Phase::Disconnected,
            subscribed: false,
            unacknowledged_bytes: 0,
            cut_to: Offset::ZERO,
        }
    }

    pub(super) fn connected(&mut self, cx: &mut Context<'_>, leader: BrokerId, stream: StreamId) {
        if leader != self.leader {
            return;
        }
        match &mut self.phase {
            Phase::Truncating(on) => *on = Some(stream),
            Phase::Refusing => {}
            _ => self.subscribe(cx, stream),
        }
    }

    pub(super) fn disconnected(&mut self, leader: BrokerId) {
        if leader != self.leader {
            return;
        }
        match &mut self.phase {
            Phase::Truncating(on) => *on = None,
            Phase::Refusing => {}
            phase => *phase = Phase::Disconnected,
        }
    }

    /// Handles a message of the leader.
    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        epoch: LeaderEpoch,
        stream: StreamId,
        message: LeaderMessage,
    ) {
        if epoch != self.epoch {
            return;
        }
        match (self.phase, message) {
            (Phase::Subscribing(on), LeaderMessage::Started { .. }) if on == stream && cx.log.damaged.is_some() => {
                self.subscribe(cx, stream);
            }
            (
                Phase::Claiming(on),
                LeaderMessage::Started { .. } | LeaderMessage::Diverged { .. } | LeaderMessage::BeginAt { .. },
            ) if on == stream => {
                self.phase = Phase::Claimed(stream);
                if cx.log.damaged.is_none() {
                    // What was damaged has left with the log's start meanwhile.
                    self.subscribe(cx, stream);
                }
            }
            (Phase::Subscribing(on), LeaderMessage::Started { high_watermark, log_start }) if on == stream => {
                self.phase = Phase::Streaming(stream);
                learn(cx, high_watermark, log_start);
                self.acknowledge(cx, stream);
            }
            (Phase::Subscribing(on), LeaderMessage::Diverged { epoch, end }) if on == stream => {
                self.truncate(cx, stream, epoch, end);
            }
            (
                Phase::Subscribing(on) | Phase::Streaming(on) | Phase::Full(on),
                LeaderMessage::BeginAt { at, producers },
            ) if on == stream => {
                self.begin_at(cx, stream, at, producers);
            }
            (Phase::Subscribing(on) | Phase::Claiming(on) | Phase::Claimed(on), LeaderMessage::NotLeader { .. })
                if on == stream =>
            {
                self.phase = Phase::Waiting(stream, cx.now + RETRY_SUBSCRIBE);
            }
            (Phase::Streaming(on), LeaderMessage::Batches { high_watermark, log_start, .. })
                if on == stream && !cx.room =>
            {
                // Nothing says to the leader that they are here: it drops this replica from the ISR if they stay away.
                self.phase = Phase::Full(stream);
                learn(cx, high_watermark, log_start);
            }
            (Phase::Streaming(on), LeaderMessage::Batches { from, batches, high_watermark, log_start })
                if on == stream =>
            {
                if !self.append(cx, from, batches) {
                    return;
                }
                learn(cx, high_watermark, log_start);
                // The leader wants to hear of the disk. It hears of the append before only to keep its window open.
                if self.unacknowledged_bytes >= cx.config.window_bytes / 4 {
                    self.acknowledge(cx, stream);
                }
            }
            (
                Phase::Streaming(on) | Phase::Full(on),
                LeaderMessage::HighWatermark { high_watermark, log_start }
                | LeaderMessage::Batches { high_watermark, log_start, .. },
            ) if on == stream => {
                learn(cx, high_watermark, log_start);
            }
            (Phase::Streaming(on) | Phase::Full(on), LeaderMessage::NotLeader { .. }) if on == stream => {
                self.phase = Phase::Waiting(stream, cx.now + RETRY_SUBSCRIBE);
            }
            _ => {}
        }
    }

    /// This broker's disk has more, or less at its start.
    pub(super) fn durable(&mut self, cx: &mut Context<'_>) {
        if let Phase::Streaming(stream) | Phase::Full(stream) = self.phase {
            self.acknowledge(cx, stream);
        }
    }

    /// The disk takes again what is appended: asks for what was not taken.
    pub(super) fn has_room(&mut self, cx: &mut Context<'_>) {
        if let Phase::Full(stream) = self.phase {
            self.subscribe(cx, stream);
        }
    }

    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        if let Phase::Waiting(stream, at) = self.phase
            && cx.now >= at
        {
            self.subscribe(cx, stream);
        }
    }

    /// Whether it waits for a time.
    pub(super) fn needs_tick(&self) -> bool {
        matches!(self.phase, Phase::Waiting(..) | Phase::Full(_))
    }

    /// The log has been cut back, or damage was in the way.
    pub(super) fn truncated(&mut self, cx: &mut Context<'_>) {
        match self.phase {
            Phase::Truncating(Some(stream)) if cx.log.end > self.cut_to => {
                self.phase = Phase::Waiting(stream, cx.now + RETRY_SUBSCRIBE);
            }
            Phase::Truncating(Some(stream)) => self.subscribe(cx, stream),
            _ => self.phase = Phase::Disconnected,
        }
    }

    /// A newer leadership does not need this followership's stream.
    pub(super) fn stop_truncating(&mut self) {
        self.phase = Phase::Disconnected;
    }

    pub(super) fn is_truncating(&self) -> bool {
        matches!(self.phase, Phase::Truncating(_))
    }

    /// Where the truncation under way was to end.
    pub(super) fn cut_to(&self) -> Offset {
        self.cut_to
    }

    /// Whether the leader knows that this log is damaged.
    pub(super) fn has_claimed(&self) -> bool {
        matches!(self.phase, Phase::Claimed(_))
    }

    /// Whether the leader may have heard of this log in this epoch.
    pub(super) fn has_subscribed(&self) -> bool {
        self.subscribed
    }

    /// The disk has lost something, so that the leader must not go on taking this log for a whole one; or what it has lost is
    /// before the log's start now, and the leader may do so again.
    pub(super) fn damaged(&mut self, cx: &mut Context<'_>) {
        if let Phase::Streaming(stream) | Phase::Claimed(stream) | Phase::Superseded(stream, _) = self.phase {
            self.subscribe(cx, stream);
        }
    }

    /// From where on this log is not as its leader's, though it was committed: like damage, it must not be counted on
    /// any more before it is cut off.
    pub(super) fn superseded(&self) -> Option<Superseded> {
        match self.phase {
            Phase::Superseded(_, superseded) => Some(superseded),
            _ => None,
        }
    }

    /// Cuts off what cannot be read, committed or not: nobody counts on it.
    pub(super) fn repair(&mut self, cx: &mut Context<'_>, from: Offset) {
        self.phase = Phase::Truncating(self.phase.stream());
        self.cut_to = from;
        cx.out.push(Command::Repair { to: from });
    }

    /// Whether the log is known to be a prefix of the leader's.
    pub(super) fn is_streaming(&self) -> bool {
        matches!(self.phase, Phase::Streaming(_) | Phase::Full(_))
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.phase == Phase::Refusing
    }

    fn subscribe(&mut self, cx: &mut Context<'_>, stream: StreamId) {
        let (log_end, last_epoch) = cx.log.readable_end();
        self.subscribed = true;
        self.phase = if log_end < cx.log.end { Phase::Claiming(stream) } else { Phase::Subscribing(stream) };
        let message = FollowerMessage::Subscribe { log_end, last_epoch, log_start: Some(cx.log.start) };
        self.send(cx, stream, message);
    }

    /// Cuts the log back to where it went another way than the leader's. The high watermark plays no part in
    /// where that is: this broker's may be behind what is committed, and truncating to it would lose that.
    fn truncate(&mut self, cx: &mut Context<'_>, stream: StreamId, epoch: LeaderEpoch, end: Offset) {
        let own = cx.log.epochs.end_of(epoch, cx.log.end).map_or(cx.log.end, |(_, end)| end);
        let to = own.min(end);
        // A log without records that nobody counts on has nothing to lose.
        let has_nothing = cx.log.start == cx.log.end && !is_counted(cx);
        if to < cx.log.high_watermark && !has_nothing {
            let comes_further = end >= cx.log.high_watermark;
            self.phase = if comes_further || !is_counted(cx) {
                Phase::Superseded(stream, Superseded { from: to, gives_way: !comes_further })
            } else {
                Phase::Refusing
            };
        } else if to >= cx.log.end {
            // It did not go another way as far as this log knows: perhaps another leadership does better.
            self.phase = Phase::Waiting(stream, cx.now + RETRY_SUBSCRIBE);
        } else {
            self.phase = Phase::Truncating(Some(stream));
            self.cut_to = to;
            cx.out.push(Command::Truncate { to });
        }
    }

    /// Drops everything, and begins where the leader's log does: all before that was committed and is removed. What is
    /// here from `at` on cannot be of the leader's log, whose first batch ends later, and goes first.
    fn begin_at(&mut self, cx: &mut Context<'_>, stream: StreamId, at: Offset, producers: Option<Bytes>) {
        // A log without records has nothing to lose before its start.
        if at < cx.log.high_watermark && cx.log.start < cx.log.end {
            self.phase = if is_counted(cx) {
                Phase::Refusing
            } else {
                Phase::Superseded(stream, Superseded { from: at, gives_way: true })
            };
            return;
        }
        self.phase = Phase::Truncating(Some(stream));
        self.cut_to = at;
        cx.out.push(if at < cx.log.end { Command::Truncate { to: at } } else { Command::BeginAt { at, producers } });
    }

    /// Appends what continues the log that ends at `from`; false if something does not.
    fn append(&mut self, cx: &mut Context<'_>, from: Offset, batches: Vec<RecordBatch>) -> bool {
        if from != cx.log.end {
            self.begin_anew(cx);
            return false;
        }
        for batch in batches {
            let h = batch.header();
            let continues = h.base_offset >= cx.log.end && h.end_offset() > h.base_offset;
            let in_epoch =
                h.leader_epoch <= self.epoch && cx.log.last_epoch().is_none_or(|last| h.leader_epoch >= last);
            if !continues || !in_epoch {
                self.begin_anew(cx);
                return false;
            }
            if h.base_offset > cx.log.end && cx.log.start == cx.log.end {
                // A log is created by its first operation, and begins there: not behind the gap.
                cx.out.push(Command::AdvanceStart { to: cx.log.start });
            }
            cx.log.append(cx.now, h);
            self.unacknowledged_bytes = self.unacknowledged_bytes.saturating_add(batch.bytes().len());
            cx.out.push(Command::Append { batch });
        }
        true
    }

    /// Something is not as agreed: asks for a new stream.
    fn begin_anew(&mut self, cx: &mut Context<'_>) {
        self.phase = Phase::Disconnected;
        cx.out.push(Command::Follow { leader: Some(self.leader) });
    }

    fn acknowledge(&mut self, cx: &mut Context<'_>, stream: StreamId) {
        self.unacknowledged_bytes = 0;
        let message =
            FollowerMessage::Ack { appended: cx.log.end, durable: cx.log.durable, log_start: Some(cx.log.start) };
        self.send(cx, stream, message);
    }

    /// Sends a message to the leader.
    fn send(&self, cx: &mut Context<'_>, stream: StreamId, message: FollowerMessage) {
        let (leader, leader_epoch) = (self.leader, self.epoch);
        cx.out.push(Command::ToLeader { leader, leader_epoch, stream, message });
    }
}

/// Whether this replica is in sync, or may be elected.
fn is_counted(cx: &Context<'_>) -> bool {
    cx.state.isr.contains(&cx.me) || cx.state.elr.contains(&cx.me)
}

/// Takes over what the leader says of its log. The start follows as far as it is known here that what is before it is
/// committed.
fn learn(cx: &mut Context<'_>, high_watermark: Offset, log_start: Offset) {
    cx.log.raise_high_watermark(high_watermark);
    let to = log_start.min(cx.log.high_watermark);
    if cx.log.wants_start(to) {
        cx.out.push(Command::AdvanceStart { to });
    }
}
