//! Waiting for a condition, with a deadline.

use anyhow::{Result, anyhow};
use std::thread;
use std::time::{Duration, Instant};

/// Asks until there is an answer; after `patience` the error names what was waited for and what stood in the way.
pub fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let hindrance = match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(e) => Some(e),
        };
        if Instant::now() >= deadline {
            return Err(hindrance
                .unwrap_or_else(|| anyhow!("not so within {patience:?}"))
                .context(format!("waiting for {what}")));
        }
        thread::sleep(Duration::from_millis(20));
    }
}
