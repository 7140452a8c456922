//! How long a coordinator takes to load a partition of `__consumer_offsets` that is long: it was committed to many times, and
//! nothing of it was compacted. A million commits with `--full`, and a twentieth of that by default.

use super::log_figures::{End, start};
use super::{Settings, TimeLimit};
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::files::drop_from_page_cache;
use crate::harness::member::{Member, coordinator};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::report::{Report, Table, ms};
use anyhow::{Context as _, Result, anyhow, ensure};
use std::thread;
use std::time::{Duration, Instant};

const TOPIC: &str = "much-to-load";
/// Connections that commit, each for a group of its own, and commits of one that are on their way at once.
const COMMITTERS: usize = 16;
const AT_ONCE: i64 = 64;
/// From the start of the broker's process until it answers for all groups.
const LOADED: TimeLimit = TimeLimit { target: Duration::from_secs(5), always: Duration::from_mins(1) };

/// One broker, whose groups are all in one partition.
pub(super) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let each = if settings.full { 62_500 } else { 3_125 };
    // The cleaner does not come to it.
    let properties = [("offsets.topic.num.partitions", "1"), ("log.cleaner.backoff.ms", "3600000")];
    let mut cluster = Cluster::new(&settings.software, 1, &properties)?;
    cluster.start_all()?;
    cluster.wait_for_brokers(1)?;
    Metadata::new(&cluster.bootstrap())?.create_topic(TOPIC, 1, 1, &[])?;
    let port = cluster.ports(0).kafka;
    wait::until("a coordinator", PATIENCE, || {
        let mut first = Member::connect(coordinator(port, &group(0), PATIENCE)?, &group(0))?;
        first.commit(TOPIC, 0)?.map_err(|error| anyhow!("the first commit is refused: {error:?}"))?;
        Ok(Some(()))
    })?;
    let committers: Vec<_> = (0..COMMITTERS).map(|n| thread::spawn(move || commit(port, n, each))).collect();
    for committer in committers {
        committer.join().map_err(|_| anyhow!("a committer panicked"))??;
    }
    let count = each * COMMITTERS as i64;
    let columns = ["commits", "MB on the disk", "after", "first write", "all offsets are answered"];
    let mut table = Table::new("A broker starts that coordinates groups with a long past", &columns);
    let mut slowest = Duration::ZERO;
    for end in [End::Stop, End::Kill] {
        end.carry_out(&mut cluster)?;
        let on_disk = drop_from_page_cache(&cluster.data_dir(0))?;
        let since = Instant::now();
        let (first, _) = start(&mut cluster, TOPIC, 0)?;
        for n in 0..COMMITTERS {
            let found = wait::until("a committed offset", PATIENCE, || {
                Member::connect(port, &group(n))?.committed(TOPIC).map(Some)
            });
            let found = found.with_context(|| cluster.tails())?;
            ensure!(found == each, "{} has committed {each}, and {found} is answered", group(n));
        }
        let loaded = since.elapsed();
        slowest = slowest.max(loaded);
        let mb = format!("{:.1}", on_disk as f64 / 1e6);
        table.row(vec![count.to_string(), mb, end.name().to_owned(), ms(first), ms(loaded)]);
    }
    report.table(table);
    report.check_result("the broker that loads lives", cluster.check_alive().map(|()| "yes".into()));
    if matches!(settings.software, Software::Chronik(_)) {
        let name = format!("a broker that starts with {count} commits answers for all groups");
        LOADED.check(settings, report, &name, slowest.as_secs_f64() * 1e3, "");
    }
    Ok(())
}

fn group(n: usize) -> String {
    format!("much-to-load-{n}")
}

/// Commits so many offsets of a group without members, one after the other.
fn commit(port: u16, n: usize, count: i64) -> Result<()> {
    let mut member = Member::connect(port, &group(n))?;
    let (mut sent, mut answered) = (0, 0);
    while answered < count {
        while sent < count && sent - answered < AT_ONCE {
            sent += 1;
            member.send_commit(TOPIC, sent)?;
        }
        member.committed_or_not()?.map_err(|error| anyhow!("a commit is refused: {error:?}"))?;
        answered += 1;
    }
    Ok(())
}
