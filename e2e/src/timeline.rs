//! What happened when, on standard output.

use std::time::Instant;

/// The timeline of one scenario.
#[derive(Clone)]
pub(crate) struct Timeline {
    name: String,
    start: Instant,
}

impl Timeline {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), start: Instant::now() }
    }

    pub(crate) fn say(&self, what: impl AsRef<str>) {
        println!("{:>7.1} s  {:<18} {}", self.seconds(), self.name, what.as_ref());
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
