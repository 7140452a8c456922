use super::*;

fn matching(member: &str, regex: &str) -> Heartbeat {
    Heartbeat { subscribed_topic_regex: Some(Arc::from(regex)), subscribed_topic_names: None, ..join(member, &[]) }
}

#[test]
fn new_partitions_and_topics_are_assigned_at_the_next_heartbeat() {
    let mut harness = Harness::new(&[("t", 1)]);
    harness.ok(&join("a", &["t", "u"]));
    harness.set_topics(&[("t", 2)]);
    assert_eq!(harness.ok(&beat("a", 2)), (3, Some(partitions(&[("t", &[0, 1])]))));
    harness.set_topics(&[("t", 2), ("u", 1)]);
    assert_eq!(harness.ok(&beat("a", 3)), (4, Some(partitions(&[("t", &[0, 1]), ("u", &[0])]))));
    harness.set_topics(&[("t", 2), ("u", 1), ("other", 5)]);
    assert_eq!(harness.ok(&beat("a", 4)), (4, None), "nobody is subscribed to that one");
    harness.set_topics(&[("u", 1)]);
    assert_eq!(harness.ok(&beat("a", 4)), (4, Some(partitions(&[("u", &[0])]))), "one is deleted");
    assert_eq!(harness.ok(&owns("a", 4, &[("u", &[0])])), (5, None));
}

#[test]
fn names_of_topics_that_are_not_there_hide_none_that_are() {
    let mut harness = Harness::new(&[("b", 1), ("q", 2), ("z", 1)]);
    let names: Vec<String> = (b'a'..=b'y').map(|c| char::from(c).to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).rev().collect();
    assert_eq!(harness.ok(&join("a", &names)), (2, Some(partitions(&[("b", &[0]), ("q", &[0, 1])]))));
    harness.set_topics(&[("b", 1), ("q", 2), ("y", 1), ("z", 1)]);
    assert_eq!(harness.ok(&beat("a", 2)), (3, Some(partitions(&[("b", &[0]), ("q", &[0, 1]), ("y", &[0])]))));
}

#[test]
fn what_changed_while_nobody_led_is_seen_after_the_load() {
    let mut harness = Harness::new(&[("t", 1), ("t1", 1)]);
    harness.ok(&join("a", &["t"]));
    harness.ok(&matching("b", "t1.*"));
    harness.image = image(9, &[("t", 2), ("t1", 1), ("t12", 1)]);
    harness.fail_over();
    assert_eq!(harness.ok(&beat("a", 2)), (4, Some(partitions(&[("t", &[0, 1])]))));
    assert_eq!(harness.ok(&beat("b", 3)), (4, Some(partitions(&[("t1", &[0]), ("t12", &[0])]))));
}

#[test]
fn a_regular_expression_stands_for_the_topics_that_match_as_they_come_and_go() {
    let mut harness = Harness::new(&[("t1", 1), ("u1", 1)]);
    assert_eq!(harness.ok(&matching("a", "t.*")), (1, Some(partitions(&[("t1", &[0])]))));
    assert!(harness.group.subscribes("t1") && !harness.group.subscribes("u1"));
    harness.set_topics(&[("t1", 1), ("t2", 1), ("u1", 1)]);
    assert_eq!(harness.ok(&beat("a", 1)), (2, Some(partitions(&[("t1", &[0]), ("t2", &[0])]))));
    harness.set_topics(&[("t1", 1), ("t2", 1), ("t3", 1)]);
    assert_eq!(harness.ok(&beat("a", 2)), (2, None), "not twice within a second");
    harness.pass(Duration::from_secs(1));
    let all = partitions(&[("t1", &[0]), ("t2", &[0]), ("t3", &[0])]);
    assert_eq!(harness.ok(&beat("a", 2)), (3, Some(all)));
    harness.set_topics(&[("t2", 1)]);
    assert_eq!(harness.ok(&beat("a", 3)).1, Some(partitions(&[("t2", &[0])])), "what is deleted is given back");
    harness.assert_loaded_is_written();
}

#[test]
fn a_regular_expression_is_not_resolved_on_each_heartbeat() {
    let mut harness = Harness::new(&[("t1", 1)]);
    harness.ok(&matching("a", "t.*"));
    // Topics that the group was not notified of: only resolving would find them.
    harness.image = image(2, &[("t1", 1), ("t2", 1)]);
    harness.pass(Duration::from_secs(10));
    assert_eq!(harness.ok(&beat("a", 1)), (1, None));
}

#[test]
fn a_regular_expression_is_forgotten_with_its_last_subscriber() {
    let mut harness = Harness::new(&[("t1", 2)]);
    harness.ok(&matching("a", "t.*"));
    harness.ok(&matching("b", "t.*"));
    harness.ok(&beat("a", -1));
    assert_eq!(harness.group.regexes.len(), 1);
    let names = Heartbeat { subscribed_topic_regex: Some(Arc::from("")), ..beat("b", 2) };
    harness.ok(&names);
    assert!(harness.group.regexes.is_empty());
    assert_eq!(harness.ok(&beat("b", 4)).0, 4);
    harness.ok(&matching("c", "t1"));
    harness.ok(&beat("c", -1));
    assert!(harness.group.regexes.is_empty() && harness.loaded().regexes.is_empty());
}

#[test]
fn a_change_of_subscription_is_a_new_epoch_and_a_repetition_is_not() {
    let mut harness = Harness::new(&[("t", 1), ("u", 1)]);
    harness.ok(&join("a", &["t"]));
    let to = |topics: &[&str]| Heartbeat { member_epoch: 2, owned: None, ..join("a", topics) };
    assert_eq!(harness.ok(&to(&["t", "t"])).0, 2);
    assert_eq!(harness.ok(&to(&["u"])), (2, Some(Vec::new())), "t is to be given back first");
    assert_eq!(harness.ok(&owns("a", 2, &[])), (3, Some(partitions(&[("u", &[0])]))));
}
