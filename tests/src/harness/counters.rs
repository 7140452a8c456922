//! What the kernel and a broker's own metrics count while something is done to it.

use super::cluster::Cluster;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Sub;

/// Counts since the brokers' start, over all brokers that are asked. Subtract two of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// Seconds on a processor in user mode.
    pub user_s: f64,
    /// Seconds on a processor in the kernel.
    pub system_s: f64,
    /// Times that a thread waited for something.
    pub waits: f64,
    /// Times that a thread was put off its processor for another one.
    pub preemptions: f64,
    /// Bytes that were written to the disk, or are to be (`write_bytes` of proc(5)).
    pub disk_bytes: f64,
    /// Operations that went to a log: one for each batch and replica.
    pub log_operations: f64,
    /// Bytes of those operations.
    pub log_bytes: f64,
    /// Commit rounds: one write and one sync each.
    pub rounds: f64,
    /// Produce requests that were answered.
    pub produce_requests: f64,
    /// Seconds on a processor by the name of the thread.
    pub by_thread: BTreeMap<String, f64>,
}

impl Counters {
    /// What all brokers of the cluster have counted so far; what it cannot know is 0.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let mut all = Self::default();
        for id in 0..cluster.size() {
            all.add_process(cluster.pid(id)?)?;
            let (_, metrics) = cluster.http(id, "/metrics")?;
            all.log_operations += metric(&metrics, "wal_operations_total");
            all.log_bytes += metric(&metrics, "wal_bytes_total");
            all.rounds += metric(&metrics, "wal_commit_seconds_count");
            all.produce_requests += metric(&metrics, "requests_total{request=\"Produce\"}");
        }
        Ok(all)
    }

    fn add_process(&mut self, pid: u32) -> Result<()> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (user, system) = processor(&stat).context("/proc/PID/stat is not as proc(5) says")?;
        self.user_s += user;
        self.system_s += system;
        self.disk_bytes += disk_bytes(pid).unwrap_or(0.0);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            // A thread may end between one look and the next.
            let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
            let status = read("status");
            self.waits += field(&status, "voluntary_ctxt_switches:");
            self.preemptions += field(&status, "nonvoluntary_ctxt_switches:");
            if let Some((user, system)) = processor(&read("stat")) {
                *self.by_thread.entry(read("comm").trim().to_owned()).or_default() += user + system;
            }
        }
        Ok(())
    }

    /// User and system time.
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let by_thread = self.by_thread.into_iter().map(|(name, seconds)| {
            let before = before.by_thread.get(&name).copied().unwrap_or(0.0);
            (name, seconds - before)
        });
        Self {
            user_s: self.user_s - before.user_s,
            system_s: self.system_s - before.system_s,
            waits: self.waits - before.waits,
            preemptions: self.preemptions - before.preemptions,
            disk_bytes: self.disk_bytes - before.disk_bytes,
            log_operations: self.log_operations - before.log_operations,
            log_bytes: self.log_bytes - before.log_bytes,
            rounds: self.rounds - before.rounds,
            produce_requests: self.produce_requests - before.produce_requests,
            by_thread: by_thread.collect(),
        }
    }
}

/// Bytes that a process has caused to be written to the disk; `None` if the kernel does not say.
pub fn disk_bytes(pid: u32) -> Option<f64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
}

/// User and system time in seconds, from the `stat` of a process or of a thread.
fn processor(stat: &str) -> Option<(f64, f64)> {
    // The second field is a name in parentheses, which may have spaces; the two times are the 12th and 13th after it,
    // in ticks of which Linux reports a hundred a second on every architecture.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split(' ').skip(11).map(|n| n.parse::<f64>().ok());
    Some((ticks.next()?? / 100.0, ticks.next()?? / 100.0))
}

fn field(status: &str, key: &str) -> f64 {
    let value = status.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    value.unwrap_or(0.0)
}

/// A metric by the end of its name and labels, which may have a prefix.
fn metric(text: &str, name: &str) -> f64 {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let value = samples.filter(|(key, _)| key.ends_with(name)).find_map(|(_, value)| value.parse().ok());
    value.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 99";
        assert_eq!(processor(stat), Some((2.5, 0.5)));
        assert_eq!(processor("7 (short) S 1"), None);
    }

    #[test]
    fn a_metric_is_found_by_the_end_of_its_name() {
        let text = "# TYPE chronik_wal_operations counter\nchronik_wal_operations_total 12\n\
                    chronik_kafka_requests_total{request=\"Produce\"} 3\n";
        assert!((metric(text, "wal_operations_total") - 12.0).abs() < f64::EPSILON);
        assert!((metric(text, "requests_total{request=\"Produce\"}") - 3.0).abs() < f64::EPSILON);
        assert!(metric(text, "nothing_total").abs() < f64::EPSILON);
    }
}
