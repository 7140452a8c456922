//! A producer that keeps up to five batches in flight, retries in order, and learns of leaders from brokers whose metadata
//! lags: idempotent with `acks=all`, or neither.

use crate::activity::Activity;
use crate::node::Asked;
use crate::world::{Happening, World, note};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use chronik_core::record::testing::BatchBuilder;
use chronik_core::replication::{Acks, ProduceError, Produced};
use std::collections::VecDeque;

/// Requests on their way at once, as clients have by default.
const IN_FLIGHT: usize = 5;
/// A producer gives up on a connection after that.
const TIMEOUT_US: u64 = 400_000;

/// One producer of one partition.
#[derive(Debug)]
pub(crate) struct Producer {
    index: usize,
    tp: TopicPartition,
    acks: Acks,
    batches: Vec<Batch>,
    /// All below are acknowledged.
    first_open: usize,
    next_to_send: usize,
    connection: u64,
    leader: Option<usize>,
    in_flight: VecDeque<(usize, u64)>,
    failed: bool,
    /// Requests of one connection arrive in order.
    last_arrival_us: u64,
    /// And so do their answers.
    last_answer_us: u64,
    next_sequence: i32,
    /// Its topic is gone, or another one has taken its place.
    over: bool,
    /// An unclean election may have lost what was acknowledged to it.
    may_lack: bool,
}

/// One batch of a producer's.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// As it is sent.
    pub(crate) sent: RecordBatch,
    /// Where it was acknowledged to be.
    pub(crate) acknowledged: Option<Offset>,
    /// An unclean election may have lost it since.
    pub(crate) lost: bool,
    /// The connection over which it was sent first.
    first_sent_on: Option<u64>,
}

impl Producer {
    /// A producer of that partition.
    pub(crate) fn new(index: usize, tp: TopicPartition, acks: Acks) -> Self {
        Self {
            index,
            tp,
            acks,
            batches: Vec::new(),
            first_open: 0,
            next_to_send: 0,
            connection: 0,
            leader: None,
            in_flight: VecDeque::new(),
            failed: false,
            last_arrival_us: 0,
            last_answer_us: 0,
            next_sequence: 0,
            over: false,
            may_lack: false,
        }
    }

    /// What it has ever sent.
    pub(crate) fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Where to.
    pub(crate) fn partition(&self) -> TopicPartition {
        self.tp
    }

    /// What it waits for.
    pub(crate) fn acks(&self) -> Acks {
        self.acks
    }

    /// How many batches it knows to be acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.batches.iter().filter(|b| b.acknowledged.is_some()).count()
    }

    /// Whether all that it has sent is acknowledged, or nobody can do that any more.
    pub(crate) fn is_done(&self) -> bool {
        self.over || self.first_open == self.batches.len()
    }

    /// An unclean election may have lost these of its batches.
    pub(crate) fn lose(&mut self, numbers: impl Iterator<Item = usize>) {
        self.may_lack = true;
        for number in numbers {
            if let Some(batch) = self.batches.get_mut(number) {
                batch.lost = true;
            }
        }
    }

    /// A leader has acknowledged that batch.
    pub(crate) fn found(&mut self, number: usize) {
        if let Some(batch) = self.batches.get_mut(number) {
            batch.lost = false;
        }
    }

    /// Whether it may be told that what was acknowledged before is missing.
    pub(crate) fn may_lack(&self) -> bool {
        self.may_lack
    }

    /// Its topic is deleted.
    pub(crate) fn end(&mut self) {
        self.over = true;
    }

    fn new_batch(&mut self, count: i32, mut batch: BatchBuilder) {
        if self.acks == Acks::All {
            batch = batch.producer(self.index as i64 + 1, 0, self.next_sequence);
        }
        let batch = batch.build();
        self.next_sequence += count;
        self.batches.push(Batch { sent: batch, acknowledged: None, lost: false, first_sent_on: None });
    }
}

impl World {
    /// A producer sends what it can, or finds that it waited too long.
    pub(crate) fn producer(&mut self, n: usize) {
        if self.producers[n].over {
            return;
        }
        let writes = self.steps < self.options.steps && self.rng.per_mille(self.writes_per_mille);
        if writes {
            let (count, payload) = (self.rng.within(1, 3) as i32, self.rng.within(21, 200) as usize);
            let compacted = self.compaction.some;
            let plain = BatchBuilder::new(count);
            let batch = if compacted { self.compaction.records(count, payload) } else { plain.payload(payload) };
            self.producers[n].new_batch(count, batch);
        }
        let now_us = self.now_us;
        let p = &mut self.producers[n];
        if p.in_flight.front().is_some_and(|(_, deadline)| *deadline <= now_us) {
            self.counts.note(Activity::ProducerTimeout);
            p.connection += 1;
            p.in_flight.clear();
            p.failed = true;
        }
        if p.failed && p.in_flight.is_empty() {
            p.failed = false;
            p.next_to_send = p.first_open;
            p.leader = None;
        }
        if self.producers[n].leader.is_none() {
            let leader = self.ask_for_leader(self.producers[n].tp);
            let p = &mut self.producers[n];
            p.leader = leader;
            p.connection += 1;
        }
        while self.send_next(n) {}
        self.within(3_000, 30_000, Happening::Producer(n));
    }

    fn send_next(&mut self, n: usize) -> bool {
        let delay_us = self.rng.within(100, 3_000);
        let p = &mut self.producers[n];
        let Some(leader) = p.leader else { return false };
        if p.failed || p.in_flight.len() >= IN_FLIGHT || p.next_to_send >= p.batches.len() {
            return false;
        }
        let number = p.next_to_send;
        p.next_to_send += 1;
        p.batches[number].first_sent_on.get_or_insert(p.connection);
        p.in_flight.push_back((number, self.now_us + TIMEOUT_US));
        p.last_arrival_us = (self.now_us + delay_us).max(p.last_arrival_us + 1);
        let asked = Asked { producer: n, connection: p.connection, number };
        let (at, tp, batch) = (p.last_arrival_us, p.tp, p.batches[number].sent.clone());
        let incarnation = self.nodes[leader].incarnation;
        self.at(at, Happening::Request(leader, incarnation, asked, tp, batch));
        true
    }

    /// What some broker believes.
    pub(crate) fn ask_for_leader(&mut self, tp: TopicPartition) -> Option<usize> {
        let asked = self.rng.index(self.nodes.len());
        let process = self.nodes[asked].process.as_ref()?;
        self.node_of(process.image.partition(tp)?.leader?)
    }

    /// Sends an answer on its way.
    pub(crate) fn answer(&mut self, asked: Asked, result: Result<Produced, ProduceError>) {
        let at = self.now_us + self.rng.within(50, 3_000);
        let p = &mut self.producers[asked.producer];
        p.last_answer_us = at.max(p.last_answer_us + 1);
        let at = p.last_answer_us;
        self.at(at, Happening::Response(asked, result));
    }

    /// An answer arrives at a producer.
    pub(crate) fn response(&mut self, asked: Asked, result: Result<Produced, ProduceError>) {
        let p = &mut self.producers[asked.producer];
        if asked.connection != p.connection {
            return;
        }
        let Some(at) = p.in_flight.iter().position(|(number, _)| *number == asked.number) else { return };
        p.in_flight.remove(at);
        match result {
            Ok(produced) => {
                let again = Some(asked.connection) > p.batches[asked.number].first_sent_on;
                self.counts.note(if again { Activity::RetryAcknowledged } else { Activity::Acknowledged });
                p.batches[asked.number].acknowledged = Some(produced.base_offset);
                while p.batches.get(p.first_open).is_some_and(|b| b.acknowledged.is_some()) {
                    p.first_open += 1;
                }
            }
            Err(error) => {
                p.failed = true;
                self.counts.note(Activity::Refused);
                let first = asked.number == p.first_open;
                note!(self, "producer {} batch {}: {error}", asked.producer, asked.number);
                self.check_refusal(asked, error, first);
                if first && error == ProduceError::OutOfOrderSequence {
                    self.begin_producer_anew(asked.producer);
                }
            }
        }
    }

    /// A producer finds that batches are missing which were acknowledged, as an unclean election has lost them: it goes on
    /// under another id, as Kafka's does.
    fn begin_producer_anew(&mut self, n: usize) {
        let (next, p) = (self.producers.len(), &mut self.producers[n]);
        if p.over || !p.may_lack {
            return;
        }
        p.end();
        p.connection += 1;
        let anew = Producer::new(next, p.tp, p.acks);
        note!(self, "producer {n} goes on as {next}");
        self.counts.note(Activity::ProducerBegunAnew);
        self.producers.push(anew);
        self.at(self.now_us, Happening::Producer(next));
    }
}
