//! The custom resource definitions as the API server takes them.

use crate::cluster::ChronikCluster;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

/// The definition of `ChronikCluster`.
///
/// No field takes a null: the API server drops one before it validates, so that the rules see a field or none.
pub fn chronik_cluster() -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut definition = serde_json::to_value(ChronikCluster::crd())?;
    drop_nullable(&mut definition);
    serde_json::from_value(definition)
}

/// The same as YAML, in the form that is kept in the repository and in the chart.
pub fn yaml() -> Result<String, Box<dyn std::error::Error>> {
    let mut definition = serde_json::to_value(chronik_cluster()?)?;
    // Helm leaves the definition, and with it every cluster, in place when the chart is uninstalled.
    definition["metadata"]["annotations"] = serde_json::json!({ "helm.sh/resource-policy": "keep" });
    let body = serde_saphyr::to_string(&definition)?;
    Ok(format!("# Generated from the Rust types in crds/src: `cargo run -p chronik-crds` prints it.\n{body}"))
}

fn drop_nullable(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("nullable");
            fields.values_mut().for_each(drop_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nullable),
        _ => {}
    }
}
