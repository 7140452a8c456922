//! Group coordinators keep all rules, whatever goes wrong around them.

use chronik_sim::{GroupCounts, GroupOptions, run_groups};

#[test]
fn groups_keep_all_rules_over_failovers_lost_requests_and_pauses() {
    let mut sum = GroupCounts::default();
    let mut broken = Vec::new();
    for seed in 0..400 {
        let report = run_groups(GroupOptions::new(seed));
        sum = sum.plus(report.counts);
        broken.extend(report.violation.map(|violation| format!("seed {seed}: {violation}")));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // A world in which nothing happens would keep all rules too.
    let rare = [
        ("failovers", sum.failovers, 1_000),
        ("appends lost", sum.lost_appends, 100),
        ("crashes of members", sum.crashes, 1_000),
        ("requests given up", sum.timeouts, 2_000),
        ("commits", sum.commits, 20_000),
        ("assignments", sum.assignments, 10_000),
        ("upgrades of members", sum.upgrades, 150),
        ("downgrades", sum.downgrades, 60),
        ("times at which too few are in sync", sum.too_few_in_sync, 500),
    ];
    for (what, count, floor) in rare {
        assert!(count >= floor, "only {count} {what}: {sum:?}");
    }
}

#[test]
fn a_seed_always_makes_the_same_run() {
    let run = || run_groups(GroupOptions { trace: true, ..GroupOptions::new(7) });
    let (one, other) = (run(), run());
    assert_eq!(one.counts, other.counts);
    assert!(one.lines == other.lines, "two runs of one seed differ");
}
