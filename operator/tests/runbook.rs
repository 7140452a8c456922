//! Every reason that a condition, a plan or an Event may have is in `docs/kubernetes.md`.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            found.push(path);
        }
    }
}

/// Text in quotes that is made of two capitalised words or more, as reasons are.
fn reasons(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2).filter(|word| {
        let capitals = word.chars().filter(char::is_ascii_uppercase).count();
        capitals >= 2
            && word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_alphabetic())
    })
}

#[test]
fn every_reason_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../docs/kubernetes.md")).unwrap();
    let mut files = Vec::new();
    for folder in ["src/status", "src/reconcile/plan", "src/topics"] {
        sources(&root.join(folder), &mut files);
    }
    files.push(root.join("src/reconcile/apply/step.rs"));
    files.push(root.join("src/reconcile/mod.rs"));
    files.push(root.join("src/reconcile/carry_out.rs"));
    files.push(root.join("src/users.rs"));
    let mut missing = BTreeSet::new();
    let mut count = 0;
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        // Tests name reasons too, and kinds.
        let text = text.split("#[cfg(test)]").next().unwrap();
        for reason in reasons(text).filter(|word| !KINDS.contains(word)) {
            count += 1;
            if !page.contains(&format!("`{reason}`")) {
                missing.insert(reason.to_owned());
            }
        }
    }
    assert!(count > 20, "only {count} reasons were found");
    assert_eq!(missing, BTreeSet::new(), "not explained in docs/kubernetes.md");
}

/// What looks like a reason and is the name of something else.
const KINDS: &[&str] = &["StatefulSet", "ConfigMap", "InSync"];
