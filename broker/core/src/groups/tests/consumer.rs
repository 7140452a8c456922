//! Groups of the consumer protocol, as a shard has them: with its log, its timers and its other groups.

use super::migration::{beat, bench, heartbeat, partitions};
use super::*;

#[test]
fn a_member_gets_its_epoch_and_assignment_only_when_they_are_committed() {
    let mut bench = bench();
    bench.commits = false;
    let ticket = bench.send(Request::ConsumerGroupHeartbeat(beat(0, &[])));
    assert_eq!(bench.answers.get(&ticket), None);
    bench.commit_all();
    let Response::ConsumerGroupHeartbeat(Ok(first)) = bench.answer(ticket) else { panic!("refused") };
    assert_eq!((first.member_epoch, partitions(&first)), (2, vec![0, 1]));
}

#[test]
fn what_was_not_committed_is_not_there_after_a_failover() {
    let mut bench = bench();
    bench.commits = false;
    bench.send(Request::ConsumerGroupHeartbeat(beat(0, &[])));
    bench.fail_over();
    bench.commits = true;
    assert_eq!(heartbeat(&mut bench, beat(2, &[0, 1])), Err(GroupError::GroupIdNotFound));
    assert_eq!(partitions(&heartbeat(&mut bench, beat(0, &[])).expect("joined")), vec![0, 1]);
}

#[test]
fn members_of_a_consumer_group_go_on_in_their_epoch_after_a_failover() {
    let mut bench = bench();
    heartbeat(&mut bench, beat(0, &[])).expect("joined");
    bench.fail_over();
    assert_eq!(heartbeat(&mut bench, beat(2, &[0, 1])).map(|answer| answer.member_epoch), Ok(2));
    assert_eq!(bench.ask(commit("g", "new", 2, "t", 1, 7)), Response::OffsetCommit(vec![Ok(())]));
    assert_eq!(
        bench.ask(commit("g", "new", 1, "t", 1, 8)),
        Response::OffsetCommit(vec![Err(GroupError::StaleMemberEpoch)])
    );
    assert_eq!(
        bench.ask(commit("g", "old", 2, "t", 1, 8)),
        Response::OffsetCommit(vec![Err(GroupError::UnknownMemberId)])
    );
}

#[test]
fn sessions_of_a_consumer_group_begin_anew_when_it_is_loaded_and_end_without_heartbeats() {
    let mut bench = bench();
    heartbeat(&mut bench, beat(0, &[])).expect("joined");
    bench.pass(Duration::from_secs(40));
    bench.fail_over();
    bench.pass(Duration::from_secs(40));
    assert_eq!(heartbeat(&mut bench, beat(2, &[0, 1])).map(|answer| answer.member_epoch), Ok(2));
    bench.pass(Duration::from_secs(46));
    assert_eq!(heartbeat(&mut bench, beat(2, &[0, 1])), Err(GroupError::UnknownMemberId));
}

#[test]
fn after_a_stall_sessions_of_a_consumer_group_go_on_for_one_heartbeat() {
    let mut bench = bench();
    heartbeat(&mut bench, beat(0, &[])).expect("joined");
    bench.micros += 120_000_000;
    bench.event(Event::Tick);
    assert_eq!(heartbeat(&mut bench, beat(2, &[0, 1])).map(|answer| answer.member_epoch), Ok(2));
    bench.micros += 120_000_000;
    bench.event(Event::Tick);
    bench.pass(Duration::from_secs(6));
    assert_eq!(heartbeat(&mut bench, beat(2, &[0, 1])), Err(GroupError::UnknownMemberId), "who is gone does not stay");
}

/// Gives the group `g` configs of its own.
fn configure(bench: &mut Bench, configs: &[(&str, &str)]) {
    let mut image = bench.image.clone().expect("the bench has metadata");
    let configs = configs.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect();
    image.group_configs.insert("g".into(), configs);
    bench.image = Some(image.clone());
    bench.event(Event::Metadata(image));
}

#[test]
fn a_groups_own_timeouts_are_in_force_from_the_next_heartbeat_on() {
    let mut bench = bench();
    bench.config.consumer_session_timeouts = (Duration::from_secs(10), Duration::from_mins(1));
    bench.shard.config = bench.config.clone();
    assert_eq!(heartbeat(&mut bench, beat(0, &[])).map(|answer| answer.heartbeat_interval_ms), Ok(5000));
    configure(&mut bench, &[("consumer.session.timeout.ms", "20000"), ("consumer.heartbeat.interval.ms", "7000")]);
    assert_eq!(heartbeat(&mut bench, beat(2, &[0, 1])).map(|answer| answer.heartbeat_interval_ms), Ok(7000));
    bench.pass(Duration::from_secs(19));
    assert!(heartbeat(&mut bench, beat(2, &[0, 1])).is_ok());
    bench.pass(Duration::from_secs(21));
    assert_eq!(heartbeat(&mut bench, beat(2, &[0, 1])), Err(GroupError::UnknownMemberId));
    // A coordinator that is loaded goes by them too.
    heartbeat(&mut bench, beat(0, &[])).expect("joined");
    bench.fail_over();
    bench.pass(Duration::from_secs(21));
    assert_eq!(heartbeat(&mut bench, beat(4, &[0, 1])), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_groups_own_timeouts_count_within_what_the_coordinator_allows() {
    let configs = |session: &str, heartbeat: &str| -> crate::cluster::config::Configs {
        [("consumer.session.timeout.ms", session), ("consumer.heartbeat.interval.ms", heartbeat)]
            .map(|(name, value)| (Arc::from(name), Arc::from(value)))
            .into_iter()
            .collect()
    };
    let config = Config::default();
    for (session, heartbeat, counts, taken) in [
        ("50000", "6000", (50, 6), true),
        ("1", "1", (45, 5), false),
        ("900000", "6000", (60, 6), false),
        ("50000", "20000", (50, 15), false),
    ] {
        let own = configs(session, heartbeat);
        let timeouts = config.consumer_timeouts(Some(&own));
        assert_eq!((timeouts.session.as_secs(), timeouts.heartbeat_interval.as_secs()), counts);
        assert_eq!(config.check_group_configs(&own).is_ok(), taken, "{session} {heartbeat}");
    }
    let second = (Duration::from_secs(1), Duration::from_mins(1));
    let wide = Config { consumer_session_timeouts: second, consumer_heartbeat_intervals: second, ..config };
    assert!(wide.check_group_configs(&configs("9000", "8000")).is_ok());
    assert!(wide.check_group_configs(&configs("8000", "8000")).is_err());
}

#[test]
fn a_consumer_group_with_members_is_listed_and_not_deleted() {
    let mut bench = bench();
    heartbeat(&mut bench, beat(0, &[])).expect("joined");
    let list = Request::ListGroups { states: vec![], types: vec!["consumer".into()] };
    let Response::ListGroups(Ok(groups)) = bench.ask(list) else { panic!("refused") };
    assert_eq!(
        groups.iter().map(|g| (&*g.group, g.state, g.group_type)).collect::<Vec<_>>(),
        [("g", "Stable", "consumer")]
    );
    bench.ask(commit("g", "new", 2, "t", 1, 7));
    bench.one_stable("h");
    let census = bench.shard.census();
    let groups = [(("classic", "Stable"), 1), (("consumer", "Stable"), 1)];
    assert_eq!((census.groups, census.members, census.offsets), (groups.into(), 2, 1));
    bench.fail_over();
    assert_eq!(bench.shard.census().members, 2, "as it is after a load");
    assert_eq!(bench.ask(Request::DeleteGroup("g".into())), Response::DeleteGroup(Err(GroupError::NonEmptyGroup)));
    heartbeat(&mut bench, beat(-1, &[])).expect("left");
    assert_eq!(bench.ask(Request::DeleteGroup("g".into())), Response::DeleteGroup(Ok(())));
    assert!(bench.written().keys().all(|key| &**key.group() == "h"), "{:?}", bench.written());
}

#[test]
fn a_session_of_a_classic_member_begins_when_it_is_loaded_joins_and_syncs() {
    for begins in ["load", "join", "sync"] {
        let mut bench = Bench::new();
        let required = bench.join_group(join("g", ""));
        let joined = bench.join_group(join("g", &required.member_id));
        let member = joined.member_id;
        if begins != "join" {
            bench.pass(Duration::from_secs(6));
            let request = sync("g", &member, 1, &[(&member, "all")]);
            bench.ask(Request::SyncGroup(request));
        }
        if begins == "load" {
            bench.pass(Duration::from_secs(6));
            bench.fail_over();
        }
        bench.pass(Duration::from_secs(9));
        assert_eq!(bench.heartbeat("g", &member, 1), Ok(()), "{begins}: too early");
        bench.pass(Duration::from_secs(11));
        assert_eq!(bench.heartbeat("g", &member, 1), Err(GroupError::UnknownMemberId), "{begins}: for ever");
    }
}
