//! The end of a recovery: what no partition refers to is taken out of use, or cut off.

use crate::disk::{Disk, DiskFile, create_dir_all};
use crate::error::{IoContext, LogError};
use crate::partition::{Dirty, Segment, folder, parse_folder};
use crate::store::{Kind, Store};
use crate::trash;
use chronik_core::ids::TopicPartition;
use std::collections::BTreeSet;
use std::path::Path;

/// Takes out of use, or cuts, what no partition refers to, but of these. What nobody knows because the write-ahead log has
/// lost something is kept aside.
pub(crate) fn tidy<D: Disk>(
    store: &Store<D>,
    lost: bool,
    but: &BTreeSet<TopicPartition>,
    dirty: &mut Dirty,
) -> Result<(), LogError> {
    let known = store.all();
    for entry in store.disk.list(&store.root).during("list", &store.root)? {
        if trash::is_trash(&entry.name) {
            store.trash.push(store.root.join(&entry.name));
        } else if let Some(tp) = parse_folder(&entry.name)
            && known.binary_search_by_key(&tp, |(tp, _)| *tp).is_err()
        {
            if lost {
                keep_folder(store, &entry.name)?;
            } else {
                tracing::info!(partition = %tp, "removing what is left of a deleted partition");
                store.set_out(&store.root, &entry.name, store.next_uid())?;
            }
            dirty.root = true;
        }
    }
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

/// Moves the folder of a partition that the log does not know to `damaged/`, if there is room for another name.
fn keep_folder<D: Disk>(store: &Store<D>, name: &str) -> Result<(), LogError> {
    let Some(dir) = store.root.parent().map(|dir| dir.join("damaged")) else { return Ok(()) };
    let (from, to) = (store.root.join(name), dir.join(format!("{name}.{:x}", store.next_uid())));
    match move_folder(store, &dir, &from, &to) {
        Err(error) if error.is_full() => {
            tracing::warn!(
                path = %from.display(), %error,
                "this may be a partition that the write-ahead log has lost, and there is no room to keep it aside: copy it \
                 now if no other broker has it, as a later start removes it"
            );
            Ok(())
        }
        moved => {
            moved?;
            tracing::warn!(path = %to.display(), "kept what may be a partition that the write-ahead log has lost");
            Ok(())
        }
    }
}

fn move_folder<D: Disk>(store: &Store<D>, dir: &Path, from: &Path, to: &Path) -> Result<(), LogError> {
    create_dir_all(&store.disk, dir).during("create", dir)?;
    store.disk.rename(from, to).during("rename", from)?;
    store.disk.sync_dir(dir).during("sync", dir)
}
