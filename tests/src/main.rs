//! Tests and benchmarks of Chronik from outside, one subcommand each. `--software kafka` puts the same questions to
//! Apache Kafka, which is how the tests themselves are tested.

use anyhow::{Context, Result, bail};
use chronik_tests::harness::cluster::Software;
use chronik_tests::harness::kafka::Kafka;
use chronik_tests::harness::{leash, target};
use chronik_tests::report::Report;
use chronik_tests::scenarios::{
    Settings, bench, chaos, cleaning, cli, clients, compaction, connect, crash_all, damaged_disks, failover,
    far_behind, full_disks, full_load, group_figures, groups, growing, hostile, hung_disk, kafka_suite, log_figures,
    many_topics, memory, network, operations, profile, racks, readme, reassign, retention, returning, start_orders,
    stopped_leader, streams,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about = "Chronik from outside: real clients, crashes, benchmarks")]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
struct Common {
    /// The chronik binary [default: what `CHRONIK_BIN` says, or target/release/chronik]
    #[arg(long, global = true, value_name = "PATH")]
    chronik: Option<PathBuf>,
    /// What the brokers run
    #[arg(long, global = true, value_enum, default_value = "chronik")]
    software: SoftwareName,
    /// Few repetitions, to see that it works
    #[arg(long, global = true)]
    quick: bool,
    /// More repetitions, for figures to publish; all that takes long
    #[arg(long, global = true, conflicts_with = "quick")]
    full: bool,
    /// Fail where something takes longer than its target, and not only where it takes far longer: for a machine that
    /// does nothing else
    #[arg(long, global = true)]
    strict: bool,
    /// Treat what this machine cannot run as a failure
    #[arg(long, global = true)]
    all: bool,
    /// How many rounds, for scenarios that have rounds
    #[arg(long, global = true)]
    rounds: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum SoftwareName {
    Chronik,
    Kafka,
}

#[derive(Subcommand)]
enum Scenario {
    /// `test_acks_all`: from the start of the last needed broker to the first acks=all write, in every start order
    StartOrders(start_orders::Options),
    /// kill -9, SIGSTOP and SIGTERM of leaders under load: how long nobody can write
    Failover(failover::Options),
    /// A thousand topics: created, written to once each, and again after kill -9
    ManyTopics,
    /// kill -9 of all brokers at once, again and again
    CrashAll,
    /// SIGSTOP of a leader past its lease, and SIGCONT
    StoppedLeader,
    /// A broker that comes back: to a topic deleted meanwhile, with a wiped disk, with flipped bits
    Returning,
    /// Random damage on one disk after the other, under load: repaired or refused, never served
    DamagedDisks(damaged_disks::Options),
    /// A broker that comes back far behind: how fast it catches up, and what live writes wait meanwhile
    FarBehind,
    /// Records leave by size, by age and by DeleteRecords, a follower that was away comes back, and what a day takes of the disk
    Retention,
    /// Of each key the last record stays, on every replica, and clients get over the gaps
    Compaction,
    /// A large compacted log is cleaned: memory, waits of writes, and what readers see
    Cleaning,
    /// Small disks that fill, one and all: refused, read, deleted from, restarted, resumed
    FullDisks,
    /// All the load that clients can make: no broker that lives is fenced, and the quorum's leader is missed by nobody
    FullLoad,
    /// Syncs that do not return, and syncs that are slow
    HungDisk,
    /// A million mutated frames
    Hostile(hostile::Options),
    /// Chronik's own command line
    Cli,
    /// README's first page, word by word
    Readme,
    /// Permits to stop, cordons, and how the cluster is, by the command line
    Operations,
    /// Three brokers become five and three again, by commands, under load; a voter loses its disk meanwhile
    Growing,
    /// Partitions move to other brokers under load, by Kafka's tools and by the command line
    Reassign,
    /// A consumer reads from the follower in its rack, and goes on when that is killed
    Racks,
    /// kcat, and the clients and tools of Python, Go, JavaScript and Java
    Clients(clients::Options),
    /// Random faults under producers and consumer groups: a minute a round
    Chaos(chaos::Options),
    /// A network that loses or delays what brokers send, one way and both, under producers and a consumer group
    Network,
    /// Kafka Connect in distributed mode
    Connect,
    /// Kafka Streams counts words, at least once
    Streams,
    /// Consumer groups of unmodified clients, and kill -9 of coordinators
    Groups,
    /// Thousands of idle members, commits a second, and many members that join and leave
    GroupFigures,
    /// Ten thousand partitions, starts with much on the disk, and writes beside thousands that are deleted and cut back
    LogFigures,
    /// Apache Kafka's own integration tests
    KafkaSuite(kafka_suite::Options),
    /// What an idle broker takes, and one that brings back a follower
    Memory,
    /// Chronik beside Apache Kafka
    Bench(bench::Options),
    /// A flame graph, and what a record and a batch cost
    Profile(profile::Options),
    /// Runs a program that is killed when this one ends
    #[command(name = leash::SUBCOMMAND, hide = true, disable_help_flag = true)]
    Leash {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

fn main() -> Result<ExitCode> {
    // A leashed program's own options are none of the parser's business.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|a| a == leash::SUBCOMMAND) {
        return leash::become_program(arguments).map(|()| ExitCode::FAILURE);
    }
    let Cli { common, scenario } = Cli::parse();
    let settings = settings(&common)?;
    let mut report = Report::new(scenario.name());
    let outcome = match &scenario {
        Scenario::StartOrders(options) => start_orders::run(&settings, options, &mut report),
        Scenario::Failover(options) => failover::run(&settings, options, &mut report),
        Scenario::ManyTopics => many_topics::run(&settings, &mut report),
        Scenario::CrashAll => crash_all::run(&settings, &mut report),
        Scenario::StoppedLeader => stopped_leader::run(&settings, &mut report),
        Scenario::Returning => returning::run(&settings, &mut report),
        Scenario::DamagedDisks(options) => damaged_disks::run(&settings, options, &mut report),
        Scenario::FarBehind => far_behind::run(&settings, &mut report),
        Scenario::Retention => retention::run(&settings, &mut report),
        Scenario::Compaction => compaction::run(&settings, &mut report),
        Scenario::Cleaning => cleaning::run(&settings, &mut report),
        Scenario::FullDisks => full_disks::run(&settings, &mut report),
        Scenario::FullLoad => full_load::run(&settings, &mut report),
        Scenario::HungDisk => hung_disk::run(&settings, &mut report),
        Scenario::Hostile(options) => hostile::run(&settings, options, &mut report),
        Scenario::Cli => cli::run(&settings, &mut report),
        Scenario::Readme => readme::run(&settings, &mut report),
        Scenario::Growing => growing::run(&settings, &mut report),
        Scenario::Reassign => reassign::run(&settings, &mut report),
        Scenario::Racks => racks::run(&settings, &mut report),
        Scenario::Operations => operations::run(&settings, &mut report),
        Scenario::Clients(options) => clients::run(&settings, options, &mut report),
        Scenario::Chaos(options) => chaos::run(&settings, options, &mut report),
        Scenario::Network => network::run(&settings, &mut report),
        Scenario::Connect => connect::run(&settings, &mut report),
        Scenario::Streams => streams::run(&settings, &mut report),
        Scenario::Groups => groups::run(&settings, &mut report),
        Scenario::GroupFigures => group_figures::run(&settings, &mut report),
        Scenario::LogFigures => log_figures::run(&settings, &mut report),
        Scenario::KafkaSuite(options) => kafka_suite::run(&settings, options, &mut report),
        Scenario::Memory => memory::run(&settings, &mut report),
        Scenario::Bench(options) => bench::run(&settings, options, &mut report),
        Scenario::Profile(options) => profile::run(&settings, options, &mut report),
        Scenario::Leash { .. } => bail!("the leash is not a scenario"),
    };
    if let Err(e) = outcome {
        report.check("the scenario runs to its end", false, format!("{e:#}"));
    }
    Ok(if report.finish(common.all)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn settings(common: &Common) -> Result<Settings> {
    let software = match common.software {
        SoftwareName::Kafka => Software::Kafka(Kafka::fetch()?),
        SoftwareName::Chronik => {
            let named = common.chronik.clone().or_else(|| std::env::var_os("CHRONIK_BIN").map(PathBuf::from));
            let path = named.unwrap_or_else(|| target().join("release/chronik"));
            Software::Chronik(path.canonicalize().with_context(|| format!("no chronik at {}", path.display()))?)
        }
    };
    let Common { quick, full, strict, rounds, .. } = *common;
    Ok(Settings { software, quick, full, strict, rounds })
}

impl Scenario {
    fn name(&self) -> &'static str {
        match self {
            Self::StartOrders(_) => "start-orders",
            Self::Failover(_) => "failover",
            Self::ManyTopics => "many-topics",
            Self::CrashAll => "crash-all",
            Self::StoppedLeader => "stopped-leader",
            Self::Returning => "returning",
            Self::DamagedDisks(_) => "damaged-disks",
            Self::FarBehind => "far-behind",
            Self::Retention => "retention",
            Self::Compaction => "compaction",
            Self::Cleaning => "cleaning",
            Self::FullDisks => "full-disks",
            Self::FullLoad => "full-load",
            Self::HungDisk => "hung-disk",
            Self::Hostile(_) => "hostile",
            Self::Cli => "cli",
            Self::Readme => "readme",
            Self::Growing => "growing",
            Self::Operations => "operations",
            Self::Reassign => "reassign",
            Self::Racks => "racks",
            Self::Clients(_) => "clients",
            Self::Chaos(_) => "chaos",
            Self::Network => "network",
            Self::Connect => "connect",
            Self::Streams => "streams",
            Self::Groups => "groups",
            Self::GroupFigures => "group-figures",
            Self::LogFigures => "log-figures",
            Self::KafkaSuite(_) => "kafka-suite",
            Self::Memory => "memory",
            Self::Bench(_) => "bench",
            Self::Profile(_) => "profile",
            Self::Leash { .. } => leash::SUBCOMMAND,
        }
    }
}
