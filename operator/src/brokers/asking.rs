//! One question to several brokers, of which any may answer: who does not is asked no longer than it is worth, another one
//! is asked beside it, and all of it ends in time.

use super::Unanswered;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::time::Duration;
use tokio::time::Instant;

/// How long is waited for answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// After this, another broker is asked beside one that has not answered.
    pub(crate) patience: Duration,
    /// How long all of them are given.
    pub(crate) in_all: Duration,
}

/// Why one broker gave no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another one may.
    Broken(String),
    /// No other one would say anything else.
    Final(Unanswered),
}

/// Asks one broker after the other, each by its id, until one gives an answer that counts for all.
pub(crate) async fn ask_each<T>(
    brokers: Vec<(i32, impl Future<Output = Result<T, Failure>>)>,
    bounds: Bounds,
) -> Result<T, Unanswered> {
    let mut others = brokers.into_iter();
    let mut asked = FuturesUnordered::new();
    let mut why = "no broker answers in time".to_owned();
    let deadline = Instant::now() + bounds.in_all;
    loop {
        asked.extend(others.next().map(|(id, ask)| ask.map(move |answer| (id, answer))));
        let left = deadline.saturating_duration_since(Instant::now());
        if asked.is_empty() || left.is_zero() {
            return Err(Unanswered::Unsure(why));
        }
        match tokio::time::timeout(bounds.patience.min(left), asked.next()).await {
            Ok(Some((_, Ok(answer)))) => return Ok(answer),
            Ok(Some((_, Err(Failure::Final(error))))) => return Err(error),
            Ok(Some((id, Err(Failure::Broken(reason))))) => why = format!("broker {id}: {reason}"),
            Ok(None) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { patience: Duration::from_millis(1), in_all: Duration::from_mins(1) };

    /// Brokers of which each says something else.
    fn brokers(kinds: &'static [&str]) -> Vec<(i32, impl Future<Output = Result<u32, Failure>>)> {
        (0..).zip(kinds.iter().map(|kind| say(kind))).collect()
    }

    async fn say(kind: &str) -> Result<u32, Failure> {
        match kind {
            "silent" => std::future::pending().await,
            "broken" => Err(Failure::Broken("gone".to_owned())),
            "refuses" => Err(Failure::Final(Unanswered::Refused("no".to_owned()))),
            _ => Ok(7),
        }
    }

    #[tokio::test]
    async fn who_does_not_answer_keeps_nobody_else_from_being_asked() {
        for (kinds, expected) in [
            (&["well"][..], Ok(7)),
            (&["silent", "well"], Ok(7)),
            (&["silent", "silent", "broken", "well"], Ok(7)),
            (&["silent", "refuses", "well"], Err(Unanswered::Refused("no".to_owned()))),
            (&["broken"], Err(Unanswered::Unsure("broker 0: gone".to_owned()))),
            (&[], Err(Unanswered::Unsure("no broker answers in time".to_owned()))),
        ] {
            assert_eq!(ask_each(brokers(kinds), BOUNDS).await, expected, "{kinds:?}");
        }
    }

    #[tokio::test]
    async fn all_of_them_together_are_given_so_long_and_no_longer() {
        let bounds = Bounds { in_all: Duration::from_millis(5), ..BOUNDS };
        let answer = ask_each(brokers(&["silent"; 100]), bounds).await;
        assert_eq!(answer, Err(Unanswered::Unsure("no broker answers in time".to_owned())));
    }
}
