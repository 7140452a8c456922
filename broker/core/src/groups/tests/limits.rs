//! Requests too large for a record, or for the memory that groups may take.

use super::*;
use crate::groups::limits::{MAX_GROUP_BYTES, MAX_STRING};
use crate::groups::request::ConsumerGroupHeartbeat;

fn beat(member: &str, names: usize) -> ConsumerGroupHeartbeat {
    ConsumerGroupHeartbeat {
        group: "g".into(),
        member_id: member.into(),
        member_epoch: 0,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some((0..names).map(|n| format!("{member}-{n}").into()).collect()),
        subscribed_topic_regex: None,
        server_assignor: None,
        owned: Some(Vec::new()),
    }
}

/// With names of a thousand bytes.
fn long(member: &str, names: usize) -> ConsumerGroupHeartbeat {
    let name = |n| format!("{member}-{n}-{}", "x".repeat(1000)).into();
    ConsumerGroupHeartbeat { subscribed_topic_names: Some((0..names).map(name).collect()), ..beat(member, 0) }
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    let image = image(&[("t", 1)]);
    bench.image = Some(image.clone());
    bench.event(Event::Metadata(image));
    bench
}

/// A heartbeat: the member's epoch, or why it is refused.
fn heartbeat(bench: &mut Bench, beat: ConsumerGroupHeartbeat) -> Result<i32, GroupError> {
    match bench.ask(Request::ConsumerGroupHeartbeat(beat)) {
        Response::ConsumerGroupHeartbeat(answer) => answer.map(|a| a.member_epoch).map_err(|(error, _)| error),
        other => panic!("{other:?}"),
    }
}

/// The longest that a member id can begin with.
const LONGEST: usize = MAX_STRING - 37;

#[test]
fn what_no_record_can_hold_is_refused_before_the_group_sees_it() {
    let mut bench = bench();
    let (member, generation) = bench.one_stable("g");
    let before = bench.written();
    let long = |len: usize| -> Arc<str> { "x".repeat(len).into() };
    let over = MAX_STRING + 1;
    let named = |member: Arc<str>, instance: Option<Arc<str>>| MemberRef { member_id: member, instance_id: instance };
    let joining = |member: MemberRef| JoinGroup { member, ..join("g", "") };
    let mut requests = vec![
        Request::JoinGroup(joining(named(long(over), None))),
        Request::JoinGroup(joining(named("".into(), Some(long(LONGEST + 1))))),
        Request::JoinGroup(JoinGroup { protocol_type: long(over), ..join("g", "") }),
        Request::JoinGroup(JoinGroup { protocols: vec![(long(over), Bytes::new())], ..join("g", "") }),
        Request::SyncGroup(SyncGroup { member: named(long(over), None), ..sync("g", "", generation, &[]) }),
        Request::Heartbeat { group: "g".into(), member: named(long(over), None), generation },
        commit("g", &long(over), generation, "t", 1, 7),
        commit("g", &member, generation, &long(over), 1, 7),
    ];
    let beats: [fn(&mut ConsumerGroupHeartbeat, Arc<str>); 6] = [
        |beat, long| beat.member_id = long,
        |beat, long| beat.instance_id = Some(long),
        |beat, long| beat.rack_id = Some(long),
        |beat, long| beat.subscribed_topic_names = Some(vec![long]),
        |beat, long| beat.subscribed_topic_regex = Some(long),
        |beat, long| beat.server_assignor = Some(long),
    ];
    for change in beats {
        let mut request = beat("m", 1);
        change(&mut request, long(over));
        requests.push(Request::ConsumerGroupHeartbeat(request));
    }
    for request in requests {
        let asked = format!("{request:?}").chars().take(60).collect::<String>();
        let answer = format!("{:?}", bench.ask(request));
        assert!(answer.contains("InvalidRequest"), "{asked}: {answer}");
    }
    for request in [Request::JoinGroup(join("g", "")), Request::ConsumerGroupHeartbeat(beat("m", 1))] {
        let ticket = bench.send_as(&long(LONGEST + 1), request);
        let answer = format!("{:?}", bench.answer(ticket));
        assert!(answer.contains("InvalidRequest"), "client.id: {answer}");
    }
    let no_group = commit(&long(over), "", -1, "t", 1, 7);
    assert_eq!(bench.ask(no_group), Response::OffsetCommit(vec![Err(GroupError::InvalidGroupId)]));
    assert_eq!(bench.written(), before);
    assert_eq!(bench.heartbeat("g", &member, generation), Ok(()), "the others notice nothing");
}

#[test]
fn the_longest_names_are_taken() {
    let mut bench = bench();
    let long = "x".repeat(LONGEST);
    let ticket = bench.send_as(&long, Request::JoinGroup(join("g", "")));
    let required = bench.joined(ticket);
    assert_eq!((required.error, required.member_id.len()), (Some(GroupError::MemberIdRequired), MAX_STRING));
    let member = MemberRef { member_id: "".into(), instance_id: Some(long.as_str().into()) };
    let joined = bench.join_group(JoinGroup { member, ..join("h", "") });
    assert_eq!((joined.error, joined.member_id.len()), (None, MAX_STRING));
}

#[test]
fn a_consumer_group_keeps_no_more_names_than_it_has_room_for() {
    let mut bench = bench();
    let mut members = 0;
    let refused = loop {
        match heartbeat(&mut bench, long(&format!("m{members}"), 2000)) {
            Ok(_) => members += 1,
            Err(error) => break error,
        }
        assert!(bench.shard.kept() <= MAX_GROUP_BYTES, "{} bytes", bench.shard.kept());
    };
    assert_eq!(refused, GroupError::GroupMaxSizeReached);
    assert!(members >= 5, "{members} members");
    // Who is there may say the same again, or less; and who leaves makes room.
    assert!(heartbeat(&mut bench, long("m0", 2000)).is_ok());
    assert!(heartbeat(&mut bench, long("m1", 10)).is_ok());
    assert!(heartbeat(&mut bench, long("another", 1900)).is_ok());
    let kept = bench.shard.kept();
    let leave = ConsumerGroupHeartbeat { member_epoch: -1, ..beat("m0", 0) };
    assert!(heartbeat(&mut bench, leave).is_ok());
    assert!(bench.shard.kept() < kept - 2_000_000);
    let kept = bench.shard.kept();
    bench.fail_over();
    assert_eq!(bench.shard.kept(), kept, "a shard that is loaded counts the same");
}

#[test]
fn what_members_say_is_refused_for_now_while_the_broker_has_no_room_for_it() {
    let mut bench = bench();
    let (member, _) = bench.one_stable("classic");
    let kept = bench.shard.kept();
    assert!(kept > 0);
    bench.room.members = 10_000;
    assert_eq!(heartbeat(&mut bench, beat("m", 1000)), Err(GroupError::CoordinatorNotAvailable));
    let mut large = join("classic", "");
    large.protocols = vec![("range".into(), vec![0; 20_000].into())];
    assert_eq!(bench.join_group(large).error, Some(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.shard.kept(), kept);
    assert!(heartbeat(&mut bench, beat("m", 10)).is_ok());
    // Members that are there go on, whatever others have taken.
    bench.room.members = 0;
    assert!(
        heartbeat(&mut bench, ConsumerGroupHeartbeat { subscribed_topic_names: None, owned: None, ..beat_on("m", 2) })
            .is_ok()
    );
    assert_eq!(bench.join_group(join("classic", &member)).error, None);
}

fn beat_on(member: &str, epoch: i32) -> ConsumerGroupHeartbeat {
    ConsumerGroupHeartbeat { member_epoch: epoch, rebalance_timeout_ms: -1, ..beat(member, 0) }
}

fn committed(bench: &mut Bench, group: &str, topic: &str, metadata: usize) -> Result<(), GroupError> {
    let Request::OffsetCommit(mut request) = commit(group, "", -1, topic, 1, 7) else { panic!("a commit") };
    request.offsets[0].metadata = "x".repeat(metadata).into();
    match bench.ask(Request::OffsetCommit(request)) {
        Response::OffsetCommit(mut answers) => answers.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn groups_and_their_offsets_are_counted_until_they_are_gone() {
    let mut bench = Bench::new();
    assert_eq!(bench.shard.committed(), 0);
    assert_eq!(committed(&mut bench, "g", "t", 10), Ok(()));
    let one = bench.shard.committed();
    assert_eq!(committed(&mut bench, "g", "t", 1010), Ok(()));
    assert_eq!(bench.shard.committed(), one + 1000);
    assert_eq!(committed(&mut bench, "h", "t", 10), Ok(()));
    assert_eq!(committed(&mut bench, "h", "u", 10), Ok(()));
    let all = bench.shard.committed();
    assert!(all > 2 * one + 1000, "{all} bytes");
    bench.fail_over();
    assert_eq!(bench.shard.committed(), all, "a shard that is loaded counts the same");
    for group in ["g", "h"] {
        bench.ask(Request::DeleteGroup(group.into()));
    }
    assert_eq!(bench.shard.committed(), 0);
    bench.one_stable("classic");
    assert!(bench.shard.committed() > 0, "a group without offsets has a name");
}

#[test]
fn new_groups_and_offsets_are_refused_for_now_while_the_broker_has_no_room_for_them() {
    let mut bench = bench();
    let (member, generation) = bench.one_stable("classic");
    assert_eq!(committed(&mut bench, "g", "t", 10), Ok(()));
    let before = bench.shard.committed();
    bench.room.offsets = 100;
    let refused = Err(GroupError::CoordinatorNotAvailable);
    assert_eq!(committed(&mut bench, "another", "t", 0), refused);
    assert_eq!(committed(&mut bench, "g", "u", 0), refused);
    assert_eq!(committed(&mut bench, "g", "t", 1000), refused);
    assert_eq!(bench.join_group(join("another", "")).error, Some(GroupError::CoordinatorNotAvailable));
    let founding = ConsumerGroupHeartbeat { group: "another".into(), ..beat("m", 1) };
    assert_eq!(heartbeat(&mut bench, founding), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.shard.committed(), before);
    // What is there goes on.
    bench.room.offsets = 0;
    assert_eq!(committed(&mut bench, "g", "t", 10), Ok(()));
    assert_eq!(bench.heartbeat("classic", &member, generation), Ok(()));
}
