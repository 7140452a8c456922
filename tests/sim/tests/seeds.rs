//! Runs that must keep all rules.

use chronik_sim::{Disks, Options, Report, run};

fn all_keep_the_rules(options: impl Iterator<Item = Options>) -> Vec<Report> {
    let reports: Vec<Report> = options.map(run).collect();
    let broken: Vec<String> =
        reports.iter().filter_map(|r| Some(format!("seed {}: {}", r.seed, r.violation.as_ref()?))).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    reports
}

#[test]
fn hundreds_of_seeds_keep_all_rules_on_the_real_log() {
    let reports = all_keep_the_rules((0..400).map(Options::new));
    // A world in which nothing happens would keep all rules too.
    let (acknowledged, faults, elections) =
        reports.iter().fold((0, 0, 0), |sum, r| (sum.0 + r.acknowledged, sum.1 + r.faults, sum.2 + r.elections));
    assert!(acknowledged > 50 * reports.len(), "only {acknowledged} batches were acknowledged");
    assert!(faults > 5 * reports.len(), "only {faults} faults were injected");
    assert!(elections > 3 * reports.len(), "there were only {elections} leaderships");
}

#[test]
fn a_model_of_the_disk_makes_no_difference_to_the_rules() {
    all_keep_the_rules((5_000..5_200).map(|seed| Options { disks: Disks::Model, ..Options::new(seed) }));
}

/// Seeds that once broke a rule.
#[test]
fn seeds_that_found_something_keep_all_rules_now() {
    // 213, 216: the end of an old process's connection ended its successor's subscription.
    let found = [213, 216, 358, 413];
    all_keep_the_rules(found.map(|seed| Options { disks: Disks::Model, ..Options::new(seed) }).into_iter());
}
