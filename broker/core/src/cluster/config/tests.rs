use super::*;

#[test]
fn every_default_is_a_value_that_is_accepted() {
    for config in TOPIC_CONFIGS {
        assert_eq!(
            canonical(config.name, config.default, MetadataVersion::LATEST).as_deref(),
            Ok(config.default),
            "{}",
            config.name
        );
    }
}

#[test]
fn names_are_unique_and_in_order() {
    assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn what_is_accepted_without_effect_is_marked_and_says_why() {
    let without: Vec<_> = TOPIC_CONFIGS.iter().filter(|config| !config.has_effect).collect();
    let names: Vec<_> = without.iter().map(|config| config.name).collect();
    assert_eq!(names, ["file.delete.delay.ms", "flush.messages", "flush.ms", "preallocate", "segment.index.bytes"]);
    assert!(without.iter().all(|config| config.doc.starts_with("Without effect: ")));
    assert!(TOPIC_CONFIGS.iter().filter(|config| config.has_effect).all(|c| !c.doc.contains("Without effect")));
}

#[test]
fn values_that_would_not_be_honoured_are_refused() {
    for (name, value) in [
        ("min.insync.replicas", "0"),
        ("min.insync.replicas", "two"),
        ("min.insync.replicas", "2147483648"),
        ("max.message.bytes", "-1"),
        ("unclean.leader.election.enable", "maybe"),
        ("remote.storage.enable", "true"),
        ("no.such.config", "1"),
        ("cleanup.policy", ""),
        ("cleanup.policy", "compact,keep"),
        ("min.cleanable.dirty.ratio", "1.1"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("compression.type", "brotli"),
        ("segment.ms", "0"),
    ] {
        assert!(canonical(name, value, MetadataVersion::LATEST).is_err(), "{name}={value}");
    }
}

#[test]
fn configs_of_kafka_that_mean_nothing_here_are_refused_with_the_reason() {
    for (name, why) in [
        ("compression.zstd.level", "default level"),
        ("local.retention.ms", "tiered storage"),
        ("remote.copy.disable", "tiered storage"),
    ] {
        let refused = canonical(name, "1", MetadataVersion::LATEST).unwrap_err();
        assert!(refused.contains(name) && refused.contains(why), "{refused}");
        let set = ConfigChange { name: name.into(), op: ConfigOp::Set("1".into()) };
        let default = |known: &TopicConfig| known.default.to_owned();
        let refused =
            changed(&Configs::new(), false, &[set], MetadataVersion::LATEST, topic_config, default).unwrap_err();
        assert!(refused.contains(name) && refused.contains(why), "{refused}");
    }
}

#[test]
fn a_cluster_of_the_first_version_takes_what_its_brokers_take() {
    let takes = |name, value| canonical(name, value, MetadataVersion::FIRST).is_ok();
    for (name, value, taken) in [
        ("cleanup.policy", "delete", true),
        ("cleanup.policy", "compact", false),
        ("compression.type", "producer", true),
        ("compression.type", "zstd", false),
        ("flush.messages", "1", true),
        ("flush.messages", "2", false),
        ("segment.bytes", "1073741824", false),
        ("remote.storage.enable", "false", false),
        ("unclean.leader.election.enable", "false", true),
        ("unclean.leader.election.enable", "true", false),
        ("retention.ms", "1", true),
    ] {
        assert_eq!(takes(name, value), taken, "{name}={value}");
    }
}

#[test]
fn a_long_way_to_write_a_number_is_not_kept() {
    let canonical = |name, value: &str| canonical(name, value, MetadataVersion::LATEST);
    assert_eq!(canonical("max.message.bytes", " 0001000 ").as_deref(), Ok("1000"));
    assert_eq!(canonical("cleanup.policy", "delete, compact,delete").as_deref(), Ok("delete,compact"));
    assert_eq!(canonical("min.cleanable.dirty.ratio", "0.500").as_deref(), Ok("0.5"));
    let zeroes = format!("{}1", "0".repeat(1 << 20));
    let error = canonical("max.message.bytes", &zeroes).unwrap_err();
    assert!(error.len() < 500 && error.contains("more than 4096 bytes"), "{error}");
}

#[test]
fn a_boolean_is_logged_in_the_letters_that_older_brokers_take() {
    for (name, value, logged) in [
        ("unclean.leader.election.enable", "TRUE", "true"),
        ("preallocate", " False ", "false"),
        ("remote.storage.enable", "FALSE", "false"),
        ("preallocate", "yes", "yes"),
        ("compression.type", "ZSTD", "ZSTD"),
    ] {
        let known = topic_config(name).expect("known");
        assert_eq!(known.as_logged(value), logged, "{name}={value}");
    }
    assert!(canonical("preallocate", "TRUE", MetadataVersion::LATEST).is_err(), "all brokers apply an entry alike");
}

#[test]
fn who_wants_a_policy_that_cleans_nothing_is_told_how_to_get_it() {
    for none in ["", " , "] {
        let refused = canonical("cleanup.policy", none, MetadataVersion::LATEST).unwrap_err();
        assert!(refused.contains("retention.ms"), "{refused}");
    }
}

#[test]
fn a_topic_goes_by_its_policy_or_that_of_all_brokers_and_an_internal_one_is_compacted_whatever_they_say() {
    let mut image = Image::default();
    let mut topic = Topic {
        id: crate::ids::TopicId(uuid::Uuid::from_u128(1)),
        name: "t".into(),
        partitions: imbl::Vector::new(),
        configs: OrdMap::new(),
        min_insync_replicas: 1,
        default_min_insync_replicas: 1,
        older_producers: crate::ids::ProducerId(0),
    };
    let goes = |topic: &Topic, image: &Image| {
        (topic.is_compacted(image, BrokerId(0)), topic.is_deleted_from(image, BrokerId(0)))
    };
    assert_eq!(goes(&topic, &image), (false, true));
    image.cluster_configs.insert("log.cleanup.policy".into(), "compact".into());
    assert_eq!(goes(&topic, &image), (true, false));
    topic.configs.insert(CLEANUP_POLICY.into(), "compact,delete".into());
    assert_eq!(goes(&topic, &image), (true, true));
    for name in ["__consumer_offsets", "__transaction_state"] {
        topic.name = name.into();
        for policy in ["delete", "compact,delete"] {
            topic.configs.insert(CLEANUP_POLICY.into(), policy.into());
            assert_eq!(goes(&topic, &image), (true, false), "{name} {policy}");
        }
    }
}
