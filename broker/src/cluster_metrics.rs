//! What the controller's leader shows of the whole cluster, as Kafka's active controller does
//! (`kafka.controller:type=KafkaController`): the other brokers show zeros, so that a sum over all is right.

use chronik_core::cluster::{Ailment, Image};
use chronik_core::ids::BrokerId;
use chronik_quorum::ControllerHandle;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::time::Instant;
use tokio::sync::watch;

/// Worked out of the image whenever somebody looks.
#[derive(Debug)]
pub(crate) struct ClusterMetrics {
    me: BrokerId,
    controller: ControllerHandle,
}

/// Name and help of each, in the order of [`counts`].
const GAUGES: [(&str, &str); 10] = [
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
    (
        "undecided_partitions_count",
        "Partitions without a leader that only their brokers' return, or an unclean election, gives one",
    ),
    (
        "unclean_leader_elections",
        "Leaders elected that may have lacked acknowledged records, since there is the cluster",
    ),
];

impl ClusterMetrics {
    /// What it returns counts elections for as long as the controller runs.
    pub(crate) fn register(
        registry: &mut Registry,
        me: BrokerId,
        controller: &ControllerHandle,
    ) -> impl Future<Output = ()> + Send + use<> {
        let elections: Counter = Counter::default();
        let registry = registry.sub_registry_with_prefix("controller");
        let help = "Times that this broker began to lead the controller quorum, since it was started";
        registry.register("elections", help, elections.clone());
        registry.register_collector(Box::new(Self { me, controller: controller.clone() }));
        count_elections(me, controller.leaders(), elections)
    }
}

impl Collector for ClusterMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // A leader without a majority takes itself for one still; it gives nobody a lease, itself neither.
        let lease = self.controller.registration().borrow().lease_until;
        let leads = leads(self.me, self.controller.leader(), lease, Instant::now());
        let counts = if leads { counts(&self.controller.image()) } else { [0; 10] };
        for ((name, help), count) in GAUGES.iter().zip(counts) {
            let gauge = ConstGauge::new(count);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

async fn count_elections(me: BrokerId, mut leader: watch::Receiver<Option<BrokerId>>, elections: Counter) {
    let mut led = false;
    loop {
        let leads = *leader.borrow_and_update() == Some(me);
        if leads && !led {
            elections.inc();
        }
        led = leads;
        if leader.changed().await.is_err() {
            return;
        }
    }
}

/// Whether this broker leads, and a majority has said so lately.
fn leads(me: BrokerId, leader: Option<BrokerId>, lease_until: Option<Instant>, now: Instant) -> bool {
    leader == Some(me) && lease_until.is_some_and(|until| now < until)
}

fn counts(image: &Image) -> [i64; 10] {
    let brokers = || image.brokers.values();
    let (mut offline, mut under_min_isr, mut under_replicated, mut undecided) = (0, 0, 0, 0);
    for ailing in image.ailing() {
        under_replicated += 1;
        undecided += i64::from(image.is_undecided(ailing.partition));
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
        undecided,
        i64::try_from(image.unclean_elections).unwrap_or(i64::MAX),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::{
        Answer, Election, Endpoint, Member, MetadataCommand, MetadataVersion, SupportedVersions,
    };
    use chronik_core::ids::{BrokerEpoch, ClusterId, DirectoryId, IncarnationId, MetadataOffset, TopicId};
    use std::collections::BTreeMap;

    fn apply(image: &mut Image, command: &MetadataCommand) -> Answer {
        image.apply(MetadataOffset(image.offset.0 + 1), command).0.expect("accepted")
    }

    #[test]
    fn a_leader_counts_while_a_majority_has_it_lead() {
        let (me, now) = (BrokerId(1), Instant::now());
        let later = now + std::time::Duration::from_secs(1);
        for (leader, lease, expected) in [
            (Some(me), Some(later), true),
            (Some(me), Some(now), false),
            (Some(me), None, false),
            (Some(BrokerId(2)), Some(later), false),
            (None, Some(later), false),
        ] {
            assert_eq!(leads(me, leader, lease, now), expected, "{leader:?} {lease:?}");
        }
    }

    #[tokio::test]
    async fn an_election_is_counted_by_who_leads_by_it() {
        let (leads, leader) = watch::channel(None);
        let elections: Counter = Counter::default();
        let counted = async {
            for (id, count) in [(None, 0), (Some(2), 0), (Some(1), 1), (Some(1), 1), (None, 1), (Some(1), 2)] {
                leads.send_replace(id.map(BrokerId));
                tokio::task::yield_now().await;
                assert_eq!(elections.get(), count, "{id:?}");
            }
            drop(leads);
        };
        tokio::join!(biased; count_elections(BrokerId(1), leader, elections.clone()), counted);
    }

    /// The last two.
    fn decisions(image: &Image) -> [i64; 2] {
        let names: Vec<&str> = GAUGES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names[8..], ["undecided_partitions_count", "unclean_leader_elections"]);
        counts(image)[8..].try_into().expect("two")
    }

    #[test]
    fn what_waits_for_a_decision_is_counted_and_so_is_what_was_decided() {
        let mut image = Image::default();
        let (members, metadata_version) = (Vec::new(), MetadataVersion::LATEST);
        apply(
            &mut image,
            &MetadataCommand::CreateCluster { cluster_id: ClusterId::default(), members, metadata_version },
        );
        for id in [BrokerId(0), BrokerId(1)] {
            let endpoint = Endpoint { host: "here".into(), port: 1 };
            let register = MetadataCommand::RegisterBroker {
                member: Member { id, kafka: endpoint.clone(), replication: endpoint, rack: None },
                directory: DirectoryId::default(),
                incarnation: IncarnationId::default(),
                damaged: Vec::new(),
                versions: SupportedVersions::HERE,
            };
            let Answer::Registered(epoch) = apply(&mut image, &register) else { panic!("not registered") };
            apply(&mut image, &MetadataCommand::Unfence { id, epoch });
        }
        let create = MetadataCommand::CreateTopic {
            id: TopicId::default(),
            name: "t".into(),
            partitions: 1,
            replication_factor: -1,
            assignments: BTreeMap::from([(0, vec![BrokerId(0), BrokerId(1)])]),
            configs: BTreeMap::new(),
            default_min_insync_replicas: 1,
        };
        apply(&mut image, &create);
        let epoch = |image: &Image, id| image.brokers[&BrokerId(id)].epoch.expect("registered");
        let fence = |image: &mut Image, id| {
            let epoch: BrokerEpoch = epoch(image, id);
            apply(image, &MetadataCommand::Fence { id: BrokerId(id), epoch });
        };
        fence(&mut image, 1);
        let (partition, now) = image.partitions().map(|(tp, _, p)| (tp, p.clone())).next().expect("a partition");
        let confirm = MetadataCommand::AlterPartition {
            leader: BrokerId(0),
            broker_epoch: epoch(&image, 0),
            partition,
            leader_epoch: now.leader_epoch,
            partition_epoch: now.partition_epoch,
            isr: vec![(BrokerId(0), epoch(&image, 0))],
        };
        apply(&mut image, &confirm);
        fence(&mut image, 0);
        assert_eq!(decisions(&image), [0, 0], "nobody is there to be elected");
        let back = MetadataCommand::Unfence { id: BrokerId(1), epoch: epoch(&image, 1) };
        apply(&mut image, &back);
        assert_eq!(decisions(&image), [1, 0]);
        apply(&mut image, &MetadataCommand::ElectLeaders { partitions: None, election: Election::Unclean });
        assert_eq!(decisions(&image), [0, 1]);
    }
}
