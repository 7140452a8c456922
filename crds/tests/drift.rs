//! The definitions in the chart are those that the types give.

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
