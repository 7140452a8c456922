//! What a broker does before it stops: its leaderships go to replicas that are in sync, in one entry of the metadata
//! log; clients that still ask here get the new leaders in the answer (KIP-951); it is fenced, so that nobody has to
//! find out that it is gone; and the controller quorum's leadership goes to another voter.
//!
//! Each step is tried for a while and then left out: a broker that cannot hand over, because the others stop as well or
//! nobody leads the quorum, stops as if it were killed, which loses nothing.

use chronik_core::cluster::{Image, Leaving, ResignReason, ResignedPartitions};
use chronik_core::ids::{BrokerId, TopicPartition};
use chronik_quorum::{Controller, ControllerHandle, Resignation};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// The controller has so long to decide. An election may be under way.
const DECISION: Duration = Duration::from_secs(1);
/// Replicas that are alive and not in sync have so long to catch up, so that they can take over.
const CATCHING_UP: Duration = Duration::from_secs(3);
/// Between resignations while there is something that nobody can take over yet.
const PAUSE: Duration = Duration::from_millis(100);
/// Clients have so long to ask once more, and to get the new leaders. Those that wait for records get them at once.
const CLIENTS: Duration = Duration::from_millis(250);
/// How long the quorum's leadership may take to change hands.
const QUORUM: Duration = Duration::from_secs(1);

/// Hands over everything, as far as there is somebody to take it.
pub(crate) async fn run(controller: &Controller, me: BrokerId) {
    let handle = controller.handle();
    let image = handle.image();
    let others = |image: &Image| image.brokers.keys().any(|id| *id != me && image.may_lead(*id));
    if !others(&image) {
        return;
    }
    let began = Instant::now();
    // One that is fenced leads no partition, and may lead the controller quorum all the same.
    if image.alive(me).is_some()
        && let Some(kept) = resign(&handle, me).await
    {
        let took = began.elapsed();
        info!(kept = kept.len(), ?took, "Handed over what this broker led");
        sleep(CLIENTS).await;
        if let Err(error) = handle.leave(DECISION).await {
            info!(%error, "Not fenced before the end");
        }
    }
    if !controller.hand_over(QUORUM).await {
        warn!("No other voter took over the controller quorum");
    }
}

/// Gives up all leaderships, and names those that nobody can take over; `None` if the controller did not decide.
async fn resign(handle: &ControllerHandle, me: BrokerId) -> Option<Vec<TopicPartition>> {
    let given_up = Instant::now() + CATCHING_UP;
    loop {
        let resignation =
            Resignation { partitions: ResignedPartitions::All, leaving: Leaving::InSync, reason: ResignReason::Stop };
        let kept = match handle.resign(resignation, DECISION).await {
            Ok(kept) => kept,
            Err(error) => {
                warn!(%error, "What this broker leads is not handed over");
                return None;
            }
        };
        let image = handle.image();
        let may_follow = |tp: &TopicPartition| {
            let replicas = image.partition(*tp).map(|p| p.replicas.as_slice()).unwrap_or_default();
            replicas.iter().any(|id| *id != me && image.may_lead(*id))
        };
        if Instant::now() >= given_up || !kept.iter().any(may_follow) {
            return Some(kept);
        }
        let offset = image.offset;
        let mut images = handle.images();
        // Whoever caught up is in a newer image.
        let _ = timeout(PAUSE, images.wait_for(|image| image.offset > offset)).await;
    }
}
