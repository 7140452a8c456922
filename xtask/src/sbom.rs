//! What the image is made of, for those who have to know: a software bill of materials in the format `CycloneDX`.

use crate::build::Processor;
use crate::command::{cargo, output, workspace};
use anyhow::Context;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// A crate, by name and version.
type Crate = (String, String);

/// What a package is made of on a processor: its crates and theirs, with Rust's own library and C's.
pub(crate) fn of(package: &str, processor: Processor) -> anyhow::Result<Value> {
    let target = processor.target();
    let words = ["tree", "--locked", "--package", package, "--target", &target];
    // Macros and build scripts leave nothing of theirs in a program.
    let format = ["--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", "|{p}|{l}"];
    let tree = output(cargo(&words).args(format))?;
    let lock = fs::read_to_string(workspace().join("Cargo.lock"))?;
    let rust = output(Command::new("rustc").arg("--version").current_dir(workspace()))?;
    let rust = rust.split_whitespace().nth(1).context("rustc has no version")?.to_owned();
    let macros = output(Command::new(processor.compiler()).args([
        "-E",
        "-dM",
        "-include",
        "features.h",
        "-x",
        "c",
        "/dev/null",
    ]))?;
    bill(&tree, &lock, &rust, &c_library(&macros).context("the C library is not glibc")?)
}

/// The version of the C library, of its macros.
fn c_library(macros: &str) -> Option<String> {
    let value = |name: &str| macros.lines().find_map(|line| line.strip_prefix(&format!("#define {name} ")));
    Some(format!("{}.{}", value("__GLIBC__")?, value("__GLIBC_MINOR__")?))
}

/// The bill, of cargo's tree (a line is depth, name with version, and license), `Cargo.lock`, and the versions of Rust and
/// of the C library.
fn bill(tree: &str, lock: &str, rust: &str, c_library: &str) -> anyhow::Result<Value> {
    let checksums = checksums(lock);
    let mut licenses = BTreeMap::<Crate, String>::new();
    let mut needs = BTreeMap::<Crate, BTreeSet<Crate>>::new();
    // From the root to the line before.
    let mut path = Vec::<Crate>::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let fields = line.splitn(3, '|').collect::<Vec<_>>();
        let [depth, package, license] = fields[..] else { anyhow::bail!("not a line of a tree: {line}") };
        let mut words = package.split_whitespace();
        let name = words.next().context("a crate without a name")?.to_owned();
        let version = words.next().and_then(|version| version.strip_prefix('v')).context("no version")?.to_owned();
        let found = (name, version);
        path.truncate(depth.parse()?);
        if let Some(parent) = path.last() {
            needs.entry(parent.clone()).or_default().insert(found.clone());
        }
        path.push(found.clone());
        // What was listed before is marked.
        let license = license.trim_end_matches("(*)").trim().replace('/', " OR ");
        licenses.insert(found.clone(), license);
        needs.entry(found).or_default();
    }
    let root = path.first().cloned().context("an empty tree")?;
    let component = |(of, license): (&Crate, &String)| {
        let mut component = json!({ "type": "library", "bom-ref": purl(of), "purl": purl(of), "name": of.0,
                                    "version": of.1, "licenses": [{ "expression": license }] });
        if let Some(checksum) = checksums.get(of) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    };
    let mut components = licenses.iter().filter(|(found, _)| **found != root).map(component).collect::<Vec<_>>();
    let beside = |name: &str, version: &str, license: &str| {
        json!({ "type": "library", "bom-ref": format!("pkg:generic/{name}@{version}"),
                "purl": format!("pkg:generic/{name}@{version}"), "name": name, "version": version,
                "licenses": [{ "expression": license }] })
    };
    components.push(beside("rust-std", rust, "MIT OR Apache-2.0"));
    components.push(beside("glibc", c_library, "LGPL-2.1-or-later"));
    let dependency = |(of, needs): (&Crate, &BTreeSet<Crate>)| json!({ "ref": purl(of), "dependsOn": needs.iter().map(purl).collect::<Vec<_>>() });
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": { "type": "application", "bom-ref": purl(&root), "name": "chronik",
                                     "version": root.1, "licenses": [{ "expression": licenses[&root] }] } },
        "components": components,
        "dependencies": needs.iter().map(dependency).collect::<Vec<_>>(),
    }))
}

/// What a crate is called in bills.
fn purl((name, version): &Crate) -> String {
    format!("pkg:cargo/{name}@{version}")
}

/// The checksums of the crates that come from a registry.
fn checksums(lock: &str) -> BTreeMap<Crate, String> {
    let of_package = |text: &str| {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")))?;
            value.strip_suffix('"').map(str::to_owned)
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    };
    lock.split("[[package]]").filter_map(of_package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0|chronik-image v0.1.0 (/somewhere/image)|Apache-2.0
1|bytes v1.12.2|MIT/Apache-2.0
2|serde v1.0.1|MIT OR Apache-2.0
1|operator v0.1.0 (/somewhere/operator)|Apache-2.0
2|bytes v1.12.2|MIT/Apache-2.0 (*)
";
    const LOCK: &str = "version = 4

[[package]]
name = \"bytes\"
version = \"1.12.2\"
source = \"registry\"
checksum = \"c0ffee\"

[[package]]
name = \"operator\"
version = \"0.1.0\"
dependencies = [
 \"bytes\",
]
";

    #[test]
    fn the_bill_has_every_crate_once_with_license_checksum_and_needs() {
        let bill = bill(TREE, LOCK, "1.95.0", "2.36").unwrap();
        let named = |component: &Value| format!("{} {}", component["purl"], component["licenses"][0]["expression"]);
        let components = bill["components"].as_array().unwrap();
        assert_eq!(
            components.iter().map(|c| named(c).replace('"', "")).collect::<Vec<_>>(),
            [
                "pkg:cargo/bytes@1.12.2 MIT OR Apache-2.0",
                "pkg:cargo/operator@0.1.0 Apache-2.0",
                "pkg:cargo/serde@1.0.1 MIT OR Apache-2.0",
                "pkg:generic/rust-std@1.95.0 MIT OR Apache-2.0",
                "pkg:generic/glibc@2.36 LGPL-2.1-or-later",
            ]
        );
        assert_eq!(components[0]["hashes"][0]["content"], "c0ffee");
        assert!(components[1]["hashes"].is_null(), "what is in the repository is in no registry");
        let needs = |of: &str| {
            let all = bill["dependencies"].as_array().unwrap();
            all.iter().find(|entry| entry["ref"] == of).unwrap()["dependsOn"].clone()
        };
        let (bytes, operator) = ("pkg:cargo/bytes@1.12.2", "pkg:cargo/operator@0.1.0");
        assert_eq!(needs("pkg:cargo/chronik-image@0.1.0"), json!([bytes, operator]));
        assert_eq!(needs(operator), json!([bytes]));
        assert_eq!(needs(bytes), json!(["pkg:cargo/serde@1.0.1"]));
    }

    #[test]
    fn a_path_is_not_published() {
        assert!(!bill(TREE, LOCK, "1", "2").unwrap().to_string().contains("somewhere"));
    }

    #[test]
    fn the_c_library_is_known_by_its_macros() {
        let macros = "#define __GLIBC_USE(F) __GLIBC_USE_ ## F\n#define __GLIBC_MINOR__ 36\n#define __GLIBC__ 2\n";
        assert_eq!(c_library(macros).as_deref(), Some("2.36"));
        assert_eq!(c_library("#define __MUSL__ 1\n"), None);
    }
}
