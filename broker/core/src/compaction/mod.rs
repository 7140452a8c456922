//! Log compaction: of records with the same key the last one stays (`cleanup.policy=compact`).
//!
//! What is decided here: which part of a log can be cleaned and whether it is time to ([`plan`]), what the last offset of
//! each key is, in bounded memory ([`OffsetMap`]), and what is left of a batch ([`Rules`]). Files are the log's business.
//!
//! As in Kafka: the part that was never cleaned is read first, as far as its keys fit; then everything up to there is
//! written again without the records that have a later one of the same key in that part. Records keep their offsets, and
//! batches their first and last one, so that a batch that lost its last record still says where the next one begins. A
//! record without a value (a tombstone) goes when it has been in what is clean for `delete.retention.ms`: until when is
//! noted in its batch (KIP-534).

mod filter;
mod footprint;
mod offset_map;
mod plan;

pub use filter::{Filtered, Rules};
pub use footprint::Footprint;
pub use offset_map::{Full, OffsetMap};
pub use plan::{Limits, Plan, plan};
