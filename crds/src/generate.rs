//! The custom resource definitions as the API server takes them.

use crate::cluster::ChronikCluster;
use crate::topic::ChronikTopic;
use crate::user::ChronikUser;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

/// A definition in the form that is kept in the repository and in the chart.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The name of its file.
    pub file: String,
    /// Its text.
    pub yaml: String,
}

/// The definitions of all resources.
pub fn definitions() -> Result<Vec<Definition>, Box<dyn std::error::Error>> {
    [ChronikCluster::crd(), ChronikTopic::crd(), ChronikUser::crd()].iter().map(definition).collect()
}

/// No field takes a null: the API server drops one before it validates, so that the rules see a field or none.
fn definition(crd: &CustomResourceDefinition) -> Result<Definition, Box<dyn std::error::Error>> {
    let mut definition = serde_json::to_value(crd)?;
    drop_nullable(&mut definition);
    unwrap_descriptions(&mut definition);
    // Helm leaves the definition, and with it every resource, in place when the chart is uninstalled.
    definition["metadata"]["annotations"] = serde_json::json!({ "helm.sh/resource-policy": "keep" });
    let body = serde_saphyr::to_string(&definition)?;
    let head =
        "# Generated from the Rust types in crds/src: `cargo run -p chronik-crds charts/chronik/files` writes it.";
    Ok(Definition { file: format!("{}.yaml", crd.spec.names.plural), yaml: format!("{head}\n{body}") })
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

/// Makes one line of each paragraph: `kubectl explain` breaks lines where the terminal ends, and keeps those that are there.
fn unwrap_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A property of that name is an object.
            if let Some(Value::String(text)) = fields.get_mut("description") {
                let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
                *text = paragraphs.collect::<Vec<_>>().join("\n\n");
            }
            fields.values_mut().for_each(unwrap_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(unwrap_descriptions),
        _ => {}
    }
}
