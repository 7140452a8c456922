//! The generated gRPC code.
#![expect(clippy::pedantic, clippy::allow_attributes_without_reason, unreachable_pub, reason = "generated code")]

tonic::include_proto!("chronik.controller.v1");
