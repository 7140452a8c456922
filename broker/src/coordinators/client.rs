//! What of a request's strings a coordinator can keep.

use chronik_core::groups::{GroupError, MAX_STRING};
use std::sync::Arc;

/// A string of a request in a buffer of its own; refused if it is too long for a record.
pub(crate) fn limited(s: &str) -> Result<Arc<str>, GroupError> {
    if s.len() > MAX_STRING { Err(GroupError::InvalidRequest) } else { Ok(Arc::from(s)) }
}
