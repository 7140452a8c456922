//! A broker's pod. It holds to the restricted Pod Security Standard.

use super::broker_config::{self, CONFIG_DIR, DATA_DIR};
use super::{config_map, labels, port, selector, services};
use crate::reconcile::validate::Cluster;
use chronik_crds::PodOptions;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext, Toleration,
    TopologySpreadConstraint, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::ObjectMeta;
use std::collections::BTreeMap;

/// The broker's container.
pub const CONTAINER: &str = "chronik";
/// The annotation of a resource by which a restart is asked for, one broker at a time: another value is another restart.
pub const RESTART: &str = "chronik.io/restart";
/// The volume that a broker keeps its data on.
pub(super) const DATA_VOLUME: &str = "data";
const CONFIG_VOLUME: &str = "config";
/// The image's user; the data volume belongs to it.
const USER: i64 = 65532;

pub(super) fn build(cluster: &Cluster, broker_config: &str) -> PodTemplateSpec {
    let options = &cluster.pod;
    PodTemplateSpec {
        metadata: Some(pod_metadata(cluster)),
        spec: Some(PodSpec {
            service_account_name: Some(
                cluster.pod.service_account_name.clone().unwrap_or_else(|| cluster.name.clone()),
            ),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            image_pull_secrets: image_pull_secrets(cluster),
            // A broker gives its partitions away and syncs its log; a minute is far more than that takes.
            termination_grace_period_seconds: Some(60),
            security_context: Some(pod_security(cluster)),
            affinity: Some(cluster.affinity.clone().unwrap_or_else(|| apart(cluster))),
            topology_spread_constraints: Some(spread(cluster)),
            node_selector: (!options.node_selector.is_empty()).then(|| options.node_selector.clone()),
            tolerations: tolerations(options),
            priority_class_name: options.priority_class_name.clone(),
            containers: vec![container(cluster)],
            volumes: Some(vec![config_volume(cluster, broker_config)]),
            ..PodSpec::default()
        }),
    }
}

/// What a person adds takes nothing from what the operator needs.
fn pod_metadata(cluster: &Cluster) -> ObjectMeta {
    let mut all_labels = cluster.pod.labels.clone();
    all_labels.extend(labels(cluster));
    let mut annotations = cluster.pod.annotations.clone();
    if let Some(restart) = &cluster.restart {
        annotations.insert(RESTART.to_owned(), restart.clone());
    }
    ObjectMeta {
        labels: Some(all_labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..ObjectMeta::default()
    }
}

fn tolerations(options: &PodOptions) -> Option<Vec<Toleration>> {
    let tolerations = options.tolerations.iter().cloned().map(|given| Toleration {
        key: given.key,
        operator: given.operator,
        value: given.value,
        effect: given.effect,
        toleration_seconds: given.toleration_seconds,
    });
    (!options.tolerations.is_empty()).then(|| tolerations.collect())
}

fn config_volume(cluster: &Cluster, broker_config: &str) -> Volume {
    Volume {
        name: CONFIG_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map::name(cluster, broker_config),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn image_pull_secrets(cluster: &Cluster) -> Option<Vec<LocalObjectReference>> {
    let secrets = cluster.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    (!cluster.image_pull_secrets.is_empty()).then(|| secrets.collect())
}

fn container(cluster: &Cluster) -> Container {
    let some = |amounts: &BTreeMap<_, _>| (!amounts.is_empty()).then(|| amounts.clone());
    Container {
        name: CONTAINER.to_owned(),
        image: Some(cluster.image.clone()),
        command: Some(vec!["/chronik".to_owned()]),
        args: Some(vec![
            "serve".to_owned(),
            "--config".to_owned(),
            format!("{CONFIG_DIR}/{}", broker_config::FILE),
            // Others get an address at first, not a name: it works as soon as they have it. A pod's name appears in
            // DNS up to a second after it has started, and a resolver that was asked too early may go on denying it for
            // 30 s; of a Service's change each node hears in its own time.
            "--advertise".to_owned(),
            "$(POD_IP)".to_owned(),
        ]),
        env: Some(environment(cluster)),
        ports: Some(ports(cluster)),
        resources: Some(ResourceRequirements {
            requests: some(&cluster.requests),
            limits: some(&cluster.limits),
            ..ResourceRequirements::default()
        }),
        // It answers before the log is recovered, however long that takes: who does not answer hangs.
        startup_probe: Some(Probe { failure_threshold: Some(120), ..probe("/livez", 1, 1) }),
        // Nothing about peers, and slow to give up: a restart cures a hung process and nothing else.
        liveness_probe: Some(Probe { failure_threshold: Some(6), ..probe("/livez", 5, 5) }),
        readiness_probe: Some(Probe { failure_threshold: Some(3), ..probe("/readyz", 1, 2) }),
        // So that why a broker stopped is found in the status of its pod, and in that of the cluster.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            VolumeMount { name: DATA_VOLUME.to_owned(), mount_path: DATA_DIR.to_owned(), ..VolumeMount::default() },
            VolumeMount {
                name: CONFIG_VOLUME.to_owned(),
                mount_path: CONFIG_DIR.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
        ]),
        ..Container::default()
    }
}

fn environment(cluster: &Cluster) -> Vec<EnvVar> {
    let address = EnvVar {
        name: "POD_IP".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "status.podIP".to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let variable = |name: &str, value| EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() };
    // Clients that know addresses alone would lose a cluster whose pods were all replaced. That of the broker's own Service
    // stays, and every node knows the pod behind it when the name is advertised.
    let hosts = variable("CHRONIK_CLIENT_HOSTS", services::broker_host(cluster, "{id}"));
    let log = cluster.pod.log_level.clone().map(|value| variable("CHRONIK_LOG", value));
    [address, hosts].into_iter().chain(log).collect()
}

fn ports(cluster: &Cluster) -> Vec<ContainerPort> {
    let further = cluster.listeners.iter().map(|listener| (listener.name.as_str(), listener.port));
    let port = |(name, number): (&str, i32)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    port::ALL.into_iter().chain(further).map(port).collect()
}

fn probe(path: &str, period_seconds: i32, timeout_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(timeout_seconds),
        ..Probe::default()
    }
}

fn pod_security(cluster: &Cluster) -> PodSecurityContext {
    let given = cluster.pod.security_context.clone().unwrap_or_default();
    let otherwise = (!given.assigned).then_some(USER);
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: given.run_as_user.or(otherwise),
        run_as_group: given.run_as_group.or(otherwise),
        fs_group: given.fs_group.or(otherwise),
        // Large volumes are not walked file by file at each start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

/// Brokers on one node fail together: each is placed on a node without another one, as long as there is any.
///
/// Not by a second spread constraint beside that of the zones: the scheduler leaves a node out of all constraints when
/// it lacks the label of one, and many clusters have no zones.
fn apart(cluster: &Cluster) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(brokers(cluster)),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    let preferred = WeightedPodAffinityTerm { weight: 100, pod_affinity_term: term };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![preferred]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// Brokers are spread as the spec says; else over the zones, as far as there are any.
fn spread(cluster: &Cluster) -> Vec<TopologySpreadConstraint> {
    let constraint = |key: &str, max_skew, when_unsatisfiable: &str| TopologySpreadConstraint {
        max_skew,
        topology_key: key.to_owned(),
        when_unsatisfiable: when_unsatisfiable.to_owned(),
        label_selector: Some(brokers(cluster)),
        ..TopologySpreadConstraint::default()
    };
    if cluster.pod.topology_spread.is_empty() {
        return vec![constraint("topology.kubernetes.io/zone", 1, "ScheduleAnyway")];
    }
    let given = cluster.pod.topology_spread.iter();
    given.map(|spread| constraint(&spread.topology_key, spread.max_skew, &spread.when_unsatisfiable)).collect()
}

fn brokers(cluster: &Cluster) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(&cluster.name)), ..LabelSelector::default() }
}
