//! The brokers' configuration file, as the operator writes it, read by the broker itself.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use chronik_broker::config::{BROKER_PROPERTIES, Config, KafkaProperties, ServeFile};
use chronik_crds::properties::{AT_START, DYNAMIC, Shape, WITHOUT_MEANING, offered, owned};
use chronik_crds::{ChronikCluster, Scalar};
use chronik_operator::reconcile::build::{Frame, build};
use chronik_operator::reconcile::validate::{GROUP_TIMES, SIZES, validate};
use serde_json::{Value, json};

fn cluster(golden: &str) -> ChronikCluster {
    let path = format!("{}/golden/{golden}.yaml", env!("CARGO_MANIFEST_DIR"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn file(cluster: &ChronikCluster) -> ServeFile {
    let valid = validate(cluster, "chronik:1").unwrap();
    let objects = build(&valid, &Frame::of(&valid)).unwrap();
    let file = objects.iter().find_map(|desired| desired.object.data["data"]["broker.yaml"].as_str()).unwrap();
    ServeFile::parse(file).unwrap()
}

fn read_by_broker(cluster: &ChronikCluster) -> Config {
    Config::check(file(cluster), || Some("demo-0".to_owned())).unwrap()
}

/// Whether a broker would start with these properties.
fn taken_by_broker(properties: &Value) -> bool {
    let Ok(kafka) = serde_json::from_value::<KafkaProperties>(properties.clone()) else { return false };
    let mut file = file(&cluster("minimal"));
    file.kafka = kafka;
    Config::check(file, || Some("demo-0".to_owned())).is_ok()
}

#[test]
fn a_broker_takes_the_files_of_all_golden_clusters() {
    for (golden, first) in [("minimal", 3), ("full", 3), ("single", 1)] {
        assert_eq!(read_by_broker(&cluster(golden)).members.len(), first, "{golden}");
    }
}

#[test]
fn a_broker_that_comes_later_joins_with_the_same_file() {
    let (three, mut five) = (cluster("minimal"), cluster("minimal"));
    five.spec.replicas = 5;
    assert_eq!(file(&three).to_yaml(), file(&five).to_yaml());
    let joins = Config::check(file(&three), || Some("demo-4".to_owned())).unwrap();
    assert!(!joins.voters.contains(&joins.id));
    let me = joins.me();
    assert_eq!((me.id.0, &*me.controller.host), (4, "demo-broker-4.default.svc"));
    assert_eq!(*me.alternative_hosts, ["demo-4.demo-brokers.default.svc".into()]);
}

#[test]
fn a_broker_knows_every_property_that_is_offered_in_the_shape_that_is_offered() {
    for (name, shape) in AT_START {
        let values: &[&str] = match shape {
            Shape::Integer => &["7"],
            Shape::Count => &["7", "0"],
            Shape::Boolean => &["false"],
            Shape::Size if *name == "offset.metadata.max.bytes" => &["4000", "4kB", "4 KiB"],
            Shape::Size => &["125829120", "120MB", "150 MiB"],
            Shape::Duration => &["20000", "20000ms", "20s", "1 m", "1min", "1h", "1d"],
            Shape::OneOf(all) => all,
            Shape::SomeOf(_) => &["classic", "classic,consumer", "classic, consumer"],
            Shape::EachOnceOf(_) => &["uniform", "range,uniform", "range, uniform"],
            other => panic!("{name} is {other:?}, which no file has"),
        };
        for value in values {
            let mut cluster = cluster("minimal");
            // What is in flight may not be less than a request.
            if *name != "queued.max.request.bytes" {
                cluster.spec.config.insert("queued.max.request.bytes".to_owned(), Scalar::from("400MiB"));
            }
            for (bound, value) in room_for(name) {
                cluster.spec.config.insert(bound.to_owned(), Scalar::from(value));
            }
            cluster.spec.config.insert((*name).to_owned(), Scalar::from(*value));
            let shown = read_by_broker(&cluster).properties();
            assert!(shown.iter().any(|property| property.name == *name && property.given), "{name}: {value}");
        }
    }
}

/// What bounds a time of groups, so far away that it may be anything between 20 s and a day.
fn room_for(name: &str) -> Vec<(&'static str, &'static str)> {
    if !name.starts_with("group.") {
        return Vec::new();
    }
    vec![
        ("group.min.session.timeout.ms", "1ms"),
        ("group.max.session.timeout.ms", "2d"),
        ("group.consumer.min.session.timeout.ms", "1ms"),
        ("group.consumer.session.timeout.ms", if name.contains(".max.") { "10s" } else { "2d" }),
        ("group.consumer.max.session.timeout.ms", "2d"),
        ("group.consumer.min.heartbeat.interval.ms", "1ms"),
        ("group.consumer.heartbeat.interval.ms", if name.contains(".min.heartbeat") { "36h" } else { "1ms" }),
        ("group.consumer.max.heartbeat.interval.ms", "2d"),
    ]
}

#[test]
fn every_property_of_the_broker_is_offered_or_set_by_the_operator() {
    for name in BROKER_PROPERTIES.iter().map(|known| known.name) {
        let offered = offered().any(|(offered, _)| offered == name);
        assert!(offered || owned(name).is_some(), "{name} is neither");
    }
}

#[test]
fn what_has_no_meaning_is_no_property_of_the_broker() {
    for (name, _) in WITHOUT_MEANING {
        assert!(BROKER_PROPERTIES.iter().all(|known| known.name != *name), "{name}");
    }
}

#[test]
fn what_is_set_while_brokers_run_is_what_they_take_up_while_they_run() {
    let dynamic = BROKER_PROPERTIES.iter().filter(|known| known.update.is_dynamic() && owned(known.name).is_none());
    let offered = DYNAMIC.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(dynamic.map(|known| known.name).collect::<Vec<_>>(), offered);
    let at_start = |name: &str| BROKER_PROPERTIES.iter().any(|known| known.name == name && !known.update.is_dynamic());
    assert!(AT_START.iter().all(|(name, _)| at_start(name)));
}

#[test]
fn what_a_broker_would_not_start_with_is_refused_and_nothing_else() {
    for (properties, taken) in [
        (json!({ "num.partitions": 0 }), false),
        (json!({ "num.partitions": 3_000_000_000_i64 }), false),
        (json!({ "log.segment.bytes": 0 }), false),
        (json!({ "log.segment.bytes": "2047MiB" }), true),
        (json!({ "log.segment.bytes": "2GiB" }), false),
        (json!({ "message.max.bytes": "200MiB" }), false),
        (json!({ "message.max.bytes": "100MiB" }), false),
        (json!({ "message.max.bytes": (100 << 20) - 4096 }), true),
        (json!({ "message.max.bytes": "1MiB", "socket.request.max.bytes": "1MiB" }), false),
        (json!({ "socket.request.max.bytes": "129MiB" }), false),
        (json!({ "socket.request.max.bytes": "129MiB", "queued.max.request.bytes": "129MiB" }), true),
        (json!({ "socket.request.max.bytes": "200MiB", "queued.max.request.bytes": "1GiB" }), true),
        (json!({ "socket.request.max.bytes": "201MiB", "queued.max.request.bytes": "1GiB" }), false),
        (json!({ "queued.max.request.bytes": "99MiB" }), false),
        (json!({ "broker.session.timeout.ms": 299 }), false),
        (json!({ "broker.session.timeout.ms": "300ms" }), true),
        (json!({ "replica.lag.time.max.ms": "999999999999999999d" }), false),
        (json!({ "disk.stall.timeout": "299ms" }), false),
        (json!({ "disk.stall.timeout": "5s" }), true),
        (json!({ "fetch.max.bytes": 1023 }), false),
        (json!({ "fetch.max.bytes": "1KiB" }), true),
        (json!({ "group.consumer.assignors": "range" }), true),
        (json!({ "group.consumer.assignors": "range,range" }), false),
        (json!({ "group.consumer.heartbeat.interval.ms": "4s" }), false),
        (json!({ "group.consumer.heartbeat.interval.ms": 0, "group.consumer.min.heartbeat.interval.ms": 0 }), false),
        (
            json!({ "group.consumer.heartbeat.interval.ms": "4s", "group.consumer.min.heartbeat.interval.ms": "1s" }),
            true,
        ),
        (json!({ "group.consumer.heartbeat.interval.ms": "16s" }), false),
        (json!({ "group.consumer.session.timeout.ms": "30s" }), false),
        (json!({ "group.consumer.session.timeout.ms": "30s", "group.consumer.min.session.timeout.ms": "30s" }), true),
        (json!({ "group.consumer.session.timeout.ms": "61s" }), false),
        (json!({ "group.consumer.session.timeout.ms": "5s", "group.consumer.min.session.timeout.ms": "5s" }), false),
        (json!({ "group.consumer.migration.policy": "sideways" }), false),
        (json!({ "group.consumer.migration.policy": "upgrade" }), true),
        (json!({ "group.coordinator.rebalance.protocols": "consumer" }), false),
        (json!({ "group.coordinator.rebalance.protocols": "classic" }), true),
        (json!({ "group.coordinator.rebalance.protocols": "classic,classic" }), true),
        (json!({ "group.coordinator.rebalance.protocols": "classic,streams" }), false),
        (json!({ "group.lag.metrics.max.partitions": 0 }), true),
        (json!({ "group.max.session.timeout.ms": "5s" }), false),
        (json!({ "group.min.session.timeout.ms": "31min" }), false),
        (json!({ "group.min.session.timeout.ms": "1s" }), true),
        (json!({ "leader.imbalance.per.broker.percentage": 0 }), true),
        (json!({ "log.disk.reserve": 0 }), true),
        (json!({ "log.disk.reserve": "5GiB" }), true),
        (json!({ "log.scrub.bytes.per.second": 0 }), true),
        (json!({ "max.incremental.fetch.session.cache.slots": 0 }), true),
        (json!({ "offset.metadata.max.bytes": "32767" }), true),
        (json!({ "offset.metadata.max.bytes": "32KiB" }), false),
        (json!({ "producer.id.expiration.ms": 0 }), false),
        (json!({ "producer.id.expiration.ms": "7d" }), true),
        (json!({ "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector" }), true),
        (json!({ "replica.selector.class": "org.example.Nearest" }), false),
    ] {
        let mut cluster = cluster("minimal");
        cluster.spec.config = serde_json::from_value(properties.clone()).unwrap();
        assert_eq!(validate(&cluster, "chronik:1").is_ok(), taken, "by the operator: {properties}");
        assert_eq!(taken_by_broker(&properties), taken, "by a broker: {properties}");
    }
}

#[test]
fn what_bounds_each_other_has_the_brokers_defaults() {
    let defaults = serde_json::to_value(KafkaProperties::default()).unwrap();
    for (name, size) in SIZES {
        assert_eq!(defaults[name], size, "{name}");
    }
    for (name, time) in GROUP_TIMES {
        assert_eq!(defaults[name], format!("{time}ms"), "{name}");
    }
}
