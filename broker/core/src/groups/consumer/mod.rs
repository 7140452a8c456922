//! Groups of the consumer protocol (KIP-848).

#![expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the protocol is refused until it stands")]

use super::event::Ticket;
use super::record::{RecordKey, RecordValue};
use super::request::{Client, ConsumerGroupHeartbeat};
use super::response::{GroupError, Response};
use super::step::Step;
use super::timers::Timer;
use std::sync::Arc;

/// A group whose members use the consumer protocol.
#[derive(Debug, Default)]
pub(super) struct ConsumerGroup {}

impl ConsumerGroup {
    /// Takes in a record of this group while the shard loads.
    pub(super) fn load(&mut self, _key: RecordKey, _value: Option<RecordValue>) {}

    /// The shard is loaded: sessions begin.
    pub(super) fn loaded(&mut self, _group: &Arc<str>, _step: &mut Step<'_>) {}

    /// ConsumerGroupHeartbeat.
    pub(super) fn heartbeat(
        &mut self,
        _request: ConsumerGroupHeartbeat,
        _client: &Client,
        ticket: Ticket,
        _random: u128,
        step: &mut Step<'_>,
    ) {
        let refused = Err((GroupError::UnsupportedVersion, None));
        step.reply(ticket, Response::ConsumerGroupHeartbeat(refused));
    }

    /// ConsumerGroupDescribe.
    pub(super) fn describe(&self, _group: &Arc<str>, ticket: Ticket, step: &mut Step<'_>) {
        let refused = Err((GroupError::UnsupportedVersion, None));
        step.reply_settled(ticket, Response::ConsumerGroupDescribe(refused));
    }

    /// A deadline of this group has passed.
    pub(super) fn timer(&mut self, _timer: &Timer, _step: &mut Step<'_>) {}

    /// The cluster's metadata changed (it is in the step).
    pub(super) fn metadata(&mut self, _group: &Arc<str>, _step: &mut Step<'_>) {}

    /// Whether that member may commit offsets with that epoch (both as the request has them).
    pub(super) fn may_commit(&self, _member: &str, _instance: Option<&str>, _epoch: i32) -> Result<(), GroupError> {
        Err(GroupError::UnknownMemberId)
    }

    /// Whether that member may fetch offsets; `None` when the request named none.
    pub(super) fn may_fetch(&self, _member: Option<(&str, i32)>) -> Result<(), GroupError> {
        Ok(())
    }

    /// Whether a member is subscribed to the topic.
    pub(super) fn subscribes(&self, _topic: &str) -> bool {
        false
    }

    /// Whether it has no members.
    pub(super) fn is_empty(&self) -> bool {
        true
    }

    /// Whether it is nothing but its name: no record of it is written (or all are deleted), and it has no members.
    pub(super) fn is_nothing(&self) -> bool {
        true
    }

    /// Kafka's name of its state.
    pub(super) fn state(&self) -> &'static str {
        "Empty"
    }

    /// Writes tombstones for all records of this group (of which only an empty one is deleted).
    pub(super) fn delete(&mut self, _group: &Arc<str>, _step: &mut Step<'_>) {}
}
