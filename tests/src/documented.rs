//! What `docs/testing.md` names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The functions that tests are, in all sources below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let after = text.split("#[test]").skip(1).chain(text.split("#[tokio::test").skip(1));
            let names = after.filter_map(|after| after.split_once("fn ")?.1.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_is_named_for_what_once_went_wrong_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/testing.md")).expect("the page");
    let table = page.split_once("## What once went wrong").expect("the table").1;
    let mut tests = BTreeSet::new();
    for folder in ["broker", "tests"] {
        functions(&root.join(folder), &mut tests);
    }
    let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let named: Vec<&str> = rows.flat_map(|row| row.rsplit_once(" | ").expect("two cells").1.split(", ")).collect();
    assert!(named.len() > 40, "{named:?}");
    let is_there = |name: &str| match name.split_once("the scenario `") {
        Some((_, scenario)) => {
            let file = scenario.trim_matches(|c: char| "`| ".contains(c)).replace('-', "_");
            Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scenarios").join(file).with_extension("rs").is_file()
        }
        None => tests.contains(name.trim_matches(|c: char| "`| ".contains(c))),
    };
    let missing: Vec<_> = named.into_iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "no test is called that: {missing:?}");
}
