//! The image, as the committed entries make it.
#![expect(clippy::result_large_err, reason = "openraft asks for its own errors")]

use super::encoding;
use super::publisher::Publisher;
use super::raft_log::LogStore;
use super::summary;
use super::types::{Entry, LogId, Snapshot, SnapshotMeta, StorageError, StoredMembership, TypeConfig};
use chronik_core::cluster::{Image, Outcome};
use chronik_core::ids::MetadataOffset;
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, RaftSnapshotBuilder, StorageIOError};

/// The state machine that openraft drives. It saves nothing by itself: what is after the snapshot is applied
/// anew from the log.
pub(super) struct StateMachine {
    image: Image,
    applied: Option<LogId>,
    membership: StoredMembership,
    log: LogStore,
    publisher: Publisher,
    /// Entries up to here were in the log when the process started: they are no news.
    replayed: Option<u64>,
}

impl StateMachine {
    /// As of the log's snapshot.
    pub(super) fn open(log: &LogStore, publisher: Publisher) -> Result<Self, StorageError> {
        let mut machine = Self {
            image: Image::default(),
            applied: None,
            membership: StoredMembership::default(),
            log: log.clone(),
            publisher,
            replayed: log.last_index(),
        };
        if let Some(snapshot) = log.snapshot() {
            machine.restore(&snapshot.meta, &snapshot.snapshot)?;
        }
        Ok(machine)
    }

    fn restore(&mut self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), StorageError> {
        let image: Image = encoding::decode(data).map_err(|e| StorageError::IO {
            source: StorageIOError::read_snapshot(Some(meta.signature()), AnyError::new(&e)),
        })?;
        let changes = image.changes_since(&self.image);
        self.image = image;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publisher.publish(&self.image, &changes);
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Outcome>>, StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut answers = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            let mut outcomes = Vec::new();
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
                EntryPayload::Normal(batch) => {
                    let news = Some(entry.log_id.index) > self.replayed;
                    let before = self.image.clone();
                    let mut changes = Vec::new();
                    for command in &batch.0 {
                        let (outcome, of_this) = self.image.apply(MetadataOffset(entry.log_id.index), command);
                        if news {
                            summary::log(&before, command, &outcome);
                        }
                        outcomes.push(outcome);
                        changes.extend(of_this);
                    }
                    changes.sort_unstable();
                    changes.dedup();
                    if news {
                        summary::log_partitions(&before, &self.image, &changes);
                    }
                    self.publisher.publish(&self.image, &changes);
                }
            }
            answers.push(outcomes);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            image: self.image.clone(),
            applied: self.applied,
            membership: self.membership.clone(),
            log: self.log.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<Vec<u8>>) -> Result<(), StorageError> {
        // Understood first, and only then saved: a snapshot that cannot be read must not replace one that can.
        self.restore(meta, &snapshot)?;
        self.log.save_snapshot(meta.clone(), *snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        Ok(self.log.snapshot())
    }
}

/// An image on its way to the disk; the state machine goes on meanwhile.
pub(super) struct SnapshotBuilder {
    image: Image,
    applied: Option<LogId>,
    membership: StoredMembership,
    log: LogStore,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let data = encoding::encode(&self.image)
            .map_err(|e| StorageError::IO { source: StorageIOError::write_snapshot(None, AnyError::new(&e)) })?;
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: self.applied.map_or_else(String::new, |id| id.to_string()),
        };
        self.log.save_snapshot(meta.clone(), data.clone()).await?;
        Ok(Snapshot { meta, snapshot: Box::new(data) })
    }
}
