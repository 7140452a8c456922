//! Everything there is, and the loop that lets one thing happen after the other.

use crate::activity::Counts;
use crate::checker::{Checker, Invariant};
use crate::clients::{Producer, Reader};
use crate::compaction::Compaction;
use crate::controller::{Controller, partitions};
use crate::damage::Damage;
use crate::disk_errors::DiskErrors;
use crate::elections::Elections;
use crate::failovers::Failovers;
use crate::faults::Faults;
use crate::membership::Beat;
use crate::network::{FAST_US, Frame, Network, NodeId};
use crate::node::{Asked, Node};
use crate::options::{Disks, Options, Report};
use crate::outsider::Outsider;
use crate::passing::Passing;
use crate::patterns::Patterns;
use crate::reassignments::Reassignments;
use crate::rng::Rng;
use crate::storage::{ModelDisk, SimulatedLog, Storage};
use crate::trace::Trace;
use crate::unclean::Unclean;
use chronik_core::cluster::MetadataCommand;
use chronik_core::ids::{BrokerEpoch, MetadataOffset, PartitionEpoch, TopicPartition};
use chronik_core::record::RecordBatch;
use chronik_core::replication::{Acks, Event, ProduceError, Produced, StreamId};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Something that will happen. What happens to a process names its incarnation: another one is not concerned.
#[derive(Debug)]
pub(crate) enum Happening {
    /// An event for one replica.
    Replica(NodeId, u64, TopicPartition, Event),
    /// The next frame of a connection arrives: (follower, leader), connection id, upwards.
    Arrive((NodeId, NodeId), u64, bool),
    /// A frame of a connection that is no more.
    ArriveLate((NodeId, u64), NodeId, BrokerEpoch, Frame),
    /// A broker notices that a connection is gone.
    FollowerLost(NodeId, u64, NodeId),
    /// The same, on the leader's side.
    LeaderLost(NodeId, u64, NodeId, StreamId),
    /// A connection takes batches again.
    Writable((NodeId, NodeId), u64),
    /// A broker's timer.
    Tick(NodeId, u64),
    /// A disk has synced.
    Synced(NodeId, u64),
    /// A broker applies what it has heard of the metadata log.
    Metadata(NodeId, u64),
    /// A broker's heartbeat reaches the controller; sent then, by the broker's clock.
    Heartbeat(NodeId, u64, Beat),
    /// A lease reaches a broker.
    Lease(NodeId, u64, u64),
    /// A registration's answer reaches a broker.
    Registered(NodeId, u64, BrokerEpoch),
    /// An ISR change reaches the controller.
    AlterPartition(NodeId, u64, TopicPartition, MetadataCommand),
    /// An ISR change is known, or taken, to have failed.
    AlterFailed(NodeId, u64, TopicPartition, PartitionEpoch, bool),
    /// A producer's batch reaches a broker.
    Request(NodeId, u64, Asked, TopicPartition, RecordBatch),
    /// An answer reaches a producer.
    Response(Asked, Result<Produced, ProduceError>),
    /// A producer looks at what it waits for.
    Producer(usize),
    /// A reader polls.
    Reader(usize),
    /// A stopped process goes on.
    Resume(NodeId),
    /// A broker gives up what it leads, or its place in the ISR; perhaps as it stops.
    Resign(NodeId, u64, bool),
    /// A broker that has asked to be succeeded in a partition asks for its copy to be given up, once it has applied that
    /// entry; so many times it looks whether it has.
    GiveUpCopy(NodeId, u64, TopicPartition, MetadataOffset, u8),
    /// The next fault.
    Fault,
    /// Somebody moves a partition.
    Reassign,
    /// Somebody has preferred replicas elected.
    Elect,
    /// A broker cleans a log.
    Clean,
    /// A sync is going to fail.
    DiskError,
    /// A topic comes or goes.
    Pass,
    /// A running broker cannot read what it had.
    Damage,
    /// Several things go wrong at once, or are over.
    Pattern,
    /// A broker that does not stay up dies again.
    Flap(NodeId),
    /// An operator looks whether partitions have leaders.
    ElectUncleanly,
    /// A replica is left behind by the others, or alone.
    LeaveBehind,
    /// The controller fails over.
    Failover,
}

/// The world.
pub struct World {
    pub(crate) options: Options,
    pub(crate) now_us: u64,
    pub(crate) steps: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) controller: Controller,
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) min_insync: i32,
    pub(crate) replication_factor: i16,
    /// The producers are older than the topic.
    pub(crate) old_producers: bool,
    /// A broker that never comes back.
    pub(crate) gone: Option<NodeId>,
    pub(crate) producers: Vec<Producer>,
    pub(crate) readers: Vec<Reader>,
    /// How often a producer that looks around has something to write. Where they write little, more elections and
    /// crashes fit into a run.
    pub(crate) writes_per_mille: u64,
    pub(crate) faults: Faults,
    pub(crate) reassignments: Reassignments,
    pub(crate) elections: Elections,
    pub(crate) compaction: Compaction,
    pub(crate) disk_errors: DiskErrors,
    pub(crate) passing: Passing,
    pub(crate) damage: Damage,
    pub(crate) patterns: Patterns,
    pub(crate) outsider: Outsider,
    pub(crate) unclean: Unclean,
    pub(crate) failovers: Failovers,
    pub(crate) checker: Checker,
    pub(crate) counts: Counts,
}

/// After the faults, all must be well within so much time.
const HEALING_US: u64 = 30_000_000;
/// And within so much, where somebody never gets well: a leader whose disk stays slow takes 300 ms for each step of a
/// producer.
const HEALING_BESIDE_US: u64 = 120_000_000;

impl World {
    /// A world in which nothing has happened.
    pub fn new(options: Options) -> Self {
        match options.disks {
            Disks::Model => Self::on(options, |_| Box::<ModelDisk>::default()),
            Disks::Simulated => {
                let plant = options.plant;
                let compacts = Compaction::new(options.seed, plant).some;
                Self::on(options, |seed| Box::new(SimulatedLog::new(seed, plant, compacts)))
            }
        }
    }

    /// A world on such disks, each made from a seed.
    fn on(options: Options, disk: impl Fn(u64) -> Box<dyn Storage>) -> Self {
        let mut rng = Rng::new(options.seed);
        let brokers = *[3, 3, 3, 4, 5].get(rng.index(5)).unwrap_or(&3);
        let min_insync = if rng.per_mille(250) { 1 } else { 2 };
        let partitions = partitions(rng.within(1, 2) as i32);
        let nodes = (0..brokers).map(|id| Node::new(id, disk(rng.any()), rng.any())).collect();
        let per_partition = rng.within(1, 2);
        let mut producers: Vec<Producer> = (0..partitions.len() as u64 * per_partition)
            .map(|n| Producer::new(n as usize, partitions[n as usize % partitions.len()], Acks::All))
            .collect();
        let readers = partitions.iter().map(|tp| Reader::new(*tp)).collect();
        if rng.per_mille(300) {
            let acks = if rng.per_mille(700) { Acks::Leader } else { Acks::None };
            producers.push(Producer::new(producers.len(), partitions[0], acks));
        }
        let compacts = Compaction::new(options.seed, options.plant).some;
        let damages = Damage::new(&options).some;
        let mut world = Self {
            now_us: 0,
            steps: 0,
            order: 0,
            queue: BTreeMap::new(),
            trace: Trace::new(options.trace),
            nodes,
            network: Network::new([FAST_US, FAST_US, 20_000, 80_000][rng.index(4)]),
            controller: Controller::new(brokers, options.plant),
            partitions,
            min_insync,
            replication_factor: [3, 3, 3, 3, 2, 1][rng.index(6)],
            old_producers: rng.per_mille(300),
            gone: None,
            producers,
            readers,
            writes_per_mille: [600, 600, 100][rng.index(3)],
            faults: Faults::new(&mut rng),
            reassignments: Reassignments::new(options.seed, options.plant),
            elections: Elections::new(options.seed, options.plant),
            checker: Checker::new(compacts),
            compaction: Compaction::new(options.seed, options.plant),
            disk_errors: DiskErrors::new(options.seed, options.plant),
            passing: Passing::new(options.seed, options.plant),
            damage: Damage::new(&options),
            patterns: Patterns::new(&options),
            outsider: Outsider::new(&options),
            unclean: Unclean::new(&options, compacts || damages),
            failovers: Failovers::new(&options),
            counts: Counts::default(),
            rng,
            options,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.nodes.len() {
            let at = if self.rng.per_mille(500) { 0 } else { self.rng.within(0, 3_000_000) };
            self.at(at, Happening::Resume(node));
        }
        for n in 0..self.producers.len() {
            self.at(1_000, Happening::Producer(n));
        }
        for n in 0..self.readers.len() {
            self.at(1_000, Happening::Reader(n));
        }
        self.at(500_000, Happening::Fault);
        self.first_reassignment();
        self.first_election();
        self.first_cleaning();
        self.first_disk_error();
        self.first_passing();
        self.first_damage();
        self.first_pattern();
        self.first_unclean();
        self.first_failover();
    }

    /// Lets it happen at that time.
    pub(crate) fn at(&mut self, us: u64, what: Happening) {
        self.order += 1;
        self.queue.insert((us.max(self.now_us), self.order), what);
    }

    /// Lets it happen within that range of microseconds from now.
    pub(crate) fn within(&mut self, low_us: u64, high_us: u64, what: Happening) {
        let at = self.now_us + self.rng.within(low_us, high_us);
        self.at(at, what);
    }

    /// Lets all happen until the end, or until a rule is broken.
    pub fn run(mut self) -> Report {
        let mut healed_us = None;
        let mut converged = false;
        while !converged && self.checker.violation().is_none() {
            let Some(((at, _), what)) = self.queue.pop_first() else { break };
            self.now_us = at;
            self.steps += 1;
            self.happen_and_check(what);
            match healed_us {
                None if self.steps >= self.options.steps => {
                    self.heal();
                    healed_us = Some(self.now_us);
                }
                Some(since) if self.now_us - since > self.healing_us() => {
                    let why = self.not_converged().unwrap_or_default();
                    let how = format!("not converged {} us after the last fault: {why}", self.healing_us());
                    self.checker.fail(Invariant::Converges, how);
                }
                Some(_) => converged = self.steps.is_multiple_of(64) && self.not_converged().is_none(),
                None => {}
            }
        }
        self.report()
    }

    fn healing_us(&self) -> u64 {
        // A copy that nobody counts on is cut back after ten seconds, and a producer waits for five.
        if self.outsider.node.is_some() || self.unclean.some { HEALING_BESIDE_US } else { HEALING_US }
    }

    /// The product asserts its own rules; whatever breaks one is to be named with its seed.
    fn happen_and_check(&mut self, what: Happening) {
        let done = catch_unwind(AssertUnwindSafe(|| {
            self.happen(what);
            self.check_all();
        }));
        if let Err(panic) = done {
            let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let how = panic.downcast_ref::<String>().cloned().or(literal).unwrap_or_default();
            self.checker.fail(Invariant::NoPanic, how);
        }
    }

    fn report(mut self) -> Report {
        let counts = self.controller.counts.clone();
        self.counts.add(&counts);
        if self.checker.violation().is_none() {
            self.check_at_end();
        }
        Report {
            seed: self.options.seed,
            trace_hash: self.trace.hash(),
            steps: self.steps,
            simulated_us: self.now_us,
            acknowledged: self.producers.iter().map(Producer::acknowledged).sum(),
            elections: self.checker.leaderships(),
            faults: self.faults.count(),
            counts: self.counts,
            violation: self.checker.violation().cloned(),
            lines: self.trace.lines().to_vec(),
        }
    }

    fn happen(&mut self, what: Happening) {
        if let Some(until_us) = Self::concerned(&what).map(|node| self.nodes[node].stopped_until_us)
            && until_us > self.now_us
        {
            self.at(until_us, what);
            return;
        }
        match what {
            Happening::Replica(node, inc, tp, event) => self.replica_event(node, inc, tp, event),
            Happening::Arrive(ends, id, up) => self.arrive(ends, id, up),
            Happening::ArriveLate((node, inc), from, epoch, frame) => self.arrive_late((node, inc), from, epoch, frame),
            Happening::FollowerLost(node, inc, leader) => self.follower_lost(node, inc, leader),
            Happening::LeaderLost(node, inc, follower, stream) => self.leader_lost(node, inc, follower, stream),
            Happening::Writable(ends, id) => self.writable(ends, id),
            Happening::Tick(node, inc) => self.tick(node, inc),
            Happening::Synced(node, inc) => self.synced(node, inc),
            Happening::Metadata(node, inc) => self.metadata(node, inc),
            Happening::Heartbeat(node, inc, beat) => self.heartbeat(node, inc, beat),
            Happening::Lease(node, inc, until_us) => self.lease(node, inc, until_us),
            Happening::Registered(node, inc, epoch) => self.registered(node, inc, epoch),
            Happening::AlterPartition(node, inc, tp, command) => self.alter_partition(node, inc, tp, command),
            Happening::AlterFailed(node, inc, tp, epoch, refused) => {
                let event = Event::AlterPartitionFailed { partition_epoch: epoch, refused };
                self.replica_event(node, inc, tp, event);
            }
            Happening::Request(node, inc, asked, tp, batch) => self.request(node, inc, asked, tp, batch),
            Happening::Response(asked, result) => self.response(asked, result),
            Happening::Producer(n) => self.producer(n),
            Happening::Reader(n) => self.reader(n),
            Happening::Resume(node) => self.resume(node),
            Happening::Resign(node, inc, stops) => self.resign(node, inc, stops),
            Happening::GiveUpCopy(node, inc, tp, resigned_at, tries) => {
                self.give_up_copy_again((node, inc), tp, resigned_at, tries);
            }
            Happening::Fault => self.fault(),
            Happening::Reassign => self.reassign(),
            Happening::Elect => self.elect(),
            Happening::Clean => self.clean(),
            Happening::DiskError => self.disk_error(),
            Happening::Pass => self.pass(),
            Happening::Damage => self.damage(),
            Happening::Pattern => self.pattern(),
            Happening::Flap(node) => self.flap(node),
            Happening::ElectUncleanly => self.elect_uncleanly(),
            Happening::LeaveBehind => self.leave_behind(),
            Happening::Failover => self.fail_over(),
        }
    }
}

impl World {
    /// The broker to whose process it happens: it has to wait while that is stopped.
    fn concerned(what: &Happening) -> Option<NodeId> {
        match what {
            Happening::Replica(node, ..)
            | Happening::ArriveLate((node, _), ..)
            | Happening::FollowerLost(node, ..)
            | Happening::LeaderLost(node, ..)
            | Happening::Tick(node, _)
            | Happening::Synced(node, _)
            | Happening::Metadata(node, _)
            | Happening::Lease(node, ..)
            | Happening::Registered(node, ..)
            | Happening::AlterFailed(node, ..)
            | Happening::Resign(node, ..)
            | Happening::GiveUpCopy(node, ..)
            | Happening::Request(node, ..) => Some(*node),
            Happening::Arrive((follower, leader), _, up) => Some(if *up { *leader } else { *follower }),
            Happening::Writable((_, leader), _) => Some(*leader),
            Happening::Heartbeat(..)
            | Happening::AlterPartition(..)
            | Happening::Response(..)
            | Happening::Producer(_)
            | Happening::Reader(_)
            | Happening::Resume(_)
            | Happening::Fault
            | Happening::Reassign
            | Happening::Elect
            | Happening::Clean
            | Happening::DiskError
            | Happening::Pass
            | Happening::Damage
            | Happening::Pattern
            | Happening::Flap(_)
            | Happening::ElectUncleanly
            | Happening::LeaveBehind
            | Happening::Failover => None,
        }
    }
}

/// Notes something in the world's trace.
macro_rules! note {
    ($world:expr, $($what:tt)*) => {
        $world.trace.note($world.now_us, format_args!($($what)*))
    };
}
pub(crate) use note;
