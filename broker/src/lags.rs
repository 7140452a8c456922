//! How far replicas are behind that are not in sync, as this broker knows it of what it leads: told when the controller's
//! leader asks, who is asked how the cluster is.

use crate::partitions::Partitions;
use chronik_core::ids::TopicPartition;
use chronik_quorum::{FollowerLag, LagsQuestion};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Answers one question after the other.
pub(crate) async fn answer(
    mut questions: mpsc::Receiver<LagsQuestion>,
    partitions: Partitions,
    stop: CancellationToken,
) {
    let answers = async {
        while let Some(question) = questions.recv().await {
            let lags = futures::future::join_all(question.partitions.iter().map(|tp| of(&partitions, *tp))).await;
            // Who asked may not wait any more.
            let _ = question.reply.send(lags.concat());
        }
    };
    stop.run_until_cancelled(answers).await;
}

async fn of(partitions: &Partitions, partition: TopicPartition) -> Vec<FollowerLag> {
    let lags = partitions.lags(partition).await;
    lags.into_iter().map(|lag| FollowerLag { partition, lag }).collect()
}
