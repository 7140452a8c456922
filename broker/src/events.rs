//! The event bus: what changed in the cluster, drawn from applying the metadata log and from nothing else.

use chronik_core::cluster::Image;
use chronik_core::ids::{BrokerId, MetadataOffset, TopicPartition};
use tokio::sync::mpsc;

/// One applied entry's (or snapshot's) consequences.
#[derive(Clone, Debug)]
pub struct MetadataUpdate {
    /// The image after it.
    pub image: Image,
    /// What changed.
    pub events: Vec<MetadataEvent>,
}

/// One thing that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataEvent {
    /// A broker registered, was fenced or unfenced, or moved.
    Broker(BrokerId),
    /// A partition was created or changed.
    PartitionChanged(TopicPartition),
    /// A partition was deleted with its topic.
    PartitionDeleted(TopicPartition),
}

impl MetadataUpdate {
    /// The metadata offset that it is true at.
    pub fn offset(&self) -> MetadataOffset {
        self.image.offset
    }
}

/// Where updates arrive: every one, in the log's order. Unbounded because applying must never wait; what is in
/// it is bounded by the rate of metadata changes.
pub type Updates = mpsc::UnboundedReceiver<MetadataUpdate>;
