//! A broker that comes back to a cluster which went on without it: after a topic was deleted, with a disk that
//! was wiped as a whole or in part, with one that was restored from a copy, and with one that has changed what was written
//! to it. And a broker of its own, with the disk of an early version.

use super::{Settings, old_directory};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::wait;
use crate::load::{Load, verify};
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

const KEPT: &str = "kept";
const PARTITIONS: usize = 2;
const AWAY: usize = 2;
/// One that is there all the time.
const OTHER: usize = 0;

/// Each check leaves the cluster whole for the next.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    report.check_result("a data directory of an early version is served", old_directory::run(settings));
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(KEPT, PARTITIONS as i32, 3, &[])?;
    let load = Load::start("kept", &cluster.bootstrap(), KEPT, PARTITIONS, 500)?;
    for (what, check) in [
        ("what was deleted meanwhile goes from its disk, and nothing else", deleted_meanwhile as Check),
        ("a wiped disk is filled again", wiped),
        ("an emptied log folder is filled again", emptied),
        ("a disk that was restored from a copy is not believed", restored),
        ("flipped bits are found while it runs and repaired from the others", flipped_bits),
    ] {
        let outcome = check(&mut cluster, &metadata, &load).with_context(|| cluster.tails());
        let failed = outcome.is_err();
        report.check_result(what, outcome);
        if failed {
            println!("kept: {}", cluster.keep().display());
            break;
        }
    }
    Ok(())
}

type Check = fn(&mut Cluster, &Metadata, &Load) -> Result<String>;

fn deleted_meanwhile(cluster: &mut Cluster, metadata: &Metadata, load: &Load) -> Result<String> {
    const DELETED: &str = "deleted";
    wait::until("the kept topic on the disk", PATIENCE, || Ok((logs(cluster)?.len() == PARTITIONS).then_some(())))?;
    let before = logs(cluster)?;
    metadata.create_topic(DELETED, PARTITIONS as i32, 3, &[])?;
    let doomed = Load::start(DELETED, &cluster.bootstrap(), DELETED, PARTITIONS, 500)?;
    wait::until("both topics on the disk", PATIENCE, || Ok((logs(cluster)?.len() == 2 * PARTITIONS).then_some(())))?;
    doomed.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    doomed.pause(PATIENCE)?;
    drop(doomed);
    cluster.kill(AWAY)?;
    let both = logs(cluster)?.len();
    ensure!(both == 2 * PARTITIONS, "{both} logs on the disk of the broker that goes away");
    // The one that was killed may have been the controller, and librdkafka's admin client goes on asking that one.
    wait::until("the topic to be deleted", PATIENCE, || {
        match Metadata::new(&cluster.bootstrap())?.delete_topic(DELETED) {
            Err(error) if !format!("{error:#}").contains("UnknownTopicOrPartition") => Err(error),
            // A try that was given up may have done it.
            Ok(()) | Err(_) => Ok(Some(())),
        }
    })?;
    // Only then does it come back to a cluster that has forgotten the topic.
    wait::until("the topic to go from the disks of the others", PATIENCE, || {
        Ok((logs_of(cluster, OTHER)?.len() == PARTITIONS).then_some(()))
    })?;
    come_back(cluster, metadata, load)?;
    wait::until("the deleted topic to go", PATIENCE, || Ok((logs(cluster)? == before).then_some(())))?;
    verify_all(cluster, load)
}

fn wiped(cluster: &mut Cluster, metadata: &Metadata, load: &Load) -> Result<String> {
    cluster.kill(AWAY)?;
    fs::remove_dir_all(cluster.data_dir(AWAY))?;
    come_back(cluster, metadata, load)?;
    verify_all(cluster, load)
}

/// The identity stays: what was there must not be believed to be there.
fn emptied(cluster: &mut Cluster, metadata: &Metadata, load: &Load) -> Result<String> {
    cluster.kill(AWAY)?;
    fs::remove_dir_all(cluster.data_dir(AWAY).join("log"))?;
    let said_before = fs::read(cluster.log(AWAY))?.len();
    come_back(cluster, metadata, load)?;
    says_since(cluster, AWAY, said_before, "holds no log")?;
    verify_all(cluster, load)
}

/// Its data directory is an old copy of itself after a crash of all. It was in sync everywhere, and by its identity it still
/// is; if it led, the others would cut off what was acknowledged since.
fn restored(cluster: &mut Cluster, metadata: &Metadata, load: &Load) -> Result<String> {
    const COMPANION: usize = 1;
    cluster.stop(AWAY)?;
    let (disk, copy) = (cluster.data_dir(AWAY), cluster.data_dir(AWAY).with_extension("copy"));
    copy_folder(&disk, &copy)?;
    come_back(cluster, metadata, load)?;
    load.pause(PATIENCE)?;
    cluster.kill_all()?;
    fs::remove_dir_all(&disk)?;
    fs::rename(&copy, &disk)?;
    let said_before = fs::read(cluster.log(OTHER))?.len();
    // Two are a quorum, and either may lead by what it says of itself.
    cluster.start(AWAY)?;
    cluster.start(OTHER)?;
    wait::until("the old copy to be found", PATIENCE, || {
        Ok(says_since(cluster, OTHER, said_before, "is an old copy").ok())
    })?;
    cluster.start(COMPANION)?;
    metadata.wait_for_isr(KEPT, PARTITIONS, 3)?;
    load.resume();
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    verify_all(cluster, load)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

fn flipped_bits(cluster: &mut Cluster, metadata: &Metadata, load: &Load) -> Result<String> {
    // Stopped in order, so that what is changed is in the segments and no more in the write-ahead log alone.
    cluster.stop(AWAY)?;
    let damaged = logs(cluster)?.into_iter().next().context("a log")?;
    let segment = damaged.join(format!("{:020}.log", 0));
    let mut bytes = fs::read(&segment)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("a segment that is not empty")? ^= 0x10;
    fs::write(&segment, &bytes)?;
    let said_before = fs::read(cluster.log(AWAY))?.len();
    come_back(cluster, metadata, load)?;
    // It does not read all at its start: whoever comes to it first finds it, or the check in the background does.
    wait::until("the damage to be found", PATIENCE, || {
        Ok(says_since(cluster, AWAY, said_before, "partition is damaged").ok())
    })?;
    load.pause(PATIENCE)?;
    let partition = damaged.file_name().context("a folder's name")?;
    // What is repaired stands in a segment of its own; the rest of the damaged one goes with a stop's checkpoint. It may
    // be stopped before it has begun with the repair, which then comes after the next start.
    wait::until("the flipped bit to be repaired", PATIENCE, || {
        metadata.wait_for_isr(KEPT, PARTITIONS, 3)?;
        cluster.stop(AWAY)?;
        let now = segments(cluster, AWAY)?.get(partition).and_then(|log| log.get(middle).copied());
        if now == Some(bytes[middle] ^ 0x10) {
            return Ok(Some(()));
        }
        cluster.start(AWAY)?;
        Ok(None)
    })?;
    let verified = verify_all(cluster, load)?;
    cluster.start(AWAY)?;
    metadata.wait_for_isr(KEPT, PARTITIONS, 3)?;
    Ok(verified)
}

/// Whether a broker has said this since its log was so long: the checks before had it say things too.
fn says_since(cluster: &Cluster, id: usize, said_before: usize, what: &str) -> Result<()> {
    let said = fs::read(cluster.log(id))?;
    let text = String::from_utf8_lossy(said.get(said_before..).context("a log that only grows")?);
    ensure!(text.contains(what), "it did not say: {what}");
    Ok(())
}

/// Starts the broker that is away, and waits until it is in every in-sync set while writes go on.
fn come_back(cluster: &mut Cluster, metadata: &Metadata, load: &Load) -> Result<()> {
    load.resume();
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    // Or the sets that it left might be taken for those that it is back in.
    wait::until("the in-sync sets without the broker that is away", PATIENCE, || {
        let sets = metadata.partitions(KEPT)?;
        Ok(sets.iter().all(|p| !p.isr.contains(&(AWAY as i32))).then_some(()))
    })?;
    cluster.start(AWAY)?;
    metadata.wait_for_isr(KEPT, PARTITIONS, 3)?;
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    cluster.check_alive()
}

/// Every record is there for a reader, and the broker that was away has the same bytes on its disk as another one.
fn verify_all(cluster: &Cluster, load: &Load) -> Result<String> {
    load.pause(PATIENCE)?;
    let read = verify(&cluster.bootstrap(), &[load])?;
    let bytes = wait::until("the same logs on two disks", PATIENCE, || {
        let (away, other) = (segments(cluster, AWAY)?, segments(cluster, OTHER)?);
        let bytes: usize = away.values().map(Vec::len).sum();
        let none_empty = away.len() == PARTITIONS && away.values().all(|bytes| !bytes.is_empty());
        ensure!(none_empty, "{bytes} bytes of {} partitions", away.len());
        Ok((away == other).then_some(bytes))
    })?;
    Ok(format!("{read}; {bytes} bytes the same on both disks"))
}

/// What is in the partitions' segments on a broker's disk, by partition.
pub(super) fn segments(cluster: &Cluster, id: usize) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for folder in logs_of(cluster, id)? {
        let mut segments: Vec<_> = fs::read_dir(&folder)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
        segments.retain(|path| path.extension().is_some_and(|e| e == "log"));
        segments.sort();
        let bytes = segments.iter().map(fs::read).collect::<std::io::Result<Vec<_>>>()?.concat();
        found.insert(folder.file_name().context("a folder's name")?.to_owned(), bytes);
    }
    Ok(found)
}

/// The partitions' folders on the disk of the broker that comes and goes.
fn logs(cluster: &Cluster) -> Result<BTreeSet<PathBuf>> {
    logs_of(cluster, AWAY)
}

fn logs_of(cluster: &Cluster, id: usize) -> Result<BTreeSet<PathBuf>> {
    let folder = cluster.data_dir(id).join("log/partitions");
    fs::read_dir(&folder).with_context(|| folder.display().to_string())?.map(|entry| Ok(entry?.path())).collect()
}
