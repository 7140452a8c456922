//! A member of a consumer group by the protocol of KIP-848: the coordinator assigns, the member takes.

use super::client::{Client, ClientError, Member, refused};
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, OwnedTopicPartitions, StrBytes, Uuid, message,
};
use std::time::Duration;
use tokio::time::Instant;

const REBALANCE_TIMEOUT_MS: i32 = 45_000;
/// The epoch by which a member leaves.
const LEAVE: i32 = -1;

/// This process's place in a group.
#[derive(Debug)]
pub(super) struct Membership {
    group: String,
    topic: String,
    topic_id: Uuid,
    /// Its id and its epoch, which is 0 until it has joined.
    pub(super) member: Member,
    /// What is assigned, as far as it is known.
    assigned: Option<Vec<i32>>,
    due: Instant,
}

impl Membership {
    pub(super) fn new(group: &str, topic: &str, topic_id: Uuid) -> Self {
        let member = Member { id: uuid::Uuid::new_v4().to_string(), epoch: 0 };
        let (group, topic) = (group.to_owned(), topic.to_owned());
        Self { group, topic, topic_id, member, assigned: None, due: Instant::now() }
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Sends a heartbeat if one is due; what is assigned, where that is something else than what is owned.
    pub(super) async fn heartbeat(
        &mut self,
        client: &mut Client,
        owned: &[i32],
    ) -> Result<Option<Vec<i32>>, ClientError> {
        if Instant::now() < self.due {
            return Ok(None);
        }
        let answer = match self.send(client, self.member.epoch, owned).await {
            // The coordinator does not know this member any more: it joins anew.
            Err(ClientError::Refused {
                code: ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_MEMBER_EPOCH, ..
            }) if self.member.epoch > 0 => {
                self.member.epoch = 0;
                self.assigned = None;
                return Ok(Some(Vec::new()));
            }
            answered => answered?,
        };
        self.member.epoch = answer.member_epoch;
        let interval = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0).clamp(100, 60_000);
        self.due = Instant::now() + Duration::from_millis(interval);
        if let Some(assignment) = &answer.assignment {
            let of_topic = assignment.topic_partitions.iter().filter(|t| t.topic_id == self.topic_id);
            let mut assigned: Vec<i32> = of_topic.flat_map(|t| t.partitions.iter().copied()).collect();
            assigned.sort_unstable();
            self.assigned = Some(assigned);
        }
        let changed = self.assigned.as_ref().filter(|assigned| assigned.as_slice() != owned).cloned();
        if changed.is_some() {
            // The next heartbeat, which says what is revoked and taken, is due at once.
            self.due = Instant::now();
        }
        Ok(changed)
    }

    /// Leaves the group, if it has joined.
    pub(super) async fn leave(&mut self, client: &mut Client) -> Result<(), ClientError> {
        if self.member.epoch > 0 {
            self.send(client, LEAVE, &[]).await?;
            self.member.epoch = 0;
        }
        Ok(())
    }

    async fn send(
        &self,
        client: &mut Client,
        epoch: i32,
        owned: &[i32],
    ) -> Result<ConsumerGroupHeartbeatResponse, ClientError> {
        let partitions = message!(OwnedTopicPartitions { topic_id: self.topic_id, partitions: owned.to_vec() });
        let owned = if owned.is_empty() { Vec::new() } else { vec![partitions] };
        let request = message!(ConsumerGroupHeartbeatRequest {
            group_id: StrBytes::from(&*self.group),
            member_id: StrBytes::from(&*self.member.id),
            member_epoch: epoch,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            subscribed_topic_names: Some(vec![StrBytes::from(&*self.topic)]),
            topic_partitions: Some(owned),
        });
        client
            .again(async |client| {
                let coordinator = client.coordinator(&self.group).await?;
                let answer = client.ask(coordinator, 0..=1, &request).await?;
                refused(format!("group {}", self.group), answer.error_code, answer.error_message.as_ref())?;
                Ok(answer)
            })
            .await
    }
}
