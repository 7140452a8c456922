//! Which brokers are alive, as the controller leader hears them. Time is an argument here.

use chronik_core::cluster::{Broker, Image};
use chronik_core::ids::{BrokerEpoch, BrokerId, MetadataOffset};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// A broker that is heard this many intervals late is looked at.
const LATE_INTERVALS: f64 = 2.5;
/// Looks at one broker are this far apart.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// One leader's knowledge. A new leader starts anew: every broker has a whole session from then on, in which
/// it can find the new leader.
pub(super) struct Liveness {
    me: BrokerId,
    since: Instant,
    interval: Duration,
    session: Duration,
    heard: HashMap<BrokerId, (BrokerEpoch, Instant)>,
    probed: HashMap<BrokerId, Instant>,
    /// Those that said last that their disk hangs.
    stalled: HashSet<BrokerId>,
}

/// What a heartbeat calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The broker is unfenced: its lease may be extended.
    Alive,
    /// It is fenced and knows all that it has lost by that: it may be unfenced.
    Ready(BrokerEpoch),
    /// It is fenced and has not applied that yet, or has left in order to stop, or is ahead of the image here.
    Behind,
    /// Its disk hangs: no lease. True if it should be fenced, as it is not yet and another broker can do better.
    Stalled(bool),
    /// Another registration has taken its place.
    Stale,
}

/// What the passing of time calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Fence it: it was silent for a session.
    Fence(BrokerId, BrokerEpoch),
    /// See whether it is still there.
    Probe(BrokerId, BrokerEpoch),
}

impl Liveness {
    pub(super) fn new(me: BrokerId, now: Instant, interval: Duration, session: Duration) -> Self {
        Self {
            me,
            since: now,
            interval,
            session,
            heard: HashMap::new(),
            probed: HashMap::new(),
            stalled: HashSet::new(),
        }
    }

    /// A broker was heard.
    pub(super) fn heartbeat(
        &mut self,
        now: Instant,
        image: &Image,
        (id, epoch): (BrokerId, BrokerEpoch),
        applied: MetadataOffset,
        stalled: bool,
    ) -> Heard {
        let Some(broker) = image.brokers.get(&id) else { return Heard::Behind };
        match broker.epoch {
            Some(current) if current > epoch => return Heard::Stale,
            Some(current) if current == epoch => {}
            // It knows of a registration that is not applied here yet.
            _ => return Heard::Behind,
        }
        self.heard.insert(id, (epoch, now));
        if stalled {
            self.stalled.insert(id);
            // Where all disks hang, nothing is won by leaderships that move.
            let others = image.brokers.values().any(|b| unfenced(b).is_some() && !self.stalled.contains(&b.id));
            return Heard::Stalled(!broker.fenced && others);
        }
        self.stalled.remove(&id);
        if !broker.fenced {
            Heard::Alive
        } else if applied >= broker.fenced_at && !broker.stopping {
            Heard::Ready(epoch)
        } else {
            Heard::Behind
        }
    }

    /// Who has been silent for too long. Names a broker to be probed once per pause.
    pub(super) fn due(&mut self, now: Instant, image: &Image) -> Vec<Due> {
        let mut due = Vec::new();
        for broker in image.brokers.values() {
            let Some(epoch) = unfenced(broker) else { continue };
            let silent = self.silent(now, broker.id, epoch);
            if silent > self.session {
                due.push(Due::Fence(broker.id, epoch));
            } else if broker.id != self.me && self.is_late(now, broker.id, epoch) {
                let probed = self.probed.get(&broker.id);
                if probed.is_none_or(|at| now.duration_since(*at) >= PROBE_PAUSE) {
                    self.probed.insert(broker.id, now);
                    due.push(Due::Probe(broker.id, epoch));
                }
            }
        }
        due
    }

    /// Whether a broker was heard later than that.
    pub(super) fn heard_since(&self, moment: Instant, id: BrokerId, epoch: BrokerEpoch) -> bool {
        self.heard.get(&id).is_some_and(|(e, at)| *e == epoch && *at > moment)
    }

    /// Whether a broker should have been heard again by now.
    fn is_late(&self, now: Instant, id: BrokerId, epoch: BrokerEpoch) -> bool {
        match self.heard.get(&id) {
            Some((e, at)) if *e == epoch => now.duration_since(*at) > self.interval.mul_f64(LATE_INTERVALS),
            // Never heard by this leader: it may have gone before.
            _ => true,
        }
    }

    fn silent(&self, now: Instant, id: BrokerId, epoch: BrokerEpoch) -> Duration {
        let heard = self.heard.get(&id).filter(|(e, _)| *e == epoch).map(|(_, at)| *at);
        now.duration_since(heard.unwrap_or(self.since).max(self.since))
    }
}

fn unfenced(broker: &Broker) -> Option<BrokerEpoch> {
    broker.epoch.filter(|_| !broker.fenced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::{Endpoint, Member, MetadataCommand, MetadataVersion, SupportedVersions};
    use chronik_core::ids::{ClusterId, DirectoryId, IncarnationId};

    const INTERVAL: Duration = Duration::from_millis(100);
    const SESSION: Duration = Duration::from_secs(1);
    const A: BrokerId = BrokerId(0);
    const B: BrokerId = BrokerId(1);

    /// Brokers 0 and 1, registered and unfenced; the leader is broker 0.
    fn cluster() -> (Image, BrokerEpoch) {
        let endpoint = Endpoint { host: "here".into(), port: 1 };
        let member = |id| Member { id, kafka: endpoint.clone(), replication: endpoint.clone(), rack: None };
        let mut image = Image::default();
        let mut n = 0;
        let mut apply = |command| {
            n += 1;
            image.apply(MetadataOffset(n), &command).0.unwrap();
        };
        apply(MetadataCommand::CreateCluster {
            cluster_id: ClusterId::default(),
            members: vec![],
            metadata_version: MetadataVersion::LATEST,
        });
        for (id, epoch) in [(A, 2), (B, 4)] {
            let (directory, incarnation) = (DirectoryId::default(), IncarnationId::default());
            apply(MetadataCommand::RegisterBroker {
                member: member(id),
                directory,
                incarnation,
                damaged: vec![],
                versions: SupportedVersions::HERE,
            });
            apply(MetadataCommand::Unfence { id, epoch: BrokerEpoch(epoch) });
        }
        (image, BrokerEpoch(4))
    }

    #[test]
    fn a_silent_broker_is_probed_when_late_and_fenced_after_a_session() {
        let (image, epoch) = cluster();
        let start = Instant::now();
        let mut liveness = Liveness::new(A, start, INTERVAL, SESSION);
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [0, 900] {
            liveness.heartbeat(at(ms), &image, (A, BrokerEpoch(2)), MetadataOffset(9), false);
            assert_eq!(liveness.heartbeat(at(ms), &image, (B, epoch), MetadataOffset(9), false), Heard::Alive);
        }
        assert_eq!(liveness.due(at(1100), &image), []);
        assert_eq!(liveness.due(at(1151), &image), [Due::Probe(B, epoch)]);
        assert_eq!(liveness.due(at(1200), &image), []);
        assert_eq!(liveness.due(at(1251), &image), [Due::Probe(B, epoch)]);
        liveness.heartbeat(at(1800), &image, (A, BrokerEpoch(2)), MetadataOffset(9), false);
        assert_eq!(liveness.due(at(1901), &image), [Due::Fence(B, epoch)]);
    }

    #[test]
    fn a_new_leader_looks_at_everyone_at_once_and_fences_by_silence_only_after_a_session_of_its_own() {
        let (image, epoch) = cluster();
        let start = Instant::now();
        let mut liveness = Liveness::new(A, start, INTERVAL, SESSION);
        assert_eq!(liveness.due(start, &image), [Due::Probe(B, epoch)]);
        let late = start + SESSION;
        assert!(!liveness.due(late, &image).iter().any(|due| matches!(due, Due::Fence(..))));
        let later = late + Duration::from_millis(1);
        assert_eq!(liveness.due(later, &image), [Due::Fence(A, BrokerEpoch(2)), Due::Fence(B, epoch)]);
    }

    #[test]
    fn a_fenced_broker_is_ready_once_it_has_applied_its_fencing() {
        let (mut image, epoch) = cluster();
        image.apply(MetadataOffset(20), &MetadataCommand::Fence { id: B, epoch }).0.unwrap();
        let now = Instant::now();
        let mut liveness = Liveness::new(A, now, INTERVAL, SESSION);
        assert_eq!(liveness.heartbeat(now, &image, (B, epoch), MetadataOffset(19), false), Heard::Behind);
        assert_eq!(liveness.heartbeat(now, &image, (B, epoch), MetadataOffset(20), false), Heard::Ready(epoch));
    }

    #[test]
    fn a_former_registration_is_stale_and_a_later_one_is_waited_for() {
        let (image, epoch) = cluster();
        let now = Instant::now();
        let mut liveness = Liveness::new(A, now, INTERVAL, SESSION);
        assert_eq!(liveness.heartbeat(now, &image, (B, BrokerEpoch(3)), MetadataOffset(9), false), Heard::Stale);
        assert_eq!(liveness.heartbeat(now, &image, (B, BrokerEpoch(5)), MetadataOffset(9), false), Heard::Behind);
        let moment = now.checked_sub(INTERVAL).unwrap();
        assert!(!liveness.heard_since(moment, B, epoch), "neither counts as being heard");
        liveness.heartbeat(now, &image, (B, epoch), MetadataOffset(9), false);
        assert!(liveness.heard_since(moment, B, epoch));
        assert!(!liveness.heard_since(now, B, epoch), "one that was found gone after it was heard is gone");
    }

    #[test]
    fn who_says_that_its_disk_hangs_is_fenced_while_others_disks_do_not() {
        let (mut image, epoch) = cluster();
        let (now, offset) = (Instant::now(), MetadataOffset(9));
        let mut liveness = Liveness::new(A, now, INTERVAL, SESSION);
        let mut says = |image: &Image, of, stalled| liveness.heartbeat(now, image, of, offset, stalled);
        let (a, b) = ((A, BrokerEpoch(2)), (B, epoch));
        assert_eq!(says(&image, b, true), Heard::Stalled(true));
        assert_eq!(says(&image, a, true), Heard::Stalled(false), "the other one hangs too");
        assert_eq!(says(&image, a, false), Heard::Alive);
        image.apply(MetadataOffset(9), &MetadataCommand::Fence { id: B, epoch }).0.unwrap();
        assert_eq!(says(&image, b, true), Heard::Stalled(false), "it is fenced, and stays so");
        assert_eq!(says(&image, b, false), Heard::Ready(epoch));
    }
}
