//! What can happen to a shard, and what it can want.

use super::consumer::Assignor;
use super::limits::Room;
use super::migration::MigrationPolicy;
use super::record::GroupRecord;
use super::request::{Client, Request};
use super::response::Response;
use crate::cluster::Image;
use crate::cluster::config::Configs;
use crate::cluster::group_configs::{HEARTBEAT_INTERVAL_MS, SESSION_TIMEOUT_MS};
use crate::time::Instant;
use std::time::Duration;

/// Names a waiting request; chosen by the shell, answered exactly once, or dropped with the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The time, by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For sessions and timers.
    pub monotonic: Instant,
    /// For what is written down: milliseconds since 1970.
    pub wall_ms: i64,
}

/// What a shard goes by; Kafka's broker properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`.
    pub max_offset_metadata_bytes: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_check_interval: Duration,
    /// `group.consumer.session.timeout.ms`.
    pub consumer_session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval: Duration,
    /// `group.consumer.min.session.timeout.ms` and `group.consumer.max.session.timeout.ms`.
    pub consumer_session_timeouts: (Duration, Duration),
    /// `group.consumer.min.heartbeat.interval.ms` and `group.consumer.max.heartbeat.interval.ms`.
    pub consumer_heartbeat_intervals: (Duration, Duration),
    /// `group.consumer.max.size`.
    pub consumer_max_size: usize,
    /// `group.consumer.assignors`: those that members may ask for, and the first one for groups that ask for none.
    pub consumer_assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`.
    pub migration_policy: MigrationPolicy,
    /// Groups of one shard at most.
    pub max_groups: usize,
}

impl Default for Config {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_mins(30),
            initial_rebalance_delay: Duration::from_secs(3),
            max_size: i32::MAX as usize,
            max_offset_metadata_bytes: 4096,
            offsets_retention: Duration::from_hours(7 * 24),
            offsets_check_interval: Duration::from_mins(10),
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            consumer_session_timeouts: (Duration::from_secs(45), Duration::from_mins(1)),
            consumer_heartbeat_intervals: (Duration::from_secs(5), Duration::from_secs(15)),
            consumer_max_size: i32::MAX as usize,
            consumer_assignors: Assignor::ALL.to_vec(),
            migration_policy: MigrationPolicy::Bidirectional,
            max_groups: 100_000,
        }
    }
}

/// What the members of one consumer group (KIP-848) go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerTimeouts {
    /// Who is not heard of for this long is removed.
    pub session: Duration,
    /// How often a member is told to send a heartbeat.
    pub heartbeat_interval: Duration,
}

impl Config {
    /// The timeouts of a group that has these configs of its own. They count within what this coordinator allows: its
    /// bounds may have been narrowed since, or be narrower than those of the broker that took the configs.
    pub fn consumer_timeouts(&self, own: Option<&Configs>) -> ConsumerTimeouts {
        let within = |name, (least, most): (Duration, Duration)| {
            let given = own?.get(name)?.parse().ok().map(Duration::from_millis)?;
            Some(given.max(least).min(most))
        };
        ConsumerTimeouts {
            session: within(SESSION_TIMEOUT_MS, self.consumer_session_timeouts)
                .unwrap_or(self.consumer_session_timeout),
            heartbeat_interval: within(HEARTBEAT_INTERVAL_MS, self.consumer_heartbeat_intervals)
                .unwrap_or(self.consumer_heartbeat_interval),
        }
    }

    /// Whether a group may be given these configs. An error says why not.
    pub fn check_group_configs(&self, own: &Configs) -> Result<(), String> {
        let within = |name: &str, (least, most): (Duration, Duration)| {
            let Some(given) = own.get(name).and_then(|text| text.parse().ok()).map(Duration::from_millis) else {
                return Ok(());
            };
            if (least..=most).contains(&given) {
                return Ok(());
            }
            let (given, least, most) = (given.as_millis(), least.as_millis(), most.as_millis());
            Err(format!(
                "{name}={given} is not between {least} and {most}, which this broker allows (group.consumer.*)"
            ))
        };
        within(SESSION_TIMEOUT_MS, self.consumer_session_timeouts)?;
        within(HEARTBEAT_INTERVAL_MS, self.consumer_heartbeat_intervals)?;
        let ConsumerTimeouts { session, heartbeat_interval } = self.consumer_timeouts(Some(own));
        if heartbeat_interval >= session {
            return Err(format!("{HEARTBEAT_INTERVAL_MS} must be less than {SESSION_TIMEOUT_MS}"));
        }
        Ok(())
    }
}

/// What can happen to a shard.
#[derive(Clone, Debug)]
pub enum Event {
    /// A record of the partition's log, oldest first, while the shard is loading: no request comes before
    /// [`Event::Loaded`], and no record after it.
    Load(GroupRecord),
    /// The same of a record behind all of those that is not known to be committed. [`Event::Committed`] says when all
    /// of these are, with the number 0.
    LoadUncommitted(GroupRecord),
    /// All records below the high watermark at the beginning of this leadership have been loaded.
    Loaded,
    /// A client asks for something.
    Request {
        /// Names the request in its answer.
        ticket: Ticket,
        /// Who asks.
        client: Client,
        /// What.
        request: Request,
        /// A random number, for member ids.
        random: u128,
        /// What this broker has room for. A request that needs more is refused with an error that clients try again
        /// after.
        room: Room,
    },
    /// A client that waited is gone; its answer would not be read.
    Abandoned(Ticket),
    /// The append of that number, and so each before it, is committed: below the high watermark. (An append that
    /// fails ends the shard instead: it is dropped with all that waits, and loaded anew.)
    Committed(u64),
    /// Whether appends are likely to be committed soon; they are before this says otherwise. While they are not, a
    /// request that would have to write is refused and changes nothing, and what waits for a commit is refused too.
    Writable(bool),
    /// The cluster's metadata changed: topics, partitions.
    Metadata(Image),
    /// The moment that [`Command::WakeAt`] asked for has come (or an earlier one).
    Tick,
}

/// What a shard wants done. Commands of one step are carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Append these records to the partition in one batch. [`Event::Committed`] follows with the same number.
    Append {
        /// Counts the shard's appends, from 0 without a gap.
        number: u64,
        /// At least one.
        records: Vec<GroupRecord>,
    },
    /// Answer a request.
    Reply {
        /// Which.
        ticket: Ticket,
        /// With what.
        response: Response,
    },
    /// Send [`Event::Tick`] at that moment. Replaces any former wish.
    WakeAt(Instant),
}
