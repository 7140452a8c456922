//! What a crash leaves of what was not synced.

use super::inode::{Change, Inode};
use super::names::{Node, apply_name};
use super::state::State;
use std::collections::BTreeSet;
use std::path::PathBuf;

impl State {
    /// Cuts the power.
    pub(super) fn crash(&mut self) {
        self.down = true;
        for i in 0..self.inodes.len() {
            let pending = std::mem::take(&mut self.inodes[i].pending);
            if !pending.is_empty() {
                for change in self.surviving(&pending) {
                    change.apply(&mut self.inodes[i].durable);
                }
            }
            let inode = &mut self.inodes[i];
            inode.data.clone_from(&inode.durable);
        }
        let pending = std::mem::take(&mut self.pending_names);
        for change in pending.into_values().flatten() {
            if self.below(2) == 0 {
                apply_name(&mut self.durable_names, &change);
            }
        }
        // What lost its directory is lost too.
        let dirs: BTreeSet<PathBuf> =
            self.durable_names.iter().filter(|(_, n)| **n == Node::Dir).map(|(p, _)| p.clone()).collect();
        self.durable_names.retain(|path, _| path.ancestors().skip(1).all(|a| dirs.contains(a)));
        self.names = self.durable_names.clone();
        // Nobody can reach the others any more.
        let reachable = |node: &Node| if let Node::File(inode) = node { Some(*inode) } else { None };
        let reachable: BTreeSet<usize> = self.names.values().filter_map(reachable).collect();
        for (i, inode) in self.inodes.iter_mut().enumerate() {
            if !reachable.contains(&i) {
                *inode = Inode::default();
            }
        }
    }

    fn surviving(&mut self, pending: &[Change]) -> Vec<Change> {
        match self.below(4) {
            0 => Vec::new(),
            1 => pending.to_vec(),
            2 => {
                let cut = self.below(pending.len() + 1);
                let mut kept = pending[..cut].to_vec();
                if let Some(torn) = pending.get(cut) {
                    let pieces = torn.sectors();
                    let n = self.below(pieces.len() + 1);
                    kept.extend_from_slice(&pieces[..n]);
                }
                kept
            }
            _ => {
                let pieces: Vec<Change> = pending.iter().flat_map(Change::sectors).collect();
                pieces.into_iter().filter(|_| self.below(2) == 0).collect()
            }
        }
    }
}
