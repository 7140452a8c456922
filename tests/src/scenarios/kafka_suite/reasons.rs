//! Which features a failed test waits for, as far as can be seen from its name, its error, and what its clients were
//! refused. It may wait for more: a test ends at the first thing that is missing.

use super::outcome::{Ending, Outcome};
use regex::Regex;
use std::collections::BTreeSet;

const INTERNALS: &str = "internals";
const MIGRATION: &str = "migration of groups with members";
const GROUP_CONFIGS: &str = "configs of groups";
const SHARE: &str = "share groups";
const STREAMS: &str = "streams groups";
const TRANSACTIONS: &str = "transactions";
const ACLS: &str = "ACLs";
const SASL: &str = "SASL";
const SCRAM: &str = "SCRAM";
const QUOTAS: &str = "quotas";
const TOPIC_CONFIGS: &str = "topic configs";
const COMPACTION: &str = "compaction";
const QUORUM: &str = "features and quorum APIs";
const REASSIGNMENT: &str = "reassignment";
const LOG_DIRS: &str = "log directories";
const ELECT: &str = "ElectLeaders";
const TELEMETRY: &str = "client telemetry";
const RACKS: &str = "broker.rack";

/// Requests that a broker without the feature does not know. Clients do without `DescribeTopicPartitions` and
/// `GetTelemetrySubscriptions`.
const REQUESTS: &[(&str, &str)] = &[
    ("ElectLeaders", ELECT),
    ("AlterPartitionReassignments", REASSIGNMENT),
    ("ListPartitionReassignments", REASSIGNMENT),
    ("AlterReplicaLogDirs", LOG_DIRS),
    ("UpdateFeatures", QUORUM),
    ("DescribeQuorum", QUORUM),
    ("AddRaftVoter", QUORUM),
    ("RemoveRaftVoter", QUORUM),
    ("UnregisterBroker", "UnregisterBroker"),
    ("CreateAcls", ACLS),
    ("DescribeAcls", ACLS),
    ("DeleteAcls", ACLS),
    ("AlterUserScramCredentials", SCRAM),
    ("DescribeUserScramCredentials", SCRAM),
    ("AlterClientQuotas", QUOTAS),
    ("DescribeClientQuotas", QUOTAS),
    ("ListTransactions", TRANSACTIONS),
    ("DescribeTransactions", TRANSACTIONS),
    ("AddPartitionsToTxn", TRANSACTIONS),
    ("AddOffsetsToTxn", TRANSACTIONS),
    ("TxnOffsetCommit", TRANSACTIONS),
    ("EndTxn", TRANSACTIONS),
    ("WriteTxnMarkers", TRANSACTIONS),
    ("PushTelemetry", TELEMETRY),
    ("CreateDelegationToken", "delegation tokens"),
    ("ShareGroupHeartbeat", SHARE),
    ("ShareGroupDescribe", SHARE),
    ("StreamsGroupHeartbeat", STREAMS),
    ("StreamsGroupDescribe", STREAMS),
];

/// What tests are about by their names, `Class#method`.
const NAMES: &[(&str, &[&str])] = &[
    (r"\.\w*Share\w*#|#\w*Share", &[SHARE]),
    (r"\.\w*Streams\w*#", &[STREAMS]),
    (r"\.GroupsCommandTest#", &[SHARE, STREAMS]),
    (r"ConsumerProtocolMigration|WithMigration|OnlineMigration", &[MIGRATION]),
    (r"\.TxnOffsetCommit", &[TRANSACTIONS]),
    (r"WriteTxnMarkers|Transactions(Expiration|WithMax)|FenceProducers|ProducerIdExpiration", &[TRANSACTIONS]),
    (r"\.AclCommand|AuthorizedOperations|Authorizer", &[ACLS]),
    (r"Scram", &[SCRAM]),
    (r"Quota", &[QUOTAS]),
    (r"Telemetry", &[TELEMETRY]),
    (r"LogDirs", &[LOG_DIRS]),
    (r"Reassign", &[REASSIGNMENT]),
    (r"\.LeaderElectionCommand", &[ELECT]),
    (r"\.(Feature|MetadataQuorum)Command|DescribeFeatures|MetadataVersion|DescribeQuorum", &[QUORUM]),
    (r"\.(BootstrapControllers|BrokerApiVersions|ApiVersionsRequest|BrokerRegistration)", &[QUORUM]),
    (r"EligibleLeaderReplicas", &["eligible leader replicas"]),
    (r"UncleanLeaderElection", &["unclean leader election"]),
    (r"GroupConfig|#testUpdateConsumerGroupHeartbeatConfig", &[GROUP_CONFIGS]),
    (r"RackAware|#testRack|SameRack", &[RACKS]),
    (r"RemoteTopic|RemoteLog", &["tiered storage"]),
];

/// What errors say.
const ERRORS: &[(&str, &str)] = &[
    (r"has no SASL", SASL),
    (r"cleanup\.policy.*compact", COMPACTION),
    (r"is not supported yet|invalid config|InvalidConfigurationException", TOPIC_CONFIGS),
    (r"resources of type 32 have no configs", GROUP_CONFIGS),
    (r"same rack", RACKS),
];

/// What is no part of consumer groups and ordinary tools. How many of the other tests pass is a figure of its own.
pub(super) const ASIDE: &[&str] =
    &[TRANSACTIONS, ACLS, SASL, SCRAM, QUOTAS, SHARE, STREAMS, REASSIGNMENT, QUORUM, COMPACTION, INTERNALS];

/// Whether a test needs something of [`ASIDE`]: by its reason if it has one, by its name otherwise.
pub(super) fn is_aside(method: &str, reason: Option<&str>) -> bool {
    let aside = |feature: &&str| ASIDE.contains(feature);
    reason.map_or_else(
        || NAMES.iter().filter(|(name, _)| matches(name, method)).any(|(_, features)| features.iter().any(aside)),
        |reason| parts(reason).iter().any(aside),
    )
}

/// Whether a reason says that the test is flaky, whatever the broker does.
pub(super) fn is_unsteady(reason: &str) -> bool {
    reason.starts_with("unsteady: ")
}

/// Whether a reason says that the test can never pass against brokers in other processes.
pub(super) fn is_internals(reason: &str) -> bool {
    reason.starts_with(INTERNALS)
}

/// The features that a reason names; of one that tells more, what comes before the colon.
pub(super) fn parts(reason: &str) -> Vec<&str> {
    match reason.split_once(": ") {
        Some((kind, _)) => vec![kind],
        None => reason.split(", ").collect(),
    }
}

/// The reason of a failure.
pub(super) fn of(outcome: &Outcome) -> String {
    if outcome.ending == Ending::Internals {
        return format!("{INTERNALS}: {}", plain(&outcome.error));
    }
    let features = features(outcome);
    if features.is_empty() {
        return format!("behaviour: {}", plain(&outcome.error));
    }
    features.into_iter().collect::<Vec<_>>().join(", ")
}

fn features(outcome: &Outcome) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for (pattern, features) in NAMES {
        if matches(pattern, outcome.method()) {
            found.extend(*features);
        }
    }
    // Of an invalid config one thing is missing, however many patterns it fits.
    found.extend(ERRORS.iter().find(|(pattern, _)| matches(pattern, &outcome.error)).map(|(_, feature)| feature));
    for (api, error) in outcome.refusals.iter().filter_map(|refusal| refusal.split_once(':')) {
        match error {
            // Of groups a coordinator is found in every version.
            "UNSUPPORTED_VERSION" if api == "FIND_COORDINATOR" => {
                found.insert(TRANSACTIONS);
            }
            "UNSUPPORTED" | "UNSUPPORTED_VERSION" => found.extend(asks_for(api)),
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" => {
                found.insert(TRANSACTIONS);
            }
            "INVALID_CONFIG" if api == "CREATE_TOPICS" && !found.contains(COMPACTION) => {
                found.insert(TOPIC_CONFIGS);
            }
            _ => {}
        }
    }
    // Where the request never was sent, the error names it in its own way: `does not support ELECT_LEADERS`.
    if let Some((_, api)) = outcome.error.split_once("does not support ") {
        let name: String =
            api.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').filter(|c| *c != '_').collect();
        found.extend(REQUESTS.iter().filter(|(api, _)| api.eq_ignore_ascii_case(&name)).map(|(_, feature)| *feature));
    }
    found
}

fn asks_for(api: &str) -> Option<&'static str> {
    REQUESTS.iter().find(|(name, _)| *name == api).map(|(_, feature)| *feature)
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
}

/// An error without what differs from run to run, and not too long.
fn plain(error: &str) -> String {
    const LONGEST: usize = 120;
    let mut text = error.to_owned();
    for (pattern, instead) in [
        (r"/\S*/", ""),
        (r"(localhost|127\.0\.0\.1)(/127\.0\.0\.1)?:\d+", "localhost"),
        (r"\b[A-Za-z0-9_-]{22}\b|\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "…"),
        (r"@[0-9a-f]{5,8}\b", ""),
        (r"\b\d{5,}\b", "…"),
    ] {
        if let Ok(regex) = Regex::new(pattern) {
            text = regex.replace_all(&text, instead).into_owned();
        }
    }
    let short: String = text.chars().take(LONGEST).collect();
    let short = short.trim();
    if short.is_empty() { "without a word".to_owned() } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{ERRORS, Ending, NAMES, Outcome, is_aside, is_internals, of};

    fn failed(test: &str, error: &str, refusals: &[&str]) -> Outcome {
        let refusals = refusals.iter().map(|r| (*r).to_owned()).collect();
        Outcome { ending: Ending::Failed, refusals, ..Outcome::missing(test, error) }
    }

    #[test]
    fn every_pattern_is_a_regular_expression() {
        for pattern in NAMES.iter().map(|n| n.0).chain(ERRORS.iter().map(|e| e.0)) {
            assert!(regex::Regex::new(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn a_reason_names_the_features_that_were_refused_or_that_the_test_is_about() {
        for (test, error, refusals, reason) in [
            ("o.a.FooTest#testBar", "x", &["ElectLeaders:UNSUPPORTED"][..], "ElectLeaders"),
            ("o.a.FooTest#testBar", "The node does not support ELECT_LEADERS", &[], "ElectLeaders"),
            ("o.a.ShareConsumerTest#testBar", "x", &["FIND_COORDINATOR:COORDINATOR_NOT_AVAILABLE"], "share groups"),
            ("o.a.FooTest#testBar", "x", &["FIND_COORDINATOR:UNSUPPORTED_VERSION"], "transactions"),
            ("o.a.FooTest#testBar", "cleanup.policy: compact is not supported yet", &[], "compaction"),
            ("o.a.FooTest#testBar", "x", &["DescribeTopicPartitions:UNSUPPORTED"], "behaviour: x"),
        ] {
            assert_eq!(of(&failed(test, error, refusals)), reason);
        }
    }

    #[test]
    fn a_reason_holds_nothing_that_differs_from_run_to_run() {
        let error = "TimeoutException: localhost:13337 of 4L6g3nShT-eMCtK--X86sw in /var/tmp/x-1/log after 60000 ms";
        assert_eq!(of(&failed("a.B#c", error, &[])), "behaviour: TimeoutException: localhost of … in log after … ms");
    }

    #[test]
    fn what_needs_internals_says_so_first() {
        let outcome = Outcome { ending: Ending::Internals, ..failed("a.B#c", "KafkaBroker.raftManager", &[]) };
        assert_eq!(of(&outcome), "internals: KafkaBroker.raftManager");
        assert!(is_internals(&of(&outcome)));
    }

    #[test]
    fn a_test_is_left_aside_for_its_reason_or_if_it_passes_for_its_name() {
        for (test, reason, aside) in [
            ("a.FooTest#testBar", None, false),
            ("a.ShareConsumerTest#testBar", None, true),
            ("a.FooTest#testBar", Some("classic groups, transactions"), true),
            ("a.FooTest#testBar", Some("internals: KafkaBroker.logManager"), true),
            ("a.ShareConsumerTest#testBar", Some("behaviour: no answer"), false),
        ] {
            assert_eq!(is_aside(test, reason), aside, "{test} {reason:?}");
        }
    }
}
