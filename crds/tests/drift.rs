//! The definitions in the chart are those that the types give.

use chronik_crds::properties::offered;
use serde_json::Value;
use std::path::Path;

#[test]
fn the_charts_definitions_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/chronik/files");
    for definition in chronik_crds::generate::definitions().unwrap() {
        let kept = std::fs::read_to_string(folder.join(&definition.file)).unwrap_or_default();
        assert!(
            kept == definition.yaml,
            "{} is out of date: run `cargo run -p chronik-crds charts/chronik/files`",
            definition.file
        );
    }
}

#[test]
fn the_api_server_checks_the_shape_of_every_property() {
    let definitions = chronik_crds::generate::definitions().unwrap();
    let clusters: Value = serde_saphyr::from_str(&definitions[0].yaml).unwrap();
    let schema = &clusters["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let rules = schema["properties"]["spec"]["properties"]["config"]["x-kubernetes-validations"].as_array().unwrap();
    let rules = rules.iter().filter_map(|rule| rule["rule"].as_str()).collect::<Vec<_>>();
    for (name, shape) in offered() {
        let (name, pattern) = (format!("'{name}'"), format!("'{}'", shape.pattern()));
        assert!(rules.iter().any(|rule| rule.contains(&name) && rule.contains(&pattern)), "{name}: {pattern}");
    }
}

#[test]
fn every_field_is_explained_in_whole_paragraphs() {
    for definition in chronik_crds::generate::definitions().unwrap() {
        let definition: Value = serde_saphyr::from_str(&definition.yaml).unwrap();
        for version in definition["spec"]["versions"].as_array().unwrap() {
            let schema = &version["schema"]["openAPIV3Schema"];
            for part in ["spec", "status"] {
                check(part, &schema["properties"][part]);
            }
        }
    }
}

/// Fails unless the field, and all in it, have a description that `kubectl explain` shows as it should.
fn check(path: &str, field: &Value) {
    let description = field["description"].as_str().unwrap_or_default();
    assert!(description.ends_with('.'), "{path}: {description:?} is no sentence");
    assert!(!description.replace("\n\n", "").contains('\n'), "{path}: a paragraph has lines: {description:?}");
    for inner in [field, &field["items"]] {
        for (name, field) in inner["properties"].as_object().into_iter().flatten() {
            check(&format!("{path}.{name}"), field);
        }
    }
}
