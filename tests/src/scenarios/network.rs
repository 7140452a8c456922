//! A network that loses or delays what brokers send to each other, under idempotent producers and a consumer group. The
//! brokers are real processes, each in a network namespace of its own. While something is wrong with the network, who can
//! talk to a majority is written to within a bound; when it is mended, all replicas come back into the in-sync sets, and
//! what was acknowledged is there once and in order. Then other brokers, which are set up for a wide area, have one between
//! them.

mod wide_area;

use super::failover::{BALANCE, controller_leader};
use super::full_load::FENCES;
use super::{Settings, TimeLimit};
use crate::consuming::ConsumingGroup;
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::metadata::{Metadata, under_replicated};
use crate::harness::network::Fault::{Late, Lost, LostTo};
use crate::harness::network::Host::{Broker, Clients};
use crate::harness::network::{Network, Rule};
use crate::harness::wait;
use crate::load::{Load, verify};
use crate::probe::Probe;
use crate::report::{Report, Table, ms};
use anyhow::{Context as _, Result, ensure};
use std::fmt::{self, Display};
use std::thread;
use std::time::{Duration, Instant};

const BROKERS: usize = 3;
const PARTITIONS: usize = 6;
/// What the clients write to, and what the probe writes to.
const TOPICS: [&str; 2] = ["network", "network-probe"];
/// Records a second of each of two writers.
const RATE: u32 = 300;
/// One way, between any two brokers.
const DELAY: Duration = Duration::from_millis(200);
/// A disturbance lasts so long at least: a session (1 s), and what a leader waits for a member that stands still (1.5 s).
const LASTS: Duration = Duration::from_secs(2);
/// From the mending of the network until every replica is in sync: a connection that is dialled again a second after a try
/// that failed, the data, and an ISR change.
const REJOINED: TimeLimit = TimeLimit { target: Duration::from_secs(5), always: Duration::from_secs(30) };

/// What a broker logs when it gives up what it leads, as no other one reaches it.
const GIVES_UP: &str = "No other broker reaches this one";

/// What is wrong with the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    /// What one broker sends to another does not come there. Each of the two leads partitions that the other follows, and
    /// neither leads the controller.
    OneWay,
    /// What a broker sends to the controller's leader does not come there.
    ToController,
    /// What the controller's leader sends to one of the others does not come there.
    FromController,
    /// The controller's leader sends to all, and gets nothing.
    Deaf,
    /// The controller's leader gets all, and sends nothing.
    Mute,
    /// Two brokers see a third and not each other; one of the two leads the controller.
    Bridge,
    /// The same, and the third leads the controller.
    BridgeOfController,
    /// A broker and all others, clients too, do not see each other.
    CutOff,
    /// The same with the one that leads the controller.
    ControllerCutOff,
    /// Nothing comes to the port for followers of a broker, which the controller hears as before.
    NoFollowers,
    /// All that a broker sends to others, and gets from them, comes late.
    Slow,
    /// All that brokers send to each other comes late: later than those answer in time who are set up for a fast network.
    AllSlow,
}

use Disturbance::{
    AllSlow, Bridge, BridgeOfController, ControllerCutOff, CutOff, Deaf, FromController, Mute, NoFollowers, OneWay,
    Slow, ToController,
};

impl Disturbance {
    const ALL: [Self; 12] = [
        OneWay,
        ToController,
        FromController,
        Deaf,
        Mute,
        Bridge,
        BridgeOfController,
        CutOff,
        ControllerCutOff,
        NoFollowers,
        Slow,
        AllSlow,
    ];

    /// The rules that make it, for who leads the controller and the two others; and for the first one's port for followers.
    fn rules(self, controller: usize, [one, other]: [usize; 2], replication: u16) -> Vec<Rule> {
        let (leader, a, b) = (Broker(controller), Broker(one), Broker(other));
        let all = [Clients, leader, a, b];
        let brokers = [leader, a, b];
        let others = |of| all.into_iter().filter(move |host| *host != of);
        let peers = |of| brokers.into_iter().filter(move |host| *host != of);
        let both_ways = |x, y, fault| [(x, y, fault), (y, x, fault)];
        match self {
            OneWay => vec![(a, b, Lost)],
            ToController => vec![(a, leader, Lost)],
            FromController => vec![(leader, a, Lost)],
            Deaf => others(leader).map(|from| (from, leader, Lost)).collect(),
            Mute => others(leader).map(|to| (leader, to, Lost)).collect(),
            Bridge => both_ways(leader, a, Lost).to_vec(),
            BridgeOfController => both_ways(a, b, Lost).to_vec(),
            CutOff => others(a).flat_map(|host| both_ways(a, host, Lost)).collect(),
            ControllerCutOff => others(leader).flat_map(|host| both_ways(leader, host, Lost)).collect(),
            NoFollowers => peers(a).map(|from| (from, a, LostTo(replication))).collect(),
            Slow => peers(a).flat_map(|host| both_ways(a, host, Late)).collect(),
            AllSlow => brokers.into_iter().flat_map(|from| peers(from).map(move |to| (from, to, Late))).collect(),
        }
    }

    /// How long a partition may go without a write while it lasts; `None` where no majority can talk as fast as it has to.
    fn limit(self) -> Option<TimeLimit> {
        let target = match self {
            // Who is not heard is fenced after a session (1 s); who does not follow leaves the ISR after 1.5 s.
            OneWay | ToController | Bridge | BridgeOfController | CutOff | Slow => 2_000,
            // Another leads the controller when the leader has not been heard for 0.6 s at most, and gives all a session.
            FromController | Mute | ControllerCutOff => 2_500,
            // It is heard until the connections break on which nothing is acknowledged, 0.8 s at most.
            Deaf => 3_500,
            // Its followers' connections end after a second of silence, and it waits for others for a session and a half.
            NoFollowers => 5_000,
            AllSlow => return None,
        };
        Some(TimeLimit { target: Duration::from_millis(target), always: Duration::from_secs(10) })
    }
}

impl Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OneWay => "a leader does not reach a follower",
            ToController => "a broker does not reach the controller's leader",
            FromController => "the controller's leader does not reach a broker",
            Deaf => "the controller's leader is deaf",
            Mute => "the controller's leader is mute",
            Bridge => "the controller's leader and a broker see a third alone",
            BridgeOfController => "two brokers see the controller's leader alone",
            CutOff => "a broker is cut off",
            ControllerCutOff => "the controller's leader is cut off",
            NoFollowers => "a broker's replication port is blocked",
            Slow => "a broker is 200 ms away",
            AllSlow => "all brokers are 200 ms apart",
        })
    }
}

/// Each disturbance once, five times with `--full`, or as often as the settings say; and a wide area.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let network = Network::enter(BROKERS, DELAY)?;
    disturb_all(&network, settings, report)?;
    network.set(&[])?;
    // What is looked at there is in the logs of Chronik's brokers.
    if let Software::Chronik(_) = settings.software {
        wide_area::run(&network, settings, report)?;
    }
    Ok(())
}

fn disturb_all(network: &Network, settings: &Settings, report: &mut Report) -> Result<()> {
    let rounds = settings.rounds.unwrap_or(if settings.full { 5 } else { 1 });
    let mut world = World::new(network, settings, &BALANCE)?;
    let mut seen = Vec::new();
    'rounds: for round in 0..rounds {
        for disturbance in Disturbance::ALL {
            let outcome = world.disturb(disturbance, round, &settings.software).with_context(|| world.cluster.tails());
            let failed = outcome.is_err();
            let state = outcome.map(|(figures, state)| {
                seen.push((disturbance, figures));
                state
            });
            let name = format!("round {}: {disturbance}: what was acknowledged is there once and in order", round + 1);
            report.check_result(name, state);
            if failed {
                break 'rounds;
            }
        }
    }
    judge(settings, &seen, report);
    if report.has_failures() {
        println!("kept: {}", world.cluster.keep().display());
    } else {
        let name = "the group skips nothing and goes back nowhere";
        report.check_result(name, world.group.end(PATIENCE));
    }
    Ok(())
}

/// What one disturbance showed.
#[derive(Clone, Copy)]
struct Seen {
    /// The longest time without a write on any partition while it lasted.
    no_writes: Option<Duration>,
    /// The same from when the network was mended until all replicas were in sync.
    after: Duration,
    rejoined: Duration,
}

fn judge(settings: &Settings, seen: &[(Disturbance, Seen)], report: &mut Report) {
    let columns = ["what was wrong", "nobody could write", "when it was mended", "in every ISR again after"];
    let mut table = Table::new("The longest time without a write on any partition", &columns);
    for (disturbance, Seen { no_writes, after, rejoined }) in seen {
        let no_writes = no_writes.map_or_else(|| "-".to_owned(), ms);
        table.row(vec![disturbance.to_string(), no_writes, ms(*after), ms(*rejoined)]);
    }
    report.table(table);
    for (disturbance, Seen { no_writes, rejoined, .. }) in seen {
        if let (Some(limit), Some(no_writes)) = (disturbance.limit(), no_writes) {
            let name = format!("{disturbance}: the longest time in which nobody could write to a partition");
            limit.check(settings, report, &name, no_writes.as_secs_f64() * 1e3, "");
        }
        let name = format!("{disturbance}: until all replicas are in sync again");
        REJOINED.check(settings, report, &name, rejoined.as_secs_f64() * 1e3, "");
    }
}

struct World<'a> {
    network: &'a Network,
    cluster: Cluster,
    metadata: Metadata,
    loads: [Load; 2],
    group: ConsumingGroup,
    probe: Probe,
}

impl<'a> World<'a> {
    fn new(network: &'a Network, settings: &Settings, properties: &[(&str, &str)]) -> Result<Self> {
        let properties = [properties, &[("group.initial.rebalance.delay.ms", "300")]].concat();
        let mut cluster = Cluster::in_network(network, &settings.software, &properties)?;
        cluster.start_all()?;
        cluster.wait_for_brokers(BROKERS)?;
        let bootstrap = cluster.bootstrap();
        let metadata = Metadata::new(&bootstrap)?;
        for topic in TOPICS {
            metadata.create_topic(topic, PARTITIONS as i32, BROKERS as i32, &[])?;
        }
        let load = |writer| Load::start(writer, &bootstrap, TOPICS[0], PARTITIONS, RATE);
        let loads = [load("a")?, load("b")?];
        let group = ConsumingGroup::start(&bootstrap, "network", "consumer", TOPICS[0], PARTITIONS, 3)?;
        let probe = Probe::start(&cluster, TOPICS[1], PARTITIONS)?;
        Ok(Self { network, cluster, metadata, loads, group, probe })
    }

    /// Disturbs the network for a while, and mends it.
    fn disturb(&mut self, disturbance: Disturbance, round: usize, software: &Software) -> Result<(Seen, String)> {
        self.wait_for_order()?;
        let controller = controller_leader(&self.cluster, software)?;
        let mut others = [(controller + 1) % BROKERS, (controller + 2) % BROKERS];
        if round % 2 == 1 {
            others.reverse();
        }
        println!("broker {controller} leads the controller: {disturbance}: {others:?}");
        let watched = disturbance == NoFollowers && matches!(software, Software::Chronik(_));
        let before = if watched { Some(self.signs(others[0])?) } else { None };
        let began = Instant::now();
        self.network.set(&disturbance.rules(controller, others, self.cluster.ports(others[0]).replication))?;
        let no_writes = if disturbance.limit().is_some() {
            // What was on its way before is acknowledged still.
            self.probe.acknowledged.wait_for_each_after(began + Duration::from_secs(1), PATIENCE)?;
            thread::sleep((began + LASTS).saturating_duration_since(Instant::now()));
            let now = Instant::now();
            self.probe.acknowledged.wait_for_each_after(now, PATIENCE)?;
            Some(self.probe.acknowledged.longest_gap(began, now))
        } else {
            thread::sleep(LASTS);
            None
        };
        if let Some((given_up, fenced)) = before {
            let (given_up_by_now, fenced_by_now) = self.signs(others[0])?;
            ensure!(given_up_by_now > given_up, "broker {} has given nothing up", others[0]);
            ensure!(fenced_by_now == fenced, "broker {} is fenced, which the controller can hear", others[0]);
        }
        let mended = Instant::now();
        self.network.set(&[])?;
        self.wait_for_all_in_sync()?;
        let rejoined = mended.elapsed();
        self.cluster.check_alive()?;
        let in_sync_at = Instant::now();
        self.probe.acknowledged.wait_for_each_after(in_sync_at, PATIENCE)?;
        let after = self.probe.acknowledged.longest_gap(mended, in_sync_at);
        Ok((Seen { no_writes, after, rejoined }, self.compare(in_sync_at)?))
    }

    /// How often brokers have given up what they led, as nobody reached them, and how often this one was fenced.
    fn signs(&self, broker: usize) -> Result<(usize, usize)> {
        let fenced = format!("{FENCES} {broker}:");
        let count = |what: &str| self.cluster.count_log_lines(|line| line.contains(what));
        Ok((count(GIVES_UP)?, count(&fenced)?))
    }

    /// Has the writers pause when they have been acknowledged to after a moment, and compares what they wrote with what is
    /// there, and with what the group processes.
    fn compare(&self, moment: Instant) -> Result<String> {
        self.wait_for_writes_after(moment)?;
        for load in &self.loads {
            load.pause(PATIENCE)?;
        }
        let state = verify(&self.cluster.bootstrap(), &self.loads.iter().collect::<Vec<_>>())?;
        let consumed = self.group.catch_up(PATIENCE)?;
        Ok(format!("{state}; {consumed}"))
    }

    /// By what each broker says: one that was cut off has not heard yet that there was anybody missing.
    fn wait_for_all_in_sync(&self) -> Result<()> {
        wait::until("every replica to be in sync", PATIENCE, || {
            for id in 0..BROKERS {
                let missing = under_replicated(self.cluster.address(id))?;
                ensure!(missing == 0, "{missing} partitions are not in full sync, says broker {id}");
            }
            Ok(Some(()))
        })
    }

    /// Each broker leads a third, and all write.
    fn wait_for_order(&self) -> Result<()> {
        for topic in TOPICS {
            wait::until("each partition to be led by its first replica", PATIENCE, || {
                let partitions = self.metadata.partitions(topic)?;
                ensure!(partitions.iter().all(|p| p.leader == p.replicas.first().copied()), "{partitions:?}");
                Ok(Some(()))
            })?;
        }
        for load in &self.loads {
            load.resume();
        }
        self.wait_for_writes_after(Instant::now())
    }

    fn wait_for_writes_after(&self, moment: Instant) -> Result<()> {
        for load in &self.loads {
            load.wait_for_acknowledgements_after(moment, PATIENCE)?;
        }
        self.probe.acknowledged.wait_for_each_after(moment, PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disturbance_is_of_two_different_hosts_and_leaves_a_majority_that_talks_if_it_has_a_limit() {
        for disturbance in Disturbance::ALL {
            let rules = disturbance.rules(1, [2, 0], 9);
            assert!(rules.iter().all(|(from, to, _)| from != to), "{disturbance}");
            let lost =
                |x, y| rules.contains(&(Broker(x), Broker(y), Lost)) || rules.contains(&(Broker(y), Broker(x), Lost));
            let pairs = [(0, 1), (0, 2), (1, 2)].iter().filter(|(x, y)| !lost(*x, *y)).count();
            assert!(pairs > 0, "{disturbance}");
        }
    }

    #[test]
    fn a_bridge_is_two_that_see_a_third_and_not_each_other() {
        let ends = [(Broker(1), Broker(2), Lost), (Broker(2), Broker(1), Lost)];
        assert_eq!(Bridge.rules(1, [2, 0], 9), ends);
        assert_eq!(BridgeOfController.rules(0, [1, 2], 9), ends);
    }

    #[test]
    fn who_has_no_followers_is_heard_at_its_other_ports() {
        let ends = [(Broker(1), Broker(2), LostTo(9)), (Broker(0), Broker(2), LostTo(9))];
        assert_eq!(NoFollowers.rules(1, [2, 0], 9), ends);
    }
}
