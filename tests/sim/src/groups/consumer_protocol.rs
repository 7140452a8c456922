//! What classic consumers say to each other through the coordinator: `ConsumerProtocolSubscription` (version 1) and
//! `ConsumerProtocolAssignment` (version 0) of one topic.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::BTreeSet;

/// A subscription to `topic`, with the partitions that the member owns.
pub(super) fn subscription(topic: &str, owned: &BTreeSet<i32>) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(1);
    put_string(&mut bytes, topic);
    bytes.put_i32(-1);
    put_partitions(&mut bytes, topic, owned);
    bytes.freeze()
}

/// What a member says in its subscription that it owns.
pub(super) fn owned(subscription: &Bytes) -> BTreeSet<i32> {
    let mut bytes = subscription.clone();
    read_owned(&mut bytes).unwrap_or_default()
}

fn read_owned(bytes: &mut Bytes) -> Option<BTreeSet<i32>> {
    let _version = bytes.try_get_i16().ok()?;
    for _ in 0..bytes.try_get_i32().ok()? {
        skip_string(bytes)?;
    }
    let user_data = bytes.try_get_i32().ok()?;
    bytes.advance(usize::try_from(user_data).unwrap_or(0));
    read_partitions(bytes)
}

/// An assignment of partitions of `topic`.
pub(super) fn assignment(topic: &str, partitions: &BTreeSet<i32>) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    put_partitions(&mut bytes, topic, partitions);
    bytes.put_i32(-1);
    bytes.freeze()
}

/// The partitions of an assignment; none if it is empty or something else.
pub(super) fn assigned(assignment: &Bytes) -> BTreeSet<i32> {
    let mut bytes = assignment.clone();
    if bytes.try_get_i16().is_err() {
        return BTreeSet::new();
    }
    read_partitions(&mut bytes).unwrap_or_default()
}

fn put_string(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    bytes.put_slice(text.as_bytes());
}

fn skip_string(bytes: &mut Bytes) -> Option<()> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    (bytes.len() >= length).then(|| bytes.advance(length))
}

fn put_partitions(bytes: &mut BytesMut, topic: &str, partitions: &BTreeSet<i32>) {
    if partitions.is_empty() {
        return bytes.put_i32(0);
    }
    bytes.put_i32(1);
    put_string(bytes, topic);
    bytes.put_i32(i32::try_from(partitions.len()).unwrap_or(i32::MAX));
    for partition in partitions {
        bytes.put_i32(*partition);
    }
}

fn read_partitions(bytes: &mut Bytes) -> Option<BTreeSet<i32>> {
    let mut partitions = BTreeSet::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        skip_string(bytes)?;
        for _ in 0..bytes.try_get_i32().ok()? {
            partitions.insert(bytes.try_get_i32().ok()?);
        }
    }
    Some(partitions)
}
