//! A disk that keeps what was committed, and by chance some of what was being committed.

use super::{Logs, Storage, apply};
use crate::rng::Rng;
use chronik_log::Op;

/// What is on the disk.
#[derive(Debug, Default)]
pub(crate) struct ModelDisk {
    logs: Logs,
}

impl Storage for ModelDisk {
    fn open(&mut self) -> Result<Logs, String> {
        Ok(self.logs.clone())
    }

    fn commit(&mut self, ops: &[Op]) -> Result<(), String> {
        for op in ops {
            apply(&mut self.logs, op);
        }
        Ok(())
    }

    fn crash(&mut self, unfinished: &[Op], rng: &mut Rng) {
        let survives = rng.index(unfinished.len() + 1);
        for op in &unfinished[..survives] {
            apply(&mut self.logs, op);
        }
    }

    fn wipe(&mut self, _: &mut Rng) {
        self.logs.clear();
    }
}
