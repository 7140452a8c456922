//! What Kafka's brokers answer about security where none is configured.

use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    DescribeAclsResponse, SaslAuthenticateResponse, SaslHandshakeResponse, StrBytes, message,
};

/// As without an authorizer. `MirrorMaker` 2 asks for the ACLs of topics by default, and goes on without them after this
/// answer alone.
pub(super) fn acls() -> DescribeAclsResponse {
    message!(DescribeAclsResponse {
        error_code: ErrorCode::SECURITY_DISABLED.0,
        error_message: Some(StrBytes::from("no authorizer is configured")),
    })
}

/// As on a listener without SASL: a client that is configured for it says so then, and not that the network failed.
pub(super) fn handshake() -> SaslHandshakeResponse {
    message!(SaslHandshakeResponse { error_code: ErrorCode::ILLEGAL_SASL_STATE.0 })
}

/// The same where the handshake was left out.
pub(super) fn authentication() -> SaslAuthenticateResponse {
    message!(SaslAuthenticateResponse {
        error_code: ErrorCode::ILLEGAL_SASL_STATE.0,
        error_message: Some(StrBytes::from("this listener takes no SASL: there is no security yet")),
    })
}
