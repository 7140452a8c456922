use super::config::{ConfigChange, ConfigOp, ConfigResource};
use super::*;
use crate::time::Instant;

const LEADER: &str = "leader.replication.throttled";
const FOLLOWER: &str = "follower.replication.throttled";

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000)
}

impl Cluster {
    fn set(&mut self, resource: ConfigResource, name: String, value: &str) {
        let changes = vec![ConfigChange { name, op: ConfigOp::Set(value.into()) }];
        self.accepted(&MetadataCommand::AlterConfigs { resource, replace: false, changes });
    }

    /// As kafka-reassign-partitions sets a broker's two rates.
    fn throttle(&mut self, broker: i32, rate: u64) {
        let changes = [LEADER, FOLLOWER]
            .map(|of| ConfigChange { name: format!("{of}.rate"), op: ConfigOp::Set(rate.to_string()) })
            .to_vec();
        let resource = ConfigResource::Broker(BrokerId(broker));
        // Not as the others: the entry reports a change of the broker, but comparing the images reports its partitions.
        let offset = self.image.offset;
        self.image.apply(offset, &MetadataCommand::AlterConfigs { resource, replace: false, changes }).0.unwrap();
    }

    /// As it lists the replicas of a topic.
    fn list(&mut self, topic: u128, leaders: &str, followers: &str) {
        let resource = ConfigResource::Topic(TopicId(uuid(topic)));
        self.set(resource.clone(), format!("{LEADER}.replicas"), leaders);
        self.set(resource, format!("{FOLLOWER}.replicas"), followers);
    }

    fn rates(&self, leader: i32, follower: i32) -> Option<ThrottledRates> {
        self.rates_of(&mut Throttle::default(), leader, follower)
    }

    fn rates_of(&self, throttle: &mut Throttle, leader: i32, follower: i32) -> Option<ThrottledRates> {
        let (partition, leader, follower) = (tp(1, 0), BrokerId(leader), BrokerId(follower));
        let rates = self.image.throttled_rates(partition, leader, follower)?;
        throttle.in_force((&self.image, rates), partition, (leader, follower))
    }
}

/// Topic 1 goes from brokers 0 and 1 to 2 and 3, as the tool throttles it.
fn moving() -> Cluster {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 1);
    for broker in 0..4 {
        cluster.throttle(broker, 1_000 + broker as u64);
    }
    cluster.list(1, "0:0,0:1", "0:2,0:3");
    cluster.moves(1, &[2, 3]);
    cluster
}

#[test]
fn listed_replicas_are_throttled_while_they_are_not_in_sync() {
    let mut cluster = moving();
    let both = ThrottledRates { leader: Some(1_000), follower: Some(1_002) };
    assert_eq!(cluster.rates(0, 2), Some(both));
    assert_eq!(cluster.rates(0, 1), None, "it is in sync");
    assert_eq!(cluster.rates(2, 3), Some(ThrottledRates { leader: None, follower: Some(1_003) }), "not as a leader");
    cluster.alter(1, &[0, 1, 2]);
    assert_eq!(cluster.rates(0, 2), None, "it is in sync by now");
    assert!(cluster.rates(0, 3).is_some());
    cluster.list(1, "*", "");
    assert_eq!(cluster.rates(0, 3), Some(ThrottledRates { leader: Some(1_000), follower: None }));
    cluster.list(1, "1:0", "10:3");
    assert_eq!(cluster.rates(0, 3), None, "other partitions are");
}

#[test]
fn a_list_without_a_rate_is_none_and_a_rate_for_all_brokers_counts() {
    let mut cluster = Cluster::alive(3);
    cluster.topic(1, &[0, 1], 1);
    cluster.alter(1, &[0]);
    cluster.list(1, "*", "*");
    assert_eq!(cluster.rates(0, 1), None);
    cluster.set(ConfigResource::Cluster, format!("{LEADER}.rate"), "5");
    assert_eq!(cluster.rates(0, 1), Some(ThrottledRates { leader: Some(5), follower: None }));
}

/// Every read for a follower asks, and a list may be long.
#[test]
fn a_list_is_taken_apart_once_and_only_where_a_rate_may_be_in_force() {
    let mut cluster = moving();
    let mut throttle = Throttle::default();
    assert_eq!(cluster.rates_of(&mut throttle, 0, 1), None);
    assert_eq!(throttle.lists_taken_apart(), 0, "it is in sync");
    let rates = cluster.rates(0, 2);
    for second in 1..100 {
        assert_eq!(cluster.rates_of(&mut throttle, 0, 2), rates);
        throttle.take(at(second * 1_000), (&cluster.image, rates.unwrap()), BrokerId(2), 1);
    }
    assert_eq!(throttle.lists_taken_apart(), 2, "the leaders' and the followers'");
    cluster.list(1, "0:0", "0:3");
    assert_eq!(cluster.rates_of(&mut throttle, 0, 2), Some(ThrottledRates { leader: Some(1_000), follower: None }));
    assert_eq!(throttle.lists_taken_apart(), 4, "they were set anew");
    cluster.list(1, "", "");
    assert_eq!(cluster.rates_of(&mut throttle, 0, 2), None);
    let mut without_rates = Cluster::alive(3);
    without_rates.topic(1, &[0, 1], 1);
    without_rates.alter(1, &[0]);
    without_rates.list(1, "*", "*");
    let asked = throttle.lists_taken_apart();
    assert_eq!(without_rates.rates_of(&mut throttle, 0, 1), None);
    assert_eq!(throttle.lists_taken_apart(), asked, "there is no rate");
}

#[test]
fn what_is_no_list_of_replicas_is_refused() {
    let mut cluster = Cluster::alive(1);
    cluster.topic(1, &[0], 1);
    for (value, taken) in
        [("*", true), ("", true), ("0:1, 2:3", true), ("0", false), ("0:-1", false), ("*,0:1", false), ("a:b", false)]
    {
        let changes = vec![ConfigChange { name: format!("{LEADER}.replicas"), op: ConfigOp::Set(value.into()) }];
        let resource = ConfigResource::Topic(TopicId(uuid(1)));
        let (outcome, _) = cluster.apply(&MetadataCommand::AlterConfigs { resource, replace: false, changes });
        assert_eq!(outcome.is_ok(), taken, "{value}");
    }
}

#[test]
fn all_that_is_sent_in_a_while_is_the_rate() {
    let cluster = moving();
    let mut throttle = Throttle::default();
    let rates = ThrottledRates { leader: Some(100_000), follower: None };
    let mut sent = 0;
    for ms in (1_000..11_000).step_by(10) {
        while let Some(granted) = throttle.take(at(ms), (&cluster.image, rates), BrokerId(2), 1 << 20) {
            // A batch goes as a whole.
            let batch = 30_000.max(granted);
            throttle.correct(BrokerId(2), rates, granted, batch);
            sent += batch;
        }
    }
    assert!((1_000_000..1_200_000).contains(&sent), "{sent} bytes in ten seconds, of 100,000 in each");
}

#[test]
fn what_was_granted_and_not_sent_is_given_back() {
    let cluster = moving();
    let mut throttle = Throttle::default();
    let rates = ThrottledRates { leader: Some(1_000), follower: None };
    for _ in 0..100 {
        let granted = throttle.take(at(5_000), (&cluster.image, rates), BrokerId(2), 1 << 20).unwrap();
        throttle.correct(BrokerId(2), rates, granted, 1);
    }
}

#[test]
fn each_leader_that_a_follower_catches_up_from_gives_its_share() {
    let mut cluster = moving();
    cluster.topic(2, &[1, 2], 1);
    cluster.alter(2, &[1]);
    cluster.list(2, "", "0:2");
    let mut throttle = Throttle::default();
    let rates = ThrottledRates { leader: None, follower: Some(1_000) };
    let granted = throttle.take(at(5_000), (&cluster.image, rates), BrokerId(2), 1 << 20);
    assert_eq!(granted, Some(500), "brokers 0 and 1 lead what it lacks");
}

#[test]
fn nothing_is_sent_at_a_rate_of_nothing() {
    let cluster = moving();
    let rates = ThrottledRates { leader: Some(0), follower: None };
    assert_eq!(Throttle::default().take(at(5_000), (&cluster.image, rates), BrokerId(2), 1 << 20), None);
}
