//! A rebalance's throttle, and those of persons beside it.

use super::config::{ConfigChange, ConfigOp, ConfigResource, Configs};
use super::*;

const LEADER: &str = "leader.replication.throttled";
const FOLLOWER: &str = "follower.replication.throttled";

impl Cluster {
    fn person_sets(&mut self, resource: ConfigResource, name: &str, value: &str) {
        let changes = vec![ConfigChange { name: name.into(), op: ConfigOp::Set(value.into()) }];
        self.accepted(&MetadataCommand::AlterConfigs { resource, replace: false, changes });
    }

    /// Throttles a move of topic 1.
    fn throttle_move(&mut self, rate: u64) -> Result<(), OtherRate> {
        let moved = Reassignment { partition: tp(1, 0), replicas: Some(vec![BrokerId(2), BrokerId(3)]) };
        let commands = self.image.throttled(&[moved], rate)?;
        for command in commands {
            self.accepted(&command);
        }
        Ok(())
    }

    fn unthrottle(&mut self, rate: Option<u64>) {
        for command in self.image.unthrottled(rate) {
            self.accepted(&command);
        }
    }

    /// The two rates of all brokers, and the lists of topics 1 and 2.
    fn throttle_shown(&self) -> [Vec<Option<String>>; 3] {
        let rates = [LEADER, FOLLOWER].map(|of| format!("{of}.rate"));
        let lists = [LEADER, FOLLOWER].map(|of| format!("{of}.replicas"));
        let shown = |configs: &Configs, names: &[String; 2]| {
            names.iter().map(|name| configs.get(name.as_str()).map(ToString::to_string)).collect()
        };
        let of_topic = |topic: u128| shown(&self.image.topics[&TopicId(uuid(topic))].configs, &lists);
        [shown(&self.image.cluster_configs, &rates), of_topic(1), of_topic(2)]
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::alive(4);
    cluster.topic(1, &[0, 1], 1);
    cluster.topic(2, &[0, 1], 1);
    cluster
}

fn both(value: Option<&str>) -> Vec<Option<String>> {
    vec![value.map(str::to_owned); 2]
}

#[test]
fn a_rebalance_leaves_no_throttle_behind() {
    for rate in [Some(5), None] {
        let mut cluster = cluster();
        cluster.throttle_move(5).unwrap();
        cluster.throttle_move(5).unwrap();
        assert_eq!(cluster.throttle_shown(), [both(Some("5")), both(Some("*")), both(None)]);
        cluster.unthrottle(rate);
        assert_eq!(cluster.throttle_shown(), [both(None), both(None), both(None)]);
        assert_eq!(cluster.image.unthrottled(rate), []);
    }
}

#[test]
fn a_rate_that_somebody_has_set_is_neither_changed_nor_taken_away() {
    let mut cluster = cluster();
    let name = format!("{FOLLOWER}.rate");
    cluster.person_sets(ConfigResource::Cluster, &name, "7");
    let before = cluster.throttle_shown();
    let refused = cluster.throttle_move(5).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("{name} of all brokers is 7 already: ask for that rate, or take it away first")
    );
    cluster.unthrottle(None);
    assert_eq!(cluster.throttle_shown(), before, "no list shows that a rebalance has set it");
    // It was begun at another rate than it ends at.
    cluster.throttle_move(7).unwrap();
    cluster.unthrottle(Some(5));
    assert_eq!(cluster.throttle_shown(), [both(Some("7")), both(None), both(None)]);
}

#[test]
fn a_list_that_somebody_has_set_stays_and_keeps_its_rate() {
    let mut cluster = cluster();
    cluster.person_sets(ConfigResource::Topic(TopicId(uuid(1))), &format!("{LEADER}.replicas"), "0:0");
    cluster.throttle_move(5).unwrap();
    let listed = |followers: Option<&str>| vec![Some("0:0".to_owned()), followers.map(str::to_owned)];
    assert_eq!(cluster.throttle_shown(), [both(Some("5")), listed(Some("*")), both(None)]);
    cluster.unthrottle(Some(5));
    assert_eq!(cluster.throttle_shown(), [both(Some("5")), listed(None), both(None)]);
}
