//! Commits a second, and megabytes a second, of a log on the real disk.
//!
//! `cargo run --release -p chronik-log --example commit_bench -- [DIRECTORY] [SECONDS]`

use chronik_core::ids::{LeaderEpoch, Offset, PartitionId, TopicId, TopicPartition};
use chronik_core::record::RecordBatch;
use chronik_log::{Log, LogError, Op, Options, RealDisk, Writer};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn batch(bytes: usize) -> RecordBatch {
    let mut b = vec![0u8; 61 + bytes];
    b[8..12].copy_from_slice(&((49 + bytes) as i32).to_be_bytes());
    b[16] = 2;
    b[43..51].copy_from_slice(&(-1i64).to_be_bytes());
    b[57..61].copy_from_slice(&1i32.to_be_bytes());
    let crc = crc32c::crc32c(&b[21..]);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::check(b.into()).expect("a valid batch was just made")
}

/// Keeps `window` batches of each partition under way.
fn run(
    name: &str,
    dir: &std::path::Path,
    partitions: i32,
    window: usize,
    bytes: usize,
    time: Duration,
) -> Result<(), LogError> {
    let (log, _) = Log::open(RealDisk, dir, Options::default())?;
    let (stats, rounds) = mpsc::channel();
    let observe = move |s: chronik_log::CommitStats| {
        let _ = stats.send(s);
    };
    let (writer, thread) = Writer::spawn_observed(log, observe, |e| panic!("{e}"));
    let (done, answers) = mpsc::channel();
    let topic = TopicId(uuid::Uuid::from_u128(Instant::now().elapsed().as_nanos() + u128::from(std::process::id())));
    let mut ends: HashMap<i32, i64> = HashMap::new();
    let template = batch(bytes);
    let mut submit = |p: i32| {
        let end = ends.entry(p).or_default();
        let batch = template.clone().assign(Offset(*end), LeaderEpoch(0));
        *end += 1;
        let done = done.clone();
        let partition = TopicPartition { topic, partition: PartitionId(p) };
        writer.submit(
            Op::Append { partition, batch },
            Box::new(move || {
                let _ = done.send(p);
            }),
        );
    };
    for p in 0..partitions {
        (0..window).for_each(|_| submit(p));
    }
    let begin = Instant::now();
    let mut acknowledged = 0u64;
    while begin.elapsed() < time {
        let Ok(p) = answers.recv() else { break };
        acknowledged += 1;
        submit(p);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let mut took: Vec<_> = rounds.try_iter().map(|s| s.took).collect();
    took.sort();
    let at = |q: f64| took.get((took.len() as f64 * q) as usize).map_or(0.0, |d| d.as_secs_f64() * 1e3);
    println!(
        "{name:<34} {:>8.0} batches/s {:>7.1} MB/s {:>6.0} rounds/s   round p50 {:.2} ms p99 {:.2} ms max {:.1} ms",
        acknowledged as f64 / seconds,
        acknowledged as f64 * bytes as f64 / seconds / 1e6,
        took.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(0.999_999),
    );
    for p in 0..partitions {
        let partition = TopicPartition { topic, partition: PartitionId(p) };
        writer.submit(Op::Delete { partition }, Box::new(|| {}));
    }
    writer.close();
    let _ = thread.join();
    Ok(())
}

fn main() -> Result<(), LogError> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(|| std::env::temp_dir().join("chronik-commit-bench"), PathBuf::from);
    let time = Duration::from_secs(args.next().and_then(|s| s.parse().ok()).unwrap_or(3));
    let begin = Instant::now();
    drop(Log::open(RealDisk, &dir, Options::default())?);
    println!("open: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    for (name, partitions, window, bytes) in [
        ("1 partition, one at a time, 1 KiB", 1, 1, 1024),
        ("1 partition, 100 under way, 1 KiB", 1, 100, 1024),
        ("100 partitions, one each, 1 KiB", 100, 1, 1024),
        ("1000 partitions, one each, 1 KiB", 1000, 1, 1024),
        ("6 partitions, 5 of 64 KiB each", 6, 5, 64 * 1024),
        ("6 partitions, 5 of 1 MiB each", 6, 5, 1024 * 1024),
    ] {
        run(name, &dir, partitions, window, bytes, time)?;
    }
    Ok(())
}
