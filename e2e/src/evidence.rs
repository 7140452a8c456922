//! Logs and objects of a scenario that failed, for whoever looks into it.

use crate::environment::{self, Environment, OPERATOR, OPERATOR_NAMESPACE};
use crate::kubectl::Kubectl;
use std::fs;
use std::path::Path;

/// Writes what can be had of every namespace that the scenario made.
pub(crate) fn keep(environment: &Environment, scenario: &str) -> anyhow::Result<()> {
    let folder = environment.evidence(scenario);
    fs::create_dir_all(&folder)?;
    keep_operator(environment, &folder);
    write(&folder, "nodes.yaml", environment.kubectl.run(&["get", "nodes", "--output", "yaml"]));
    let namespaces = environment.kubectl.json(&["get", "namespaces"])?;
    let names = namespaces["items"].as_array().into_iter().flatten().filter_map(|n| n["metadata"]["name"].as_str());
    for namespace in names.filter(|name| name.starts_with(&environment::namespace(scenario))) {
        keep_namespace(&environment.kubectl.within(namespace), &folder.join(namespace))?;
    }
    Ok(())
}

/// Writes what can be had of one namespace while others of the scenario are in use.
pub(crate) fn keep_run(environment: &Environment, kubectl: &Kubectl, folder: &Path) -> anyhow::Result<()> {
    keep_namespace(kubectl, folder)?;
    keep_operator(environment, folder);
    Ok(())
}

fn keep_operator(environment: &Environment, folder: &Path) {
    let operator = environment.kubectl.within(OPERATOR_NAMESPACE);
    write(folder, "operator.log", operator.run(&["logs", &format!("deployment/{OPERATOR}"), "--timestamps"]));
}

/// Writes the logs and objects of one namespace.
fn keep_namespace(kubectl: &Kubectl, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let kinds = "chronikclusters,statefulsets,pods,services,endpointslices,configmaps,persistentvolumeclaims";
    write(folder, "objects.yaml", kubectl.run(&["get", kinds, "--output", "yaml"]));
    write(folder, "events.txt", kubectl.run(&["get", "events", "--sort-by=.lastTimestamp"]));
    let pods = kubectl.json(&["get", "pods"])?;
    for pod in pods["items"].as_array().into_iter().flatten().filter_map(|pod| pod["metadata"]["name"].as_str()) {
        write(folder, &format!("{pod}.log"), kubectl.run(&["logs", pod, "--timestamps"]));
        if let Ok(previous) = kubectl.run(&["logs", pod, "--timestamps", "--previous"]) {
            write(folder, &format!("{pod}.previous.log"), Ok(previous));
        }
    }
    Ok(())
}

/// What cannot be had is itself worth knowing.
fn write(folder: &Path, name: &str, text: anyhow::Result<String>) {
    let text = text.unwrap_or_else(|error| format!("{error:#}\n"));
    if let Err(error) = fs::write(folder.join(name), text) {
        eprintln!("cannot keep {name}: {error}");
    }
}
