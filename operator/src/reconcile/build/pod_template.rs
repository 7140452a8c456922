//! A broker's pod. It holds to the restricted Pod Security Standard.

use super::broker_config::{self, CONFIG_DIR, DATA_DIR};
use super::{config_map, labels, port, selector};
use crate::reconcile::validate::Cluster;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext, TopologySpreadConstraint, Volume,
    VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::ObjectMeta;
use std::collections::BTreeMap;

/// The broker's container.
pub const CONTAINER: &str = "chronik";
/// The volume that a broker keeps its data on.
pub(super) const DATA_VOLUME: &str = "data";
const CONFIG_VOLUME: &str = "config";
/// The image's user; the data volume belongs to it.
const USER: i64 = 65532;

pub(super) fn build(cluster: &Cluster, broker_config: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels(cluster)), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            service_account_name: Some(cluster.name.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            image_pull_secrets: image_pull_secrets(cluster),
            // A broker gives its partitions away and syncs its log; a minute is far more than that takes.
            termination_grace_period_seconds: Some(60),
            security_context: Some(pod_security()),
            affinity: Some(apart(cluster)),
            topology_spread_constraints: Some(vec![over_zones(cluster)]),
            containers: vec![container(cluster)],
            volumes: Some(vec![config_volume(cluster, broker_config)]),
            ..PodSpec::default()
        }),
    }
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
            // Others are told an address, not a name: it works as soon as they have heard of it. A pod's name appears in
            // DNS up to a second after it has started, and a resolver that was asked too early may go on denying it for
            // 30 s; of a Service's change each node hears in its own time.
            "--advertise".to_owned(),
            "$(POD_IP)".to_owned(),
        ]),
        env: Some(vec![EnvVar {
            name: "POD_IP".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "status.podIP".to_owned(),
                    ..ObjectFieldSelector::default()
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        ports: Some(
            port::ALL
                .map(|(name, number)| ContainerPort {
                    name: Some(name.to_owned()),
                    container_port: number,
                    protocol: Some("TCP".to_owned()),
                    ..ContainerPort::default()
                })
                .into(),
        ),
        resources: Some(ResourceRequirements {
            requests: some(&cluster.requests),
            limits: some(&cluster.limits),
            ..ResourceRequirements::default()
        }),
        // The log is recovered before anything listens; that takes as long as there is to recover. A start that is cut
        // off begins anew, and would be cut off again: a week is Kubernetes' word for no limit.
        startup_probe: Some(Probe { failure_threshold: Some(7 * 24 * 3600), ..probe("/livez", 1, 1) }),
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

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
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

/// Brokers are spread over the zones as far as there are any.
fn over_zones(cluster: &Cluster) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "topology.kubernetes.io/zone".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(brokers(cluster)),
        ..TopologySpreadConstraint::default()
    }
}

fn brokers(cluster: &Cluster) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(&cluster.name)), ..LabelSelector::default() }
}
