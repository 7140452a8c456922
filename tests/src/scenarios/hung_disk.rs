//! A disk whose syncs do not return: what its broker led is written again soon, what others lead hardly notices, and it
//! comes back by itself. A disk that is slow keeps what it has.

use super::{Settings, TimeLimit};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::{leash, target, wait};
use crate::load::{Load, verify};
use crate::report::{Report, Table, ms};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TOPIC: &str = "hung-disk";
const PARTITIONS: usize = 9;
/// How long a disk hangs: longer than all that should end meanwhile.
const HANGS: Duration = Duration::from_secs(6);
const SLOW: Duration = Duration::from_secs(5);
const GAP: TimeLimit = TimeLimit { target: Duration::from_secs(2), always: Duration::from_millis(4_500) };

/// Each broker's disk hangs once, that of the controller's leader too; then one is slow.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let library = library()?;
    let mut cluster = Cluster::new(&settings.software, 3, &[])?;
    let switches: Vec<Switches> = (0..3).map(|id| Switches::new(&mut cluster, id, &library)).collect();
    cluster.start_all()?;
    cluster.wait_for_brokers(3)?;
    let outcome = disks(settings, &mut cluster, &switches, report);
    report.check_result("every broker lives", cluster.check_alive().map(|()| "yes".into()));
    if outcome.is_err() || report.has_failures() {
        println!("{}\nkept: {}", cluster.tails(), cluster.keep().display());
    }
    outcome
}

/// What makes one broker's disk hang, or slow.
struct Switches {
    hang: PathBuf,
    slow: PathBuf,
}

impl Switches {
    fn new(cluster: &mut Cluster, id: usize, library: &Path) -> Self {
        let switches =
            Self { hang: cluster.log(id).with_extension("hang"), slow: cluster.log(id).with_extension("slow") };
        cluster.set_env(id, "LD_PRELOAD", library.to_owned());
        cluster.set_env(id, "CHRONIK_HANG", switches.hang.clone());
        cluster.set_env(id, "CHRONIK_SLOW", switches.slow.clone());
        switches
    }
}

/// The library that brokers are started with.
fn library() -> Result<PathBuf> {
    let folder = target().join("hung-disk");
    fs::create_dir_all(&folder)?;
    let (source, library) = (folder.join("hung_disk.c"), folder.join(format!("hung_disk-{}.so", std::process::id())));
    fs::write(&source, include_str!("hung_disk.c"))?;
    let mut cc = leash::command(Path::new("cc"))?;
    cc.args(["-shared", "-fPIC", "-O", "-o"]).arg(&library).arg(&source);
    let status = leash::spawn(cc)?.wait()?;
    ensure!(status.success(), "cc ended with {status}");
    Ok(library)
}

fn disks(settings: &Settings, cluster: &mut Cluster, switches: &[Switches], report: &mut Report) -> Result<()> {
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TOPIC, PARTITIONS as i32, 3, &[])?;
    metadata.wait_for_isr(TOPIC, PARTITIONS, 3)?;
    let load = Load::start("all", &cluster.bootstrap(), TOPIC, PARTITIONS, 900)?;
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    let mut table =
        Table::new("longest time without an acknowledgement", &["disk", "led there, ms", "led elsewhere, ms"]);
    let rounds = if settings.quick { 1 } else { settings.rounds.unwrap_or(3) };
    for round in 0..rounds {
        let id = round % 3;
        let (there, elsewhere) = hang(cluster, &metadata, &load, id, &switches[id])
            .with_context(|| format!("broker {id}'s disk hangs:\n{}", cluster.tails()))?;
        table.row(vec![id.to_string(), ms(there), ms(elsewhere)]);
        GAP.check(settings, report, "what a hanging disk led is written", there.as_secs_f64() * 1e3, "");
        GAP.check(settings, report, "what is led elsewhere never stops longer", elsewhere.as_secs_f64() * 1e3, "");
    }
    report.table(table);
    report.check_result("a disk that is slow and moves keeps what it has", slow(&metadata, &load, &switches[0]));
    load.pause(PATIENCE)?;
    report.check_result("nothing that was acknowledged is lost", verify(&cluster.bootstrap(), &[&load]));
    Ok(())
}

fn leaders(metadata: &Metadata) -> Result<Vec<Option<i32>>> {
    Ok(metadata.partitions(TOPIC)?.iter().map(|p| p.leader).collect())
}

/// The longest gaps in partitions that the broker led, and in the others.
fn hang(
    cluster: &mut Cluster,
    metadata: &Metadata,
    load: &Load,
    id: usize,
    switches: &Switches,
) -> Result<(Duration, Duration)> {
    let led = leaders(metadata)?;
    ensure!(led.contains(&Some(id as i32)), "broker {id} leads nothing: {led:?}");
    let begin = Instant::now();
    fs::write(&switches.hang, "")?;
    let written = load.wait_for_acknowledgements_after(begin + HANGS, PATIENCE);
    fs::remove_file(&switches.hang)?;
    written?;
    let gaps = load.longest_gaps(begin, begin + HANGS);
    let longest = |of: bool| {
        let these = gaps.iter().zip(&led).filter(|(_, leader)| (**leader == Some(id as i32)) == of);
        these.map(|(gap, _)| *gap).max().unwrap_or_default()
    };
    metadata.wait_for_isr(TOPIC, PARTITIONS, 3).context("it comes back by itself")?;
    // Leaderships stay where they went: the next round sees by an error that a broker leads nothing, and moves some.
    lead_again(cluster, metadata, (id + 1) % 3)?;
    Ok((longest(true), longest(false)))
}

/// Sees that a broker leads something, by stopping another for a moment if it has to.
fn lead_again(cluster: &mut Cluster, metadata: &Metadata, id: usize) -> Result<()> {
    for other in (0..3).filter(|other| *other != id) {
        if leaders(metadata)?.contains(&Some(id as i32)) {
            return Ok(());
        }
        cluster.stop(other)?;
        wait::until("another leader", PATIENCE, || {
            Ok((!leaders(metadata)?.contains(&Some(other as i32))).then_some(()))
        })?;
        cluster.start(other)?;
        metadata.wait_for_isr(TOPIC, PARTITIONS, 3)?;
    }
    ensure!(leaders(metadata)?.contains(&Some(id as i32)), "broker {id} leads nothing");
    Ok(())
}

fn slow(metadata: &Metadata, load: &Load, switches: &Switches) -> Result<String> {
    // The last round may have stopped one for a moment.
    metadata.wait_for_isr(TOPIC, PARTITIONS, 3)?;
    let before = metadata.partitions(TOPIC)?;
    fs::write(&switches.slow, "")?;
    let written = load.wait_for_acknowledgements_after(Instant::now() + SLOW, PATIENCE);
    let after = metadata.partitions(TOPIC)?;
    fs::remove_file(&switches.slow)?;
    written?;
    ensure!(before == after, "before: {before:?}\nafter: {after:?}");
    Ok("the same leaders and ISRs".into())
}
