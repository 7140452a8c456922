//! The definition in the chart is the one that the types give.

use std::path::Path;

#[test]
fn the_charts_definition_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/chronik/files/chronikclusters.yaml");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let generated = chronik_crds::generate::yaml().unwrap();
    assert!(
        kept == generated,
        "{} is out of date: run `cargo run -p chronik-crds > charts/chronik/files/chronikclusters.yaml`",
        path.display()
    );
}
