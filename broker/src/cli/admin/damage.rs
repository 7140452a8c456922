//! What disks have lost, and what there is to do about it: that depends on who else has the records.

use super::health::Finding;
use crate::cli::output::Table;
use chronik_admin::missing_replica::Why;
use chronik_admin::{DamagedReplica, FactsResponse, Partition};
use serde_json::json;

/// Damaged replicas that are described one by one.
const SHOWN: usize = 10;

/// The findings about damaged replicas, those first of which nobody has another copy.
pub(super) fn findings(facts: &FactsResponse, found: &mut Vec<Finding>) {
    let mut damaged: Vec<(&DamagedReplica, &Partition)> =
        facts.damaged.iter().filter_map(|d| Some((d, d.partition.as_ref()?))).collect();
    damaged.sort_by_key(|(d, p)| !is_last_copy(d, p));
    for (replica, partition) in damaged.iter().take(SHOWN) {
        let what = format!(
            "broker {} cannot read {}-{} {}{}",
            replica.broker,
            partition.topic,
            partition.partition,
            range(replica),
            standing(replica, partition)
        );
        found.push(Finding { bad: true, what, next: next(facts, replica, partition) });
    }
    let all: usize = facts.brokers.iter().filter_map(|b| b.damaged).map(|n| n as usize).sum();
    let more = all.max(damaged.len()).saturating_sub(SHOWN);
    if more > 0 {
        found.push(Finding {
            bad: true,
            what: format!("{more} more replicas cannot be read in part"),
            next: "see which: `chronik partition list --damaged`".into(),
        });
    }
}

/// Partitions of which the only copy that counts is damaged: a replica that lacks those records does not get past them.
pub(super) fn is_last_copy(replica: &DamagedReplica, partition: &Partition) -> bool {
    leads(replica, partition) && partition.isr.iter().all(|id| *id == replica.broker)
}

fn leads(replica: &DamagedReplica, partition: &Partition) -> bool {
    partition.leader == Some(replica.broker)
}

/// All damaged replicas, a row each.
pub(super) fn table(damaged: &[DamagedReplica]) -> Table {
    let mut table =
        Table::new(&["topic", "partition", "broker", "damaged from", "damaged to", "leader", "replicas", "isr"]);
    for (d, p) in damaged.iter().filter_map(|d| Some((d, d.partition.as_ref()?))) {
        table.row(vec![
            json!(p.topic),
            json!(p.partition),
            json!(d.broker),
            json!(d.from),
            json!(d.to),
            json!(p.leader),
            json!(p.replicas),
            json!(p.isr),
        ]);
    }
    table
}

fn range(replica: &DamagedReplica) -> String {
    let from = replica.from;
    match replica.to {
        Some(to) if to > from => format!("from offset {from} to the batch at {to}"),
        Some(_) => format!("in the batch at offset {from}"),
        None => format!("from offset {from} on (how far is not known)"),
    }
}

fn standing(replica: &DamagedReplica, partition: &Partition) -> String {
    match partition.leader {
        None => ", and nobody leads it".into(),
        Some(leader) if leader != replica.broker => format!("; broker {leader} leads it"),
        Some(_) if partition.replicas.len() == 1 => ", and is the only replica: what can be read is served".into(),
        Some(_) if is_last_copy(replica, partition) => {
            ", and leads it, as no other replica is in sync: what can be read is served".into()
        }
        Some(_) => ", and leads it still".into(),
    }
}

/// What can be done in that state.
fn next(facts: &FactsResponse, replica: &DamagedReplica, partition: &Partition) -> String {
    let Some(leader) = partition.leader else {
        return "start the brokers that hold it: `chronik partition list --offline`; a copy that has those records leads then, \
                and repairs this one"
            .into();
    };
    if is_last_copy(replica, partition) {
        return last_copy(facts, replica, partition);
    }
    if leader == replica.broker {
        let others: Vec<String> = partition.isr.iter().filter(|id| **id != leader).map(ToString::to_string).collect();
        return format!(
            "wait: broker {}, in sync, takes the lead, and this copy is repaired from it",
            others.join(" or ")
        );
    }
    let leader_damaged = facts.damaged.iter().any(|d| {
        let of = d.partition.as_ref().map(|p| (&p.topic, p.partition));
        d.broker == leader && of == Some((&partition.topic, partition.partition))
    });
    if leader_damaged {
        return format!("broker {leader}, from which it would be repaired, has damage of its own: see there");
    }
    format!("wait: it is cut off there, and filled again from broker {leader}")
}

/// Nobody whom the controller knows to have the records is there.
fn last_copy(facts: &FactsResponse, replica: &DamagedReplica, partition: &Partition) -> String {
    let missing = |alive: bool| {
        let those = partition.missing.iter().filter(|m| (m.why() == Why::CatchingUp) == alive);
        those.map(|m| m.broker.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (away, alive, id) = (missing(false), missing(true), replica.broker);
    let mut ways = Vec::new();
    if !away.is_empty() {
        ways.push(format!(
            "start broker {away}: a copy that has those records comes back into the ISR, and repairs this one"
        ));
    }
    if !alive.is_empty() {
        ways.push(format!("broker {alive} cannot catch up past them, unless it has them already"));
    }
    let beyond = replica.to.unwrap_or(replica.from);
    ways.push(format!(
        "to go on without them, give up all records up to beyond offset {beyond} (`chronik topic delete-records {}-{} --before \
         OFFSET`; where its cleanup.policy is compact alone, compact,delete comes first), and further if it is named here \
         still after that",
        partition.topic, partition.partition
    ));
    ways.push(if facts.brokers.len() == 1 {
        format!("do not restart broker {id} before: it would not start")
    } else {
        format!(
            "do not restart broker {id} before: it would cut its log off at offset {}, and nobody would lead the partition \
             until somebody decides so (`chronik topic elect {}-{} --unclean`)",
            replica.from, partition.topic, partition.partition
        )
    });
    ways.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_admin::{Broker, MissingReplica};

    fn damaged(broker: i32, leader: Option<i32>, isr: &[i32], missing: &[(i32, Why)]) -> DamagedReplica {
        let missing = missing.iter().map(|(id, why)| MissingReplica {
            broker: *id,
            why: (*why).into(),
            ..MissingReplica::default()
        });
        let missing: Vec<MissingReplica> = missing.collect();
        let replicas = isr.iter().copied().chain(missing.iter().map(|m| m.broker)).collect();
        let partition = Partition {
            topic: "t".into(),
            partition: 3,
            leader,
            isr: isr.to_vec(),
            replicas,
            missing,
            ..Partition::default()
        };
        DamagedReplica { broker, from: 120, to: Some(130), partition: Some(partition) }
    }

    fn facts(brokers: i32, damaged: Vec<DamagedReplica>) -> FactsResponse {
        let brokers = (0..brokers).map(|id| Broker { id, ..Broker::default() }).collect();
        FactsResponse { brokers, damaged, ..FactsResponse::default() }
    }

    fn found(facts: &FactsResponse) -> Vec<(String, String)> {
        let mut found = Vec::new();
        findings(facts, &mut found);
        assert!(found.iter().all(|f| f.bad));
        found.into_iter().map(|f| (f.what, f.next)).collect()
    }

    #[test]
    fn what_can_be_done_about_damage_depends_on_who_else_has_the_records() {
        use Why::{CatchingUp, Fenced};
        type Case = (i32, DamagedReplica, &'static [&'static str], &'static [&'static str]);
        let table: [Case; 7] = [
            (3, damaged(0, Some(0), &[0, 1], &[]), &["wait: broker 1", "repaired"], &["delete-records", "--unclean"]),
            (3, damaged(0, Some(1), &[1, 2], &[(0, CatchingUp)]), &["wait", "from broker 1"], &["delete-records"]),
            (
                3,
                damaged(0, Some(0), &[0], &[(1, CatchingUp), (2, Fenced)]),
                &[
                    "start broker 2:",
                    "broker 1 cannot",
                    "beyond offset 130",
                    "not restart",
                    "at offset 120",
                    "--unclean",
                ],
                &["wait"],
            ),
            (3, damaged(0, Some(0), &[0], &[(1, CatchingUp)]), &["broker 1 cannot", "delete-records"], &["comes back"]),
            (3, damaged(0, Some(0), &[0], &[]), &["delete-records", "--unclean"], &["comes back", "cannot catch up"]),
            (1, damaged(0, Some(0), &[0], &[]), &["delete-records", "would not start"], &["--unclean"]),
            (3, damaged(0, None, &[], &[(0, Fenced)]), &["start the brokers"], &["wait:"]),
        ];
        for (brokers, replica, says, says_not) in table {
            let all = found(&facts(brokers, vec![replica.clone()]));
            let (what, next) = &all[0];
            assert!(what.starts_with("broker 0 cannot read t-3 from offset 120 to the batch at 130"), "{what}");
            assert!(says.iter().all(|word| next.contains(word)), "{replica:?}: {next}");
            assert!(!says_not.iter().any(|word| next.contains(word)), "{replica:?}: {next}");
        }
    }

    #[test]
    fn how_far_damage_goes_is_not_guessed() {
        let one = |to| DamagedReplica { to, ..damaged(0, Some(0), &[0], &[]) };
        assert_eq!(range(&one(Some(130))), "from offset 120 to the batch at 130");
        assert_eq!(range(&one(Some(120))), "in the batch at offset 120");
        assert_eq!(range(&one(None)), "from offset 120 on (how far is not known)");
        assert_eq!(table(&[one(None)]).json()[0]["damaged_to"], serde_json::Value::Null);
    }

    #[test]
    fn a_copy_is_not_said_to_be_repaired_from_one_that_is_damaged_too() {
        let follower = damaged(0, Some(1), &[1], &[(0, Why::CatchingUp)]);
        let leader = DamagedReplica { broker: 1, ..follower.clone() };
        let all = found(&facts(3, vec![follower, leader]));
        assert!(all[0].0.starts_with("broker 1 cannot read"), "the last copy comes first: {all:?}");
        assert!(all[1].1.contains("damage of its own"), "{all:?}");
    }

    #[test]
    fn a_disk_that_has_lost_much_does_not_hide_the_rest() {
        let mut facts = facts(3, vec![damaged(0, Some(0), &[0, 1], &[]); 100]);
        facts.brokers[0].damaged = Some(5000);
        let all = found(&facts);
        assert_eq!(all.len(), SHOWN + 1);
        assert!(all[SHOWN].0.starts_with("4990 more"), "{:?}", all[SHOWN]);
    }
}
