//! `chronik log dump`: what is in the files, batch by batch.

use super::log_dir;
use crate::cli::line::put_content;
use crate::cli::output::Output;
use anyhow::Context as _;
use chronik_core::record::{Compression, RecordBatch};
use chronik_log::{LoggedOperation, RealDisk};
use clap::Args;
use serde_json::{Map, Value, json};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes that a batch may decompress to.
const MAX_DECOMPRESSED: u64 = 1 << 30;

/// Print batches, and the operations of the write-ahead log that a start would apply again.
#[derive(Debug, Args)]
pub(super) struct Dump {
    /// The broker's `data_dir`, or the file of one segment (`.log`).
    path: PathBuf,
    /// Of this partition alone, by the name of its folder: the topic's id and the partition.
    #[arg(long, value_name = "TOPIC_ID-N")]
    partition: Option<String>,
    /// Batches that hold this offset or later ones.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// Print the records in the batches too.
    #[arg(long)]
    records: bool,
    /// The form of answers; JSON is one object a line.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Dump {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        if self.path.is_file() {
            self.segment(&self.path, &mut out)?;
        } else {
            let log = log_dir(&self.path)?;
            // First, as it refuses a log that a broker has open.
            let mut operations = Vec::new();
            chronik_log::operations(&RealDisk, &log, |tp, op| operations.push(self.operation(&tp.to_string(), &op)))?;
            for folder in entries(&log.join("partitions"))?.iter().filter(|path| self.wants(&name(path))) {
                for file in entries(folder)?.iter().filter(|path| path.extension().is_some_and(|e| e == "log")) {
                    self.segment(file, &mut out)?;
                }
            }
            for lines in operations {
                lines?.into_iter().try_for_each(|line| writeln!(out, "{line}"))?;
            }
        }
        Ok(out.flush()?)
    }

    fn wants(&self, partition: &str) -> bool {
        self.partition.as_deref().is_none_or(|wanted| wanted == partition)
    }

    fn segment(&self, path: &Path, out: &mut impl Write) -> anyhow::Result<()> {
        let mut failed = None;
        let rest = chronik_log::batches(&RealDisk, path, |at, batch| {
            let written = self.batch(json!({ "file": path, "position": at }), batch);
            let written =
                written.and_then(|lines| Ok(lines.into_iter().try_for_each(|line| writeln!(out, "{line}"))?));
            failed = written.err();
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some((at, why)) = rest {
            let at = json!({ "file": path, "position": at, "not_a_batch": why });
            writeln!(out, "{}", self.line(&at))?;
        }
        Ok(())
    }

    fn operation(&self, partition: &str, operation: &LoggedOperation) -> anyhow::Result<Vec<String>> {
        if !self.wants(partition) {
            return Ok(Vec::new());
        }
        let (name, offset) = match operation {
            LoggedOperation::Append(batch) => return self.batch(json!({ "wal": "append", "log": partition }), batch),
            LoggedOperation::Reference(h, ..) if h.end_offset().0 <= self.from => return Ok(Vec::new()),
            LoggedOperation::Reference(h, segment, position) => {
                let about = json!({
                    "wal": "reference",
                    "log": partition,
                    "base_offset": h.base_offset.0,
                    "last_offset": h.end_offset().0 - 1,
                    "bytes": h.total_len,
                    "segment": segment.0,
                    "position": position,
                });
                return Ok(vec![self.line(&about)]);
            }
            LoggedOperation::Truncate(to) => ("truncate", Some(to.0)),
            LoggedOperation::AdvanceStart(to) => ("advance start", Some(to.0)),
            LoggedOperation::BeginAt(at) => ("begin at", Some(at.0)),
            LoggedOperation::Delete => ("delete", None),
        };
        Ok(vec![self.line(&json!({ "wal": name, "log": partition, "offset": offset }))])
    }

    /// A line for the batch, and one for each record that is wanted.
    fn batch(&self, mut place: Value, batch: &RecordBatch) -> anyhow::Result<Vec<String>> {
        let h = batch.header();
        if h.end_offset().0 <= self.from {
            return Ok(Vec::new());
        }
        let about = json!({
            "base_offset": h.base_offset.0,
            "last_offset": h.end_offset().0 - 1,
            "records": h.record_count,
            "bytes": h.total_len,
            "leader_epoch": h.leader_epoch.0,
            "producer_id": h.producer_id.map(|id| id.0),
            "producer_epoch": h.producer_id.map(|_| h.producer_epoch.0),
            "base_sequence": h.producer_id.map(|_| h.base_sequence),
            "max_timestamp": h.max_timestamp,
            "compression": h.compression().map(codec),
            "transactional": h.is_transactional(),
            "control": h.is_control(),
            "crc": h.crc,
        });
        if let (Value::Object(place), Value::Object(about)) = (&mut place, about) {
            place.extend(about);
        }
        let mut lines = vec![self.line(&place)];
        if self.records {
            let offset = h.base_offset;
            let contents = batch.contents(MAX_DECOMPRESSED).with_context(|| format!("the batch at offset {offset}"))?;
            for record in contents {
                let mut shown = Map::new();
                put_content(&mut shown, &record);
                let shown = Value::Object(shown);
                lines.push(if self.output == Output::Json {
                    self.line(&shown)
                } else {
                    format!("  {}", self.line(&shown))
                });
            }
        }
        Ok(lines)
    }

    /// JSON as it is, or as words.
    fn line(&self, object: &Value) -> String {
        match (self.output, object) {
            (Output::Text, Value::Object(fields)) => {
                let shown = fields.iter().filter(|(_, value)| !value.is_null() && **value != json!(false));
                shown.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
            }
            _ => object.to_string(),
        }
    }
}

fn codec(codec: Compression) -> &'static str {
    match codec {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    }
}

fn entries(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut entries = read.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
