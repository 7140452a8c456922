//! The cluster's metadata as every broker sees it, and the decisions of the controller: both are the result
//! of applying the metadata log's entries, in order, to an [`Image`].

mod image;

pub use image::{Broker, Endpoint, Image, Partition, Topic};
