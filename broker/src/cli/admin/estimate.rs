//! How long it takes until a broker is emptied: what is left to be copied, at the pace of the last while.

use super::Admin;
use crate::cli::client::Client;
use crate::cli::sizes::{Placed, placed};
use chronik_admin::Move;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at how much is left.
const PAUSE: Duration = Duration::from_secs(2);
/// The brokers have so long to say it: what is moved does not wait for that.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pace is that of so long.
const WHILE: Duration = Duration::from_secs(30);

/// How much is left, and for how long, as far as Kafka's ports of the brokers can be reached from here.
pub(super) struct Estimate {
    kafka: Option<Client>,
    looked_at: Option<Instant>,
    pace: Pace,
    text: String,
}

impl Estimate {
    pub(super) async fn new(admin: &Admin) -> Self {
        Self { kafka: admin.kafka().await.ok(), looked_at: None, pace: Pace::default(), text: String::new() }
    }

    /// As a half sentence; empty where it is not known.
    pub(super) async fn text(&mut self, broker: i32, moves: &[Move]) -> &str {
        let due = self.looked_at.is_none_or(|at| at.elapsed() >= PAUSE);
        if due && let Some(kafka) = &mut self.kafka {
            let found = tokio::time::timeout(PATIENCE, placed(kafka)).await;
            let now = Instant::now();
            self.looked_at = Some(now);
            if let Ok(Ok(placed)) = found {
                let bytes = bytes_left(broker, &placed, moves);
                self.text = in_words(bytes, self.pace.time_left(now, bytes));
            } else {
                // Whom it does not reach now, it would wait for again and again.
                (self.kafka, self.text) = (None, String::new());
            }
        }
        &self.text
    }
}

/// How much there is to copy, and how long that takes.
fn in_words(bytes: u64, left: Option<Duration>) -> String {
    let text = format!(", {} MiB to copy", bytes.div_ceil(1 << 20));
    left.map_or_else(|| text.clone(), |left| format!("{text}, about {} s left", left.as_secs_f64().ceil()))
}

/// What is left to be copied of the partitions that a broker holds: of each that is on its way, what the replica lacks
/// that takes its place.
fn bytes_left(broker: i32, placed: &Placed, moves: &[Move]) -> u64 {
    let arrived = |(topic, partition): &(String, i32)| {
        let m = moves.iter().find(|m| m.topic == *topic && m.partition == *partition)?;
        let on = placed.get(&(topic.clone(), *partition))?;
        m.to.iter().filter(|id| !m.from.contains(id)).filter_map(|id| on.get(id)).min().copied()
    };
    let on_broker = placed.iter().filter_map(|(partition, on)| Some((partition, *on.get(&broker)?)));
    on_broker.map(|(partition, size)| size.saturating_sub(arrived(partition).unwrap_or(0))).sum()
}

/// How fast something grows less.
#[derive(Debug, Default)]
struct Pace {
    /// What was left, and when, oldest first.
    seen: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// For how long it goes on like this, now that so much is left. `None` while nothing has grown less.
    fn time_left(&mut self, now: Instant, left: u64) -> Option<Duration> {
        self.seen.push_back((now, left));
        // The one before that is kept: looks may be far apart.
        while self.seen.len() > 2 && self.seen.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WHILE) {
            self.seen.pop_front();
        }
        let (since, before) = *self.seen.front()?;
        let done = before.checked_sub(left).filter(|done| *done > 0)?;
        Some(now.duration_since(since).mul_f64(left as f64 / done as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_left_is_what_the_new_replicas_lack() {
        let on = |sizes: &[(i32, u64)]| sizes.iter().copied().collect::<BTreeMap<_, _>>();
        let placed = Placed::from([
            (("a".into(), 0), on(&[(0, 100), (1, 100), (2, 30)])),
            (("a".into(), 1), on(&[(0, 50), (1, 50)])),
            (("b".into(), 0), on(&[(1, 999), (2, 999)])),
        ]);
        let moved = Move { topic: "a".into(), partition: 0, from: vec![0, 1], to: vec![2, 1] };
        assert_eq!(bytes_left(0, &placed, &[]), 150);
        assert_eq!(bytes_left(0, &placed, &[moved]), 120);
        assert_eq!(bytes_left(3, &placed, &[]), 0);
    }

    #[test]
    fn the_time_left_follows_from_the_pace_of_the_last_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::default();
        assert_eq!(pace.time_left(at(0), 1000), None);
        assert_eq!(pace.time_left(at(2), 1000), None, "nothing moves");
        assert_eq!(pace.time_left(at(10), 800), Some(Duration::from_secs(40)));
        assert_eq!(pace.time_left(at(12), 1100), None, "more comes than goes");
        // It is faster later on, and what was long ago counts for nothing.
        assert_eq!(pace.time_left(at(100), 900), Some(Duration::from_secs(396)));
        assert!(pace.time_left(at(110), 500).is_some());
        assert_eq!(pace.time_left(at(140), 100), Some(Duration::from_millis(7500)));
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        assert_eq!(in_words(3 << 20, None), ", 3 MiB to copy");
        assert_eq!(in_words(1, Some(Duration::from_millis(1500))), ", 1 MiB to copy, about 2 s left");
    }
}
