//! The brokers' configuration file, as the operator writes it, read by the broker itself.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use chronik_broker::config::{Config, KafkaProperties, ServeFile};
use chronik_crds::properties::{OFFERED, Shape, owned};
use chronik_crds::{ChronikCluster, Scalar};
use chronik_operator::reconcile::build::build;
use chronik_operator::reconcile::validate::validate;

fn cluster(golden: &str) -> ChronikCluster {
    let path = format!("{}/golden/{golden}.yaml", env!("CARGO_MANIFEST_DIR"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn read_by_broker(cluster: &ChronikCluster) -> Config {
    let objects = build(&validate(cluster, "chronik:1").unwrap()).unwrap();
    let file = objects.iter().find_map(|desired| desired.object.data["data"]["broker.yaml"].as_str()).unwrap();
    Config::check(ServeFile::parse(file).unwrap(), || Some("demo-0".to_owned())).unwrap()
}

#[test]
fn a_broker_takes_the_files_of_all_golden_clusters() {
    for (golden, brokers) in [("minimal", 3), ("full", 5), ("single", 1)] {
        assert_eq!(read_by_broker(&cluster(golden)).members.len(), brokers, "{golden}");
    }
}

#[test]
fn a_broker_knows_every_property_that_is_offered_in_the_shape_that_is_offered() {
    for (name, shape) in OFFERED {
        let values: &[&str] = match shape {
            Shape::Integer => &["7"],
            Shape::Boolean => &["false"],
            Shape::Size => &["209715200", "200MB", "200 MiB"],
            Shape::Duration => &["20000", "20000ms", "20s", "1 m", "1min", "1h", "1d"],
        };
        for value in values {
            let mut cluster = cluster("minimal");
            // What is in flight may not be less than a request, nor a request less than a record.
            if *name == "message.max.bytes" {
                cluster.spec.config.insert("socket.request.max.bytes".to_owned(), Scalar::from("300MiB"));
            }
            if *name != "queued.max.request.bytes" {
                cluster.spec.config.insert("queued.max.request.bytes".to_owned(), Scalar::from("400MiB"));
            }
            cluster.spec.config.insert((*name).to_owned(), Scalar::from(*value));
            let shown = read_by_broker(&cluster).properties();
            assert!(shown.iter().any(|property| property.name == *name && property.given), "{name}: {value}");
        }
    }
}

#[test]
fn every_property_of_the_broker_is_offered_or_set_by_the_operator() {
    let known = serde_json::to_value(KafkaProperties::default()).unwrap();
    for name in known.as_object().unwrap().keys() {
        let offered = OFFERED.iter().any(|(offered, _)| offered == name);
        assert!(offered || owned(name).is_some(), "{name} is neither");
    }
}
