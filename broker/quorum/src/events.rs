//! The event bus: what changed in the cluster, drawn from applying the metadata log and from nothing else.

use chronik_core::cluster::Image;
use chronik_core::ids::MetadataOffset;
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
pub use chronik_core::cluster::Change as MetadataEvent;

impl MetadataUpdate {
    /// The metadata offset that it is true at.
    pub fn offset(&self) -> MetadataOffset {
        self.image.offset
    }
}

/// Where updates arrive: every one, in the log's order. Unbounded because applying must never wait; what is in
/// it is bounded by the rate of metadata changes.
pub type Updates = mpsc::UnboundedReceiver<MetadataUpdate>;
