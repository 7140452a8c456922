//! This broker's signs of life to the controller leader, and the lease that it gets for them. On a task and a
//! connection of their own, so that neither data nor metadata holds them back.

use super::DiskSpace;
use super::disks::Disks;
use super::handle::Registration;
use super::leader::{Heartbeat, LeaderHandle, Verdict};
use super::link::Client;
use super::links::Links;
use super::proto::{self, heartbeat_response::Standing};
use super::types::Raft;
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
    pub(super) disks: Disks,
    pub(super) raft: Raft,
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
        let mut given_up = None;
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
            // Who has given up its lease says so with the next heartbeat but not at once: whatever went on under it has ended
            // then.
            given_up = if self.gives_up() { given_up.or(Some(Instant::now())) } else { None };
            let stalled = given_up.is_some_and(|since| since.elapsed() >= self.interval / 2);
            match newest {
                Some(epoch) if stalled => self.tell_all(epoch).await,
                Some(epoch) => self.beat(epoch).await,
                None => {}
            }
        }
    }

    /// Gives up the lease while the disks hang, and before that the lead of the raft quorum. Says whether they hang.
    fn gives_up(&self) -> bool {
        // A raft leader that is silent is replaced.
        self.raft.runtime_config().heartbeat(!self.disks.are_late());
        let hang = self.disks.hang();
        if hang {
            let now = Instant::now();
            self.registration.send_if_modified(|r| {
                let held = r.lease_until.is_some_and(|until| until > now);
                if held {
                    tracing::error!("The disk hangs: this broker gives up its lease and what it leads");
                    r.lease_until = Some(now);
                }
                held
            });
        }
        hang
    }

    /// Says to all who may lead the controller that the disks hang: whether the raft quorum has another leader by now, a
    /// voter whose disk hangs may not know.
    async fn tell_all(&self, epoch: BrokerEpoch) {
        let local = self.leading.heartbeat(self.sign(epoch, true));
        let peers: Vec<_> = self.image.borrow().brokers.keys().copied().filter(|id| *id != self.me).collect();
        let calls = peers.into_iter().map(|peer| {
            let request = self.request(peer, epoch, true);
            let call = |mut client: Client| async move { client.heartbeat(request).await };
            self.links.call(peer, self.interval, call)
        });
        tokio::join!(local, futures::future::join_all(calls));
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
            Standing::Granted if !self.disks.hang() => self.registration.send_modify(|r| {
                if r.epoch == Some(epoch) {
                    r.lease_until = r.lease_until.max(Some(sent + self.lease));
                }
            }),
            Standing::Stale => {
                // One notice is as good as many.
                let _ = self.displaced.try_send(epoch);
            }
            Standing::Granted | Standing::Heard | Standing::NotLeader | Standing::Unknown => {}
        }
    }

    /// What this broker says of itself.
    fn sign(&self, epoch: BrokerEpoch, stalled: bool) -> Heartbeat {
        let (applied, disk) = (self.image.borrow().offset, *self.disk.borrow());
        Heartbeat { broker: self.me, epoch, applied, version: VERSION.to_owned(), disk, stalled, connection: None }
    }

    /// The same, to another broker.
    fn request(&self, to: BrokerId, epoch: BrokerEpoch, stalled: bool) -> proto::HeartbeatRequest {
        let Heartbeat { applied, version, disk, .. } = self.sign(epoch, stalled);
        let (disk_total, disk_free) = disk.map_or((0, 0), |disk| (disk.total, disk.free));
        proto::HeartbeatRequest {
            caller: Some(self.links.caller(to)),
            broker_epoch: epoch.0,
            applied: applied.0,
            version,
            disk_total,
            disk_free,
            stalled,
        }
    }

    /// The leader's answer, and when it was asked.
    async fn ask(&self, leader: BrokerId, epoch: BrokerEpoch) -> Option<(Standing, Instant)> {
        if leader == self.me {
            let sent = Instant::now();
            let standing = match self.leading.heartbeat(self.sign(epoch, false)).await {
                Verdict::Granted => Standing::Granted,
                Verdict::Heard => Standing::Heard,
                Verdict::NotLeader => Standing::NotLeader,
                Verdict::Stale => Standing::Stale,
            };
            return Some((standing, sent));
        }
        self.links.keep_only(|id| id == leader);
        let request = self.request(leader, epoch, false);
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
