//! How long single writes wait, one after the other: to compare with writes elsewhere.

use super::{Settings, TimeLimit};
use crate::harness::appender::{self, Appender};
use crate::report::{Report, Table, percentile};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Bytes of a record that is written for the wait alone.
const BYTES: usize = 100;

/// How long each of some writes took, in milliseconds.
pub(super) struct Waits(Vec<f64>);

impl Waits {
    /// Writes to partition 0 for so long at least, and until it is over.
    pub(super) fn watch(appender: &mut Appender, least: Duration, over: impl Fn() -> bool) -> Result<Self> {
        let (record, since, mut waits) = (appender::batch(BYTES)?, Instant::now(), Vec::new());
        while since.elapsed() < least || !over() {
            let sent = Instant::now();
            appender.append([0], &record)?;
            waits.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        Ok(Self(waits))
    }

    pub(super) fn percentile(&self, percent: f64) -> f64 {
        percentile(&self.0, percent)
    }

    fn row(&self, when: &str) -> Vec<String> {
        let at = |percent| format!("{:.1}", self.percentile(percent));
        vec![when.to_owned(), self.0.len().to_string(), at(50.0), at(99.0), at(100.0)]
    }

    /// Shows them beside each other.
    pub(super) fn show(report: &mut Report, rows: &[(&str, &Self)]) {
        let columns = ["when", "writes", "p50 ms", "p99 ms", "worst ms"];
        let mut table = Table::new("Waits of single acks=all writes, one at a time", &columns);
        for (when, waits) in rows {
            table.row(waits.row(when));
        }
        report.table(table);
    }

    /// Says whether the longest of them was not much longer than the longest of those before.
    pub(super) fn check_worst(&self, settings: &Settings, report: &mut Report, more: TimeLimit, of: (&str, &Self)) {
        let (when, before) = of;
        let more = more.insisted_on(settings).as_secs_f64() * 1e3;
        let (worst, ordinary) = (self.percentile(100.0), before.percentile(100.0));
        let detail = format!("{worst:.1} ms at worst, and {ordinary:.1} ms before");
        report.check(format!("no write waits {more:.0} ms longer {when}"), worst <= ordinary + more, detail);
    }
}
