//! Gives up what this broker leads when no other broker reaches it, though the controller hears it. When that is,
//! [`Unreached`] decides.

use chronik_core::cluster::{Leaving, Reach, ResignReason, ResignedPartitions, Unreached};
use chronik_core::ids::BrokerId;
use chronik_core::time;
use chronik_quorum::{ControllerHandle, Resignation};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The controller has so long to decide. An election may be under way.
const DECISION: Duration = Duration::from_secs(1);
/// Looks in a session.
const LOOKS: u32 = 4;

/// Looks until it is stopped. `followers` is how many connections other brokers have to this one.
pub(crate) async fn run(
    me: BrokerId,
    session: Duration,
    controller: ControllerHandle,
    followers: watch::Receiver<usize>,
    stop: CancellationToken,
) {
    stop.run_until_cancelled(look_on(me, session, &controller, followers)).await;
}

async fn look_on(
    me: BrokerId,
    session: Duration,
    controller: &ControllerHandle,
    mut followers: watch::Receiver<usize>,
) {
    let mut unreached = Unreached::new(session);
    let origin = Instant::now();
    let mut looks = interval((session / LOOKS).max(Duration::from_millis(1)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // One that came and went between two looks counts too.
        let moved = tokio::select! {
            biased;
            changed = followers.changed() => {
                if changed.is_err() {
                    return;
                }
                true
            }
            _ = looks.tick() => false,
        };
        let reached = moved || *followers.borrow() > 0;
        let now = time::Instant(0) + origin.elapsed();
        if unreached.is_due(now, reach(controller, me, reached)) && give_up(controller, me).await {
            unreached.gave_up();
        }
    }
}

fn reach(controller: &ControllerHandle, me: BrokerId, reached: bool) -> Reach {
    let standing = *controller.registration().borrow();
    let now = std::time::Instant::now();
    let has_lease = standing.unfenced && standing.lease_until.is_some_and(|until| until > now);
    let image = controller.image();
    let others = image.brokers.values().filter(|broker| broker.id != me && !broker.fenced).count();
    Reach { reached, has_lease, others }
}

/// Whether there was something, and the controller decided. What this broker led it also leaves the in-sync sets of, or its
/// successors would wait for it.
async fn give_up(controller: &ControllerHandle, me: BrokerId) -> bool {
    let led = controller.image().leaderships_for_others(me);
    if led.is_empty() {
        return false;
    }
    warn!(partitions = led.len(), "No other broker reaches this one: what others can lead is given up");
    let resignation = Resignation {
        partitions: ResignedPartitions::These(led),
        leaving: Leaving::InSync,
        reason: ResignReason::Incapable,
    };
    match controller.resign(resignation, DECISION).await {
        Ok(kept) => info!(kept = kept.len(), "Others lead what no other broker reached here"),
        Err(error) => {
            warn!(%error, "What no other broker reaches here is not given up yet");
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::{Endpoint, Image, Member, MetadataCommand, MetadataVersion, SupportedVersions};
    use chronik_core::ids::{
        ClusterId, DirectoryId, IncarnationId, MetadataOffset, PartitionId, TopicId, TopicPartition,
    };
    use chronik_quorum::handle::{Registration, Request};
    use std::collections::BTreeMap;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    const ME: BrokerId = BrokerId(0);
    const DEADLINE: Duration = Duration::from_mins(1);
    const SESSION: Duration = Duration::from_millis(20);

    /// Three brokers that are alive, of which this one leads a partition.
    fn cluster() -> (Image, TopicPartition) {
        let brokers: Vec<BrokerId> = (0..3).map(BrokerId).collect();
        let endpoint = Endpoint { host: "broker".into(), port: 9092 };
        let member = |id| Member { id, kafka: endpoint.clone(), replication: endpoint.clone(), rack: None };
        let mut image = Image::default();
        let apply = |image: &mut Image, command| {
            let offset = MetadataOffset(image.offset.0 + 1);
            image.apply(offset, &command).0.expect("it is allowed");
        };
        let create = MetadataCommand::CreateCluster {
            cluster_id: ClusterId::default(),
            members: vec![],
            metadata_version: MetadataVersion::LATEST,
        };
        apply(&mut image, create);
        for id in &brokers {
            let register = MetadataCommand::RegisterBroker {
                member: member(*id),
                directory: DirectoryId::default(),
                incarnation: IncarnationId::default(),
                damaged: vec![],
                versions: SupportedVersions::HERE,
            };
            apply(&mut image, register);
            let epoch = image.brokers[id].epoch.expect("it is registered");
            apply(&mut image, MetadataCommand::Unfence { id: *id, epoch });
        }
        let topic = TopicId(uuid::Uuid::from_u128(7));
        let create = MetadataCommand::CreateTopic {
            id: topic,
            name: "topic".into(),
            partitions: 1,
            replication_factor: 0,
            assignments: BTreeMap::from([(0, brokers)]),
            configs: BTreeMap::new(),
            default_min_insync_replicas: 2,
        };
        apply(&mut image, create);
        (image, TopicPartition { topic, partition: PartitionId(0) })
    }

    async fn resignation(asked: &mut mpsc::UnboundedReceiver<Request>) -> Resignation {
        match timeout(DEADLINE, asked.recv()).await.expect("in time").expect("it looks on") {
            Request::Resign { resignation, reply } => {
                reply.send(Ok(Vec::new())).expect("it waits for the answer");
                resignation
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_a_broker_leads_that_no_other_one_reaches_is_given_up() {
        let (image, partition) = cluster();
        let (requests, mut asked) = mpsc::unbounded_channel();
        let epoch = image.brokers[&ME].epoch;
        let lease_until = std::time::Instant::now().checked_add(2 * DEADLINE);
        let standing = Registration { epoch, unfenced: true, lease_until };
        let (images, registration) = (watch::channel(image).1, watch::channel(standing).1);
        let controller = ControllerHandle::new(requests, images, registration, watch::channel(None).1);
        let (followers, connected) = watch::channel(1_usize);
        let stop = CancellationToken::new();
        let looking = tokio::spawn(run(ME, SESSION, controller, connected, stop.clone()));
        let gone = Instant::now();
        followers.send_replace(0);
        for patience in [SESSION * 3 / 2, SESSION * 9 / 2] {
            let Resignation { partitions, leaving, reason } = resignation(&mut asked).await;
            assert!(gone.elapsed() >= patience, "{:?}", gone.elapsed());
            assert_eq!(partitions, ResignedPartitions::These(vec![partition]));
            assert_eq!((leaving, reason), (Leaving::InSync, ResignReason::Incapable));
        }
        stop.cancel();
        looking.await.expect("it ends");
    }
}
