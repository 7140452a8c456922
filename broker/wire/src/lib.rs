//! The Kafka protocol's bytes, behind our own names. Nothing outside of this crate knows which codec makes them.
//!
//! Requests come from strangers: every decode is limited by the length of the frame. The records of Produce and
//! Fetch are never copied here: a decoded request holds slices of its frame, and a [`Frame`] that goes out is a
//! list of chunks.

pub mod client;
pub mod errors;
mod fetch;
pub mod messages;
mod produce;
pub mod records;
mod request;
mod response;
#[cfg(test)]
mod second_opinion;

pub use errors::ErrorCode;
pub use fetch::{FetchResponse, FetchedPartition, FetchedTopic};
pub use produce::{ProduceRequest, TopicRef};
pub use request::{Decoded, Header, Request, RequestKind, SERVED, WireError};
pub use response::Frame;

/// A message that can be encoded.
pub use kafka_wire_core::KafkaEncode as Encode;
