//! DescribeAcls: there are none to describe, as there is no authorizer.

use chronik_wire::ErrorCode;
use chronik_wire::messages::{DescribeAclsResponse, StrBytes, message};

/// As Kafka's without an authorizer. MirrorMaker 2 asks for the ACLs of topics by default, and goes on without them after
/// this answer alone.
pub(super) fn answer() -> DescribeAclsResponse {
    message!(DescribeAclsResponse {
        error_code: ErrorCode::SECURITY_DISABLED.0,
        error_message: Some(StrBytes::from("no authorizer is configured")),
    })
}
