//! What the controller's leader knows beside the metadata log: what brokers say of themselves with their heartbeats, and
//! how long the outstanding permit still lasts. A new leader hears it anew. Time is an argument here.

use super::DiskSpace;
use super::damages::Damages;
use chronik_core::cluster::Permit;
use chronik_core::ids::{BrokerEpoch, BrokerId, MetadataOffset};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A broker's last heartbeat.
#[derive(Clone, Debug)]
pub(super) struct Sign {
    /// The registration that it spoke of.
    pub(super) epoch: BrokerEpoch,
    pub(super) at: Instant,
    /// The metadata offset that it had applied.
    pub(super) applied: MetadataOffset,
    pub(super) version: String,
    pub(super) disk: Option<DiskSpace>,
    pub(super) damages: Option<Arc<Damages>>,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) signs: HashMap<BrokerId, Sign>,
    pub(super) permit_left: Option<Duration>,
}

/// Counts a permit's time, from when this leader first saw the grant applied: so a permit may last longer when the
/// leader changes, and never ends early.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PermitClock(Option<(Grant, Instant)>);

/// A permit, and the entry that granted it last.
type Grant = (MetadataOffset, MetadataOffset);

impl PermitClock {
    /// The grant whose time has run out.
    pub(super) fn run_out(&mut self, now: Instant, permit: Option<&Permit>) -> Option<Grant> {
        let Some(permit) = permit else {
            self.0 = None;
            return None;
        };
        let grant = (permit.id, permit.renewed);
        if self.0.is_none_or(|(known, _)| known != grant) {
            // A time beyond what can be counted never comes.
            self.0 = now.checked_add(Duration::from_millis(permit.ttl_ms)).map(|end| (grant, end));
        }
        self.0.filter(|(_, end)| now >= *end).map(|(grant, _)| grant)
    }

    /// What is left of it.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.0.map(|(_, end)| end.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::IncarnationId;

    #[test]
    fn a_permit_runs_out_after_its_time_and_one_that_was_renewed_later() {
        let permit = |renewed| Permit {
            id: MetadataOffset(5),
            renewed: MetadataOffset(renewed),
            broker: BrokerId(1),
            incarnation: IncarnationId::default(),
            ttl_ms: 1000,
            forced: None,
        };
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut clock = PermitClock::default();
        assert_eq!(clock.run_out(at(0), Some(&permit(5))), None);
        assert_eq!(clock.run_out(at(999), Some(&permit(5))), None);
        assert_eq!(clock.left(at(999)), Some(Duration::from_millis(1)));
        assert_eq!(clock.run_out(at(1000), Some(&permit(5))), Some((MetadataOffset(5), MetadataOffset(5))));
        assert_eq!(clock.run_out(at(1001), Some(&permit(9))), None, "it was asked for again");
        assert_eq!(clock.run_out(at(2001), Some(&permit(9))), Some((MetadataOffset(5), MetadataOffset(9))));
        assert_eq!(clock.run_out(at(2002), None), None);
        assert_eq!(clock.left(at(2002)), None);
    }
}
