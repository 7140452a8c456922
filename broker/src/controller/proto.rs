//! The generated gRPC code.
#![expect(
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    missing_docs,
    unreachable_pub,
    reason = "generated code"
)]

tonic::include_proto!("chronik.controller.v1");
