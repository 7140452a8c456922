//! What of a request's strings a coordinator can keep.

use chronik_core::groups::GroupError;
use std::sync::Arc;

/// The longest string that Kafka's records of groups can hold.
const MAX: usize = i16::MAX as usize;

/// A string of a request in a buffer of its own; refused if no record could hold it.
pub(crate) fn limited(s: &str) -> Result<Arc<str>, GroupError> {
    if s.len() > MAX { Err(GroupError::InvalidRequest) } else { Ok(Arc::from(s)) }
}
