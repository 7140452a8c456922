//! Idempotent producers (KIP-98): the last five batches of each, so that a retry is recognised.

/// What is known of each producer that wrote to a partition.
#[derive(Clone, Debug, Default)]
pub struct Producers {}
