//! Which of the shell's modules uses which: no circles, so that each can be read without those that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Owners hold the links of replication, which brings them what comes through these: one circle that there is, in two
/// folders.
const TOGETHER: [&str; 2] = ["partitions", "replication"];

type Graph = BTreeMap<String, BTreeSet<String>>;

fn node(module: &str) -> String {
    if TOGETHER.contains(&module) { TOGETHER.join(" and ") } else { module.to_owned() }
}

/// The modules that a text names, but for its tests. In a file of the crate's root `super` is the crate.
fn named(text: &str, in_root: bool) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for prefix in if in_root { &["crate::", "super::"][..] } else { &["crate::"] } {
        for after in text.split(prefix).skip(1) {
            let name: String = after.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            found.insert(name);
        }
    }
    found
}

fn read(folder: &Path, module: Option<&str>, graph: &mut Graph) {
    for entry in fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        if matches!(name.as_str(), "tests" | "lib" | "main" | "module_graph") {
            continue;
        }
        let of = module.unwrap_or(&name);
        if path.is_dir() {
            read(&path, Some(of), graph);
        } else {
            let text = fs::read_to_string(&path).expect("a source");
            graph.entry(node(of)).or_default().extend(named(&text, module.is_none()).iter().map(|name| node(name)));
        }
    }
}

/// What uses itself, by however many steps, and what uses that.
fn circles(mut graph: Graph) -> Graph {
    loop {
        let modules: BTreeSet<String> = graph.keys().cloned().collect();
        let before = graph.len();
        graph.retain(|module, uses| uses.iter().any(|other| other != module && modules.contains(other)));
        if graph.len() == before {
            return graph;
        }
    }
}

#[test]
fn no_module_uses_one_that_uses_it() {
    let mut graph = Graph::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut graph);
    assert!(graph["server"].contains("api") && graph["api"].contains("config"), "{graph:?}");
    let circles = circles(graph);
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn a_circle_is_found_however_long_it_is() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            graph.entry((*to).to_owned()).or_default();
        }
        graph
    };
    assert!(circles(graph(&[("a", "b"), ("b", "c"), ("a", "c"), ("c", "c")])).is_empty());
    let found = circles(graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("c", "e")]));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert_eq!(named("use crate::api::X;\n#[cfg(test)]\nmod tests {\n crate::cli", false).len(), 1);
}
