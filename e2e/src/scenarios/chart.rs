//! The chart lints and renders, for both scopes, and refuses values that it does not know.

use crate::command::output;
use crate::environment::Environment;
use crate::timeline::Timeline;
use anyhow::{Context, ensure};
use std::process::Command;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let chart = environment.root.join("charts/chronik");
    output(Command::new("helm").args(["lint", "--strict"]).arg(&chart))?;
    timeline.say("helm lint --strict has nothing to say");

    let render = |values: &str| {
        let mut helm = Command::new("helm");
        helm.args(["template", "release", "--namespace", "there", "--kube-version", "1.34.0", "--set", values]);
        output(helm.arg(&chart))
    };
    let kinds = |text: &str| {
        let mut kinds =
            text.lines().filter_map(|line| line.strip_prefix("kind: ").map(str::to_owned)).collect::<Vec<_>>();
        kinds.sort();
        kinds
    };
    let cluster = render("scope=cluster")?;
    let expected = [
        "ClusterRole",
        "ClusterRole",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "CustomResourceDefinition",
        "CustomResourceDefinition",
        "Deployment",
        "Role",
        "RoleBinding",
        "ServiceAccount",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    ensure!(kinds(&cluster) == expected, "cluster scope renders {:?}", kinds(&cluster));
    ensure!(!cluster.contains("--namespace=there"), "cluster scope looks at one namespace only");

    let namespaced = render("scope=namespace,crds.install=false,aggregatedRoles=false")?;
    let expected = ["Deployment", "Role", "Role", "RoleBinding", "RoleBinding", "ServiceAccount"];
    ensure!(kinds(&namespaced) == expected, "namespace scope renders {:?}", kinds(&namespaced));
    ensure!(namespaced.contains("--namespace=there"), "namespace scope does not name the namespace");
    // Nodes are in no namespace.
    let of_cluster = without_comments(rules(&cluster, "ClusterRole")?);
    ensure!(of_cluster.contains(NODES), "the operator may not look at nodes");
    ensure!(
        of_cluster.replace(NODES, "") == without_comments(rules(&namespaced, "Role")?),
        "the rights differ from one scope to the other, beyond where they apply"
    );
    timeline.say("it renders with a ClusterRole for all namespaces, and with Roles alone for one, of the same rights");

    for values in ["scop=namespace", "scope=galaxy", "replicas=many", "namespaces={one}"] {
        ensure!(render(values).is_err(), "{values} is not refused");
    }
    let several =
        "scope=namespace,namespaces={one,two},crds.install=false,aggregatedRoles=false,podMonitor.enabled=true";
    let several = render(several)?;
    let roles = kinds(&several).iter().filter(|kind| *kind == "RoleBinding").count();
    ensure!(roles == 3 && several.contains("--namespace=one,two"), "two namespaces have {roles} bindings");
    // Of a namespace that is not named, Prometheus asks nobody.
    ensure!(
        several.contains("matchNames:\n      - one\n      - two\n"),
        "brokers of one namespace alone are monitored"
    );
    timeline.say("for several namespaces it renders a Role in each, and monitors the brokers of all");

    let all = render(
        "replicas=2,podMonitor.enabled=true,prometheusRule.enabled=true,grafanaDashboard.enabled=true,\
         podSecurityContext.runAsUser=null",
    )?;
    ensure!(all.matches("tolerationSeconds: 30").count() == 2, "the operator stays on a node that is lost for minutes");
    for kind in ["ConfigMap", "PodDisruptionBudget", "PodMonitor", "PrometheusRule"] {
        ensure!(kinds(&all).iter().any(|rendered| rendered == kind), "no {kind} is rendered");
    }
    ensure!(all.contains("- alert: ChronikPlanStuck"), "the alerts are not in their rule");
    ensure!(!all.contains("runAsUser: 65532"), "the user's id is not left to the platform");
    timeline.say("values that are unknown or of the wrong kind are refused");
    Ok(())
}

/// What may be read of nodes, as it is written.
const NODES: &str = "  - apiGroups: [\"\"]
    resources: [nodes]
    verbs: [get]
";

fn without_comments(yaml: &str) -> String {
    let lines = yaml.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// What the first role of this kind allows, as it is written.
fn rules<'a>(rendered: &'a str, kind: &str) -> anyhow::Result<&'a str> {
    let head = format!("kind: {kind}\n");
    let of_operator = |object: &&str| object.contains(&head) && object.contains("[statefulsets]");
    let role = rendered.split("---\n").find(of_operator).context("no such role")?;
    role.split_once("rules:").map(|(_, rules)| rules).context("a role without rules")
}
