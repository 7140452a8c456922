//! Names in directories, and how they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(usize),
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf),
    /// With the number of inodes there were: the files in a later directory of that name are younger.
    RemoveDir(PathBuf, usize),
    Rename(PathBuf, PathBuf, Node),
    /// With all that is in it, and the number of inodes there were: the files in a later directory of the old name are
    /// younger.
    RenameDir(PathBuf, PathBuf, usize),
}

/// The path of what was in a directory, now that it is called `to`.
pub(super) fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    path.strip_prefix(from).map_or_else(|_| path.to_path_buf(), |inside| to.join(inside))
}

impl NameChange {
    /// The same change, in a directory that is called `to` now.
    pub(super) fn moved(self, from: &Path, to: &Path) -> Self {
        match self {
            Self::Add(path, node) => Self::Add(moved(&path, from, to), node),
            Self::Remove(path) => Self::Remove(moved(&path, from, to)),
            Self::RemoveDir(path, inodes) => Self::RemoveDir(moved(&path, from, to), inodes),
            Self::Rename(old, new, node) => Self::Rename(moved(&old, from, to), moved(&new, from, to), node),
            Self::RenameDir(old, new, inodes) => Self::RenameDir(moved(&old, from, to), moved(&new, from, to), inodes),
        }
    }
}

pub(super) fn apply_name(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    match change {
        NameChange::Add(path, node) => {
            names.insert(path.clone(), *node);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
        NameChange::RemoveDir(path, inodes) => {
            names.remove(path);
            names.retain(|p, node| p.parent() != Some(path) || !matches!(node, Node::File(i) if *i < *inodes));
        }
        NameChange::Rename(from, to, node) => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
        NameChange::RenameDir(from, to, inodes) => {
            if names.remove(from).is_none() {
                return;
            }
            names.insert(to.clone(), Node::Dir);
            let moves = |(path, node): (&PathBuf, &Node)| {
                let inside = path.parent() == Some(from) && matches!(node, Node::File(i) if *i < *inodes);
                inside.then(|| (path.clone(), *node))
            };
            for (path, node) in names.iter().filter_map(moves).collect::<Vec<_>>() {
                names.remove(&path);
                names.insert(moved(&path, from, to), node);
            }
        }
    }
}
