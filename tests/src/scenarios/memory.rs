//! What an idle broker takes, and that it does not grow while nobody uses it; what partitions cost a broker that has none of
//! their replicas; what a leader takes to bring back a follower.

use super::{Settings, catching_up, log_figures};
use crate::harness::cluster::{Cluster, Software};
use crate::harness::metadata::Metadata;
use crate::harness::process::Usage;
use crate::report::{Report, Table, median};
use anyhow::{Context, Result};
use std::thread;
use std::time::{Duration, Instant};

/// The most that an idle broker's resident memory may be.
const LIMIT_BYTES: u64 = 30_000_000;
/// How much more memory of its own a broker may have at the end of the window than at its beginning. An allocator
/// returns and takes pages, a few at a time; what is kept with every heartbeat or tick is more within half a minute.
const GROWTH_BYTES: u64 = 500_000;
/// Brokers that have just started are given so long to stop growing; the window begins in any case.
const STEADY_WITHIN: Duration = Duration::from_secs(30);
const SAMPLE: Duration = Duration::from_millis(500);
/// How much more a broker may take for partitions that are elsewhere: what it does to hear of them and to tell clients of
/// them leaves something behind too. The metadata alone is at most 200 bytes each.
const ELSEWHERE_BYTES: u64 = 5_000_000;
const ELSEWHERE_BYTES_EACH: u64 = 400;

/// Brokers that nobody uses, and brokers that one comes back to.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    idle(settings, report)?;
    elsewhere(settings, report)?;
    catching_up::check(settings, report)
}

/// Three brokers with one topic that nobody uses, watched for a while once their memory has stopped moving.
fn idle(settings: &Settings, report: &mut Report) -> Result<()> {
    let window = Duration::from_secs(if settings.quick { 10 } else { 30 });
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic("memory", 6, 3, &[])?;
    drop(metadata);
    wait_for_steady_memory(&cluster)?;
    let samples = sample(&cluster, window)?;
    // A broker that died and one that was never looked at use nothing.
    cluster.check_alive()?;
    let mut table = Table::new(
        "An idle broker in a cluster of three",
        &["broker", "RSS MB", "PSS MB", "most RSS MB", "growth MB", "peak RSS MB since the start"],
    );
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let seen = samples.iter().map(|of_one| Seen::of(of_one)).collect::<Result<Vec<_>>>()?;
    for (id, (samples, seen)) in samples.iter().zip(&seen).enumerate() {
        let last = samples.last().context("a sample")?;
        let growth = format!("{:.2}", seen.growth_bytes as f64 / 1e6);
        let cells = [mb(last.rss_bytes), mb(last.pss_bytes), mb(seen.most_bytes), growth, mb(last.peak_rss_bytes)];
        table.row([id.to_string()].into_iter().chain(cells).collect());
    }
    report.table(table);
    for (id, seen) in seen.iter().enumerate() {
        let most = format!("{} MB at most", mb(seen.most_bytes));
        report.check(format!("idle broker {id} takes at most 30 MB"), seen.most_bytes <= LIMIT_BYTES, most);
        let grown = format!("{:.2} MB more in {} s", seen.growth_bytes as f64 / 1e6, window.as_secs());
        report.check(format!("idle broker {id} grows by at most 0.5 MB"), seen.growth_bytes <= GROWTH_BYTES, grown);
    }
    Ok(())
}

/// Thousands of partitions on one of three brokers, and what the other two take more.
fn elsewhere(settings: &Settings, report: &mut Report) -> Result<()> {
    let count = if settings.full { 50_000 } else { 10_000 };
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    wait_for_steady_memory(&cluster)?;
    let before = usages(&cluster)?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    log_figures::create_topics(&metadata, count)?;
    drop(metadata);
    wait_for_steady_memory(&cluster)?;
    let after = usages(&cluster)?;
    cluster.check_alive()?;
    let columns = ["broker", "partitions", "MB of its own before", "with them", "bytes each"];
    let mut table = Table::new("Partitions of which a broker has no replica", &columns);
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let most = ELSEWHERE_BYTES + ELSEWHERE_BYTES_EACH * count as u64;
    for (id, (before, after)) in before.iter().zip(&after).enumerate().skip(1) {
        let more = after.anonymous_bytes.saturating_sub(before.anonymous_bytes);
        let cells = [mb(before.anonymous_bytes), mb(after.anonymous_bytes), (more / count as u64).to_string()];
        table.row([id.to_string(), count.to_string()].into_iter().chain(cells).collect());
        if matches!(settings.software, Software::Chronik(_)) {
            let name = format!("{count} partitions that broker {id} has no replica of take at most {} MB", mb(most));
            report.check(name, more <= most, format!("{} MB", mb(more)));
        }
    }
    report.table(table);
    Ok(())
}

/// What a window's samples of one broker come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    most_bytes: u64,
    /// How much more the last quarter's median is than the first's.
    growth_bytes: u64,
}

impl Seen {
    fn of(samples: &[Usage]) -> Result<Self> {
        let own: Vec<_> = samples.iter().map(|usage| usage.anonymous_bytes as f64).collect();
        let most_bytes = samples.iter().map(|usage| usage.rss_bytes).max().context("a sample")?;
        let quarter = own.len().div_ceil(4);
        let growth = median(&own[own.len() - quarter..]) - median(&own[..quarter]);
        Ok(Self { most_bytes, growth_bytes: growth.max(0.0) as u64 })
    }
}

fn usages(cluster: &Cluster) -> Result<Vec<Usage>> {
    (0..cluster.size()).map(|id| cluster.usage(id)).collect()
}

/// Waits until no broker has moved by a hundredth for five seconds, or until that has taken too long.
fn wait_for_steady_memory(cluster: &Cluster) -> Result<()> {
    let deadline = Instant::now() + STEADY_WITHIN;
    let mut before = usages(cluster)?;
    while Instant::now() < deadline {
        thread::sleep(Duration::from_secs(5));
        let now = usages(cluster)?;
        let calm = |(now, before): (&Usage, &Usage)| now.rss_bytes.abs_diff(before.rss_bytes) * 100 <= before.rss_bytes;
        if now.iter().zip(&before).all(calm) {
            return Ok(());
        }
        before = now;
    }
    Ok(())
}

/// What each broker uses during the window, one sample after the other.
fn sample(cluster: &Cluster, window: Duration) -> Result<Vec<Vec<Usage>>> {
    let mut samples = vec![Vec::new(); cluster.size()];
    let end = Instant::now() + window;
    while Instant::now() < end {
        for (samples, usage) in samples.iter_mut().zip(usages(cluster)?) {
            samples.push(usage);
        }
        thread::sleep(SAMPLE);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(own: &[u64]) -> Seen {
        let usage = |own: &u64| Usage { rss_bytes: own + 5, anonymous_bytes: *own, ..Usage::default() };
        Seen::of(&own.iter().map(usage).collect::<Vec<_>>()).expect("samples")
    }

    #[test]
    fn a_spike_is_the_most_and_no_growth() {
        assert_eq!(seen(&[10, 10, 90, 10, 10, 10, 10, 10]), Seen { most_bytes: 95, growth_bytes: 0 });
    }

    #[test]
    fn what_is_kept_is_growth_and_what_is_returned_is_none() {
        assert_eq!(seen(&[10, 10, 20, 30, 40, 50, 60, 60]), Seen { most_bytes: 65, growth_bytes: 50 });
        assert_eq!(seen(&[60, 60, 50, 40, 30, 20, 10, 10]), Seen { most_bytes: 65, growth_bytes: 0 });
    }

    #[test]
    fn nothing_seen_is_no_proof() {
        assert!(Seen::of(&[]).is_err());
    }
}
