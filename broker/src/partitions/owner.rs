//! The owner of a share of this broker's partitions: one task, which brings events to their replicas and
//! carries out what those want. It waits for nothing but its queues.

use super::deletions::Deletion;
use super::handle::{Partitions, Request, Reservation};
use super::hosted::{Hosted, partition_state};
use super::input::{Input, Owners};
use super::metrics::{Counts, PartitionMetrics};
use super::producer_memory::ProducerMemory;
use super::send_queue::{Reads, SendQueue};
use super::series::AppendReply;
use crate::replication::{Ack, CATCH_UP_BYTES, FollowerLink, LeaderLink};
use chronik_core::cluster::{Image, Throttle};
use chronik_core::ids::{BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, Offset, TopicPartition};
use chronik_core::replication::{
    Command, Config, Event, FollowerMessage, LeaderMessage, LogState, ProduceError, Produced, StreamId, Ticket,
};
use chronik_core::space::Room;
use chronik_core::time::Instant;
use chronik_log::{Appender, LogReader, RealDisk, Writer};
use chronik_quorum::ControllerHandle;
use chronik_quorum::events::{MetadataEvent, MetadataUpdate};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How often replicas that wait for a time get a tick.
const TICK: Duration = Duration::from_millis(100);
/// Events that are taken from a queue before the other one is looked at.
const AT_ONCE: usize = 256;
/// Answers that there is always room for. A turn may bring many more, and is rare.
const ANSWERS_KEPT: usize = 4 * AT_ONCE;
/// More changes than this in one metadata update are summed up in the log.
const LOG_CHANGES_MAX: usize = 8;

/// What an owner needs of its broker.
#[derive(Clone)]
pub(super) struct Shell {
    pub(super) me: BrokerId,
    /// The cluster that the logs on the disk were written in, if any.
    pub(super) cluster: Option<ClusterId>,
    /// Which of the owners this one is.
    pub(super) index: usize,
    pub(super) config: Arc<Config>,
    /// Bytes of the newest batches that one owner keeps in memory.
    pub(super) tail_bytes: usize,
    pub(super) writer: Writer,
    pub(super) reader: LogReader<RealDisk>,
    pub(super) controller: ControllerHandle,
    pub(super) owners: Owners,
    pub(super) metrics: PartitionMetrics,
    /// What this broker sends to replicas that are to catch up slowly.
    pub(super) throttle: Arc<Mutex<Throttle>>,
    pub(super) producers: ProducerMemory,
    /// The origin of the replicas' clock.
    pub(super) origin: std::time::Instant,
}

impl Shell {
    /// Of what may be read for one follower at a time, this owner's share.
    pub(super) fn reads(&self) -> Reads {
        let bytes = self.config.read_bytes;
        Reads { at_once: (CATCH_UP_BYTES / bytes.max(1) / self.owners.len().max(1)).max(1), bytes }
    }

    pub(super) fn moment(&self, at: std::time::Instant) -> Instant {
        Instant(u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX))
    }
}

/// A batch in a partition's tail.
pub(super) struct Kept {
    pub(super) partition: TopicPartition,
    pub(super) base: Offset,
    pub(super) bytes: usize,
    pub(super) since: Instant,
}

/// What holds for all replicas at once, and begins and ends without an event for any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Common {
    lease_holds: bool,
    room: Room,
}

impl Common {
    fn at(owner: &Owner) -> Self {
        Self { lease_holds: owner.now() < owner.lease, room: owner.shell.writer.space().room() }
    }
}

/// One task's share of the partitions.
pub(super) struct Owner {
    pub(super) shell: Shell,
    /// Hears for it what is durable.
    pub(super) appender: Appender,
    /// Boxed, as a table has about as many empty places as full ones.
    pub(super) partitions: HashMap<TopicPartition, Box<Hosted>>,
    /// Logs that were found on the disk, and that metadata has not spoken of yet.
    pub(super) recovered: HashMap<TopicPartition, LogState>,
    /// What the cluster was like by the last update; `None` before the first one, which is about all there is.
    pub(super) image: Option<Image>,
    /// Partitions whose logs are being dropped: they are not hosted again before that is done, so that nothing of the
    /// old log is taken for the new one's.
    pub(super) deleting: HashSet<TopicPartition>,
    /// Replicas that have been hosted so far.
    lives: u64,
    pub(super) followers: HashMap<BrokerId, FollowerLink>,
    pub(super) leaders: HashMap<BrokerId, LeaderLink>,
    /// Partitions that wait to send to a follower.
    pub(super) send_queues: HashMap<BrokerId, SendQueue>,
    /// The batches in all tails, oldest first.
    pub(super) tails: VecDeque<Kept>,
    pub(super) tails_bytes: usize,
    /// What the replicas remember of producers takes so many bytes.
    pub(super) producer_bytes: usize,
    pub(super) next_ticket: u64,
    lease: Instant,
    /// What was the same for all replicas at the last tick: see [`Common`].
    at_last_tick: Common,
    /// Replicas that wait for a time.
    ticking: Vec<TopicPartition>,
    /// Events that commands led to; handled before anything else.
    pub(super) pending: VecDeque<(TopicPartition, Event)>,
    out: Vec<Command>,
    /// Who gets what was asked for, at the end of this turn.
    pub(super) answers: Vec<(AppendReply, Produced)>,
    /// What each partition that is hosted counts for.
    pub(super) counted: HashMap<TopicPartition, Counts>,
}

impl Owner {
    pub(super) fn new(shell: Shell, recovered: HashMap<TopicPartition, LogState>) -> Self {
        let (owners, index) = (shell.owners.clone(), shell.index);
        let appender: Appender = Arc::new(move |ends| owners.send_to(index, Input::Durable { ends }));
        Self {
            shell,
            appender,
            partitions: HashMap::new(),
            recovered,
            image: None,
            deleting: HashSet::new(),
            lives: 0,
            followers: HashMap::new(),
            leaders: HashMap::new(),
            send_queues: HashMap::new(),
            tails: VecDeque::new(),
            tails_bytes: 0,
            producer_bytes: 0,
            next_ticket: 0,
            lease: Instant::default(),
            at_last_tick: Common::default(),
            ticking: Vec::new(),
            pending: VecDeque::new(),
            out: Vec::new(),
            answers: Vec::new(),
            counted: HashMap::new(),
        }
    }

    /// Runs until it is stopped.
    pub(super) async fn run(
        mut self,
        mut inputs: mpsc::UnboundedReceiver<Input>,
        mut requests: mpsc::UnboundedReceiver<Request>,
        stop: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut input_batch = Vec::with_capacity(AT_ONCE);
        let mut request_batch = Vec::with_capacity(AT_ONCE);
        loop {
            tokio::select! {
                _ = inputs.recv_many(&mut input_batch, AT_ONCE) => {
                    Input::drop_superseded(&mut input_batch);
                    let mut steps = 0;
                    for input in input_batch.drain(..) {
                        steps += input.partitions();
                        self.take(input);
                        if steps >= AT_ONCE {
                            steps = 0;
                            // One input may be about a thousand partitions: requests and other tasks do not wait for all.
                            while request_batch.len() < AT_ONCE && let Ok(request) = requests.try_recv() {
                                request_batch.push(request);
                            }
                            self.requests(&mut request_batch);
                            self.let_go();
                            tokio::task::yield_now().await;
                        }
                    }
                }
                _ = requests.recv_many(&mut request_batch, AT_ONCE) => self.requests(&mut request_batch),
                _ = ticks.tick() => self.tick(),
                () = stop.cancelled() => return,
            }
            self.let_go();
        }
    }

    fn requests(&mut self, batch: &mut Vec<Request>) {
        for request in batch.drain(..) {
            self.request(request);
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.shell.moment(std::time::Instant::now())
    }

    /// Thousands of replicas that wait for nothing cost nothing here.
    fn tick(&mut self) {
        let now = Common::at(self);
        if now != self.at_last_tick {
            self.at_last_tick = now;
            self.step_all(|_| Some(Event::Tick));
        }
        for partition in std::mem::take(&mut self.ticking) {
            let Some(hosted) = self.partitions.get_mut(&partition) else { continue };
            hosted.ticks = false;
            let abandoned = hosted.abandoned();
            if !abandoned.is_empty() {
                self.step(partition, Event::Abandoned { tickets: abandoned });
            }
            self.step(partition, Event::Tick);
            if let Some(hosted) = self.partitions.get_mut(&partition).filter(|hosted| !hosted.ticks) {
                hosted.rest();
            }
        }
        self.evict_tails(self.now());
        self.resume_throttled();
        self.forget_producers();
    }

    /// Takes the next input of a turn. What may go over all partitions keeps nobody waiting who has an answer.
    fn take(&mut self, input: Input) {
        if !input.is_of_few() {
            self.let_go();
        }
        self.input(input);
        self.send_acks();
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Metadata(update) => self.metadata(&update),
            Input::Lease(until) => self.lease = self.shell.moment(until),
            Input::Durable { ends } => {
                for (partition, end) in ends {
                    self.step(partition, Event::Durable { end });
                }
            }
            Input::SetAside { partition, life, to } if self.lives(partition, life) => self.repair(partition, to),
            Input::TruncateDone { partition } => self.reload(partition),
            Input::AdvanceDone { partition, to } => self.find_first_batch(partition, to),
            Input::StartAdvanced { partition, life, start, first_batch } if self.lives(partition, life) => {
                let damaged = self.shell.reader.state(partition).and_then(|found| found.damaged);
                self.step(partition, Event::StartAdvanced { start, first_batch, damaged });
                self.answer_deletions(partition);
            }
            Input::Truncated { partition, life, log } if self.lives(partition, life) => {
                if let Some(hosted) = self.partitions.get_mut(&partition) {
                    // Within a batch or a gap it went further back than was asked for.
                    hosted.tail.truncate(log.end);
                }
                self.step(partition, Event::Truncated { log });
            }
            // Of a log that was dropped meanwhile.
            Input::StartAdvanced { .. } | Input::SetAside { .. } | Input::Truncated { .. } => {}
            Input::Deleted { partition } => self.deleted(partition),
            Input::FollowerConnected(link) => {
                // A former connection, dead at the other end, may be accepted after the one that replaced it.
                let newest = self.followers.get(&link.follower).is_none_or(|known| known.stream < link.stream);
                if newest {
                    self.send_queues.entry(link.follower).or_default().disconnected();
                    self.followers.insert(link.follower, link);
                }
            }
            Input::FollowerGone { follower, stream } => {
                if self.followers.get(&follower).is_some_and(|l| l.stream == stream) {
                    self.followers.remove(&follower);
                    self.send_queues.entry(follower).or_default().disconnected();
                }
                self.step_all(|_| Some(Event::StreamClosed { follower, stream }));
            }
            Input::FromFollower { partition, follower, broker_epoch, leader_epoch, stream, message } => {
                self.hear_follower(partition, follower, broker_epoch, leader_epoch, stream, message);
            }
            Input::Acks { follower, broker_epoch, stream, acks } => {
                for Ack { partition, leader_epoch, appended, durable, log_start } in acks {
                    let message = FollowerMessage::Ack { appended, durable, log_start: Some(log_start) };
                    self.hear_follower(partition, follower, broker_epoch, leader_epoch, stream, message);
                }
            }
            Input::Writable { follower } => self.send_what_waited(follower),
            Input::ReadDone { partition, follower, stream, from, batches } => {
                // Others first, or this one would take its place again for as long as the follower lacks something.
                self.send_queues.entry(follower).or_default().has_read();
                self.send_what_waited(follower);
                self.step(partition, Event::ReadDone { follower, stream, from, batches });
                self.has_read(follower, stream);
            }
            Input::LeaderConnected(link) => {
                let (leader, stream) = (link.leader, link.stream);
                self.leaders.insert(leader, link);
                self.step_all(|h| (h.following == Some(leader)).then_some(Event::LeaderConnected { leader, stream }));
            }
            Input::LeaderGone { leader, stream } => {
                if self.leaders.get(&leader).is_some_and(|l| l.stream == stream) {
                    self.leaders.remove(&leader);
                    self.step_all(|h| (h.following == Some(leader)).then_some(Event::LeaderDisconnected { leader }));
                }
            }
            Input::FromLeader { partition, leader_epoch, stream, message, credit } => {
                let reservation = credit.map(|credit| Arc::new(credit) as Reservation);
                self.step_with(partition, Event::FromLeader { leader_epoch, stream, message }, reservation.as_ref());
            }
            Input::Damaged { partition, from } => self.step(partition, Event::Damaged { from }),
            Input::CopyKept { partition } => self.step(partition, Event::CopyKept),
            Input::AlterPartitionFailed { partition, partition_epoch, refused } => {
                self.step(partition, Event::AlterPartitionFailed { partition_epoch, refused });
            }
        }
    }

    fn hear_follower(
        &mut self,
        partition: TopicPartition,
        follower: BrokerId,
        broker_epoch: BrokerEpoch,
        leader_epoch: LeaderEpoch,
        stream: StreamId,
        message: FollowerMessage,
    ) {
        if self.partitions.contains_key(&partition) {
            self.step(partition, Event::FromFollower { follower, broker_epoch, leader_epoch, stream, message });
        } else {
            // The follower has heard of the partition before this broker has: it asks again.
            let message = LeaderMessage::NotLeader { leader_epoch: LeaderEpoch(-1) };
            self.carry_out(partition, Command::Send { follower, stream, leader_epoch, message }, None);
        }
    }

    /// What an input led to goes to leaders at once: one frame each, of all partitions that it was about.
    fn send_acks(&mut self) {
        self.leaders.values_mut().for_each(LeaderLink::send_acks);
    }

    /// What a turn has brought goes out: whoever waits for several answers is woken when all of them are there, and writes
    /// them at once.
    fn let_go(&mut self) {
        self.send_acks();
        self.answer();
    }

    fn answer(&mut self) {
        for (reply, produced) in self.answers.drain(..) {
            reply.send(Ok(produced));
        }
        self.answers.shrink_to(ANSWERS_KEPT);
    }

    /// At once: a series ends before its next append. What of it was committed before that is answered first, as who
    /// hears that it is over takes what has no answer for refused.
    pub(super) fn refuse(&mut self, reply: AppendReply, error: ProduceError) {
        self.answer();
        reply.send(Err(error));
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Produce { partition, batch, acks, reservation, reply } => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                let fits = |hosted: &&mut Box<Hosted>| reply.fits(hosted.replica.leader_epoch());
                let Some(hosted) = self.partitions.get_mut(&partition).filter(fits) else {
                    return self.refuse(reply, ProduceError::NotLeader);
                };
                hosted.tickets.insert(ticket, reply);
                self.step_with(partition, Event::Produce { ticket, batch, acks }, Some(&reservation));
            }
            Request::Fetch { partition, spec, reply } => self.fetch(partition, &spec, reply),
            Request::Offset { partition, current_epoch, spec, reply } => {
                self.offset(partition, current_epoch, spec, reply);
            }
            Request::DeleteRecords { partition, on_all, before, reply } => {
                self.delete_records(partition, before, Deletion { to: Offset::ZERO, on_all, reply });
            }
            Request::EpochEnd { partition, current_epoch, epoch, reply } => {
                let _ = reply.send(self.epoch_end(partition, current_epoch, epoch));
            }
            Request::Cleanable { partition, reply } => {
                let _ = reply.send(self.cleanable(partition));
            }
            Request::Lags { partition, reply } => {
                let now = self.now();
                let lags = self.partitions.get(&partition).map(|hosted| hosted.replica.lags(now));
                let _ = reply.send(lags.unwrap_or_default());
            }
            Request::Producers { partition, reply } => {
                let _ = reply.send(self.producers(partition));
            }
        }
    }

    /// Brings an event to a replica, and carries out what it wants, and what comes of that.
    pub(super) fn step(&mut self, partition: TopicPartition, event: Event) {
        self.step_with(partition, event, None);
    }

    /// Lets those who wait to send to a follower do so, as far as there is credit.
    fn send_what_waited(&mut self, follower: BrokerId) {
        let Some(link) = self.followers.get(&follower).cloned() else { return };
        let reads = self.shell.reads();
        while let Some(partition) = self.send_queues.entry(follower).or_default().next(&link, reads) {
            self.step(partition, Event::Writable { follower, stream: link.stream });
        }
    }

    fn step_all(&mut self, event: impl Fn(&Hosted) -> Option<Event>) {
        let all: Vec<_> = self.partitions.iter().filter_map(|(tp, h)| Some((*tp, event(h)?))).collect();
        for (partition, event) in all {
            self.step(partition, event);
        }
    }

    fn step_with(&mut self, partition: TopicPartition, event: Event, reservation: Option<&Reservation>) {
        self.step_one(partition, event, reservation);
        while let Some((partition, event)) = self.pending.pop_front() {
            self.step_one(partition, event, None);
        }
    }

    fn step_one(&mut self, partition: TopicPartition, event: Event, reservation: Option<&Reservation>) {
        let now = self.now();
        let mut out = std::mem::take(&mut self.out);
        let (mut knows_more, mut removes) = (false, false);
        if let Some(hosted) = self.partitions.get_mut(&partition) {
            let room = self.shell.writer.space().room().takes(hosted.internal);
            hosted.replica.meet(now, self.lease, room, &mut out);
            hosted.replica.step(now, event, &mut out);
            hosted.wake_if_readable_changed(now);
            removes = !hosted.deletions.is_empty();
            let (counted, bytes) = (hosted.producer_bytes, hosted.replica.producers().memory());
            if bytes != counted {
                hosted.producer_bytes = bytes;
                knows_more = bytes > counted;
                self.count_producers(counted, bytes);
            }
        }
        for command in out.drain(..) {
            self.carry_out(partition, command, reservation);
        }
        self.out = out;
        if let Some(hosted) = self.partitions.get_mut(&partition).filter(|hosted| !hosted.ticks)
            && hosted.replica.needs_tick(now)
        {
            hosted.ticks = true;
            self.ticking.push(partition);
        }
        if removes {
            // A replica may have been fenced, or have removed the records.
            self.answer_deletions(partition);
        }
        if knows_more {
            self.forget_producers();
        }
    }

    fn metadata(&mut self, update: &MetadataUpdate) {
        let image = &update.image;
        let mut changed = BTreeSet::new();
        for event in &update.events {
            match event {
                MetadataEvent::PartitionChanged(partition) => {
                    changed.insert(*partition);
                }
                MetadataEvent::PartitionDeleted(partition) => self.delete(*partition),
                MetadataEvent::Broker(broker) => {
                    let holds =
                        |tp: &&TopicPartition| image.partition(**tp).is_some_and(|p| p.replicas.contains(broker));
                    changed.extend(self.partitions.keys().filter(holds));
                }
            }
        }
        let mut led = Vec::new();
        for partition in changed.iter().copied() {
            if self.owns(partition) && self.update_replica(image, partition) {
                led.push(partition);
            }
        }
        if self.image.is_none() {
            self.delete_forgotten(image);
            self.recovered.shrink_to_fit();
        }
        if let Some(before) = self.image.replace(image.clone()) {
            let hosted = changed.iter().filter(|partition| self.partitions.contains_key(*partition));
            self.shell.metrics.observe(self.shell.me, (&before, image), hosted);
        }
        let deleted = update.events.iter().filter_map(|event| match event {
            MetadataEvent::PartitionDeleted(partition) => Some(*partition),
            MetadataEvent::PartitionChanged(_) | MetadataEvent::Broker(_) => None,
        });
        for partition in changed.into_iter().chain(deleted) {
            self.count(image, partition);
        }
        log_leaderships(image, &led);
    }

    /// Passes to a partition's replica its state in the metadata; true if it is to lead. A broker that is no replica
    /// any more drops its log.
    pub(super) fn update_replica(&mut self, image: &Image, partition: TopicPartition) -> bool {
        let me = self.shell.me;
        let Some(state) = partition_state(image, partition).filter(|_| !self.deleting.contains(&partition)) else {
            return false;
        };
        if !state.replicas.iter().any(|(id, _)| *id == me) {
            self.leave(partition, state);
            return false;
        }
        let new = !self.partitions.contains_key(&partition);
        self.host(partition);
        // Damage may have been found before the replica was there.
        if new && let Some(from) = self.shell.reader.state(partition).and_then(|found| found.damaged) {
            self.step(partition, Event::Damaged { from });
        }
        if let (Some(hosted), Some(topic)) = (self.partitions.get_mut(&partition), image.topics.get(&partition.topic)) {
            hosted.internal = topic.is_internal();
        }
        let leads = state.leader == Some(me);
        self.step(partition, Event::Metadata(state));
        leads
    }

    /// Counts a partition anew that has changed, or is hosted from now on or not any more.
    pub(super) fn count(&mut self, image: &Image, partition: TopicPartition) {
        let state = image.partition(partition).filter(|_| self.partitions.contains_key(&partition));
        let now = state.map(|state| Counts::of(state, self.shell.me));
        let before = match now {
            Some(now) => self.counted.insert(partition, now),
            None => self.counted.remove(&partition),
        };
        self.shell.metrics.change(before.unwrap_or_default(), now.unwrap_or_default());
    }

    fn owns(&self, partition: TopicPartition) -> bool {
        Partitions::owner_of(partition, self.shell.owners.len()) == self.shell.index
    }

    fn host(&mut self, partition: TopicPartition) {
        let (recovered, lives, shell) = (&mut self.recovered, &mut self.lives, &self.shell);
        self.partitions.entry(partition).or_insert_with(|| {
            let log = recovered.remove(&partition);
            let empty = || LogState { producers: shell.reader.no_producers(), ..LogState::default() };
            *lives += 1;
            Box::new(Hosted::new(shell.me, Arc::clone(&shell.config), log.unwrap_or_else(empty), *lives))
        });
    }

    /// Has a replica know of this broker's lease before it is asked something: it may have heard of nothing for long.
    pub(super) fn renew(&mut self, partition: TopicPartition) {
        if self.partitions.get(&partition).is_some_and(|hosted| hosted.replica.lease() != self.lease) {
            self.step(partition, Event::Lease(self.lease));
        }
    }

    fn lives(&self, partition: TopicPartition, life: u64) -> bool {
        self.partitions.get(&partition).is_some_and(|hosted| hosted.life == life)
    }
}

/// Says once a change who leads and who is in sync.
fn log_leaderships(image: &Image, led: &[TopicPartition]) {
    if led.len() > LOG_CHANGES_MAX {
        info!("Leader of {} partitions that changed", led.len());
        return;
    }
    for partition in led {
        let (Some(topic), Some(state)) = (image.topics.get(&partition.topic), image.partition(*partition)) else {
            continue;
        };
        let isr: Vec<i32> = state.isr.iter().map(|id| id.0).collect();
        let replicas: Vec<i32> = state.replicas.iter().map(|id| id.0).collect();
        let (name, index, epoch) = (&topic.name, partition.partition, state.leader_epoch);
        info!("Leader of {name}-{index} in epoch {epoch}; in sync {isr:?} of {replicas:?}");
    }
}

#[cfg(test)]
mod tests;
