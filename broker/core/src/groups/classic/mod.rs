//! Groups of the classic protocol.

use super::record::GroupMetadataValue;
use super::step::Step;
use super::timers::Timer;
use std::sync::Arc;
use std::time::Duration;

/// A group whose members use JoinGroup and SyncGroup, or that has never had members.
#[derive(Debug, Default)]
pub(super) struct ClassicGroup {}

impl ClassicGroup {
    pub(super) fn load(_value: GroupMetadataValue) -> Self {
        Self {}
    }
    pub(super) fn loaded(&mut self, _group: &Arc<str>, _step: &mut Step<'_>) {}
    pub(super) fn is_nothing(&self) -> bool {
        true
    }
    pub(super) fn heartbeat_interval(&self, _member: &str) -> Duration {
        Duration::from_secs(3)
    }
    pub(super) fn timer(&mut self, _timer: &Timer, _step: &mut Step<'_>) {}
}
