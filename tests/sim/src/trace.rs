//! What happened, as a hash that two runs of one seed must agree on, and as lines on demand.

use std::fmt;

/// Collects what happens.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps the lines too if `keep`.
    pub(crate) fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: keep.then(Vec::new) }
    }

    /// Notes one thing that happened.
    pub(crate) fn note(&mut self, now_us: u64, what: fmt::Arguments<'_>) {
        let mut hasher = Fnv(self.hash);
        let _ = fmt::write(&mut hasher, format_args!("{now_us} {what}"));
        self.hash = hasher.0;
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.3} ms  {what}", now_us as f64 / 1_000.0));
        }
    }

    /// Of all that happened, in order.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines, if they were kept.
    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

/// FNV-1a, fed by a formatter so that nothing is allocated for it.
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
