//! A broker's volume: its claim, which outlives the pod, the StatefulSet and the resource.

use super::Seen;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

/// The annotation on the volume of a broker that was removed from its cluster after its data had gone to others: it is
/// kept, and missed by nobody.
pub const REMOVED: &str = "chronik.io/removed";

/// The annotation by which somebody gives up a volume that is lost with its node or its disk.
pub const GIVE_UP: &str = "chronik.io/give-up";

/// A broker's volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedVolume {
    /// The broker's id.
    pub ordinal: i32,
    /// Which claim.
    pub seen: Seen,
    /// The size that is asked for.
    pub requested: Option<Quantity>,
    /// Whether its broker was removed from the cluster, with nothing left on it that anybody misses.
    pub removed: bool,
    /// Whether somebody has given it up.
    pub given_up: bool,
    /// What it goes away with.
    pub owners: Vec<OwnerReference>,
    /// Whether it is on its way out.
    pub leaving: bool,
}

pub(super) fn observe(claim: &PersistentVolumeClaim, cluster: &str) -> Option<ObservedVolume> {
    let name = claim.name_any();
    let ordinal = name.strip_prefix("data-")?.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok()?;
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    Some(ObservedVolume {
        ordinal,
        seen: Seen::of(&claim.metadata),
        requested: requests.and_then(|amounts| amounts.get("storage").cloned()),
        removed: claim.annotations().contains_key(REMOVED),
        given_up: claim.annotations().get(GIVE_UP).is_some_and(|value| value == "true"),
        owners: claim.owner_references().to_vec(),
        leaving: claim.metadata.deletion_timestamp.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_a_brokers_by_its_name() {
        for (name, ordinal) in
            [("data-demo-0", Some(0)), ("data-demo-12", Some(12)), ("data-other-0", None), ("logs-demo-0", None)]
        {
            let claim = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
            assert_eq!(observe(&claim, "demo").map(|volume| volume.ordinal), ordinal, "{name}");
        }
    }
}
