//! How many brokers there are to be, and how there come to be fewer, the highest first: drained, seen by the controller to
//! have no replicas and not to vote, without a pod, and then removed. Their volumes are kept, with a mark that nobody
//! misses what is on them.

use super::{Plan, Refusal, Step, VolumeChange};
use crate::brokers::{Facts, Standing};
use crate::reconcile::observe::{Known, Observed, PodState};
use crate::reconcile::validate::Cluster;
use std::fmt::Write as _;

/// How many pods there are to be by what runs: those of the StatefulSet; while it is made again, those that it left.
pub(super) fn running(observed: &Observed) -> Option<i32> {
    let left = || observed.pods.iter().map(|pod| pod.ordinal + 1).max();
    observed.set.as_ref().map(|set| set.replicas).or_else(left)
}

/// What cannot be followed: fewer brokers than have data, or than topics have replicas.
pub(super) fn refuse(cluster: &Cluster, observed: &Observed) -> Result<(), Refusal> {
    let running = running(observed).unwrap_or(0).max(cluster.replicas);
    let beyond = |ordinal: i32| ordinal >= running;
    let left = observed.volumes.iter().filter(|volume| beyond(volume.ordinal) && !volume.removed && !volume.leaving);
    let left = left.map(|volume| volume.seen.name.as_str()).collect::<Vec<_>>();
    if !left.is_empty() {
        let most = observed.volumes.iter().map(|volume| volume.ordinal + 1).max().unwrap_or_default();
        let members = observed.facts.known().is_some_and(|facts| facts.brokers.keys().any(|id| beyond(*id)));
        let otherwise = if members {
            ": their brokers are members of it"
        } else {
            ", which an earlier cluster of this name wrote, or delete these volume claims if nobody misses what is on them"
        };
        let message = format!(
            "replicas: {} brokers would leave the data on {} behind; set replicas to {most}{otherwise}",
            cluster.replicas,
            left.join(", ")
        );
        return Err(Refusal { reason: "VolumesLeftBehind", message });
    }
    let shrinks = running > cluster.replicas;
    // While partitions move, brokers of an earlier version count the replicas that come and those that go. They refuse a drain
    // that cannot be by themselves.
    let facts = observed.facts.known().filter(|facts| facts.reassignments == 0);
    match facts.and_then(|facts| facts.greatest_factor.as_ref()) {
        Some((factor, topics)) if shrinks && i64::from(*factor) > i64::from(cluster.replicas) => Err(Refusal {
            reason: "ReplicationFactorInUse",
            message: format!(
                "replicas: {} is less than the replication factor {factor} of {}",
                cluster.replicas,
                some_of(topics)
            ),
        }),
        _ => Ok(()),
    }
}

/// Three names at most.
fn some_of(names: &[String]) -> String {
    let mut text = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 3 {
        let _ = write!(text, " and {} more", names.len() - 3);
    }
    text
}

/// Decides how many pods the StatefulSet is to have now, and takes the next step towards fewer.
pub(super) fn plan(cluster: &Cluster, observed: &Observed, plan: &mut Plan) -> i32 {
    unmark(cluster, observed, plan);
    uncordon(cluster, observed, plan);
    forget(cluster, observed, plan);
    let Some(running) = running(observed).filter(|running| *running > cluster.replicas) else {
        return cluster.replicas;
    };
    // The highest one, as a StatefulSet can give up no other.
    let last = running - 1;
    let action = || format!("remove broker {last}");
    let facts = match &observed.facts {
        Known::Is(facts) => facts,
        Known::Unknown(why) => {
            let message = format!("what the brokers would say is not known: {why}");
            plan.wait(action(), "BrokersUnknown", message);
            return running;
        }
    };
    if let Some(broker) = facts.brokers.get(&last) {
        // What somebody else moves meanwhile keeps nothing from being placed on it; its own drain does.
        if broker.cordoned && facts.reassignments > 0 && broker.replicas > 0 {
            let message = format!("{} replicas are still on broker {last}", broker.replicas);
            plan.wait(action(), "Draining", message);
            return running;
        }
        if !broker.cordoned || broker.replicas > 0 || broker.leaders > 0 {
            plan.take(Step::Drain(last));
            return running;
        }
        if broker.voter {
            let seen = facts.brokers.iter().filter(|(_, broker)| broker.voter).map(|(id, _)| *id).collect();
            let voters = voters_within(facts, cluster.replicas);
            let unheard = (0..cluster.replicas).find(|id| !has_registered(facts, *id));
            match unheard.filter(|_| voters.len() < VOTERS_MIN) {
                // Nobody would give it a vote later, and with fewer voters the first that stops takes the majority away.
                Some(id) => {
                    let message = format!("broker {id} is to vote in place of broker {last}, and has never registered");
                    plan.wait(action(), "NotRegistered", message);
                }
                None => plan.take(Step::ChangeVoters { voters, seen }),
            }
            return running;
        }
    } else if observed.pods.iter().any(|pod| pod.ordinal == last && pod.state == PodState::Ready) {
        // It serves: that nobody knows of it does not show that it is empty.
        let message = format!("broker {last} serves, and the controller does not know it");
        plan.wait(action(), "NotRegistered", message);
        return running;
    }
    match observed.volumes.iter().find(|volume| volume.ordinal == last && !volume.removed) {
        Some(volume) => {
            let change = VolumeChange { removed: Some(true), ..VolumeChange::of(&volume.seen) };
            plan.volumes.push(change);
            plan.wait(action(), "MarkingVolume", format!("the volume of broker {last} is marked as not missed"));
            running
        }
        None => last,
    }
}

fn has_registered(facts: &Facts, id: i32) -> bool {
    facts.brokers.get(&id).is_some_and(|broker| broker.incarnation.is_some())
}

/// With fewer voters, the first of them that stops takes the majority away.
const VOTERS_MIN: usize = 3;

/// Those of today's voters who stay, with others in place of those who go where too few would be left, and an odd number.
fn voters_within(facts: &Facts, replicas: i32) -> Vec<i32> {
    let staying = facts.brokers.iter().filter(|(id, broker)| **id < replicas && broker.incarnation.is_some());
    let (mut voters, mut others): (Vec<_>, Vec<_>) = staying.partition(|(_, broker)| broker.voter);
    others.sort_by_key(|(_, broker)| broker.standing != Standing::InSync);
    let lacking = VOTERS_MIN.saturating_sub(voters.len());
    voters.extend(others.into_iter().take(lacking));
    let mut voters = voters.into_iter().map(|(id, _)| *id).collect::<Vec<_>>();
    voters.sort_unstable();
    if voters.len() % 2 == 0 {
        voters.pop();
    }
    voters
}

/// A broker that this operator has cordoned for it to go, and that is to stay after all. What somebody else has cordoned
/// is theirs.
fn uncordon(cluster: &Cluster, observed: &Observed, plan: &mut Plan) {
    let Some(facts) = observed.facts.known() else { return };
    let cordoned = |id: &i32| facts.brokers.get(id).is_some_and(|broker| broker.cordoned);
    if let Some(id) = observed.drained.iter().copied().find(|id| *id < cluster.replicas && cordoned(id)) {
        plan.take(Step::Uncordon(id));
    }
}

/// The brokers that this operator has cordoned, or is about to: to be in the status before that is done.
pub fn drained(cluster: &Cluster, observed: &Observed, step: Option<&Step>) -> Vec<i32> {
    let mut drained = observed.drained.clone();
    if let Some(facts) = observed.facts.known() {
        let is_cordoned = |id: i32| facts.brokers.get(&id).map(|broker| broker.cordoned);
        // One that stays, and is cordoned no more, is like any other; so is one that is gone.
        drained.retain(|id| is_cordoned(*id).is_some_and(|cordoned| cordoned || *id >= cluster.replicas));
        let begun = step.and_then(|step| if let Step::Drain(id) = step { Some(*id) } else { None });
        drained.extend(begun.filter(|id| !drained.contains(id) && is_cordoned(*id) == Some(false)));
    }
    drained.sort_unstable();
    drained
}

/// A broker that comes back to its volume counts again.
fn unmark(cluster: &Cluster, observed: &Observed, plan: &mut Plan) {
    let marked = observed.volumes.iter().filter(|volume| volume.removed && volume.ordinal < cluster.replicas);
    plan.volumes.extend(marked.map(|volume| VolumeChange { removed: Some(false), ..VolumeChange::of(&volume.seen) }));
}

/// Brokers beyond the last pod, without a pod of their own, are taken out of the cluster.
fn forget(cluster: &Cluster, observed: &Observed, plan: &mut Plan) {
    let (Some(set), Some(facts)) = (&observed.set, observed.facts.known()) else { return };
    let beyond = |id: i32| id >= set.replicas.max(cluster.replicas);
    let runs = |id: i32| observed.pods.iter().any(|pod| pod.ordinal == id);
    if let Some(id) = facts.brokers.keys().copied().find(|id| beyond(*id) && !runs(*id)) {
        plan.take(Step::Remove(id));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, facts, observed_of};
    use super::*;

    fn planned(observed: &Observed) -> (i32, String) {
        let mut made = Plan::default();
        let replicas = plan(&cluster(), observed, &mut made);
        let step = made.step.map(|step| step.to_string());
        let wait = made.waits.first().map(|wait| format!("{}: {}", wait.action, wait.reason));
        (replicas, step.or(wait).unwrap_or_else(|| "nothing".to_owned()))
    }

    #[test]
    fn a_cluster_made_anew_with_fewer_brokers_than_volumes_is_refused() {
        let mut observed = observed_of(5);
        observed.set = None;
        observed.pods.clear();
        observed.facts = Known::Unknown("no broker runs".to_owned());
        let refusal = refuse(&cluster(), &observed).unwrap_err();
        assert_eq!(refusal.reason, "VolumesLeftBehind");
        assert!(refusal.message.contains("data-demo-3, data-demo-4"), "{}", refusal.message);
        assert!(refusal.message.contains("set replicas to 5"), "{}", refusal.message);
        // The StatefulSet of an operator that did not look.
        (observed.set, observed.facts) = (observed_of(3).set, observed_of(5).facts);
        let refusal = refuse(&cluster(), &observed).unwrap_err();
        assert!(!refusal.message.contains("delete"), "of members of the cluster: {}", refusal.message);
    }

    #[test]
    fn while_the_stateful_set_is_made_again_the_pods_that_it_left_count() {
        let mut observed = observed_of(5);
        observed.set = None;
        assert_eq!(refuse(&cluster(), &observed), Ok(()));
        assert_eq!(planned(&observed), (5, "drain broker 4".to_owned()));
        facts(&mut observed).greatest_factor = Some((5, vec!["a".to_owned()]));
        assert_eq!(refuse(&cluster(), &observed).unwrap_err().reason, "ReplicationFactorInUse");
    }

    #[test]
    fn a_broker_that_stays_after_all_is_given_replicas_again_unless_somebody_else_has_cordoned_it() {
        let mut cluster = cluster();
        cluster.replicas = 5;
        let mut observed = observed_of(5);
        let step = |cluster: &Cluster, observed: &Observed| {
            let mut made = Plan::default();
            plan(cluster, observed, &mut made);
            (made.step.clone(), drained(cluster, observed, made.step.as_ref()))
        };
        for id in [0, 4] {
            facts(&mut observed).brokers.get_mut(&id).unwrap().cordoned = true;
        }
        assert_eq!(step(&cluster, &observed), (None, vec![]));
        observed.drained = vec![4];
        assert_eq!(step(&cluster, &observed), (Some(Step::Uncordon(4)), vec![4]));
        facts(&mut observed).brokers.get_mut(&4).unwrap().cordoned = false;
        assert_eq!(step(&cluster, &observed), (None, vec![]));
        // One that goes is remembered before it is cordoned, and not if somebody else has done that.
        cluster.replicas = 4;
        assert_eq!(step(&cluster, &observed), (Some(Step::Drain(4)), vec![4]));
        observed.drained = vec![];
        let last = facts(&mut observed).brokers.get_mut(&4).unwrap();
        (last.cordoned, last.replicas) = (true, 9);
        assert_eq!(step(&cluster, &observed), (Some(Step::Drain(4)), vec![]));
        // What is not known is not forgotten.
        observed.drained = vec![4];
        observed.facts = Known::Unknown("no".to_owned());
        assert_eq!(step(&cluster, &observed).1, [4]);
    }

    #[test]
    fn three_vote_whoever_goes() {
        for (voters, replicas, expected) in [
            (&[0, 1, 2][..], 4, &[0, 1, 2][..]),
            (&[2, 3, 4], 4, &[0, 2, 3]),
            (&[3, 4], 3, &[0, 1, 2]),
            (&[0, 1, 2, 3, 4], 4, &[0, 1, 2]),
        ] {
            let mut observed = observed_of(5);
            for (id, broker) in &mut facts(&mut observed).brokers {
                broker.voter = voters.contains(id);
            }
            assert_eq!(voters_within(facts(&mut observed), replicas), expected, "{voters:?} of {replicas}");
        }
        let mut observed = observed_of(5);
        for id in 2..5 {
            facts(&mut observed).brokers.get_mut(&id).unwrap().voter = true;
        }
        facts(&mut observed).brokers.get_mut(&0).unwrap().standing = Standing::Recovering;
        assert_eq!(voters_within(facts(&mut observed), 4), [1, 2, 3], "who is in sync goes first");
    }

    #[test]
    fn volumes_of_brokers_that_were_removed_are_missed_by_nobody() {
        let mut observed = observed_of(5);
        observed.set = None;
        observed.pods.truncate(3);
        observed.volumes[3].removed = true;
        observed.volumes[4].removed = true;
        assert_eq!(refuse(&cluster(), &observed), Ok(()));
    }

    #[test]
    fn fewer_brokers_than_a_topic_has_replicas_are_refused_with_its_name() {
        let mut observed = observed_of(5);
        facts(&mut observed).greatest_factor = Some((5, ["a", "b", "c", "d"].map(str::to_owned).into()));
        let refusal = refuse(&cluster(), &observed).unwrap_err();
        assert_eq!(refusal.reason, "ReplicationFactorInUse");
        assert!(refusal.message.ends_with("factor 5 of a, b, c and 1 more"), "{}", refusal.message);
        // Its own drain adds replicas before it takes others away.
        facts(&mut observed).reassignments = 1;
        on_last(&mut observed, true, 4);
        assert_eq!(refuse(&cluster(), &observed), Ok(()));
        assert_eq!(planned(&observed), (5, "remove broker 4: Draining".to_owned()));
    }

    #[test]
    fn a_broker_goes_when_the_controller_sees_nothing_on_it_and_not_before() {
        type Change = fn(&mut Observed);
        let cases: &[(&str, Change, (i32, &str))] = &[
            ("first", |_| {}, (5, "drain broker 4")),
            (
                "unknown is not empty",
                |o| o.facts = Known::Unknown("no".to_owned()),
                (5, "remove broker 4: BrokersUnknown"),
            ),
            ("cordoned only", |o| on_last(o, true, 9), (5, "drain broker 4")),
            ("empty, but something may be placed on it", |o| on_last(o, false, 0), (5, "drain broker 4")),
            (
                "draining",
                |o| {
                    on_last(o, true, 4);
                    facts(o).reassignments = 4;
                },
                (5, "remove broker 4: Draining"),
            ),
            (
                "it votes",
                |o| {
                    on_last(o, true, 0);
                    facts(o).brokers.values_mut().for_each(|broker| broker.voter = true);
                },
                (5, "let brokers [0, 1, 2] vote"),
            ),
            (
                "it votes, and who is to vote in its place has never come so far",
                |o| {
                    on_last(o, true, 0);
                    for id in [0, 1, 4] {
                        facts(o).brokers.get_mut(&id).unwrap().voter = true;
                    }
                    facts(o).brokers.get_mut(&2).unwrap().incarnation = None;
                },
                (5, "remove broker 4: NotRegistered"),
            ),
            (
                "somebody else moves partitions",
                |o| {
                    on_last(o, false, 9);
                    facts(o).reassignments = 3;
                },
                (5, "drain broker 4"),
            ),
            ("empty", |o| on_last(o, true, 0), (5, "remove broker 4: MarkingVolume")),
            (
                "it serves, and nobody knows it",
                |o| drop(facts(o).brokers.remove(&4)),
                (5, "remove broker 4: NotRegistered"),
            ),
            (
                "it never came so far as to register",
                |o| {
                    facts(o).brokers.remove(&4);
                    o.pods[4].state = PodState::Failing("ErrImagePull".to_owned());
                },
                (5, "remove broker 4: MarkingVolume"),
            ),
            (
                "empty and marked",
                |o| {
                    on_last(o, true, 0);
                    o.volumes[4].removed = true;
                },
                (4, "nothing"),
            ),
            (
                "without a pod",
                |o| {
                    on_last(o, true, 0);
                    o.volumes[4].removed = true;
                    o.set.as_mut().unwrap().replicas = 4;
                    o.pods.pop();
                },
                (4, "remove broker 4"),
            ),
        ];
        for (what, change, (replicas, expected)) in cases {
            let mut observed = observed_of(5);
            change(&mut observed);
            assert_eq!(planned(&observed), (*replicas, (*expected).to_owned()), "{what}");
        }
    }

    fn on_last(observed: &mut Observed, cordoned: bool, replicas: u32) {
        let broker = facts(observed).brokers.get_mut(&4).unwrap();
        (broker.cordoned, broker.replicas) = (cordoned, replicas);
    }

    #[test]
    fn the_volume_of_a_broker_that_comes_back_counts_again() {
        let mut observed = observed_of(3);
        observed.volumes[2].removed = true;
        let mut made = Plan::default();
        plan(&cluster(), &observed, &mut made);
        let changes =
            made.volumes.iter().map(|change| (change.claim.name.as_str(), change.removed)).collect::<Vec<_>>();
        assert_eq!(changes, [("data-demo-2", Some(false))]);
    }
}
