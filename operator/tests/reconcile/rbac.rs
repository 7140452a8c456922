//! What the chart grants the operator: the API server of these tests grants no more, and nothing is granted that is not
//! used.

use std::collections::BTreeSet;

const ROLE: &str = include_str!("../../../charts/chronik/templates/rbac.yaml");

/// Resources and verbs, of the role for clusters: `pods delete`. With a subresource as in `chronikclusters/status patch`.
pub(crate) fn granted() -> BTreeSet<(String, String)> {
    let role = ROLE.split("roleRef:").next().unwrap();
    let mut resources = Vec::new();
    let mut granted = BTreeSet::new();
    for line in role.lines().map(str::trim) {
        let list = |key: &str| {
            let inside = line.strip_prefix(key)?.trim().strip_prefix('[')?.strip_suffix(']')?;
            Some(inside.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect::<Vec<_>>())
        };
        if let Some(of) = list("resources:") {
            resources = of;
        } else if let Some(verbs) = list("verbs:") {
            for resource in &resources {
                granted.extend(verbs.iter().map(|verb| (resource.clone(), verb.clone())));
            }
        }
    }
    granted
}

/// What the code does, as far as these tests do not do it themselves: by the words that it does it with.
const WATCHES: &[(&str, &str)] = &[
    ("chronikclusters", "Controller::new(api::<Guarded>"),
    ("chroniktopics", "Controller::new(api::<Guarded>"),
    ("chronikusers", "Controller::new(users"),
    ("statefulsets", ".owns(api::<StatefulSet>"),
    ("services", ".owns(api::<Service>"),
    ("configmaps", ".owns(api::<ConfigMap>"),
    ("serviceaccounts", ".owns(api::<ServiceAccount>"),
    ("poddisruptionbudgets", ".owns(api::<PodDisruptionBudget>"),
    ("networkpolicies", ".owns(api::<NetworkPolicy>"),
    ("pods", ".watches(api::<Pod>"),
];
/// The rest, which the API server of these tests is asked for.
const ASKS: &[(&str, &[&str])] = &[
    ("chronikclusters", &["get"]),
    ("chroniktopics", &["get", "list", "patch"]),
    ("chronikusers", &["get"]),
    ("chronikclusters/status", &["patch"]),
    ("chroniktopics/status", &["patch"]),
    ("chronikusers/status", &["patch"]),
    ("statefulsets", &["get", "create", "patch", "delete"]),
    ("services", &["get", "create", "patch", "delete"]),
    ("configmaps", &["get", "list", "create", "patch", "delete"]),
    // Who changes an object's owner has to be allowed to delete it, where the API server checks that.
    ("serviceaccounts", &["get", "create", "patch", "delete"]),
    ("poddisruptionbudgets", &["get", "create", "patch", "delete"]),
    ("networkpolicies", &["get", "create", "patch", "delete"]),
    // And who names an owner that is to wait for it, to hold that one.
    ("chronikclusters/finalizers", &["update"]),
    ("pods", &["list", "delete"]),
    ("persistentvolumeclaims", &["list", "patch", "delete"]),
    ("nodes", &["get"]),
    ("events", &["create"]),
];

#[test]
fn nothing_is_granted_that_the_operator_does_not_do() {
    let sources = ["controller", "topics/controller", "users"]
        .map(|file| std::fs::read_to_string(format!("{}/src/{file}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap());
    let mut used = BTreeSet::new();
    for (resource, by) in WATCHES {
        assert!(sources.iter().any(|source| source.contains(by)), "nobody watches {resource} any more");
        used.extend(["list", "watch"].map(|verb| ((*resource).to_owned(), verb.to_owned())));
    }
    for (resource, verbs) in ASKS {
        used.extend(verbs.iter().map(|verb| ((*resource).to_owned(), (*verb).to_owned())));
    }
    let granted = granted();
    assert_eq!(granted.difference(&used).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "granted and not used");
    assert_eq!(used.difference(&granted).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "used and not granted");
}

#[test]
fn nothing_is_granted_by_wildcard_and_no_secret_can_be_read() {
    assert!(!ROLE.contains("\"*\"") && !ROLE.contains("'*'"), "a wildcard");
    for (resource, verb) in granted() {
        assert!(!["secrets", "roles", "rolebindings", "clusterroles"].contains(&resource.as_str()), "{resource}");
        assert!(!["bind", "escalate", "impersonate", "deletecollection"].contains(&verb.as_str()), "{verb} {resource}");
        assert!(!resource.starts_with("pods/"), "{resource}: nothing is run in pods");
    }
}
