//! Hands the images and what changed to the rest of the broker, in the log's order.

use crate::events::{MetadataUpdate, Updates};
use chronik_core::cluster::{Change, Image};
use chronik_core::ids::{BrokerId, IncarnationId};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

/// The way from the state machine to its readers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Publisher {
    me: BrokerId,
    incarnation: IncarnationId,
    image: watch::Sender<Image>,
    // Subscribing and publishing exclude each other, so that a subscriber misses nothing and gets nothing twice.
    subscribers: Arc<Mutex<Vec<Subscriber>>>,
}

struct Subscriber {
    updates: mpsc::UnboundedSender<MetadataUpdate>,
    started: bool,
}

impl Publisher {
    pub(super) fn new(me: BrokerId, incarnation: IncarnationId) -> Self {
        Self { me, incarnation, image: watch::Sender::default(), subscribers: Arc::default() }
    }

    /// The newest image, now and later.
    pub(super) fn images(&self) -> watch::Receiver<Image> {
        self.image.subscribe()
    }

    /// Every update from the one on that has this process's registration; that one is the whole image, since
    /// what came before concerns leaderships of a former process.
    pub(super) fn subscribe(&self) -> Updates {
        let (updates, receiver) = mpsc::unbounded_channel();
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut subscriber = Subscriber { updates, started: false };
        let image = self.image.borrow().clone();
        if subscriber.deliver(&image, &[], self.registered(&image)) {
            subscribers.push(subscriber);
        }
        receiver
    }

    pub(super) fn publish(&self, image: &Image, changes: &[Change]) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        let registered = self.registered(image);
        // Subscribers first: what a heartbeat says is applied here must not be still on its way to them.
        subscribers.retain_mut(|s| s.deliver(image, changes, registered));
        self.image.send_replace(image.clone());
    }

    fn registered(&self, image: &Image) -> bool {
        image.brokers.get(&self.me).is_some_and(|b| b.incarnation == Some(self.incarnation))
    }
}

impl Subscriber {
    /// False when nobody listens any more.
    fn deliver(&mut self, image: &Image, changes: &[Change], registered: bool) -> bool {
        let events = if self.started {
            changes.to_vec()
        } else if registered {
            self.started = true;
            image.everything()
        } else {
            Vec::new()
        };
        if events.is_empty() {
            return !self.updates.is_closed();
        }
        self.updates.send(MetadataUpdate { image: image.clone(), events }).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::{Endpoint, Member, MetadataCommand, MetadataVersion, SupportedVersions};
    use chronik_core::ids::{ClusterId, DirectoryId, MetadataOffset};

    const ME: BrokerId = BrokerId(1);

    fn incarnation() -> IncarnationId {
        IncarnationId(uuid::Uuid::from_u128(7))
    }

    fn member() -> Member {
        let endpoint = Endpoint { host: "here".into(), port: 1 };
        Member { id: ME, kafka: endpoint.clone(), replication: endpoint, rack: None }
    }

    #[test]
    fn the_first_update_is_the_whole_image_with_this_process_registered_and_the_rest_follow() {
        let publisher = Publisher::new(ME, incarnation());
        let mut early = publisher.subscribe();
        let mut image = Image::default();
        let mut apply = |n, command| {
            let (_, changes) = image.apply(MetadataOffset(n), &command);
            publisher.publish(&image, &changes);
            image.clone()
        };
        apply(
            1,
            MetadataCommand::CreateCluster {
                cluster_id: ClusterId::default(),
                members: vec![member()],
                metadata_version: MetadataVersion::LATEST,
            },
        );
        assert!(early.try_recv().is_err());
        let (directory, damaged) = (DirectoryId::default(), vec![]);
        let registered = apply(
            2,
            MetadataCommand::RegisterBroker {
                member: member(),
                directory,
                incarnation: incarnation(),
                damaged,
                versions: SupportedVersions::HERE,
            },
        );
        let mut late = publisher.subscribe();
        for updates in [&mut early, &mut late] {
            let first = updates.try_recv().unwrap();
            assert_eq!((first.image, first.events), (registered.clone(), vec![Change::Broker(ME)]));
            assert!(updates.try_recv().is_err());
        }
        let epoch = registered.brokers[&ME].epoch.unwrap();
        let unfenced = apply(3, MetadataCommand::Unfence { id: ME, epoch });
        for updates in [&mut early, &mut late] {
            let next = updates.try_recv().unwrap();
            assert_eq!((next.image, next.events), (unfenced.clone(), vec![Change::Broker(ME)]));
        }
    }
}
