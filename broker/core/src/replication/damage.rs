//! A replica whose disk has lost something while it runs: first nobody may count on its copy any more, then it is cut back
//! to where it is whole, and then it catches up like any other follower.
//!
//! The order is what makes it safe. A follower first tells its leader that its log ends before the damage, so that the
//! leader does not take it for caught up, and asks for it to join no more. Then it has the controller take it out, in an
//! entry after which a request that the leader made before is refused by its partition epoch. Only when metadata says so
//! is anything cut off. A leader does not cut off anything before another one leads. It is in sync still when one does, and
//! acknowledges nothing: it asks at once to leave, as nothing is committed without it. When nobody else can lead, it stays
//! the leader, serves what can be read, and asks again, until what is damaged has left with the log's start: at once when
//! metadata says anything new of the partition, and otherwise less and less often, as each request is an entry of the
//! metadata log.
//!
//! Who was cut back is whole when its log comes as far again as what it knew to be committed. After an unclean election
//! the leader's log may not come so far for long: what is missing was lost when it was elected. Then it is enough that
//! the leader of an epoch has asked for this copy, to whom it has said nothing of what it has lost.

use crate::ids::{LeaderEpoch, Offset, PartitionEpoch};
use crate::time::Instant;
use std::time::Duration;

/// From one request to be taken out to the next of the same leader epoch.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The same at most, each time twice as long, while the controller says that nobody else can be counted on.
const ASK_AGAIN_WHEN_KEPT: Duration = Duration::from_mins(10);
/// By then the controller has decided on every request that the leader made before it acknowledged the damage. Only for
/// a replica that is in neither the ISR nor the ELR: no metadata entry will say that it was taken out.
const REQUESTS_DECIDED_AFTER: Duration = Duration::from_secs(10);

/// Damage that is not repaired.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damage {
    pub(super) from: Offset,
    /// No leader of a later epoch has heard that this replica has what is lost.
    told_in: LeaderEpoch,
    /// The last leader epoch in which nobody counted on this copy for a while.
    outside_in: Option<LeaderEpoch>,
    /// The leader epoch in which the leader acknowledged that this log ends before the damage, and when it first did.
    acknowledged: Option<(LeaderEpoch, Instant)>,
    /// The leader epoch in which this replica has asked to be taken out, after that.
    asked: Option<LeaderEpoch>,
    ask_at: Instant,
    /// The partition epoch in which the controller has said that nobody else can be counted on, and how long it is not asked
    /// for that again in this one.
    kept: Option<(PartitionEpoch, Duration)>,
    /// What was known to be committed when it was cut off: with less, nobody may count on it again before a later leader
    /// has asked for it.
    cut: Option<Offset>,
    /// The same, of damage that was cut off before and is not made good.
    cut_before: Offset,
    /// What was committed is not to be had again.
    gives_way: bool,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    GiveUpCopy,
    Repair,
    /// It is repaired.
    Done,
}

/// What a replica is to the others, and has itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) epoch: LeaderEpoch,
    pub(super) partition_epoch: PartitionEpoch,
    pub(super) log_end: Offset,
    /// It is in sync, or may be elected, or leads.
    pub(super) counted: bool,
    pub(super) follows: bool,
    /// It has not subscribed to the leader of this epoch.
    pub(super) unsubscribed: bool,
}

impl Damage {
    /// Found now, by a replica that has told leaders of epochs up to `told_in` that it has what is lost.
    pub(super) fn new(from: Offset, told_in: LeaderEpoch, now: Instant) -> Self {
        Self {
            from,
            told_in,
            outside_in: None,
            acknowledged: None,
            asked: None,
            ask_at: now,
            kept: None,
            cut: None,
            cut_before: Offset::ZERO,
            gives_way: false,
        }
    }

    /// Takes over what is to be done about damage that was found before.
    pub(super) fn comes_after(&mut self, known: Self) {
        self.cut_before = known.cut.unwrap_or(known.cut_before);
        self.gives_way = known.gives_way;
        if !known.is_cut() {
            self.from = self.from.min(known.from);
        }
    }

    /// The leader of that epoch has acknowledged that this log ends before the damage.
    pub(super) fn acknowledged(&mut self, epoch: LeaderEpoch, now: Instant) {
        if self.acknowledged.is_none_or(|(known, _)| known != epoch) {
            self.acknowledged = Some((epoch, now));
        }
    }

    /// The controller has said, in that partition epoch, that this copy counts on, as there is no other.
    pub(super) fn kept(&mut self, epoch: PartitionEpoch, now: Instant) {
        let before = self.kept.filter(|(known, _)| *known == epoch).map(|(_, pause)| pause);
        let pause = before.map_or(ASK_AGAIN, |pause| (pause * 2).min(ASK_AGAIN_WHEN_KEPT));
        self.kept = Some((epoch, pause));
        self.ask_at = now + pause;
    }

    /// It is no damage: an operator has elected a leader that has less.
    pub(super) fn gives_way(&mut self) {
        self.gives_way = true;
    }

    /// What is damaged is cut off.
    pub(super) fn cut(&mut self, high_watermark: Offset) {
        self.cut = Some(if self.gives_way { Offset::ZERO } else { high_watermark.max(self.cut_before) });
    }

    /// What is damaged is gone, and not from the end that others count on: the rest can be read.
    pub(super) fn removed(&mut self) {
        // What was cut off before may still be missing at the end.
        self.cut = Some(if self.gives_way { Offset::ZERO } else { self.cut_before });
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    pub(super) fn next(&mut self, now: Instant, standing: Standing) -> Next {
        if self.kept.take_if(|(epoch, _)| *epoch != standing.partition_epoch).is_some() {
            // Perhaps there is another copy now.
            self.ask_at = now;
        }
        let acknowledged_at = self.acknowledged.filter(|(epoch, _)| *epoch == standing.epoch).map(|(_, since)| since);
        if self.cut.is_none() && self.from >= standing.log_end {
            // It has gone with what was cut off.
            self.removed();
        }
        if !standing.counted {
            self.outside_in = Some(standing.epoch);
        }
        // It was asked for by the leader of this epoch, who has heard only of what is left here: that reaches to where the
        // epoch began, and so to all that was committed before, but for what an operator has given up.
        let asked_for = standing.counted && self.outside_in == Some(standing.epoch) && standing.epoch > self.told_in;
        if self.cut.is_some_and(|committed| asked_for || standing.log_end >= committed) {
            return Next::Done;
        }
        if standing.counted {
            let may_ask = acknowledged_at.is_some() || standing.unsubscribed || self.is_cut();
            // Who was succeeded is in haste, as its successor waits for it. Two that are both damaged, and lead in turn, are not.
            let too_early = now < self.ask_at && (self.asked == Some(standing.epoch) || !standing.follows);
            if !may_ask || too_early {
                return Next::Wait;
            }
            self.ask_at = now + ASK_AGAIN;
            self.asked = Some(standing.epoch);
            return Next::GiveUpCopy;
        }
        let taken_out = acknowledged_at.is_some() && self.asked == Some(standing.epoch);
        let requests_decided = acknowledged_at.is_some_and(|since| now.since(since) >= REQUESTS_DECIDED_AFTER);
        let may_cut = standing.follows && (standing.unsubscribed || taken_out || requests_decided) && !self.is_cut();
        if may_cut { Next::Repair } else { Next::Wait }
    }
}
