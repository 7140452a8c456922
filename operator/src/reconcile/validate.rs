//! Whether the spec can be followed, and what it comes to with every default filled in.
//!
//! The API server refuses most of what is refused here; a resource may have been stored before it did so.

use super::build::{self, RESTART};
use crate::kafka::Configs;
use crate::quantity;
use chronik_crds::properties::{self, REBALANCE_PROTOCOLS, Shape};
use chronik_crds::rules::{OWNED_LISTENERS, OWNED_PORTS};
use chronik_crds::{ChronikCluster, ChronikClusterSpec, DeletionPolicy, Listener, PodOptions, Scalar};
use k8s_openapi::api::core::v1::Affinity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A cluster whose spec can be followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name, and the prefix of the names of its objects.
    pub name: String,
    /// Where it lives.
    pub namespace: String,
    /// What every object of it, but for its volumes, is owned by.
    pub owner: OwnerReference,
    /// The namespace of the operator, if that is known.
    pub operator_namespace: Option<String>,
    /// Whether everything is to stay as it is.
    pub paused: bool,
    /// How many brokers.
    pub replicas: i32,
    /// The image that they run.
    pub image: String,
    /// The Secrets with which it is pulled.
    pub image_pull_secrets: Vec<String>,
    /// The size of each broker's volume.
    pub storage_size: Quantity,
    /// Whether they are deleted with the resource.
    pub delete_volumes: bool,
    /// The class of these volumes; `None` for the default class.
    pub storage_class: Option<String>,
    /// Compute resources requested for each broker.
    pub requests: BTreeMap<String, Quantity>,
    /// Compute resources that each broker cannot exceed.
    pub limits: BTreeMap<String, Quantity>,
    /// The properties that brokers read when they start, by Kafka's names.
    pub properties: BTreeMap<String, Value>,
    /// Those that they take up while they run, as Kafka's requests carry them.
    pub dynamic: Configs,
    /// How clients from outside reach the brokers.
    pub listeners: Vec<Listener>,
    /// The label of nodes whose value is a broker's rack.
    pub rack_key: Option<String>,
    /// What each broker may send, and get, in a second for partitions that are moved to brokers that have joined, in bytes;
    /// `None` if none are.
    pub rebalance_rate: Option<u64>,
    /// What is said about the pods.
    pub pod: PodOptions,
    /// The scheduler's rules, in place of the operator's own.
    pub affinity: Option<Affinity>,
    /// A hash of all of the spec that pods are made from.
    pub template_of: String,
    /// The value of the annotation by which somebody asked for a restart.
    pub restart: Option<String>,
}

/// Why a spec cannot be followed: every reason there is, in words for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct InvalidSpec {
    /// Never empty.
    pub problems: Vec<String>,
}

/// Fills in the defaults. `image` is the one for clusters that do not name theirs.
pub fn validate(cluster: &ChronikCluster, image: &str) -> Result<Cluster, InvalidSpec> {
    validate_running(cluster, image, false)
}

/// The same; with `runs`, of a cluster whose template was made from this spec already. What an older operator has made pods
/// from is followed as that one did: a check that came with a newer one is for what is made from now on.
pub fn validate_running(cluster: &ChronikCluster, image: &str, runs: bool) -> Result<Cluster, InvalidSpec> {
    let spec = &cluster.spec;
    let mut problems = Vec::new();
    check_name(&cluster.name_any(), &mut problems);
    check_counts(spec, &mut problems);
    if quantity::nanos(&spec.storage.size).is_none_or(|size| size <= 0) {
        problems.push(format!("storage.size: {:?} is not a quantity above zero, such as 10Gi", spec.storage.size));
    }
    let resources = spec.resources.clone().unwrap_or_default();
    let requests = quantities("resources.requests", &resources.requests, &mut problems);
    let limits = quantities("resources.limits", &resources.limits, &mut problems);
    let (properties, dynamic) = broker_properties(spec, &mut problems);
    check_sizes(spec, &mut problems);
    check_groups(spec, &mut problems);
    let pod = spec.pod.clone().unwrap_or_default();
    let affinity = affinity(&pod, runs, &mut problems);
    check_labels(&pod, &mut problems);
    check_listeners(spec, &mut problems);
    let rebalance_rate = rebalance_rate(spec, &mut problems);
    let (Some(namespace), Some(owner)) = (cluster.namespace(), cluster.controller_owner_ref(&())) else {
        return Err(InvalidSpec { problems: vec!["the resource has no namespace or uid".to_owned()] });
    };
    if !problems.is_empty() {
        return Err(InvalidSpec { problems });
    }
    Ok(Cluster {
        name: cluster.name_any(),
        namespace,
        owner,
        operator_namespace: None,
        paused: spec.paused,
        replicas: spec.replicas,
        image: spec.image.clone().unwrap_or_else(|| image.to_owned()),
        image_pull_secrets: spec.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        storage_size: Quantity(spec.storage.size.clone()),
        delete_volumes: spec.storage.deletion_policy == DeletionPolicy::Delete,
        storage_class: spec.storage.storage_class.clone(),
        requests,
        limits,
        properties,
        dynamic,
        listeners: spec.listeners.clone(),
        rack_key: spec.rack.as_ref().map(|rack| rack.topology_key.clone()),
        rebalance_rate,
        pod,
        affinity,
        template_of: hash_of_template(cluster, image),
        restart: cluster.annotations().get(RESTART).cloned(),
    })
}

/// The same for two specs that pods of one kind are made from, whatever the operator's version makes of them. What brokers
/// take up while they run is none of their pods' business.
pub fn hash_of_template(cluster: &ChronikCluster, image: &str) -> String {
    let (spec, restart) = (&cluster.spec, cluster.annotations().get(RESTART));
    let counts = (spec.replication_factor(), default_min_insync(spec));
    let image = spec.image.as_deref().unwrap_or(image);
    let config = spec.config.iter().filter(|(name, _)| !properties::is_dynamic(name)).collect::<BTreeMap<_, _>>();
    let mut of = json!([image, spec.image_pull_secrets, spec.resources, counts, config, spec.pod, restart]);
    // Added only where there are any: the hash of a spec without stays what it was.
    if let (false, Some(of)) = (spec.listeners.is_empty(), of.as_array_mut()) {
        of.push(spec.listeners.iter().map(|listener| json!([listener.name, listener.port])).collect());
    }
    build::hash(&of.to_string())
}

fn check_listeners(spec: &ChronikClusterSpec, problems: &mut Vec<String>) {
    for (at, listener) in spec.listeners.iter().enumerate() {
        let Listener { name, port, .. } = listener;
        let before = &spec.listeners[..at];
        if before.iter().any(|other| other.name == *name || other.port == *port) {
            problems.push(format!("listeners: {name} needs a name and a port of its own"));
        }
        if name.contains("--") {
            problems.push(format!("listeners: {name}: Kubernetes takes no name of a port with two '-' in a row"));
        }
        if OWNED_LISTENERS.contains(&name.as_str()) || OWNED_PORTS.contains(port) {
            problems.push(format!("listeners: {name} has the name or the port of a listener that every broker has"));
        }
        let host = listener.host.as_deref().unwrap_or("host").replace("{id}", "0");
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':')) || host.is_empty() {
            problems.push(format!("listeners: {name}: {host:?} is no host"));
        }
    }
}

fn rebalance_rate(spec: &ChronikClusterSpec, problems: &mut Vec<String>) -> Option<u64> {
    let given = spec.auto_rebalance.clone().unwrap_or_default();
    let rate = Shape::Size.amount(&given.throttle).filter(|rate| *rate > 0);
    if rate.is_none() {
        problems.push(format!("autoRebalance.throttle: {:?} is not a size above 0, such as 50MiB", given.throttle));
    }
    rate.filter(|_| given.enabled)
}

/// The API server does not look into it: what is not understood would be dropped without a word, and with it the rules that
/// brokers are placed by. Where pods run without it, they have been placed, and it stays dropped.
fn affinity(pod: &PodOptions, runs: bool, problems: &mut Vec<String>) -> Option<Affinity> {
    let given = pod.affinity.as_ref()?;
    match serde_json::from_value::<Affinity>(given.clone()) {
        Ok(affinity) if runs => Some(affinity),
        Ok(affinity) => {
            let understood = serde_json::to_value(&affinity).unwrap_or_default();
            let unknown = lost(given, &understood, "pod.affinity");
            problems.extend(unknown.map(|field| format!("{field}: this operator knows no such field there")));
            Some(affinity)
        }
        Err(error) => {
            problems.push(format!("pod.affinity: {error}"));
            None
        }
    }
}

/// The first field of what was given that is not in what was understood of it.
fn lost(given: &Value, understood: &Value, path: &str) -> Option<String> {
    match given {
        Value::Object(fields) => fields.iter().filter(|(_, value)| !value.is_null()).find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            match understood.get(name) {
                Some(understood) => lost(value, understood, &path),
                None => Some(path),
            }
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(at, item)| {
            let understood = understood.get(at).unwrap_or(&Value::Null);
            lost(item, understood, &format!("{path}[{at}]"))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The labels that the operator finds its objects by are its own.
fn check_labels(pod: &PodOptions, problems: &mut Vec<String>) {
    let own = |label: &&String| label.starts_with("app.kubernetes.io/") || label.starts_with("chronik.io/");
    let own = pod.labels.keys().chain(pod.annotations.keys()).filter(own);
    problems.extend(own.map(|label| format!("pod: {label} is set by the operator")));
}

fn check_name(name: &str, problems: &mut Vec<String>) {
    let of_dns = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if name.len() > 40 || !of_dns || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') {
        problems.push("the name must be at most 40 characters of a-z, 0-9 and '-', and start with a letter".to_owned());
    }
}

fn check_counts(spec: &ChronikClusterSpec, problems: &mut Vec<String>) {
    let (replicas, factor, min_insync) = (spec.replicas, spec.replication_factor(), spec.min_insync_replicas());
    if !(1..=99).contains(&replicas) {
        problems.push(format!("replicas: {replicas} is not between 1 and 99"));
    }
    if replicas == 2 {
        problems.push("replicas: of 2 brokers, both stop with the first; use 1, or 3 and more".to_owned());
    }
    if factor < 1 || factor > replicas {
        problems.push(format!("replication.factor: {factor} is not between 1 and replicas, which is {replicas}"));
    }
    if min_insync < 1 || min_insync > factor {
        problems
            .push(format!("replication.minInsync: {min_insync} is not between 1 and the factor, which is {factor}"));
    }
}

fn quantities(
    field: &str,
    amounts: &BTreeMap<String, Scalar>,
    problems: &mut Vec<String>,
) -> BTreeMap<String, Quantity> {
    for (name, amount) in amounts {
        if quantity::nanos(&amount.to_string()).is_none() {
            problems.push(format!("{field}.{name}: {:?} is not a quantity", amount.to_string()));
        }
    }
    amounts.iter().map(|(name, amount)| (name.clone(), Quantity(amount.to_string()))).collect()
}

const MIN_INSYNC: &str = "min.insync.replicas";

fn default_min_insync(spec: &ChronikClusterSpec) -> i32 {
    if spec.replication_factor() >= 3 { 2 } else { 1 }
}

/// Those that brokers read when they start, and those that they take up while they run.
fn broker_properties(spec: &ChronikClusterSpec, problems: &mut Vec<String>) -> (BTreeMap<String, Value>, Configs) {
    let mut dynamic = Configs::new();
    // The file has what follows from the factor, so that it stays as it is whatever is given; what is given is set while
    // brokers run, and goes before it.
    let mut values = BTreeMap::from([
        ("default.replication.factor".to_owned(), Value::from(spec.replication_factor())),
        (MIN_INSYNC.to_owned(), Value::from(default_min_insync(spec))),
    ]);
    if let Some(given) = spec.replication.as_ref().and_then(|replication| replication.min_insync) {
        dynamic.insert(MIN_INSYNC.to_owned(), given.to_string());
    }
    for (name, value) in &spec.config {
        let text = value.to_string();
        if let Some(instead) = properties::owned(name) {
            problems.push(format!("config: {name}: {instead}"));
        } else if let Some(shape) = properties::shape(name) {
            if !shape.matches(&text) {
                problems.push(format!("config: {name} must be {}, not {text:?}", shape.describe()));
            } else if is_amount(shape) && amount(name, shape, &text).is_none() {
                let range = properties::range(name);
                let (least, most) = (range.start(), range.end());
                problems.push(format!("config: {name}: {text:?} is not between {least} and {most}"));
            } else if properties::is_dynamic(name) {
                dynamic.insert(name.clone(), shape.in_kafkas_form(&text));
            } else {
                values.insert(name.clone(), typed(shape, text));
            }
        } else {
            problems.push(format!("config: unknown property {name:?}; did you mean {:?}?", nearest(name)));
        }
    }
    (values, dynamic)
}

fn is_amount(shape: Shape) -> bool {
    matches!(shape, Shape::Integer | Shape::Count | Shape::Size | Shape::Duration)
}

/// What a property's value comes to, if a broker would take it.
fn amount(name: &str, shape: Shape, text: &str) -> Option<u64> {
    shape.amount(text).filter(|amount| properties::range(name).contains(amount))
}

/// The sizes that bound each other, and what they are in a broker's file that does not say.
pub const SIZES: [(&str, u64); 3] = [
    ("message.max.bytes", 1_048_588),
    ("socket.request.max.bytes", 100 << 20),
    ("queued.max.request.bytes", 128 << 20),
];
/// What a request has beside its records at most, as a broker reckons.
const AROUND_RECORDS: u64 = 4096;

fn check_sizes(spec: &ChronikClusterSpec, problems: &mut Vec<String>) {
    let [message, request, queued] = SIZES.map(|(name, default)| {
        let given = spec.config.get(name).and_then(|value| amount(name, Shape::Size, &value.to_string()));
        given.unwrap_or(default)
    });
    if message + AROUND_RECORDS > request {
        problems.push(format!(
            "config: socket.request.max.bytes, which is {request}, must exceed message.max.bytes, which is {message}, \
             by {AROUND_RECORDS} at least"
        ));
    }
    if request > queued {
        problems.push(format!(
            "config: queued.max.request.bytes, which is {queued}, must not be less than socket.request.max.bytes, \
             which is {request}"
        ));
    }
}

/// The times of groups that bound each other, and what they are in a broker's file that does not say, in milliseconds.
pub const GROUP_TIMES: [(&str, u64); 8] = [
    ("group.min.session.timeout.ms", 6_000),
    ("group.max.session.timeout.ms", 1_800_000),
    ("group.consumer.min.session.timeout.ms", 45_000),
    ("group.consumer.session.timeout.ms", 45_000),
    ("group.consumer.max.session.timeout.ms", 60_000),
    ("group.consumer.min.heartbeat.interval.ms", 5_000),
    ("group.consumer.heartbeat.interval.ms", 5_000),
    ("group.consumer.max.heartbeat.interval.ms", 15_000),
];
/// The places in there of two of which the first must not be greater than the second.
const IN_ORDER: [(usize, usize); 5] = [(0, 1), (2, 3), (3, 4), (5, 6), (6, 7)];
/// The places of two of which the first must be less.
const LESS: (usize, usize) = (6, 3);
const PROTOCOLS: &str = "group.coordinator.rebalance.protocols";

fn check_groups(spec: &ChronikClusterSpec, problems: &mut Vec<String>) {
    let times = GROUP_TIMES.map(|(name, default)| {
        let given = spec.config.get(name).and_then(|value| amount(name, Shape::Duration, &value.to_string()));
        (name, given.unwrap_or(default))
    });
    let (heartbeat, session) = (times[LESS.0], times[LESS.1]);
    let mut wrong = |least: (&str, u64), most: (&str, u64), how: &str| {
        problems.push(format!(
            "config: {}, which is {} ms, must be {how} {}, which is {} ms",
            least.0, least.1, most.0, most.1
        ));
    };
    for (least, most) in IN_ORDER.map(|(least, most)| (times[least], times[most])) {
        if least.1 > most.1 {
            wrong(least, most, "no more than");
        }
    }
    if heartbeat.1 >= session.1 {
        wrong(heartbeat, session, "less than");
    }
    let protocols = spec.config.get(PROTOCOLS).map(ToString::to_string);
    let left_out = |given: &String| REBALANCE_PROTOCOLS.matches(given) && !given.contains("classic");
    if protocols.as_ref().is_some_and(left_out) {
        problems.push(format!("config: {PROTOCOLS}: classic cannot be left out"));
    }
}

/// The value as the broker's file has it: what looks like a number is one, whether it was quoted or not.
fn typed(shape: Shape, text: String) -> Value {
    match (shape, text.parse::<u64>()) {
        (Shape::Boolean, _) => Value::from(text == "true"),
        (_, Ok(number)) => Value::from(number),
        (_, Err(_)) => Value::from(text),
    }
}

fn nearest(name: &str) -> &'static str {
    let known = properties::offered().map(|(known, _)| known);
    known.min_by_key(|known| strsim::damerau_levenshtein(known, name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(spec: &Value) -> ChronikCluster {
        let metadata = json!({ "name": "demo", "namespace": "default", "uid": "u" });
        serde_json::from_value(json!({
            "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster", "metadata": metadata, "spec": spec
        }))
        .unwrap()
    }

    fn problems(spec: &Value) -> Vec<String> {
        validate(&cluster(spec), "chronik:1").map_or_else(|invalid| invalid.problems, |_| Vec::new())
    }

    #[test]
    fn a_spec_with_storage_alone_is_three_brokers_that_keep_each_record_twice_at_least() {
        let valid = validate(&cluster(&json!({ "storage": { "size": "1Gi" } })), "chronik:1").unwrap();
        assert_eq!((valid.replicas, valid.image.as_str()), (3, "chronik:1"));
        assert_eq!(valid.properties["default.replication.factor"], 3);
        assert_eq!(valid.properties["min.insync.replicas"], 2);
    }

    #[test]
    fn a_single_broker_needs_no_second_replica() {
        let valid = validate(&cluster(&json!({ "replicas": 1, "storage": { "size": "1Gi" } })), "chronik:1").unwrap();
        assert_eq!(valid.properties["default.replication.factor"], 1);
        assert_eq!(valid.properties["min.insync.replicas"], 1);
    }

    #[test]
    fn properties_reach_the_brokers_file_as_numbers_truth_values_and_texts() {
        let config = json!({ "num.partitions": "6", "auto.create.topics.enable": "false",
                             "queued.max.request.bytes": "200MiB", "broker.session.timeout.ms": 2000 });
        let valid =
            validate(&cluster(&json!({ "storage": { "size": "1Gi" }, "config": config })), "chronik:1").unwrap();
        assert_eq!(valid.properties["num.partitions"], 6);
        assert_eq!(valid.properties["auto.create.topics.enable"], false);
        assert_eq!(valid.properties["queued.max.request.bytes"], "200MiB");
        assert_eq!(valid.properties["broker.session.timeout.ms"], 2000);
    }

    #[test]
    fn what_brokers_take_up_while_they_run_is_in_kafkas_units_and_changes_no_pod() {
        let valid = |config: Value| {
            let spec = json!({ "storage": { "size": "1Gi" }, "config": config });
            validate(&cluster(&spec), "chronik:1").unwrap()
        };
        let config = json!({ "message.max.bytes": "2MiB", "log.retention.ms": "7d", "log.retention.bytes": -1,
                             "log.cleaner.min.cleanable.ratio": "0.5", "log.cleanup.policy": "compact, delete" });
        let (with, without) = (valid(config), valid(json!({})));
        let expected = [
            ("log.cleaner.min.cleanable.ratio", "0.5"),
            ("log.cleanup.policy", "compact, delete"),
            ("log.retention.bytes", "-1"),
            ("log.retention.ms", "604800000"),
            ("message.max.bytes", "2097152"),
        ];
        assert_eq!(with.dynamic, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!((&with.properties, &with.template_of), (&without.properties, &without.template_of));
    }

    #[test]
    fn how_fast_partitions_are_moved_to_new_brokers_changes_no_pod() {
        let valid = |rebalance: Value| {
            validate(&cluster(&json!({ "storage": { "size": "1Gi" }, "autoRebalance": rebalance })), "chronik:1")
        };
        let without = valid(Value::Null).unwrap();
        for (given, rate) in [
            (Value::Null, Some(50 << 20)),
            (json!({}), Some(50 << 20)),
            (json!({ "throttle": "1GiB" }), Some(1 << 30)),
            (json!({ "enabled": false }), None),
        ] {
            let valid = valid(given).unwrap();
            assert_eq!((valid.rebalance_rate, &valid.template_of), (rate, &without.template_of));
        }
        for throttle in ["0", "0MiB", "fast", ""] {
            let found = valid(json!({ "throttle": throttle })).unwrap_err().problems;
            assert_eq!(found, [format!("autoRebalance.throttle: {throttle:?} is not a size above 0, such as 50MiB")]);
        }
    }

    #[test]
    fn what_is_not_understood_of_the_schedulers_rules_is_refused_and_not_dropped() {
        let required = |of: &str| {
            let terms = json!([{ "topologyKey": "zone", of: { "matchLabels": { "any": "name" } } }]);
            json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } })
        };
        let of_term = "podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelektor";
        for (affinity, field) in [
            (json!({}), None),
            (json!({ "podAffinity": null }), None),
            (required("labelSelector"), None),
            (required("labelSelektor"), Some(of_term)),
            (json!({ "podAntiAfinity": {} }), Some("podAntiAfinity")),
        ] {
            let found = problems(&json!({ "storage": { "size": "1Gi" }, "pod": { "affinity": affinity } }));
            let expected = field.map(|field| format!("pod.affinity.{field}: this operator knows no such field there"));
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{affinity}");
        }
    }

    #[test]
    fn rules_that_pods_were_made_from_already_are_not_refused_for_what_was_dropped_of_them() {
        let of = |affinity: &Value| cluster(&json!({ "storage": { "size": "1Gi" }, "pod": { "affinity": affinity } }));
        let (dropped, unreadable) = (of(&json!({ "podAntiAfinity": {} })), of(&json!({ "nodeAffinity": 7 })));
        assert_eq!(validate_running(&dropped, "chronik:1", true).unwrap().affinity, Some(Affinity::default()));
        assert!(validate_running(&dropped, "chronik:1", false).is_err());
        assert!(validate_running(&unreadable, "chronik:1", true).is_err(), "nothing was ever made of that");
    }

    #[test]
    fn a_listeners_name_is_one_that_a_port_may_have() {
        let named = |name: &str| {
            let listener = json!({ "name": name, "type": "NodePort" });
            problems(&json!({ "storage": { "size": "1Gi" }, "listeners": [listener] }))
        };
        assert_eq!(named("to-the-world"), Vec::<String>::new());
        assert_eq!(named("a--b"), ["listeners: a--b: Kubernetes takes no name of a port with two '-' in a row"]);
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_a_reason_for_each_fault() {
        let found = problems(&json!({
            "replicas": 2, "storage": { "size": "lots" }, "replication": { "factor": 3, "minInsync": 4 },
            "resources": { "limits": { "cpu": "many" } },
            "config": { "broker.id": 1, "log.segment.bytes": "2GiB", "num.partition": 1, "num.partitions": "few" }
        }));
        assert_eq!(
            found,
            [
                "replicas: of 2 brokers, both stop with the first; use 1, or 3 and more",
                "replication.factor: 3 is not between 1 and replicas, which is 2",
                "replication.minInsync: 4 is not between 1 and the factor, which is 3",
                "storage.size: \"lots\" is not a quantity above zero, such as 10Gi",
                "resources.limits.cpu: \"many\" is not a quantity",
                "config: broker.id: broker ids are the ordinals of the pods",
                "config: log.segment.bytes: \"2GiB\" is not between 1 and 2147483647",
                "config: unknown property \"num.partition\"; did you mean \"num.partitions\"?",
                "config: num.partitions must be a whole number from 1 to 999999999, not \"few\"",
            ]
        );
    }
}
