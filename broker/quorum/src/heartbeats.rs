//! This broker's signs of life to the controller leader, and the lease that it gets for them. On a task and a
//! connection of their own, so that neither data nor metadata holds them back.

use super::DiskSpace;
use super::handle::Registration;
use super::leader::{Heartbeat, LeaderHandle, Verdict};
use super::link::Client;
use super::links::Links;
use super::proto::{self, heartbeat_response::Standing};
use chronik_core::cluster::Image;
use chronik_core::ids::{BrokerEpoch, BrokerId, IncarnationId, MetadataOffset};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

/// Told to the leader, for people.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whose heart beats.
pub(super) struct Heart {
    pub(super) me: BrokerId,
    pub(super) incarnation: IncarnationId,
    pub(super) interval: Duration,
    pub(super) lease: Duration,
    /// Connections for heartbeats alone.
    pub(super) links: Links,
    pub(super) leader: watch::Receiver<Option<BrokerId>>,
    pub(super) leading: LeaderHandle,
    pub(super) image: watch::Receiver<Image>,
    pub(super) registration: watch::Sender<Registration>,
    pub(super) disk: watch::Receiver<Option<DiskSpace>>,
    /// Told which registration the leader knows no more.
    pub(super) displaced: mpsc::Sender<BrokerEpoch>,
}

/// What the image says of this process.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Own {
    epoch: Option<BrokerEpoch>,
    unfenced: bool,
    fenced_at: MetadataOffset,
}

impl Heart {
    pub(super) async fn run(mut self) {
        let mut tick = tokio::time::interval(self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut own = Own::default();
        // The newest registration of this process: one that is lost is asked about until there is another.
        let mut newest = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // A new leader, a registration or a fencing is answered at once.
                changed = self.leader.changed() => if changed.is_err() { return },
                changed = self.image.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if self.own() == own {
                        continue;
                    }
                }
            }
            let before = own;
            own = self.own();
            self.tell(before, own);
            newest = own.epoch.or(newest);
            if let Some(epoch) = newest {
                self.beat(epoch).await;
            }
        }
    }

    fn own(&mut self) -> Own {
        let image = self.image.borrow_and_update();
        match image.brokers.get(&self.me) {
            Some(b) if b.incarnation == Some(self.incarnation) => {
                Own { epoch: b.epoch, unfenced: !b.fenced, fenced_at: b.fenced_at }
            }
            _ => Own::default(),
        }
    }

    fn tell(&self, before: Own, own: Own) {
        self.registration.send_if_modified(|r| {
            let lease_until = r.lease_until.filter(|_| own.epoch == before.epoch);
            let new = Registration { epoch: own.epoch, unfenced: own.unfenced, lease_until };
            let changed = *r != new;
            *r = new;
            changed
        });
    }

    /// One heartbeat. The lease counts from when it was sent: the answer may have taken its time. When another
    /// leader comes up meanwhile the old one is not waited for.
    async fn beat(&mut self, epoch: BrokerEpoch) {
        let mut leader_seen = self.leader.clone();
        let (standing, sent) = loop {
            let Some(leader) = *leader_seen.borrow_and_update() else { return };
            tokio::select! {
                answer = self.ask(leader, epoch) => match answer {
                    Some(answer) => break answer,
                    None => return,
                },
                changed = leader_seen.changed() => if changed.is_err() { return },
            }
        };
        match standing {
            Standing::Granted => self.registration.send_modify(|r| {
                if r.epoch == Some(epoch) {
                    r.lease_until = r.lease_until.max(Some(sent + self.lease));
                }
            }),
            Standing::Stale => {
                // One notice is as good as many.
                let _ = self.displaced.try_send(epoch);
            }
            Standing::Heard | Standing::NotLeader | Standing::Unknown => {}
        }
    }

    /// The leader's answer, and when it was asked.
    async fn ask(&self, leader: BrokerId, epoch: BrokerEpoch) -> Option<(Standing, Instant)> {
        let applied = self.image.borrow().offset;
        let (version, disk) = (VERSION.to_owned(), *self.disk.borrow());
        if leader == self.me {
            let sent = Instant::now();
            let heartbeat = Heartbeat { broker: self.me, epoch, applied, version, disk };
            let standing = match self.leading.heartbeat(heartbeat).await {
                Verdict::Granted => Standing::Granted,
                Verdict::Heard => Standing::Heard,
                Verdict::NotLeader => Standing::NotLeader,
                Verdict::Stale => Standing::Stale,
            };
            return Some((standing, sent));
        }
        self.links.keep_only(leader);
        let caller = Some(self.links.caller(leader));
        let (disk_total, disk_free) = disk.map_or((0, 0), |disk| (disk.total, disk.free));
        let request = proto::HeartbeatRequest {
            caller,
            broker_epoch: epoch.0,
            applied: applied.0,
            version,
            disk_total,
            disk_free,
        };
        let mut sent = Instant::now();
        let call = |mut client: Client| {
            sent = Instant::now();
            async move { client.heartbeat(request).await }
        };
        match self.links.call(leader, self.interval * 2, call).await {
            Ok(answer) => Some((answer.standing(), sent)),
            Err(error) => {
                tracing::debug!(?error, "no answer to a heartbeat");
                None
            }
        }
    }
}
