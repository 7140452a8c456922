//! A large compacted log is cleaned while it is written to and read: in how much memory, what writes elsewhere wait meanwhile,
//! and that who reads sees the last value of every key. Two million records of a hundred thousand keys; a hundred million of a
//! million with `--full`, or as many as are written in five minutes.

use super::waits::Waits;
use super::{Settings, TimeLimit};
use crate::harness::appender::Appender;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::files::on_disk;
use crate::harness::keyed;
use crate::harness::metadata::Metadata;
use crate::harness::process::usage;
use crate::harness::wait;
use crate::report::{Report, Table, ms};
use anyhow::{Context as _, Result, anyhow, ensure};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const TOPIC: &str = "cleaning";
const ELSEWHERE: &str = "cleaning-elsewhere";
/// Records of a batch while as many are written as go, and requests that are on their way at once.
const BATCH: u32 = 10_000;
const AT_ONCE: usize = 4;
/// Records of a batch that is written while others are watched, and the time to the next.
const SLOW_BATCH: u32 = 1_000;
const SLOW_EVERY: Duration = Duration::from_millis(20);
/// Bytes that a record takes in the log at most.
const RECORD_BYTES: u64 = 28;
/// Cleaned only when it is asked for: no share is more than all.
const NEVER: &str = "1.0";
const WHEN_HALF_IS_DIRTY: &str = "0.5";
/// What is written to fill the log at all takes no longer.
const FILL: Duration = Duration::from_mins(5);
/// And what is done with it then.
const CLEAN: Duration = Duration::from_mins(5);
/// Memory beside that for keys: pieces that are read and written, and what an allocator keeps of them.
const BESIDE_BYTES: u64 = 16 << 20;
/// With `--strict`: the p99 of writes is at most so many times what it was.
const SLOWER: f64 = 1.5;
/// How much more it may be on any machine.
const MORE: TimeLimit = TimeLimit { target: Duration::ZERO, always: Duration::from_secs(2) };
const LOOK: Duration = Duration::from_millis(50);

/// How much there is to clean, and with what.
struct Size {
    records: u64,
    keys: u64,
    segment_bytes: u64,
    /// Room for all keys, and not for all records.
    dedupe_bytes: u64,
    /// How long writes are watched before.
    ordinary: Duration,
}

/// One broker.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let size = if settings.full {
        let (records, keys) = (100_000_000, 1_000_000);
        Size { records, keys, segment_bytes: 64 << 20, dedupe_bytes: 32 << 20, ordinary: Duration::from_secs(20) }
    } else {
        let (records, keys) = (2_000_000, 100_000);
        Size { records, keys, segment_bytes: 4 << 20, dedupe_bytes: 4 << 20, ordinary: Duration::from_secs(3) }
    };
    let dedupe = size.dedupe_bytes.to_string();
    let properties = [("log.cleaner.backoff.ms", "200"), ("log.cleaner.dedupe.buffer.size", &*dedupe)];
    let mut cluster = Cluster::new(&settings.software, 1, &properties)?;
    cluster.start_all()?;
    cluster.wait_for_brokers(1)?;
    let outcome = clean(settings, &cluster, &size, report).with_context(|| cluster.tails());
    cluster.check_alive()?;
    if outcome.is_err() || report.has_failures() {
        println!("{}", cluster.tails());
    }
    outcome
}

fn clean(settings: &Settings, cluster: &Cluster, size: &Size, report: &mut Report) -> Result<()> {
    let metadata = Metadata::new(&cluster.bootstrap())?;
    let segment_bytes = size.segment_bytes.to_string();
    let configs = |ratio| {
        [("cleanup.policy", "compact"), ("segment.bytes", segment_bytes.as_str()), ("min.cleanable.dirty.ratio", ratio)]
    };
    metadata.create_topic(TOPIC, 1, 1, &configs(NEVER))?;
    metadata.create_topic(ELSEWHERE, 1, 1, &[])?;
    let log = Log { cluster, keys: size.keys, written: AtomicU64::new(0) };
    let took = log.fill(size.records)?;
    let (records, full) = (log.written.load(Ordering::Relaxed), on_disk(&cluster.data_dir(0)));

    let before = log.watch(false, size.ordinary, || Ok(true))?;
    metadata.set_configs(TOPIC, &configs(WHEN_HALF_IS_DIRTY))?;
    let asked = Instant::now();
    let enough = size.keys * RECORD_BYTES * 2 + size.segment_bytes * 4;
    let during = log.watch(true, Duration::ZERO, || {
        ensure!(asked.elapsed() < CLEAN, "the log takes {} bytes after {CLEAN:?}", log.bytes());
        Ok(log.bytes() <= enough)
    })?;
    let cleaned = asked.elapsed();

    let mut table = Table::new(
        &format!("A log of {records} records of {} keys, written in {}", size.keys, ms(took)),
        &["when", "MB on the disk", "most RSS MB"],
    );
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    table.row(vec!["before".to_owned(), mb(full), mb(before.most_rss)]);
    let when = format!("while it is cleaned, {}", ms(cleaned));
    table.row(vec![when.clone(), mb(log.bytes()), mb(during.most_rss)]);
    report.table(table);
    Waits::show(report, &[("before", &before.waits), (&when, &during.waits)]);
    let most = before.most_rss + size.dedupe_bytes + BESIDE_BYTES;
    let name = format!("a log is cleaned in {} MB of keys and {} MB", mb(size.dedupe_bytes), mb(BESIDE_BYTES));
    let detail = format!("{} MB, and {} before", mb(during.most_rss), mb(before.most_rss));
    report.check(name, during.most_rss <= most, detail);
    let (p99, ordinary) = (during.waits.percentile(99.0), before.waits.percentile(99.0));
    let limit = (ordinary * SLOWER).max(ordinary + MORE.insisted_on(settings).as_secs_f64() * 1e3);
    let detail = format!("{p99:.1} ms, {:.2} times the {ordinary:.1} ms before", p99 / ordinary);
    report.check(format!("the p99 of writes elsewhere is at most {limit:.1} ms meanwhile"), p99 <= limit, detail);
    report.check_result("a reader meanwhile sees the last value of every key", during.reader.sees_all(log.end()));
    let mut reader = Reader::new(size.keys)?;
    wait::until("the end of the cleaned log", CLEAN, || {
        reader.read(&cluster.bootstrap(), &AtomicU64::new(log.end()), &AtomicBool::new(true))?;
        Ok(Some(()))
    })?;
    report.check_result("and one afterwards", reader.sees_all(log.end()));
    // What is still dirty is less than half.
    let left = size.keys * 2 + size.segment_bytes * 4 / 20;
    let detail = format!("{} of {} records are left", reader.count, log.end());
    report.check("most of the log is gone", reader.count <= left, detail);
    Ok(())
}

/// What is written.
struct Log<'a> {
    cluster: &'a Cluster,
    keys: u64,
    /// Records that are acknowledged.
    written: AtomicU64,
}

/// What was seen for a while.
struct Seen {
    waits: Waits,
    most_rss: u64,
    reader: Reader,
}

impl Log<'_> {
    fn end(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        on_disk(&self.cluster.data_dir(0).join("log/partitions"))
    }

    fn appender(&self, topic: &str) -> Result<Appender> {
        Appender::connect(self.cluster.ports(0).kafka, topic, PATIENCE)
    }

    /// Writes so many records as fast as it goes, or as many as go in [`FILL`]. Says how long it took.
    fn fill(&self, records: u64) -> Result<Duration> {
        let (mut appender, since) = (self.appender(TOPIC)?, Instant::now());
        let (mut sent, mut on_their_way) = (0, 0);
        while self.end() < records && (since.elapsed() < FILL || on_their_way > 0) {
            while on_their_way < AT_ONCE && sent < records && since.elapsed() < FILL {
                appender.send([0], &keyed::batch(sent, BATCH, self.keys, now_ms()?))?;
                sent += u64::from(BATCH);
                on_their_way += 1;
            }
            appender.next_answer()?.map_err(|error| anyhow!("a write is refused: {error:?}"))?;
            self.written.fetch_add(u64::from(BATCH), Ordering::Relaxed);
            on_their_way -= 1;
        }
        Ok(since.elapsed())
    }

    /// Watches writes elsewhere for so long at least and until it is over, while the log is written to slowly and is read
    /// from its beginning, and then to the end if it is to be read to the end.
    fn watch(&self, to_the_end: bool, least: Duration, over: impl Fn() -> Result<bool> + Sync) -> Result<Seen> {
        let (ended, most_rss) = (AtomicBool::new(false), AtomicU64::new(0));
        let (pid, mut elsewhere, mut slow) = (self.cluster.pid(0)?, self.appender(ELSEWHERE)?, self.appender(TOPIC)?);
        let (mut reader, nothing) = (Reader::new(self.keys)?, AtomicU64::new(0));
        let end = if to_the_end { &self.written } else { &nothing };
        thread::scope(|scope| {
            let others: [ScopedJoinHandle<'_, Result<()>>; 3] = [
                scope.spawn(|| self.write_slowly(&mut slow, &ended)),
                scope.spawn(|| reader.read(&self.cluster.bootstrap(), end, &ended)),
                scope.spawn(|| {
                    let (since, mut is_over) = (Instant::now(), Ok(false));
                    while matches!(is_over, Ok(false)) || since.elapsed() < least {
                        most_rss.fetch_max(usage(pid)?.rss_bytes, Ordering::Relaxed);
                        thread::sleep(LOOK);
                        is_over = over();
                        if is_over.is_err() {
                            break;
                        }
                    }
                    ended.store(true, Ordering::Relaxed);
                    is_over.map(drop)
                }),
            ];
            let waits = Waits::watch(&mut elsewhere, Duration::ZERO, || ended.load(Ordering::Relaxed));
            ended.store(true, Ordering::Relaxed);
            for other in others {
                other.join().map_err(|_| anyhow!("a thread panicked"))??;
            }
            waits
        })
        .map(|waits| Seen { waits, most_rss: most_rss.into_inner(), reader })
    }

    fn write_slowly(&self, appender: &mut Appender, ended: &AtomicBool) -> Result<()> {
        while !ended.load(Ordering::Relaxed) {
            appender.append([0], &keyed::batch(self.end(), SLOW_BATCH, self.keys, now_ms()?))?;
            self.written.fetch_add(u64::from(SLOW_BATCH), Ordering::Relaxed);
            thread::sleep(SLOW_EVERY);
        }
        Ok(())
    }
}

fn now_ms() -> Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64)
}

/// A consumer from the beginning.
struct Reader {
    /// The last number of each key, and one more.
    last: Vec<u64>,
    next: u64,
    count: u64,
}

impl Reader {
    fn new(keys: u64) -> Result<Self> {
        Ok(Self { last: vec![0; usize::try_from(keys)?], next: 0, count: 0 })
    }

    /// Reads until it has ended and so much is read as there is then.
    fn read(&mut self, bootstrap: &str, end: &AtomicU64, ended: &AtomicBool) -> Result<()> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("log_level", "0").set_log_level(RDKafkaLogLevel::Emerg);
        config.set("group.id", "none").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        let consumer: BaseConsumer = config.create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
        consumer.assign(&list)?;
        let mut heard = Instant::now();
        while !ended.load(Ordering::Relaxed) || self.next < end.load(Ordering::Relaxed) {
            let Some(message) = consumer.poll(LOOK) else {
                ensure!(heard.elapsed() < PATIENCE, "nothing comes after offset {}", self.next);
                continue;
            };
            heard = Instant::now();
            let message = match message {
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) => continue,
                message => message?,
            };
            let offset = message.offset() as u64;
            let (key, number) = keyed::parse(message.key(), message.payload()).context("another's record")?;
            ensure!(offset >= self.next && number == offset, "record {number} at {offset}, after {}", self.next);
            *self.last.get_mut(usize::try_from(key)?).context("another's key")? = number + 1;
            self.next = offset + 1;
            self.count += 1;
        }
        Ok(())
    }

    /// Fails unless the last value that it saw of each key is the last of so many records.
    fn sees_all(&self, records: u64) -> Result<String> {
        let keys = self.last.len() as u64;
        for (key, seen) in (0..keys).zip(&self.last) {
            let last = (records + keys - 1 - key) / keys * keys + key + 1 - keys;
            ensure!(*seen == last, "the last value of key {key} is {}, and it saw {seen}", last - 1);
        }
        Ok(format!("{keys} keys, {} records", self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_each_key_is_the_last_record_that_has_it() {
        for records in [6, 7, 8, 9] {
            let mut reader = Reader::new(3).unwrap();
            (0..records).for_each(|n| reader.last[(n % 3) as usize] = n + 1);
            assert!(reader.sees_all(records).is_ok(), "{records}");
            assert!(reader.sees_all(records + 1).is_err(), "{records}");
        }
    }
}
