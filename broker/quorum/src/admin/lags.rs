//! How far replicas are behind: asked of those that lead, all at once, and left open where there is no answer in time.

use super::{Calls, Client, Failure, admin_request, answer_of};
use crate::lags::{self, FollowerLag, LagsQuestion, MOST};
use crate::proto;
use chronik_admin as api;
use chronik_core::cluster::Image;
use chronik_core::ids::{BrokerId, TopicPartition};
use prost::Message as _;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::Status;

/// The leader's question to a broker, under a name that no client's call has.
pub(super) const HERE: &str = "lags-here";
/// Leaders have so long to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What was answered, by partition and follower.
pub(super) type Lags = HashMap<(TopicPartition, BrokerId), FollowerLag>;

impl Calls {
    /// How far the replicas are behind that are alive and not in sync, and those that are being added.
    pub(super) async fn lags(&self, image: &Image) -> Lags {
        let mut by_leader: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
        let behind = image
            .partitions()
            .filter(|(_, _, p)| p.replicas.iter().any(|id| !p.isr.contains(id) && image.alive(*id).is_some()));
        for (tp, _, p) in behind.take(MOST) {
            if let Some(leader) = p.leader {
                by_leader.entry(leader).or_default().push(tp);
            }
        }
        let asked = by_leader.into_iter().map(|(leader, partitions)| self.ask_leader(leader, partitions));
        let answered = futures::future::join_all(asked).await.into_iter().flatten();
        answered.map(|lag| ((lag.partition, lag.lag.follower), lag)).collect()
    }

    async fn ask_leader(&self, leader: BrokerId, partitions: Vec<TopicPartition>) -> Vec<FollowerLag> {
        if leader == self.me {
            return self.lags_of(partitions).await;
        }
        let order = admin_request(&self.links, leader, HERE, lags::question(&partitions).encode_to_vec());
        let call = |mut client: Client| async move { client.admin(order).await };
        match self.links.call(leader, PATIENCE, call).await.map(|answer| answer_of::<proto::LagsResponse>(&answer)) {
            Ok(Ok(answer)) => lags::answered(&answer),
            // An older version does not know the question.
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    /// The question of the controller's leader, answered by whoever leads the partitions.
    pub(super) async fn lags_here(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let request = proto::LagsRequest::decode(body)
            .map_err(|_| Status::invalid_argument("the question's body is not understood"))?;
        Ok(lags::answer(&self.lags_of(lags::asked(&request)).await).encode_to_vec())
    }

    async fn lags_of(&self, partitions: Vec<TopicPartition>) -> Vec<FollowerLag> {
        let (reply, answer) = oneshot::channel();
        if self.lags.try_send(LagsQuestion { partitions, reply }).is_err() {
            return Vec::new();
        }
        tokio::time::timeout(PATIENCE, answer).await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

/// What is known of a replica that is not in sync.
pub(super) fn missing(
    lags: &Lags,
    tp: TopicPartition,
    id: BrokerId,
    why: api::missing_replica::Why,
) -> api::MissingReplica {
    let lag = lags.get(&(tp, id)).map(|known| known.lag);
    api::MissingReplica {
        broker: id.0,
        why: why.into(),
        behind: lag.and_then(|lag| lag.behind),
        behind_for_ms: lag.map(|lag| u64::try_from(lag.for_at_least.as_millis()).unwrap_or(u64::MAX)),
    }
}
