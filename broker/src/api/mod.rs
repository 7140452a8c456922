//! What the requests mean: one file a kind.
//!
//! A handler asks partitions and the controller through their handles, and decides nothing that they could.

mod admission;
mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod configs;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod context;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod error_codes;
mod errors;
mod fetch;
mod fetch_plan;
mod find_coordinator;
mod groups;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod lasting_hosts;
mod leaders;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod listener;
mod metadata;
mod no_security;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod raft_voters;
mod resources;
mod server_config;
mod sync_group;
mod unregister_broker;
mod update_features;

pub(crate) use context::RequestContext;
pub(crate) use lasting_hosts::LastingHosts;
pub(crate) use listener::ListenerName;
pub use server_config::ServerConfig;

use self::admission::Admission;
use self::error_codes::ErrorCodes;
use self::fetch_plan::Sessions;
use crate::budget::{Budget, Share};
use crate::coordinators::Coordinators;
use crate::metrics::AnsweredErrors;
use crate::partitions::{Partitions, Reservation};
use chronik_quorum::ControllerHandle;
use chronik_wire::{Encode, Frame, Header, Request};
use futures::future::BoxFuture;
use groups::Sender;
use init_producer_id::ProducerIds;
use std::collections::HashSet;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What comes of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer; its share of memory is held until it is written.
    Answer(Frame, Share),
    /// Nothing to say (acks=0).
    NoAnswer,
    /// The connection must be closed, for that reason.
    Close(String),
}

/// The outcome of a request that has begun.
pub(crate) type Reply = BoxFuture<'static, Outcome>;

/// All handlers, and what they share.
#[derive(Debug)]
pub(crate) struct Handlers {
    config: ServerConfig,
    partitions: Partitions,
    controller: ControllerHandle,
    coordinators: Coordinators,
    /// Memory for records on their way out.
    fetched: Budget,
    /// What consumers have asked for before (KIP-227).
    sessions: Sessions,
    producer_ids: ProducerIds,
    admission: Admission,
    /// Room for searches by timestamp.
    searches: Arc<Semaphore>,
    errors: AnsweredErrors,
}

impl Handlers {
    pub(crate) fn new(
        config: ServerConfig,
        partitions: Partitions,
        controller: ControllerHandle,
        coordinators: Coordinators,
        errors: AnsweredErrors,
    ) -> Self {
        let fetched = Budget::new(config.request_budget_bytes);
        let sessions = Sessions::new(config.fetch_session_slots, config.request_budget_bytes / 8);
        let searches = Arc::new(Semaphore::new(list_offsets::SEARCHES));
        let (producer_ids, admission) = (ProducerIds::default(), Admission::new());
        Self {
            config,
            partitions,
            controller,
            coordinators,
            fetched,
            sessions,
            producer_ids,
            admission,
            searches,
            errors,
        }
    }

    /// If a client that asks where brokers are is told of each by an address that goes away with its process: what ends
    /// when there is better to be told.
    pub(crate) fn addresses_pass(&self, context: &RequestContext) -> Option<BoxFuture<'static, ()>> {
        context.listener().addresses_pass(self.controller.images())
    }

    /// Begins a request: what it appends is on its way to the partitions, and what it asks of a group on its way to the
    /// coordinator, when this is done; so the order of calls that wait for each other is the order in which they see it.
    /// All else is done when the reply is polled.
    ///
    /// `reservation` is what the request's memory is counted against: batches keep it until they are on the disk, and
    /// coordinators until they have answered.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        header: Header,
        context: &RequestContext,
        request: Request,
        reservation: &Reservation,
    ) -> Reply {
        let (this, to) = (Arc::clone(self), (&self.errors, header));
        let via = context.listener().clone();
        let sender = Sender { client: context.client().clone(), reservation: Arc::clone(reservation) };
        match request {
            Request::Produce(r) => produce::begin(this, header, via, r, reservation).await,
            Request::Fetch(r) => Box::pin(async move { fetch::handle(&this, header, &via, r).await }),
            Request::ListOffsets(r) => answer(to, async move { list_offsets::handle(&this, header, r).await }),
            Request::Metadata(r) => answer(to, async move { metadata::handle(&this, header, &via, r).await }),
            Request::ApiVersions(r) => answer(to, async move { api_versions::handle(&this, header, &r) }),
            Request::CreateTopics(r) => answer(to, async move { create_topics::handle(&this, header, r).await }),
            Request::DeleteRecords(r) => answer(to, async move { delete_records::handle(&this, r).await }),
            Request::DeleteTopics(r) => answer(to, async move { delete_topics::handle(&this, header, r).await }),
            Request::InitProducerId(r) => answer(to, async move { init_producer_id::handle(&this, &r).await }),
            Request::OffsetForLeaderEpoch(r) => {
                answer(to, async move { offset_for_leader_epoch::handle(&this, r).await })
            }
            Request::DescribeAcls(_) => answer(to, std::future::ready(no_security::acls())),
            Request::SaslHandshake(_) => answer(to, std::future::ready(no_security::handshake())),
            Request::SaslAuthenticate(_) => answer(to, std::future::ready(no_security::authentication())),
            Request::DescribeConfigs(r) => answer(to, async move { describe_configs::handle(&this, header, r) }),
            Request::AlterConfigs(r) => answer(to, async move { alter_configs::replacing(&this, r).await }),
            Request::IncrementalAlterConfigs(r) => {
                answer(to, async move { alter_configs::incremental(&this, r).await })
            }
            Request::ListConfigResources(r) => {
                answer(to, async move { list_config_resources::handle(&this, header, &r) })
            }
            Request::CreatePartitions(r) => answer(to, async move { create_partitions::handle(&this, r).await }),
            Request::DescribeTopicPartitions(r) => {
                answer(to, async move { describe_topic_partitions::handle(&this, &r) })
            }
            Request::DescribeLogDirs(r) => answer(to, async move { describe_log_dirs::handle(&this, header, r).await }),
            Request::DescribeProducers(r) => answer(to, async move { describe_producers::handle(&this, r).await }),
            Request::DescribeCluster(r) => answer(to, async move { describe_cluster::handle(&this, header, &via, &r) }),
            Request::ElectLeaders(r) => answer(to, async move { elect_leaders::handle(&this, header, r).await }),
            Request::AlterPartitionReassignments(r) => {
                answer(to, async move { alter_partition_reassignments::handle(&this, r).await })
            }
            Request::ListPartitionReassignments(r) => {
                answer(to, async move { list_partition_reassignments::handle(&this, r) })
            }
            Request::UpdateFeatures(r) => answer(to, async move { update_features::handle(&this, header, r).await }),
            Request::UnregisterBroker(r) => answer(to, async move { unregister_broker::handle(&this, &r).await }),
            Request::DescribeQuorum(r) => answer(to, async move { describe_quorum::handle(&this, header, r).await }),
            Request::AddRaftVoter(r) => answer(to, async move { raft_voters::add(&this, &r).await }),
            Request::RemoveRaftVoter(r) => answer(to, async move { raft_voters::remove(&this, &r).await }),
            Request::FindCoordinator(r) => {
                answer(to, async move { find_coordinator::handle(&this, header, &via, r).await })
            }
            Request::JoinGroup(r) => join_group::begin(self, header, context, &r, reservation),
            Request::SyncGroup(r) => sync_group::begin(self, header, context, &r, reservation),
            Request::Heartbeat(r) => heartbeat::begin(self, header, context, &r, reservation),
            Request::LeaveGroup(r) => leave_group::begin(self, header, context, &r, reservation),
            Request::OffsetCommit(r) => offset_commit::begin(self, header, context, &r, reservation),
            Request::OffsetFetch(r) => answer(to, async move { offset_fetch::handle(&this, header, &sender, r).await }),
            Request::DescribeGroups(r) => {
                answer(to, async move { describe_groups::handle(&this, header, &sender, r).await })
            }
            Request::ListGroups(r) => list_groups::begin(self, header, context, &r, reservation),
            Request::DeleteGroups(r) => answer(to, async move { delete_groups::handle(&this, &sender, r).await }),
            Request::OffsetDelete(r) => offset_delete::begin(self, header, context, r, reservation),
            Request::ConsumerGroupHeartbeat(r) => {
                consumer_group_heartbeat::begin(self, header, context, &r, reservation)
            }
            Request::ConsumerGroupDescribe(r) => {
                answer(to, async move { consumer_group_describe::handle(&this, header, &sender, r).await })
            }
        }
    }

    /// The answer to an ApiVersions request of a version that is not known: in the form of version 0, which every
    /// client understands (KIP-511).
    pub(crate) fn unsupported_api_versions(header: Header) -> Reply {
        let frame = Frame::encode_as(header, 0, &api_versions::unsupported());
        Box::pin(std::future::ready(encoded(frame)))
    }
}

/// Encodes what a handler returns, and counts its errors.
fn answer<R: Encode + ErrorCodes + Send + Sync + 'static>(
    (errors, header): (&AnsweredErrors, Header),
    handler: impl Future<Output = R> + Send + 'static,
) -> Reply {
    let errors = errors.clone();
    Box::pin(async move {
        let response = handler.await;
        errors.count(header.api, |found| response.each_code(found));
        encoded(Frame::encode(header, &response))
    })
}

/// A response that was put together wrongly for its version is our fault: the client sees a closed connection.
fn encoded(frame: Result<Frame, impl std::fmt::Display>) -> Outcome {
    match frame {
        Ok(frame) => Outcome::Answer(frame, Share::default()),
        Err(e) => Outcome::Close(format!("an answer that cannot be encoded: {e}")),
    }
}

/// How long a request about topics or partitions may wait for the controller and for replicas, however much it is about:
/// as long as it says itself, and not longer than [`LONGEST_WAIT`]. What it was decoded to is held all along.
#[derive(Clone, Copy, Debug)]
struct Deadline(Instant);

/// Kafka's default of `request.timeout.ms`: clients have given up by then.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl Deadline {
    /// `timeout_ms` from now.
    fn after(timeout_ms: i32) -> Self {
        Self(Instant::now() + millis(timeout_ms).min(LONGEST_WAIT))
    }

    /// What is left of it.
    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// What a request names, each once: a name takes a few bytes of it, and may take megabytes of the answer.
fn each_once<T, K: Eq + Hash>(mut named: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::new();
    named.retain(|n| seen.insert(key(n)));
    named
}

/// A timeout from the wire; negative ones are none at all.
fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
