use super::*;
use crate::cluster::config::{ConfigChange, ConfigOp, ConfigResource};

fn alter(group: &str, replace: bool, configs: &[(&str, Option<&str>)]) -> MetadataCommand {
    let change = |(name, value): &(&str, Option<&str>)| ConfigChange {
        name: (*name).to_owned(),
        op: value.map_or(ConfigOp::Delete, |value| ConfigOp::Set(value.to_owned())),
    };
    let resource = ConfigResource::Group(group.into());
    MetadataCommand::AlterConfigs { resource, replace, changes: configs.iter().map(change).collect() }
}

const SESSION: &str = "consumer.session.timeout.ms";
const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";

#[test]
fn a_group_keeps_what_it_was_given_and_is_forgotten_with_the_last_of_it() {
    let mut cluster = Cluster::alive(1);
    let own = |cluster: &Cluster| -> Vec<(String, String)> {
        let configs = cluster.image.group_configs.get("g");
        configs.into_iter().flatten().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    cluster.accepted(&alter("g", false, &[(SESSION, Some(" 050000")), (HEARTBEAT, Some("6000"))]));
    assert_eq!(own(&cluster), [(HEARTBEAT.into(), "6000".into()), (SESSION.into(), "50000".into())]);
    cluster.accepted(&alter("g", false, &[(HEARTBEAT, None)]));
    assert_eq!(own(&cluster), [(SESSION.into(), "50000".into())]);
    cluster.accepted(&alter("g", true, &[(HEARTBEAT, Some("7000"))]));
    assert_eq!(own(&cluster), [(HEARTBEAT.into(), "7000".into())]);
    cluster.accepted(&alter("g", true, &[]));
    assert!(cluster.image.group_configs.is_empty());
}

#[test]
fn what_groups_do_not_have_is_refused_with_the_reason() {
    let mut cluster = Cluster::alive(1);
    for (group, name, value, why) in [
        ("g", "share.session.timeout.ms", "1", "no share groups"),
        ("g", "errors.deadletterqueue.topic.name", "t", "no share groups"),
        ("g", "consumer.assignor.offload.enable", "false", "computed at once"),
        ("g", "streams.session.timeout.ms", "1", "no streams groups"),
        ("g", "consumer.assignment.interval.ms", "1", "computed at once"),
        ("g", "retention.ms", "1", "not known"),
        ("g", SESSION, "soon", "not a number"),
        ("g", SESSION, "0", "not between"),
        ("", SESSION, "1", "name"),
    ] {
        let refusal = cluster.refused(&alter(group, false, &[(name, Some(value))]));
        let Refusal::InvalidConfig(text) = refusal else { panic!("{name}={value}: {refusal:?}") };
        assert!(text.contains(why), "{name}={value}: {text}");
    }
    assert!(cluster.image.group_configs.is_empty());
}

#[test]
fn only_so_many_groups_have_configs() {
    let mut cluster = Cluster::alive(1);
    for n in 0..10_000 {
        cluster.accepted(&alter(&n.to_string(), false, &[(SESSION, Some("1"))]));
    }
    let refusal = cluster.refused(&alter("one more", false, &[(SESSION, Some("1"))]));
    assert!(matches!(refusal, Refusal::PolicyViolation(_)), "{refusal:?}");
    cluster.accepted(&alter("7", false, &[(SESSION, Some("2"))]));
}

#[test]
fn a_cluster_of_an_older_version_has_no_configs_of_groups() {
    let mut cluster = Cluster::alive(1);
    cluster.image.metadata_version = MetadataVersion(2);
    let refusal = cluster.refused(&alter("g", false, &[(SESSION, Some("1"))]));
    assert_eq!(refusal, Refusal::VersionTooLow { needed: MetadataVersion(3), current: MetadataVersion(2) });
}
