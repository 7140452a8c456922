//! The Kafka protocol's bytes, behind our own names. Nothing outside of this module knows which codec makes them.
//!
//! Requests come from strangers: every decode is limited by what the frame can hold. The records of Produce and
//! Fetch are never copied here: a decoded request holds slices of its frame, and a [`Frame`] that goes out is a
//! list of chunks.

pub(crate) mod errors;
mod fetch;
pub(crate) mod messages;
mod produce;
mod request;
mod response;
#[cfg(test)]
mod second_opinion;

pub(crate) use errors::ErrorCode;
pub(crate) use fetch::{FetchResponse, FetchedPartition, FetchedTopic};
pub(crate) use produce::{ProduceRequest, TopicRef};
pub(crate) use request::{Header, Request, RequestKind, SERVED, WireError};
pub(crate) use response::Frame;

/// A message that can be encoded.
pub(crate) use kafka_wire_core::KafkaEncode as Encode;
