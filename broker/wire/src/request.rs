//! Which requests are served, in which versions; and how a frame becomes one.

use super::messages::{
    AddRaftVoterRequest, AlterConfigsRequest, AlterPartitionReassignmentsRequest, ApiVersionsRequest,
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeAclsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeQuorumRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest, FetchPartition, FetchRequest,
    FetchTopic, FindCoordinatorRequest, ForgottenTopic, HeartbeatRequest, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, JoinGroupRequest, JoinGroupRequestProtocol, LeaveGroupRequest, ListConfigResourcesRequest,
    ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, RemoveRaftVoterRequest,
    SaslAuthenticateRequest, SaslHandshakeRequest, SyncGroupRequest, SyncGroupRequestAssignment,
    UnregisterBrokerRequest, UpdateFeaturesRequest,
};
use super::produce::ProduceRequest;
use bytes::Bytes;
use kafka_wire_core::{ApiVersion, DecodeError, DecodeLimits, Decoder, KafkaDecode, StrBytes, TaggedFields};

/// Elements of one array at most, as in Kafka 4.4.
const MAX_ARRAY: usize = 1_000_000;
/// Unknown tagged fields of one structure at most, as in Kafka 4.4.
const MAX_TAGS: usize = 10_000;
/// Bytes of a request that carries no records at most: what it decodes to is many times as long.
pub(crate) const MAX_PLAIN_REQUEST: usize = 4 << 20;

/// One kind of request, with the versions that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The kind.
    pub api: RequestKind,
    /// The first version served.
    pub min: i16,
    /// The last version served.
    pub max: i16,
    /// The first version with compact lengths and tagged fields.
    flexible_from: i16,
}

/// What a partition takes that a session is to forget, however it is named.
const FORGOTTEN: usize = 64;

macro_rules! served {
    ($($api:ident($type:ty) = $key:literal, $min:literal..=$max:literal, flexible $flexible:literal;)*) => {
        /// The kinds of requests that are served, by Kafka's names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RequestKind { $(#[doc = concat!("`", stringify!($api), "`.")] $api = $key,)* }

        /// A request, decoded.
        #[derive(Debug)]
        pub enum Request { $(#[doc = concat!("`", stringify!($api), "`.")] $api($type),)* }

        /// Everything that is served.
        pub const SERVED: &[Served] = &[
            $(Served { api: RequestKind::$api, min: $min, max: $max, flexible_from: $flexible },)*
        ];

        impl RequestKind {
            /// Kafka's name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$api => stringify!($api),)* }
            }
        }

        impl Request {
            fn decode_body(header: Header, d: &mut Decoder) -> Result<Self, DecodeError> {
                match header.api {
                    $(RequestKind::$api => <$type as Body>::decode_body(d, header.version).map(Self::$api),)*
                }
            }

        }
    };
}

served! {
    Produce(ProduceRequest) = 0, 3..=13, flexible 9;
    Fetch(FetchRequest) = 1, 4..=18, flexible 12;
    ListOffsets(ListOffsetsRequest) = 2, 1..=11, flexible 6;
    Metadata(MetadataRequest) = 3, 0..=13, flexible 9;
    OffsetCommit(OffsetCommitRequest) = 8, 2..=10, flexible 8;
    OffsetFetch(OffsetFetchRequest) = 9, 1..=10, flexible 6;
    FindCoordinator(FindCoordinatorRequest) = 10, 0..=6, flexible 3;
    JoinGroup(JoinGroupRequest) = 11, 0..=9, flexible 6;
    Heartbeat(HeartbeatRequest) = 12, 0..=4, flexible 4;
    LeaveGroup(LeaveGroupRequest) = 13, 0..=5, flexible 4;
    SyncGroup(SyncGroupRequest) = 14, 0..=5, flexible 4;
    DescribeGroups(DescribeGroupsRequest) = 15, 0..=6, flexible 5;
    ListGroups(ListGroupsRequest) = 16, 0..=5, flexible 3;
    SaslHandshake(SaslHandshakeRequest) = 17, 0..=1, flexible 2;
    ApiVersions(ApiVersionsRequest) = 18, 0..=5, flexible 3;
    CreateTopics(CreateTopicsRequest) = 19, 2..=7, flexible 5;
    DeleteTopics(DeleteTopicsRequest) = 20, 1..=6, flexible 4;
    DeleteRecords(DeleteRecordsRequest) = 21, 0..=2, flexible 2;
    InitProducerId(InitProducerIdRequest) = 22, 0..=5, flexible 2;
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest) = 23, 2..=4, flexible 4;
    DescribeAcls(DescribeAclsRequest) = 29, 1..=3, flexible 2;
    DescribeConfigs(DescribeConfigsRequest) = 32, 1..=4, flexible 4;
    AlterConfigs(AlterConfigsRequest) = 33, 0..=2, flexible 2;
    DescribeLogDirs(DescribeLogDirsRequest) = 35, 1..=5, flexible 2;
    SaslAuthenticate(SaslAuthenticateRequest) = 36, 0..=2, flexible 2;
    CreatePartitions(CreatePartitionsRequest) = 37, 0..=3, flexible 2;
    DeleteGroups(DeleteGroupsRequest) = 42, 0..=2, flexible 2;
    ElectLeaders(ElectLeadersRequest) = 43, 0..=2, flexible 2;
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest) = 44, 0..=1, flexible 1;
    AlterPartitionReassignments(AlterPartitionReassignmentsRequest) = 45, 0..=1, flexible 0;
    ListPartitionReassignments(ListPartitionReassignmentsRequest) = 46, 0..=0, flexible 0;
    OffsetDelete(OffsetDeleteRequest) = 47, 0..=0, flexible 1;
    DescribeQuorum(DescribeQuorumRequest) = 55, 0..=2, flexible 0;
    UpdateFeatures(UpdateFeaturesRequest) = 57, 0..=2, flexible 0;
    DescribeCluster(DescribeClusterRequest) = 60, 0..=2, flexible 0;
    DescribeProducers(DescribeProducersRequest) = 61, 0..=0, flexible 0;
    UnregisterBroker(UnregisterBrokerRequest) = 64, 0..=0, flexible 0;
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest) = 68, 0..=1, flexible 0;
    ConsumerGroupDescribe(ConsumerGroupDescribeRequest) = 69, 0..=1, flexible 0;
    ListConfigResources(ListConfigResourcesRequest) = 74, 0..=1, flexible 0;
    DescribeTopicPartitions(DescribeTopicPartitionsRequest) = 75, 0..=0, flexible 0;
    AddRaftVoter(AddRaftVoterRequest) = 80, 0..=0, flexible 0;
    RemoveRaftVoter(RemoveRaftVoterRequest) = 81, 0..=0, flexible 0;
}

/// What stands before every request.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// The kind of request.
    pub api: RequestKind,
    /// Its version.
    pub version: i16,
    /// What the response repeats.
    pub correlation_id: i32,
}

/// Why a frame is not a request that can be answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WireError {
    /// The kind of request is not served.
    #[error("request kind {0} is not served")]
    UnknownApi(i16),
    /// The kind is served, the version is not. ApiVersions alone has an answer to that.
    #[error("version {} of {} is not served", .0.version, .0.api.name())]
    UnsupportedVersion(Header),
    /// A request without records, longer than any client has a use for.
    #[error("a {} of {len} bytes", api.name())]
    TooLong {
        /// Its kind.
        api: RequestKind,
        /// Its length.
        len: usize,
    },
    /// The bytes are not what they claim to be.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

impl RequestKind {
    /// The kind with Kafka's API key, if it is served.
    pub fn of_key(key: i16) -> Option<Self> {
        Self::from_key(key).map(|served| served.api)
    }

    fn from_key(key: i16) -> Option<&'static Served> {
        SERVED.iter().find(|s| s.api as i16 == key)
    }

    /// Its place in [`SERVED`].
    pub fn index(self) -> usize {
        // A handful of entries, all of which are in the table by construction.
        SERVED.iter().position(|s| s.api == self).unwrap_or(0)
    }
}

impl Header {
    pub(super) fn flexible(self) -> bool {
        SERVED[self.api.index()].flexible_from <= self.version
    }

    /// Whether the response's header has tagged fields. That of ApiVersions never has: a client reads it before
    /// it knows what the broker speaks.
    pub(super) fn flexible_response(self) -> bool {
        self.api != RequestKind::ApiVersions && self.flexible()
    }
}

/// What of the decoder differs between the generated messages and our own.
trait Body: Sized {
    fn decode_body(d: &mut Decoder, version: i16) -> Result<Self, DecodeError>;
}

impl<T: KafkaDecode> Body for T {
    fn decode_body(d: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        Self::decode(d, ApiVersion::new(version))
    }
}

impl Body for ProduceRequest {
    fn decode_body(d: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        Self::decode(d, version)
    }
}

pub(crate) fn limits(frame: &Bytes) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = frame.len();
    limits.max_string_bytes = frame.len();
    limits.max_bytes_bytes = frame.len();
    // Every element of every array that a request has takes a byte at least.
    limits.max_array_elements = MAX_ARRAY.min(frame.len());
    limits.max_tagged_fields = MAX_TAGS.min(frame.len());
    limits.max_tag_bytes = frame.len();
    limits.max_total_tag_bytes = frame.len();
    limits
}

/// A request as it came.
#[derive(Debug)]
pub struct Decoded {
    /// What stands before it.
    pub header: Header,
    /// `client.id`, a slice of the frame.
    pub client_id: Option<StrBytes>,
    /// The request.
    pub request: Request,
}

impl Request {
    /// Memory that a request which may wait for long takes once it is decoded. Lets go of what is not looked at:
    /// tags that are not known.
    pub fn compact(&mut self) -> Option<usize> {
        match self {
            Self::Fetch(request) => Some(compact_fetch(request)),
            Self::JoinGroup(request) => Some(compact_join(request)),
            Self::SyncGroup(request) => Some(compact_sync(request)),
            _ => None,
        }
    }

    /// Decodes a frame, without its length. What it holds of the frame are slices.
    pub fn decode(frame: Bytes) -> Result<Decoded, WireError> {
        let len = frame.len();
        let limits = limits(&frame);
        let mut d = Decoder::new(frame, limits)?;
        let key = d.read_i16()?;
        let version = d.read_i16()?;
        let correlation_id = d.read_i32()?;
        let served = RequestKind::from_key(key).ok_or(WireError::UnknownApi(key))?;
        let header = Header { api: served.api, version, correlation_id };
        if !(served.min..=served.max).contains(&version) {
            return Err(WireError::UnsupportedVersion(header));
        }
        if served.api != RequestKind::Produce && len > MAX_PLAIN_REQUEST {
            return Err(WireError::TooLong { api: served.api, len });
        }
        // No header version writes it in the compact form.
        let client_id = client_id(&mut d)?;
        if header.flexible() {
            d.read_tagged_fields()?;
        }
        // What may follow the body is ignored, as Kafka does.
        let request = Self::decode_body(header, &mut d)?;
        Ok(Decoded { header, client_id, request })
    }
}

/// The client's id. It need not be text: Kafka takes any bytes, and what is no UTF-8 is replaced.
fn client_id(d: &mut Decoder) -> Result<Option<StrBytes>, DecodeError> {
    let Ok(len) = usize::try_from(d.read_i16()?) else { return Ok(None) };
    let bytes = d.take_bytes(len)?;
    Ok(Some(StrBytes::try_from(bytes.clone()).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into())))
}

fn compact_fetch(request: &mut FetchRequest) -> usize {
    request.unknown_tagged_fields = TaggedFields::default();
    request.replica_state.unknown_tagged_fields = TaggedFields::default();
    let mut bytes = 0;
    for topic in &mut request.forgotten_topics_data {
        topic.unknown_tagged_fields = TaggedFields::default();
        bytes += size_of::<ForgottenTopic>() + topic.partitions.len() * FORGOTTEN;
    }
    for topic in &mut request.topics {
        topic.unknown_tagged_fields = TaggedFields::default();
        for partition in &mut topic.partitions {
            partition.unknown_tagged_fields = TaggedFields::default();
        }
        // As much again for what is asked of each partition, and for its answer.
        bytes += size_of::<FetchTopic>() + topic.partitions.len() * size_of::<FetchPartition>() * 4;
    }
    bytes
}

fn compact_join(request: &mut JoinGroupRequest) -> usize {
    request.unknown_tagged_fields = TaggedFields::default();
    let mut bytes = size_of::<JoinGroupRequest>();
    for protocol in &mut request.protocols {
        protocol.unknown_tagged_fields = TaggedFields::default();
        bytes += size_of::<JoinGroupRequestProtocol>() + protocol.name.len() + protocol.metadata.len();
    }
    bytes
}

fn compact_sync(request: &mut SyncGroupRequest) -> usize {
    request.unknown_tagged_fields = TaggedFields::default();
    let mut bytes = size_of::<SyncGroupRequest>();
    for assignment in &mut request.assignments {
        assignment.unknown_tagged_fields = TaggedFields::default();
        bytes += size_of::<SyncGroupRequestAssignment>() + assignment.member_id.len() + assignment.assignment.len();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_that_may_wait_keeps_nothing_that_is_not_counted() {
        let mut topic = FetchTopic::default();
        topic.partitions = vec![FetchPartition::default(); 3];
        let mut fetch = FetchRequest::default();
        fetch.topics = vec![topic.clone()];
        let mut forgotten = ForgottenTopic::default();
        forgotten.partitions = vec![1, 2];
        fetch.forgotten_topics_data = vec![forgotten; 1000];
        let mut request = Request::Fetch(fetch);
        let counted = request.compact().unwrap();
        let forgotten = 1000 * (size_of::<ForgottenTopic>() + 2 * FORGOTTEN);
        assert!(counted >= size_of::<FetchTopic>() + 3 * size_of::<FetchPartition>() + forgotten);
        let Request::Fetch(left) = request else { panic!("another request") };
        assert_eq!(left.topics, [topic]);
    }

    #[test]
    fn the_id_of_a_client_may_be_in_any_encoding() {
        for (id, text) in [(&b"caf\xe9"[..], "caf\u{fffd}"), (b"plain", "plain"), (b"", "")] {
            let mut wire = (id.len() as i16).to_be_bytes().to_vec();
            wire.extend(id);
            let wire = Bytes::from(wire);
            let limits = limits(&wire);
            let read = client_id(&mut Decoder::new(wire, limits).unwrap()).unwrap();
            assert_eq!(read.as_deref(), Some(text));
        }
        // ApiVersions 0, with an id in Latin-1.
        let frame = Bytes::from_static(b"\0\x12\0\0\0\0\0\x07\0\x04caf\xe9");
        assert_eq!(Request::decode(frame).unwrap().header.correlation_id, 7);
    }

    #[test]
    fn a_join_that_waits_counts_what_its_protocols_take() {
        let mut protocol = JoinGroupRequestProtocol::default();
        protocol.metadata = Bytes::from(vec![0; 5000]);
        let mut join = JoinGroupRequest::default();
        join.protocols = vec![protocol; 2];
        assert!((10_000..12_000).contains(&Request::JoinGroup(join).compact().unwrap()));
    }
}
