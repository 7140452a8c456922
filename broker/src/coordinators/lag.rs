//! How far the groups of this broker are behind, for metrics. What they have committed comes from their coordinators by
//! the way that clients ask: an offset is shown when it is committed, and by nobody who is coordinator no more. Where the
//! partitions end is said by their leaders, whichever brokers these are.

use super::ends;
use super::handle::Coordinators;
use super::manager::{CoordinatorsConfig, GroupMetricsConfig};
use super::metrics::CoordinatorMetrics;
use crate::partitions::{Partitions, Reservation};
use chronik_core::groups::response::FetchedTopic;
use chronik_core::groups::{Client, Request, Response};
use chronik_core::ids::BrokerId;
use chronik_quorum::ControllerHandle;
use futures::future::join_all;
use futures::stream::{self, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a coordinator may take to answer: it waits for what is not committed yet.
const PATIENCE: Duration = Duration::from_secs(2);
/// Groups that are asked about at once.
const AT_ONCE: usize = 16;
/// How long all groups together are asked about. What is not known by then is not shown: what is shown is not old.
const ROUND: Duration = Duration::from_secs(10);

/// A group's place in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lag {
    pub(super) group: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// The committed offset.
    pub(super) offset: i64,
    /// Records from there to the high watermark; `None` if nobody said where that is.
    pub(super) behind: Option<i64>,
}

/// What is shown until the next round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lags {
    /// By group, topic and partition.
    pub(super) shown: Vec<Lag>,
    /// Groups of which not all partitions are shown, for the bound.
    pub(super) left_out: usize,
}

/// Looks again and again.
pub(super) struct LagTask {
    me: BrokerId,
    config: GroupMetricsConfig,
    coordinators: Coordinators,
    partitions: Partitions,
    controller: ControllerHandle,
    metrics: CoordinatorMetrics,
    stop: CancellationToken,
    /// As whom it asks.
    client: Client,
    /// Counts against nothing: there is one question of it at a time, or a few.
    reservation: Reservation,
}

impl LagTask {
    pub(super) fn new(config: &CoordinatorsConfig, coordinators: Coordinators) -> Self {
        Self {
            me: config.me,
            config: config.shown,
            coordinators,
            partitions: config.partitions.clone(),
            controller: config.controller.clone(),
            metrics: config.metrics.clone(),
            stop: config.stop.clone(),
            client: Client { id: Arc::from(""), host: Arc::from("") },
            reservation: Arc::new(()),
        }
    }

    /// Runs until the broker stops.
    pub(super) async fn run(self) {
        if self.config.max_partitions == 0 {
            return;
        }
        let mut rounds = interval(self.config.every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let all = async {
            loop {
                rounds.tick().await;
                self.metrics.lags.send_replace(Arc::new(self.round().await));
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = all => {}
        }
    }

    async fn round(&self) -> Lags {
        let mut lags = self.committed().await;
        // Asked for after the offsets: nobody is ahead of the end.
        let places = lags.shown.iter().map(|lag| (Arc::clone(&lag.topic), lag.partition));
        let ends = ends::of(self.me, &self.controller.image(), &self.partitions, places).await;
        for lag in &mut lags.shown {
            let end = ends.get(&(Arc::clone(&lag.topic), lag.partition));
            lag.behind = end.map(|end| end.saturating_sub(lag.offset).max(0));
        }
        lags
    }

    /// What the groups of this broker have committed, in the order of their names, as far as it is to be shown.
    async fn committed(&self) -> Lags {
        let deadline = Instant::now() + ROUND;
        let mut groups = self.groups().await;
        let count = groups.len();
        // One that has committed nothing costs a question too.
        groups.truncate(self.config.max_partitions);
        let mut lags = Lags { shown: Vec::new(), left_out: count - groups.len() };
        let mut answers = stream::iter(groups)
            .map(|group| async move {
                let request =
                    Request::OffsetFetch { group: group.clone(), member: None, topics: None, require_stable: false };
                let answer =
                    timeout(PATIENCE, self.coordinators.ask(&group, &self.client, request, &self.reservation)).await;
                (group, answer)
            })
            .buffered(AT_ONCE)
            .enumerate();
        let mut asked = 0;
        loop {
            let Ok(next) = timeout_at(deadline, answers.next()).await else {
                lags.left_out = count - asked;
                break;
            };
            let Some((index, (group, answer))) = next else { break };
            asked = index + 1;
            // Of a group that its coordinator says nothing of, nothing is shown.
            let Ok(Ok(Response::OffsetFetch(Ok(topics)))) = answer else { continue };
            if !add(&mut lags.shown, &group, topics, self.config.max_partitions) {
                lags.left_out = count - index;
                break;
            }
        }
        lags
    }

    async fn groups(&self) -> Vec<Arc<str>> {
        let request = Request::ListGroups { states: Vec::new(), types: Vec::new() };
        let asked = self.coordinators.ask_each(&self.client, &request, &self.reservation);
        let answers = join_all(asked.into_iter().map(|answer| timeout(PATIENCE, answer))).await;
        let listed = answers.into_iter().filter_map(|answer| match answer {
            Ok(Ok(Response::ListGroups(Ok(groups)))) => Some(groups),
            // A coordinator that is loading, or no coordinator any more.
            _ => None,
        });
        let mut names: Vec<_> = listed.flatten().map(|group| group.group).collect();
        names.sort_unstable();
        names
    }
}

/// Adds what a group has committed. False if not all of it fits.
fn add(shown: &mut Vec<Lag>, group: &Arc<str>, topics: Vec<FetchedTopic>, max: usize) -> bool {
    let of = |topic: FetchedTopic| {
        let committed = topic.partitions.into_iter().filter(|partition| partition.offset >= 0);
        committed.map(move |partition| (topic.topic.clone(), partition))
    };
    for (topic, partition) in topics.into_iter().flat_map(of) {
        if shown.len() >= max {
            return false;
        }
        let (partition, offset) = (partition.partition, partition.offset);
        shown.push(Lag { group: group.clone(), topic, partition, offset, behind: None });
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::groups::response::FetchedOffset;

    fn fetched(offsets: &[i64]) -> Vec<FetchedTopic> {
        let partitions = (0..)
            .zip(offsets)
            .map(|(partition, offset)| FetchedOffset {
                partition,
                offset: *offset,
                leader_epoch: -1,
                metadata: "".into(),
                error: None,
            })
            .collect();
        vec![FetchedTopic { topic: "t".into(), partitions }]
    }

    #[test]
    fn no_more_partitions_are_shown_than_the_bound_says_and_the_answer_says_so() {
        let mut shown = Vec::new();
        assert!(add(&mut shown, &"a".into(), fetched(&[1, -1, 3]), 3), "nothing is committed of the second");
        assert!(add(&mut shown, &"b".into(), Vec::new(), 3), "nothing is committed at all");
        assert!(add(&mut shown, &"c".into(), fetched(&[5]), 3), "as many as there may be");
        assert!(!add(&mut shown, &"d".into(), fetched(&[6]), 3), "one more");
        let places: Vec<_> = shown.iter().map(|lag| (&*lag.group, lag.partition, lag.offset)).collect();
        assert_eq!(places, [("a", 0, 1), ("a", 2, 3), ("c", 0, 5)]);
    }
}
