//! A broker's volume: its claim, which outlives the pod, the StatefulSet and the resource.

use super::Seen;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimCondition};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
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
    /// Why it does not get the size that was asked for, in Kubernetes' words.
    pub does_not_grow: Option<String>,
    /// Since when its file system has waited for the pod to be started anew, to grow with it, if that is for long.
    pub awaits_restart: Option<Timestamp>,
}

/// For how long a growth may be under way before it counts as one that does not get on by itself. A file system that grows
/// while it is in use does so within a minute or two.
const GROWTH_MAX: SignedDuration = SignedDuration::from_mins(10);

pub(super) fn observe(claim: &PersistentVolumeClaim, cluster: &str, now: Timestamp) -> Option<ObservedVolume> {
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
        does_not_grow: does_not_grow(claim, now),
        awaits_restart: condition(claim, "FileSystemResizePending").and_then(|pending| since_long(pending, now)),
    })
}

fn condition<'a>(claim: &'a PersistentVolumeClaim, kind: &str) -> Option<&'a PersistentVolumeClaimCondition> {
    let mut conditions = claim.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == kind && condition.status == "True")
}

/// Since when the condition has held, if that is longer than it should.
fn since_long(condition: &PersistentVolumeClaimCondition, now: Timestamp) -> Option<Timestamp> {
    let since = condition.last_transition_time.as_ref()?.0;
    (now.duration_since(since) >= GROWTH_MAX).then_some(since)
}

/// The failures of whoever grows volumes; or that it has been at it for long, which those of some storage do not say more of.
fn does_not_grow(claim: &PersistentVolumeClaim, now: Timestamp) -> Option<String> {
    let words = |condition: &PersistentVolumeClaimCondition| {
        let said = condition.message.as_deref().filter(|message| !message.is_empty()).or(condition.reason.as_deref());
        said.map_or_else(|| condition.type_.clone(), |said| format!("{}: {said}", condition.type_))
    };
    let failed = ["ControllerResizeError", "NodeResizeError"].iter().find_map(|kind| condition(claim, kind));
    failed.map(words).or_else(|| {
        let resizing = condition(claim, "Resizing")?;
        let since = since_long(resizing, now)?;
        Some(format!("{}, since {since}", words(resizing)))
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
            let found = observe(&claim, "demo", Timestamp::UNIX_EPOCH);
            assert_eq!(found.map(|volume| volume.ordinal), ordinal, "{name}");
        }
    }

    #[test]
    fn a_growth_that_failed_or_does_not_get_on_is_told_from_one_that_is_under_way() {
        let now = "2026-01-01T00:20:00Z".parse::<Timestamp>().unwrap();
        let (old, new) = ("2026-01-01T00:10:00Z", "2026-01-01T00:19:00Z");
        for (kind, status, since, message, does_not_grow, awaits_restart) in [
            ("Resizing", "True", new, "", None, false),
            ("Resizing", "True", old, "", Some("Resizing, since 2026-01-01T00:10:00Z"), false),
            ("ControllerResizeError", "True", new, "quota", Some("ControllerResizeError: quota"), false),
            ("ControllerResizeError", "False", new, "quota", None, false),
            ("NodeResizeError", "True", new, "", Some("NodeResizeError"), false),
            ("FileSystemResizePending", "True", new, "", None, false),
            ("FileSystemResizePending", "True", old, "", None, true),
        ] {
            let condition = json!({ "type": kind, "status": status, "lastTransitionTime": since, "message": message });
            let claim = json!({ "metadata": { "name": "data-demo-0" }, "status": { "conditions": [condition] } });
            let found = observe(&serde_json::from_value(claim).unwrap(), "demo", now).unwrap();
            let what = (found.does_not_grow.as_deref(), found.awaits_restart.is_some());
            assert_eq!(what, (does_not_grow, awaits_restart), "{kind} {status} {since}");
        }
    }
}
