//! What a group goes by in one step, and what it wants done.

use crate::cluster::Image;
use crate::groups::event::{Config, ConsumerTimeouts, Now};
use crate::groups::record::GroupRecord;
use crate::groups::response::GroupError;
use std::sync::Arc;
use std::time::Duration;

/// Why a request is refused, in a word and in a sentence.
pub(in crate::groups) type Refusal = (GroupError, Option<String>);

/// A deadline of a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::groups) enum Deadline {
    /// It must heartbeat before.
    Session(Arc<str>),
    /// It must have given partitions back before; with the classic protocol, have joined or synced.
    Rebalance(Arc<str>),
}

/// One step of a group.
#[derive(Debug)]
pub(in crate::groups) struct StepContext<'a> {
    pub(in crate::groups) now: Now,
    pub(in crate::groups) config: &'a Config,
    /// Those of the group that takes the step.
    pub(in crate::groups) timeouts: ConsumerTimeouts,
    /// The cluster's metadata.
    pub(in crate::groups) image: &'a Image,
    /// To be appended in one batch.
    pub(in crate::groups) records: Vec<GroupRecord>,
    /// To be set, so long from now, unless they are set.
    pub(in crate::groups) unset_deadlines: Vec<(Deadline, Duration)>,
    /// To be set, so long from now, or cancelled; in this order.
    pub(in crate::groups) deadlines: Vec<(Deadline, Option<Duration>)>,
}

impl<'a> StepContext<'a> {
    pub(in crate::groups) fn new(now: Now, config: &'a Config, image: &'a Image, group: &str) -> Self {
        Self {
            now,
            config,
            timeouts: config.consumer_timeouts(image.group_configs.get(group)),
            image,
            records: Vec::new(),
            unset_deadlines: Vec::new(),
            deadlines: Vec::new(),
        }
    }
}
