//! The leader's side: it appends, pushes to its followers, and commits.

use super::context::Context;
use super::event::{
    Acks, Command, Event, FollowerMessage, LeaderMessage, PartitionState, ProduceError, Produced, StreamId, Ticket,
};
use super::gaps::Gaps;
use super::high_watermark;
use super::isr::IsrView;
use super::pending_appends::PendingAppends;
use super::progress::Progress;
use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use crate::producers::Check;
use crate::record::RecordBatch;
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A follower whose disk has not moved for so long is told the high watermark although batches are on their way to it.
const STANDS_STILL: Duration = Duration::from_secs(1);

/// How long after a failed `AlterPartition` the next one is made.
const RETRY_ALTER: Duration = Duration::from_millis(50);
/// For so long after it began, a leadership assumes that a gap in a producer's sequence was made by batches that were
/// refused before: those after the gap may have been sent before their producer got the refusals, and arrive late from
/// a client that was stopped or has a slow network.
const SEQUENCE_GAP_GRACE: Duration = Duration::from_secs(5);

/// The same for a producer that is unknown and may begin anywhere, in a partition's first leadership: batches refused
/// before could only be refused because the partition did not exist yet, and what was sent after them arrives soon.
const FIRST_EPOCH_GRACE: Duration = Duration::from_millis(50);

/// One leadership, from its start to its end.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) epoch: LeaderEpoch,
    /// The log end when the leadership began. What is committed is not known before the high watermark is here.
    pub(super) epoch_start: Offset,
    pub(super) isr: IsrView,
    /// The assigned replicas but this one.
    pub(super) followers: BTreeMap<BrokerId, Progress>,
    pending: PendingAppends,
    gaps: Gaps,
    since: Instant,
    /// No `AlterPartition` before that.
    alter_at: Instant,
}

impl Leader {
    /// Takes up the leadership that `state` gives to this broker.
    pub(super) fn start(cx: &mut Context<'_>, state: &PartitionState) -> Self {
        cx.log.lead();
        let epoch_start = cx.log.end;
        cx.log.epochs.assign(state.leader_epoch, epoch_start);
        let mut leader = Self {
            epoch: state.leader_epoch,
            epoch_start,
            isr: IsrView::committed_at(state.partition_epoch, state.isr.iter().copied()),
            followers: BTreeMap::new(),
            pending: PendingAppends::default(),
            gaps: Gaps::default(),
            since: cx.now,
            alter_at: cx.now,
        };
        leader.meet_followers(cx, state);
        leader
    }

    /// Ends the leadership: nobody is acknowledged by it any more.
    pub(super) fn end(mut self, cx: &mut Context<'_>) {
        self.pending.fail_all(cx.out);
        // No follower can know of an epoch without records, and this log must look as if it had never been.
        cx.log.epochs.drop_from(cx.log.end);
    }

    /// The same leadership goes on under newer metadata.
    pub(super) fn metadata(&mut self, cx: &mut Context<'_>, state: &PartitionState) {
        if state.partition_epoch > self.isr.partition_epoch() {
            self.isr = IsrView::committed_at(state.partition_epoch, state.isr.iter().copied());
            self.alter_at = cx.now;
        }
        self.meet_followers(cx, state);
        if self.isr.committed().len() < cx.min_insync() {
            self.pending.fail_uncommitted(cx.out);
        }
    }

    pub(super) fn on(&mut self, cx: &mut Context<'_>, event: Event) {
        match event {
            Event::Produce { ticket, batch, acks } => {
                if let Err(error) = self.produce(cx, ticket, batch, acks) {
                    cx.out.push(Command::Reply { ticket, result: Err(error) });
                }
            }
            Event::FromFollower { follower, broker_epoch, stream, message, .. } => {
                self.handle(cx, follower, (broker_epoch, stream), message);
            }
            Event::StreamClosed { follower, stream } => {
                if let Some(progress) = self.followers.get_mut(&follower) {
                    progress.close(stream);
                }
            }
            Event::SendRefused { follower, stream, from } => {
                if let Some(s) = self.stream_mut(follower, stream) {
                    s.unsent(from);
                }
            }
            Event::Writable { follower, stream } => {
                if let Some(s) = self.stream_mut(follower, stream) {
                    s.refused = false;
                    self.pump(cx, follower);
                }
            }
            Event::ReadDone { follower, stream, from, batches } => {
                self.read_done(cx, follower, stream, from, batches);
            }
            Event::AlterPartitionFailed { partition_epoch, refused }
                if partition_epoch == self.isr.partition_epoch() && self.isr.in_flight() =>
            {
                self.isr.failed(refused);
                self.alter_at = cx.now + RETRY_ALTER;
            }
            Event::AdvanceStart { to } if cx.log.wants_start(to) => cx.out.push(Command::AdvanceStart { to }),
            Event::Abandoned { tickets } => self.pending.abandon(&tickets),
            Event::Tick => self.tick(cx),
            _ => {}
        }
    }

    fn produce(
        &mut self,
        cx: &mut Context<'_>,
        ticket: Ticket,
        batch: RecordBatch,
        acks: Acks,
    ) -> Result<(), ProduceError> {
        if !cx.lease_holds() {
            self.gaps.refused(batch.header(), ProduceError::NotLeader);
            return Err(ProduceError::NotLeader);
        }
        let too_few = acks == Acks::All && self.isr.committed().len() < cx.min_insync();
        let log_start = cx.log.start;
        let age = cx.now.since(self.since);
        let grace = if self.epoch == LeaderEpoch(0) { FIRST_EPOCH_GRACE } else { SEQUENCE_GAP_GRACE };
        let check = match cx.log.producers.check(batch.header(), cx.state.older_producers) {
            // What a refusal kept out comes first: this batch would make it look like an old duplicate.
            Check::Unknown => match self.gaps.why(batch.header()) {
                Some(error) => return Err(error),
                None if age < grace => {
                    // The batches after this one may arrive after the grace period: they are refused as well.
                    self.gaps.refused(batch.header(), ProduceError::NotLeader);
                    return Err(ProduceError::NotLeader);
                }
                None => Check::New,
            },
            check => check,
        };
        match check {
            Check::New | Check::Unknown if !cx.room => {
                self.gaps.refused(batch.header(), ProduceError::NoRoom);
                Err(ProduceError::NoRoom)
            }
            Check::New | Check::Unknown if too_few => {
                self.gaps.refused(batch.header(), ProduceError::NotEnoughReplicas);
                Err(ProduceError::NotEnoughReplicas)
            }
            Check::New | Check::Unknown => {
                self.gaps.closed(batch.header());
                let base_offset = cx.log.end;
                self.append(cx, batch);
                self.wait(cx, ticket, acks, cx.log.end, Produced { base_offset, log_start });
                Ok(())
            }
            // However few are in sync: a refusal would say that the batch is not in the log, and the producer would
            // write it again under another epoch.
            Check::Duplicate(offsets) => {
                self.wait(cx, ticket, acks, offsets.end, Produced { base_offset: offsets.start, log_start });
                Ok(())
            }
            // Clients take this error for a success, so it must be one.
            Check::OldDuplicate { before } if before <= cx.log.high_watermark => Err(ProduceError::DuplicateSequence),
            Check::OutOfOrder => Err(self.gaps.why(batch.header()).unwrap_or_else(|| {
                if age < SEQUENCE_GAP_GRACE { ProduceError::NotLeader } else { ProduceError::OutOfOrderSequence }
            })),
            Check::OldDuplicate { .. } => Err(ProduceError::OutOfOrderSequence),
            Check::Fenced => Err(ProduceError::InvalidProducerEpoch),
        }
    }

    /// Answers `ticket` when the batch that ends at `end` is where `acks` asks for, which may be now.
    fn wait(&mut self, cx: &mut Context<'_>, ticket: Ticket, acks: Acks, end: Offset, answer: Produced) {
        let reached = match acks {
            Acks::None => true,
            Acks::Leader => end <= cx.log.durable,
            Acks::All | Acks::Committed => end <= cx.log.high_watermark,
        };
        if reached {
            cx.out.push(Command::Reply { ticket, result: Ok(answer) });
        } else {
            self.pending.push(ticket, acks, end, answer);
        }
    }

    /// Appends a producer's batch, and pushes it at once to the followers that have all before it.
    fn append(&mut self, cx: &mut Context<'_>, batch: RecordBatch) {
        let tail = cx.log.end;
        let batch = batch.assign(tail, self.epoch);
        cx.log.append(cx.now, batch.header());
        cx.out.push(Command::Append { batch: batch.clone() });
        let (epoch, high_watermark, log_start) = (self.epoch, cx.log.high_watermark, cx.log.start);
        for (&follower, progress) in &mut self.followers {
            let Some(stream) = &mut progress.stream else { continue };
            let at_tail = stream.next == tail && stream.reading.is_none() && !stream.refused;
            if at_tail && stream.has_room(batch.bytes().len(), cx.config.window_bytes) {
                stream.sent(&batch);
                stream.last_sent = (high_watermark, log_start);
                let message =
                    LeaderMessage::Batches { from: tail, batches: vec![batch.clone()], high_watermark, log_start };
                cx.out.push(Command::Send { follower, stream: stream.id, leader_epoch: epoch, message });
            }
        }
    }

    /// Handles a message of a follower.
    fn handle(
        &mut self,
        cx: &mut Context<'_>,
        follower: BrokerId,
        stream: (BrokerEpoch, StreamId),
        message: FollowerMessage,
    ) {
        let Some(progress) = self.followers.get_mut(&follower) else {
            // It may have seen the entry by which it is added before this leader has: it asks again.
            if matches!(message, FollowerMessage::Subscribe { .. }) {
                let message = LeaderMessage::NotLeader { leader_epoch: self.epoch };
                cx.out.push(Command::Send { follower, stream: stream.1, leader_epoch: self.epoch, message });
            }
            return;
        };
        match message {
            FollowerMessage::Subscribe { log_end, last_epoch, log_start } => {
                if !progress.subscribe(stream.0, stream.1, log_end) {
                    return;
                }
                progress.log_start = log_start;
                let counts = self.isr.maximal().any(|id| id == follower) || cx.state.elr.contains(&follower);
                let has_nothing = last_epoch.is_none() && log_start == Some(log_end);
                let message = if all_before_start(cx, log_end, last_epoch)
                    || (has_nothing && !counts && cx.log.start < log_end)
                {
                    // Also where its log has no record left, and this one has what came before: that may have been written
                    // anew since, by a leader that was elected without what is removed there.
                    begin_at(cx)
                } else if let Some(message) = diverged(cx, log_end, last_epoch) {
                    message
                } else {
                    let (high_watermark, log_start) = (cx.log.high_watermark, cx.log.start);
                    progress.start(stream.1, log_end, (high_watermark, log_start));
                    LeaderMessage::Started { high_watermark, log_start }
                };
                cx.out.push(Command::Send { follower, stream: stream.1, leader_epoch: self.epoch, message });
            }
            FollowerMessage::Ack { appended, durable, log_start } => {
                if !progress.acknowledge(stream, (appended, durable)) {
                    return;
                }
                progress.starts_at(log_start);
                progress.watch(cx.now, cx.log.end);
            }
        }
        self.pump(cx, follower);
    }

    /// Reads what a follower lacks, if it has room for it. What is appended while it is at the tail needs no
    /// reading.
    fn pump(&mut self, cx: &mut Context<'_>, follower: BrokerId) {
        let Some(progress) = self.followers.get_mut(&follower) else { return };
        let Some(stream) = &mut progress.stream else { return };
        if stream.next < cx.log.first_batch {
            // What it lacks has been removed since it subscribed.
            let (id, message) = (stream.id, begin_at(cx));
            cx.out.push(Command::Send { follower, stream: id, leader_epoch: self.epoch, message });
            progress.close(id);
        } else if let Some(room) = stream.wants(cx.log.end, cx.config.window_bytes) {
            let max_bytes = room.min(cx.config.read_bytes);
            // The log may begin within the batch that the follower begins with.
            let from = stream.next.max(cx.log.start);
            stream.reading = Some(from);
            cx.out.push(Command::Read { follower, stream: stream.id, from, max_bytes });
        }
    }

    fn read_done(
        &mut self,
        cx: &mut Context<'_>,
        follower: BrokerId,
        id: StreamId,
        read_from: Offset,
        batches: Vec<RecordBatch>,
    ) {
        let epoch = self.epoch;
        let Some(stream) = self.stream_mut(follower, id) else { return };
        if stream.reading != Some(read_from) {
            // It was for a former subscription on the same connection.
            return;
        }
        stream.reading = None;
        let from = stream.next;
        if read_from != from.max(cx.log.start) {
            // What lies between would be taken for a gap.
            return;
        }
        let mut end = from;
        for batch in &batches {
            let h = batch.header();
            // A slow read may have begun in a former leadership, and bring what was cut off since.
            let in_log = cx.log.epochs.at(h.base_offset.max(cx.log.start)) == Some(h.leader_epoch);
            let continues = h.base_offset >= end && h.end_offset() > h.base_offset;
            if !continues || h.end_offset() > cx.log.end || !in_log {
                // Not what was asked for: a later tick reads again.
                return;
            }
            end = h.end_offset();
        }
        if batches.is_empty() || stream.refused {
            return;
        }
        for batch in &batches {
            stream.sent(batch);
        }
        let (high_watermark, log_start) = (cx.log.high_watermark, cx.log.start);
        stream.last_sent = (high_watermark, log_start);
        let message = LeaderMessage::Batches { from, batches, high_watermark, log_start };
        cx.out.push(Command::Send { follower, stream: id, leader_epoch: epoch, message });
        self.pump(cx, follower);
    }

    /// Notes whose followers have had all until now. While nothing happens nobody looks, and no follower is late for that.
    pub(super) fn watch(&mut self, now: Instant, log_end: Offset) {
        for progress in self.followers.values_mut() {
            progress.watch(now, log_end);
        }
    }

    /// Whether something is to happen by time alone: a producer is waited with, an ISR is due, a follower may be late.
    pub(super) fn needs_tick(&self, cx: &Context<'_>) -> bool {
        let current = (cx.log.high_watermark, cx.log.start);
        let waits_for = |(id, progress): (&BrokerId, &Progress)| match &progress.stream {
            Some(stream) => stream.last_sent != current || progress.lacks_something(cx.log.end),
            None => self.isr.maximal().any(|member| member == *id),
        };
        !self.pending.is_empty() || self.followers.iter().any(waits_for) || self.wanted_isr(cx).is_some()
    }

    fn tick(&mut self, cx: &mut Context<'_>) {
        let (epoch, high_watermark, log_start) = (self.epoch, cx.log.high_watermark, cx.log.start);
        if self.pending.is_empty() {
            // A map that is empty again keeps a node.
            self.pending = PendingAppends::default();
        }
        let furthest = self.followers.values().filter_map(Progress::durable).fold(cx.log.durable, Offset::max);
        for (&follower, progress) in &mut self.followers {
            progress.watch(cx.now, cx.log.end);
            progress.watch_disk(cx.now, high_watermark, furthest);
            let stands = progress.stands_for(cx.now);
            let Some(stream) = &mut progress.stream else { continue };
            // Such a message takes no credit. The next batch says it, or a later tick; but where the log begins is said at
            // once, as it may give room to a disk that has none for the batch. A follower that drops batches for want of room
            // may be read from all the same.
            let (_, told_start) = stream.last_sent;
            let waits = stream.refused || (stream.is_waited_for() && stands < STANDS_STILL);
            let can_wait = waits && told_start == log_start;
            if stream.last_sent != (high_watermark, log_start) && !can_wait {
                stream.last_sent = (high_watermark, log_start);
                let message = LeaderMessage::HighWatermark { high_watermark, log_start };
                cx.out.push(Command::Send { follower, stream: stream.id, leader_epoch: epoch, message });
            }
        }
        let followers: Vec<BrokerId> = self.followers.keys().copied().collect();
        for follower in followers {
            self.pump(cx, follower);
        }
    }

    /// Commits what can be committed, answers who waited for it, and asks for the ISR that is due. Ends every
    /// step: whatever happened may have been what was missing.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) {
        if cx.lease_holds() {
            // A follower that is always a moment behind could not join while others are faster.
            let joining = self.about_to_join(cx);
            let own = cx.log.durable;
            let durable =
                |id| if id == cx.me { Some(own) } else { self.followers.get(&id).and_then(Progress::durable) };
            let committed = high_watermark::committed(&self.isr, cx.min_insync(), durable);
            // Whoever may be elected holds all that is committed.
            let committed = committed.filter(|_| cx.state.elr.is_empty());
            let committed = committed.map(|to| joining.map_or(to, |end| end.min(to)));
            if committed.is_some_and(|to| cx.log.raise_high_watermark(to)) {
                cx.out.push(Command::Wake);
            }
            self.pending.committed(cx.log.high_watermark, cx.out);
            self.pending.durable(own, cx.out);
        } else {
            // Another may lead by now: whoever waits had better look for it.
            self.pending.fail_all(cx.out);
        }
        self.alter_isr(cx);
    }

    /// Proposes the ISR that is due, one change at a time.
    fn alter_isr(&mut self, cx: &mut Context<'_>) {
        if self.isr.in_flight() || cx.now < self.alter_at {
            return;
        }
        let Some(wanted) = self.wanted_isr(cx) else { return };
        // Whoever is wanted is alive, so it has a broker epoch; so has this broker while it leads.
        let isr: Vec<_> = wanted.iter().filter_map(|id| Some((*id, alive(cx.state, *id)?))).collect();
        if isr.len() < wanted.len() {
            return;
        }
        let (leader_epoch, partition_epoch) = (self.epoch, self.isr.partition_epoch());
        cx.out.push(Command::AlterPartition { leader_epoch, partition_epoch, isr });
        self.isr.propose(&wanted);
    }

    /// The ISR that should be proposed; `None` if the committed one is as it should be.
    fn wanted_isr(&self, cx: &Context<'_>) -> Option<BTreeSet<BrokerId>> {
        // What this broker's disk has lost, one of those that would go may have, or one of those that are eligible.
        let gives_up_others = |isr: &BTreeSet<BrokerId>| {
            ends_a_move(cx.state, isr) || (!cx.state.elr.is_empty() && isr.is_subset(self.isr.committed()))
        };
        self.due_isr(cx).filter(|isr| cx.log.damaged.is_none() || !gives_up_others(isr))
    }

    fn due_isr(&self, cx: &Context<'_>) -> Option<BTreeSet<BrokerId>> {
        let committed = self.isr.committed();
        let leaves = |id: &BrokerId| *id != cx.me && !self.may_stay(cx, *id);
        let joins = |id: &BrokerId| !committed.contains(id) && self.may_join(cx, *id);
        if committed.iter().any(leaves) {
            return Some(committed.iter().copied().filter(|id| !leaves(id)).collect());
        }
        let stalled = committed.iter().filter(|id| self.is_stalled(cx, **id)).count();
        if stalled > 0 && committed.len() - stalled >= cx.min_insync() {
            return Some(committed.iter().copied().filter(|id| !self.is_stalled(cx, *id)).collect());
        }
        if self.others_may_go(cx) {
            return Some(committed.iter().copied().filter(|id| !cx.state.removing.contains(id)).collect());
        }
        // Brokers outside of the ISR are eligible as leaders (ELR). When the leader asks for the present ISR again, and
        // it is large enough, the controller takes their eligibility away.
        let to_confirm = !cx.state.elr.is_empty() && committed.len() >= cx.min_insync();
        // This broker's own replica is being removed, and it leads as the last of the replicas that stay gave the
        // leadership up. Asking for the present ISR ends that: the controller makes one that stays leader. Not before
        // all of those have what is committed, as the lack of it may be why the leadership came here.
        let to_end = cx.state.removing.contains(&cx.me)
            && all_that_stay_are_in(cx.state, committed)
            && self.all_that_stay_have_come(cx);
        if to_confirm || to_end || self.isr.unsure() || self.followers.keys().any(joins) {
            return Some(committed.iter().chain(self.followers.keys().filter(|id| joins(id))).copied().collect());
        }
        None
    }

    /// Whether all replicas that stay are in sync, and those that a reassignment removes are not needed any more. Those of
    /// them that are in sync have acknowledged something in this epoch by then, so that no former leader takes itself for
    /// one still: that the high watermark has reached the start of the epoch says so only if it was not there before.
    fn others_may_go(&self, cx: &Context<'_>) -> bool {
        let (committed, removing) = (self.isr.committed(), &cx.state.removing);
        let mut going = removing.iter().filter(|id| committed.contains(id)).peekable();
        let durable = |id| self.followers.get(id).and_then(Progress::durable);
        cx.log.high_watermark >= self.epoch_start
            && !removing.contains(&cx.me)
            && going.peek().is_some()
            && going.all(|id| durable(id).is_some_and(|end| end >= self.epoch_start))
            && all_that_stay_are_in(cx.state, committed)
    }

    /// Whether each replica that stays has shown in this leadership that it has all that is committed.
    fn all_that_stay_have_come(&self, cx: &Context<'_>) -> bool {
        let due = cx.log.high_watermark.max(self.epoch_start);
        let has_come = |id: &BrokerId| self.followers.get(id).and_then(Progress::durable).is_some_and(|end| end >= due);
        let mut stay = cx.state.replicas.iter().filter(|(id, _)| *id != cx.me && !cx.state.removing.contains(id));
        stay.all(|(id, _)| has_come(id))
    }

    /// Whether a member of the ISR may go on being one: it is alive, and was caught up not long ago.
    fn may_stay(&self, cx: &Context<'_>, id: BrokerId) -> bool {
        let fresh = |p: &Progress| cx.now.since(p.caught_up_at) <= cx.config.lag_time_max;
        alive(cx.state, id).is_some() && self.followers.get(&id).is_some_and(fresh)
    }

    /// Whether a follower may become a member of the ISR. One that could not stay may not come: while nothing is
    /// committed, a follower that hangs has all that is, and would come and go without end.
    fn may_join(&self, cx: &Context<'_>, id: BrokerId) -> bool {
        let Some(progress) = self.followers.get(&id) else { return false };
        let proven = progress.broker_epoch();
        let due = cx.log.high_watermark.max(self.epoch_start);
        let reached = progress.durable().is_some_and(|d| d >= due);
        let stays = self.may_stay(cx, id) && !self.is_stalled(cx, id);
        reached && proven.is_some() && proven == may_come(cx.state, id) && stays
    }

    /// Whether a follower's disk stands still.
    fn is_stalled(&self, cx: &Context<'_>, id: BrokerId) -> bool {
        self.followers.get(&id).is_some_and(|progress| progress.stands_for(cx.now) > cx.config.stall_time_max)
    }

    /// What the furthest behind has durably of the followers that should be waited for, so that they can join.
    fn about_to_join(&mut self, cx: &Context<'_>) -> Option<Offset> {
        let committed = self.isr.committed();
        let outside = self.followers.iter_mut().filter_map(|(id, progress)| {
            if committed.contains(id) {
                progress.has_joined();
                return None;
            }
            let proven = progress.broker_epoch().is_some_and(|epoch| may_come(cx.state, *id) == Some(epoch));
            let durable = progress.durable().filter(|_| proven)?;
            progress.worth_waiting_for(cx.now).then_some(durable)
        });
        outside.min()
    }

    /// Keeps the followers in step with the assignment.
    fn meet_followers(&mut self, cx: &mut Context<'_>, state: &PartitionState) {
        let assigned = |id: BrokerId| state.replicas.iter().any(|(r, _)| *r == id);
        self.followers.retain(|id, _| assigned(*id));
        for (id, _) in state.replicas.iter().filter(|(id, _)| *id != cx.me) {
            self.followers.entry(*id).or_insert_with(|| Progress::new(cx.now, cx.log.end));
        }
    }

    fn stream_mut(&mut self, follower: BrokerId, id: StreamId) -> Option<&mut super::progress::Stream> {
        self.followers.get_mut(&follower)?.stream_mut(id)
    }

    /// How many producers wait.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn valid(&self, cx: &Context<'_>) -> bool {
        self.pending.valid(cx.log.durable, cx.log.high_watermark, cx.log.end)
            && (cx.lease_holds() || self.pending.is_empty())
            && self.isr.committed().contains(&cx.me)
            && self.followers.values().all(|p| p.valid(cx.log.end))
    }
}

/// The broker's epoch, if metadata has it as alive.
fn alive(state: &PartitionState, id: BrokerId) -> Option<BrokerEpoch> {
    state.replicas.iter().find(|(r, _)| *r == id).and_then(|(_, epoch)| *epoch)
}

/// The broker's epoch, if metadata lets it into an ISR. While one that is about to stop was asked for, it would count for
/// what is committed, and perhaps still when it has stopped.
fn may_come(state: &PartitionState, id: BrokerId) -> Option<BrokerEpoch> {
    alive(state, id).filter(|_| !state.stopping.contains(&id))
}

/// Whether all replicas that no reassignment removes are in this ISR.
fn all_that_stay_are_in(state: &PartitionState, isr: &BTreeSet<BrokerId>) -> bool {
    let mut stay = state.replicas.iter().filter(|(id, _)| !state.removing.contains(id));
    stay.all(|(id, _)| isr.contains(id))
}

/// Whether with this ISR a reassignment may be at its end: those that it removes drop their logs.
fn ends_a_move(state: &PartitionState, isr: &BTreeSet<BrokerId>) -> bool {
    !state.removing.is_empty() && all_that_stay_are_in(state, isr) && !state.removing.iter().any(|id| isr.contains(id))
}

/// Whether a follower has nothing of this log: all of its own lies before it. What is before a log's start is committed
/// and removed, so nothing is lost with it; and that it is the same as it was here, nobody can tell any more. One without
/// records may also begin within the first batch of this log, after a leader whose compaction had left nothing of it.
fn all_before_start(cx: &Context<'_>, log_end: Offset, last_epoch: Option<LeaderEpoch>) -> bool {
    let within_first = cx.log.first_batch < log_end;
    log_end < cx.log.first_batch || (log_end <= cx.log.start && (last_epoch.is_some() || within_first))
}

/// Tells a follower to begin where this log does, with what is known of those who wrote what came before.
fn begin_at(cx: &Context<'_>) -> LeaderMessage {
    let (at, mut producers) = (cx.log.first_batch, Vec::new());
    cx.log.producers.before(at).encode(&mut producers);
    LeaderMessage::BeginAt { at, producers: Some(producers.into()) }
}

/// Where a follower's log went another way than the leader's; `None` if it is a prefix of it.
fn diverged(cx: &Context<'_>, log_end: Offset, last_epoch: Option<LeaderEpoch>) -> Option<LeaderMessage> {
    let Some(last) = last_epoch else {
        // An empty log is a prefix of any other that comes as far: what it had before was committed, and whoever counts it
        // among those in sync has it too, or has removed it.
        let too_far = LeaderMessage::Diverged { epoch: LeaderEpoch(-1), end: cx.log.end };
        return (log_end > cx.log.end).then_some(too_far);
    };
    // The leader's own epoch is the newest of all; a follower that has a newer one lost its way altogether.
    let latest = cx.log.epochs.latest().unwrap_or(last);
    let (epoch, end) = cx.log.epochs.end_of(last.min(latest), cx.log.end).unwrap_or((last, cx.log.start));
    (epoch != last || log_end > end).then_some(LeaderMessage::Diverged { epoch, end })
}
