//! The metadata log on disk, as openraft wants it: entries, vote, snapshot, and this voter's standing, all in
//! one [`Journal`] that is written by a thread of its own. A sync never blocks the runtime, and what queued
//! while one ran shares the next.
//!
//! Entries are kept in memory as well: there are at most a few thousand after the last snapshot.

use super::encoding;
use super::standing::Standing;
use super::types::{Batch, Entry, LogId, Snapshot, SnapshotMeta, StorageError, StoredMembership, TypeConfig, Vote};
use chronik_core::cluster::MetadataCommand;
use chronik_core::ids::{BrokerId, DirectoryId, IncarnationId};
use chronik_log::{Journal, LogError, Pulse, RealDisk};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, EntryPayload, LogState, RaftLogReader, StorageIOError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Bytes of entries in one message to a follower, if it is more than one entry.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// One record of the journal.
#[derive(Serialize, Deserialize)]
enum Record {
    Vote(Vote),
    Entry(Entry),
    /// Entries from this index on are gone.
    Truncate(u64),
    /// Entries up to this one are gone.
    Purge(LogId),
    Snapshot(SnapshotMeta, #[serde(with = "serde_bytes")] Vec<u8>),
    Standing(Standing),
}

/// What the journal's records add up to.
#[derive(Clone, Default)]
struct State {
    vote: Option<Vote>,
    /// The vote whose leader openraft is not to know of; see [`LogStore::forget_leadership`].
    forgotten: Option<Vote>,
    /// With the bytes that each takes.
    entries: BTreeMap<u64, (Entry, usize)>,
    purged: Option<LogId>,
    snapshot: Option<(SnapshotMeta, Arc<Vec<u8>>)>,
    standing: Option<Standing>,
}

/// The log, shared by openraft's tasks and the state machine. Cheap to clone.
#[derive(Clone)]
pub(super) struct LogStore {
    state: Arc<Mutex<State>>,
    writes: mpsc::Sender<Write>,
}

/// From one attempt to write to a full disk to the next.
const TRY_AGAIN: Duration = Duration::from_millis(100);

enum Write {
    Append(Vec<Vec<u8>>, Done),
    /// All that the journal is to hold. What it comes to is seen by who writes next.
    Rewrite(Box<State>),
}

type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The thread behind a [`LogStore`]; it ends when the last of them is gone.
pub(super) struct LogThread {
    pub(super) thread: JoinHandle<()>,
    /// How long the disk has been at what it is doing.
    pub(super) pulse: Pulse,
    /// Set when the disk refused; nothing is written after that.
    pub(super) failed: watch::Receiver<Option<String>>,
}

/// Why the metadata log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk, or what is on it.
    #[error(transparent)]
    Journal(#[from] LogError),
    /// A record that is intact and not understood: written by another version, or not ours.
    #[error("record {0} of the metadata log: {1}")]
    Unknown(usize, encoding::DecodeError),
    /// No thread could be started.
    #[error("cannot start the metadata log's thread: {0}")]
    Thread(io::Error),
}

impl LogStore {
    pub(super) fn open(dir: &Path) -> Result<(Self, LogThread), OpenError> {
        let (journal, records) = Journal::open(RealDisk, dir)?;
        let mut state = State::default();
        for (i, bytes) in records.iter().enumerate() {
            let record = encoding::decode(bytes).map_err(|e| OpenError::Unknown(i, e))?;
            state.replay(record, bytes.len());
        }
        let incomplete = state.drop_incomplete();
        let (writes, queue) = mpsc::channel();
        let (failing, failed) = watch::channel(None);
        let pulse = Pulse::default();
        let beating = pulse.clone();
        let thread = std::thread::Builder::new()
            .name("metadata-log".into())
            .spawn(move || write_all(journal, &queue, &failing, &beating))
            .map_err(OpenError::Thread)?;
        if incomplete {
            tracing::warn!("the metadata log's snapshot is missing: this voter votes when it has caught up again");
            // Whatever is written from now on is behind it.
            let _ = writes.send(Write::Rewrite(Box::new(state.clone())));
        }
        Ok((Self { state: Arc::new(Mutex::new(state)), writes }, LogThread { thread, pulse, failed }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who led when this voter stopped, as far as it knows. That is taken for the past: openraft would have a broker
    /// that led do so at once, while its followers may have gone on without it, and would have a follower wait for the
    /// leader in silence. A vote that is not committed says no more than who was a candidate.
    ///
    /// Only openraft is told so: what is on the disk, and is written there anew, still says who led.
    pub(super) fn forget_leadership(&self) -> Option<BrokerId> {
        let mut state = self.state();
        let vote = state.vote.filter(Vote::is_committed)?;
        state.forgotten = Some(vote);
        vote.leader_id().voted_for()
    }

    /// The standing that was saved last.
    pub(super) fn standing(&self) -> Standing {
        self.state().standing.clone().unwrap_or_default()
    }

    /// Saves it, durably.
    pub(super) async fn save_standing(&self, standing: Standing) -> io::Result<()> {
        self.save(vec![Record::Standing(standing)]).await
    }

    /// The index of the last entry, whether it is still there or only in the snapshot.
    pub(super) fn last_index(&self) -> Option<u64> {
        self.last_log_id().map(|id| id.index)
    }

    /// The last entry, whether it is still there or only in the snapshot.
    pub(super) fn last_log_id(&self) -> Option<LogId> {
        let state = self.state();
        state.entries.last_key_value().map(|(_, (e, _))| e.log_id).or(state.purged)
    }

    /// The processes that have registered as that broker with that directory, by the entries that are here.
    pub(super) fn registrations(&self, id: BrokerId, of: DirectoryId) -> Vec<IncarnationId> {
        let state = self.state();
        let commands = state.entries.values().filter_map(|(entry, _)| match &entry.payload {
            EntryPayload::Normal(Batch(commands)) => Some(commands),
            _ => None,
        });
        let registered = commands.flatten().filter_map(|command| match command {
            MetadataCommand::RegisterBroker { member, directory, incarnation, .. } => {
                (member.id == id && *directory == of).then_some(*incarnation)
            }
            _ => None,
        });
        registered.collect()
    }

    /// The newest membership, committed or not.
    pub(super) fn membership(&self) -> StoredMembership {
        let state = self.state();
        let in_log = state.entries.values().rev().find_map(|(entry, _)| match &entry.payload {
            EntryPayload::Membership(m) => Some(StoredMembership::new(Some(entry.log_id), m.clone())),
            _ => None,
        });
        let in_snapshot = || state.snapshot.as_ref().map(|(meta, _)| meta.last_membership.clone());
        in_log.or_else(in_snapshot).unwrap_or_default()
    }

    /// The newest snapshot.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        let (meta, data) = self.state().snapshot.clone()?;
        Some(Snapshot { meta, snapshot: Box::new(data.as_ref().clone()) })
    }

    /// Bytes of the entries after the newest snapshot, and of those that are kept before its end; and that end.
    pub(super) fn sizes(&self) -> (usize, usize, Option<u64>) {
        let state = self.state();
        let end = state.snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id).map(|id| id.index);
        let (mut after, mut before) = (0, 0);
        for (index, (_, bytes)) in &state.entries {
            *if Some(*index) > end { &mut after } else { &mut before } += bytes;
        }
        (after, before, end)
    }

    /// Saves a snapshot in place of an older one, durably.
    pub(super) async fn save_snapshot(&self, meta: SnapshotMeta, data: Vec<u8>) -> Result<(), StorageError> {
        self.save(vec![Record::Snapshot(meta, data)]).await.map_err(|e| write_failed(&e))
    }

    async fn save(&self, records: Vec<Record>) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        self.enqueue(records, answer(done))?;
        durable.await.map_err(|_| ended())?
    }

    /// Changes the state and queues the records in one step, so that a rewrite, which is made of the state,
    /// never falls between the two. Who reads the state may see what is not durable yet; whatever is written
    /// because of that is behind it in the journal.
    fn enqueue(&self, records: Vec<Record>, done: Done) -> io::Result<()> {
        let encoded = records.iter().map(encode).collect::<io::Result<Vec<_>>>()?;
        let mut state = self.state();
        for (record, bytes) in records.into_iter().zip(&encoded) {
            state.replay(record, bytes.len());
        }
        // A write that the thread does not take is dropped with its `done`, which whoever waits for it sees.
        let _ = self.writes.send(Write::Append(encoded, done));
        Ok(())
    }
}

fn answer(done: oneshot::Sender<io::Result<()>>) -> Done {
    Box::new(move |result| {
        // Who asked may have been cancelled.
        let _ = done.send(result);
    })
}

fn ended() -> io::Error {
    io::Error::other("the metadata log's thread has ended")
}

fn encode(record: &Record) -> io::Result<Vec<u8>> {
    encoding::encode(record).map_err(io::Error::other)
}

fn write_failed(error: &io::Error) -> StorageError {
    StorageError::IO { source: StorageIOError::write(AnyError::new(error)) }
}

impl State {
    fn replay(&mut self, record: Record, bytes: usize) {
        match record {
            Record::Vote(vote) => (self.vote, self.forgotten) = (Some(vote), None),
            Record::Entry(entry) => {
                // Later records win: an entry never lies behind one that was there before it was written.
                drop(self.entries.split_off(&entry.log_id.index));
                self.entries.insert(entry.log_id.index, (entry, bytes));
            }
            Record::Truncate(from) => drop(self.entries.split_off(&from)),
            Record::Purge(upto) => self.purge(upto),
            // One that was being made while a newer one was installed is written after it, and is no news.
            Record::Snapshot(meta, data) => {
                if self.snapshot.as_ref().is_none_or(|(newest, _)| newest.last_log_id <= meta.last_log_id) {
                    self.snapshot = Some((meta, Arc::new(data)));
                }
            }
            Record::Standing(standing) => self.standing = Some(standing),
        }
    }

    /// Drops a log whose entries are purged beyond its snapshot, which a crash may leave between the two: it begins with
    /// what nothing stands for. Its voter is like one on a new disk, but for its vote.
    fn drop_incomplete(&mut self) -> bool {
        let stands_for = self.snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id);
        if self.purged <= stands_for {
            return false;
        }
        (self.entries, self.purged, self.snapshot) = Default::default();
        self.standing = Some(Standing::default());
        true
    }

    fn purge(&mut self, upto: LogId) {
        self.entries = self.entries.split_off(&(upto.index + 1));
        self.purged = self.purged.max(Some(upto));
    }

    fn records(&self) -> io::Result<Vec<Vec<u8>>> {
        let standing = self.standing.iter().map(|s| Record::Standing(s.clone()));
        let vote = self.vote.iter().map(|v| Record::Vote(*v));
        let snapshot = self.snapshot.iter().map(|(meta, data)| Record::Snapshot(meta.clone(), data.as_ref().clone()));
        let purged = self.purged.iter().map(|p| Record::Purge(*p));
        let entries = self.entries.values().map(|(e, _)| Record::Entry(e.clone()));
        standing.chain(vote).chain(snapshot).chain(purged).chain(entries).map(|r| encode(&r)).collect()
    }
}

/// The thread: writes and syncs until every sender is gone. After the first error it refuses all, because what
/// a failed sync left on the disk is unknown.
fn write_all(
    mut journal: Journal<RealDisk>,
    queue: &mpsc::Receiver<Write>,
    failing: &watch::Sender<Option<String>>,
    pulse: &Pulse,
) {
    let mut held: Option<Write> = None;
    let mut broken: Option<String> = None;
    while let Some(write) = held.take().or_else(|| queue.recv().ok()) {
        pulse.begin();
        let (result, all_done) = match write {
            Write::Append(mut records, done) => {
                let mut all_done = vec![done];
                while let Ok(next) = queue.try_recv() {
                    match next {
                        Write::Append(more, done) => {
                            records.extend(more);
                            all_done.push(done);
                        }
                        rewrite @ Write::Rewrite(..) => {
                            held = Some(rewrite);
                            break;
                        }
                    }
                }
                (attempt(broken.as_ref(), || journal.append(&slices(&records))), all_done)
            }
            Write::Rewrite(state) => {
                let rewritten = state.records().map_err(|e| e.to_string());
                let write = |records: Vec<_>| attempt(broken.as_ref(), || journal.rewrite(&slices(&records)));
                (rewritten.and_then(write), Vec::new())
            }
        };
        pulse.end();
        if let Err(e) = &result
            && broken.is_none()
        {
            tracing::error!(error = %e, "the metadata log cannot be written");
            broken = Some(e.clone());
            failing.send_replace(Some(e.clone()));
        }
        for done in all_done {
            done(result.clone().map_err(io::Error::other));
        }
    }
}

fn attempt(broken: Option<&String>, mut write: impl FnMut() -> Result<(), LogError>) -> Result<(), String> {
    match broken {
        Some(why) => Err(why.clone()),
        None => loop {
            match write() {
                // Others have filled the disk. What waits here is not taken for written meanwhile.
                Err(e) if e.is_full() => std::thread::sleep(TRY_AGAIN),
                other => return other.map_err(|e| e.to_string()),
            }
        },
    }
}

fn slices(records: &[Vec<u8>]) -> Vec<&[u8]> {
    records.iter().map(Vec::as_slice).collect()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.state().entries.range(range).map(|(_, (e, _))| e.clone()).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let mut room = MESSAGE_BYTES;
        let mut entries = Vec::new();
        for (entry, bytes) in self.state().entries.range(start..end).map(|(_, e)| e) {
            if *bytes > room && !entries.is_empty() {
                break;
            }
            room = room.saturating_sub(*bytes);
            entries.push(entry.clone());
        }
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let last_log_id = self.last_log_id();
        Ok(LogState { last_purged_log_id: self.state().purged, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.save(vec![Record::Vote(*vote)]).await.map_err(|e| write_failed(&e))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let state = self.state();
        let vote = state.vote;
        Ok(vote.map(|vote| Vote { committed: vote.committed && state.forgotten != Some(vote), ..vote }))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let records = entries.into_iter().map(Record::Entry).collect();
        self.enqueue(records, Box::new(move |result| callback.log_io_completed(result))).map_err(|e| write_failed(&e))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.save(vec![Record::Truncate(log_id.index)]).await.map_err(|e| write_failed(&e))
    }

    /// Does not wait for the disk, as raft would wait with it, and its heartbeats: what is purged may be there again after a
    /// crash, and is purged again.
    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let mut state = self.state();
        state.purge(log_id);
        let _ = self.writes.send(Write::Rewrite(Box::new(state.clone())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::BrokerId;
    use openraft::CommittedLeaderId;
    use openraft::storage::RaftLogStorageExt;

    fn id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1, BrokerId(0)), index)
    }

    fn entries(range: std::ops::Range<u64>) -> Vec<Entry> {
        range.map(|i| Entry { log_id: id(i), payload: EntryPayload::Blank }).collect()
    }

    /// Closes it, waits for its thread, and opens it again.
    fn reopen(dir: &Path, open: (LogStore, LogThread)) -> (LogStore, LogThread) {
        close(open);
        LogStore::open(dir).unwrap()
    }

    fn close((log, thread): (LogStore, LogThread)) {
        drop(log);
        thread.thread.join().unwrap();
    }

    async fn indexes(log: &mut LogStore) -> Vec<u64> {
        log.try_get_log_entries(..).await.unwrap().iter().map(|e| e.log_id.index).collect()
    }

    #[tokio::test]
    async fn what_was_saved_is_there_when_it_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = LogStore::open(dir.path()).unwrap();
        let vote = Vote::new_committed(3, BrokerId(1));
        let standing = Standing { proven: true, founders: Vec::new() };
        open.0.save_vote(&vote).await.unwrap();
        open.0.save_standing(standing.clone()).await.unwrap();
        open.0.blocking_append(entries(0..10)).await.unwrap();
        open.0.truncate(id(8)).await.unwrap();
        open.0.blocking_append(entries(8..9)).await.unwrap();

        let mut open = reopen(dir.path(), open);
        assert_eq!(open.0.read_vote().await.unwrap(), Some(vote));
        assert_eq!(open.0.standing(), standing);
        assert_eq!(indexes(&mut open.0).await, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        close(open);
    }

    #[tokio::test]
    async fn who_led_is_forgotten_by_openraft_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = LogStore::open(dir.path()).unwrap();
        let led = Vote::new_committed(3, BrokerId(1));
        open.0.save_vote(&led).await.unwrap();
        open.0.blocking_append(entries(0..2)).await.unwrap();
        for _ in 0..2 {
            open = reopen(dir.path(), open);
            assert_eq!(open.0.forget_leadership(), Some(BrokerId(1)));
            assert_eq!(open.0.read_vote().await.unwrap(), Some(Vote::new(3, BrokerId(1))));
            // Writes all anew.
            open.0.purge(id(0)).await.unwrap();
        }
        open.0.save_vote(&led).await.unwrap();
        assert_eq!(open.0.read_vote().await.unwrap(), Some(led));
        close(open);
    }

    #[tokio::test]
    async fn a_snapshot_takes_the_place_of_the_entries_that_are_purged() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = LogStore::open(dir.path()).unwrap();
        open.0.blocking_append(entries(0..10)).await.unwrap();
        let meta = SnapshotMeta { last_log_id: Some(id(9)), ..Default::default() };
        open.0.save_snapshot(meta.clone(), vec![1, 2, 3]).await.unwrap();
        open.0.purge(id(6)).await.unwrap();

        let mut open = reopen(dir.path(), open);
        let snapshot = open.0.snapshot().unwrap();
        assert_eq!((snapshot.meta, *snapshot.snapshot), (meta, vec![1, 2, 3]));
        assert_eq!(indexes(&mut open.0).await, [7, 8, 9]);

        open.0.purge(id(9)).await.unwrap();
        let mut open = reopen(dir.path(), open);
        let state = open.0.get_log_state().await.unwrap();
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(9)), Some(id(9))));
        close(open);
    }

    #[tokio::test]
    async fn a_snapshot_that_comes_after_a_newer_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = LogStore::open(dir.path()).unwrap();
        open.0.blocking_append(entries(0..10)).await.unwrap();
        let meta = |index| SnapshotMeta { last_log_id: Some(id(index)), ..Default::default() };
        open.0.save_snapshot(meta(20), vec![20]).await.unwrap();
        open.0.purge(id(20)).await.unwrap();
        open.0.save_snapshot(meta(9), vec![9]).await.unwrap();
        assert_eq!(*open.0.snapshot().unwrap().snapshot, vec![20]);
        let open = reopen(dir.path(), open);
        assert_eq!(*open.0.snapshot().unwrap().snapshot, vec![20]);
        close(open);
    }

    #[tokio::test]
    async fn a_log_that_lost_its_snapshot_begins_anew_and_keeps_its_vote() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = LogStore::open(dir.path()).unwrap();
        let vote = Vote::new(3, BrokerId(1));
        open.0.save_vote(&vote).await.unwrap();
        open.0.save_standing(Standing { proven: true, founders: Vec::new() }).await.unwrap();
        open.0.blocking_append(entries(0..10)).await.unwrap();
        // What a crash leaves before the snapshot up to 20 is on the disk.
        open.0.purge(id(20)).await.unwrap();
        for _ in 0..2 {
            open = reopen(dir.path(), open);
            assert_eq!(open.0.read_vote().await.unwrap(), Some(vote));
            assert_eq!((open.0.standing(), open.0.last_log_id()), (Standing::default(), None));
            assert!(open.0.snapshot().is_none() && indexes(&mut open.0).await.is_empty());
        }
        close(open);
    }

    #[tokio::test]
    async fn the_log_says_what_it_takes_before_and_after_its_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = LogStore::open(dir.path()).unwrap();
        open.0.blocking_append(entries(0..10)).await.unwrap();
        let (all, none, end) = open.0.sizes();
        assert!(all > 0 && none == 0 && end.is_none());
        let meta = SnapshotMeta { last_log_id: Some(id(4)), ..Default::default() };
        open.0.save_snapshot(meta, vec![1]).await.unwrap();
        assert_eq!(open.0.sizes(), (all / 2, all / 2, Some(4)));
        close(open);
    }

    #[tokio::test]
    async fn a_message_is_limited_and_never_empty() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = LogStore::open(dir.path()).unwrap();
        let command = |bytes| chronik_core::cluster::MetadataCommand::CreateTopic {
            id: chronik_core::ids::TopicId::default(),
            name: "x".repeat(bytes),
            partitions: 1,
            replication_factor: 1,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
            default_min_insync_replicas: 1,
        };
        let entry = |i, bytes| {
            let batch = crate::types::Batch(vec![command(bytes)]);
            Entry { log_id: id(i), payload: EntryPayload::Normal(batch) }
        };
        let large =
            vec![entry(0, MESSAGE_BYTES * 2), entry(1, MESSAGE_BYTES / 2), entry(2, 10), entry(3, MESSAGE_BYTES)];
        open.0.blocking_append(large).await.unwrap();
        let mut counts = Vec::new();
        for start in 0..4 {
            counts.push(open.0.limited_get_log_entries(start, 4).await.unwrap().len());
        }
        assert_eq!(counts, [1, 2, 1, 1]);
        close(open);
    }

    #[tokio::test]
    async fn a_record_that_is_not_understood_is_an_error_and_not_the_end_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(RealDisk, dir.path()).unwrap();
        journal.append(&[&[250, 1, 2, 3]]).unwrap();
        drop(journal);
        assert!(matches!(LogStore::open(dir.path()), Err(OpenError::Unknown(0, _))));
    }
}
