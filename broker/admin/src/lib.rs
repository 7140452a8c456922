//! The admin API: what an operator, the command line and other tools ask a cluster. The contract is
//! `proto/admin.proto`; this crate is its generated client ([`AdminClient`]) and server, and nothing else.

mod generated {
    #![expect(clippy::pedantic, clippy::allow_attributes_without_reason, missing_docs, reason = "generated code")]
    tonic::include_proto!("chronik.admin.v1");
}

pub use generated::admin_client::AdminClient;
pub use generated::admin_server::{Admin, AdminServer};
pub use generated::*;

/// The port that a broker's admin API listens on when nothing else is configured.
pub const DEFAULT_PORT: u16 = 9492;
