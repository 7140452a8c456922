//! Waiting for a condition, with a deadline.

use anyhow::bail;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything is waited for that has no time of its own: a busy machine takes its time, and what comes is not
/// waited for any longer.
const PATIENCE: Duration = Duration::from_mins(3);

/// How often what may have failed by chance is tried, and the time between.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_secs(3);

/// Tells another program to wait as long.
pub(crate) fn timeout() -> String {
    format!("--timeout={}s", PATIENCE.as_secs())
}

/// Asks until there is an answer. An error is taken for "not yet", and returned when time is up.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if let Ok(Some(found)) = answer {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            match answer {
                Err(error) => bail!("{what}: not within {} s; last: {error:#}", PATIENCE.as_secs()),
                Ok(_) => bail!("{what}: not within {} s", PATIENCE.as_secs()),
            }
        }
        sleep(Duration::from_millis(200));
    }
}

/// Tries again, twice at most, what failed in a way that may have been chance. Each such failure is printed.
pub(crate) fn try_again<T>(
    by_chance: impl Fn(&anyhow::Error) -> bool,
    mut attempt: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if by_chance(&error) => eprintln!("{error:#}; trying again"),
            done => return done,
        }
        sleep(PAUSE);
    }
    attempt()
}
