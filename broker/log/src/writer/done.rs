//! Who hears that operations are done.

use crate::Op;
use chronik_core::ids::{Offset, TopicPartition};
use std::any::Any;
use std::sync::Arc;

/// Whoever appends to some of the partitions. Called once a round, on the writer thread, with all of the round that came
/// with this very `Arc`: each batch's partition and where the batch ends, in the order in which they were submitted.
pub type Appender = Arc<dyn Fn(Vec<(TopicPartition, Offset)>) + Send + Sync>;

/// What goes with a batch until it is durable.
pub type Held = Option<Arc<dyn Any + Send + Sync>>;

/// What is to be done when an operation is.
pub(super) enum Done {
    Call(Box<dyn FnOnce() + Send>),
    Tell(Appender, Held),
}

impl Done {
    /// An append is durable: calls whoever waits for it alone, and gathers the others in `told`.
    pub(super) fn appended(self, op: &Op, told: &mut Told) {
        match (self, op) {
            (Self::Tell(appender, held), Op::Append { partition, batch }) => {
                drop(held);
                told.add(appender, *partition, batch.header().end_offset());
            }
            (done, _) => done.applied(),
        }
    }

    /// An operation of another kind is durable and applied.
    pub(super) fn applied(self) {
        if let Self::Call(done) = self {
            done();
        }
    }
}

/// What is to be told about one round.
#[derive(Default)]
pub(super) struct Told(Vec<(Appender, Vec<(TopicPartition, Offset)>)>);

impl Told {
    fn add(&mut self, appender: Appender, partition: TopicPartition, end: Offset) {
        // There are a few, and what one has submitted mostly comes together.
        let known = self.0.iter_mut().rev().find(|(known, _)| Arc::ptr_eq(known, &appender));
        match known {
            Some((_, ends)) => ends.push((partition, end)),
            None => self.0.push((appender, vec![(partition, end)])),
        }
    }

    pub(super) fn tell(self) {
        for (appender, ends) in self.0 {
            appender(ends);
        }
    }
}
