//! What is behind the partitions' ends when all that the write-ahead log has is applied: nothing, unless that has lost its end.

use crate::disk::{Disk, is_unreadable};
use crate::error::{IoContext, LogError};
use crate::history::History;
use crate::partition::{Dirty, folder, log_name, tail_batches};
use crate::store::Store;
use chronik_core::ids::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};

/// Settles where the partitions end, now that all that the WAL has is applied. Returns whether they prove that it has lost
/// something, and which of them have something behind their ends that the disk cannot read.
pub(crate) fn end_partitions<D: Disk>(
    store: &Store<D>,
    histories: &BTreeMap<TopicPartition, History>,
    lost: bool,
    dirty: &mut Dirty,
) -> Result<(bool, BTreeSet<TopicPartition>), LogError> {
    let (mut proven, mut unread) = (false, BTreeSet::new());
    for (tp, shared) in store.all() {
        let history = histories.get(&tp);
        let announced = history.is_some_and(|h| h.announced);
        // Behind the end of one that was announced may be what no round has finished. That does no harm in a log that is not
        // believed, and what else is there was acknowledged, and is perhaps nowhere else.
        let mut tail = Tail::default();
        if history.is_none_or(|h| h.deleted.is_none() && !h.truncated) && (lost || !announced) {
            tail = keep_tail(store, tp, dirty)?;
        }
        let found = tail.kept || tail.unreadable.is_some();
        if (announced || found)
            && let Some(last) = shared.write().segments.last_mut()
        {
            // What is behind its end is cut off, and may come back if a sync fails and the power goes. (What announces that may
            // be lost too.)
            last.sealed = true;
        }
        proven |= found;
        if let Some(error) = tail.unreadable {
            if !store.options.open_with_wal_loss {
                // There is nobody else to have it from, and it can be read another time perhaps.
                return Err(error);
            }
            unread.insert(tp);
        }
        // A snapshot of producers that the checkpoint has may be of what came behind it in the WAL, and is lost.
        let end = shared.read().end;
        shared.soft().cut(end);
    }
    Ok((proven, unread))
}

/// What was found behind a partition's end.
#[derive(Default)]
struct Tail {
    /// Whether there were batches, which are taken over.
    kept: bool,
    /// Something that the disk cannot read.
    unreadable: Option<LogError>,
}

/// Takes over valid batches that continue the partition in its files: they were durable in a WAL that has
/// lost them, as was what the disk cannot read there.
fn keep_tail<D: Disk>(store: &Store<D>, tp: TopicPartition, dirty: &mut Dirty) -> Result<Tail, LogError> {
    let mut tail = Tail::default();
    let Some(shared) = store.partition(tp) else { return Ok(tail) };
    loop {
        let state = shared.read().clone();
        if state.damaged.is_some() {
            return Ok(tail);
        }
        // Behind the last segment's end, unless something was cut off there, or in the segment that would come next.
        let last = state.segments.last().filter(|s| !s.sealed).map(|s| (s.log_name(), s.len));
        let mut batches = Vec::new();
        for (name, position) in last.into_iter().chain([(log_name(state.end), 0)]) {
            let path = folder(&store.root, tp).join(name);
            if batches.is_empty() && store.disk.exists(&path).during("look for", &path)? {
                let file = store.disk.open(&path).during("open", &path)?;
                batches = match tail_batches(&store.disk, &file, position, &state) {
                    Err(error) if is_unreadable(&error) => {
                        tracing::error!(partition = %tp, from = %state.end, %error, "what follows cannot be read");
                        let detail = format!("the disk cannot read what is behind offset {} there", state.end);
                        tail.unreadable = Some(LogError::corrupt(&path, detail));
                        return Ok(tail);
                    }
                    other => other.during("read", &path)?,
                };
            }
        }
        if batches.is_empty() {
            return Ok(tail);
        }
        tracing::error!(
            partition = %tp, from = %state.end, batches = batches.len(),
            "the write-ahead log has lost batches that the partition still has; they are kept"
        );
        // They stay where they are, and so does what follows them.
        store.roll_at(tp, []);
        store.append(tp, &batches.iter().collect::<Vec<_>>(), dirty)?;
        tail.kept = true;
    }
}
