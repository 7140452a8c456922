//! What brokers say with their heartbeats of what their logs have lost: the first of it, and how much it is.

use super::proto;
use chronik_core::ids::{Offset, PartitionId, TopicId, TopicPartition};

/// Partitions that a heartbeat names.
const NAMED: usize = 100;

/// What a broker's log is known to have lost and has not got back yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damages {
    /// Partitions that have lost something.
    pub total: usize,
    /// The first of them.
    pub first: Vec<DamagedLog>,
}

/// What one partition's log has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedLog {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset that cannot be read.
    pub from: Offset,
    /// Where the last batch begins that cannot be read; `None` where it is not known how far it goes.
    pub to: Option<Offset>,
}

impl Damages {
    /// All of these, of which no more are kept than a heartbeat names.
    pub fn of(all: impl Iterator<Item = DamagedLog>) -> Self {
        let mut damages = Self::default();
        for one in all {
            damages.total += 1;
            if damages.first.len() < NAMED {
                damages.first.push(one);
            }
        }
        damages
    }

    pub(super) fn to_proto(&self) -> proto::Damages {
        let one = |log: &DamagedLog| proto::DamagedLog {
            topic_id: log.partition.topic.0.as_bytes().to_vec(),
            partition: log.partition.partition.0,
            from: log.from.0,
            to: log.to.map(|to| to.0),
        };
        proto::Damages {
            total: u32::try_from(self.total).unwrap_or(u32::MAX),
            first: self.first.iter().map(one).collect(),
        }
    }

    /// What is not understood of it is counted, and not named.
    pub(super) fn from_proto(said: &proto::Damages) -> Self {
        let one = |log: &proto::DamagedLog| {
            let topic = TopicId(uuid::Uuid::from_slice(&log.topic_id).ok()?);
            let partition = TopicPartition { topic, partition: PartitionId(log.partition) };
            Some(DamagedLog { partition, from: Offset(log.from), to: log.to.map(Offset) })
        };
        Self { total: said.total as usize, first: said.first.iter().take(NAMED).filter_map(one).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_much_is_damaged_a_heartbeat_names_the_first_of_it_and_counts_all() {
        let log = |n: i32| DamagedLog {
            partition: TopicPartition { topic: TopicId(uuid::Uuid::from_u128(7)), partition: PartitionId(n) },
            from: Offset(n.into()),
            to: (n % 2 == 0).then_some(Offset(9)),
        };
        let damages = Damages::of((0..10_000).map(log));
        assert_eq!((damages.total, damages.first.len()), (10_000, NAMED));
        let mut said = damages.to_proto();
        assert_eq!(Damages::from_proto(&said), damages);
        said.first[0].topic_id.clear();
        said.first.extend_from_within(..);
        let understood = Damages::from_proto(&said);
        assert_eq!((understood.total, understood.first.len()), (10_000, NAMED - 1));
        assert_eq!(understood.first[0], log(1));
    }
}
