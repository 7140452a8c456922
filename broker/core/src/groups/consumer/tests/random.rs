use super::*;
use std::collections::BTreeSet;

/// A small generator, so that a seed names a run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// A client: what it is assigned, and what it uses.
#[derive(Debug, Default)]
struct Consumer {
    id: String,
    epoch: i32,
    /// What it uses. It takes up what it is assigned at once, and revokes what it loses at once or later.
    owned: BTreeSet<(TopicId, i32)>,
    /// The assignment of its last answer.
    assigned: BTreeSet<(TopicId, i32)>,
    /// Whether the last answer was lost, so that it says everything again.
    doubtful: bool,
    regex: bool,
    instance: Option<String>,
}

impl Consumer {
    fn request(&self) -> Heartbeat {
        let joins = self.epoch == 0;
        let full = joins || self.doubtful;
        let mut owned: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in &self.owned {
            owned.entry(*topic).or_default().push(*partition);
        }
        let owned = owned.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect();
        let mut request = beat(&self.id, self.epoch);
        request.instance_id = self.instance.as_deref().map(Arc::from);
        request.owned = Some(owned);
        if full {
            request.rebalance_timeout_ms = 20_000;
            if self.regex {
                request.subscribed_topic_regex = Some(Arc::from("t.*"));
            } else {
                request.subscribed_topic_names = Some(vec![Arc::from("t1"), Arc::from("u1")]);
            }
        }
        request
    }

    fn fenced(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.assigned.clear();
        self.doubtful = false;
    }
}

/// What has happened so far.
struct World {
    harness: Harness,
    consumers: Vec<Consumer>,
    /// The highest epochs seen.
    group_epoch: i32,
    names: usize,
    seed: u64,
}

impl World {
    /// A heartbeat; its answer is lost sometimes, and a consumer may be slow to give back.
    fn heartbeat(&mut self, at: usize, lost: bool, slow: bool) {
        let consumer = &mut self.consumers[at];
        let before = consumer.epoch;
        match self.harness.heartbeat(&consumer.request()) {
            Ok(_) if lost => consumer.doubtful = true,
            Ok(answer) => {
                assert!(answer.member_epoch >= before, "seed {}: an epoch goes back", self.seed);
                consumer.epoch = answer.member_epoch;
                consumer.doubtful = false;
                if let Some(assignment) = answer.assignment {
                    consumer.assigned =
                        assignment.iter().flat_map(|t| t.partitions.iter().map(|p| (t.topic_id, *p))).collect();
                    consumer.owned.extend(consumer.assigned.iter().copied());
                }
            }
            Err(GroupError::FencedMemberEpoch | GroupError::UnknownMemberId | GroupError::GroupIdNotFound) => {
                consumer.fenced();
            }
            // Not until the session of the one before it has ended.
            Err(GroupError::UnreleasedInstanceId) => {}
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
        if !slow {
            let assigned = std::mem::take(&mut self.consumers[at].assigned);
            self.consumers[at].owned.retain(|p| assigned.contains(p));
            self.consumers[at].assigned = assigned;
        }
    }

    /// Nobody uses what another one uses, and the log says what the group is.
    fn check(&mut self) {
        let mut users: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
        for consumer in &self.consumers {
            for at in &consumer.owned {
                if let Some(other) = users.insert(*at, &consumer.id) {
                    panic!("seed {}: {other} and {} both use {at:?}", self.seed, consumer.id);
                }
            }
        }
        assert!(self.harness.group.epoch >= self.group_epoch, "seed {}: the group's epoch goes back", self.seed);
        self.group_epoch = self.harness.group.epoch;
        assert!(self.harness.group.assignment_epoch <= self.group_epoch);
        self.harness.assert_loaded_is_written();
    }

    fn join(&mut self, random: &mut Random) {
        self.names += 1;
        let taken: Vec<_> = self.consumers.iter().filter_map(|c| c.instance.clone()).collect();
        let instance = format!("i{}", random.next(3));
        let instance = (random.next(4) == 0 && !taken.contains(&instance)).then_some(instance);
        let regex = random.next(3) == 0;
        self.consumers.push(Consumer { id: format!("m{}", self.names), regex, instance, ..Consumer::default() });
    }

    /// A consumer goes: it says so (for good, or for a while), or it is killed.
    fn go(&mut self, at: usize, random: &mut Random) {
        let consumer = self.consumers.remove(at);
        let epoch = if consumer.instance.is_some() && random.next(2) == 0 { -2 } else { -1 };
        if random.next(3) > 0 {
            let mut request = beat(&consumer.id, epoch);
            request.instance_id = consumer.instance.as_deref().map(Arc::from);
            let _ = self.harness.heartbeat(&request);
        }
    }

    fn step(&mut self, random: &mut Random) {
        let count = self.consumers.len();
        match random.next(20) {
            0 if count < 6 => self.join(random),
            1 if count > 0 => self.go(random.next(count), random),
            2 => self.harness.fail_over(),
            3 => {
                let topics = [("t1", 1 + random.next(4)), ("u1", 1 + random.next(4)), ("t2", random.next(3))];
                // Partitions are never taken away, and a topic of none is one that does not exist.
                let had = |name: &str| self.harness.image.topic_by_name(name).map_or(0, |t| t.partitions.len());
                let topics: Vec<_> =
                    topics.iter().map(|(n, p)| (*n, (*p).max(had(n)))).filter(|(_, p)| *p > 0).collect();
                self.harness.set_topics(&topics);
            }
            _ if count > 0 => {
                let (lost, slow) = (random.next(5) == 0, random.next(3) == 0);
                self.heartbeat(random.next(count), lost, slow);
            }
            _ => {}
        }
        self.pass(Duration::from_millis(random.next(1500) as u64));
    }

    /// Time passes. Who has been fenced meanwhile has noticed by its own clock that it did not get through.
    fn pass(&mut self, time: Duration) {
        self.harness.pass(time);
        for consumer in &mut self.consumers {
            if consumer.epoch > 0 && !self.harness.group.members.contains_key(consumer.id.as_str()) {
                consumer.owned.clear();
            }
        }
    }
}

fn run(seed: u64) {
    let harness = Harness::new(&[("t1", 3), ("u1", 2)]);
    let mut world = World { harness, consumers: Vec::new(), group_epoch: 0, names: 0, seed };
    let random = &mut Random(seed);
    for _ in 0..300 {
        world.step(random);
        world.check();
    }
    // Faults end: sessions of those who are gone run out, and everybody heartbeats in time.
    world.join(random);
    for _ in 0..30 {
        for at in 0..world.consumers.len() {
            world.heartbeat(at, false, false);
            world.check();
        }
        world.pass(Duration::from_secs(3));
    }
    assert_eq!(world.harness.group.state(), "Stable", "seed {seed}");
    assert_eq!(world.harness.group.members.len(), world.consumers.len(), "seed {seed}");
    let used: BTreeSet<_> = world.consumers.iter().flat_map(|c| c.owned.iter().copied()).collect();
    let subscribed = world.harness.group.topics(&world.harness.image);
    let all = subscribed.values().flat_map(|t| (0..t.partitions.len()).map(|p| (t.id, p as i32)));
    assert_eq!(used, all.collect(), "seed {seed}: partitions that nobody uses");
    for consumer in &world.consumers {
        assert_eq!(consumer.epoch, world.harness.group.epoch, "seed {seed}");
        assert_eq!(consumer.owned, consumer.assigned, "seed {seed}");
    }
}

#[test]
fn nobody_uses_what_another_one_uses_and_all_converge_once_faults_end() {
    for seed in 0..200 {
        run(seed);
    }
}
