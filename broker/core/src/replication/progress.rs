//! What a leader knows of one follower: how far it has got, and what is on its way to it.

use super::event::StreamId;
use crate::ids::{BrokerEpoch, Offset};
use crate::record::RecordBatch;
use crate::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// A follower that lacks no more than was written in this time is close.
const CLOSE: Duration = Duration::from_millis(200);
/// How long the high watermark waits for one that is close. It comes with its next acknowledgement.
const WAIT: Duration = Duration::from_millis(500);
/// From one wait for a follower to the next, if it did not come.
const WAIT_AGAIN: Duration = Duration::from_secs(30);

/// One follower, as its messages of this leader epoch tell.
#[derive(Debug)]
pub(super) struct Progress {
    /// The newest subscription; older ones are ignored, even when this one is gone.
    newest: Option<(BrokerEpoch, StreamId)>,
    /// `None` while the follower is not connected, or its log differs.
    pub(super) stream: Option<Stream>,
    /// What it has durably, as acknowledged in this leader epoch.
    durable: Option<Offset>,
    /// Where its log began when it subscribed, as far as it said. It moves only to where the leader's begins.
    pub(super) log_start: Option<Offset>,
    /// Where its log begins durably, as it said last in this subscription, and 0 before that; `None` of a broker of a
    /// former release, which does not say.
    acknowledged_start: Option<Offset>,
    /// When it last had all that the leader had.
    pub(super) caught_up_at: Instant,
    /// Whether this leadership has seen it so.
    caught_up: bool,
    /// Since when the high watermark waits for it, or did last.
    waited_since: Option<Instant>,
    /// Since when the follower's disk has not moved, though another had more, and what it had.
    stands_since: Option<(Instant, Option<Offset>)>,
    /// The leader's log end at some moment: a follower that reaches it was caught up at that moment, even if the
    /// log has grown since.
    mark: (Offset, Instant),
}

/// A subscription whose log is a prefix of the leader's.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// The next offset to send.
    pub(super) next: Offset,
    /// What the follower has appended.
    appended: Offset,
    /// End and bytes of each batch that is sent and not yet appended.
    on_its_way: VecDeque<(Offset, usize)>,
    window_used: usize,
    /// From where a read is under way.
    pub(super) reading: Option<Offset>,
    /// The connection has no room.
    pub(super) refused: bool,
    /// The high watermark and log start offset that were last sent to the follower.
    pub(super) last_sent: (Offset, Offset),
}

impl Progress {
    pub(super) fn new(now: Instant, log_end: Offset) -> Self {
        Self {
            newest: None,
            stream: None,
            durable: None,
            log_start: None,
            acknowledged_start: Some(Offset::ZERO),
            caught_up_at: now,
            caught_up: false,
            waited_since: None,
            stands_since: None,
            mark: (log_end, now),
        }
    }

    pub(super) fn durable(&self) -> Option<Offset> {
        self.durable
    }

    /// What it is known to have in this leadership: what it has acknowledged, or said when it subscribed.
    pub(super) fn known_end(&self) -> Option<Offset> {
        self.durable.or(self.stream.as_ref().map(|stream| stream.appended))
    }

    /// How far the follower's log reaches, if the offset is within it and the follower is connected.
    pub(super) fn readable_at(&self, offset: Offset) -> Option<Offset> {
        let begins_before = self.log_start.is_some_and(|start| start <= offset);
        self.durable.filter(|end| self.stream.is_some() && begins_before && *end >= offset)
    }

    /// The broker epoch that the live stream's handshake proved.
    pub(super) fn broker_epoch(&self) -> Option<BrokerEpoch> {
        self.stream.as_ref().and(self.newest).map(|(epoch, _)| epoch)
    }

    /// Takes note of a subscription of a follower whose log ends at `log_end`; false if a newer one is known.
    pub(super) fn subscribe(&mut self, broker_epoch: BrokerEpoch, stream: StreamId, log_end: Offset) -> bool {
        if self.newest.is_some_and(|newest| (broker_epoch, stream) < newest) {
            return false;
        }
        if self.newest.is_none_or(|(epoch, _)| epoch != broker_epoch) {
            // Another process, perhaps with another disk: what the former one had says nothing.
            self.durable = None;
            self.caught_up = false;
            self.waited_since = None;
        }
        if self.durable.is_some_and(|durable| durable > log_end) {
            // Its disk has lost what it had acknowledged.
            self.durable = Some(log_end);
            self.caught_up = false;
            self.waited_since = None;
        }
        self.newest = Some((broker_epoch, stream));
        self.stream = None;
        self.acknowledged_start = Some(Offset::ZERO);
        true
    }

    /// The follower's log is a prefix of the leader's up to `log_end`.
    pub(super) fn start(&mut self, stream: StreamId, log_end: Offset, last_sent: (Offset, Offset)) {
        self.stream = Some(Stream {
            id: stream,
            next: log_end,
            appended: log_end,
            on_its_way: VecDeque::new(),
            window_used: 0,
            reading: None,
            refused: false,
            last_sent,
        });
    }

    /// The live stream, if it is that one.
    pub(super) fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.stream.as_mut().filter(|s| s.id == id)
    }

    pub(super) fn close(&mut self, id: StreamId) {
        if self.stream.as_ref().is_some_and(|s| s.id == id) {
            self.stream = None;
        }
    }

    /// Takes an acknowledgement; false if it is of another stream, or of what was never sent.
    pub(super) fn acknowledge(
        &mut self,
        stream: (BrokerEpoch, StreamId),
        (appended, durable): (Offset, Offset),
    ) -> bool {
        let current = self.newest == Some(stream);
        let Some(s) = self.stream.as_mut().filter(|s| current && durable <= appended && appended <= s.next) else {
            return false;
        };
        s.appended = s.appended.max(appended);
        while s.on_its_way.front().is_some_and(|(end, _)| *end <= appended) {
            let bytes = s.on_its_way.pop_front().map_or(0, |(_, bytes)| bytes);
            s.window_used -= bytes;
        }
        self.durable = Some(self.durable.map_or(durable, |d| d.max(durable)));
        true
    }

    /// Takes note of where its log begins, as its acknowledgement says.
    pub(super) fn starts_at(&mut self, log_start: Option<Offset>) {
        self.acknowledged_start = log_start;
    }

    /// Before which offset its log has nothing, as far as it is known; `None` of a broker of a former release, which does
    /// not say.
    pub(super) fn low_watermark(&self) -> Option<Offset> {
        self.acknowledged_start
    }

    /// Notes whether the follower is caught up with a log that ends at `log_end`.
    pub(super) fn watch(&mut self, now: Instant, log_end: Offset) {
        let (Some(durable), Some(_)) = (self.durable, &self.stream) else { return };
        if durable >= log_end {
            self.caught_up_at = now;
        } else if durable >= self.mark.0 {
            self.caught_up_at = self.caught_up_at.max(self.mark.1);
        } else {
            return;
        }
        self.caught_up = true;
        self.mark = (log_end, now);
    }

    /// Whether it may become late, or be found to stand still, without any event.
    pub(super) fn lacks_something(&self, log_end: Offset) -> bool {
        self.durable.is_none_or(|durable| durable < log_end) || self.stands_since.is_some()
    }

    /// Notes whether the follower's disk moves, while another has all below `furthest`. One that was not heard in this
    /// leadership holds the high watermark as much, where that waits: it may not reach this leader.
    pub(super) fn watch_disk(&mut self, now: Instant, high_watermark: Offset, furthest: Offset) {
        let lacks = self.durable.unwrap_or(high_watermark) < furthest;
        let stands = self.stands_since.is_some_and(|(_, durable)| durable == self.durable);
        if !lacks {
            self.stands_since = None;
        } else if !stands {
            self.stands_since = Some((now, self.durable));
        }
    }

    /// How long the follower's disk has stood still, as far as it should have moved.
    pub(super) fn stands_for(&self, now: Instant) -> Duration {
        self.stands_since
            .filter(|(_, durable)| *durable == self.durable)
            .map_or(Duration::ZERO, |(at, _)| now.since(at))
    }

    /// Whether a follower that is to join should be waited for: once it was close, for as long as it may take to come up
    /// to where the high watermark waits; and if it does not, not again for a while.
    pub(super) fn worth_waiting_for(&mut self, now: Instant) -> bool {
        let close = self.caught_up && now.since(self.caught_up_at) <= CLOSE;
        match self.waited_since.map(|since| now.since(since)) {
            Some(waited) if waited <= WAIT => true,
            Some(waited) if waited <= WAIT_AGAIN => false,
            _ if close => {
                self.waited_since = Some(now);
                true
            }
            _ => false,
        }
    }

    /// It has joined.
    pub(super) fn has_joined(&mut self) {
        self.waited_since = None;
    }

    pub(super) fn valid(&self, log_end: Offset) -> bool {
        self.durable.is_none_or(|d| d <= log_end)
            && self.stream.as_ref().is_none_or(|s| {
                s.appended <= s.next
                    && s.next <= log_end
                    && s.window_used == s.on_its_way.iter().map(|(_, bytes)| bytes).sum::<usize>()
                    && s.on_its_way.back().is_none_or(|(end, _)| *end == s.next)
            })
    }
}

impl Stream {
    /// Whether `bytes` more may be sent. One batch may always be on its way, however long it is.
    pub(super) fn has_room(&self, bytes: usize, window: usize) -> bool {
        self.on_its_way.is_empty() || self.window_used.saturating_add(bytes) <= window
    }

    /// Whether its follower or the connection has not taken yet what was sent.
    pub(super) fn is_waited_for(&self) -> bool {
        self.refused || !self.on_its_way.is_empty()
    }

    /// How many bytes may be read for it; `None` if it has to wait.
    pub(super) fn wants(&self, log_end: Offset, window: usize) -> Option<usize> {
        let room = window.saturating_sub(self.window_used);
        let ready =
            self.reading.is_none() && !self.refused && self.next < log_end && (room > 0 || self.on_its_way.is_empty());
        ready.then_some(room.max(1))
    }

    /// Notes a batch as sent.
    pub(super) fn sent(&mut self, batch: &RecordBatch) {
        self.next = batch.header().end_offset();
        self.on_its_way.push_back((self.next, batch.bytes().len()));
        self.window_used += batch.bytes().len();
    }

    /// Notes that nothing from `from` on was sent after all.
    pub(super) fn unsent(&mut self, from: Offset) {
        self.refused = true;
        if from >= self.next || from < self.appended {
            return;
        }
        self.next = from;
        while self.on_its_way.back().is_some_and(|(end, _)| *end > from) {
            let bytes = self.on_its_way.pop_back().map_or(0, |(_, bytes)| bytes);
            self.window_used -= bytes;
        }
    }
}
