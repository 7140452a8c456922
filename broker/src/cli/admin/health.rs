//! What is not well in a cluster, why, and what to do next: out of the facts alone.

use super::{cluster, damage, lags};
use chronik_admin::missing_replica::Why;
use chronik_admin::{Broker, FactsResponse, Partition, Partitions, Permit};

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Whether the cluster is not well because of it; otherwise it is under way, or meant.
    pub(super) bad: bool,
    /// What it is, and why.
    pub(super) what: String,
    /// What to do.
    pub(super) next: String,
}

/// A disk that has less than this part left is named.
const DISK_LEFT: u64 = 10;

/// Worst first. Nothing if all is well.
pub(super) fn findings(facts: &FactsResponse) -> Vec<Finding> {
    let mut found = Vec::new();
    let partitions = facts.partitions.clone().unwrap_or_default();
    of_partitions(facts, &partitions, &mut found);
    damage::findings(facts, &mut found);
    of_quorum(facts, &mut found);
    for broker in &facts.brokers {
        of_broker(broker, &mut found);
    }
    if let Some(permit) = &facts.permit {
        found.push(of_permit(permit));
    }
    if !facts.reassignments.is_empty() {
        let what =
            format!("{} partitions are being reassigned{}", facts.reassignments.len(), lags::left_to_move(facts));
        found.push(Finding {
            bad: false,
            what,
            next: "wait until they are done; `chronik reassign list` shows them".into(),
        });
    }
    of_topics(facts, &mut found);
    of_version(facts, &mut found);
    found.sort_by_key(|finding| !finding.bad);
    found
}

/// What is as it was asked for, and stands in the way of the next restart.
fn of_topics(facts: &FactsResponse, found: &mut Vec<Finding>) {
    let Some(needing) = facts.need_all_replicas.as_ref().filter(|needing| needing.topics > 0) else { return };
    let example = needing.names.first().map_or_else(String::new, |name| format!(", {name} among them"));
    found.push(Finding {
        bad: false,
        what: format!(
            "{} topics need all of their replicas in sync (min.insync.replicas){example}: while one of their brokers is away they \
             take no writes with acks=all, and no permit to stop one is given",
            needing.topics
        ),
        next: "ask for one less: `chronik config set topic TOPIC min.insync.replicas=N`; or add a replica: `chronik reassign`"
            .into(),
    });
}

/// Whether newer formats could be allowed. Brokers that never registered may be of any release, and hold nothing up.
fn of_version(facts: &FactsResponse, found: &mut Vec<Finding>) {
    let registered = facts.brokers.iter().filter(|broker| broker.incarnation.is_some());
    let (now, known) = (facts.metadata_version, registered.map(|broker| broker.max_metadata_version).min());
    if let Some(known) = known.filter(|known| *known > now) {
        found.push(Finding {
            bad: false,
            what: format!(
                "the metadata version is {now}, and all brokers know {known}: what came with it is not used yet"
            ),
            next: "once no broker is to go back to the release before: `chronik features upgrade`".into(),
        });
    }
}

/// Brokers that do not say what their disks have lost: a version before this does not, nor one that was not heard yet.
fn silent(facts: &FactsResponse) -> String {
    let silent = facts.brokers.iter().filter(|b| !b.fenced && b.incarnation.is_some() && b.damaged.is_none());
    let silent: Vec<String> = silent.map(|b| b.id.to_string()).collect();
    if silent.is_empty() {
        return String::new();
    }
    format!(
        "; if that comes to no end, see the metric `chronik_log_damaged_partitions` of broker {}, whose damage is not known \
         here",
        silent.join(", ")
    )
}

/// Under-replicated partitions that are described as damaged: their replicas cannot catch up.
fn stuck(facts: &FactsResponse) -> u32 {
    let damaged = facts.damaged.iter().filter_map(|d| Some((d, d.partition.as_ref()?)));
    let stuck = damaged.filter(|(d, p)| !p.missing.is_empty() && !p.under_min_isr && damage::is_last_copy(d, p));
    u32::try_from(stuck.count()).unwrap_or(u32::MAX)
}

fn of_partitions(facts: &FactsResponse, partitions: &Partitions, found: &mut Vec<Finding>) {
    let example = |holds: fn(&Partition) -> bool| {
        let first = partitions.not_well.iter().find(|p| holds(p));
        first.map_or_else(String::new, |p| format!(", {}-{} among them", p.topic, p.partition))
    };
    let away = partitions.offline.saturating_sub(partitions.undecided);
    if away > 0 {
        found.push(Finding {
            bad: true,
            what: format!(
                "{away} partitions have no leader{}: they are neither read nor written",
                example(|p| p.offline && !p.undecided)
            ),
            next: "start the brokers that hold them: `chronik partition list --offline`".into(),
        });
    }
    if partitions.undecided_all_alive > 0 {
        found.push(Finding {
            bad: true,
            what: format!(
                "{} partitions have no leader{}, though all that hold them are alive: each of these has lost records that were \
                 acknowledged, or came back with a new disk",
                partitions.undecided_all_alive,
                example(|p| p.undecided && is_all_alive(p))
            ),
            next: "waiting changes nothing: bring the data directory of one of them back from a copy, or decide to go on \
                   without what is lost: `chronik topic elect TOPIC-PARTITION --unclean`; what brokers have cut off \
                   is kept in `log/damaged` of their data directories"
                .into(),
        });
    }
    let waiting = partitions.undecided.saturating_sub(partitions.undecided_all_alive);
    if waiting > 0 {
        found.push(Finding {
            bad: true,
            what: format!(
                "{waiting} partitions have no leader{}, and wait for brokers that are away: the replicas that are there may lack \
                 acknowledged records",
                example(|p| p.undecided && !is_all_alive(p))
            ),
            next: "start those brokers: `chronik partition list --offline`; only if they are lost for good, decide to go on \
                   without what they had: `chronik topic elect TOPIC-PARTITION --unclean`"
                .into(),
        });
    }
    if partitions.unclean_elections > 0 {
        found.push(Finding {
            bad: false,
            what: format!(
                "{} times so far a leader was elected that may have lacked acknowledged records",
                partitions.unclean_elections
            ),
            next: "which it was, the brokers' logs say; what it lacked is gone unless there is a copy elsewhere".into(),
        });
    }
    if partitions.under_min_isr > 0 {
        found.push(Finding {
            bad: true,
            what: format!(
                "{} partitions have fewer in-sync replicas than min.insync.replicas{}: they take no writes with acks=all",
                partitions.under_min_isr,
                example(|p| p.under_min_isr && !p.offline)
            ),
            next: "see which brokers are missing: `chronik partition list --under-min-isr`".into(),
        });
    }
    let rest = partitions.under_replicated.saturating_sub(partitions.offline + partitions.under_min_isr + stuck(facts));
    if rest > 0 {
        found.push(Finding {
            bad: true,
            what: format!(
                "{rest} partitions lack replicas that are in sync, and are served all the same{}",
                lags::furthest(&partitions.not_well)
            ),
            next: format!("wait while brokers catch up: `chronik partition list --under-replicated`{}", silent(facts)),
        });
    }
}

fn is_all_alive(partition: &Partition) -> bool {
    partition.missing.iter().all(|m| m.why() == Why::CatchingUp)
}

fn of_quorum(facts: &FactsResponse, found: &mut Vec<Finding>) {
    let Some(quorum) = &facts.quorum else { return };
    let behind: Vec<String> = quorum.voters.iter().filter(|v| !v.caught_up).map(|v| v.broker.to_string()).collect();
    if !behind.is_empty() {
        let left = quorum.voters.len().saturating_sub(behind.len() + quorum.voters.len() / 2 + 1);
        found.push(Finding {
            bad: true,
            what: format!(
                "voters {} are away or behind in the metadata log: the quorum stands {left} more that fail",
                behind.join(", ")
            ),
            next: "start them, or see whether they reach the others: `chronik quorum`".into(),
        });
    }
}

fn of_broker(broker: &Broker, found: &mut Vec<Finding>) {
    let id = broker.id;
    if let Some(starting) = &broker.starting {
        let what = format!("broker {id} is starting: {}", cluster::so_far(starting));
        let next = "wait until it is up; its probe `/readyz` says about how long that takes".into();
        found.push(Finding { bad: true, what, next });
    } else if broker.incarnation.is_none() {
        let next = "start it, or remove it: `chronik broker remove`".into();
        found.push(Finding { bad: true, what: format!("broker {id} has never been seen"), next });
    } else if broker.fenced {
        let what = match broker.only_replica {
            0 => format!("broker {id} is away (fenced)"),
            n => format!("broker {id} is away (fenced), and is the only one to hold {n} partitions"),
        };
        found.push(Finding { bad: true, what, next: "see whether its process runs, and its log".into() });
    }
    if broker.cordoned {
        let what = format!("broker {id} is cordoned: nothing new is placed on it");
        found.push(Finding { bad: false, what, next: format!("if it is to stay: `chronik broker uncordon {id}`") });
    }
    if let Some(disk) = broker.disk.filter(|disk| disk.free < disk.total / DISK_LEFT) {
        let percent = disk.free.saturating_mul(100) / disk.total.max(1);
        let what = format!("the disk of broker {id} has {percent} % left");
        found.push(Finding { bad: true, what, next: "shorten retention, or give it a larger disk".into() });
    }
}

fn of_permit(permit: &Permit) -> Finding {
    let (id, left) = (permit.broker, permit.left_ms / 1000);
    Finding {
        bad: false,
        what: format!("broker {id} may be stopped for {left} s still; no other one meanwhile"),
        next: format!("once it is back: `chronik broker recovered {id}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_admin::{DamagedReplica, Disk, MissingReplica, NamedTopics, Quorum, QuorumMember, Starting};

    fn broker(id: i32) -> Broker {
        Broker { id, incarnation: Some("a".into()), damaged: Some(0), ..Broker::default() }
    }

    fn well() -> FactsResponse {
        let voter = |broker| QuorumMember { broker, matched: Some(9), caught_up: true, ..QuorumMember::default() };
        FactsResponse {
            brokers: (0..3).map(broker).collect(),
            partitions: Some(Partitions { total: 9, ..Partitions::default() }),
            quorum: Some(Quorum { voters: (0..3).map(voter).collect(), ..Quorum::default() }),
            ..FactsResponse::default()
        }
    }

    #[test]
    fn nothing_is_found_in_a_cluster_that_is_well() {
        assert_eq!(findings(&well()), []);
    }

    #[test]
    fn what_is_meant_is_said_and_makes_no_cluster_unwell() {
        let mut facts = well();
        let names = vec!["orders".to_owned(), "payments".to_owned()];
        facts.need_all_replicas = Some(NamedTopics { topics: 2, names });
        facts.metadata_version = 4;
        for (broker, most) in facts.brokers.iter_mut().zip([6, 5, 5]) {
            broker.max_metadata_version = most;
        }
        let found = findings(&facts);
        assert!(found.len() == 2 && found.iter().all(|finding| !finding.bad), "{found:?}");
        assert!(found[0].what.starts_with("2 topics need all of their replicas") && found[0].what.contains("orders"));
        assert!(found[1].what.contains("is 4, and all brokers know 5") && found[1].next.contains("features upgrade"));
        facts.need_all_replicas = Some(NamedTopics::default());
        facts.brokers[2].max_metadata_version = 4;
        assert_eq!(findings(&facts), [], "not all of them know a newer one");
        facts.brokers[2].incarnation = None;
        assert!(findings(&facts).iter().any(|finding| finding.what.contains("all brokers know 5")));
    }

    #[test]
    fn each_trouble_is_named_with_what_to_do_and_the_worst_comes_first() {
        type Trouble = fn(&mut FactsResponse);
        let table: [(Trouble, bool, &str, &str); 13] = [
            (|f| f.partitions.as_mut().unwrap().offline = 2, true, "2 partitions have no leader", "--offline"),
            (
                |f| {
                    let partitions = f.partitions.as_mut().unwrap();
                    (partitions.offline, partitions.undecided) = (3, 3);
                },
                true,
                "3 partitions have no leader, and wait",
                "--unclean",
            ),
            (
                |f| {
                    let partitions = f.partitions.as_mut().unwrap();
                    (partitions.offline, partitions.undecided, partitions.undecided_all_alive) = (1, 1, 1);
                },
                true,
                "1 partitions have no leader, though all",
                "waiting changes nothing",
            ),
            (|f| f.partitions.as_mut().unwrap().unclean_elections = 5, false, "5 times", "logs"),
            (|f| f.partitions.as_mut().unwrap().under_min_isr = 1, true, "min.insync.replicas", "--under-min-isr"),
            (
                |f| f.partitions.as_mut().unwrap().under_replicated = 4,
                true,
                "4 partitions lack",
                "wait while brokers catch up",
            ),
            (
                |f| f.quorum.as_mut().unwrap().voters[1].caught_up = false,
                true,
                "voters 1 are away or behind in the metadata log: the quorum stands 0 more",
                "chronik quorum",
            ),
            (|f| f.brokers[2].fenced = true, true, "broker 2 is away", "its log"),
            (
                |f| {
                    f.brokers[2].fenced = true;
                    f.brokers[2].starting = Some(Starting { read: 50 << 20, total: 200 << 20 });
                },
                true,
                "broker 2 is starting: 25 % of its log read (50 of 200 MiB)",
                "wait",
            ),
            (|f| f.brokers[2].starting = Some(Starting::default()), true, "starting: opening its log", "wait"),
            (|f| f.brokers[2].incarnation = None, true, "never been seen", "remove"),
            (|f| f.brokers[0].disk = Some(Disk { total: 100, used: 95, free: 5 }), true, "5 % left", "retention"),
            (|f| f.brokers[0].cordoned = true, false, "cordoned", "uncordon 0"),
        ];
        for (trouble, bad, what, next) in table {
            let mut facts = well();
            trouble(&mut facts);
            let found = findings(&facts);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].bad == bad && found[0].what.contains(what) && found[0].next.contains(next), "{found:?}");
        }
        let mut facts = well();
        facts.partitions.as_mut().unwrap().under_replicated = 1;
        let missing = vec![MissingReplica { broker: 1, why: Why::CatchingUp.into(), ..MissingReplica::default() }];
        let partition = Partition { leader: Some(0), isr: vec![0], missing, ..Partition::default() };
        facts.damaged = vec![DamagedReplica { partition: Some(partition), ..DamagedReplica::default() }];
        let found = findings(&facts);
        facts.damaged.clear();
        facts.brokers[2].damaged = None;
        assert!(findings(&facts)[0].next.contains("log_damaged_partitions` of broker 2"), "what is not known is said");
        assert_eq!(found.len(), 1, "who cannot catch up is not waited for: {found:?}");
        assert!(found[0].what.contains("cannot read"), "{found:?}");
        let mut facts = well();
        facts.permit = Some(Permit { broker: 1, left_ms: 5000, ..Permit::default() });
        facts.brokers[1].fenced = true;
        let found = findings(&facts);
        assert_eq!(found.iter().map(|f| f.bad).collect::<Vec<_>>(), [true, false]);
        assert!(found[1].next.contains("recovered 1"));
    }
}
