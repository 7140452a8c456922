//! What the command line does at the edges: large records, odd bytes, unknown names, groups with members, and things that
//! fail halfway. A part of the scenario `cli`.

use super::cli::{Line, offline, refused};
use crate::harness::clients;
use crate::harness::cluster::PATIENCE;
use crate::harness::leash;
use crate::harness::member::{Member, coordinator};
use crate::report::Report;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All that needs a broker.
pub(super) fn online(line: &Line<'_>, port: u16, report: &mut Report) {
    report.check_result("batches are sized with headers", large_headers(line));
    report.check_result("batches are sized by the topic's limit", small_limit(line));
    report.check_result("a record that is too large is named", too_large(line));
    report.check_result("a line that is no record is named", bad_line(line));
    report.check_result("consume as JSON and produce it again", round_trip(line));
    report.check_result("topic alter changes all or nothing", alter(line));
    report.check_result("an unknown config is an error", unknown_config(line));
    report.check_result("group describe shows classic members", classic_group(line, port));
    report.check_result("deletions have a dry run", dry_runs(line));
}

fn create(line: &Line<'_>, topic: &str, more: &str) -> Result<String> {
    line.ok(&format!("topic create {topic} --partitions 1 --replicas 1{more}"), "", topic)
}

fn read_all(line: &Line<'_>, topic: &str) -> Result<String> {
    Ok(line.run(&format!("consume {topic} --to-end --output json"), "")?.succeeded()?.text())
}

fn has_records(line: &Line<'_>, topic: &str, count: usize) -> Result<String> {
    let read = read_all(line, topic)?.lines().count();
    ensure!(read == count, "{read} records of {count}");
    Ok(format!("{count} records"))
}

fn large_headers(line: &Line<'_>) -> Result<String> {
    create(line, "wide", "")?;
    let words = format!("produce wide --header a={}", "h".repeat(2000));
    line.run(&words, &"v\n".repeat(1000))?.succeeded()?;
    has_records(line, "wide", 1000)
}

fn small_limit(line: &Line<'_>) -> Result<String> {
    create(line, "narrow", " --config max.message.bytes=20000")?;
    line.run("produce narrow", &format!("{}\n", "v".repeat(100)).repeat(1000))?.succeeded()?;
    has_records(line, "narrow", 1000)
}

/// The topic `narrow` takes 20,000 bytes.
fn too_large(line: &Line<'_>) -> Result<String> {
    let input = format!("small\n{}\nafter\n", "v".repeat(30_000));
    let outcome = line.run("produce narrow", &input)?;
    for says in ["line 2: ", "max.message.bytes of topic narrow is 20000", "chronik config set topic"] {
        refused(&outcome, says)?;
    }
    has_records(line, "narrow", 1001)
}

/// What stands before it is written, as with a record that is too large.
fn bad_line(line: &Line<'_>) -> Result<String> {
    create(line, "torn", "")?;
    let input = "{\"value\": \"first\"}\n{\"value\": \"second\"}\nno JSON\n{\"value\": \"after\"}\n";
    let outcome = line.run("produce torn --format json", input)?;
    refused(&outcome, "line 3 (the lines before it are written, no other is)")?;
    has_records(line, "torn", 2)
}

fn round_trip(line: &Line<'_>) -> Result<String> {
    create(line, "odd", "")?;
    create(line, "again", "")?;
    let headers =
        json!([{"key": "k", "value": "1"}, {"key": "k", "value_base64": "/wA="}, {"key": "k", "value": null}]);
    let record = json!({"key_base64": "gA==", "value": "text", "headers": headers});
    line.ok("produce odd --format json", &format!("{record}\n"), "")?;
    let first = read_all(line, "odd")?;
    let shown: Value = serde_json::from_str(&first)?;
    ensure!(shown["headers"] == headers && shown["key_base64"] == "gA==", "it says {first}");
    line.ok("produce again --format json", &first, "")?;
    let second: Value = serde_json::from_str(&read_all(line, "again")?)?;
    for field in ["key_base64", "value", "headers"] {
        ensure!(second[field] == shown[field], "{field} of {second}");
    }
    Ok("the same bytes".into())
}

fn alter(line: &Line<'_>) -> Result<String> {
    let partitions = || -> Result<usize> {
        let shown = line.run("topic describe odd --output json", "")?.succeeded()?.text();
        Ok(serde_json::from_str::<Value>(&shown)?.as_array().context("an array")?.len())
    };
    line.fails("topic alter odd --partitions 4 --config bogus=1", "bogus")?;
    ensure!(partitions()? == 1, "the partitions are there though the config is not");
    line.fails("topic alter odd --partitions 1 --config retention.ms=77", "partitions")?;
    let config = line.run("config get topic odd retention.ms", "")?.succeeded()?.text();
    ensure!(!config.contains("77"), "the config is set though the partitions are not: {config}");
    line.ok("topic alter odd --partitions 4 --config retention.ms=77", "", "odd")?;
    ensure!(partitions()? == 4, "not both were changed");
    line.ok("config get topic odd retention.ms", "", "77")
}

fn unknown_config(line: &Line<'_>) -> Result<String> {
    line.fails("config get topic odd retenton.ms", "did you mean 'retention.ms'?")?;
    line.fails("config unset topic odd retenton.ms", "did you mean 'retention.ms'?")?;
    line.fails("config get broker 0 log.retention.mss", "did you mean 'log.retention.ms'?")?;
    // It exists, and nobody has set it.
    line.ok("config get cluster default log.retention.ms", "", "")
}

fn classic_group(line: &Line<'_>, port: u16) -> Result<String> {
    let at = coordinator(port, "old", PATIENCE)?;
    let mut member = Member::connect(at, "old")?;
    member.join(Duration::from_mins(1))?;
    let described = line.run("group describe old --output json", "")?.succeeded()?.text();
    let described: Value = serde_json::from_str(&described)?;
    let member_of = &described["members"][0];
    let shown = [&described["state"], &described["type"], &described["protocol"], &member_of["client"]];
    ensure!(shown == ["Stable", "Classic", "range", "chronik-tests"], "it says {described}");
    ensure!(member_of["assigned"] == json!([]), "it reads nothing: {described}");
    line.ok("group describe old", "", "chronik-tests")?;
    line.fails("group delete old", "group describe")?;
    line.fails("group delete old --dry-run", "group describe")?;
    member.leave()?;
    line.ok("group delete old", "", "")?;
    Ok("one member".into())
}

fn dry_runs(line: &Line<'_>) -> Result<String> {
    line.ok("consume narrow --to-end --group counted --format .", "", "")?;
    line.ok("group delete counted --dry-run", "", "1001")?;
    line.ok("group describe counted", "", "1001")?;
    let shown = line.run("topic delete narrow odd --dry-run --output json", "")?.succeeded()?.text();
    let rows: Value = serde_json::from_str(&shown)?;
    let narrow = &rows[0];
    ensure!(narrow["records"] == 1001 && narrow["groups_with_offsets"] == json!(["counted"]), "it says {shown}");
    ensure!(narrow["bytes"].as_u64().is_some_and(|bytes| bytes > 100_000), "it says {shown}");
    ensure!(rows[1]["partitions"] == 4, "it says {shown}");
    line.ok("topic describe narrow", "", "narrow")?;
    line.fails("topic delete odd nowhere", "nowhere")?;
    line.ok("topic describe odd", "", "odd")?;
    line.fails("group delete counted nobody", "nobody")?;
    line.ok("group delete counted --output json", "", "\"result\": \"deleted\"")?;
    line.ok("topic delete torn --output json", "", "\"topic\": \"torn\"")?;
    line.ok("config set topic odd retention.ms=78 --output json", "", "\"value\": \"78\"")?;
    line.ok("config unset topic odd retention.ms --output json", "", "\"result\": \"unset\"")
}

/// A configuration that is right, and several that are not.
pub(super) fn serve_check(program: &Path) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let file = |data: &Path, http: u16, more: &str| {
        format!(
            "broker_id: 0\ndata_dir: {}\nlisten: {{kafka: '127.0.0.1:9092', replication: '127.0.0.1:9192', controller: \
             '127.0.0.1:9292', http: '127.0.0.1:{http}'}}\nmembers:\n  - {{id: 0, host: localhost, kafka_port: 9092, \
             replication_port: 9192, controller_port: 9292}}\n{more}",
            data.display()
        )
    };
    let check = |text: &str| {
        let path = folder.path().join("broker.yaml");
        std::fs::write(&path, text)?;
        let mut command = leash::command(program)?;
        command.args(["serve", "--check", "--config"]).arg(&path);
        clients::run(command, b"", PATIENCE)
    };
    check(&file(&data, 9392, ""))?.succeeded()?.says("is right")?;
    ensure!(!data.exists(), "it has made the data directory");
    let nowhere = Path::new("/proc/nope");
    let hours = "kafka: {log.retention.hours: 1}\n";
    for (text, says) in [
        (file(nowhere, 9392, ""), "data_dir: cannot make /proc/nope"),
        (file(&data, 9092, ""), "kafka (127.0.0.1:9092) and http (127.0.0.1:9092)"),
        (file(&data, 9392, hours), "chronik config set cluster default log.retention.ms="),
    ] {
        refused(&check(&text)?, says)?;
    }
    Ok("4 files".into())
}

/// A bit in the largest segment, which nobody has read since.
pub(super) fn log_repair(program: &Path, dir: &Path) -> Result<String> {
    let segment = largest_segment(&dir.join("log/partitions"))?;
    let flip = || -> Result<()> {
        let mut bytes = std::fs::read(&segment)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 8;
        Ok(std::fs::write(&segment, bytes)?)
    };
    offline(program, "repair", dir)?.succeeded()?.says("partitions are whole")?;
    flip()?;
    for _ in 0..2 {
        let outcome = offline(program, "repair", dir)?;
        refused(&outcome, "cannot be read from offset ")?;
        refused(&outcome, "--cut-damaged")?;
        ensure!(!(outcome.text() + &outcome.err).contains("whole"), "it says {}", outcome.text());
        refused(&offline(program, "verify", dir)?, "findings")?;
    }
    flip()?;
    offline(program, "repair", dir)?.succeeded()?.says("partitions are whole")?;
    Ok("chronik log repair".into())
}

fn largest_segment(partitions: &Path) -> Result<PathBuf> {
    let mut largest = None;
    for partition in std::fs::read_dir(partitions)? {
        for file in std::fs::read_dir(partition?.path())? {
            let path = file?.path();
            let len = path.metadata()?.len();
            if path.extension().is_some_and(|e| e == "log") && largest.as_ref().is_none_or(|(most, _)| len > *most) {
                largest = Some((len, path));
            }
        }
    }
    largest.map(|(_, path)| path).context("a segment")
}
