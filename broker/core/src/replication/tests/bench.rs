//! One replica on a bench: events go in, commands come out as short texts.

use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch, ProducerId};
use crate::producers::Producers;
use crate::record::RecordBatch;
use crate::record::testing::BatchBuilder;
use crate::replication::*;
use crate::time::Instant;
use std::time::Duration;

pub(super) struct Bench {
    pub(super) replica: Replica,
    pub(super) now: Instant,
}

/// A batch of `count` records without a producer id.
pub(super) fn batch(count: i32) -> RecordBatch {
    BatchBuilder::new(count).build()
}

/// A batch as it stands in a log.
pub(super) fn batch_at(base: i64, count: i32, epoch: i32) -> RecordBatch {
    batch(count).assign(Offset(base), LeaderEpoch(epoch))
}

/// A log of one epoch.
pub(super) fn log(end: i64, epochs: &[(i32, i64)]) -> LogState {
    LogState {
        start: Offset(0),
        first_batch: Offset(0),
        end: Offset(end),
        epochs: epochs.iter().map(|&(e, o)| (LeaderEpoch(e), Offset(o))).collect(),
        producers: Producers::default(),
    }
}

/// Metadata of a partition of the replicas 1, 2, 3; all alive, each with ten times its id as its broker epoch,
/// but for those in `dead`.
pub(super) fn state(leader: i32, epochs: (i32, i32), isr: &[i32], dead: &[i32]) -> PartitionState {
    PartitionState {
        leader: Some(BrokerId(leader)).filter(|id| id.0 > 0),
        leader_epoch: LeaderEpoch(epochs.0),
        partition_epoch: PartitionEpoch(epochs.1),
        isr: isr.iter().map(|&id| BrokerId(id)).collect(),
        replicas: (1..=3)
            .map(|id| (BrokerId(id), Some(BrokerEpoch(i64::from(id) * 10)).filter(|_| !dead.contains(&id))))
            .collect(),
        stopping: Vec::new(),
        elr: Vec::new(),
        removing: Vec::new(),
        min_insync_replicas: 2,
        older_producers: ProducerId(0),
    }
}

impl Bench {
    /// Replica 1, with a lease of an hour.
    pub(super) fn new(log: LogState) -> Self {
        let config = Config {
            lag_time_max: Duration::from_secs(10),
            stall_time_max: Duration::from_secs(5),
            window_bytes: 480,
            read_bytes: 400,
        };
        let mut bench = Self { replica: Replica::new(BrokerId(1), config, log), now: Instant(1_000_000) };
        bench.step(Event::Lease(Instant(3_600_000_000)));
        bench
    }

    /// Replica 1 as leader in epoch 1 of an empty log, 2 and 3 in sync and subscribed (as stream 1).
    pub(super) fn leading() -> Self {
        let mut bench = Self::new(log(0, &[]));
        bench.step(Event::Metadata(state(1, (1, 1), &[1, 2, 3], &[])));
        for follower in [2, 3] {
            bench.subscribe(follower, 1, 1, 0, None);
            bench.ack(follower, 1, 0, 0);
        }
        bench
    }

    pub(super) fn step(&mut self, event: Event) -> Vec<String> {
        let mut out = Vec::new();
        self.replica.step(self.now, event, &mut out);
        out.iter().map(describe).collect()
    }

    pub(super) fn after(&mut self, wait_ms: u64) -> &mut Self {
        self.now = self.now + Duration::from_millis(wait_ms);
        self
    }

    pub(super) fn produce(&mut self, ticket: u64, batch: RecordBatch) -> Vec<String> {
        self.step(Event::Produce { ticket: Ticket(ticket), batch, acks: Acks::All })
    }

    pub(super) fn durable(&mut self, end: i64) -> Vec<String> {
        self.step(Event::Durable { end: Offset(end) })
    }

    pub(super) fn metadata(&mut self, leader: i32, epochs: (i32, i32), isr: &[i32]) -> Vec<String> {
        self.step(Event::Metadata(state(leader, epochs, isr, &[])))
    }

    pub(super) fn follower_says(&mut self, id: i32, epoch: i32, stream: u64, message: FollowerMessage) -> Vec<String> {
        self.step(Event::FromFollower {
            follower: BrokerId(id),
            broker_epoch: BrokerEpoch(i64::from(id) * 10),
            leader_epoch: LeaderEpoch(epoch),
            stream: StreamId(stream),
            message,
        })
    }

    pub(super) fn subscribe(&mut self, id: i32, epoch: i32, stream: u64, end: i64, last: Option<i32>) -> Vec<String> {
        let message = FollowerMessage::Subscribe {
            log_end: Offset(end),
            last_epoch: last.map(LeaderEpoch),
            log_start: Some(Offset(0)),
        };
        self.follower_says(id, epoch, stream, message)
    }

    /// An acknowledgement in epoch 1.
    pub(super) fn ack(&mut self, id: i32, stream: u64, appended: i64, durable: i64) -> Vec<String> {
        let message = FollowerMessage::Ack { appended: Offset(appended), durable: Offset(durable), log_start: None };
        self.follower_says(id, 1, stream, message)
    }

    /// Both followers have everything below `end`.
    pub(super) fn both_ack(&mut self, end: i64) -> Vec<String> {
        [2, 3].into_iter().flat_map(|id| self.ack(id, 1, end, end)).collect()
    }

    pub(super) fn leader_says(&mut self, epoch: i32, stream: u64, message: LeaderMessage) -> Vec<String> {
        self.step(Event::FromLeader { leader_epoch: LeaderEpoch(epoch), stream: StreamId(stream), message })
    }

    pub(super) fn alter_failed(&mut self, partition_epoch: i32, refused: bool) -> Vec<String> {
        self.step(Event::AlterPartitionFailed { partition_epoch: PartitionEpoch(partition_epoch), refused })
    }
}

fn range(batches: &[RecordBatch]) -> String {
    match (batches.first(), batches.last()) {
        (Some(first), Some(last)) => format!("{}..{}", first.header().base_offset, last.header().end_offset()),
        _ => "nothing".into(),
    }
}

/// A log's start, where it is not the usual one.
fn started_at(log_start: Offset) -> String {
    if log_start == Offset::ZERO { String::new() } else { format!(" start {log_start}") }
}

fn ids<'a>(ids: impl IntoIterator<Item = &'a BrokerId>) -> String {
    ids.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn describe(command: &Command) -> String {
    match command {
        Command::Append { batch } => {
            format!("append {} e{}", range(std::slice::from_ref(batch)), batch.header().leader_epoch)
        }
        Command::Truncate { to } => format!("truncate {to}"),
        Command::Repair { to } => format!("repair {to}"),
        Command::AdvanceStart { to } => format!("advance start {to}"),
        Command::BeginAt { at, .. } => format!("begin at {at}"),
        Command::Reply { ticket, result: Ok(p) } => format!("reply {} at {}", ticket.0, p.base_offset),
        Command::Reply { ticket, result: Err(e) } => format!("reply {} {e:?}", ticket.0),
        Command::Send { follower, stream, leader_epoch, message } => {
            let message = match message {
                LeaderMessage::Started { high_watermark, log_start } => {
                    format!("started hw {high_watermark}{}", started_at(*log_start))
                }
                LeaderMessage::BeginAt { at, .. } => format!("begin at {at}"),
                LeaderMessage::Diverged { epoch, end } => format!("diverged e{epoch} {end}"),
                LeaderMessage::Batches { from, batches, high_watermark, log_start } => {
                    let gap = batches.first().is_some_and(|first| first.header().base_offset != *from);
                    let after = if gap { format!("after {from} ") } else { String::new() };
                    format!("{after}{} hw {high_watermark}{}", range(batches), started_at(*log_start))
                }
                LeaderMessage::HighWatermark { high_watermark, log_start } => {
                    format!("hw {high_watermark}{}", started_at(*log_start))
                }
                LeaderMessage::NotLeader { leader_epoch } => format!("not leader, e{leader_epoch}"),
            };
            format!("to {follower} s{} e{leader_epoch}: {message}", stream.0)
        }
        Command::Read { follower, from, max_bytes, .. } => format!("read for {follower} from {from} max {max_bytes}"),
        Command::ToLeader { leader, leader_epoch, stream, message } => {
            let message = match message {
                FollowerMessage::Subscribe { log_end, last_epoch, .. } => {
                    format!("subscribe {log_end} {}", last_epoch.map_or("-".into(), |e| format!("e{e}")))
                }
                FollowerMessage::Ack { appended, durable, .. } => format!("ack {appended} {durable}"),
            };
            format!("to leader {leader} s{} e{leader_epoch}: {message}", stream.0)
        }
        Command::Follow { leader } => format!("follow {}", leader.map_or("nobody".into(), |id| id.to_string())),
        Command::AlterPartition { partition_epoch, isr, .. } => {
            format!("alter p{partition_epoch} isr {}", ids(isr.iter().map(|(id, _)| id)))
        }
        Command::GiveUpCopy => "give up".into(),
        Command::Wake => "wake".into(),
    }
}
