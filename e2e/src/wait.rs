//! Waiting for a condition, with a deadline.

use anyhow::bail;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Asks until there is an answer. An error is taken for "not yet", and told of when time is up.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = ask();
        if let Ok(Some(found)) = answer {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            match answer {
                Err(error) => bail!("{what}: not within {} s; last: {error:#}", limit.as_secs()),
                Ok(_) => bail!("{what}: not within {} s", limit.as_secs()),
            }
        }
        sleep(Duration::from_millis(200));
    }
}
