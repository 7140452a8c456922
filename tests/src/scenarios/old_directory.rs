//! A data directory of an early version, from before there were retention, compaction and snapshots of producers, is opened,
//! served and gone on with. What wrote it was stopped once and killed at the end.

use super::Settings;
use crate::harness::appender;
use crate::harness::cluster::{Cluster, PATIENCE, Software};
use crate::harness::member::Member;
use crate::harness::{leash, repository, wait};
use crate::load::read_each;
use anyhow::{Result, ensure};
use rdkafka::Message as _;
use std::fs;
use std::path::Path;

/// Forty records in snappy, then sixty in LZ4; a group has read thirty of them.
const TOPIC: &str = "kept";
const RECORDS: i64 = 100;
const GROUP: &str = "readers";
const COMMITTED: i64 = 30;

/// What was found in it.
pub(super) fn run(settings: &Settings) -> Result<String> {
    let Software::Chronik(_) = settings.software else { return Ok("Apache Kafka has none".into()) };
    let mut cluster = Cluster::new(&settings.software, 1, &[])?;
    unpack(&repository().join("tests/data-directories/2026-11-28.tgz"), &cluster.data_dir(0))?;
    let outcome = served(&mut cluster);
    outcome.map_err(|error| error.context(cluster.tails()))
}

fn unpack(archive: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut tar = leash::command(Path::new("tar"))?;
    let status =
        tar.arg("--extract").arg("--file").arg(archive).arg("--strip-components=1").arg("-C").arg(to).status()?;
    ensure!(status.success(), "tar ends with {status}");
    Ok(())
}

fn served(cluster: &mut Cluster) -> Result<String> {
    cluster.start_all()?;
    cluster.wait_for_brokers(1)?;
    check(cluster, RECORDS)?;
    let port = cluster.ports(0).kafka;
    let (_, offset) = appender::first_append(port, TOPIC, 0, &appender::batch(100)?, PATIENCE)?;
    ensure!(offset == RECORDS, "the next record is at {offset}");
    cluster.kill(0)?;
    cluster.start_all()?;
    cluster.wait_for_brokers(1)?;
    check(cluster, RECORDS + 1)?;
    Ok(format!("{RECORDS} records and a committed offset are there, and it goes on"))
}

fn check(cluster: &Cluster, end: i64) -> Result<()> {
    let mut found = Vec::new();
    read_each(&cluster.bootstrap(), TOPIC, 1, PATIENCE, |message| {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        found.push((message.offset(), text(message.key()), text(message.payload())));
    })?;
    ensure!(found.len() as i64 == end, "{} records, and not {end}", found.len());
    for (n, record) in (0..RECORDS).zip(&found) {
        let wanted = (n, format!("key-{}", n % 7), format!("value {n}"));
        ensure!(*record == wanted, "{record:?}, and not {wanted:?}");
    }
    let committed = wait::until("the committed offset", PATIENCE, || {
        Member::connect(cluster.ports(0).kafka, GROUP)?.committed(TOPIC).map(Some)
    })?;
    ensure!(committed == COMMITTED, "the group has committed {COMMITTED}, and {committed} is answered");
    Ok(())
}
