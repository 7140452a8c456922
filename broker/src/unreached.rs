//! Gives up what this broker leads when no other broker reaches it, though the controller hears it. When that is,
//! [`Unreached`] decides.

use chronik_core::cluster::{Leaving, Reach, ResignReason, ResignedPartitions, Unreached};
use chronik_core::ids::{BrokerId, TopicPartition};
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
    let mut unheard = Vec::new();
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
        if reached {
            // Where it is in sync later, it may be because it follows.
            unheard.clear();
        }
        let now = time::Instant(0) + origin.elapsed();
        if unreached.is_due(now, reach(controller, me, reached)) && give_up(controller, me, &mut unheard).await {
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
/// successors would wait for it. That takes two entries: `unheard` is what it may have lost the leadership of before, without
/// hearing in time that it has left too.
async fn give_up(controller: &ControllerHandle, me: BrokerId, unheard: &mut Vec<TopicPartition>) -> bool {
    let image = controller.image();
    let mut partitions = image.leaderships_for_others(me);
    let led = partitions.len();
    unheard.retain(|partition| image.is_in_sync_under_another(me, *partition));
    partitions.append(unheard);
    if partitions.is_empty() {
        return false;
    }
    warn!(led, partitions = partitions.len(), "No other broker reaches this one: what others can lead is given up");
    let resignation = Resignation {
        partitions: ResignedPartitions::These(partitions.clone()),
        leaving: Leaving::InSync,
        reason: ResignReason::Incapable,
    };
    match controller.resign(resignation, DECISION).await {
        Ok(kept) => info!(kept = kept.len(), "Others lead what no other broker reached here"),
        Err(error) => {
            warn!(%error, "What no other broker reaches here is not given up yet");
            *unheard = partitions;
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::{Endpoint, Image, Member, MetadataCommand, MetadataVersion, SupportedVersions};
    use chronik_core::ids::{ClusterId, DirectoryId, IncarnationId, MetadataOffset, PartitionId, TopicId};
    use chronik_quorum::ControllerError;
    use chronik_quorum::handle::{Registration, Request};
    use std::collections::BTreeMap;
    use tokio::sync::{mpsc, oneshot};
    use tokio::time::timeout;

    const ME: BrokerId = BrokerId(0);
    const DEADLINE: Duration = Duration::from_mins(1);
    const SESSION: Duration = Duration::from_millis(20);

    fn apply(image: &mut Image, command: &MetadataCommand) {
        let offset = MetadataOffset(image.offset.0 + 1);
        image.apply(offset, command).0.expect("it is allowed");
    }

    /// Three brokers that are alive, of which this one leads a partition.
    fn cluster() -> (Image, TopicPartition) {
        let brokers: Vec<BrokerId> = (0..3).map(BrokerId).collect();
        let endpoint = Endpoint { host: "broker".into(), port: 9092 };
        let member = |id| Member { id, kafka: endpoint.clone(), replication: endpoint.clone(), rack: None };
        let mut image = Image::default();
        let create = MetadataCommand::CreateCluster {
            cluster_id: ClusterId::default(),
            members: vec![],
            metadata_version: MetadataVersion::LATEST,
        };
        apply(&mut image, &create);
        for id in &brokers {
            let register = MetadataCommand::RegisterBroker {
                member: member(*id),
                directory: DirectoryId::default(),
                incarnation: IncarnationId::default(),
                damaged: vec![],
                versions: SupportedVersions::HERE,
            };
            apply(&mut image, &register);
            let epoch = image.brokers[id].epoch.expect("it is registered");
            apply(&mut image, &MetadataCommand::Unfence { id: *id, epoch });
        }
        let partition = create_topic(&mut image, 7);
        (image, partition)
    }

    /// A topic with one partition, which all three hold, and this one leads.
    fn create_topic(image: &mut Image, id: u128) -> TopicPartition {
        let topic = TopicId(uuid::Uuid::from_u128(id));
        let create = MetadataCommand::CreateTopic {
            id: topic,
            name: format!("topic-{id}"),
            partitions: 1,
            replication_factor: 0,
            assignments: BTreeMap::from([(0, (0..3).map(BrokerId).collect())]),
            configs: BTreeMap::new(),
            default_min_insync_replicas: 2,
        };
        apply(image, &create);
        TopicPartition { topic, partition: PartitionId(0) }
    }

    /// What this broker asks a controller that hears it, and tells it of these images.
    fn controller(images: watch::Receiver<Image>) -> (ControllerHandle, mpsc::UnboundedReceiver<Request>) {
        let (requests, asked) = mpsc::unbounded_channel();
        let epoch = images.borrow().brokers[&ME].epoch;
        let lease_until = std::time::Instant::now().checked_add(2 * DEADLINE);
        let standing = Registration { epoch, unfenced: true, lease_until };
        let registration = watch::channel(standing).1;
        (ControllerHandle::new(requests, images, registration, watch::channel(None).1), asked)
    }

    type Reply = oneshot::Sender<Result<Vec<TopicPartition>, ControllerError>>;

    async fn next(asked: &mut mpsc::UnboundedReceiver<Request>) -> (Resignation, Reply) {
        match timeout(DEADLINE, asked.recv()).await.expect("in time").expect("it looks on") {
            Request::Resign { resignation, reply } => (resignation, reply),
            other => panic!("{other:?}"),
        }
    }

    async fn resignation(asked: &mut mpsc::UnboundedReceiver<Request>) -> Resignation {
        let (resignation, reply) = next(asked).await;
        reply.send(Ok(Vec::new())).expect("it waits for the answer");
        resignation
    }

    #[tokio::test]
    async fn what_a_broker_leads_that_no_other_one_reaches_is_given_up() {
        let (image, partition) = cluster();
        let (controller, mut asked) = controller(watch::channel(image).1);
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

    #[tokio::test]
    async fn who_does_not_hear_in_time_that_it_left_the_in_sync_sets_asks_until_it_does() {
        let (mut image, partition) = cluster();
        let (images, heard) = watch::channel(image.clone());
        let (controller, mut asked) = controller(heard);
        let (_followers, connected) = watch::channel(0_usize);
        let stop = CancellationToken::new();
        let looking = tokio::spawn(run(ME, SESSION, controller, connected, stop.clone()));
        let (first, reply) = next(&mut asked).await;
        assert_eq!(first.partitions, ResignedPartitions::These(vec![partition]));
        let moved = MetadataCommand::Resign {
            broker: ME,
            broker_epoch: image.brokers[&ME].epoch.expect("it is registered"),
            partitions: first.partitions,
            leaving: Leaving::Leadership,
            reason: ResignReason::Incapable,
        };
        apply(&mut image, &moved);
        images.send_replace(image.clone());
        reply.send(Err(ControllerError::Unavailable)).expect("it waits for the answer");
        let again = resignation(&mut asked).await;
        assert_eq!((again.partitions, again.leaving), (ResignedPartitions::These(vec![partition]), Leaving::InSync));
        // It has an answer, and names that partition no more.
        let other = create_topic(&mut image, 8);
        images.send_replace(image);
        assert_eq!(resignation(&mut asked).await.partitions, ResignedPartitions::These(vec![other]));
        stop.cancel();
        looking.await.expect("it ends");
    }
}
