//! How far replicas are behind, as their leaders know it.

use chronik_admin::missing_replica::Why;
use chronik_admin::{FactsResponse, MissingReplica, Partition};
use serde_json::{Value, json};
use std::time::Duration;

/// How far a replica is behind; nothing where its leader was not asked, or does not know.
pub(super) fn text(replica: &MissingReplica) -> Option<String> {
    let time = replica.behind_for_ms.map(|ms| format!("for {} s at least", Duration::from_millis(ms).as_secs()));
    match (replica.behind, time) {
        (Some(records), Some(time)) => Some(format!("lacks {records} offsets, {time}")),
        (Some(records), None) => Some(format!("lacks {records} offsets")),
        (None, Some(time)) => Some(format!("not heard by its leader {time}")),
        (None, None) => None,
    }
}

/// The same for programs: what is not known is null.
pub(super) fn value(replica: &MissingReplica) -> Value {
    json!({"broker": replica.broker, "offsets": replica.behind, "for_at_least_ms": replica.behind_for_ms})
}

/// The replica that is furthest behind of those that are alive, in half a sentence; empty if there is none.
pub(super) fn furthest(partitions: &[Partition]) -> String {
    let all = partitions.iter().flat_map(|p| p.missing.iter().map(move |m| (p, m)));
    let alive = all.filter(|(_, m)| m.why() == Why::CatchingUp);
    // One that its leader has not heard comes first: it may lack anything.
    let worst = alive.max_by_key(|(_, m)| (m.behind_for_ms.is_some() && m.behind.is_none(), m.behind));
    worst.map_or_else(String::new, |(p, m)| {
        let how = text(m).unwrap_or_else(|| "how far is not known".into());
        format!("; furthest behind, as far as is known, is broker {} in {}-{}: {how}", m.broker, p.topic, p.partition)
    })
}

/// What is left of the moves that are under way, in half a sentence; empty if nothing is known of it.
pub(super) fn left_to_move(facts: &FactsResponse) -> String {
    let missing = || facts.reassignments.iter().flat_map(|r| &r.missing);
    let known: Vec<u64> = missing().filter_map(|m| m.behind).collect();
    let unknown = missing().count() - known.len();
    let lacking = known.iter().fold(0_u64, |sum, offsets| sum.saturating_add(*offsets));
    match (known.len(), unknown) {
        (0, _) => String::new(),
        (n, 0) => format!(": {n} new replicas lack {lacking} offsets"),
        (n, more) => format!(": {n} new replicas lack {lacking} offsets, of {more} more it is not known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_admin::Reassignment;

    fn behind(broker: i32, behind: Option<u64>, behind_for_ms: Option<u64>) -> MissingReplica {
        MissingReplica { broker, why: Why::CatchingUp.into(), behind, behind_for_ms }
    }

    #[test]
    fn what_a_leader_does_not_know_is_not_said() {
        for (replica, expected) in [
            (behind(1, Some(7), Some(41_900)), Some("lacks 7 offsets, for 41 s at least")),
            (behind(1, None, Some(41_900)), Some("not heard by its leader for 41 s at least")),
            (behind(1, None, None), None),
        ] {
            assert_eq!(text(&replica).as_deref(), expected);
        }
        assert_eq!(value(&behind(1, None, None))["offsets"], Value::Null);
    }

    #[test]
    fn the_furthest_behind_is_named() {
        let partition =
            |n: i32, missing| Partition { topic: "t".into(), partition: n, missing, ..Partition::default() };
        let away = MissingReplica { why: Why::Fenced.into(), ..behind(9, Some(99), None) };
        let of = |all: &[Partition]| furthest(all);
        assert_eq!(of(&[partition(0, vec![away])]), "");
        let known = partition(0, vec![away, behind(1, Some(5), Some(1000)), behind(2, Some(50), Some(3000))]);
        assert!(of(std::slice::from_ref(&known)).ends_with("broker 2 in t-0: lacks 50 offsets, for 3 s at least"));
        let silent = partition(1, vec![behind(1, None, Some(2000))]);
        assert!(of(&[known, silent]).ends_with("broker 1 in t-1: not heard by its leader for 2 s at least"));
        assert!(of(&[partition(2, vec![behind(3, None, None)])]).ends_with("broker 3 in t-2: how far is not known"));
    }

    #[test]
    fn what_is_left_of_moves_is_summed_up_as_far_as_it_is_known() {
        let moving = |missing| Reassignment { missing, ..Reassignment::default() };
        let left = |reassignments| left_to_move(&FactsResponse { reassignments, ..FactsResponse::default() });
        assert_eq!(left(vec![moving(vec![behind(1, None, None)])]), "");
        let known = moving(vec![behind(1, Some(5), Some(1)), behind(2, Some(50), Some(1))]);
        assert_eq!(left(vec![known.clone()]), ": 2 new replicas lack 55 offsets");
        let expected = ": 2 new replicas lack 55 offsets, of 1 more it is not known";
        assert_eq!(left(vec![known, moving(vec![behind(1, None, None)])]), expected);
    }
}
