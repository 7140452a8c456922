//! What to do about a key that the file does not know: properties that are set elsewhere, and those of Kafka's that have no
//! meaning here.

use super::properties::{BROKER_PROPERTIES, Update, broker_property};
use chronik_core::cluster::config::topic_config;

const THREADS: &str = "a broker uses the processors that it has";
const TRANSACTIONS: &str = "there are no transactions yet";
const AT_ONCE: &str = "assignments are computed at once, by the coordinator";

/// Kafka's properties that brokers' files often have, and the one that is in their place here.
const RENAMED: &[(&str, &str)] = &[
    ("log.retention.hours", "log.retention.ms"),
    ("log.retention.minutes", "log.retention.ms"),
    ("log.roll.hours", "log.roll.ms"),
    ("log.roll.jitter.hours", "log.roll.jitter.ms"),
    ("queued.max.requests", "queued.max.request.bytes"),
];

/// Those that have no meaning here, and why.
const WITHOUT_MEANING: &[(&str, &str)] = &[
    ("background.threads", THREADS),
    ("controller.quorum.voters", "`voters` in the file says it"),
    ("group.consumer.assignment.interval.ms", AT_ONCE),
    ("group.consumer.assignor.offload.enable", AT_ONCE),
    ("group.consumer.max.assignment.interval.ms", AT_ONCE),
    ("group.consumer.min.assignment.interval.ms", AT_ONCE),
    ("group.consumer.regex.refresh.interval.ms", "regular expressions are resolved when topics come or go"),
    (
        "inter.broker.protocol.version",
        "in its place a cluster has metadata.version, which `chronik features upgrade` raises",
    ),
    ("listeners", "`listen` and `listeners` in the file, beside `kafka`, say it"),
    ("log.cleaner.enable", "compacted topics are always cleaned"),
    ("log.cleaner.threads", THREADS),
    ("log.dirs", "`data_dir` in the file says it"),
    ("log.message.format.version", "there is one format of records"),
    ("num.io.threads", THREADS),
    ("num.network.threads", THREADS),
    ("num.recovery.threads.per.data.dir", THREADS),
    ("num.replica.fetchers", THREADS),
    ("process.roles", "every member is a broker, and `voters` are controllers too"),
    ("replica.fetch.max.bytes", "it follows from message.max.bytes"),
    ("transaction.state.log.min.isr", TRANSACTIONS),
    ("transaction.state.log.num.partitions", TRANSACTIONS),
    ("transaction.state.log.replication.factor", TRANSACTIONS),
    ("zookeeper.connect", "there is no ZooKeeper"),
];

/// What the message about an unknown key goes on with; `expected` are the keys that are known in its place.
pub(super) fn hint(key: &str, expected: &[&str]) -> String {
    if let Some(how) = elsewhere(key) {
        return format!("; {how}");
    }
    // Beside keys with dots, properties that are set elsewhere may be meant, too.
    let properties = BROKER_PROPERTIES.iter().map(|property| property.name).filter(|_| key.contains('.'));
    let nearest =
        expected.iter().copied().chain(properties).min_by_key(|known| strsim::damerau_levenshtein(key, known));
    let Some(nearest) = nearest else { return String::new() };
    let how = elsewhere(nearest).filter(|_| !expected.contains(&nearest));
    format!("; did you mean '{nearest}'?{}", how.map(|how| format!(" If so: {how}")).unwrap_or_default())
}

/// Why a broker property cannot be changed while the broker runs, and what to do in place of that; `None` if it can.
pub(crate) fn not_dynamic(name: &str) -> Option<String> {
    let known = broker_property(name).map(|property| (property.update, property.meaning()));
    match known {
        Some((Update::Restart, _)) => Some(
            "what a broker reads when it starts is set under `kafka` in its file, and counts after a restart".into(),
        ),
        Some((Update::Never, meaning)) => Some(format!("{name}: {meaning}")),
        Some(_) => None,
        None => Some(elsewhere(name).map_or_else(|| "it is not known here".to_owned(), |how| format!("{name}: {how}"))),
    }
}

/// How a property is set that the file does not know, if there is such a property.
fn elsewhere(key: &str) -> Option<String> {
    if let Some((_, why)) = WITHOUT_MEANING.iter().find(|(name, _)| *name == key) {
        return Some(format!("it has no meaning here: {why}"));
    }
    if let Some((_, other)) = RENAMED.iter().find(|(name, _)| *name == key) {
        let how = elsewhere(other).map(|how| format!(": {how}")).unwrap_or_default();
        return Some(format!("'{other}' is in its place{how}"));
    }
    let of_topic = || topic_config(key).and_then(|config| broker_property(config.broker_property?));
    let property = broker_property(key).or_else(of_topic)?;
    let name = property.name;
    match property.update {
        Update::DynamicOnly | Update::AllBrokers => Some(format!(
            "'{name}' is set while the brokers run, for all of them: `chronik config set cluster default {name}=VALUE`"
        )),
        Update::OneBroker => {
            Some(format!("'{name}' is set while the broker runs: `chronik config set broker ID {name}=VALUE`"))
        }
        Update::Never => Some(property.meaning().to_owned()),
        _ => Some(format!("'{name}' belongs under `kafka`")),
    }
}
