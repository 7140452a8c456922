//! Every file in `examples/` is a resource that can be followed, and says nothing that is not understood.

use chronik_crds::{ChronikCluster, ChronikTopic};
use chronik_operator::reconcile::build::{Frame, build};
use chronik_operator::reconcile::observe::Known;
use chronik_operator::reconcile::validate::validate;
use chronik_operator::topics::plan::{ClusterState, Observed, plan};
use serde_json::Value;
use std::path::Path;

#[test]
fn every_example_is_a_resource_that_can_be_followed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let written: Value = serde_saphyr::from_str(&text).unwrap();
        found += 1;
        if written["kind"] == "ChronikTopic" {
            check_topic(&text, &written);
            continue;
        }
        let mut cluster: ChronikCluster = serde_saphyr::from_str(&text).unwrap();
        // A field that the type does not know would be missing here.
        assert_eq!(serde_json::to_value(&cluster.spec).unwrap(), written["spec"], "{}", path.display());
        cluster.metadata.namespace = Some("default".to_owned());
        cluster.metadata.uid = Some("11111111-1111-1111-1111-111111111111".to_owned());
        let valid = validate(&cluster, "chronik:1").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        build(&valid, &Frame::of(&valid)).unwrap();
    }
    assert!(found >= 3, "{found} examples");
}

fn check_topic(text: &str, written: &Value) {
    let topic: ChronikTopic = serde_saphyr::from_str(text).expect("the example is a ChronikTopic");
    let spec = serde_json::to_value(&topic.spec).expect("it was JSON");
    assert_eq!(spec, written["spec"]);
    let observed = Observed { cluster: ClusterState::There, rival: None, topic: Known::Is(None) };
    assert_eq!(plan(&topic, &observed).finding.reason, "Creating");
}
