//! Waiting for a condition, with a deadline.

use anyhow::bail;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything is waited for that has no time of its own: a busy machine takes its time, and what comes is not
/// waited for any longer.
const PATIENCE: Duration = Duration::from_mins(3);

/// The same for other programs that wait.
pub(crate) fn timeout() -> String {
    format!("--timeout={}s", PATIENCE.as_secs())
}

/// Asks until there is an answer. An error is taken for "not yet", and told of when time is up.
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
