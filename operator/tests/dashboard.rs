//! Grafana's dashboard and the alerts in the chart ask for metrics that exist.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use chronik_operator::metrics::{Looks, Metrics, Serving};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What Prometheus' format adds to a metric's registered name.
const SUFFIXES: &[&str] = &["_total", "_bucket", "_sum", "_count", "_seconds_bucket", ""];
/// The prefixes of registries within the broker's.
const REGISTRIES: &[&str] = &["chronik_kafka_", "chronik_controller_", "chronik_groups_", "chronik_disk_", "chronik_"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// The names of metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("chronik_") && *word != "chronik_io_cluster")
}

/// Whether the broker registers a metric that is shown under this name.
fn is_brokers(name: &str, source: &str) -> bool {
    REGISTRIES.iter().filter_map(|prefix| name.strip_prefix(prefix)).any(|rest| {
        SUFFIXES.iter().any(|suffix| {
            let registered = rest.strip_suffix(*suffix).filter(|registered| !registered.is_empty());
            registered.is_some_and(|registered| source.contains(&format!("\"{registered}\"")))
        })
    })
}

/// What the operator shows, with something of everything.
fn operators() -> String {
    let operator = Metrics::default();
    operator.reconciled(true, std::time::Duration::ZERO);
    operator.acts_as("e/f");
    let brokers = Some(Serving { ready: 1, desired: 3 });
    let looks = Looks { waiting: Some("a"), degraded: Some("b"), unknown: Some("c"), left_to: Some("d"), brokers };
    operator.cluster("default", "demo", looks);
    operator.encode().unwrap()
}

/// The names of metrics in these expressions that nobody has, and how many there are in all.
fn missing<'a>(expressions: impl Iterator<Item = &'a str>) -> (usize, BTreeSet<String>) {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../broker/src"), &mut files);
    let source = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect::<String>();
    let operator = operators();
    assert!(!is_brokers("chronik_kafka_of_no_kind_total", &source), "the check takes every name");
    let found = expressions.flat_map(names).map(str::to_owned).collect::<BTreeSet<_>>();
    let is_operators = |name: &str| [' ', '{'].iter().any(|next| operator.contains(&format!("\n{name}{next}")));
    let known = |name: &&String| is_operators(name) || is_brokers(name, &source);
    (found.len(), found.iter().filter(|name| !known(name)).cloned().collect())
}

#[test]
fn every_alert_asks_for_metrics_that_exist_and_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let alerts = std::fs::read_to_string(root.join("../charts/chronik/files/alerts.yaml")).unwrap();
    let alerts: Vec<Value> = serde_saphyr::from_str(&alerts).unwrap();
    let (found, missing) = missing(alerts.iter().map(|alert| alert["expr"].as_str().unwrap()));
    assert!(found >= 8, "only {found} metrics are asked for");
    assert_eq!(missing, BTreeSet::new(), "no such metrics");
    let page = std::fs::read_to_string(root.join("../docs/kubernetes.md")).unwrap();
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not explained in docs/kubernetes.md");
        assert!(alert["annotations"]["summary"].is_string() && alert["for"].is_string(), "{name}");
        assert!(["warning", "critical"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
    }
}

/// The names of a series' labels.
fn labels(series: &str) -> BTreeSet<&str> {
    let inside = series.split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'));
    inside.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect()
}

/// Prometheus' own program, which is not everywhere: `.ci/run` gets it, and `cargo xtask test --all` fails without it.
#[test]
fn prometheus_raises_the_alerts_where_it_should_and_nowhere_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = std::fs::read_to_string(root.join("tests/alerts.yaml")).unwrap();
    // The series of the operator are as it shows them, and as Prometheus then labels them.
    let shown = operators();
    for series in tests.split('\'').filter(|text| text.starts_with("chronik_operator_")) {
        let name = series.split('{').next().unwrap();
        let own =
            shown.lines().find(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        let own = labels(own.unwrap_or_else(|| panic!("no {name}")).split(' ').next().unwrap());
        let renamed = own.into_iter().map(|label| if label == "namespace" { "exported_namespace" } else { label });
        assert_eq!(labels(series), renamed.chain(["namespace", "pod"]).collect(), "{series}");
    }
    let alerts = std::fs::read_to_string(root.join("../charts/chronik/files/alerts.yaml")).unwrap();
    for name in alerts.lines().filter_map(|line| line.strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} is raised by no series");
        assert!(tests.contains(&format!("alertname: {name}, ")), "{name} is raised by every series");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alerts");
    std::fs::create_dir_all(&folder).unwrap();
    let rules = alerts.lines().map(|line| format!("  {line}\n")).collect::<Vec<_>>().concat();
    std::fs::write(folder.join("rules.yaml"), format!("groups:\n- name: chronik\n  rules:\n{rules}")).unwrap();
    std::fs::write(folder.join("alerts.yaml"), tests).unwrap();
    for words in [["check", "rules", "rules.yaml"], ["test", "rules", "alerts.yaml"]] {
        let output = match Command::new("promtool").args(words).current_dir(&folder).output() {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(std::env::var_os("CHRONIK_TEST_ALL").is_none(), "promtool is not there: no alert is evaluated");
                eprintln!("promtool is not there: nothing is evaluated");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "{words:?}: {said}");
    }
}

/// The chart's template, for which a line of it and the file that it takes in are enough.
#[test]
fn the_alerts_come_whole_into_what_prometheus_reads() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/chronik");
    let template = std::fs::read_to_string(chart.join("templates/prometheusrule.yaml")).unwrap();
    let alerts = std::fs::read_to_string(chart.join("files/alerts.yaml")).unwrap();
    let render = |line: &str| {
        let depth =
            line.strip_prefix("{{ .Files.Get \"files/alerts.yaml\" | indent ").map(|rest| rest.trim_end_matches(" }}"));
        match depth {
            Some(depth) => {
                let margin = " ".repeat(depth.parse().unwrap());
                alerts.lines().map(|line| format!("{margin}{line}")).collect::<Vec<_>>().join("\n") + "\n"
            }
            // What else is filled in is a name, or labels.
            None if line.trim_start().starts_with("{{") => String::new(),
            None => format!("{}\n", line.replace("{{ include \"chronik.name\" . }}", "chronik-operator")),
        }
    };
    let rendered: Value = serde_saphyr::from_str(&template.lines().map(render).collect::<String>()).unwrap();
    assert_eq!(
        (&rendered["kind"], &rendered["metadata"]["name"]),
        (&"PrometheusRule".into(), &"chronik-operator".into())
    );
    let alerts: Value = serde_saphyr::from_str(&alerts).unwrap();
    assert!(alerts.as_array().unwrap().len() > 10);
    assert_eq!(rendered["spec"]["groups"][0]["rules"], alerts);
}

#[test]
fn every_panel_asks_for_metrics_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dashboard = std::fs::read_to_string(root.join("../charts/chronik/files/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let (found, missing) = missing(targets.map(|target| target["expr"].as_str().unwrap()));
    assert!(found > 10, "only {found} metrics are asked for");
    assert_eq!(missing, BTreeSet::new(), "no such metrics");
}
