//! What the controller's leader shows of the whole cluster, as Kafka's active controller does
//! (`kafka.controller:type=KafkaController`): the other brokers show zeros, so that a sum over all is right.

use chronik_core::cluster::{Ailment, Image};
use chronik_core::ids::BrokerId;
use chronik_quorum::ControllerHandle;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Worked out of the image whenever somebody looks.
#[derive(Debug)]
pub(crate) struct ClusterMetrics {
    me: BrokerId,
    controller: ControllerHandle,
}

/// Name and help of each, in the order of [`counts`].
const GAUGES: [(&str, &str); 8] = [
    ("active_controller_count", "1 on the broker that leads the controller quorum"),
    ("active_broker_count", "Brokers that are registered and not fenced"),
    ("fenced_broker_count", "Brokers that have registered and are fenced"),
    ("cordoned_broker_count", "Brokers that are given nothing new"),
    ("offline_partitions_count", "Partitions without a leader"),
    (
        "under_min_isr_partitions_count",
        "Partitions that have a leader and fewer in-sync replicas than min.insync.replicas",
    ),
    ("under_replicated_partitions_count", "Partitions of which not all replicas are in sync"),
    ("stop_permits_outstanding", "Permits to stop a broker that are outstanding"),
];

impl ClusterMetrics {
    pub(crate) fn register(registry: &mut Registry, me: BrokerId, controller: ControllerHandle) {
        let metrics = Self { me, controller };
        registry.sub_registry_with_prefix("controller").register_collector(Box::new(metrics));
    }
}

impl Collector for ClusterMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let leads = self.controller.leader() == Some(self.me);
        let counts = if leads { counts(&self.controller.image()) } else { [0; 8] };
        for ((name, help), count) in GAUGES.iter().zip(counts) {
            let gauge = ConstGauge::new(count);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

fn counts(image: &Image) -> [i64; 8] {
    let brokers = || image.brokers.values();
    let (mut offline, mut under_min_isr, mut under_replicated) = (0, 0, 0);
    for ailing in image.ailing() {
        under_replicated += 1;
        match ailing.ailment {
            Ailment::Offline => offline += 1,
            Ailment::UnderMinIsr => under_min_isr += 1,
            Ailment::UnderReplicated => {}
        }
    }
    [
        1,
        brokers().filter(|b| !b.fenced).count() as i64,
        brokers().filter(|b| b.fenced && b.epoch.is_some()).count() as i64,
        brokers().filter(|b| b.cordoned).count() as i64,
        offline,
        under_min_isr,
        under_replicated,
        i64::from(image.permit.is_some()),
    ]
}
