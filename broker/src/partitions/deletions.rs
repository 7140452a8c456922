//! Removing records from a log's start because somebody asks for it (KIP-107).

use super::handle::DeleteError;
use super::owner::Owner;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::replication::Event;
use tokio::sync::oneshot;

impl Owner {
    pub(super) fn delete_records(
        &mut self,
        partition: TopicPartition,
        before: Option<Offset>,
        reply: oneshot::Sender<Result<Offset, DeleteError>>,
    ) {
        let now = self.now();
        let Some(hosted) = self.partitions.get_mut(&partition) else {
            let _ = reply.send(Err(DeleteError::UnknownPartition));
            return;
        };
        let high_watermark = hosted.replica.leadership(now).and_then(|_| hosted.replica.high_watermark());
        let Some(high_watermark) = high_watermark else {
            let _ = reply.send(Err(DeleteError::NotLeader));
            return;
        };
        let to = before.unwrap_or(high_watermark);
        if to > high_watermark || to < Offset::ZERO {
            let _ = reply.send(Err(DeleteError::OutOfRange));
            return;
        }
        // Requests that have timed out do not pile up.
        hosted.deletions.retain(|(_, waiting)| !waiting.is_closed());
        hosted.deletions.push((to, reply));
        self.step(partition, Event::AdvanceStart { to });
        self.answer_deletions(partition);
    }

    /// Answers those whose records are gone, and all when this broker does not lead any more.
    pub(super) fn answer_deletions(&mut self, partition: TopicPartition) {
        let now = self.now();
        let Some(hosted) = self.partitions.get_mut(&partition) else { return };
        let (leads, start) = (hosted.replica.leadership(now).is_some(), hosted.replica.log_start());
        for (to, reply) in hosted.deletions.extract_if(.., |(to, _)| !leads || *to <= start) {
            let answer = if to <= start { Ok(start) } else { Err(DeleteError::NotLeader) };
            let _ = reply.send(answer);
        }
    }
}
