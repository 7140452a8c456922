//! Offsets.

use super::*;

pub(super) fn fetch(bench: &mut Bench, group: &str, topic: &str) -> i64 {
    let topics = Some(vec![(Arc::from(topic), vec![0])]);
    let request = Request::OffsetFetch { group: group.into(), member: None, topics, require_stable: true };
    match bench.ask(request) {
        Response::OffsetFetch(Ok(topics)) => topics[0].partitions[0].offset,
        other => panic!("{other:?}"),
    }
}

#[test]
fn offsets_of_a_simple_consumer_survive_a_failover() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(commit("g", "", -1, "t", 1, 7)), Response::OffsetCommit(vec![Ok(())]));
    assert_eq!(fetch(&mut bench, "g", "t"), 7);
    bench.fail_over();
    assert_eq!(fetch(&mut bench, "g", "t"), 7);
    assert_eq!(fetch(&mut bench, "g", "u"), -1);
}
