//! A disk that keeps what was committed, and by chance some of what was being committed.

use super::{Logs, Op, Storage, apply};
use crate::rng::Rng;

/// What is on the disk.
#[derive(Debug, Default)]
pub(crate) struct ModelDisk {
    logs: Logs,
}

impl Storage for ModelDisk {
    fn open(&mut self) -> Logs {
        self.logs.clone()
    }

    fn commit(&mut self, ops: &[Op]) {
        for op in ops {
            apply(&mut self.logs, op);
        }
    }

    fn crash(&mut self, unfinished: &[Op], rng: &mut Rng) {
        let survives = rng.index(unfinished.len() + 1);
        self.commit(&unfinished[..survives]);
    }

    fn wipe(&mut self, _: &mut Rng) {
        self.logs.clear();
    }
}
