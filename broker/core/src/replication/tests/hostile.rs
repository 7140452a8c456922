//! Whatever comes in whatever order: a replica does not contradict itself (it checks that after every step), and
//! answers every producer at most once, and all of them by the end of its leadership.

use super::bench::{batch_at, log, state};
use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch};
use crate::record::testing::BatchBuilder;
use crate::replication::*;
use crate::time::Instant;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn offset() -> impl Strategy<Value = Offset> {
    prop_oneof![0..12_i64, Just(-1), Just(i64::MAX), Just(i64::MIN)].prop_map(Offset)
}

fn epoch() -> impl Strategy<Value = LeaderEpoch> {
    prop_oneof![0..5_i32, Just(i32::MAX), Just(-1)].prop_map(LeaderEpoch)
}

fn stream() -> impl Strategy<Value = StreamId> {
    (0..3_u64).prop_map(StreamId)
}

fn follower_message() -> impl Strategy<Value = FollowerMessage> {
    prop_oneof![
        (offset(), prop::option::of(epoch())).prop_map(|(log_end, last_epoch)| FollowerMessage::Subscribe {
            log_end,
            last_epoch,
            log_start: None
        }),
        (offset(), offset()).prop_map(|(appended, durable)| FollowerMessage::Ack {
            appended,
            durable,
            log_start: Some(durable)
        }),
    ]
}

fn batches() -> impl Strategy<Value = Vec<crate::record::RecordBatch>> {
    let batch = (prop_oneof![0..12_i64, Just(i64::MAX - 1), Just(-3)], -1..3_i32, 0..5_i32);
    prop::collection::vec(batch.prop_map(|(base, count, epoch)| batch_at(base, count, epoch)), 0..3)
}

fn leader_message() -> impl Strategy<Value = LeaderMessage> {
    prop_oneof![
        (offset(), offset())
            .prop_map(|(high_watermark, log_start)| LeaderMessage::Started { high_watermark, log_start }),
        (0..12_i64).prop_map(|at| LeaderMessage::BeginAt { at: Offset(at), producers: None }),
        (epoch(), offset()).prop_map(|(epoch, end)| LeaderMessage::Diverged { epoch, end }),
        (prop::option::of(offset()), batches(), offset(), offset()).prop_map(
            |(from, batches, high_watermark, log_start)| {
                let first = batches.first().map_or(Offset(0), |first| first.header().base_offset);
                LeaderMessage::Batches { from: from.unwrap_or(first), batches, high_watermark, log_start }
            }
        ),
        (offset(), offset())
            .prop_map(|(high_watermark, log_start)| LeaderMessage::HighWatermark { high_watermark, log_start }),
        epoch().prop_map(|leader_epoch| LeaderMessage::NotLeader { leader_epoch }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let follower = || (1..5_i32).prop_map(BrokerId);
    let isr = prop::sample::select(vec![&[1][..], &[1, 2], &[1, 2, 3], &[2, 3], &[]]);
    let dead = prop::sample::select(vec![&[][..], &[2], &[1], &[3]]);
    prop_oneof![
        3 => (0..4_i32, (0..5_i32, 0..9_i32), isr, dead)
            .prop_map(|(leader, epochs, isr, dead)| Event::Metadata(state(leader, epochs, isr, dead))),
        1 => (0..3_u64).prop_map(|s| Event::Lease(Instant(s * 1_000_000))),
        6 => (0..6_i32, 1..3_i32, prop::sample::select(vec![Acks::None, Acks::Leader, Acks::All])).prop_map(
            |(sequence, count, acks)| Event::Produce {
                ticket: Ticket(0),
                batch: BatchBuilder::new(count).producer(1, 0, sequence).build(),
                acks,
            }
        ),
        4 => offset().prop_map(|end| Event::Durable { end }),
        1 => offset().prop_map(|to| Event::AdvanceStart { to }),
        1 => (offset(), offset(), prop::option::of(offset()))
            .prop_map(|(start, first_batch, damaged)| Event::StartAdvanced { start, first_batch, damaged }),
        1 => (0..6_i64).prop_map(|end| Event::Truncated { log: log(end, &[]) }),
        8 => (follower(), 0..40_i64, epoch(), stream(), follower_message()).prop_map(
            |(follower, broker_epoch, leader_epoch, stream, message)| Event::FromFollower {
                follower,
                broker_epoch: BrokerEpoch(broker_epoch),
                leader_epoch,
                stream,
                message,
            }
        ),
        1 => (follower(), stream()).prop_map(|(follower, stream)| Event::StreamClosed { follower, stream }),
        1 => (follower(), stream(), offset())
            .prop_map(|(follower, stream, from)| Event::SendRefused { follower, stream, from }),
        1 => (follower(), stream()).prop_map(|(follower, stream)| Event::Writable { follower, stream }),
        2 => (follower(), stream(), offset(), batches())
            .prop_map(|(follower, stream, from, batches)| Event::ReadDone { follower, stream, from, batches }),
        2 => (follower(), stream()).prop_map(|(leader, stream)| Event::LeaderConnected { leader, stream }),
        1 => follower().prop_map(|leader| Event::LeaderDisconnected { leader }),
        6 => (epoch(), stream(), leader_message())
            .prop_map(|(leader_epoch, stream, message)| Event::FromLeader { leader_epoch, stream, message }),
        1 => (0..9_i32, any::<bool>()).prop_map(|(epoch, refused)| Event::AlterPartitionFailed {
            partition_epoch: PartitionEpoch(epoch),
            refused
        }),
        1 => Just(Event::CopyKept),
        2 => Just(Event::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn any_events_leave_a_replica_in_order(events in prop::collection::vec((event(), 0..400_u64), 1..80)) {
        let config = Config { lag_time_max: Duration::from_secs(1), stall_time_max: Duration::from_millis(300), window_bytes: 300, read_bytes: 200 };
        let mut replica = Replica::new(BrokerId(1), config, log(0, &[]));
        let (mut now, mut open, mut out) = (Instant(0), BTreeSet::new(), Vec::new());
        for (n, (mut event, wait_ms)) in events.into_iter().enumerate() {
            let (needs_tick, had_lease) = (replica.needs_tick(now), now < replica.lease());
            now = now + Duration::from_millis(wait_ms);
            if !needs_tick && had_lease == (now < replica.lease()) {
                replica.step(now, Event::Tick, &mut out);
                prop_assert!(out.is_empty(), "who waits for no time had something to do: {:?}", out);
            }
            if let Event::Produce { ticket, .. } = &mut event {
                *ticket = Ticket(n as u64);
                open.insert(*ticket);
            }
            replica.step(now, event, &mut out);
            for command in out.drain(..) {
                if let Command::Reply { ticket, .. } = command {
                    prop_assert!(open.remove(&ticket), "{:?} is answered twice", ticket);
                }
            }
            prop_assert_eq!(replica.status().pending, open.len());
        }
        replica.step(now, Event::Metadata(state(0, (i32::MAX, i32::MAX), &[], &[])), &mut out);
        let failed = out.iter().filter(|c| matches!(c, Command::Reply { result: Err(ProduceError::NotLeader), .. }));
        prop_assert_eq!(failed.count(), open.len());
    }
}
