//! Names in directories, and how they change.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
    }
}
