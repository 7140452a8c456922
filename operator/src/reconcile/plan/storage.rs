//! Volumes: they grow in place, go with the resource only when its spec says so, and never shrink.
//!
//! A volume that somebody grew by hand is the new truth: nothing is done about it.

use super::{Plan, Refusal, Step};
use crate::quantity;
use crate::reconcile::observe::{Observed, ObservedVolume, Seen};
use crate::reconcile::validate::Cluster;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// What is to change about a volume's claim.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeChange {
    /// Which claim.
    pub claim: Seen,
    /// The size to ask for, if it is another one.
    pub size: Option<Quantity>,
    /// What it is to go away with, if that is something else.
    pub owners: Option<Vec<OwnerReference>>,
    /// Whether it is to be marked as missed by nobody, if that changes.
    pub removed: Option<bool>,
    /// Whether it is not to be given up any more.
    pub kept: bool,
}

impl VolumeChange {
    /// No change.
    pub(super) fn of(claim: &Seen) -> Self {
        Self { claim: claim.clone(), size: None, owners: None, removed: None, kept: false }
    }
}

/// The size in the StatefulSet, as long as there is one: it cannot be changed there.
pub(super) fn size_in_set(cluster: &Cluster, observed: &Observed) -> Quantity {
    let set = observed.set.as_ref().and_then(|set| set.volume_size.clone());
    set.unwrap_or_else(|| cluster.storage_size.clone())
}

/// A size that is less than what the brokers have been given.
pub(super) fn refuse(cluster: &Cluster, observed: &Observed) -> Result<(), Refusal> {
    let Some(set) = observed.set.as_ref().and_then(|set| set.volume_size.as_ref()) else { return Ok(()) };
    if is_less(&cluster.storage_size, set) {
        let message =
            format!("storage.size: {} is less than {}, and volumes do not shrink", cluster.storage_size.0, set.0);
        return Err(Refusal { reason: "VolumesDoNotShrink", message });
    }
    Ok(())
}

pub(super) fn plan(cluster: &Cluster, observed: &Observed, plan: &mut Plan) {
    // One change of a claim at a time: the next one needs the version that this one leaves.
    let free = |volume: &&ObservedVolume| {
        !volume.leaving && plan.volumes.iter().all(|change| change.claim.name != volume.seen.name)
    };
    let changes = observed.volumes.iter().filter(free).filter_map(|volume| change(cluster, volume)).collect::<Vec<_>>();
    plan.volumes.extend(changes);
    let Some(set) = observed.set.as_ref().filter(|set| !set.leaving) else { return };
    let grows = set.volume_size.as_ref().is_some_and(|size| is_less(size, &cluster.storage_size));
    // The new one has as many pods as the spec says: none that is to be emptied first may be left out of it.
    let stay = set.replicas == cluster.replicas && observed.pods.iter().all(|pod| pod.ordinal < cluster.replicas);
    if grows && stay && plan.volumes.iter().all(|change| change.size.is_none()) {
        // The claims have been grown; new ones are to be as large.
        plan.take(Step::RecreateSet { set: set.seen.clone() });
    }
}

/// What has gone wrong with a growth that the API server took.
pub(super) fn wait_for_growth(cluster: &Cluster, observed: &Observed, plan: &mut Plan) {
    for volume in observed.volumes.iter().filter(|volume| volume.ordinal < cluster.replicas && !volume.leaving) {
        if let Some(why) = &volume.does_not_grow {
            plan.wait(format!("grow the volume {}", volume.seen.name), super::DOES_NOT_GROW, why.clone());
        }
    }
}

fn change(cluster: &Cluster, volume: &ObservedVolume) -> Option<VolumeChange> {
    let grows = volume.requested.as_ref().is_some_and(|size| is_less(size, &cluster.storage_size));
    let size = (grows && volume.ordinal < cluster.replicas).then(|| cluster.storage_size.clone());
    let owner = OwnerReference { controller: None, block_owner_deletion: None, ..cluster.owner.clone() };
    let others = volume.owners.iter().filter(|other| other.uid != owner.uid).cloned().collect::<Vec<_>>();
    let given = others.len() < volume.owners.len();
    let owners = match (cluster.delete_volumes, given) {
        (true, false) => Some([others, vec![owner]].concat()),
        (false, true) => Some(others),
        (true, true) | (false, false) => None,
    };
    (size.is_some() || owners.is_some()).then(|| VolumeChange { size, owners, ..VolumeChange::of(&volume.seen) })
}

fn is_less(a: &Quantity, b: &Quantity) -> bool {
    matches!((quantity::nanos(&a.0), quantity::nanos(&b.0)), (Some(a), Some(b)) if a < b)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, observed, observed_of};
    use super::*;

    fn planned(cluster: &Cluster, observed: &Observed) -> Plan {
        let mut made = Plan::default();
        plan(cluster, observed, &mut made);
        made
    }

    fn quantity(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn volumes_grow_first_and_the_stateful_set_is_made_again_when_all_have() {
        let (mut cluster, mut observed) = (cluster(), observed());
        cluster.storage_size = quantity("2Gi");
        let made = planned(&cluster, &observed);
        assert_eq!((made.volumes.len(), made.step), (3, None));
        for volume in &mut observed.volumes {
            volume.requested = Some(quantity("2Gi"));
        }
        let made = planned(&cluster, &observed);
        assert_eq!(made.volumes, []);
        assert!(matches!(made.step, Some(Step::RecreateSet { .. })), "{:?}", made.step);
        assert_eq!(size_in_set(&cluster, &observed), quantity("1Gi"));
        observed.set = None;
        assert_eq!((planned(&cluster, &observed).step, size_in_set(&cluster, &observed)), (None, quantity("2Gi")));
    }

    #[test]
    fn the_stateful_set_is_not_made_again_before_brokers_that_are_to_go_are_gone() {
        type Change = fn(&mut Observed);
        let cases: [(&str, Change, bool); 3] = [
            ("two are to go", |_| {}, false),
            ("the pod of one is there still", |o| o.set.as_mut().unwrap().replicas = 3, false),
            (
                "they are gone",
                |o| {
                    o.set.as_mut().unwrap().replicas = 3;
                    o.pods.truncate(3);
                },
                true,
            ),
        ];
        for (what, change, again) in cases {
            let (mut cluster, mut observed) = (cluster(), observed_of(5));
            cluster.storage_size = quantity("2Gi");
            for volume in &mut observed.volumes {
                volume.requested = Some(quantity("2Gi"));
            }
            change(&mut observed);
            assert_eq!(planned(&cluster, &observed).step.is_some(), again, "{what}");
        }
    }

    #[test]
    fn a_growth_that_failed_is_said() {
        let mut observed = observed_of(4);
        for ordinal in [1, 3] {
            observed.volumes[ordinal].does_not_grow = Some("quota exceeded".to_owned());
        }
        let mut made = Plan::default();
        wait_for_growth(&cluster(), &observed, &mut made);
        let said = made.waits.iter().map(|wait| (wait.action.as_str(), wait.reason, wait.message.as_str()));
        let expected = [("grow the volume data-demo-1", super::super::DOES_NOT_GROW, "quota exceeded")];
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_volume_that_was_grown_by_hand_is_left_as_it_is() {
        let mut observed = observed();
        observed.volumes[1].requested = Some(quantity("5Gi"));
        let made = planned(&cluster(), &observed);
        assert_eq!((made.volumes, made.step), (vec![], None));
        assert_eq!(refuse(&cluster(), &observed), Ok(()));
    }

    #[test]
    fn a_size_below_that_of_the_volumes_is_refused() {
        let mut cluster = cluster();
        cluster.storage_size = quantity("512Mi");
        assert_eq!(refuse(&cluster, &observed()).unwrap_err().reason, "VolumesDoNotShrink");
    }

    #[test]
    fn volumes_go_with_the_resource_only_while_its_spec_says_so() {
        let (mut cluster, mut observed) = (cluster(), observed());
        assert_eq!(planned(&cluster, &observed).volumes, []);
        cluster.delete_volumes = true;
        let made = planned(&cluster, &observed);
        let owners = made.volumes[0].owners.clone().unwrap();
        assert_eq!((made.volumes.len(), owners.len(), owners[0].uid.as_str(), owners[0].controller), (3, 1, "u", None));
        for volume in &mut observed.volumes {
            volume.owners.clone_from(&owners);
        }
        assert_eq!(planned(&cluster, &observed).volumes, []);
        cluster.delete_volumes = false;
        assert_eq!(planned(&cluster, &observed).volumes[0].owners, Some(vec![]));
    }
}
