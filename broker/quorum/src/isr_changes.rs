//! ISR changes that the partitions led here ask for (KIP-497), carried as by Kafka's `AlterPartitionManager`: one request
//! at a time is on its way to the controller's leader, with all changes that came while the one before it was.
//!
//! Nothing is asked while there is no leader; a request that settled nothing is repeated after a pause. Each change has
//! an outcome of its own: what became of it, or that it is not known, or that it was never sent.

use super::handle::{ControllerError, IsrChange};
use super::requests::{Backoff, Requests, Tried, Try};
use chronik_core::cluster::MetadataCommand;
use chronik_core::ids::{BrokerId, TopicPartition};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Changes in one request at most: a few hundred kilobytes.
const AT_ONCE: usize = 1_000;
/// Changes that wait for their outcome at most.
pub(super) const QUEUE: usize = 10_000;

/// The task that carries them.
pub(super) struct IsrChanges {
    requests: Requests,
    queue: mpsc::Receiver<IsrChange>,
    outbox: Outbox,
    asking: Option<Asking>,
}

/// A request that is on its way.
struct Asking {
    leader: BrokerId,
    sent: Arc<AtomicBool>,
    answers: BoxFuture<'static, Vec<Try>>,
}

impl IsrChanges {
    pub(super) fn new(requests: Requests, queue: mpsc::Receiver<IsrChange>) -> Self {
        Self { requests, queue, outbox: Outbox::default(), asking: None }
    }

    /// Runs until the queue ends.
    pub(super) async fn run(mut self) {
        let mut leader = self.requests.leader.clone();
        let (mut come, mut before) = (Vec::new(), None);
        loop {
            // A change is noticed here, whatever the loop went on for.
            let known = *leader.borrow_and_update();
            if known != before {
                before = known;
                self.outbox.leader_changed();
                // Whoever leads now is asked at once; what the other one did, nobody knows.
                if let Some(asked) = self.asking.take_if(|asking| known.is_some_and(|known| known != asking.leader)) {
                    self.outbox.given_up(asked.sent.load(Ordering::Relaxed));
                }
            }
            self.outbox.expire(Instant::now());
            if let (None, Some(leader)) = (&self.asking, known) {
                self.asking = self.ask(leader);
            }
            let wakes_at = self.outbox.wakes_at(known.is_some());
            tokio::select! {
                answers = answered(&mut self.asking) => {
                    self.asking = None;
                    self.outbox.answered(Instant::now(), answers);
                }
                count = self.queue.recv_many(&mut come, AT_ONCE), if !self.outbox.is_full() => {
                    if count == 0 {
                        return;
                    }
                    come.drain(..).for_each(|change| self.outbox.add(change));
                }
                changed = leader.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(wakes_at.unwrap_or_else(Instant::now)), if wakes_at.is_some() => {}
            }
        }
    }

    /// The next request, if it is time for one.
    fn ask(&mut self, leader: BrokerId) -> Option<Asking> {
        let epoch = self.requests.broker_epoch();
        let changes = self.outbox.next_request(Instant::now());
        if changes.is_empty() {
            return None;
        }
        let Ok(broker_epoch) = epoch else {
            // Whoever is not registered leads nothing.
            self.outbox.withdraw();
            return None;
        };
        let me = self.requests.me;
        let command = |IsrChange { change, .. }: &IsrChange| MetadataCommand::AlterPartition {
            leader: me,
            broker_epoch,
            partition: change.partition,
            leader_epoch: change.leader_epoch,
            partition_epoch: change.partition_epoch,
            isr: change.isr.clone(),
        };
        let commands: Vec<MetadataCommand> = changes.iter().map(command).collect();
        let (requests, sent) = (self.requests.clone(), Arc::new(AtomicBool::new(false)));
        let on_its_way = Arc::clone(&sent);
        let answers = async move { requests.ask(leader, &commands, &on_its_way).await }.boxed();
        Some(Asking { leader, sent, answers })
    }
}

async fn answered(asking: &mut Option<Asking>) -> Vec<Try> {
    match asking {
        Some(asking) => (&mut asking.answers).await,
        None => std::future::pending().await,
    }
}

/// Changes without an outcome. Time is an argument here.
#[derive(Debug, Default)]
struct Outbox {
    /// Those that wait, one a partition.
    waiting: HashMap<TopicPartition, IsrChange>,
    /// In which order: as they came, so that their deadlines are in order.
    order: VecDeque<TopicPartition>,
    /// Those that the request asks for that is under way.
    asked: Vec<IsrChange>,
    /// No request before that.
    not_before: Option<Instant>,
    backoff: Backoff,
}

impl Outbox {
    fn is_full(&self) -> bool {
        self.waiting.len() + self.asked.len() >= QUEUE
    }

    /// What waits for the same partition was of a state that its leader has left behind.
    fn add(&mut self, change: IsrChange) {
        let partition = change.change.partition;
        if self.waiting.insert(partition, change).is_some() {
            self.order.retain(|other| *other != partition);
        }
        self.order.push_back(partition);
    }

    /// What the next request asks for. Nothing while one is under way, or if it is too early.
    fn next_request(&mut self, now: Instant) -> &[IsrChange] {
        if !self.asked.is_empty() || self.not_before.is_some_and(|at| now < at) {
            return &[];
        }
        while self.asked.len() < AT_ONCE
            && let Some(partition) = self.order.pop_front()
        {
            self.asked.extend(self.waiting.remove(&partition));
        }
        &self.asked
    }

    /// What came of each change that was asked for.
    fn answered(&mut self, now: Instant, outcomes: Vec<Try>) {
        let asked = std::mem::take(&mut self.asked);
        let (count, mut again) = (asked.len(), Vec::new());
        for (mut change, outcome) in asked.into_iter().zip(outcomes) {
            match outcome {
                Ok((Ok(_), _)) => change.tell(Ok(())),
                // The try before may be what made this one stale.
                Ok((Err(_), _)) if change.unsure => change.tell(Err(ControllerError::Unavailable)),
                Ok((Err(refusal), _)) => change.tell(Err(ControllerError::Refused(refusal.to_string()))),
                Err(tried) => {
                    change.unsure |= tried == Tried::Something;
                    again.push(change);
                }
            }
        }
        if again.len() < count {
            self.leader_changed();
        } else {
            self.not_before = Some(now + self.backoff.pause());
        }
        self.put_back(again);
    }

    /// The request that is under way has no answer. If it was sent, it may yet have an effect.
    fn given_up(&mut self, sent: bool) {
        let mut asked = std::mem::take(&mut self.asked);
        for change in &mut asked {
            change.unsure |= sent;
        }
        self.put_back(asked);
    }

    /// What the next request was to ask for cannot be asked for.
    fn withdraw(&mut self) {
        for change in std::mem::take(&mut self.asked) {
            let outcome = if change.unsure { ControllerError::Unavailable } else { ControllerError::NotAsked };
            change.tell(Err(outcome));
        }
    }

    fn put_back(&mut self, changes: Vec<IsrChange>) {
        for change in changes.into_iter().rev() {
            let partition = change.change.partition;
            // One that came meanwhile is of a newer state.
            if let Entry::Vacant(place) = self.waiting.entry(partition) {
                place.insert(change);
                self.order.push_front(partition);
            }
        }
    }

    /// Somebody may do what nobody did before: there is no reason to wait.
    fn leader_changed(&mut self) {
        (self.not_before, self.backoff) = (None, Backoff::default());
    }

    /// Ends those that have waited for too long.
    fn expire(&mut self, now: Instant) {
        while let Some(change) = self.first().filter(|change| change.deadline <= now) {
            let outcome = if change.unsure { ControllerError::Unavailable } else { ControllerError::NotAsked };
            let partition = self.order.pop_front();
            if let Some(change) = partition.and_then(|partition| self.waiting.remove(&partition)) {
                change.tell(Err(outcome));
            }
        }
    }

    /// When there is something to do by itself; `leads`: whether there is somebody to be asked.
    fn wakes_at(&self, leads: bool) -> Option<Instant> {
        let deadline = self.first()?.deadline;
        let next = self.not_before.filter(|_| leads && self.asked.is_empty());
        Some(next.map_or(deadline, |at| at.min(deadline)))
    }

    fn first(&self) -> Option<&IsrChange> {
        self.waiting.get(self.order.front()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlterPartition;
    use chronik_core::cluster::{Answer, Refusal};
    use chronik_core::ids::{LeaderEpoch, MetadataOffset, PartitionEpoch, PartitionId, TopicId};
    use std::sync::Mutex;
    use std::time::Duration;

    type Outcomes = Arc<Mutex<Vec<(i32, Result<(), ControllerError>)>>>;

    const UNKNOWN: Result<(), ControllerError> = Err(ControllerError::Unavailable);
    const DONE: Try = Ok((Ok(Answer::Done), MetadataOffset(1)));
    const REFUSED: Try = Ok((Err(Refusal::NotLeader), MetadataOffset(1)));
    const NOT_ASKED: Result<(), ControllerError> = Err(ControllerError::NotAsked);

    struct Trial {
        outbox: Outbox,
        start: Instant,
        outcomes: Outcomes,
    }

    impl Trial {
        fn new() -> Self {
            Self { outbox: Outbox::default(), start: Instant::now(), outcomes: Outcomes::default() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// A change of that partition comes, and is waited for for two seconds.
        fn comes(&mut self, ms: u64, partition: i32) {
            let outcomes = Arc::clone(&self.outcomes);
            let change = AlterPartition {
                partition: TopicPartition { topic: TopicId::default(), partition: PartitionId(partition) },
                leader_epoch: LeaderEpoch(1),
                partition_epoch: PartitionEpoch(ms as i32),
                isr: Vec::new(),
            };
            let done = move |outcome| outcomes.lock().unwrap().push((partition, outcome));
            self.outbox.add(IsrChange::new(change, self.at(ms + 2_000), done));
        }

        fn asks(&mut self, ms: u64) -> Vec<i32> {
            let now = self.at(ms);
            self.outbox.next_request(now).iter().map(|c| c.change.partition.partition.0).collect()
        }

        fn answered(&mut self, ms: u64, tries: Vec<Try>) {
            let now = self.at(ms);
            self.outbox.answered(now, tries);
        }

        fn outcomes(&self) -> Vec<(i32, Result<(), ControllerError>)> {
            std::mem::take(&mut self.outcomes.lock().unwrap())
        }
    }

    #[test]
    fn what_comes_while_a_request_is_under_way_is_in_the_next_one() {
        let mut trial = Trial::new();
        trial.comes(0, 1);
        assert_eq!(trial.asks(0), [1]);
        for partition in 2..=4 {
            trial.comes(1, partition);
            assert_eq!(trial.asks(1), [], "one is under way");
        }
        trial.answered(2, vec![DONE]);
        assert_eq!(trial.outcomes(), [(1, Ok(()))]);
        assert_eq!(trial.asks(2), [2, 3, 4]);
        trial.answered(3, vec![DONE, REFUSED, DONE]);
        let refusal = Err(ControllerError::Refused(Refusal::NotLeader.to_string()));
        assert_eq!(trial.outcomes(), [(2, Ok(())), (3, refusal), (4, Ok(()))]);
        assert_eq!((trial.asks(3), trial.outbox.wakes_at(true)), (vec![], None));
    }

    #[test]
    fn a_request_has_no_more_than_it_may_and_the_rest_follows() {
        let mut trial = Trial::new();
        for partition in 0..QUEUE as i32 {
            assert!(!trial.outbox.is_full());
            trial.comes(0, partition);
        }
        assert!(trial.outbox.is_full());
        for request in 0..QUEUE / AT_ONCE {
            let asked = trial.asks(0);
            assert_eq!((asked.len(), asked[0]), (AT_ONCE, (request * AT_ONCE) as i32));
            trial.answered(0, vec![DONE; AT_ONCE]);
        }
        assert_eq!(trial.outcomes().len(), QUEUE);
        assert_eq!(trial.asks(0), []);
    }

    #[test]
    fn what_one_leader_has_not_done_the_next_one_is_asked_for() {
        let mut trial = Trial::new();
        (1..=3).for_each(|partition| trial.comes(0, partition));
        assert_eq!(trial.asks(0), [1, 2, 3]);
        trial.answered(1, vec![DONE, Err(Tried::Nothing), Err(Tried::Something)]);
        assert_eq!(trial.asks(1), [2, 3], "the one that was done shows that the leader is there");
        trial.answered(2, vec![REFUSED, REFUSED]);
        let refusal = Err(ControllerError::Refused(Refusal::NotLeader.to_string()));
        assert_eq!(trial.outcomes(), [(1, Ok(())), (2, refusal), (3, UNKNOWN)]);
    }

    #[test]
    fn nothing_is_repeated_without_a_pause_or_another_leader_and_nothing_wakes_without_one() {
        let mut trial = Trial::new();
        trial.comes(0, 1);
        assert_eq!(trial.outbox.wakes_at(false), Some(trial.at(2_000)), "nobody is there to be asked");
        let (mut requests, mut ms) = (0, 0);
        while ms < 1_999 {
            assert_eq!(trial.asks(ms), [1]);
            requests += 1;
            trial.answered(ms, vec![Err(Tried::Nothing)]);
            assert_eq!(trial.asks(ms), []);
            assert_eq!(trial.outbox.wakes_at(false), Some(trial.at(2_000)));
            let wakes_at = trial.outbox.wakes_at(true).unwrap();
            ms = u64::try_from(wakes_at.duration_since(trial.start).as_millis()).unwrap();
        }
        assert!(requests < 10, "{requests} requests in two seconds");
        trial.outbox.leader_changed();
        assert_eq!(trial.asks(1_999), [1]);
    }

    #[test]
    fn who_waits_for_too_long_is_told_whether_anything_was_sent() {
        let mut trial = Trial::new();
        trial.comes(0, 1);
        assert_eq!(trial.asks(0), [1]);
        trial.outbox.given_up(true);
        trial.comes(0, 2);
        trial.comes(1_000, 3);
        let now = trial.at(2_000);
        trial.outbox.expire(now);
        assert_eq!(trial.outcomes(), [(1, UNKNOWN), (2, NOT_ASKED)]);
        assert_eq!(trial.asks(2_000), [3]);
        trial.outbox.given_up(false);
        let now = trial.at(3_000);
        trial.outbox.expire(now);
        assert_eq!(trial.outcomes(), [(3, NOT_ASKED)]);
    }

    #[test]
    fn a_change_takes_the_place_of_one_of_the_same_partition() {
        let mut trial = Trial::new();
        trial.comes(0, 1);
        trial.comes(0, 2);
        trial.comes(1, 1);
        assert_eq!(trial.outcomes(), [(1, UNKNOWN)]);
        assert_eq!(trial.asks(1), [2, 1]);
        trial.comes(2, 1);
        trial.answered(3, vec![DONE, Err(Tried::Something)]);
        assert_eq!(trial.outcomes(), [(2, Ok(())), (1, UNKNOWN)], "the newer one is asked for instead");
        assert_eq!(trial.asks(3), [1]);
        assert_eq!(trial.outbox.asked[0].change.partition_epoch, PartitionEpoch(2));
    }

    #[test]
    fn whoever_asked_hears_of_it_once_even_from_a_broker_that_stops() {
        let mut trial = Trial::new();
        (1..=2).for_each(|partition| trial.comes(0, partition));
        assert_eq!(trial.asks(0), [1, 2]);
        trial.answered(0, vec![DONE]);
        trial.comes(0, 3);
        trial.outbox = Outbox::default();
        assert_eq!(trial.outcomes(), [(1, Ok(())), (2, UNKNOWN), (3, UNKNOWN)]);
    }
}
