//! The task of one shard: one leadership of one partition of `__consumer_offsets`.

use super::appends::{AppendError, Appends};
use super::handle::{Answer, Asked};
use super::loading::{LoadError, Log};
use super::manager::CoordinatorsConfig;
use super::memory::{GroupMemory, GroupShares};
use super::metrics::CoordinatorMetrics;
use crate::partitions::{Partitions, Reservation};
use chronik_core::cluster::Image;
use chronik_core::groups::{Command, Config, Event, GroupError, GroupRecord, Now, RecordValue, Shard, Ticket};
use chronik_core::ids::{BrokerId, LeaderEpoch, TopicPartition};
use chronik_core::replication::ProduceError;
use chronik_core::time;
use chronik_quorum::{ControllerHandle, Registration};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Requests that are taken from the queue before other events are handled.
const AT_ONCE: usize = 256;
/// The pause before a partition that could not be read is read again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// So long after an append that failed nothing is appended, at first and at most: while a disk is full, say, the next
/// one fails as well, and each failure costs a load. Not if it failed because this broker does not lead.
const AFTER_FAILURE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why a shard that served does so no more.
enum End {
    /// The leadership is over, or the broker stops.
    Stopped,
    /// An append failed.
    Failed(AppendError),
}

/// A waiting request.
struct WaitingReply {
    reply: oneshot::Sender<Answer>,
    _reservation: Reservation,
}

pub(super) struct ShardTask {
    me: BrokerId,
    partition: TopicPartition,
    epoch: LeaderEpoch,
    config: Config,
    partitions: Partitions,
    images: watch::Receiver<Image>,
    registration: watch::Receiver<Registration>,
    requests: mpsc::Receiver<Asked>,
    abandoned: mpsc::UnboundedReceiver<Ticket>,
    metrics: CoordinatorMetrics,
    /// Room for what groups keep, which all shards share.
    memory: GroupMemory,
    /// Groups are counted this often.
    counted_each: Duration,
    stop: CancellationToken,
    /// The origin of the shard's clock.
    origin: Instant,
    /// How long nothing is appended after the next append that fails.
    after_failure: Duration,
    /// Nothing is appended before.
    not_before: Option<Instant>,
}

/// A shard that is loaded.
struct Serving {
    shard: Shard,
    /// What its groups keep.
    shares: GroupShares,
    appends: Appends,
    /// The number of the append that stands for what was loaded and was not committed.
    loaded: Option<u64>,
    waiting: HashMap<Ticket, WaitingReply>,
    replies: Vec<(Ticket, Answer)>,
    wake: Option<Instant>,
    /// What the shard was last told: whether appends are likely to be committed.
    writable: bool,
    out: Vec<Command>,
}

impl ShardTask {
    pub(super) fn new(
        config: &CoordinatorsConfig,
        memory: &GroupMemory,
        (partition, epoch): (TopicPartition, LeaderEpoch),
        requests: mpsc::Receiver<Asked>,
        abandoned: mpsc::UnboundedReceiver<Ticket>,
        stop: CancellationToken,
    ) -> Self {
        let controller: &ControllerHandle = &config.controller;
        Self {
            me: config.me,
            partition,
            epoch,
            config: config.groups.clone(),
            partitions: config.partitions.clone(),
            images: controller.images(),
            registration: controller.registration(),
            requests,
            abandoned,
            metrics: config.metrics.clone(),
            memory: memory.clone(),
            counted_each: config.shown.every,
            stop,
            origin: Instant::now(),
            after_failure: AFTER_FAILURE.0,
            not_before: None,
        }
    }

    /// Runs until the leadership ends. Requests that are still in the queue then are dropped, which their clients hear
    /// as `NOT_COORDINATOR`.
    pub(super) async fn run(mut self) {
        while let Some(mut serving) = self.load().await {
            self.metrics.serving.inc();
            let end = self.serve(&mut serving).await;
            self.metrics.serving.dec();
            let End::Failed(error) = end else { return };
            self.metrics.failures.inc();
            warn!(index = %self.partition.partition, %error, "Loading a group coordinator anew as an append failed");
            let not_leader = matches!(error, AppendError::Produce(ProduceError::NotLeader));
            let refusal = if not_leader { GroupError::NotCoordinator } else { GroupError::CoordinatorNotAvailable };
            for (_, waiting) in serving.waiting.drain() {
                let _ = waiting.reply.send(Err(refusal));
            }
            if !self.hold_back(not_leader).await {
                return;
            }
        }
    }

    /// After an append that failed: writes nothing for a while. False when the leadership is over.
    async fn hold_back(&mut self, not_leader: bool) -> bool {
        if not_leader {
            // Another broker leads, or the lease is over: loading waits until it is renewed, and nothing is wrong with
            // the next append then. While the quorum has no leader that may happen to all groups, again and again.
            return self.pause(PAUSE.0).await;
        }
        // It wrote all the same, as it does with what it finds when it is loaded.
        let again = self.not_before.is_some_and(|until| Instant::now() < until);
        if again && !self.pause(self.after_failure).await {
            return false;
        }
        self.not_before = Instant::now().checked_add(self.after_failure);
        self.after_failure = (self.after_failure * 2).min(AFTER_FAILURE.1);
        true
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let monotonic = self.origin.elapsed().as_micros();
        Now {
            monotonic: time::Instant(u64::try_from(monotonic).unwrap_or(u64::MAX)),
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Reads the partition, again and again until it succeeds. `None` when there is no more reason to.
    async fn load(&mut self) -> Option<Serving> {
        let started = Instant::now();
        let mut pause = PAUSE.0;
        loop {
            match self.try_load().await? {
                Ok(serving) => {
                    let took = started.elapsed();
                    self.metrics.loaded(took);
                    let (index, epoch) = (self.partition.partition, self.epoch);
                    debug!(%index, %epoch, ?took, "Loaded a group coordinator");
                    return Some(serving);
                }
                Err(error) if error.passes() => {}
                Err(error) => {
                    error!(index = %self.partition.partition, %error, "Cannot load a group coordinator");
                    pause = PAUSE.1;
                }
            }
            if !self.pause(pause).await {
                return None;
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn try_load(&mut self) -> Option<Result<Serving, LoadError>> {
        let mut shard = Shard::new(self.config.clone());
        let mut out = Vec::new();
        let now = self.now();
        let log = Log { partitions: self.partitions.clone(), partition: self.partition, epoch: self.epoch };
        let (images, partition) = (self.images.clone(), self.partition);
        let too_few = || !enough_in_sync(&images.borrow(), partition);
        let mut count = 0_u64;
        let loaded = {
            let mut each = |record: GroupRecord, committed: bool| {
                count += 1;
                let event = if committed { Event::Load(record) } else { Event::LoadUncommitted(record) };
                shard.step(now, event, &mut out);
            };
            let load = log.load(too_few, &mut each);
            let mut load = std::pin::pin!(load);
            loop {
                tokio::select! {
                    loaded = &mut load => break loaded,
                    more = self.refuse_one() => if !more { return None },
                }
            }
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return Some(Err(error)),
        };
        self.metrics.loaded_records.inc_by(count);
        if count > 0 {
            info!(index = %self.partition.partition, records = count, "Read the groups of a partition");
        }
        let mut serving = Serving {
            shard,
            shares: self.memory.shares(),
            appends: Appends::new(self.partitions.clone(), self.partition, self.epoch),
            loaded: None,
            waiting: HashMap::new(),
            replies: Vec::new(),
            wake: None,
            writable: true,
            out,
        };
        serving.loaded = serving.shard.last_append();
        if let Some(number) = serving.loaded {
            serving.appends.wait_for(number, log, loaded);
        }
        // What it wanted before it was loaded.
        serving.out.clear();
        serving.metadata(self);
        serving.step(self, Event::Loaded);
        Some(Ok(serving))
    }

    /// Waits, and refuses requests meanwhile. False when the leadership is over.
    async fn pause(&mut self, pause: Duration) -> bool {
        let mut over = std::pin::pin!(tokio::time::sleep(pause));
        loop {
            tokio::select! {
                () = &mut over => return true,
                more = self.refuse_one() => if !more { return false },
            }
        }
    }

    /// Refuses the next request as long as the shard is loading, which who asks hears only while it leads: a Heartbeat is
    /// answered without an error then, as in Kafka. False when the leadership is over.
    async fn refuse_one(&mut self) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            asked = self.requests.recv() => match asked {
                Some(asked) => {
                    let loads = self.leads();
                    let error = if loads { GroupError::CoordinatorLoadInProgress } else { GroupError::NotCoordinator };
                    let _ = asked.reply.send(Err(error));
                    true
                }
                None => false,
            },
            // Refused before, or about to be.
            Some(_) = self.abandoned.recv() => true,
        }
    }

    async fn serve(&mut self, serving: &mut Serving) -> End {
        let mut asked = Vec::with_capacity(AT_ONCE);
        let mut counted = self.metrics.counted();
        let mut counts = interval(self.counted_each);
        counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What loading or the last events wanted.
            if let Err(error) = serving.carry_out(self) {
                return End::Failed(error);
            }
            let wake = serving.tick_at();
            let event = tokio::select! {
                () = self.stop.cancelled() => return End::Stopped,
                committed = serving.appends.committed() => match committed {
                    Ok(number) => {
                        // What was loaded was written before the last failure, and says nothing of the next append.
                        if Some(number) > serving.loaded {
                            self.after_failure = AFTER_FAILURE.0;
                        }
                        Event::Committed(number)
                    }
                    Err(error) => return End::Failed(error),
                },
                count = self.requests.recv_many(&mut asked, AT_ONCE), if serving.takes_requests() => {
                    if count == 0 {
                        return End::Stopped;
                    }
                    // Whoever asks may know a topic that has just been created: what it asks is to find it here too.
                    if self.images.has_changed().unwrap_or(false) {
                        serving.metadata(self);
                    }
                    for asked in asked.drain(..) {
                        serving.request(self, asked);
                    }
                    continue;
                }
                Some(ticket) = self.abandoned.recv() => {
                    serving.waiting.remove(&ticket);
                    Event::Abandoned(ticket)
                }
                changed = self.images.changed() => {
                    if changed.is_err() {
                        return End::Stopped;
                    }
                    serving.metadata(self);
                    continue;
                }
                _ = counts.tick() => {
                    counted.update(serving.shard.census());
                    continue;
                }
                () = at(self.not_before) => {
                    self.not_before = None;
                    serving.look_whether_writable(self);
                    continue;
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {
                    serving.wake = None;
                    Event::Tick
                }
            };
            serving.step(self, event);
        }
    }

    /// Whether this is still the leadership that the shard belongs to, and its lease holds. The lease is looked at
    /// first: one that was granted later than the image is would say nothing about the image.
    fn leads(&self) -> bool {
        let lease = self.registration.borrow().lease_until;
        let image = self.images.borrow();
        let state = image.partition(self.partition);
        lease.is_some_and(|until| Instant::now() < until)
            && state.is_some_and(|p| p.leader == Some(self.me) && p.leader_epoch == self.epoch)
    }

    /// Whether what is appended is likely to be committed: enough replicas are in sync, and no append has just failed.
    fn is_writable(&self, image: &Image) -> bool {
        self.not_before.is_none() && enough_in_sync(image, self.partition)
    }
}

/// Whether as many replicas are in sync as have to be for anything to be committed.
fn enough_in_sync(image: &Image, partition: TopicPartition) -> bool {
    let least = image.topics.get(&partition.topic).map_or(0, |topic| topic.min_insync_replicas);
    image.partition(partition).is_none_or(|p| p.isr.len() >= p.min_insync_replicas(least))
}

/// That moment; never, if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

impl Serving {
    fn step(&mut self, task: &ShardTask, event: Event) {
        self.shard.step(task.now(), event, &mut self.out);
        self.shares.set(&self.shard);
    }

    /// Whether requests are taken. So much may be under way that no more should be asked for; but while nothing is
    /// written, no request adds to it, and nobody knows when it will be committed.
    fn takes_requests(&self) -> bool {
        !self.appends.are_full() || !self.writable
    }

    /// When to let the shard see what time it is. For members whose heartbeats wait, as no request is taken, none passes: a
    /// tick that comes late lets sessions go on.
    fn tick_at(&self) -> Option<Instant> {
        self.wake.filter(|_| self.takes_requests())
    }

    /// Takes the newest metadata.
    fn metadata(&mut self, task: &mut ShardTask) {
        let image = task.images.borrow_and_update().clone();
        self.step(task, Event::Metadata(image));
        self.look_whether_writable(task);
    }

    /// Lets the shard know when appends are not likely to be committed any more, or are again.
    fn look_whether_writable(&mut self, task: &ShardTask) {
        let writable = task.is_writable(&task.images.borrow());
        if writable != self.writable {
            self.writable = writable;
            self.step(task, Event::Writable(writable));
        }
    }

    fn request(&mut self, task: &ShardTask, asked: Asked) {
        let Asked { ticket, client, request, reservation, reply } = asked;
        self.waiting.insert(ticket, WaitingReply { reply, _reservation: reservation });
        let room = self.shares.room();
        self.step(task, Event::Request { ticket, client, request, random: rand::random(), room });
    }

    /// Does what the shard wants. All that it wants appended now goes into as few batches as it fits.
    fn carry_out(&mut self, task: &ShardTask) -> Result<(), AppendError> {
        let wall_ms = task.now().wall_ms;
        for command in self.out.drain(..) {
            match command {
                Command::Append { number, records } => {
                    count(&task.metrics, &records);
                    self.appends.add(number, &records, wall_ms)?;
                }
                Command::Reply { ticket, response } => self.replies.push((ticket, Ok(response))),
                Command::WakeAt(at) => self.wake = task.origin.checked_add(Duration::from_micros(at.0)),
            }
        }
        self.appends.flush(wall_ms)?;
        if self.replies.is_empty() {
            return Ok(());
        }
        // Checked once everything that is answered here has been decided: a stale coordinator says nothing.
        let leads = task.leads();
        for (ticket, answer) in self.replies.drain(..) {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                let _ = waiting.reply.send(if leads { answer } else { Err(GroupError::NotCoordinator) });
            }
        }
        Ok(())
    }
}

fn count(metrics: &CoordinatorMetrics, records: &[GroupRecord]) {
    let commits = records.iter().filter(|r| matches!(r.value, Some(RecordValue::OffsetCommit(_)))).count() as u64;
    let rebalance = |r: &&GroupRecord| {
        matches!(r.value, Some(RecordValue::GroupMetadata(_) | RecordValue::ConsumerGroupMetadata { .. }))
    };
    metrics.rebalances.inc_by(records.iter().filter(rebalance).count() as u64);
    metrics.commits.inc_by(commits);
    metrics.group_records.inc_by(records.len() as u64 - commits);
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;
    use crate::partitions::handle::Request;
    use chronik_core::groups::RecordKey;
    use chronik_core::ids::{Offset, PartitionId, TopicId};
    use chronik_core::replication::Produced;

    #[tokio::test]
    async fn no_time_passes_for_members_while_their_heartbeats_wait_for_appends() {
        let partition = TopicPartition { topic: TopicId::default(), partition: PartitionId(0) };
        let (owner, mut asked) = mpsc::unbounded_channel();
        let due = Instant::now();
        let mut serving = Serving {
            shard: Shard::new(Config::default()),
            shares: GroupMemory { members: Memory::new(0), offsets: Memory::new(0) }.shares(),
            appends: Appends::new(Partitions::new(vec![owner]), partition, LeaderEpoch(1)),
            loaded: None,
            waiting: HashMap::new(),
            replies: Vec::new(),
            wake: Some(due),
            writable: true,
            out: Vec::new(),
        };
        assert_eq!(serving.tick_at(), Some(due));
        let record = GroupRecord { key: RecordKey::GroupMetadata("g".repeat(30_000).into()), value: None };
        let mut number = 0;
        while !serving.appends.are_full() {
            number += 1;
            serving.appends.add(number, std::slice::from_ref(&record), 0).expect("it can be written");
        }
        assert_eq!((serving.takes_requests(), serving.tick_at()), (false, None));
        serving.writable = false;
        assert_eq!((serving.takes_requests(), serving.tick_at()), (true, Some(due)), "nothing is added to it");
        serving.writable = true;
        let Ok(Request::Produce { reply, .. }) = asked.try_recv() else { panic!("nothing is appended") };
        reply.send(Ok(Produced { base_offset: Offset(0), log_start: Offset(0) }));
        serving.appends.committed().await.expect("it is committed");
        assert_eq!(serving.tick_at(), Some(due), "there is room again");
    }
}
