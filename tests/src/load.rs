//! Numbered records, written without a break by an idempotent librdkafka producer and read back from the start.

use crate::checker::{self, Read, Written};
use crate::harness::wait;
use crate::probe::longest_gap;
use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

/// What the writer knows of one partition.
#[derive(Debug, Default)]
struct Partition {
    written: Written,
    /// Records that were acknowledged or failed.
    completed: u64,
    acknowledged_at: Vec<Instant>,
}

/// Shared between the sending thread, the delivery callback and the scenario.
#[derive(Debug, Default)]
struct Ledger {
    partitions: Vec<Mutex<Partition>>,
    failures: Mutex<BTreeMap<String, u64>>,
    fatal: Mutex<Option<String>>,
}

impl Ledger {
    fn partition(&self, partition: i32) -> MutexGuard<'_, Partition> {
        self.partitions[partition as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Context {
    ledger: Arc<Ledger>,
    log: Option<Arc<File>>,
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if let Some(mut log) = self.log.as_deref() {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            // What is not written is missing there, which nothing rests upon.
            let _ = writeln!(log, "{:.6} {facility} {message}", since.as_secs_f64());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Fatal)) {
            *self.ledger.fatal.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error}: {reason}"));
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<(i32, u64)>;

    fn delivery(&self, result: &DeliveryResult<'_>, what: Self::DeliveryOpaque) {
        let (number_of_partition, number) = *what;
        let mut partition = self.ledger.partition(number_of_partition);
        partition.completed += 1;
        match result {
            Ok(message) => {
                partition.written.acknowledged.push((number, message.offset()));
                partition.acknowledged_at.push(Instant::now());
            }
            Err((error, _)) => {
                let mut failures = self.ledger.failures.lock().unwrap_or_else(PoisonError::into_inner);
                *failures.entry(error.to_string()).or_default() += 1;
            }
        }
    }
}

/// A writer that goes on until it is dropped.
pub struct Load {
    writer: String,
    topic: String,
    ledger: Arc<Ledger>,
    /// Held while a record is sent: whoever sets it to false knows that none is on its way into the client.
    sending: Arc<Mutex<bool>>,
    ended: Arc<AtomicBool>,
    producer: Arc<ThreadedProducer<Context>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Writes to the partitions round-robin, `rate` records a second in all, idempotent with acks=all. All other
    /// settings are librdkafka's defaults, but for the linger, which would hide short gaps.
    ///
    /// `writer` tells the records of this writer from those of others in the same topic.
    pub fn start(writer: &str, bootstrap: &str, topic: &str, partitions: usize, rate: u32) -> Result<Self> {
        Self::start_with(writer, bootstrap, topic, (partitions, rate), &[], None)
    }

    /// The same, with other settings of the client too, and with its debug log there, each line after the seconds since
    /// 1970.
    pub fn start_with(
        writer: &str,
        bootstrap: &str,
        topic: &str,
        (partitions, rate): (usize, u32),
        settings: &[(&str, &str)],
        log: Option<&Path>,
    ) -> Result<Self> {
        let ledger = Arc::new(Ledger {
            partitions: std::iter::repeat_with(Mutex::default).take(partitions).collect(),
            ..Ledger::default()
        });
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("acks", "all");
        config.set("linger.ms", "1");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        if log.is_some() {
            config.set("debug", "broker,metadata,topic,msg").set_log_level(RDKafkaLogLevel::Debug);
        }
        let log = log.map(File::create).transpose()?.map(Arc::new);
        let producer: ThreadedProducer<Context> =
            config.create_with_context(Context { ledger: Arc::clone(&ledger), log })?;
        let mut load = Self {
            writer: writer.to_owned(),
            topic: topic.to_owned(),
            ledger,
            sending: Arc::new(Mutex::new(true)),
            ended: Arc::default(),
            producer: Arc::new(producer),
            thread: None,
        };
        load.thread = Some(load.send_from_a_thread(rate));
        Ok(load)
    }

    fn send_from_a_thread(&self, rate: u32) -> JoinHandle<()> {
        let (ledger, producer, topic) = (Arc::clone(&self.ledger), Arc::clone(&self.producer), self.topic.clone());
        let (sending, ended, writer) = (Arc::clone(&self.sending), Arc::clone(&self.ended), self.writer.clone());
        thread::spawn(move || {
            let (mut due, step) = (Instant::now(), Duration::from_secs(1) / rate);
            let mut partition = 0;
            while !ended.load(Ordering::Relaxed) {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += step;
                let sending = sending.lock().unwrap_or_else(PoisonError::into_inner);
                if *sending {
                    partition = (partition + 1) % ledger.partitions.len();
                    send_next(&ledger, &producer, &topic, &writer, partition as i32);
                } else {
                    due = Instant::now() + Duration::from_millis(1);
                }
            }
        })
    }

    /// Stops sending, and waits until every record that was sent has an outcome.
    pub fn pause(&self, patience: Duration) -> Result<()> {
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = false;
        wait::until("every record to be acknowledged or failed", patience, || {
            let pending = self.pending();
            if let Some(fatal) = &*self.ledger.fatal.lock().unwrap_or_else(PoisonError::into_inner) {
                bail!("the producer gave up with {pending} records pending: {fatal}");
            }
            ensure!(pending == 0, "{pending} records are still pending");
            Ok(Some(()))
        })
    }

    /// Sends on after a [`Load::pause`].
    pub fn resume(&self) {
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// What was sent and acknowledged until now, for each partition.
    pub fn written(&self) -> Vec<Written> {
        (0..self.ledger.partitions.len()).map(|p| self.ledger.partition(p as i32).written.clone()).collect()
    }

    /// How many records were acknowledged in all.
    pub fn acknowledged(&self) -> usize {
        (0..self.ledger.partitions.len()).map(|p| self.ledger.partition(p as i32).written.acknowledged.len()).sum()
    }

    /// How many records were handed to the client and have no outcome yet.
    pub fn pending(&self) -> u64 {
        (0..self.ledger.partitions.len())
            .map(|p| self.ledger.partition(p as i32))
            .map(|p| p.written.sent - p.completed)
            .sum()
    }

    /// How many records failed, by reason.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        self.ledger.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until each partition has had an acknowledgement later than `moment`.
    pub fn wait_for_acknowledgements_after(&self, moment: Instant, patience: Duration) -> Result<()> {
        wait::until("an acknowledgement on every partition", patience, || {
            for p in 0..self.ledger.partitions.len() {
                let partition = self.ledger.partition(p as i32);
                ensure!(
                    partition.acknowledged_at.last().is_some_and(|at| *at > moment),
                    "partition {p} has {} acknowledged of {} sent; failed: {:?}",
                    partition.written.acknowledged.len(),
                    partition.written.sent,
                    self.failures(),
                );
            }
            Ok(Some(()))
        })
    }

    /// The longest time without an acknowledgement that began before `until` and ended after `from`, for each
    /// partition. Called when each has had one after `until`.
    pub fn longest_gaps(&self, from: Instant, until: Instant) -> Vec<Duration> {
        let longest = |p| {
            let partition = self.ledger.partition(p as i32);
            longest_gap(&partition.acknowledged_at, from, until)
        };
        (0..self.ledger.partitions.len()).map(longest).collect()
    }
}

/// Reads a whole topic and compares it with what all its writers wrote, who must be paused.
pub fn verify(bootstrap: &str, loads: &[&Load]) -> Result<String> {
    let first = loads.first().context("a writer")?;
    let partitions = first.ledger.partitions.len();
    for load in loads {
        ensure!(
            load.topic == first.topic && load.ledger.partitions.len() == partitions,
            "{} writes elsewhere",
            load.writer
        );
        // A record that is still in flight would be looked for in a log that was read before it came.
        ensure!(load.pending() == 0, "{} records of {} are pending", load.pending(), load.writer);
    }
    let records = read_all(bootstrap, &first.topic, partitions, Duration::from_mins(1))?;
    let (mut sent, mut acknowledged, mut broken) = (0, 0, Vec::new());
    for (partition, records) in records.iter().enumerate() {
        for load in loads {
            let written = load.ledger.partition(partition as i32).written.clone();
            let failures = load.failures();
            ensure!(
                !written.acknowledged.is_empty(),
                "nothing that {} wrote to partition {partition} was acknowledged: {failures:?}",
                load.writer
            );
            sent += written.sent;
            acknowledged += written.acknowledged.len();
            let violations = checker::check(&written, &read_of(&load.writer, loads, partition, records));
            broken.extend(violations.into_iter().map(|v| format!("{}, partition {partition}: {v}", load.writer)));
        }
    }
    let read: usize = records.iter().map(Vec::len).sum();
    let summary = format!("{sent} sent, {acknowledged} acknowledged, {read} read");
    for load in loads {
        let failures = load.failures();
        ensure!(failures.is_empty(), "{summary}; writes of {} failed for good: {failures:?}", load.writer);
    }
    if broken.is_empty() {
        return Ok(summary);
    }
    bail!("{summary}; {} promises broken, first: {}", broken.len(), broken[..broken.len().min(5)].join("; "))
}

/// What one writer has to answer for: its own records, and those that no writer knows.
fn read_of(writer: &str, loads: &[&Load], partition: usize, records: &[Record]) -> Vec<Read> {
    let mut mine = Vec::new();
    for (offset, value) in records {
        match parse(value) {
            Some((of, at, number)) if of == writer && at == partition => {
                mine.push(Read { offset: *offset, number: Some(number) });
            }
            Some((of, at, _)) if at == partition && loads.iter().any(|load| load.writer == of) => {}
            _ => mine.push(Read { offset: *offset, number: None }),
        }
    }
    mine
}

/// How long the part of a value is that says nothing.
const PADDING: usize = 80;

fn parse(value: &[u8]) -> Option<(&str, usize, u64)> {
    let mut parts = std::str::from_utf8(value).ok()?.split('/');
    let (writer, partition, number) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let padding = parts.next()?;
    let whole = padding.len() == PADDING && padding.bytes().all(|b| b == b'x') && parts.next().is_none();
    whole.then_some((writer, partition, number))
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed where it happened.
            let _ = thread.join();
        }
    }
}

fn send_next(ledger: &Ledger, producer: &ThreadedProducer<Context>, topic: &str, writer: &str, partition: i32) {
    let number = {
        let mut state = ledger.partition(partition);
        state.written.sent += 1;
        state.written.sent - 1
    };
    let value = format!("{writer}/{partition}/{number}/{}", "x".repeat(PADDING));
    let record = BaseRecord::<(), str, _>::with_opaque_to(topic, Box::new((partition, number)));
    if producer.send(record.partition(partition).payload(value.as_str())).is_err() {
        // The client's queue is full: the number is free again, as this thread alone hands them out.
        ledger.partition(partition).written.sent -= 1;
        thread::sleep(Duration::from_millis(1));
    }
}

/// A record's offset and value.
pub type Record = (i64, Vec<u8>);

/// Every record of a topic from its beginning to what is its end now, by partition.
pub fn read_all(bootstrap: &str, topic: &str, partitions: usize, patience: Duration) -> Result<Vec<Vec<Record>>> {
    let mut read = vec![Vec::new(); partitions];
    read_each(bootstrap, topic, partitions, patience, |message| {
        let value = message.payload().unwrap_or_default().to_vec();
        read[message.partition() as usize].push((message.offset(), value));
    })?;
    Ok(read)
}

/// Shows every record of a topic from its beginning to what is its end now, those of each partition in their order.
pub fn read_each(
    bootstrap: &str,
    topic: &str,
    partitions: usize,
    patience: Duration,
    mut show: impl FnMut(&BorrowedMessage<'_>),
) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "none")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("log_level", "0")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut at_end = vec![false; partitions];
    let deadline = Instant::now() + patience;
    let mut last_error = None;
    while at_end.contains(&false) {
        let missing = || at_end.iter().enumerate().filter(|(_, end)| !**end).map(|(p, _)| p).collect::<Vec<_>>();
        ensure!(Instant::now() < deadline, "partitions {:?} not read to the end: {last_error:?}", missing());
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => show(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => at_end[partition as usize] = true,
            Some(Err(e)) => last_error = Some(e),
            None => {}
        }
    }
    Ok(())
}
