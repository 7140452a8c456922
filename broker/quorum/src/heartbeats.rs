//! This broker's signs of life to the controller leader, and the lease that it gets for them. On a task and a
//! connection of their own, so that neither data nor metadata holds them back.

use super::damages::Damages;
use super::disks::Disks;
use super::handle::Registration;
use super::leader::{Heartbeat, LeaderHandle, Verdict};
use super::link::Client;
use super::links::Links;
use super::proto::{self, heartbeat_response::Standing};
use super::silence::Silence;
use super::types::Raft;
use super::{DiskSpace, Timings};
use chronik_core::cluster::Image;
use chronik_core::ids::{BrokerEpoch, BrokerId, IncarnationId, MetadataOffset};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

/// Told to the leader, for people.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// However short the leader's leases are.
const LEAST_INTERVAL: Duration = Duration::from_millis(20);

/// Whose heart beats.
pub(super) struct Heart {
    pub(super) me: BrokerId,
    pub(super) incarnation: IncarnationId,
    pub(super) interval: Duration,
    pub(super) lease: Lease,
    pub(super) silence: Silence,
    /// Connections for heartbeats alone.
    pub(super) links: Links,
    pub(super) leader: watch::Receiver<Option<BrokerId>>,
    pub(super) leading: LeaderHandle,
    pub(super) image: watch::Receiver<Image>,
    pub(super) registration: watch::Sender<Registration>,
    pub(super) disk: watch::Receiver<Option<DiskSpace>>,
    pub(super) damages: watch::Receiver<Arc<Damages>>,
    pub(super) disks: Disks,
    pub(super) raft: Raft,
    /// Told which registration the leader knows no more.
    pub(super) displaced: mpsc::Sender<BrokerEpoch>,
    /// The number of the last heartbeat.
    pub(super) number: AtomicU64,
}

/// What the image says of this process.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Own {
    epoch: Option<BrokerEpoch>,
    unfenced: bool,
    fenced_at: MetadataOffset,
}

/// How long a lease this broker takes: as it is configured, and never longer than the leader grants, which fences by a
/// session of its own. The two differ while a cluster is restarted with another `broker.session.timeout.ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// As this broker is configured.
    own: Duration,
    /// From one heartbeat to the next, as configured.
    interval: Duration,
    /// What the leader grants; `None` if it does not say.
    granted: Option<Duration>,
}

impl Lease {
    pub(super) fn of(timings: &Timings) -> Self {
        Self { own: timings.lease, interval: timings.heartbeat, granted: None }
    }

    /// How long it lasts.
    fn length(self) -> Duration {
        self.granted.map_or(self.own, |granted| granted.min(self.own))
    }

    /// From one heartbeat to the next: as many a lease as are configured.
    fn interval(self) -> Duration {
        let part = self.length().as_secs_f64() / self.own.as_secs_f64();
        self.interval.mul_f64(part).max(LEAST_INTERVAL).min(self.interval)
    }
}

/// What a leader answers.
struct Answered {
    standing: Standing,
    /// The lease that it grants; `None` if it does not say.
    lease: Option<Duration>,
    /// When it was asked.
    sent: Instant,
}

fn beats(interval: Duration) -> Interval {
    let mut beats = interval_at(tokio::time::Instant::now() + interval, interval);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

impl Heart {
    pub(super) async fn run(mut self) {
        let mut tick = beats(self.interval);
        tick.reset_immediately();
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
            if tick.period() != self.lease.interval() {
                tick = beats(self.lease.interval());
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
        let Answered { standing, lease, sent } = loop {
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
            Standing::Granted if !self.disks.hang() => {
                self.lease.granted = lease;
                let until = sent + self.lease.length();
                self.registration.send_modify(|r| {
                    if r.epoch == Some(epoch) {
                        r.lease_until = r.lease_until.max(Some(until));
                    }
                });
            }
            Standing::Stale => {
                // One notice is as good as many.
                let _ = self.displaced.try_send(epoch);
            }
            Standing::Granted | Standing::Heard | Standing::NotLeader | Standing::Unknown => {}
        }
    }

    /// What this broker says of itself. What it says later has a greater number.
    fn sign(&self, epoch: BrokerEpoch, stalled: bool) -> Heartbeat {
        let (applied, disk) = (self.image.borrow().offset, *self.disk.borrow());
        let (version, number) = (VERSION.to_owned(), self.number.fetch_add(1, Ordering::Relaxed) + 1);
        let damages = Some(Arc::clone(&self.damages.borrow()));
        Heartbeat { broker: self.me, epoch, applied, version, disk, damages, stalled, number, connection: None }
    }

    /// The same, to another broker.
    fn request(&self, to: BrokerId, epoch: BrokerEpoch, stalled: bool) -> proto::HeartbeatRequest {
        let Heartbeat { applied, version, disk, damages, number, .. } = self.sign(epoch, stalled);
        let (disk_total, disk_free) = disk.map_or((0, 0), |disk| (disk.total, disk.free));
        proto::HeartbeatRequest {
            caller: Some(self.links.caller(to)),
            broker_epoch: epoch.0,
            applied: applied.0,
            version,
            disk_total,
            disk_free,
            stalled,
            number,
            damages: damages.map(|damages| damages.to_proto()),
        }
    }

    async fn ask(&self, leader: BrokerId, epoch: BrokerEpoch) -> Option<Answered> {
        if leader == self.me {
            let sent = Instant::now();
            let standing = match self.leading.heartbeat(self.sign(epoch, false)).await {
                Verdict::Granted => Standing::Granted,
                Verdict::Heard => Standing::Heard,
                Verdict::NotLeader => Standing::NotLeader,
                Verdict::Stale => Standing::Stale,
            };
            return Some(Answered { standing, lease: None, sent });
        }
        self.links.keep_only(|id| id == leader);
        let request = self.request(leader, epoch, false);
        let mut sent = Instant::now();
        let call = |mut client: Client| {
            sent = Instant::now();
            async move { client.heartbeat(request).await }
        };
        match self.links.call(leader, self.lease.interval() * 2, call).await {
            Ok(answer) => {
                self.silence.leases_run(tokio::time::Instant::now(), Duration::from_millis(answer.leases_run_ms));
                let lease = (answer.lease_ms > 0).then(|| Duration::from_millis(answer.lease_ms));
                Some(Answered { standing: answer.standing(), lease, sent })
            }
            Err(error) => {
                tracing::debug!(?error, "no answer to a heartbeat");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_no_longer_than_the_leader_grants_and_as_many_heartbeats_go_into_it() {
        let ms = Duration::from_millis;
        for (session, granted, length, interval) in [
            (9_000, None, 6_300, 900),
            (9_000, Some(700), 700, 100),
            (9_000, Some(70), 70, 20),
            (1_000, Some(700), 700, 100),
            (1_000, Some(6_300), 700, 100),
        ] {
            let lease = Lease { granted: granted.map(ms), ..Lease::of(&Timings::with_session(ms(session))) };
            assert_eq!((lease.length(), lease.interval()), (ms(length), ms(interval)), "{session} {granted:?}");
        }
    }
}
