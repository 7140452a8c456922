//! How far something has come, on a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(100);
const WIDTH: u64 = 40;

/// A bar on standard error; nothing where that is no terminal.
pub(super) struct ProgressBar {
    shown: bool,
    terminal: bool,
    next: Instant,
}

impl ProgressBar {
    pub(super) fn new() -> Self {
        Self { shown: false, terminal: std::io::stderr().is_terminal(), next: Instant::now() + EVERY }
    }

    /// So many bytes of so many are done.
    pub(super) fn at(&mut self, done: u64, total: u64) {
        if !self.terminal || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        self.shown = true;
        let _ = write!(std::io::stderr(), "\r{}", bar(done, total));
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn bar(done: u64, total: u64) -> String {
    let full =
        if total == 0 { WIDTH } else { (u128::from(done.min(total)) * u128::from(WIDTH) / u128::from(total)) as u64 };
    let (full, left) = ("#".repeat(full as usize), " ".repeat((WIDTH - full) as usize));
    format!("[{full}{left}] {} of {} MiB", done >> 20, total >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_what_is_done() {
        let hashes = |done, total| bar(done, total).matches('#').count();
        assert_eq!([hashes(0, 8), hashes(4, 8), hashes(8, 8), hashes(9, 8), hashes(0, 0)], [0, 20, 40, 40, 40]);
        assert!(bar(3 << 20, 7 << 20).ends_with("] 3 of 7 MiB"));
    }
}
