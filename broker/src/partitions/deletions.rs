//! Removing records from a log's start because somebody asks for it (KIP-107).

use super::handle::DeleteError;
use super::owner::Owner;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::replication::Event;
use tokio::sync::oneshot;

/// Somebody waits for the log's start to reach an offset.
pub(super) struct Deletion {
    pub(super) to: Offset,
    /// On all replicas that are alive, and not on this leader alone.
    pub(super) on_all: bool,
    pub(super) reply: oneshot::Sender<Result<Offset, DeleteError>>,
}

impl Owner {
    pub(super) fn delete_records(&mut self, partition: TopicPartition, before: Option<Offset>, mut deletion: Deletion) {
        self.renew(partition);
        let now = self.now();
        let Some(hosted) = self.partitions.get_mut(&partition) else {
            let _ = deletion.reply.send(Err(DeleteError::UnknownPartition));
            return;
        };
        let high_watermark = hosted.replica.leadership(now).and_then(|_| hosted.replica.high_watermark());
        let Some(high_watermark) = high_watermark else {
            let _ = deletion.reply.send(Err(DeleteError::NotLeader));
            return;
        };
        let to = before.unwrap_or(high_watermark);
        if to > high_watermark || to < Offset::ZERO {
            let _ = deletion.reply.send(Err(DeleteError::OutOfRange));
            return;
        }
        // Requests that have timed out do not pile up.
        hosted.deletions.retain(|waiting| !waiting.reply.is_closed());
        deletion.to = to;
        hosted.deletions.push(deletion);
        self.step(partition, Event::AdvanceStart { to });
        self.answer_deletions(partition);
    }

    /// Answers those whose records are gone from all replicas that are alive, and all when this broker does not lead any
    /// more.
    pub(super) fn answer_deletions(&mut self, partition: TopicPartition) {
        let now = self.now();
        let Some(hosted) = self.partitions.get_mut(&partition).filter(|hosted| !hosted.deletions.is_empty()) else {
            return;
        };
        let leads = hosted.replica.leadership(now).is_some();
        let (start, low) = (hosted.replica.log_start(), hosted.replica.low_watermark().unwrap_or_default());
        let reached = |deletion: &Deletion| if deletion.on_all { low } else { start };
        for deletion in hosted.deletions.extract_if(.., |deletion| !leads || deletion.to <= reached(deletion)) {
            let answer = if leads { Ok(reached(&deletion)) } else { Err(DeleteError::NotLeader) };
            let _ = deletion.reply.send(answer);
        }
    }
}
