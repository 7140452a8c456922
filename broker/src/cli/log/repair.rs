//! `chronik log repair`: a start's recovery, and no more unless it is asked for.

use super::log_dir;
use super::progress::ProgressBar;
use crate::damage;
use crate::health::Recovery;
use crate::identity::Identity;
use chronik_core::ids::BrokerId;
use chronik_log::{Log, Options, ReadError, RealDisk, RecoveredPartition};
use clap::Args;
use std::io::Write as _;
use std::path::PathBuf;

/// Recover a stopped broker's log as its start would, and cut off what is damaged if that is asked for.
#[derive(Debug, Args)]
pub(super) struct Repair {
    /// The broker's `data_dir`.
    data_dir: PathBuf,
    /// The broker's id (`broker_id`), as a check.
    #[arg(long, value_name = "ID")]
    broker: i32,
    /// Cut damaged partitions back to where they are whole; what is cut off is kept in `log/damaged`. The cluster does not
    /// count on these replicas before they are filled again from their peers. Without peers it is lost.
    #[arg(long)]
    cut_damaged: bool,
    /// Go on although the write-ahead log has lost synced operations: the directory gets a new identity, and the cluster
    /// counts on nothing in it before it is filled again.
    #[arg(long)]
    accept_wal_loss: bool,
}

impl Repair {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let dir = log_dir(&self.data_dir)?;
        anyhow::ensure!(
            Log::exists(&RealDisk, &dir)?,
            "{} has no checkpoint: there is nothing to go on from",
            dir.display()
        );
        let mut identity = Identity::load(&self.data_dir, BrokerId(self.broker))?;
        let options = Options { open_with_wal_loss: self.accept_wal_loss, ..Options::default() };
        let (mut log, recovered) = Log::open(RealDisk, &dir, options)?;
        if self.cut_damaged {
            read_all(&log, &recovered)?;
        }
        let reader = log.reader();
        let recovered = recovered.iter().filter_map(|p| reader.state(p.partition)).collect();
        let found = damage::inspect(&log, recovered, &Recovery::begin())?;
        let damaged: Vec<_> = found.0.iter().filter_map(|p| Some((p.partition, p.damaged?))).collect();
        let mut out = std::io::stdout().lock();
        for (partition, from) in &damaged {
            writeln!(out, "{partition} cannot be read from offset {from} on")?;
        }
        anyhow::ensure!(
            damaged.is_empty() || self.cut_damaged,
            "{} partitions are damaged; --cut-damaged cuts them, and keeps what it cuts off",
            damaged.len()
        );
        anyhow::ensure!(
            !log.wal_lost() || self.accept_wal_loss,
            "the write-ahead log has lost synced operations before; --accept-wal-loss goes on without them"
        );
        let (partitions, _) = damage::repair(&mut log, found, &mut identity, true)?;
        for (partition, _) in &damaged {
            let end = partitions.iter().find(|p| p.partition == *partition).map_or(0, |p| p.end.0);
            let kept = dir.join("damaged");
            writeln!(out, "{partition} ends at offset {end} now; what was behind is in {}", kept.display())?;
        }
        writeln!(out, "{} partitions are whole", partitions.len())?;
        Ok(())
    }
}

/// Reads every batch, as a start does not: what cannot be read is marked in the log.
fn read_all(log: &Log<RealDisk>, partitions: &[RecoveredPartition]) -> anyhow::Result<()> {
    let (reader, mut bar) = (log.reader(), ProgressBar::new());
    let bytes = |p: &RecoveredPartition| reader.bytes(p.partition).unwrap_or(0);
    let (mut done, total) = (0, partitions.iter().map(bytes).sum());
    for partition in partitions {
        match reader.check(partition.partition, |_| {}) {
            Ok(()) | Err(ReadError::Damaged { .. }) => {}
            Err(error) => {
                bar.end();
                return Err(error.into());
            }
        }
        done += bytes(partition);
        bar.at(done, total);
    }
    bar.end();
    Ok(())
}
