//! The bytes that classic members of protocol type `consumer` send each other: Kafka's `ConsumerProtocolSubscription`
//! and `ConsumerProtocolAssignment`. All versions begin alike, and what a version lacks is empty.

use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;

/// Partitions by topic name.
pub(super) type ByTopic = Vec<(Arc<str>, Vec<i32>)>;

/// The newest version of both that is known.
const NEWEST: i16 = 3;

/// What a member is subscribed to, and owned when it joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) version: i16,
    pub(super) topics: Vec<Arc<str>>,
    /// Of cooperative members (version 1); eager members own nothing when they join.
    pub(super) owned: ByTopic,
    /// `client.rack` (version 3).
    pub(super) rack: Option<Arc<str>>,
}

impl Subscription {
    /// `None` if the bytes are something else.
    pub(super) fn parse(metadata: &[u8]) -> Option<Self> {
        let rest = &mut &*metadata;
        let mut subscription = Self { version: version(rest)?, ..Self::default() };
        for _ in 0..count(rest)? {
            subscription.topics.push(string(rest)?);
        }
        if subscription.version == 0 || rest.is_empty() {
            return Some(subscription);
        }
        skip_bytes(rest)?;
        subscription.owned = by_topic(rest)?;
        if subscription.version >= 3 {
            let _generation = take::<4>(rest)?;
            subscription.rack = nullable_string(rest)?;
        }
        Some(subscription)
    }

    /// The topics alone, whatever follows them.
    pub(super) fn topics(metadata: &[u8]) -> Option<Vec<Arc<str>>> {
        let rest = &mut &*metadata;
        version(rest)?;
        (0..count(rest)?).map(|_| string(rest)).collect()
    }
}

/// The partitions of an assignment of protocol type `consumer` (`ConsumerProtocolAssignment`, any version), by topic name; no
/// bytes at all are none. `None` if the bytes are something else.
pub fn assigned_partitions(assignment: &[u8]) -> Option<Vec<(Arc<str>, Vec<i32>)>> {
    parse_assignment(assignment)
}

pub(super) fn parse_assignment(assignment: &[u8]) -> Option<ByTopic> {
    if assignment.is_empty() {
        return Some(ByTopic::new());
    }
    let rest = &mut &*assignment;
    version(rest)?;
    by_topic(rest)
}

/// Whether an assignor of the client's own has added something for the member that it alone understands.
pub(super) fn has_user_data(assignment: &[u8]) -> bool {
    let rest = &mut &*assignment;
    let user_data = version(rest).and_then(|_| by_topic(rest)).and_then(|_| take::<4>(rest));
    user_data.is_some_and(|length| i32::from_be_bytes(*length) > 0)
}

/// An assignment for a member whose subscription has that version.
pub(super) fn assignment(version: i16, partitions: &[(Arc<str>, Vec<i32>)]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(version.clamp(0, NEWEST));
    bytes.put_i32(length(partitions.len()));
    for (topic, partitions) in partitions {
        bytes.put_i16(i16::try_from(topic.len()).unwrap_or(i16::MAX));
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(length(partitions.len()));
        for partition in partitions {
            bytes.put_i32(*partition);
        }
    }
    // No user data.
    bytes.put_i32(-1);
    bytes.freeze()
}

fn length(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn version(rest: &mut &[u8]) -> Option<i16> {
    Some(i16::from_be_bytes(*take(rest)?)).filter(|version| *version >= 0)
}

fn count(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(*take(rest)?)).ok()
}

fn string(rest: &mut &[u8]) -> Option<Arc<str>> {
    nullable_string(rest)?
}

/// `Some(None)` for a string that is null.
#[expect(clippy::option_option, reason = "bytes that are no string are not a string that is null")]
fn nullable_string(rest: &mut &[u8]) -> Option<Option<Arc<str>>> {
    let length = i16::from_be_bytes(*take(rest)?);
    if length == -1 {
        return Some(None);
    }
    let (text, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(Some(Arc::from(std::str::from_utf8(text).ok()?)))
}

fn skip_bytes(rest: &mut &[u8]) -> Option<()> {
    let length = i32::from_be_bytes(*take(rest)?);
    *rest = rest.get(usize::try_from(length).unwrap_or(0)..)?;
    Some(())
}

fn by_topic(rest: &mut &[u8]) -> Option<ByTopic> {
    let mut topics = ByTopic::new();
    for _ in 0..count(rest)? {
        let topic = string(rest)?;
        let mut partitions = Vec::new();
        for _ in 0..count(rest)? {
            partitions.push(i32::from_be_bytes(*take(rest)?));
        }
        topics.push((topic, partitions));
    }
    Some(topics)
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (chunk, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_read_in_every_version_and_nothing_else_is_taken_for_one() {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[0, 3, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 9, 9]);
        bytes.put_slice(&[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 7]);
        bytes.put_slice(&[0, 0, 0, 5, 0, 2, b'r', b'1']);
        let expected = Subscription {
            version: 3,
            topics: vec!["t".into()],
            owned: vec![("t".into(), vec![7])],
            rack: Some("r1".into()),
        };
        assert_eq!(Subscription::parse(&bytes), Some(expected));
        let first = Subscription::parse(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255]);
        assert_eq!(first, Some(Subscription { topics: vec!["t".into()], ..Subscription::default() }));
        for cut in 0..bytes.len() {
            // Versions from 1 on may end after the topics alone.
            assert!(cut == 9 || Subscription::parse(&bytes[..cut]).is_none(), "{cut}");
        }
        assert_eq!(Subscription::parse(&[0, 1, 255, 255, 255, 255]), None);
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let partitions: ByTopic = vec![("t".into(), vec![0, 2]), ("u".into(), vec![1])];
        assert_eq!(parse_assignment(&assignment(9, &partitions)), Some(partitions));
        assert_eq!(assignment(9, &[])[..2], [0, 3]);
        assert_eq!(parse_assignment(&[]), Some(vec![]));
        assert_eq!(parse_assignment(b"all"), None);
    }
}
