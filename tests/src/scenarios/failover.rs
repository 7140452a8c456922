//! A leader is killed, stopped for good, or hangs, under load: how long nobody can write, as a probe sees it that asks
//! every broker all the time, and as an idempotent producer and a consumer see it. It is a partition leader, or also leads the controller
//! quorum; before each round every broker leads a third of the partitions.

use super::{Settings, TimeLimit};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::load::{Load, verify};
use crate::probe::{Probe, Reader};
use crate::report::{Report, Table, ms, percentile};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PARTITIONS: usize = 6;
/// What the client writes to, and what the probe writes to.
const TOPICS: [&str; 2] = ["failover", "failover-probe"];
/// Records a second of the client.
const RATE: u32 = 2_000;
/// Leaderships go back to where they were before each round, at once.
pub(super) const BALANCE: [(&str, &str); 2] =
    [("leader.imbalance.check.interval.seconds", "1"), ("leader.imbalance.per.broker.percentage", "0")];

/// What to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How leaders are lost [default: in each way]
    #[arg(value_enum)]
    ways: Vec<Way>,
    /// The client's `retry.backoff.ms`: how long it pauses before it tries again what was refused [default: its own, 100]
    #[arg(long)]
    retry_backoff_ms: Option<u32>,
    /// Where librdkafka's debug log goes
    #[arg(long)]
    client_log: Option<PathBuf>,
}

/// How a leader is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Way {
    /// kill -9
    Kill,
    /// SIGSTOP, and SIGCONT when others lead
    Pause,
    /// SIGTERM
    Stop,
}

/// Whom a round takes the leader from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Partitions,
    Controller,
}

impl Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9",
            Self::Pause => "SIGSTOP",
            Self::Stop => "SIGTERM",
        })
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Partitions => "a partition leader",
            Self::Controller => "the controller's leader",
        })
    }
}

impl Way {
    fn all() -> Vec<Self> {
        vec![Self::Kill, Self::Pause, Self::Stop]
    }

    fn lose(self, cluster: &mut Cluster, victim: usize) -> Result<()> {
        match self {
            Self::Kill => cluster.kill(victim),
            Self::Pause => cluster.pause(victim),
            Self::Stop => cluster.stop(victim),
        }
    }

    /// Brings it back, and says when that was asked for.
    fn bring_back(self, cluster: &mut Cluster, victim: usize) -> Result<Instant> {
        match self {
            Self::Kill | Self::Stop => cluster.start(victim),
            Self::Pause => {
                cluster.resume(victim)?;
                Ok(Instant::now())
            }
        }
    }

    /// The longest that any partition may go without a write, at the 99th percentile: whoever hangs is missed for a
    /// session first.
    fn limit(self) -> TimeLimit {
        let (target, always) = match self {
            Self::Kill => (300, 10),
            Self::Pause => (1_300, 10),
            Self::Stop => (100, 5),
        };
        TimeLimit { target: Duration::from_millis(target), always: Duration::from_secs(always) }
    }
}

/// Three rounds for each way and kind, 25 with `--full`, or as many as the settings say.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    let usual = match settings {
        Settings { full: true, .. } => 25,
        Settings { quick: true, .. } => 1,
        _ => 3,
    };
    let rounds = settings.rounds.unwrap_or(usual);
    let ways = if options.ways.is_empty() { Way::all() } else { options.ways.clone() };
    let mut world = World::new(settings, options)?;
    let mut seen: BTreeMap<(Way, Kind), Vec<Seen>> = BTreeMap::new();
    let plan = ways.iter().flat_map(|way| {
        (0..rounds).flat_map(|round| [Kind::Partitions, Kind::Controller].map(|kind| (*way, round, kind)))
    });
    for (way, round, kind) in plan {
        let victim = world.victim(kind, round, &settings.software)?;
        let name = format!("round {}: {way} of {kind} (broker {victim})", round + 1);
        let outcome = world.lose(way, victim).with_context(|| world.cluster.tails());
        let failed = outcome.is_err();
        let state = outcome.map(|(figures, state)| {
            seen.entry((way, kind)).or_default().push(figures);
            state
        });
        report.check_result(format!("{name}: every acknowledged record is there once and in order"), state);
        if failed {
            println!("kept: {}", world.cluster.keep().display());
            break;
        }
    }
    judge(settings, &seen, report);
    Ok(())
}

fn judge(settings: &Settings, seen: &BTreeMap<(Way, Kind), Vec<Seen>>, report: &mut Report) {
    let columns = [
        "lost",
        "times",
        "nobody could write: p50",
        "p99",
        "worst",
        "a producer's gap: p50",
        "p99",
        "worst",
        "a consumer's gap: p50",
        "p99",
        "worst",
    ];
    let mut table = Table::new("The longest time without a write on any partition", &columns);
    for ((way, kind), rounds) in seen {
        let no_writes: Vec<Duration> = rounds.iter().map(|seen| seen.no_writes).collect();
        let of_producer: Vec<Duration> = rounds.iter().filter_map(|seen| seen.of_producer).collect();
        let of_consumer: Vec<Duration> = rounds.iter().filter_map(|seen| seen.of_consumer).collect();
        let mut row = vec![format!("{kind}, by {way}"), rounds.len().to_string()];
        row.extend(spread(&no_writes));
        row.extend(spread(&of_producer));
        row.extend(spread(&of_consumer));
        table.row(row);
    }
    report.table(table);
    let mut table = Table::new(
        "Each round",
        &["lost", "nobody could write", "a producer's gap", "a consumer's gap", "in every ISR again after"],
    );
    for ((way, kind), rounds) in seen {
        for Seen { no_writes, of_producer, of_consumer, rejoined } in rounds {
            let [of_producer, of_consumer] =
                [of_producer, of_consumer].map(|gap| gap.map_or_else(|| "-".to_owned(), ms));
            table.row(vec![format!("{kind}, by {way}"), ms(*no_writes), of_producer, of_consumer, ms(*rejoined)]);
        }
    }
    report.table(table);
    for ((way, kind), rounds) in seen {
        let name = format!("{way} of {kind}: the longest time in which nobody could write to a partition");
        let all: Vec<f64> = rounds.iter().map(|seen| seen.no_writes.as_secs_f64() * 1e3).collect();
        way.limit().check(settings, report, &name, percentile(&all, 99.0), " at the 99th percentile");
    }
}

/// The 50th and the 99th percentile, and the worst.
fn spread(gaps: &[Duration]) -> [String; 3] {
    let all: Vec<f64> = gaps.iter().map(Duration::as_secs_f64).collect();
    [50.0, 99.0, 100.0].map(|percent| match gaps {
        [] => "-".to_owned(),
        _ => ms(Duration::from_secs_f64(percentile(&all, percent))),
    })
}

/// What one round showed.
struct Seen {
    no_writes: Duration,
    /// None of a client whose requests hang with a broker: it waits for them, not for the cluster.
    of_producer: Option<Duration>,
    /// The same. What it reads is what the probe writes.
    of_consumer: Option<Duration>,
    rejoined: Duration,
}

struct World {
    cluster: Cluster,
    metadata: Metadata,
    load: Load,
    probe: Probe,
    reader: Reader,
}

impl World {
    fn new(settings: &Settings, options: &Options) -> Result<Self> {
        let cluster = Cluster::of_three(&settings.software, &BALANCE)?;
        let metadata = Metadata::new(&cluster.bootstrap())?;
        for topic in TOPICS {
            metadata.create_topic(topic, PARTITIONS as i32, 3, &[])?;
        }
        let pause = options.retry_backoff_ms.map(|ms| ms.to_string());
        let of_client: Vec<_> = pause.iter().map(|ms| ("retry.backoff.ms", ms.as_str())).collect();
        let log = options.client_log.as_deref();
        let load = Load::start_with("a", &cluster.bootstrap(), TOPICS[0], (PARTITIONS, RATE), &of_client, log)?;
        let probe = Probe::start(&cluster, TOPICS[1], PARTITIONS)?;
        let reader = Reader::start(&cluster.bootstrap(), TOPICS[1], PARTITIONS)?;
        Ok(Self { cluster, metadata, load, probe, reader })
    }

    /// Who is lost: the controller's leader, or one of the others, round-robin.
    fn victim(&self, kind: Kind, round: usize, software: &Software) -> Result<usize> {
        let controller = controller_leader(&self.cluster, software)?;
        let size = self.cluster.size();
        Ok(match kind {
            Kind::Partitions => (controller + 1 + round % (size - 1)) % size,
            Kind::Controller => controller,
        })
    }

    /// Loses a broker that leads its share, while there is load, and brings it back.
    fn lose(&mut self, way: Way, victim: usize) -> Result<(Seen, String)> {
        let Self { cluster, metadata, load, probe, reader } = self;
        for topic in TOPICS {
            wait::until("each partition to be led by its first replica", PATIENCE, || {
                let partitions = metadata.partitions(topic)?;
                ensure!(partitions.iter().all(|p| p.leader == p.replicas.first().copied()), "{partitions:?}");
                ensure!(
                    partitions.iter().any(|p| p.leader == Some(victim as i32)),
                    "{victim} leads nothing of {topic}"
                );
                Ok(Some(()))
            })?;
        }
        load.resume();
        load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
        probe.acknowledged.wait_for_each_after(Instant::now(), PATIENCE)?;
        reader.read.wait_for_each_after(Instant::now(), PATIENCE)?;
        let lost = Instant::now();
        way.lose(cluster, victim)?;
        // A gap may begin a little after the end, with what was acknowledged but not yet seen; and end late.
        let gap_end = Instant::now() + Duration::from_secs(1);
        probe.acknowledged.wait_for_each_after(gap_end, PATIENCE)?;
        let no_writes = probe.acknowledged.longest_gap(lost, gap_end);
        let (of_producer, of_consumer) = if way == Way::Pause {
            (None, None)
        } else {
            load.wait_for_acknowledgements_after(gap_end, PATIENCE)?;
            reader.read.wait_for_each_after(gap_end, PATIENCE)?;
            (load.longest_gaps(lost, gap_end).into_iter().max(), Some(reader.read.longest_gap(lost, gap_end)))
        };
        let back = way.bring_back(cluster, victim)?;
        for topic in TOPICS {
            metadata.wait_for_isr(topic, PARTITIONS, cluster.size())?;
        }
        let rejoined = back.elapsed();
        cluster.check_alive()?;
        load.wait_for_acknowledgements_after(back, PATIENCE)?;
        load.pause(PATIENCE)?;
        let state = verify(&cluster.bootstrap(), &[load])?;
        Ok((Seen { no_writes, of_producer, of_consumer, rejoined }, state))
    }
}

/// Which broker leads the controller quorum: the one that the brokers' logs name with the highest term.
pub(super) fn controller_leader(cluster: &Cluster, software: &Software) -> Result<usize> {
    if let Software::Kafka(_) = software {
        // Kafka names it to its own tools alone; which of its brokers is killed here does not matter.
        return Ok(cluster.size() - 1);
    }
    let (_, leader) = controller_leadership(cluster)?;
    ensure!(cluster.is_running(leader), "broker {leader} leads the controller quorum and does not run");
    Ok(leader)
}

/// The highest term in the brokers' logs, and who leads the controller quorum in it.
pub(super) fn controller_leadership(cluster: &Cluster) -> Result<(u64, usize)> {
    let logs: Vec<_> = (0..cluster.size()).map(|id| fs::read(cluster.log(id))).collect::<Result<_, _>>()?;
    let text = logs.iter().map(|log| String::from_utf8_lossy(log)).collect::<String>();
    text.lines().filter_map(leadership).max().context("no log says who leads the controller quorum")
}

/// Term and broker, from a line like `… broker 2 leads the controller quorum … term=7`.
fn leadership(line: &str) -> Option<(u64, usize)> {
    let (before, after) = line.split_once(" leads the controller quorum")?;
    let broker = before.rsplit(' ').next()?.parse().ok()?;
    let digits = after.split_once("term=")?.1;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    Some((digits[..end].parse().ok()?, broker))
}

#[cfg(test)]
mod tests {
    use super::leadership;

    #[test]
    fn a_log_line_names_the_controller_leader_and_its_term() {
        let line = "2026-01-01T00:00:00Z  INFO broker 2 leads the controller quorum broker=2 term=17";
        assert_eq!(leadership(line), Some((17, 2)));
        assert_eq!(leadership("INFO the leader changed term=3"), None);
    }
}
