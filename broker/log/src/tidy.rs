//! The end of a recovery: what no partition refers to is taken out of use, or cut off.

use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, LogError};
use crate::partition::{Dirty, Segment, folder, parse_folder};
use crate::store::{Kind, Store};
use crate::trash;
use chronik_core::ids::TopicPartition;
use std::collections::BTreeSet;

/// Takes out of use, or cuts, what no partition refers to, but of these. What nobody knows because the write-ahead log has
/// lost something is kept aside, and what there was no room for stays until that is written down.
pub(crate) fn tidy<D: Disk>(
    store: &Store<D>,
    lost: bool,
    but: &BTreeSet<TopicPartition>,
    dirty: &mut Dirty,
) -> Result<(), LogError> {
    let (known, mut unknown) = (store.all(), Vec::new());
    for entry in store.disk.list(&store.root).during("list", &store.root)? {
        if trash::is_trash(&entry.name) {
            if !lost {
                store.trash.push(store.root.join(&entry.name));
            }
        } else if let Some(tp) = parse_folder(&entry.name)
            && known.binary_search_by_key(&tp, |(tp, _)| *tp).is_err()
        {
            if lost {
                unknown.push(tp);
            } else {
                tracing::info!(partition = %tp, "removing what is left of a deleted partition");
                store.set_out(&store.root, &entry.name, store.next_uid())?;
            }
            dirty.root = true;
        }
    }
    store.keep_folders(&unknown)?;
    let known = known.into_iter().map(|(tp, _)| tp);
    known.filter(|tp| !but.contains(tp)).try_for_each(|tp| tidy_partition(store, tp, dirty))
}

/// The same, of one partition's files.
pub(crate) fn tidy_partition<D: Disk>(store: &Store<D>, tp: TopicPartition, dirty: &mut Dirty) -> Result<(), LogError> {
    let Some(shared) = store.partition(tp) else { return Ok(()) };
    let segments = shared.read().segments.clone();
    let dir = folder(&store.root, tp);
    for entry in store.disk.list(&dir).during("list", &dir)? {
        let used = |s: &Segment| [s.log_name(), s.index_name()].contains(&entry.name);
        let used = |name: &str| segments.iter().any(used) || shared.soft().has_file(name);
        if trash::is_trash(&entry.name) {
            store.trash.push(dir.join(&entry.name));
        } else if !used(&entry.name) {
            store.set_out(&dir, &entry.name, store.next_uid())?;
            dirty.folders.insert(tp);
        }
    }
    for segment in segments {
        let path = dir.join(segment.log_name());
        let file = store.file(tp, &segment, Kind::Log).during("open", &path)?;
        if file.len().during("measure", &path)? > segment.len {
            file.set_len(segment.len).during("cut", &path)?;
            dirty.cuts.insert((tp, segment.base, segment.uid));
        }
    }
    Ok(())
}
