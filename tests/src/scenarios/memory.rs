//! What an idle broker takes.

use super::Settings;
use crate::harness::cluster::Cluster;
use crate::harness::metadata::Metadata;
use crate::harness::process::Usage;
use crate::report::{Report, Table};
use anyhow::Result;
use std::thread;
use std::time::{Duration, Instant};

/// The most that an idle broker's resident memory may be.
const LIMIT_BYTES: u64 = 30_000_000;

/// Three brokers with one topic that nobody uses, watched until their memory has stopped moving.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic("memory", 6, 3, &[])?;
    drop(metadata);
    let usages = settle(&cluster)?;
    cluster.check_alive()?;
    let mut table = Table::new("An idle broker in a cluster of three", &["broker", "RSS MB", "PSS MB", "peak RSS MB"]);
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    for (id, usage) in usages.iter().enumerate() {
        table.row(vec![id.to_string(), mb(usage.rss_bytes), mb(usage.pss_bytes), mb(usage.peak_rss_bytes)]);
    }
    report.table(table);
    let worst = usages.iter().map(|u| u.rss_bytes).max().unwrap_or(u64::MAX);
    report.check("an idle broker takes at most 30 MB", worst <= LIMIT_BYTES, format!("{} MB", mb(worst)));
    Ok(())
}

/// What the brokers use once none has grown by a hundredth for five seconds, or after half a minute.
fn settle(cluster: &Cluster) -> Result<Vec<Usage>> {
    let usages = || (0..cluster.size()).map(|id| cluster.usage(id)).collect::<Result<Vec<_>>>();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut before = usages()?;
    loop {
        thread::sleep(Duration::from_secs(5));
        let now = usages()?;
        let settled = now
            .iter()
            .zip(&before)
            .all(|(now, before)| now.rss_bytes.abs_diff(before.rss_bytes) * 100 <= before.rss_bytes);
        if settled || Instant::now() >= deadline {
            return Ok(now);
        }
        before = now;
    }
}
