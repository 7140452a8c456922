//! Appends that build on each other: none is in the log without all those before it.

use chronik_core::ids::LeaderEpoch;
use chronik_core::replication::{ProduceError, Produced};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Appends in one leadership, each of which was decided by a memory that has those before it. The first one that is
/// refused ends the series, and all after it are refused: who appends hears of a refusal only later, and may have sent
/// the next ones, for which there may be room again, or a lease.
#[derive(Clone, Debug)]
pub struct Series {
    epoch: LeaderEpoch,
    over: CancellationToken,
}

impl Series {
    /// A series that begins with the next append.
    pub fn new(epoch: LeaderEpoch) -> Self {
        Self { epoch, over: CancellationToken::new() }
    }

    /// Waits until an append of it is refused. Who asked has its answer then.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

/// The way back to who asked for an append.
#[derive(Debug)]
pub struct AppendReply {
    series: Option<Series>,
    reply: oneshot::Sender<Result<Produced, ProduceError>>,
}

impl AppendReply {
    /// To who waits at that channel's end; of the series, if the append is part of one.
    pub fn new(series: Option<Series>, reply: oneshot::Sender<Result<Produced, ProduceError>>) -> Self {
        Self { series, reply }
    }

    /// Whether the append may be made in that leadership: any may that is part of no series.
    pub fn fits(&self, epoch: LeaderEpoch) -> bool {
        self.series.as_ref().is_none_or(|series| series.epoch == epoch && !series.over.is_cancelled())
    }

    /// Answers. The owner does so before it takes the next append, if it refuses this one.
    pub fn send(self, result: Result<Produced, ProduceError>) {
        let refused = result.is_err();
        let _ = self.reply.send(result);
        if refused && let Some(series) = self.series {
            series.over.cancel();
        }
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_closed(&self) -> bool {
        self.reply.is_closed()
    }
}
