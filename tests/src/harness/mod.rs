//! Processes, ports, folders and foreign software that the scenarios stand on.

pub mod appender;
pub mod asker;
pub mod clients;
pub mod cluster;
pub mod counters;
pub mod fetcher;
pub mod files;
pub mod go;
pub mod javascript;
pub mod kafka;
pub mod keyed;
pub mod leash;
pub mod live;
pub mod member;
pub mod metadata;
pub mod namespaces;
pub mod network;
pub mod packets;
pub mod perf;
pub mod ports;
pub mod process;
pub mod raw;
pub mod wait;

use std::path::{Path, PathBuf};

/// The repository that this crate was built in.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where everything that the tests make goes: on the build's disk, as a benchmark on a memory file system would
/// measure nothing, and gone with `cargo clean`.
pub fn target() -> PathBuf {
    repository().join("target")
}
