//! `chronik log verify`: whether everything is as it was written.

use super::log_dir;
use super::progress::ProgressBar;
use crate::cli::output::{Output, Table};
use chronik_log::{RealDisk, Verified};
use clap::Args;
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;

/// Check every checksum of a stopped broker's log.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The broker's `data_dir`.
    data_dir: PathBuf,
    /// The form of answers.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Verify {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (log, mut bar) = (log_dir(&self.data_dir)?, ProgressBar::new());
        let journal = self.data_dir.join(crate::node::METADATA_DIR);
        let verified = chronik_log::verify(&RealDisk, &log, &journal, &mut |done, total| bar.at(done, total));
        bar.end();
        let verified = verified?;
        let shown = match self.output {
            Output::Text => text(&verified),
            Output::Json => format!("{:#}\n", as_json(&verified)),
        };
        std::io::stdout().lock().write_all(shown.as_bytes())?;
        let n = verified.findings.len();
        anyhow::ensure!(n == 0, "{n} findings: not all is as it was written");
        Ok(())
    }
}

fn text(verified: &Verified) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(verified.findings.iter().map(|f| format!("{}: byte {}: {}", f.path.display(), f.position, f.detail)));
    let bytes: u64 = verified.partitions.iter().map(|p| p.bytes).sum();
    lines.push(format!("{} partitions, {bytes} bytes of batches under the checkpoint", verified.partitions.len()));
    lines.push(format!(
        "a start applies {} operations again, {} bytes of the write-ahead log",
        verified.replay_operations, verified.replay_bytes
    ));
    lines.extend(verified.recovery.iter().map(|says| format!("a start: {says}")));
    lines.join("\n") + "\n"
}

fn as_json(verified: &Verified) -> serde_json::Value {
    let mut findings = Table::new(&["file", "position", "detail"]);
    for f in &verified.findings {
        findings.row(vec![json!(f.path), json!(f.position), json!(f.detail)]);
    }
    let mut partitions = Table::new(&["topic id", "partition", "start", "end", "bytes", "damaged from"]);
    for p in &verified.partitions {
        let tp = p.partition;
        partitions.row(vec![
            json!(tp.topic.0.to_string()),
            json!(tp.partition.0),
            json!(p.start.0),
            json!(p.end.0),
            json!(p.bytes),
            json!(p.damaged.map(|offset| offset.0)),
        ]);
    }
    json!({
        "findings": findings.json(),
        "partitions": partitions.json(),
        "replay": { "operations": verified.replay_operations, "bytes": verified.replay_bytes },
        "recovery": verified.recovery,
    })
}
