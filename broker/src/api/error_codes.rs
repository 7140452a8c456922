//! The error codes of each kind of answer, for the count of them: of all of it, and of each part that has its own.

use chronik_wire::FetchResponse;
use chronik_wire::messages::{
    AddRaftVoterResponse, AlterConfigsResponse, AlterPartitionReassignmentsResponse, ApiVersionsResponse,
    ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatResponse, CreatePartitionsResponse, CreateTopicsResponse,
    DeleteGroupsResponse, DeleteRecordsResponse, DeleteTopicsResponse, DescribeAclsResponse, DescribeClusterResponse,
    DescribeConfigsResponse, DescribeGroupsResponse, DescribeLogDirsResponse, DescribeProducersResponse,
    DescribeQuorumResponse, DescribeTopicPartitionsResponse, ElectLeadersResponse, FindCoordinatorResponse,
    HeartbeatResponse, IncrementalAlterConfigsResponse, InitProducerIdResponse, JoinGroupResponse, LeaveGroupResponse,
    ListConfigResourcesResponse, ListGroupsResponse, ListOffsetsResponse, ListPartitionReassignmentsResponse,
    MetadataResponse, OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchResponse, OffsetForLeaderEpochResponse,
    ProduceResponse, RemoveRaftVoterResponse, SaslAuthenticateResponse, SaslHandshakeResponse, SyncGroupResponse,
    UnregisterBrokerResponse, UpdateFeaturesResponse,
};

/// An answer with error codes.
pub(super) trait ErrorCodes {
    /// Calls `found` with each of them, also with those that say that there is no error.
    fn each_code(&self, found: &mut dyn FnMut(i16));
}

/// The code of what is named first, or of all that the lists in it have that are named after it, from the outside to the
/// inside.
macro_rules! codes_of {
    ($of:expr, $found:ident,) => {
        $found($of.error_code)
    };
    ($of:expr, $found:ident, $list:ident $($inner:ident)*) => {
        for one in &$of.$list {
            codes_of!(one, $found, $($inner)*);
        }
    };
}

macro_rules! error_codes {
    ($($answer:ty: $([$($list:ident)*])+;)*) => {$(
        impl ErrorCodes for $answer {
            fn each_code(&self, found: &mut dyn FnMut(i16)) {
                $(codes_of!(self, found, $($list)*);)+
            }
        }
    )*};
}

error_codes! {
    AddRaftVoterResponse: [];
    AlterConfigsResponse: [responses];
    AlterPartitionReassignmentsResponse: [] [responses partitions];
    ApiVersionsResponse: [];
    ConsumerGroupDescribeResponse: [groups];
    ConsumerGroupHeartbeatResponse: [];
    CreatePartitionsResponse: [results];
    CreateTopicsResponse: [topics];
    DeleteGroupsResponse: [results];
    DeleteRecordsResponse: [topics partitions];
    DeleteTopicsResponse: [responses];
    DescribeAclsResponse: [];
    DescribeClusterResponse: [];
    DescribeConfigsResponse: [results];
    DescribeGroupsResponse: [groups];
    DescribeLogDirsResponse: [] [results];
    DescribeProducersResponse: [topics partitions];
    DescribeQuorumResponse: [] [topics partitions];
    DescribeTopicPartitionsResponse: [topics] [topics partitions];
    ElectLeadersResponse: [] [replica_election_results partition_result];
    FindCoordinatorResponse: [] [coordinators];
    HeartbeatResponse: [];
    IncrementalAlterConfigsResponse: [responses];
    InitProducerIdResponse: [];
    JoinGroupResponse: [];
    LeaveGroupResponse: [] [members];
    ListConfigResourcesResponse: [];
    ListGroupsResponse: [];
    ListOffsetsResponse: [topics partitions];
    ListPartitionReassignmentsResponse: [];
    MetadataResponse: [] [topics] [topics partitions];
    OffsetCommitResponse: [topics partitions];
    OffsetDeleteResponse: [] [topics partitions];
    OffsetFetchResponse: [] [topics partitions] [groups] [groups topics partitions];
    OffsetForLeaderEpochResponse: [topics partitions];
    ProduceResponse: [responses partition_responses];
    RemoveRaftVoterResponse: [];
    SaslAuthenticateResponse: [];
    SaslHandshakeResponse: [];
    SyncGroupResponse: [];
    UnregisterBrokerResponse: [];
    UpdateFeaturesResponse: [] [results];
}

impl ErrorCodes for FetchResponse {
    fn each_code(&self, found: &mut dyn FnMut(i16)) {
        found(self.error.0);
        for partition in self.topics.iter().flat_map(|topic| &topic.partitions) {
            found(partition.error.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_wire::messages::{MetadataResponsePartition, MetadataResponseTopic, message};
    use chronik_wire::{ErrorCode, FetchedPartition, FetchedTopic};

    fn codes(answer: &impl ErrorCodes) -> Vec<i16> {
        let mut codes = Vec::new();
        answer.each_code(&mut |code| codes.push(code));
        codes
    }

    #[test]
    fn the_codes_of_an_answer_are_those_of_all_of_its_parts() {
        let partition = |code| message!(MetadataResponsePartition { error_code: code });
        let topic = |code, partitions| message!(MetadataResponseTopic { error_code: code, partitions: partitions });
        let topics = vec![topic(3, vec![]), topic(0, vec![partition(5), partition(0)])];
        assert_eq!(codes(&message!(MetadataResponse { topics: topics })), [0, 3, 0, 5, 0]);
        let partitions = vec![FetchedPartition::failed(0, ErrorCode::NOT_LEADER_OR_FOLLOWER)];
        let topics = vec![FetchedTopic { partitions, ..FetchedTopic::default() }];
        assert_eq!(codes(&FetchResponse { topics, ..FetchResponse::default() }), [0, 6]);
    }
}
