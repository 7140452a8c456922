//! The controller quorum as one broker sees it: `handle` is how the rest of the broker asks for something.

pub mod handle;

pub use handle::{AlterPartition, ControllerError, ControllerHandle, CreateTopic, Registration, TopicError};
