//! What has configs, as requests name it: Kafka's `ConfigResource`.

use chronik_core::cluster::{Image, Topic};
use chronik_core::ids::BrokerId;
use chronik_wire::ErrorCode;

/// A topic, by its name.
pub(super) const TOPIC: i8 = 2;
/// A broker by its number, or all of them by the empty name.
pub(super) const BROKER: i8 = 4;
/// A broker's loggers (KIP-412): there are none here.
pub(super) const BROKER_LOGGER: i8 = 8;
/// Subscriptions to clients' metrics (KIP-714): there are none here.
pub(super) const CLIENT_METRICS: i8 = 16;
/// A consumer group (KIP-848), by its id.
pub(super) const GROUP: i8 = 32;

/// The one `cleanup.policy` of internal topics.
pub(super) const COMPACT: &str = "compact";
/// Why an internal topic gets no other one.
pub(super) const NOT_COMPACT: &str = "cleanup.policy of an internal topic is compact, and cannot be changed";

/// Why the topic of transactions cannot be created: an ordinary one of that name would have the wrong number of
/// partitions when there is a coordinator for it.
pub(super) const NO_COORDINATOR: &str = "the topic is the transaction coordinator's, and there is none";

/// An error with its message.
pub(super) type Refused = (ErrorCode, String);

/// The topic of that name.
pub(super) fn topic_named<'a>(image: &'a Image, name: &str) -> Result<&'a Topic, Refused> {
    if !is_topic_name(name) {
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, "no topic can have such a name".into()));
    }
    let unknown = || (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("there is no topic '{name}'"));
    image.topic_by_name(name).ok_or_else(unknown)
}

/// Whether a topic may have that name, as far as characters go.
pub(super) fn is_topic_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && !matches!(name, "." | "..") && name.chars().all(allowed)
}

/// Refuses another broker than this one: its configs are its own affair, as in Kafka.
pub(super) fn this_broker(me: BrokerId, name: &str) -> Result<(), Refused> {
    match name.parse::<i32>() {
        Ok(id) if id == me.0 => Ok(()),
        Ok(id) => Err((ErrorCode::INVALID_REQUEST, format!("this is broker {me}; ask broker {id} for its configs"))),
        Err(_) => Err((ErrorCode::INVALID_REQUEST, format!("'{}' is no broker id", shortened(name)))),
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}
