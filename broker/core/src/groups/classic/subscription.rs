//! The topics in a member's metadata of protocol type `consumer`.

use std::sync::Arc;

/// The topics of a `ConsumerProtocolSubscription`: after the version, which all versions begin alike, an array of
/// strings. `None` if the bytes are something else.
pub(super) fn topics(metadata: &[u8]) -> Option<Vec<Arc<str>>> {
    let (version, mut rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let count = u32::try_from(i32::from_be_bytes(*take(&mut rest)?)).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(i16::from_be_bytes(*take(&mut rest)?)).ok()?;
        let (name, after) = rest.split_at_checked(length)?;
        rest = after;
        topics.push(Arc::from(std::str::from_utf8(name).ok()?));
    }
    Some(topics)
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (chunk, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(chunk)
}
