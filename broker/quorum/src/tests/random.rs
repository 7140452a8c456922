//! A quorum whose voters come and go while brokers are killed and messages get lost, one way or both: whatever happens,
//! a term has one leader, what was acknowledged is there on every broker, and when the faults are over all goes on.
//!
//! With sessions of a second, nobody is fenced for its silence while a lease of it runs.
//!
//! A seed says what is done; what comes of it is as the machine has it.

use super::*;
use crate::cuts::{What, leases_of_silent};
use chronik_admin::{self as api, Admin as _};
use openraft::ServerState;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use std::sync::{Mutex, PoisonError};
use tonic::Request;

const BROKERS: usize = 5;
/// Faults of one run, with a pause of this after each at most.
const FAULTS: usize = 40;
const PAUSE_MS: u64 = 400;
/// Brokers that may be away at a time.
const AWAY: usize = 2;
/// Entries after which a snapshot is made: who was away for longer gets one.
const SNAPSHOT_AFTER: u64 = 10;
/// A call that is not answered by then is made to somebody else.
const CALL: Duration = Duration::from_secs(2);

/// A broker that runs, for those who ask it something.
#[derive(Clone)]
struct Asked {
    handle: ControllerHandle,
    admin: crate::admin::AdminHandle,
    raft: Raft,
}

/// What is known of a run, and shared by those who make it.
#[derive(Default)]
struct Known {
    running: BTreeMap<usize, Asked>,
    /// The last entry of each broker's log when it was stopped.
    held: BTreeMap<usize, u64>,
    /// Who led last in which term.
    leaders: BTreeMap<u64, BrokerId>,
    /// Whose entries of a term were applied.
    decided: BTreeMap<u64, BrokerId>,
    acknowledged: Vec<String>,
    /// Who votes, each time that a change was answered.
    changes: Vec<Vec<i32>>,
    broken: Vec<String>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Known>>);

impl Shared {
    fn with<T>(&self, what: impl FnOnce(&mut Known) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Somebody who runs, if anybody does.
    fn anybody(&self) -> Option<Asked> {
        self.with(|known| known.running.values().collect::<Vec<_>>().choose(&mut rand::rng()).map(|one| (*one).clone()))
    }

    /// The last entry that is in each broker's log, or was when it ended.
    fn held(&self) -> BTreeMap<usize, u64> {
        self.with(|known| {
            let mut held = known.held.clone();
            let running = known.running.iter();
            held.extend(
                running.map(|(id, one)| (*id, one.raft.data_metrics().borrow().last_log.map_or(0, |l| l.index))),
            );
            held
        })
    }

    /// The last entry that is known to be committed.
    fn committed(&self) -> u64 {
        let applied = |one: &Asked| one.raft.data_metrics().borrow().last_applied.map_or(0, |id| id.index);
        self.with(|known| known.running.values().map(applied).max().unwrap_or(0))
    }
}

/// Notes who leads and whose entries are applied, for as long as a broker runs.
async fn watch_leadership(id: BrokerId, raft: Raft, shared: Shared) {
    let (mut metrics, mut data) = (raft.server_metrics(), raft.data_metrics());
    loop {
        let applied = data.borrow_and_update().last_applied.map(|id| id.leader_id);
        if let Some(openraft::CommittedLeaderId { term, node_id }) = applied {
            shared.with(|known| {
                let decided = *known.decided.entry(term).or_insert(node_id);
                if decided != node_id {
                    known.broken.push(format!("in term {term} entries of {decided} and of {node_id} are committed"));
                }
            });
        }
        let (state, term) = {
            let metrics = metrics.borrow_and_update();
            (metrics.state, metrics.vote.leader_id().term)
        };
        if state == ServerState::Leader {
            shared.with(|known| {
                // openraft lets a voter go on to a candidate of the same term with a greater id: such a one may depose
                // the other, and never the other way round.
                let last = known.leaders.entry(term).or_insert(id);
                if id < *last {
                    let last = *last;
                    known.broken.push(format!("broker {id} leads in term {term} after broker {last}"));
                } else {
                    *last = id;
                }
            });
        }
        let changed = tokio::select! {
            changed = metrics.changed() => changed,
            changed = data.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Creates topics, by whoever is there, and notes what is acknowledged.
async fn write(shared: Shared, stop: CancellationToken) {
    for n in 0.. {
        if stop.is_cancelled() {
            return;
        }
        let name = format!("t{n}");
        let created = match shared.anybody() {
            Some(one) => one.handle.create_topic(topic(&name, 1), CALL).await.is_ok(),
            None => false,
        };
        if created {
            shared.with(|known| known.acknowledged.push(name));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Some brokers, as many as voters are.
fn some_voters(random: &mut StdRng) -> Vec<i32> {
    let mut all: Vec<i32> = (0..BROKERS as i32).collect();
    all.shuffle(random);
    all.truncate(*[1, 3, 3, 5].choose(random).unwrap());
    all.sort_unstable();
    all
}

/// Asks for other voters, again and again; each change until it is answered.
async fn change_voters(shared: Shared, mut random: StdRng, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let voters = some_voters(&mut random);
        while !stop.is_cancelled() && !ask_for(&shared, &voters).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whether those vote by now. A majority of them has all that was committed before they were asked for.
async fn ask_for(shared: &Shared, voters: &[i32]) -> bool {
    let Some(one) = shared.anybody() else { return false };
    let before = shared.committed();
    let request = api::ChangeVotersRequest { voters: voters.to_vec(), seen: Vec::new() };
    let answer = tokio::time::timeout(CALL, one.admin.change_voters(Request::new(request))).await;
    if !answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.into_inner().refusals.is_empty())) {
        return false;
    }
    let held = shared.held();
    let caught_up = voters.iter().filter(|id| held.get(&(**id as usize)).is_some_and(|index| *index >= before)).count();
    shared.with(|known| {
        known.changes.push(voters.to_vec());
        if caught_up <= voters.len() / 2 {
            known.broken.push(format!("{voters:?} vote, and {caught_up} of them have entry {before}: {held:?}"));
        }
    });
    true
}

fn others(id: BrokerId) -> impl Iterator<Item = BrokerId> {
    (0..BROKERS as i32).map(BrokerId).filter(move |other| *other != id)
}

struct World {
    cluster: Cluster,
    shared: Shared,
    running: BTreeMap<usize, (Broker, tokio::task::JoinHandle<()>)>,
    did: Vec<String>,
}

impl World {
    async fn start(&mut self, id: usize) {
        let broker = self.cluster.start(id).await;
        let raft = broker.controller.raft.clone();
        let asked = Asked { handle: broker.handle(), admin: broker.controller.admin(), raft: raft.clone() };
        self.shared.with(|known| known.running.insert(id, asked));
        let watcher = tokio::spawn(watch_leadership(broker.id, raft, self.shared.clone()));
        self.running.insert(id, (broker, watcher));
    }

    /// As if it were killed: it hands nothing over.
    async fn stop(&mut self, id: usize) {
        let Some((broker, watcher)) = self.running.remove(&id) else { return };
        self.shared.with(|known| known.running.remove(&id));
        let raft = broker.controller.raft.clone();
        broker.stop().await;
        watcher.abort();
        let held = raft.data_metrics().borrow().last_log.map_or(0, |id| id.index);
        self.shared.with(|known| known.held.insert(id, held));
    }

    /// What the broker sends does not arrive at the others.
    fn mute(&self, id: BrokerId) {
        others(id).for_each(|other| self.cluster.cuts.cut(id, other));
    }

    /// What the others send does not arrive at the broker.
    fn deafen(&self, id: BrokerId) {
        others(id).for_each(|other| self.cluster.cuts.cut(other, id));
    }

    /// What happens to who leads, if anything: it lives, and is taken for gone.
    fn fault_of_leader(&self, random: &mut StdRng, leader: usize) -> String {
        let id = BrokerId(leader as i32);
        let alone = random.random_bool(0.7);
        if alone {
            self.mute(id);
            self.deafen(id);
        }
        let seems_gone = random.random_bool(0.7);
        if seems_gone {
            self.cluster.cuts.refuse(self.cluster.controllers[leader].port());
            self.running.values().for_each(|(broker, _)| broker.peers.lost(id));
        }
        format!("{leader}, which led last: alone {alone}, seems to be gone {seems_gone}")
    }

    async fn fault(&mut self, random: &mut StdRng) {
        let (one, other) = (random.random_range(0..BROKERS), random.random_range(0..BROKERS));
        let (a, b) = (BrokerId(one as i32), BrokerId(other as i32));
        let leader = self.shared.with(|known| known.leaders.last_key_value().map(|(_, id)| id.0 as usize));
        let did = match random.random_range(0..13) {
            0..=2 if self.running.len() + AWAY > BROKERS => {
                self.stop(one).await;
                format!("stop {one}")
            }
            3 if self.running.len() + AWAY > BROKERS => {
                let leader = leader.unwrap_or(one);
                self.stop(leader).await;
                format!("stop {leader}, which led last")
            }
            0..=5 => {
                let away = (0..BROKERS).find(|id| !self.running.contains_key(id));
                if let Some(away) = away {
                    self.start(away).await;
                }
                format!("start {away:?}")
            }
            6 => {
                self.cluster.cuts.cut(a, b);
                format!("cut {one} to {other}")
            }
            7 => {
                self.deafen(a);
                format!("{one} is deaf")
            }
            8 => {
                self.mute(a);
                format!("{one} is mute")
            }
            9 => {
                self.mute(a);
                self.deafen(a);
                format!("{one} is alone")
            }
            10 if leader.is_some_and(|id| self.running.contains_key(&id)) => {
                self.fault_of_leader(random, leader.unwrap_or(one))
            }
            _ => {
                self.cluster.cuts.heal();
                "heal".to_owned()
            }
        };
        self.did.push(did);
    }

    async fn heal(&mut self) {
        self.cluster.cuts.heal();
        for id in 0..BROKERS {
            if !self.running.contains_key(&id) {
                self.start(id).await;
            }
        }
    }
}

async fn one_run(seed: u64, timings: Timings) {
    let mut random = StdRng::seed_from_u64(seed);
    let cluster = Cluster { timings, snapshot_entries: SNAPSHOT_AFTER, ..Cluster::growing(1, BROKERS) };
    let mut world = World { cluster, shared: Shared::default(), running: BTreeMap::new(), did: Vec::new() };
    for id in 0..BROKERS {
        world.start(id).await;
        world.running[&id].0.is_serving().await;
    }
    let (shared, stop) = (world.shared.clone(), CancellationToken::new());
    let three = || async { ask_for(&shared, &[0, 1, 2]).await.then_some(()) };
    eventually("three vote", three).await;
    let tasks = [
        tokio::spawn(write(shared.clone(), stop.clone())),
        tokio::spawn(change_voters(shared.clone(), StdRng::seed_from_u64(seed), stop.clone())),
    ];
    for _ in 0..FAULTS {
        world.fault(&mut random).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..PAUSE_MS))).await;
    }
    world.heal().await;
    stop.cancel();
    for task in tasks {
        task.await.unwrap();
    }
    let all: Vec<i32> = (0..BROKERS as i32).collect();
    let everybody = || async { ask_for(&shared, &all).await.then_some(()) };
    eventually("everybody votes", everybody).await;
    let last = format!("last-{seed}");
    let created = || async { shared.anybody()?.handle.create_topic(topic(&last, BROKERS as i16), DEADLINE).await.ok() };
    eventually("there is a last topic", created).await;

    let handles: Vec<ControllerHandle> = world.running.values().map(|(broker, _)| broker.handle()).collect();
    let same_offset = || async {
        let images: Vec<Image> = handles.iter().map(ControllerHandle::image).collect();
        let there = |image: &Image| image.topic_by_name(&last).is_some() && image.offset == images[0].offset;
        images.iter().all(there).then_some(images)
    };
    let images = eventually("everybody has come as far as the others", same_offset).await;
    let Known { acknowledged, changes, broken, leaders, .. } = shared.with(std::mem::take);
    let context = format!("seed {seed}, after {}", world.did.join(", "));
    assert_eq!(broken, [""; 0], "{context}");
    let deeds = world.cluster.cuts.deeds();
    let silent = deeds.iter().filter(|deed| deed.what != What::GaveLease).count();
    assert_eq!(leases_of_silent(&deeds, timings.lease), [""; 0], "{context}");
    for (id, image) in images.iter().enumerate() {
        assert!(*image == images[0], "{context}: broker {id} has not what the first one has");
        let missing: Vec<_> = acknowledged.iter().filter(|name| image.topic_by_name(name).is_none()).collect();
        assert!(missing.is_empty(), "{context}: broker {id} lacks {missing:?} of {}", acknowledged.len());
    }
    println!(
        "{context}: {} topics, {} terms, {} snapshots, {silent} found silent, voters {changes:?}",
        acknowledged.len(),
        leaders.len(),
        world.cluster.cuts.snapshots()
    );
    assert!(!acknowledged.is_empty(), "nothing was done: {context}");
    for (broker, watcher) in std::mem::take(&mut world.running).into_values() {
        watcher.abort();
        broker.stop().await;
    }
}

/// Other seeds are run by saying which: `CHRONIK_SEED=7`.
fn seed() -> u64 {
    match std::env::var("CHRONIK_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::rng().random_range(0..1_000_000),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_come_and_go_while_brokers_are_killed_and_messages_are_lost() {
    one_run(seed(), Cluster::patient(BROKERS).timings).await;
}

/// Whoever is alone for a second is fenced here, and whoever the machine has no time for.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_fenced_for_its_silence_while_its_lease_runs() {
    one_run(seed(), Timings::default()).await;
}
