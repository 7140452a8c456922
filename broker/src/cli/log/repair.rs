//! `chronik log repair`: a start's recovery, after all has been read; and no more unless it is asked for.

use super::log_dir;
use super::progress::ProgressBar;
use crate::damage;
use crate::health::Recovery;
use crate::identity::Identity;
use chronik_core::ids::BrokerId;
use chronik_log::{Finding, Log, Options, ReadError, RealDisk, RecoveredPartition, Verified};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Read all of a stopped broker's log, recover it as its start would, and cut off what is damaged if that is asked for;
/// fails if anything is left that is not as it was written.
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
        self.run_to(&mut std::io::stdout().lock())
    }

    fn run_to(self, out: &mut impl Write) -> anyhow::Result<()> {
        let dir = log_dir(&self.data_dir)?;
        anyhow::ensure!(
            Log::exists(&RealDisk, &dir)?,
            "{} has no checkpoint: there is nothing to go on from",
            dir.display()
        );
        let mut identity = Identity::load(&self.data_dir, BrokerId(self.broker))?;
        let before = read_all(&self.data_dir, &dir)?;
        // The broker's `producer.id.expiration.ms` is not known here, and the broker forgets producers by itself later.
        let producer_expiration_ms = i64::MAX;
        let options =
            Options { open_with_wal_loss: self.accept_wal_loss, producer_expiration_ms, ..Options::default() };
        let (mut log, recovered) = Log::open(RealDisk, &dir, options)?;
        if !before.findings.is_empty() {
            mark_damage(&log, &recovered)?;
        }
        let reader = log.reader();
        let recovered = recovered.iter().filter_map(|p| reader.state(p.partition)).collect();
        let found = damage::inspect(&log, recovered, &Recovery::begin(), usize::MAX)?;
        let kept = dir.join("damaged");
        let damaged: Vec<_> = found.0.iter().filter_map(|p| Some((p.partition, p.damaged?, p.end))).collect();
        for (partition, from, end) in &damaged {
            if from < end {
                writeln!(out, "{partition} cannot be read from offset {from} on")?;
            } else {
                let kept = kept.display();
                writeln!(
                    out,
                    "{partition} has lost what was behind offset {end}; what could be kept of it is in {kept}"
                )?;
            }
        }
        if !damaged.is_empty() && !self.cut_damaged {
            // The next start has them filled from peers: it believes what is marked, and reads no whole log itself.
            log.checkpoint()?;
            anyhow::bail!(what_a_start_does(damaged.iter().map(|(_, from, end)| from < end)));
        }
        anyhow::ensure!(
            !log.wal_lost() || self.accept_wal_loss,
            "the write-ahead log has lost synced operations before; --accept-wal-loss goes on without them"
        );
        let (partitions, _) = damage::repair(&mut log, found, &mut identity, true)?;
        for (partition, ..) in &damaged {
            let end = partitions.iter().find(|p| p.partition == *partition).map_or(0, |p| p.end.0);
            writeln!(out, "{partition} ends at offset {end} now; what was behind is in {}", kept.display())?;
        }
        if !before.findings.is_empty() {
            log.checkpoint()?;
            drop(reader);
            drop(log);
            name_what_is_left(&read_all(&self.data_dir, &dir)?, out)?;
        }
        writeln!(out, "{} partitions are whole", partitions.len())?;
        Ok(())
    }
}

/// What becomes of damaged partitions that are not cut here: of each, whether there is anything to cut. Where a recovery has
/// lost the end, there is not.
fn what_a_start_does(damaged: impl Iterator<Item = bool>) -> String {
    let (cut, lost): (Vec<_>, Vec<_>) = damaged.partition(|is_to_be_cut| *is_to_be_cut);
    let mut says = Vec::new();
    if !cut.is_empty() {
        says.push(format!(
            "{} partitions are damaged. They are marked: a start of this broker cuts them, keeps what it cuts off, and fills \
             them again from its peers; without peers it does not start. --cut-damaged cuts them now",
            cut.len()
        ));
    }
    if !lost.is_empty() {
        says.push(format!(
            "{} partitions have lost their ends. There is nothing to cut: a start of this broker fills them again from its \
             peers; without peers it does not start. --cut-damaged goes on without what is lost",
            lost.len()
        ));
    }
    says.join(". ")
}

/// Reads every file of the log and of the metadata, as a start does not.
fn read_all(data_dir: &Path, log: &Path) -> anyhow::Result<Verified> {
    let (journal, mut bar) = (data_dir.join(crate::node::METADATA_DIR), ProgressBar::new());
    let verified = chronik_log::verify(&RealDisk, log, &journal, &mut |done, total| bar.at(done, total));
    bar.end();
    Ok(verified?)
}

/// Reads every batch, and marks in the log what cannot be read.
fn mark_damage(log: &Log<RealDisk>, partitions: &[RecoveredPartition]) -> anyhow::Result<()> {
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

/// Fails if something is not as it was written, and nothing here may change it.
fn name_what_is_left(verified: &Verified, out: &mut impl Write) -> anyhow::Result<()> {
    for finding in &verified.findings {
        let Finding { path, position, detail } = finding;
        writeln!(out, "{}: byte {position}: {detail}: {}", path.display(), what_to_do(path))?;
    }
    let n = verified.findings.len();
    anyhow::ensure!(n == 0, "{n} findings are left that are not repaired here");
    Ok(())
}

/// What becomes of a file that is no segment of a partition that was cut.
fn what_to_do(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("index" | "snapshot") => "nothing is lost; it is not used, and goes with its segment",
        // A checkpoint that is damaged is not opened: what is wrong in a new one is a snapshot.
        _ if path.ends_with("log/checkpoint") => "nothing is lost; it is not used",
        _ if path.ends_with("metadata/journal") => {
            "the broker does not start with it. Restore data_dir from a copy; or, with peers, move all of it away, and let \
             the broker come back empty to be filled from them"
        }
        _ => "restore data_dir from a copy; or, with peers, move all of it away, and let them fill the broker again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::tests::{append, flip_bit, open, segment, tp, written};
    use chronik_core::ids::{LeaderEpoch, Offset};
    use chronik_core::record::testing::BatchBuilder;
    use chronik_log::Op;

    /// What it says, or why it refuses.
    fn repair(dir: &Path, cut_damaged: bool, accept_wal_loss: bool) -> Result<String, String> {
        let mut out = Vec::new();
        let repair = Repair { data_dir: dir.into(), broker: 1, cut_damaged, accept_wal_loss };
        repair.run_to(&mut out).map_err(|error| format!("{}{error:#}", String::from_utf8_lossy(&out)))?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn identity(dir: &Path) -> Identity {
        Identity::load(dir, BrokerId(1)).unwrap()
    }

    fn findings(dir: &Path) -> usize {
        chronik_log::verify(&RealDisk, &dir.join("log"), &dir.join("metadata"), &mut |_, _| {}).unwrap().findings.len()
    }

    fn ends(dir: &Path) -> Vec<i64> {
        open(dir).1.iter().map(|p| p.end.0).collect()
    }

    #[test]
    fn a_whole_log_stays_as_it_is() {
        let dir = written();
        let before = identity(dir.path()).directory_id();
        for (cut_damaged, accept_wal_loss) in [(false, false), (true, true)] {
            assert_eq!(repair(dir.path(), cut_damaged, accept_wal_loss).unwrap(), "2 partitions are whole\n");
            let identity = identity(dir.path());
            assert_eq!((identity.directory_id(), identity.damaged()), (before, Vec::new()));
            assert_eq!(ends(dir.path()), [3, 3]);
        }
    }

    #[test]
    fn damage_is_cut_off_only_where_that_is_asked_for_and_is_noted_for_the_cluster() {
        let dir = written();
        let directory = identity(dir.path()).directory_id();
        flip_bit(&segment(dir.path(), tp(1)), 25_000);
        assert_eq!(findings(dir.path()), 1);
        // A start does not read it, and nobody has met it; the second time it is marked.
        for _ in 0..2 {
            let refused = repair(dir.path(), false, false).unwrap_err();
            assert!(refused.contains("cannot be read from offset 1 on"), "{refused}");
            assert!(refused.contains("1 partitions are damaged") && refused.contains("--cut-damaged"), "{refused}");
            assert!(!refused.contains("whole"), "{refused}");
        }
        assert_eq!((ends(dir.path()), identity(dir.path()).damaged()), (vec![3, 3], Vec::new()));
        let marks = open(dir.path()).1.iter().map(|p| p.damaged).collect::<Vec<_>>();
        assert_eq!(marks, [None, Some(Offset(1))], "a start hands it to the peers");

        let said = repair(dir.path(), true, false).unwrap();
        assert!(said.contains("ends at offset 1 now"), "{said}");
        assert!(said.ends_with("2 partitions are whole\n"), "{said}");
        assert_eq!(ends(dir.path()), [3, 1]);
        assert_eq!(findings(dir.path()), 0);
        let identity = identity(dir.path());
        assert_eq!((identity.directory_id(), identity.damaged()), (directory, vec![tp(1)]));
        let kept: Vec<_> = std::fs::read_dir(dir.path().join("log/damaged")).unwrap().collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
    }

    #[test]
    fn what_is_lost_at_an_end_is_not_said_to_be_cut_by_a_start() {
        let dir = written();
        let (mut log, _) = open(dir.path());
        log.commit(&[Op::Truncate { partition: tp(1), to: Offset(2) }]).unwrap();
        drop(log);
        // The second batch is lost before the truncation behind it is applied: its length is wrong.
        let path = segment(dir.path(), tp(1));
        let bytes = std::fs::read(&path).unwrap();
        let first = 12 + u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
        flip_bit(&path, first + 8);
        // The second time it is the checkpoint that says so.
        for _ in 0..2 {
            let refused = repair(dir.path(), false, false).unwrap_err();
            assert!(refused.contains("has lost what was behind offset 1;"), "{refused}");
            assert!(refused.contains("1 partitions have lost their ends"), "{refused}");
            assert!(!refused.contains("cannot be read") && !refused.contains("marked"), "{refused}");
            assert_eq!(ends(dir.path()), [3, 1]);
        }
        let said = repair(dir.path(), true, false).unwrap();
        assert!(said.contains("ends at offset 1 now") && said.ends_with("2 partitions are whole\n"), "{said}");
        assert_eq!(open(dir.path()).1.iter().map(|p| p.damaged).collect::<Vec<_>>(), [None, None]);
        assert_eq!(identity(dir.path()).damaged(), [tp(1)]);
    }

    #[test]
    fn damage_that_nobody_has_met_is_found_by_reading_all() {
        let dir = written();
        flip_bit(&segment(dir.path(), tp(0)), 25_000);
        let said = repair(dir.path(), true, false).unwrap();
        assert!(said.contains("cannot be read from offset 1 on"), "{said}");
        assert_eq!(ends(dir.path()), [1, 3]);
        assert_eq!(repair(dir.path(), true, false).unwrap(), "2 partitions are whole\n", "once is enough");
    }

    #[test]
    fn producers_are_remembered_for_as_long_as_the_broker_remembers_them() {
        const DAY: i64 = 24 * 60 * 60 * 1000;
        let dir = written();
        let week = Options { producer_expiration_ms: 7 * DAY, ..Options::default() };
        let open = || Log::open(RealDisk, &dir.path().join("log"), week).unwrap().0;
        let known =
            |log: &Log<RealDisk>| log.reader().producers(tp(0)).unwrap().iter().map(|p| p.id.0).collect::<Vec<_>>();
        let mut log = open();
        for (base, day) in [(3, 1), (4, 4)] {
            let batch = BatchBuilder::new(1).producer(base, 0, 0).timestamps(day * DAY, day * DAY).build();
            let op = [Op::Append { partition: tp(0), batch: batch.assign(Offset(base), LeaderEpoch(1)) }];
            log.commit(&op).and_then(|()| log.apply(&op)).unwrap();
        }
        assert_eq!(known(&log), [3, 4]);
        // Killed: what it appended is for the next start to append again.
        drop(log);
        repair(dir.path(), false, false).unwrap();
        assert_eq!(known(&open()), [3, 4]);
    }

    #[test]
    fn what_cannot_be_repaired_here_is_named_with_what_to_do() {
        let dir = written();
        repair(dir.path(), false, false).unwrap();
        let journal = dir.path().join("metadata/journal");
        std::fs::create_dir_all(journal.parent().unwrap()).unwrap();
        std::fs::write(&journal, [7; 4096]).unwrap();
        for cut_damaged in [false, true] {
            let refused = repair(dir.path(), cut_damaged, false).unwrap_err();
            assert!(refused.contains("journal: byte 0: ") && refused.contains("from a copy"), "{refused}");
            assert!(refused.contains("1 findings are left") && !refused.contains("whole"), "{refused}");
        }
        assert_eq!(findings(dir.path()), 1);
    }

    #[test]
    fn a_write_ahead_log_that_lost_something_is_gone_by_only_where_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path());
        for base in 0..3 {
            append(&mut log, tp(0), base, 100);
        }
        drop(log);
        let segments = std::fs::read_dir(dir.path().join("log/wal")).unwrap().map(|entry| entry.unwrap().path());
        // Not the last block, which might never have been finished.
        flip_bit(&segments.max().unwrap(), 4096 + 80);
        let before = identity(dir.path()).directory_id();
        assert!(findings(dir.path()) > 0);
        let refused = repair(dir.path(), true, false).unwrap_err();
        assert!(refused.contains("write-ahead log") || refused.contains("damaged"), "{refused}");
        assert_eq!(identity(dir.path()).directory_id(), before);

        assert_eq!(repair(dir.path(), false, true).unwrap(), "1 partitions are whole\n");
        let after = identity(dir.path()).directory_id();
        assert_ne!(after, before, "nobody counts on what it had");
        assert_eq!(findings(dir.path()), 0);
        assert_eq!(repair(dir.path(), false, false).unwrap(), "1 partitions are whole\n");
        assert_eq!(identity(dir.path()).directory_id(), after);
    }

    #[test]
    fn what_is_no_log_or_in_use_or_of_another_broker_is_left_alone() {
        let dir = written();
        let _ = identity(dir.path());
        let other = Repair { data_dir: dir.path().into(), broker: 2, cut_damaged: true, accept_wal_loss: true };
        assert!(other.run_to(&mut Vec::new()).unwrap_err().to_string().contains("belongs to broker 1"));
        let in_use = open(dir.path());
        let refused = repair(dir.path(), true, true).unwrap_err();
        assert!(refused.contains("another process"), "{refused}");
        drop(in_use);
        let checkpoint = dir.path().join("log/checkpoint");
        flip_bit(&checkpoint, 40);
        let refused = repair(dir.path(), true, true).unwrap_err();
        assert!(refused.contains("checksum"), "{refused}");
        std::fs::remove_file(&checkpoint).unwrap();
        let refused = repair(dir.path(), true, true).unwrap_err();
        assert!(refused.contains("has no checkpoint"), "{refused}");
        assert!(repair(&dir.path().join("log"), true, true).unwrap_err().contains("is no data directory"));
    }
}
