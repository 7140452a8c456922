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

/// Text in quotes that is made of capitalised words, as reasons are.
fn reasons(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2).filter(|word| {
        word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphabetic())
    })
}

/// Whether a file may give a reason to an Event, a condition or a plan.
fn says_why(text: &str) -> bool {
    ["News {", "Finding {", "Finding::", "Condition {", "Wait {", ".wait(", "Refusal {", "Outcome {"]
        .iter()
        .any(|word| text.contains(word))
}

#[test]
fn every_reason_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../docs/kubernetes.md")).unwrap();
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut missing = BTreeSet::new();
    let mut count = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        // Tests name reasons too, and kinds.
        let text = text.split("#[cfg(test)]").next().unwrap();
        let plans = file.parent().is_some_and(|folder| folder.ends_with("reconcile/plan"));
        if !plans && !says_why(text) {
            continue;
        }
        for reason in reasons(text).filter(|word| !KINDS.contains(word)) {
            count += 1;
            if !page.contains(&format!("`{reason}`")) {
                missing.insert(reason.to_owned());
            }
        }
    }
    assert!(count > 90, "only {count} reasons were found");
    assert_eq!(missing, BTreeSet::new(), "not explained in docs/kubernetes.md");
}

/// What looks like a reason and is the name of something else: a kind, a condition, what a condition says, what was being
/// done when an Event was published, or a word of Kubernetes' own.
const KINDS: &[&str] = &[
    "StatefulSet",
    "ConfigMap",
    "InSync",
    "Progressing",
    "True",
    "False",
    "Apply",
    "Configure",
    "Plan",
    "Reconcile",
    "Step",
    "Normal",
    "Warning",
];
