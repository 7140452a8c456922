//! Which modules use which: no circles, so that each can be read without those that use it. Looked at here for the shell and
//! for the crates that keep to it too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A crate's folder, and its modules that are read together, each group with the reason.
struct Sources {
    folder: &'static str,
    together: &'static [(&'static [&'static str], &'static str)],
}

const SOURCES: [Sources; 8] = [
    Sources {
        folder: "",
        together: &[(
            &["partitions", "replication"],
            "owners hold the links of replication, which brings them what comes through these",
        )],
    },
    Sources { folder: "core", together: &[] },
    Sources { folder: "wire", together: &[] },
    Sources {
        folder: "log",
        together: &[(&["partition", "store"], "what a store does with its partitions, a file each, and the store")],
    },
    Sources {
        folder: "quorum",
        together: &[
            (&["link", "links"], "a connection, and all of them"),
            (&["bootstrap", "raft_log", "restart", "standing"], "what a start finds, and what raft may do after it"),
            (
                &["handover", "leader", "liveness", "proposer", "raft_network", "silence"],
                "the tasks of a leader, and raft's network, from which they hear who is there",
            ),
            (&["isr_changes", "requests"], "requests, and those of them that are gathered"),
        ],
    },
    Sources { folder: "../crds", together: &[] },
    Sources { folder: "../e2e", together: &[] },
    Sources { folder: "../xtask", together: &[] },
];

type Graph = BTreeMap<String, BTreeSet<String>>;

impl Sources {
    fn node(&self, module: &str) -> String {
        let group = self.together.iter().find(|(modules, _)| modules.contains(&module));
        group.map_or_else(|| module.to_owned(), |(modules, _)| modules.join(" and "))
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        self.read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder).join("src"), None, &mut graph);
        graph
    }

    fn read(&self, folder: &Path, module: Option<&str>, graph: &mut Graph) {
        for entry in fs::read_dir(folder).expect("the sources") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
            if matches!(name.as_str(), "tests" | "lib" | "main" | "module_graph") {
                continue;
            }
            let of = module.unwrap_or(&name);
            if path.is_dir() {
                self.read(&path, Some(of), graph);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let names = named(&text, module.is_none());
                graph.entry(self.node(of)).or_default().extend(names.iter().map(|name| self.node(name)));
            }
        }
    }
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
    for sources in &SOURCES {
        let circles = circles(sources.graph());
        assert!(circles.is_empty(), "{}: {circles:#?}", sources.folder);
    }
    let shell = SOURCES[0].graph();
    assert!(shell["server"].contains("api") && shell["api"].contains("config"), "{shell:?}");
}

#[test]
fn modules_are_read_together_only_as_long_as_they_use_each_other() {
    for sources in &SOURCES {
        let apart = Sources { folder: sources.folder, together: &[] };
        let circles = circles(apart.graph());
        for (modules, why) in sources.together {
            assert!(modules.iter().all(|module| circles.contains_key(*module)), "{modules:?}: {why}");
        }
    }
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
