//! The configuration reference, from the tables that the broker goes by.

use super::properties::{BROKER_PROPERTIES, Update};
use chronik_core::cluster::config::{ConfigKind, TOPIC_CONFIGS};
use chronik_core::cluster::group_configs::GROUP_CONFIGS;
use std::fmt::Write as _;

/// The keys of a broker's file outside of its section `kafka`: name, type, default, meaning.
const FILE_KEYS: &[(&str, &str, &str, &str)] = &[
    (
        "broker_id",
        "number, or `hostname`",
        "must be given",
        "The broker's number; `hostname` takes the number that the host's name ends in, as those of a StatefulSet's pods do.",
    ),
    ("data_dir", "path", "must be given", "Where the broker keeps everything. Made if it is not there."),
    ("listen.kafka", "IP:PORT", "must be given", "Where clients are listened for."),
    ("listen.replication", "IP:PORT", "must be given", "Where followers are listened for."),
    (
        "listen.controller",
        "IP:PORT",
        "must be given",
        "Where the controller quorum and registrations are listened for.",
    ),
    (
        "listen.admin",
        "IP:PORT",
        "200 ports above `listen.controller`, 9492 for 9292",
        "Where the admin API is served (gRPC, `chronik.admin.v1`).",
    ),
    ("listen.http", "IP:PORT", "must be given", "Where probes and metrics are served."),
    (
        "listeners",
        "names with IP:PORT",
        "none",
        "Further listeners for clients, as in `listeners: {EXTERNAL: '[::]:9094'}`. Who comes through one of them is told the addresses that brokers have for it in `advertised.listeners`.",
    ),
    (
        "members",
        "list",
        "must be given",
        "Every initial broker of the cluster: the same list in every broker's file. A broker that joins later names itself and one or more that are there; nobody else's file has to name it.",
    ),
    ("members[].id", "number", "must be given", "The member's number."),
    ("members[].host", "text", "must be given", "Its host name or address, for the other brokers and for clients."),
    (
        "members[].alternative_hosts",
        "list",
        "none",
        "Further host names or addresses at which the other brokers try to reach it, all at once.",
    ),
    ("members[].kafka_port", "number", "must be given", "The port at which clients reach it."),
    ("members[].replication_port", "number", "must be given", "The port at which its followers reach it."),
    ("members[].controller_port", "number", "must be given", "The port at which the controller quorum reaches it."),
    (
        "voters",
        "list of numbers",
        "the first three members, or the first alone if they are fewer",
        "The members that vote in a new cluster's controller quorum: 1, 3 or 5. Where there is a cluster, its metadata log says who votes (`chronik quorum`). `[]` for a broker that joins: it never founds a cluster.",
    ),
    (
        "joins_as",
        "section",
        "none",
        "How a broker presents itself that is not among the members, and joins the cluster: `host`, `alternative_hosts`, `kafka_port`, `replication_port` and `controller_port`, with `{id}` in hosts for its number. It does not vote before it is told to. One file does for brokers that come later, too.",
    ),
    ("log_format", "`text` or `json`", "`text`", "How the broker writes its own log."),
    ("kafka", "section", "empty", "Broker properties by Kafka's names: the next table."),
];

/// The reference as Markdown.
pub fn markdown() -> String {
    let mut out = String::from(
        "<!-- Written by `chronik config-reference`: change the tables in the code, not this file. -->\n\
         # Configuration\n\n\
         A broker reads one YAML file: `chronik serve --config FILE`. `chronik serve --check --config FILE` says \
         whether a file is right, and ends.\n\n\
         ## The file\n\n\
         | Key | Type | Default | Meaning |\n|---|---|---|---|\n",
    );
    for (key, kind, default, doc) in FILE_KEYS {
        row(&mut out, &[&format!("`{key}`"), kind, default, doc]);
    }
    out.push_str(
        "\n## Broker properties\n\n\
         By Kafka's names, in the file's section `kafka`. Sizes are in bytes and times in milliseconds, or carry a unit \
         of their own (`64MiB`, `10s`). \"Changed\" says how: with a *restart*, or while the cluster runs (`chronik \
         config set broker ID`, or `cluster default` for all; `kafka-configs --alter --entity-type brokers`) for *one broker or all*, for *all* only, or \
         for *one broker* only. What is changed while the cluster runs goes \
         before the file: one broker's own value first, then that of all.\n\n\
         | Property | Type | Default | Changed | Meaning |\n|---|---|---|---|---|\n",
    );
    for property in BROKER_PROPERTIES {
        let default = match property.default {
            None => "it depends".to_owned(),
            Some("") => "none".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let changed = match property.update {
            Update::Restart => "restart",
            Update::PerBroker => "one broker or all; restart",
            Update::ClusterWide => "all; restart",
            Update::DynamicOnly => "one broker or all; not in the file",
            Update::AllBrokers => "all; not in the file",
            Update::OneBroker => "one broker; not in the file",
            Update::OneBrokerAndFile => "one broker; restart",
            Update::Never => "never; not in the file",
        };
        let default = if property.update == Update::Never { "—".to_owned() } else { default };
        row(&mut out, &[&format!("`{}`", property.name), kind(property.kind), &default, changed, property.meaning()]);
    }
    out.push_str(
        "\n## Topic configs\n\n\
         Given when a topic is created, and changed while it is there (`chronik config set topic NAME`, `kafka-configs --alter \
         --entity-type topics`). A topic's own value goes before the broker property that sets the default of all topics. A config with one value \
         alone has no other behaviour yet, and any other value is refused.\n\n\
         | Config | Type | Default | Values | Broker property | Meaning |\n|---|---|---|---|---|---|\n",
    );
    for config in TOPIC_CONFIGS {
        let property = config.broker_property.map_or_else(|| "—".to_owned(), |name| format!("`{name}`"));
        let values = if config.is_fixed() { "the default alone".to_owned() } else { config.values() };
        let default = if config.default.is_empty() { "none".to_owned() } else { format!("`{}`", config.default) };
        row(&mut out, &[&format!("`{}`", config.name), kind(config.kind), &default, &values, &property, config.doc]);
    }
    without_effect(&mut out);
    out.push_str(
        "\n## Configs of groups\n\n\
         Of consumer groups of the consumer protocol (KIP-848), given to one group by name (`kafka-configs --alter \
         --entity-type groups`, `chronik config set group`), whether it is there or not. They go before the broker property, \
         and count from a member's next heartbeat on. The coordinator's least and most values bound them.\n\n\
         | Config | Type | Default | Broker property | Meaning |\n|---|---|---|---|---|\n",
    );
    for config in GROUP_CONFIGS {
        let property = config.broker_property.map_or_else(|| "—".to_owned(), |name| format!("`{name}`"));
        let default = format!("`{}`", config.default);
        row(&mut out, &[&format!("`{}`", config.name), kind(config.kind), &default, &property, config.doc]);
    }
    out
}

fn without_effect(out: &mut String) {
    out.push_str(
        "\n### Accepted without effect\n\n\
         Tools and operators of Kafka's set these configs, and what they are set to makes no difference here. So they are \
         taken, with the values that Kafka takes, and shown; nothing goes by them.\n\n\
         | Config | Broker property | Why |\n|---|---|---|\n",
    );
    for config in TOPIC_CONFIGS.iter().filter(|config| !config.has_effect) {
        let property = config.broker_property.map_or_else(|| "—".to_owned(), |name| format!("`{name}`"));
        row(out, &[&format!("`{}`", config.name), &property, config.doc.trim_start_matches("Without effect: ")]);
    }
}

fn kind(kind: ConfigKind) -> &'static str {
    match kind {
        ConfigKind::Boolean => "boolean",
        ConfigKind::String => "string",
        ConfigKind::Int => "int",
        ConfigKind::Long => "long",
        ConfigKind::Double => "double",
        ConfigKind::List => "list",
    }
}

fn row(out: &mut String, cells: &[&str]) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_in_the_repository_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == super::markdown(),
            "docs/configuration.md is out of date: `cargo run -- config-reference > docs/configuration.md`"
        );
    }
}
