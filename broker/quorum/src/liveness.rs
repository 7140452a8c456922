//! Which brokers are alive, as the controller leader hears them. Time is an argument here.

use chronik_core::cluster::{Broker, Image};
use chronik_core::ids::{BrokerEpoch, BrokerId, MetadataOffset};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// A broker that is heard this many intervals late is looked at.
const LATE_INTERVALS: f64 = 2.5;
/// Who led before, and lives, has come to its successor after as many, though it was busy.
const PREDECESSOR_INTERVALS: u32 = 5;
/// A leader that has not looked at its brokers for this long, and half a session, was paused.
const PAUSE: Duration = Duration::from_millis(200);
/// Looks at one broker are this far apart.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// One leader's knowledge. A new leader starts anew: every broker has a whole session from then on, in which
/// it can find the new leader. But its predecessor has the rest of its session: the voters' silence was its own.
pub(super) struct Liveness {
    me: BrokerId,
    /// Who led before.
    predecessor: Option<BrokerId>,
    /// When a voter was last led by another one.
    led_until: Instant,
    /// When the leases of former terms have ended: nobody is fenced by silence before.
    leases_end: Instant,
    since: Instant,
    /// When this leader looked last.
    looked: Instant,
    /// When it went on after a pause: everybody has a session from then on.
    resumed: Option<Instant>,
    /// When that was, for each broker that was heard: the first time since it was heard last.
    excused: HashMap<BrokerId, Instant>,
    interval: Duration,
    session: Duration,
    heard: HashMap<BrokerId, (BrokerEpoch, Instant)>,
    probed: HashMap<BrokerId, Instant>,
    /// The connection that each broker's heartbeats come over, while it lasts.
    attached: HashMap<BrokerId, (BrokerEpoch, u64)>,
    /// Those that said last that their disk hangs.
    stalled: HashSet<BrokerId>,
    /// The number of each broker's last heartbeat.
    numbers: HashMap<BrokerId, (BrokerEpoch, u64)>,
    /// What the leader knew when it last looked for leaderships that were lost.
    known: Image,
    /// Whoever has not applied that entry may not know of a leadership that it lost before this leader's term.
    from: MetadataOffset,
    /// By broker, an entry that is not before the last one that took a leadership from it.
    lost: HashMap<BrokerId, MetadataOffset>,
}

/// What a heartbeat calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The broker is unfenced: its lease may be extended.
    Alive,
    /// It is fenced and knows all that it has lost by that: it may be unfenced.
    Ready(BrokerEpoch),
    /// It has not applied its fencing yet, or an entry that took a leadership from it; or has left in order to stop, or
    /// is ahead of the image here.
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
    /// That of a leader whose term begins with `image`.
    pub(super) fn new(me: BrokerId, now: Instant, interval: Duration, session: Duration, image: Image) -> Self {
        Self {
            me,
            predecessor: None,
            led_until: now,
            leases_end: now,
            since: now,
            looked: now,
            resumed: None,
            excused: HashMap::new(),
            interval,
            session,
            heard: HashMap::new(),
            probed: HashMap::new(),
            attached: HashMap::new(),
            stalled: HashSet::new(),
            numbers: HashMap::new(),
            from: image.offset,
            known: image,
            lost: HashMap::new(),
        }
    }

    /// The same, of one that succeeds another broker, if it is known which. The voters were led until then, and the leases
    /// that they got meanwhile have an end (see [`super::silence`]).
    pub(super) fn after(self, predecessor: Option<BrokerId>, led_until: Instant, leases_end: Instant) -> Self {
        Self { predecessor, led_until, leases_end, ..self }
    }

    /// Whether a broker that has applied all up to `applied` knows of each leadership that it has lost. One that does not
    /// would go on answering readers under a lease, with a high watermark that its successor has passed.
    fn knows_what_it_lost(&mut self, image: &Image, id: BrokerId, applied: MetadataOffset) -> bool {
        if image.offset > self.known.offset {
            let lost = image.lost_leaderships_since(&self.known);
            self.lost.extend(lost.into_iter().map(|id| (id, image.offset)));
            self.known = image.clone();
        }
        applied >= self.lost.get(&id).copied().unwrap_or(self.from)
    }

    /// Whether a broker's heartbeat comes after a later one of the same process. It may have been on another
    /// connection, and say that a disk hangs which has come back since: the broker may have a lease again.
    pub(super) fn is_overtaken(&mut self, (id, epoch): (BrokerId, BrokerEpoch), number: u64) -> bool {
        let last = self.numbers.entry(id).or_insert((epoch, number));
        if epoch > last.0 {
            *last = (epoch, number);
        }
        // Another registration is judged as such. Who does not count is never late.
        let overtaken = epoch == last.0 && number > 0 && number < last.1;
        if epoch == last.0 {
            last.1 = last.1.max(number);
        }
        overtaken
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
            return Heard::Stalled(!broker.fenced && others && self.knows_of_leases(now, id));
        }
        self.stalled.remove(&id);
        if !broker.fenced {
            if self.knows_what_it_lost(image, id, applied) { Heard::Alive } else { Heard::Behind }
        } else if applied >= broker.fenced_at && !broker.stopping {
            Heard::Ready(epoch)
        } else {
            Heard::Behind
        }
    }

    /// Whether what a broker says of its disk is not older than its lease, as far as this leader can tell. A message that was
    /// long on its way may be overtaken by one to a former leader, who gave a lease for it: only this leader's own leases
    /// are known here (see [`Liveness::is_overtaken`]). A former leader has told itself first that its own disk hangs.
    fn knows_of_leases(&self, now: Instant, id: BrokerId) -> bool {
        self.predecessor == Some(id) || now >= self.leases_end
    }

    /// The leader looks at its brokers, again and again. If it has not for long, its process was paused (or its machine,
    /// with all brokers), and what was sent to it meanwhile may still wait to be read: that is nobody's silence.
    pub(super) fn looks(&mut self, now: Instant) {
        if now.saturating_duration_since(self.looked) > PAUSE.max(self.session / 2) {
            // Once for who is not heard again: a process that is late again and again would fence nobody.
            self.resumed.get_or_insert(now);
            for (id, (_, heard)) in &self.heard {
                let excused = self.excused.entry(*id).or_insert(now);
                if *heard > *excused {
                    *excused = now;
                }
            }
        }
        self.looked = now;
    }

    /// Who has been silent for too long. Names a broker to be probed once per pause.
    pub(super) fn due(&mut self, now: Instant, image: &Image) -> Vec<Due> {
        let mut due = Vec::new();
        for broker in image.brokers.values() {
            let Some(epoch) = unfenced(broker) else { continue };
            if now > self.session_end(broker.id, epoch) {
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

    /// A broker's heartbeats come over that connection. True if they did not before.
    pub(super) fn attached(&mut self, (id, epoch): (BrokerId, BrokerEpoch), connection: u64) -> bool {
        self.attached.insert(id, (epoch, connection)) != Some((epoch, connection))
    }

    /// A connection has ended. True if it was the one that the broker's heartbeats came over.
    pub(super) fn detached(&mut self, id: BrokerId, connection: u64) -> bool {
        let was = self.attached.get(&id).is_some_and(|(_, current)| *current == connection);
        if was {
            self.attached.remove(&id);
        }
        was
    }

    /// Whether a broker is gone at whose ports nobody listened at that moment. A process that lives may be behind
    /// something that refuses whoever dials it; but it has not let go of the connection that its heartbeats come over,
    /// or has made another one. Who has not been heard by this leader yet has a moment to find it: but not the one that led
    /// before, as a voter succeeds it that has found it gone, or has missed it.
    pub(super) fn is_gone(&self, moment: Instant, (id, epoch): (BrokerId, BrokerEpoch)) -> bool {
        let attached = self.attached.get(&id).is_some_and(|(e, _)| *e == epoch);
        let silent = match self.heard.get(&id) {
            Some((e, at)) if *e == epoch => *at <= moment,
            _ => self.predecessor == Some(id) || moment.duration_since(self.since) > self.lateness(),
        };
        silent && !attached
    }

    fn lateness(&self) -> Duration {
        self.interval.mul_f64(LATE_INTERVALS)
    }

    /// Whether a broker should have been heard again by now.
    fn is_late(&self, now: Instant, id: BrokerId, epoch: BrokerEpoch) -> bool {
        match self.heard.get(&id) {
            Some((e, at)) if *e == epoch => now.duration_since(*at) > self.lateness(),
            // Never heard by this leader: it may have gone before.
            _ => true,
        }
    }

    /// When a broker has been silent for too long, unless it is heard before.
    fn session_end(&self, id: BrokerId, epoch: BrokerEpoch) -> Instant {
        let end = match self.heard.get(&id) {
            Some((e, at)) if *e == epoch => *at + self.session,
            _ if self.predecessor == Some(id) => {
                (self.led_until + self.session).max(self.since + self.interval * PREDECESSOR_INTERVALS)
            }
            _ => self.since + self.session,
        };
        let excused = if self.heard.contains_key(&id) { self.excused.get(&id).copied() } else { self.resumed };
        end.max(self.leases_end).max(excused.map_or(end, |at| at + self.session))
    }
}

fn unfenced(broker: &Broker) -> Option<BrokerEpoch> {
    broker.epoch.filter(|_| !broker.fenced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::{
        Endpoint, Leaving, Member, MetadataCommand, MetadataVersion, ResignReason, ResignedPartitions,
        SupportedVersions,
    };
    use chronik_core::ids::{ClusterId, DirectoryId, IncarnationId, TopicId};
    use std::collections::BTreeMap;

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
        let mut liveness = Liveness::new(A, start, INTERVAL, SESSION, image.clone());
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
        let mut liveness = Liveness::new(A, start, INTERVAL, SESSION, image.clone());
        assert_eq!(liveness.due(start, &image), [Due::Probe(B, epoch)]);
        let late = start + SESSION;
        assert!(!liveness.due(late, &image).iter().any(|due| matches!(due, Due::Fence(..))));
        let later = late + Duration::from_millis(1);
        assert_eq!(liveness.due(later, &image), [Due::Fence(A, BrokerEpoch(2)), Due::Fence(B, epoch)]);
    }

    #[test]
    fn a_predecessor_has_the_rest_of_its_session_and_nobody_is_fenced_while_a_lease_may_run() {
        let (image, epoch) = cluster();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Elected at 600; led until then, the last lease ends then; the ends of the sessions of B, which led before, of C,
        // which did not come, and of A, which was heard at 700.
        for (led_until, leases_end, b, a_unheard, a) in [
            (0, 1_050, 1_100, 1_600, 1_700),
            (200, 1_250, 1_250, 1_600, 1_700),
            (590, 1_640, 1_640, 1_640, 1_700),
            (590, 1_800, 1_800, 1_800, 1_800),
        ] {
            let new = || Liveness::new(A, at(600), INTERVAL, SESSION, image.clone());
            let mut liveness = new().after(Some(B), at(led_until), at(leases_end));
            let own = (A, BrokerEpoch(2));
            assert_eq!(liveness.session_end(B, epoch), at(b));
            assert_eq!(liveness.session_end(own.0, own.1), at(a_unheard));
            liveness.heartbeat(at(700), &image, own, MetadataOffset(9), false);
            assert_eq!(liveness.session_end(own.0, own.1), at(a));
            let fenced = |liveness: &mut Liveness, now| liveness.due(now, &image).contains(&Due::Fence(B, epoch));
            assert!(!fenced(&mut liveness, at(b)));
            assert!(fenced(&mut liveness, at(b + 1)));
            liveness.heartbeat(at(b), &image, (B, epoch), MetadataOffset(9), false);
            assert!(!fenced(&mut liveness, at(b + 1_000)), "it has come, and has a session like any other");
            let nobody = new().after(None, at(led_until), at(leases_end));
            assert_eq!(nobody.session_end(B, epoch), at(a_unheard));
        }
    }

    #[test]
    fn after_a_pause_of_the_leader_everybody_has_a_session() {
        let (image, epoch) = cluster();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let fence = Due::Fence(B, epoch);
        // When the leader looks, and whether B, which was heard at the beginning, is found silent then.
        let fenced = |looks: &[(u64, bool)]| {
            let mut liveness = Liveness::new(A, start, INTERVAL, SESSION, image.clone());
            liveness.heartbeat(start, &image, (B, epoch), MetadataOffset(9), false);
            for (ms, expected) in looks {
                liveness.looks(at(*ms));
                assert_eq!(liveness.due(at(*ms), &image).contains(&fence), *expected, "{ms} of {looks:?}");
            }
        };
        fenced(&[(400, false), (800, false), (1_000, false), (1_001, true)]);
        fenced(&[(400, false), (800, false), (1_300, true)]);
        fenced(&[(400, false), (60_000, false), (60_500, false), (61_000, false), (61_001, true)]);
        // Late each time.
        fenced(&[(600, false), (1_200, false), (1_800, true)]);
    }

    #[test]
    fn a_fenced_broker_is_ready_once_it_has_applied_its_fencing() {
        let (mut image, epoch) = cluster();
        image.apply(MetadataOffset(20), &MetadataCommand::Fence { id: B, epoch }).0.unwrap();
        let now = Instant::now();
        let mut liveness = Liveness::new(A, now, INTERVAL, SESSION, image.clone());
        assert_eq!(liveness.heartbeat(now, &image, (B, epoch), MetadataOffset(19), false), Heard::Behind);
        assert_eq!(liveness.heartbeat(now, &image, (B, epoch), MetadataOffset(20), false), Heard::Ready(epoch));
    }

    #[test]
    fn who_has_lost_a_leadership_gets_no_lease_before_it_has_applied_that() {
        let (mut image, _) = cluster();
        let topic = TopicId(uuid::Uuid::from_u128(1));
        let led_by = |leader, others: &[BrokerId]| MetadataCommand::CreateTopic {
            id: topic,
            name: "t".into(),
            partitions: 1,
            replication_factor: -1,
            assignments: BTreeMap::from([(0, [&[leader], others].concat())]),
            configs: BTreeMap::new(),
            default_min_insync_replicas: 1,
        };
        image.apply(MetadataOffset(20), &led_by(B, &[A])).0.unwrap();
        let (now, a, b) = (Instant::now(), (A, BrokerEpoch(2)), (B, BrokerEpoch(4)));
        let mut liveness = Liveness::new(A, now, INTERVAL, SESSION, image.clone());
        let mut heard = |image: &Image, of, applied| liveness.heartbeat(now, image, of, MetadataOffset(applied), false);
        assert_eq!(heard(&image, b, 19), Heard::Behind, "it may have lost something in another leader's term");
        assert_eq!(heard(&image, b, 20), Heard::Alive);
        let partitions = ResignedPartitions::All;
        let (leaving, reason) = (Leaving::Leadership, ResignReason::Asked);
        let resign = MetadataCommand::Resign { broker: B, broker_epoch: b.1, partitions, leaving, reason };
        image.apply(MetadataOffset(30), &resign).0.unwrap();
        assert_eq!(heard(&image, b, 29), Heard::Behind);
        assert_eq!(heard(&image, a, 29), Heard::Alive, "the other one has lost nothing");
        image.apply(MetadataOffset(31), &MetadataCommand::DeleteTopic { id: topic }).0.unwrap();
        assert_eq!(heard(&image, b, 29), Heard::Behind, "it still has not");
        assert_eq!(heard(&image, b, 30), Heard::Alive);
    }

    #[test]
    fn a_former_registration_is_stale_and_a_later_one_is_waited_for() {
        let (image, epoch) = cluster();
        let now = Instant::now();
        let mut liveness = Liveness::new(A, now, INTERVAL, SESSION, image.clone());
        assert_eq!(liveness.heartbeat(now, &image, (B, BrokerEpoch(3)), MetadataOffset(9), false), Heard::Stale);
        assert_eq!(liveness.heartbeat(now, &image, (B, BrokerEpoch(5)), MetadataOffset(9), false), Heard::Behind);
        let (before, later) = (now + INTERVAL * 3, now + INTERVAL * 4);
        assert!(liveness.is_gone(before, (B, epoch)), "neither counts as being heard");
        liveness.heartbeat(later, &image, (B, epoch), MetadataOffset(9), false);
        assert!(!liveness.is_gone(before, (B, epoch)));
        assert!(liveness.is_gone(later, (B, epoch)), "one that was found gone after it was heard is gone");
    }

    #[test]
    fn a_broker_is_not_gone_whose_heartbeats_connection_lasts() {
        let (image, epoch) = cluster();
        let start = Instant::now();
        let mut liveness = Liveness::new(A, start, INTERVAL, SESSION, image);
        assert!(!liveness.is_gone(start, (B, epoch)), "it has not found this leader yet");
        liveness = liveness.after(Some(B), start, start);
        assert!(liveness.is_gone(start, (B, epoch)), "that is why this one leads");
        liveness = liveness.after(Some(A), start, start);
        let now = start + INTERVAL * 3;
        assert!(liveness.is_gone(now, (B, epoch)), "it should have been heard by now");
        assert!(liveness.attached((B, epoch), 1));
        assert!(!liveness.attached((B, epoch), 1), "its end is waited for already");
        assert!(!liveness.is_gone(now, (B, epoch)));
        assert!(liveness.attached((B, epoch), 2), "it has made another one");
        assert!(!liveness.detached(B, 1), "the former one says nothing");
        assert!(!liveness.is_gone(now, (B, epoch)));
        assert!(liveness.detached(B, 2));
        assert!(liveness.is_gone(now, (B, epoch)));
        let next = BrokerEpoch(epoch.0 + 1);
        assert!(liveness.attached((B, next), 3));
        assert!(liveness.is_gone(now, (B, epoch)), "that is its next process");
    }

    #[test]
    fn a_heartbeat_that_comes_after_a_later_one_says_nothing() {
        let (image, epoch) = cluster();
        let mut liveness = Liveness::new(A, Instant::now(), INTERVAL, SESSION, image);
        let next = BrokerEpoch(epoch.0 + 1);
        for (epoch, number, overtaken) in [
            (epoch, 1, false),
            (epoch, 3, false),
            (epoch, 2, true),
            (epoch, 3, false),
            (epoch, 4, false),
            (epoch, 0, false),
            (epoch, 3, true),
            (next, 1, false),
            (epoch, 2, false),
            (next, 2, false),
            (next, 1, true),
        ] {
            assert_eq!(liveness.is_overtaken((B, epoch), number), overtaken, "{epoch} {number}");
        }
        assert!(!liveness.is_overtaken((A, epoch), 1), "each broker counts for itself");
    }

    #[test]
    fn who_says_that_its_disk_hangs_is_fenced_while_others_disks_do_not() {
        let (mut image, epoch) = cluster();
        let (now, offset) = (Instant::now(), MetadataOffset(9));
        let mut liveness = Liveness::new(A, now, INTERVAL, SESSION, image.clone());
        let mut says = |image: &Image, of, stalled| liveness.heartbeat(now, image, of, offset, stalled);
        let (a, b) = ((A, BrokerEpoch(2)), (B, epoch));
        assert_eq!(says(&image, b, true), Heard::Stalled(true));
        assert_eq!(says(&image, a, true), Heard::Stalled(false), "the other one hangs too");
        assert_eq!(says(&image, a, false), Heard::Alive);
        image.apply(MetadataOffset(9), &MetadataCommand::Fence { id: B, epoch }).0.unwrap();
        assert_eq!(says(&image, b, true), Heard::Stalled(false), "it is fenced, and stays so");
        assert_eq!(says(&image, b, false), Heard::Ready(epoch));
    }

    /// Its disk may have come back, and the former leader have given it a lease, since it said so.
    #[test]
    fn who_says_that_its_disk_hangs_is_not_fenced_while_a_lease_of_a_former_leader_may_run() {
        let (image, epoch) = cluster();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let new = || Liveness::new(A, start, INTERVAL, SESSION, image.clone());
        for (predecessor, ms, fenced) in
            [(None, 699, false), (None, 700, true), (Some(A), 699, false), (Some(B), 0, true)]
        {
            let mut liveness = new().after(predecessor, start, at(700));
            let heard = liveness.heartbeat(at(ms), &image, (B, epoch), MetadataOffset(9), true);
            assert_eq!(heard, Heard::Stalled(fenced), "{predecessor:?} {ms}");
        }
    }
}
