//! The metrics that people are sent to, as a broker exposes them.

use chronik_broker::partitions::PartitionMetrics;
use chronik_operator::status::UNDER_REPLICATED;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

#[test]
fn a_broker_exposes_what_a_restart_is_to_wait_for() {
    let (mut registry, mut text) = (Registry::with_prefix("chronik"), String::new());
    PartitionMetrics::register(&mut registry);
    encode(&mut text, &registry).unwrap();
    assert!(text.contains(&format!("\n{UNDER_REPLICATED} 0\n")), "{text}");
}
