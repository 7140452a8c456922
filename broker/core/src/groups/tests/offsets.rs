//! Offsets.

use super::*;

pub(super) fn fetch(bench: &mut Bench, group: &str, topic: &str) -> i64 {
    let ticket = bench.send(fetch_request(group, topic));
    fetched(bench, ticket)
}

fn fetch_request(group: &str, topic: &str) -> Request {
    let topics = Some(vec![(Arc::from(topic), vec![0])]);
    Request::OffsetFetch { group: group.into(), member: None, topics, require_stable: true }
}

fn fetched(bench: &mut Bench, ticket: Ticket) -> i64 {
    match bench.answer(ticket) {
        Response::OffsetFetch(Ok(topics)) => topics[0].partitions[0].offset,
        other => panic!("{other:?}"),
    }
}

const HOUR: Duration = Duration::from_hours(1);
const WEEK: Duration = Duration::from_hours(7 * 24);

fn committed(bench: &mut Bench, request: Request) -> Result<(), GroupError> {
    match bench.ask(request) {
        Response::OffsetCommit(mut answers) => answers.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn offsets_of_a_simple_consumer_survive_a_failover() {
    let mut bench = Bench::new();
    assert_eq!(committed(&mut bench, commit("g", "", -1, "t", 1, 7)), Ok(()));
    assert_eq!(fetch(&mut bench, "g", "t"), 7);
    bench.fail_over();
    assert_eq!(fetch(&mut bench, "g", "t"), 7);
    assert_eq!(fetch(&mut bench, "g", "u"), -1);
}

#[test]
fn a_commit_and_a_fetch_after_it_are_answered_when_the_offset_is_committed() {
    let mut bench = Bench::new();
    bench.commits = false;
    let commit = bench.send(commit("g", "", -1, "t", 1, 7));
    let waits = bench.send(fetch_request("g", "t"));
    let list = bench.send(Request::ListGroups { states: vec![], types: vec![] });
    assert_eq!(fetch(&mut bench, "h", "t"), -1, "of another group that nothing was written of");
    assert_eq!(bench.answers.len(), 0);
    bench.commit_all();
    assert_eq!(bench.answer(commit), Response::OffsetCommit(vec![Ok(())]));
    assert_eq!(fetched(&mut bench, waits), 7);
    assert!(matches!(bench.answer(list), Response::ListGroups(Ok(groups)) if groups.len() == 1));
}

#[test]
fn an_answer_about_a_group_that_was_deleted_waits_for_its_tombstones() {
    let mut bench = Bench::new();
    assert_eq!(committed(&mut bench, commit("g", "", -1, "t", 1, 7)), Ok(()));
    bench.commits = false;
    let delete = bench.send(Request::DeleteGroup("g".into()));
    let fetch = bench.send(fetch_request("g", "t"));
    assert_eq!(bench.answers.len(), 0);
    bench.commit_all();
    assert_eq!(bench.answer(delete), Response::DeleteGroup(Ok(())));
    assert_eq!(fetched(&mut bench, fetch), -1);
}

#[test]
fn who_may_commit_is_decided_by_member_and_generation() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    let cases = [
        (&*member, generation, Ok(())),
        (&*member, generation - 1, Err(GroupError::IllegalGeneration)),
        (&*member, -1, Err(GroupError::IllegalGeneration)),
        ("other", generation, Err(GroupError::UnknownMemberId)),
        ("", -1, Err(GroupError::UnknownMemberId)),
    ];
    for (member, generation, expected) in cases {
        let answer = committed(&mut bench, commit("g", member, generation, "t", 1, 7));
        assert_eq!(answer, expected, "{member} {generation}");
    }
    let unknown = committed(&mut bench, commit("h", &member, 1, "t", 1, 7));
    assert_eq!(unknown, Err(GroupError::GroupIdNotFound));
}

#[test]
fn metadata_that_is_too_large_is_refused_for_its_partition_alone() {
    let mut bench = Bench::new();
    let Request::OffsetCommit(mut request) = commit("g", "", -1, "t", 1, 7) else { panic!() };
    let mut large = request.offsets[0].clone();
    large.partition = 1;
    large.metadata = "m".repeat(4097).into();
    request.offsets.push(large);
    let answers = vec![Ok(()), Err(GroupError::OffsetMetadataTooLarge)];
    assert_eq!(bench.ask(Request::OffsetCommit(request)), Response::OffsetCommit(answers));
}

#[test]
fn a_large_commit_is_cut_into_appends_and_answered_after_the_last() {
    let mut bench = Bench::new();
    bench.commits = false;
    let Request::OffsetCommit(mut request) = commit("g", "", -1, "t", 1, 7) else { panic!() };
    let one = request.offsets.remove(0);
    request.offsets = (0..5000).map(|partition| OffsetToCommit { partition, ..one.clone() }).collect();
    let ticket = bench.send(Request::OffsetCommit(request));
    assert!(bench.uncommitted.len() > 2, "{} appends", bench.uncommitted.len());
    let rest = bench.uncommitted.split_off(bench.uncommitted.len() - 1);
    bench.commit_all();
    assert_eq!(bench.answers.len(), 0);
    bench.uncommitted = rest;
    bench.commit_all();
    assert!(matches!(bench.answer(ticket), Response::OffsetCommit(answers) if answers.len() == 5000));
}

#[test]
fn offsets_go_with_their_topic_and_are_not_inherited_by_another_of_its_name() {
    let mut bench = Bench::new();
    bench.image = Some(image(&[("t", 1), ("u", 2)]));
    bench.fail_over();
    assert_eq!(committed(&mut bench, commit("g", "", -1, "t", 1, 7)), Ok(()));
    assert_eq!(committed(&mut bench, commit("g", "", -1, "u", 2, 8)), Ok(()));
    bench.event(Event::Metadata(image(&[("t", 3), ("u", 2)])));
    assert_eq!(fetch(&mut bench, "g", "t"), -1);
    assert_eq!(fetch(&mut bench, "g", "u"), 8);
    assert_eq!(committed(&mut bench, commit("g", "", -1, "t", 1, 7)), Err(GroupError::UnknownTopicOrPartition));
    assert_eq!(bench.written().len(), 1);
}

#[test]
fn offsets_of_a_topic_that_went_during_a_failover_are_deleted_when_loaded() {
    let mut bench = Bench::new();
    bench.image = Some(image(&[("t", 1)]));
    bench.fail_over();
    assert_eq!(committed(&mut bench, commit("g", "", -1, "t", 1, 7)), Ok(()));
    bench.image = Some(image(&[("t", 2)]));
    bench.fail_over();
    assert_eq!(fetch(&mut bench, "g", "t"), -1);
    assert_eq!(bench.written().len(), 0);
}

#[test]
fn offsets_of_a_simple_consumer_expire_after_the_retention_since_their_commit() {
    let mut bench = Bench::new();
    committed(&mut bench, commit("g", "", -1, "t", 1, 7)).expect("committed");
    bench.pass(WEEK.saturating_sub(HOUR));
    assert_eq!(fetch(&mut bench, "g", "t"), 7);
    committed(&mut bench, commit("g", "", -1, "t", 1, 7)).expect("committed");
    bench.pass(WEEK.saturating_sub(HOUR));
    assert_eq!(fetch(&mut bench, "g", "t"), 7);
    bench.pass(2 * HOUR);
    assert_eq!(fetch(&mut bench, "g", "t"), -1);
    assert_eq!(bench.written().len(), 0, "the group is gone with its offsets");
}

#[test]
fn a_quiet_topic_of_a_living_group_keeps_its_offset_and_one_of_no_interest_does_not() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    committed(&mut bench, commit("g", &member, generation, "t", 1, 7)).expect("committed");
    committed(&mut bench, commit("g", &member, generation, "other", 2, 8)).expect("committed");
    for _ in 0..(WEEK.as_secs() + 3600) / 5 {
        bench.pass(Duration::from_secs(5));
        assert_eq!(bench.heartbeat("g", &member, generation), Ok(()));
    }
    assert_eq!(fetch(&mut bench, "g", "t"), 7);
    assert_eq!(fetch(&mut bench, "g", "other"), -1);
}

#[test]
fn offsets_of_an_emptied_group_are_kept_for_the_retention_since_it_became_empty() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    committed(&mut bench, commit("g", &member, generation, "t", 1, 7)).expect("committed");
    for _ in 0..WEEK.as_secs() / 2 / 5 {
        bench.pass(Duration::from_secs(5));
        assert_eq!(bench.heartbeat("g", &member, generation), Ok(()));
    }
    bench.pass(HOUR);
    assert_eq!(bench.state("g"), "Empty");
    bench.fail_over();
    bench.pass(WEEK.saturating_sub(2 * HOUR));
    assert_eq!(fetch(&mut bench, "g", "t"), 7);
    bench.pass(2 * HOUR);
    assert_eq!(fetch(&mut bench, "g", "t"), -1);
}

#[test]
fn offsets_of_subscribed_topics_are_not_deleted() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    committed(&mut bench, commit("g", &member, generation, "t", 1, 7)).expect("committed");
    committed(&mut bench, commit("g", &member, generation, "other", 2, 8)).expect("committed");
    let topics = vec![(Arc::from("t"), vec![0]), (Arc::from("other"), vec![0, 1])];
    let request = Request::OffsetDelete { group: "g".into(), topics };
    let answers = vec![Err(GroupError::GroupSubscribedToTopic), Ok(()), Ok(())];
    assert_eq!(bench.ask(request), Response::OffsetDelete(Ok(answers)));
    assert_eq!((fetch(&mut bench, "g", "t"), fetch(&mut bench, "g", "other")), (7, -1));
    let request = Request::OffsetDelete { group: "h".into(), topics: vec![] };
    assert_eq!(bench.ask(request), Response::OffsetDelete(Err(GroupError::GroupIdNotFound)));
}

#[test]
fn offsets_of_partitions_that_do_not_exist_are_not_deleted() {
    let mut bench = Bench::new();
    bench.one_stable("g");
    bench.event(Event::Metadata(image(&[("t", 1)])));
    let topics = vec![(Arc::from("t"), vec![0]), (Arc::from("none"), vec![0])];
    let unknown = vec![Err(GroupError::UnknownTopicOrPartition); 2];
    let request = Request::OffsetDelete { group: "g".into(), topics };
    assert_eq!(bench.ask(request), Response::OffsetDelete(Ok(unknown)));
}

#[test]
fn a_group_is_deleted_with_its_offsets_once_it_is_empty() {
    let mut bench = Bench::new();
    let (member, generation) = bench.one_stable("g");
    committed(&mut bench, commit("g", &member, generation, "t", 1, 7)).expect("committed");
    let delete = || Request::DeleteGroup("g".into());
    assert_eq!(bench.ask(delete()), Response::DeleteGroup(Err(GroupError::NonEmptyGroup)));
    bench.ask(Request::LeaveGroup { group: "g".into(), members: vec![member_ref(&member)] });
    bench.commits = false;
    let ticket = bench.send(delete());
    let again = bench.send(delete());
    let fetch = bench.send(fetch_request("g", "t"));
    assert_eq!(bench.answers.len(), 0, "answered before it is committed");
    bench.commit_all();
    assert_eq!(bench.answer(ticket), Response::DeleteGroup(Ok(())));
    assert_eq!(bench.answer(again), Response::DeleteGroup(Err(GroupError::GroupIdNotFound)));
    assert_eq!(fetched(&mut bench, fetch), -1);
    assert_eq!(bench.written().len(), 0);
}
