//! Starts of brokers that have much on their disks: from the processes to the first acknowledged write, after a clean stop and
//! after kill -9 in the midst of writing. 20 GB over all disks with `--full`.

use super::Settings;
use super::log_figures::{End, check_start, start as start_brokers};
use crate::harness::appender::{self, Appender};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::files::drop_from_page_cache;
use crate::harness::metadata::Metadata;
use crate::harness::target;
use crate::report::{Report, Table, ms};
use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use rustix::fs::statvfs;
use std::collections::BTreeMap;
use std::fs;

const TOPIC: &str = "much-on-disk";
const PARTITIONS: i32 = 16;
/// Bytes of a record, and rounds that are on their way at once. Each brings one to each partition.
const RECORD_BYTES: usize = 64_000;
const AT_ONCE: u64 = 4;
const MUCH: u64 = 20_000_000_000;
const LITTLE: u64 = 512_000_000;
/// Of the disk, for others: a kubelet on it evicts pods below 15.
const KEPT_FREE_PERCENT: u64 = 16;

/// So many brokers, each partition on all of them.
pub(super) fn start(settings: &Settings, brokers: usize, report: &mut Report) -> Result<()> {
    let bytes = amount(settings, report)?;
    let mut cluster = Cluster::new(&settings.software, brokers, &[("auto.leader.rebalance.enable", "false")])?;
    cluster.start_all()?;
    cluster.wait_for_brokers(brokers)?;
    Metadata::new(&cluster.bootstrap())?.create_topic(TOPIC, PARTITIONS, brokers as i32, &[])?;
    let columns = ["brokers", "GB on their disks", "after", "out of the page cache", "first write"];
    let mut table = Table::new("Starts with much on the disk", &columns);
    let mut took = Vec::new();
    let mut records = 0;
    // All of it, and then some more that a kill comes in the midst of.
    for (end, bytes) in [(End::Stop, bytes), (End::Kill, bytes / 4)] {
        let mut writes = Writes::connect(&cluster)?;
        writes.write(bytes / brokers as u64).with_context(|| cluster.tails())?;
        if matches!(end, End::Stop) {
            writes.finish()?;
        }
        end.carry_out(&mut cluster)?;
        let on_disk: u64 = (0..brokers).map(|id| drop_from_page_cache(&cluster.data_dir(id))).sum::<Result<_>>()?;
        let (first, offset) = start_brokers(&mut cluster, TOPIC, 0)?;
        let (least, most) = (records + writes.acknowledged, records + writes.acknowledged + writes.on_their_way);
        ensure!(
            (least..=most).contains(&(offset as u64)),
            "the write after {} is at offset {offset}, and {least} to {most} records were before it",
            end.name()
        );
        records = offset as u64 + 1;
        let gb = format!("{:.1}", on_disk as f64 / 1e9);
        let cells = [gb, end.name().to_owned(), "their files, by posix_fadvise".to_owned(), ms(first)];
        table.row([vec![brokers.to_string()], cells.to_vec()].concat());
        took.push((end, first));
    }
    cluster.check_alive()?;
    report.table(table);
    let noun = if brokers == 1 { "broker" } else { "brokers" };
    for (end, took) in took {
        check_start(settings, report, &format!("{:.1} GB of {brokers} {noun}", bytes as f64 / 1e9), end, took);
    }
    Ok(())
}

/// How many bytes there are to be on the disks of all brokers: as many as there is room for, and for half as many again.
fn amount(settings: &Settings, report: &mut Report) -> Result<u64> {
    if !settings.full {
        return Ok(LITTLE);
    }
    fs::create_dir_all(target())?;
    let disk = statvfs(target())?;
    let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    let room = free.saturating_sub(all / 100 * KEPT_FREE_PERCENT) / 3 * 2;
    if room < MUCH {
        let gb = |bytes: u64| bytes / 1_000_000_000;
        report.could_not_run(format!("starts with {} GB: the disk has room for {}", gb(MUCH), gb(room)));
    }
    Ok(room.clamp(LITTLE, MUCH))
}

/// What is written to [`TOPIC`].
struct Writes {
    /// A connection to each leader, and what it leads.
    leaders: Vec<(Appender, Vec<i32>)>,
    record: Bytes,
    /// Rounds that were acknowledged, each with a record for each partition.
    acknowledged: u64,
    on_their_way: u64,
}

impl Writes {
    fn connect(cluster: &Cluster) -> Result<Self> {
        let metadata = Metadata::new(&cluster.bootstrap())?;
        metadata.wait_for_isr(TOPIC, PARTITIONS as usize, cluster.size())?;
        let mut led: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
        for partition in 0..PARTITIONS {
            led.entry(metadata.leader(TOPIC, partition as usize)?).or_default().push(partition);
        }
        let connect =
            |(leader, partitions)| Ok((Appender::connect(cluster.ports(leader).kafka, TOPIC, PATIENCE)?, partitions));
        let leaders = led.into_iter().map(connect).collect::<Result<_>>()?;
        Ok(Self { leaders, record: appender::batch(RECORD_BYTES)?, acknowledged: 0, on_their_way: 0 })
    }

    /// Writes as fast as it goes until so many bytes are acknowledged. As much as goes at once is on its way then.
    fn write(&mut self, bytes: u64) -> Result<()> {
        let rounds = bytes.div_ceil(RECORD_BYTES as u64 * PARTITIONS as u64);
        while self.acknowledged < rounds {
            while self.on_their_way < AT_ONCE {
                for (appender, partitions) in &mut self.leaders {
                    appender.send(partitions.iter().copied(), &self.record)?;
                }
                self.on_their_way += 1;
            }
            self.read_answers()?;
        }
        Ok(())
    }

    /// Waits for what is on its way.
    fn finish(&mut self) -> Result<()> {
        while self.on_their_way > 0 {
            self.read_answers()?;
        }
        Ok(())
    }

    fn read_answers(&mut self) -> Result<()> {
        for (appender, _) in &mut self.leaders {
            appender.next_answer()?.map_err(|error| anyhow!("a write is refused: {error:?}"))?;
        }
        self.on_their_way -= 1;
        self.acknowledged += 1;
        Ok(())
    }
}
