//! Configs of single groups (Kafka's resource type GROUP): what a consumer group of KIP-848 goes by in place of its
//! coordinator's properties. A group may have them before it is there, and keeps them when it is gone.

use super::command::{Answer, Outcome, Refusal};
use super::config::{self, ConfigChange, ConfigKind, Configs, TopicConfig};
use super::image::Image;
use std::sync::Arc;

/// `consumer.heartbeat.interval.ms`.
pub const HEARTBEAT_INTERVAL_MS: &str = "consumer.heartbeat.interval.ms";
/// `consumer.session.timeout.ms`.
pub const SESSION_TIMEOUT_MS: &str = "consumer.session.timeout.ms";

/// Groups with configs at most: each is in every broker's memory.
const MOST: usize = 10_000;
/// The longest name of a group with configs, in bytes.
const LONGEST: usize = 4096;

/// Every config of groups that is known, by name.
pub const GROUP_CONFIGS: &[TopicConfig] = &[
    config::first(
        HEARTBEAT_INTERVAL_MS,
        ConfigKind::Int,
        ("5000", Some("group.consumer.heartbeat.interval.ms")),
        config::Accepts::Between(1, i32::MAX as i64),
        "How often a member of the group is told to send a heartbeat, in milliseconds.",
    ),
    config::first(
        SESSION_TIMEOUT_MS,
        ConfigKind::Int,
        ("45000", Some("group.consumer.session.timeout.ms")),
        config::Accepts::Between(1, i32::MAX as i64),
        "A member of the group that is not heard of for this long is removed, in milliseconds.",
    ),
];

/// The config of that name, if groups have it.
pub fn group_config(name: &str) -> Option<&'static TopicConfig> {
    GROUP_CONFIGS.iter().find(|c| c.name == name)
}

impl Image {
    pub(super) fn alter_group_configs(&mut self, group: &Arc<str>, replace: bool, changes: &[ConfigChange]) -> Outcome {
        let wrong = Refusal::InvalidConfig;
        if group.is_empty() || group.len() > LONGEST {
            return Err(wrong(format!("a group with configs has a name of 1 to {LONGEST} bytes")));
        }
        if let Some(why) = changes.iter().find_map(|change| not_here(&change.name)) {
            return Err(wrong(why));
        }
        let before = self.group_configs.get(group).cloned().unwrap_or_default();
        let default = |known: &TopicConfig| known.default.to_owned();
        let after = config::changed(&before, replace, changes, self.metadata_version, group_config, default);
        let after: Configs = after.map_err(wrong)?;
        if after.is_empty() {
            self.group_configs.remove(group);
        } else if before.is_empty() && self.group_configs.len() >= MOST {
            return Err(Refusal::PolicyViolation(format!("{MOST} groups have configs already, and no more may")));
        } else {
            self.group_configs.insert(group.clone(), after);
        }
        Ok(Answer::Done)
    }
}

/// Why a config of Kafka's groups means nothing here.
fn not_here(name: &str) -> Option<String> {
    let why = match name.split('.').next()? {
        // Records that a share group gives up go to such a topic (KIP-1191).
        "share" | "errors" => "there are no share groups here",
        "streams" => "there are no streams groups here",
        "consumer" if name.starts_with("consumer.assign") => "assignments are computed at once, by the coordinator",
        _ => return None,
    };
    group_config(name).is_none().then(|| format!("config '{}' cannot be set: {why}", config::shortened(name)))
}
