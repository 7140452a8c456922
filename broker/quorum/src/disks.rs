//! Whether this broker's disks come back from what they are asked.

use chronik_log::Pulse;
use std::time::Duration;

/// The disks of the partitions and of the metadata log, which may be the same. Cheap to clone.
#[derive(Clone)]
pub(super) struct Disks {
    pub(super) data: Pulse,
    pub(super) metadata: Pulse,
    /// What takes so long hangs.
    pub(super) timeout: Duration,
}

impl Disks {
    /// Whether one of them hangs: such a broker leads nothing.
    pub(super) fn hang(&self) -> bool {
        self.age() >= self.timeout
    }

    /// Whether it looks as if they will: a raft leader leaves in time, as an entry that fences it could not be written
    /// where it leads.
    pub(super) fn are_late(&self) -> bool {
        self.age() >= self.timeout.mul_f64(0.8)
    }

    fn age(&self) -> Duration {
        self.data.age().max(self.metadata.age())
    }
}
