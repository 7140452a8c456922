//! What a broker does while it is the controller leader: creates the cluster if there is none yet, answers
//! heartbeats, fences brokers that are gone and unfences those that are back.

use super::acks::Acks;
use super::connections::Connection;
use super::damages::Damages;
use super::electorate::Electorate;
use super::handover::Yielding;
use super::liveness::{Due, Heard, Liveness};
use super::observed::{Observed, PermitClock, Sign};
use super::proposer::Proposer;
use super::silence::{Before, Silence};
use super::types::Raft;
use super::{ControllerConfig, DiskSpace};
use crate::peers::Peers;
use chronik_core::cluster::{
    Election, Endpoint, Image, LeaderBalance, LeaderBalanceConfig, Member, MetadataCommand, MetadataVersion,
};
use chronik_core::ids::{BrokerEpoch, BrokerId, ClusterId, MetadataOffset};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

/// How often silence is looked for.
const TICK: Duration = Duration::from_millis(50);
/// A broker that a connection was lost with is looked at after these pauses. The kernel closes the sockets of a killed
/// process one by one: its port may accept for a moment longer than its connections last.
const LOOKS: [Duration; 4] =
    [Duration::from_millis(2), Duration::from_millis(10), Duration::from_millis(30), Duration::from_millis(60)];
/// A probe that has no answer by then says nothing.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);

/// A broker's sign of life.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    pub(super) broker: BrokerId,
    pub(super) epoch: BrokerEpoch,
    pub(super) applied: MetadataOffset,
    /// What the broker says of itself beside it.
    pub(super) version: String,
    pub(super) disk: Option<DiskSpace>,
    pub(super) damages: Option<Arc<Damages>>,
    /// Its disk hangs, and it has no lease any more.
    pub(super) stalled: bool,
    /// Which of its process's it is, in the order of time; 0 if that is not known.
    pub(super) number: u64,
    /// Where it came from, if not from this process.
    pub(super) connection: Option<Connection>,
}

/// The answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The broker may go on for a lease from when it sent the heartbeat.
    Granted,
    /// It was heard, and gets no lease.
    Heard,
    /// This is not the leader, or not yet.
    NotLeader,
    /// Another process has registered as that broker.
    Stale,
}

/// The way to the leader's task. Cheap to clone.
#[derive(Clone)]
pub(super) struct LeaderHandle {
    heartbeats: mpsc::UnboundedSender<(Heartbeat, oneshot::Sender<Verdict>)>,
    questions: mpsc::UnboundedSender<oneshot::Sender<Observed>>,
    ready: watch::Receiver<bool>,
}

impl LeaderHandle {
    /// Whether this broker is the leader and knows all that was decided before.
    pub(super) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until this broker is the leader and knows all that was decided before.
    pub(super) async fn becomes_ready(&self) {
        if self.ready.clone().wait_for(|ready| *ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn heartbeat(&self, heartbeat: Heartbeat) -> Verdict {
        let (reply, answer) = oneshot::channel();
        if self.heartbeats.send((heartbeat, reply)).is_err() {
            return Verdict::NotLeader;
        }
        answer.await.unwrap_or(Verdict::NotLeader)
    }

    /// What this leader has heard that is not in the metadata log; `None` if it is not the leader.
    pub(super) async fn observed(&self) -> Option<Observed> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(reply).ok()?;
        answer.await.ok()
    }
}

/// The leader's task.
pub(super) struct Leader {
    me: BrokerId,
    electorate: Electorate,
    members: Vec<Member>,
    balance: Option<LeaderBalanceConfig>,
    interval: Duration,
    session: Duration,
    raft: Raft,
    proposer: Proposer,
    acks: Acks,
    peers: Peers,
    losses: broadcast::Receiver<BrokerId>,
    image: watch::Receiver<Image>,
    heartbeats: mpsc::UnboundedReceiver<(Heartbeat, oneshot::Sender<Verdict>)>,
    questions: mpsc::UnboundedReceiver<oneshot::Sender<Observed>>,
    ready: watch::Sender<bool>,
    yielding: Yielding,
    silence: Silence,
    /// Proposals and probes that have come to an end.
    done: mpsc::UnboundedSender<Done>,
    ended: mpsc::UnboundedReceiver<Done>,
    proposed: HashSet<Wish>,
    /// The term that it leads in, or did last.
    term: u64,
    /// Who else was last known to lead.
    predecessor: Option<BrokerId>,
}

/// What the leader wants the log to say, each once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wish {
    Cluster,
    Fence(BrokerId, BrokerEpoch),
    Unfence(BrokerId, BrokerEpoch),
    /// The permit, and the grant of it that has run out.
    ClosePermit(MetadataOffset, MetadataOffset),
    PreferredLeaders,
}

enum Done {
    Proposed(Wish),
    /// The connection that a broker's heartbeats came over has ended.
    Detached {
        broker: BrokerId,
        connection: u64,
        term: u64,
    },
    /// Nobody listened at a broker's ports at that moment.
    Gone {
        broker: BrokerId,
        epoch: BrokerEpoch,
        term: u64,
        at: Instant,
    },
}

/// One leadership.
struct Term {
    number: u64,
    /// What the voters that elected this broker know of who led them.
    before: Before,
    /// Set once all that was decided in former terms is applied here.
    liveness: Option<Liveness>,
    /// What brokers have said of themselves.
    signs: HashMap<BrokerId, Sign>,
    permit: PermitClock,
    began: Instant,
    balance: Option<LeaderBalance>,
}

impl Leader {
    pub(super) fn new(
        config: &ControllerConfig,
        raft: Raft,
        proposer: Proposer,
        acks: Acks,
        image: watch::Receiver<Image>,
        electorate: Electorate,
        silence: Silence,
    ) -> (Self, LeaderHandle) {
        let (sender, heartbeats) = mpsc::unbounded_channel();
        let (asking, questions) = mpsc::unbounded_channel();
        let (ready, is_ready) = watch::channel(false);
        let (done, ended) = mpsc::unbounded_channel();
        let (timings, yielding) = (&config.timings, proposer.yielding.clone());
        let leader = Self {
            me: config.me.id,
            electorate,
            members: config.members.clone(),
            balance: config.leader_balance,
            interval: timings.heartbeat,
            session: timings.session,
            raft,
            proposer,
            acks,
            peers: config.peers.clone(),
            losses: config.peers.losses(),
            image,
            heartbeats,
            questions,
            ready,
            yielding,
            silence,
            done,
            ended,
            proposed: HashSet::new(),
            term: 0,
            predecessor: None,
        };
        (leader, LeaderHandle { heartbeats: sender, questions: asking, ready: is_ready })
    }

    pub(super) async fn run(mut self) {
        let mut server = self.raft.server_metrics();
        let mut data = self.raft.data_metrics();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut term: Option<Term> = None;
        loop {
            term = self.current(term);
            let starting = term.as_ref().is_some_and(|t| t.liveness.is_none());
            let leading = term.is_some();
            tokio::select! {
                heartbeat = self.heartbeats.recv() => match heartbeat {
                    Some((heartbeat, reply)) => {
                        // Who asked may have given up.
                        let verdict = term.as_mut().map_or(Verdict::NotLeader, |term| self.heard(term, heartbeat));
                        let _ = reply.send(verdict);
                    }
                    None => return,
                },
                Some(reply) = self.questions.recv() => if let Some(term) = &term {
                    // Who asked may have given up.
                    let _ = reply.send(Observed { signs: term.signs.clone(), permit_left: term.permit.left(Instant::now()) });
                },
                changed = server.changed() => if changed.is_err() { return },
                changed = data.changed(), if starting => if changed.is_err() { return },
                changed = self.image.changed(), if starting => if changed.is_err() { return },
                Some(done) = self.ended.recv() => self.ended(term.as_mut(), &done),
                // One that lags has missed some, which are looked at when their heartbeats are late.
                Ok(lost) = self.losses.recv() => if let Some(term) = &term { self.lost(term, lost) },
                _ = tick.tick(), if leading => if let Some(term) = &mut term { self.tick(term) },
            }
        }
    }

    /// The leadership by now: the same one, another, or none.
    fn current(&mut self, before: Option<Term>) -> Option<Term> {
        let metrics = self.raft.server_metrics();
        let (number, leader) = {
            let metrics = metrics.borrow();
            (metrics.vote.leader_id().term, metrics.current_leader)
        };
        let leads = leader == Some(self.me);
        self.predecessor = leader.filter(|_| !leads).or(self.predecessor);
        if !leads {
            if before.is_some() {
                self.ready.send_replace(false);
            }
            return None;
        }
        self.term = number;
        let mut term = before.filter(|t| t.number == number).unwrap_or_else(|| {
            self.ready.send_replace(false);
            let before = self.silence.before(number, Instant::now());
            // It leads itself from now on.
            self.silence.ends(Instant::now());
            Term {
                number,
                before,
                liveness: None,
                signs: HashMap::new(),
                permit: PermitClock::default(),
                began: Instant::now(),
                balance: self.balance.map(|config| LeaderBalance::new(config, chronik_core::time::Instant(0))),
            }
        });
        if term.liveness.is_none() && self.is_up_to_date(&term) {
            let image = self.image.borrow_and_update().clone();
            if image.cluster_id.is_some() {
                let Before { led_until, leases_end } = term.before;
                let liveness = Liveness::new(self.me, Instant::now(), self.interval, self.session, image);
                // If this one leads again before another one is known to have led, nobody was found gone.
                term.liveness = Some(liveness.after(self.predecessor.take(), led_until, leases_end));
                self.ready.send_replace(true);
                self.tick(&mut term);
            } else {
                let cluster_id = ClusterId(uuid::Uuid::new_v4());
                let members = self.members.clone();
                let metadata_version = MetadataVersion::LATEST;
                let create = MetadataCommand::CreateCluster { cluster_id, members, metadata_version };
                self.propose(Wish::Cluster, create);
            }
        }
        Some(term)
    }

    /// A leader's first entry comes after all that was committed before it.
    fn is_up_to_date(&self, term: &Term) -> bool {
        let applied = self.raft.data_metrics().borrow().last_applied;
        applied.is_some_and(|id| id.leader_id.term == term.number)
    }

    fn heard(&mut self, term: &mut Term, heartbeat: Heartbeat) -> Verdict {
        let Term { number, liveness: Some(liveness), signs, .. } = term else { return Verdict::NotLeader };
        let Heartbeat { broker, epoch, applied, version, disk, damages, stalled, number: heartbeat, connection } =
            heartbeat;
        if liveness.is_overtaken((broker, epoch), heartbeat) {
            return Verdict::Heard;
        }
        signs.insert(broker, Sign { epoch, at: Instant::now(), applied, version, disk, damages });
        let image = self.image.borrow().clone();
        let number = *number;
        let now = Instant::now();
        let heard = liveness.heartbeat(now, &image, (broker, epoch), applied, stalled);
        // A process that another one has taken the place of says nothing of that one's connection.
        let connection = connection.filter(|_| !matches!(heard, Heard::Stale));
        if let Some(connection) = connection.filter(|by| liveness.attached((broker, epoch), by.id)) {
            let done = self.done.clone();
            tokio::spawn(async move {
                connection.ended().await;
                let _ = done.send(Done::Detached { broker, connection: connection.id, term: number });
            });
        }
        match heard {
            // One that is being fenced gets no lease any more.
            Heard::Alive
                if !self.proposed.contains(&Wish::Fence(broker, epoch)) && self.may_give_leases(number, now) =>
            {
                #[cfg(test)]
                self.peers.caller.gives_lease(number, (broker, epoch), now.into_std());
                Verdict::Granted
            }
            Heard::Stalled(others) => {
                if others {
                    self.fence(broker, epoch, "its disk hangs");
                }
                Verdict::Heard
            }
            Heard::Alive | Heard::Behind => Verdict::Heard,
            Heard::Stale => Verdict::Stale,
            Heard::Ready(epoch) => {
                self.propose(Wish::Unfence(broker, epoch), MetadataCommand::Unfence { id: broker, epoch });
                Verdict::Heard
            }
        }
    }

    /// Whether no other leader can have begun to fence before a lease ends that is given for a heartbeat from before `now`:
    /// a majority of the voters has accepted this one lately. See [`super::silence`].
    fn may_give_leases(&self, term: u64, now: Instant) -> bool {
        !self.yielding.is_in(term)
            && self.acks.by_majority((self.me, term), &self.electorate, |_| true, self.silence.own().confirmation)
            && self.silence.allows_lease(term, now)
    }

    fn tick(&mut self, term: &mut Term) {
        let Term { number, liveness: Some(liveness), permit, .. } = term else { return };
        liveness.looks(Instant::now());
        // What it would propose now, its successor finds out by itself.
        if self.yielding.is_in(*number) {
            return;
        }
        let image = self.image.borrow().clone();
        if let Some((id, renewed)) = permit.run_out(Instant::now(), image.permit.as_ref()) {
            let command = MetadataCommand::ClosePermit { permit: id, renewed: Some(renewed) };
            if self.propose(Wish::ClosePermit(id, renewed), command) {
                tracing::warn!(permit = id.0, "the time of a permit to stop a broker has run out");
            }
        }
        for due in liveness.due(Instant::now(), &image) {
            match due {
                Due::Fence(id, epoch) => {
                    #[cfg(test)]
                    self.peers.caller.finds_silent(*number, (id, epoch));
                    self.fence(id, epoch, "it was silent for a session");
                }
                Due::Probe(id, epoch) => {
                    if let Some(broker) = image.brokers.get(&id) {
                        self.probe(id, epoch, *number, broker.replication.clone(), &[Duration::ZERO]);
                    }
                }
            }
        }
        self.balance_leaders(term, &image);
    }

    /// Gives leaderships back to their preferred replicas, if it is time to.
    fn balance_leaders(&mut self, term: &mut Term, image: &Image) {
        // The next ones are chosen when these are known to be elected.
        if self.proposed.contains(&Wish::PreferredLeaders) {
            return;
        }
        let Some(balance) = &mut term.balance else { return };
        let partitions = balance.due(since(term.began), image);
        if partitions.is_empty() {
            return;
        }
        tracing::info!("{} partitions are led by their preferred replicas again", partitions.len());
        let command = MetadataCommand::ElectLeaders { partitions: Some(partitions), election: Election::Preferred };
        self.propose(Wish::PreferredLeaders, command);
    }

    fn fence(&mut self, id: BrokerId, epoch: BrokerEpoch, why: &'static str) {
        if self.yielding.is_in(self.term) {
            return;
        }
        if self.propose(Wish::Fence(id, epoch), MetadataCommand::Fence { id, epoch }) {
            tracing::warn!(broker = %id, %epoch, "fencing broker {id}: {why}");
        }
    }

    /// False if the same is on its way already.
    fn propose(&mut self, wish: Wish, command: MetadataCommand) -> bool {
        if !self.proposed.insert(wish) {
            return false;
        }
        let (proposer, done, term) = (self.proposer.clone(), self.done.clone(), self.term);
        tokio::spawn(async move {
            if let Ok((Err(refusal), _)) = proposer.propose_in(term, command).await {
                tracing::debug!(%refusal, ?wish, "the leader's own proposal was refused");
            }
            // The task may have ended meanwhile.
            let _ = done.send(Done::Proposed(wish));
        });
        true
    }

    /// A connection with a broker has ended: that of replication, or the one that its heartbeats came over.
    fn lost(&self, term: &Term, id: BrokerId) {
        let image = self.image.borrow();
        let Some(broker) = image.alive(id).filter(|_| term.liveness.is_some()) else { return };
        if let Some(epoch) = broker.epoch {
            self.probe(id, epoch, term.number, broker.replication.clone(), &LOOKS);
        }
    }

    /// A broker that is late, or that a connection was lost with, may be gone: then its ports refuse. Anything else says
    /// nothing. It is looked at after each of the pauses.
    fn probe(
        &self,
        broker: BrokerId,
        epoch: BrokerEpoch,
        term: u64,
        replication: Endpoint,
        pauses: &'static [Duration],
    ) {
        let (peers, done) = (self.peers.clone(), self.done.clone());
        let ports: Vec<Endpoint> = std::iter::once(replication).chain(self.electorate.place(broker)).collect();
        tokio::spawn(async move {
            for pause in pauses {
                tokio::time::sleep(*pause).await;
                let at = Instant::now();
                let refusals = ports.iter().map(|port| peers.refuses(broker, port, PROBE_TIMEOUT));
                if futures::future::join_all(refusals).await.into_iter().all(|refuses| refuses) {
                    let _ = done.send(Done::Gone { broker, epoch, term, at });
                }
            }
        });
    }

    fn ended(&mut self, current: Option<&mut Term>, done: &Done) {
        match *done {
            Done::Proposed(wish) => {
                self.proposed.remove(&wish);
            }
            Done::Detached { broker, connection, term } => {
                let Some(current) = current.filter(|current| current.number == term) else { return };
                if current.liveness.as_mut().is_some_and(|liveness| liveness.detached(broker, connection)) {
                    self.lost(current, broker);
                }
            }
            Done::Gone { broker, epoch, term, at } => {
                let Some(Term { number: now, liveness: Some(liveness), .. }) = current else { return };
                let standing = self.image.borrow().alive(broker).and_then(|b| b.epoch) == Some(epoch);
                if *now == term && standing && liveness.is_gone(at, (broker, epoch)) {
                    self.fence(broker, epoch, "its ports refuse connections, and the one of its heartbeats has ended");
                }
            }
        }
    }
}

/// The time since then, as core has it.
fn since(origin: Instant) -> chronik_core::time::Instant {
    chronik_core::time::Instant(0) + origin.elapsed()
}
