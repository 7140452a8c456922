//! How long it takes to examine the records of a batch: `cargo run --release -p chronik-core --features testing
//! --example walk`.

use chronik_core::record::samples::{batch_of, encoded, samples};
use chronik_core::record::{Compression, RecordRules, TIMESTAMP_AFTER_MAX_MS, TimestampType};
use std::time::{Duration, Instant};

const TIME_EACH: Duration = Duration::from_millis(300);

fn main() {
    let rules = RecordRules {
        now_ms: 1_700_000_000_000,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: TIMESTAMP_AFTER_MAX_MS,
        keyed: false,
        compression: None,
        max_decompressed: u64::MAX,
    };
    println!("{:>8} {:>8} {:>10} {:>10} {:>11} {:>10}", "codec", "records", "value", "ns/record", "us/batch", "MB/s");
    for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        for (count, value_len) in [(1, 100), (100, 100), (1000, 1000), (10_000, 100)] {
            let body = encoded(&samples(count, value_len));
            let batch =
                batch_of(codec, count, &body).timestamps(rules.now_ms, rules.now_ms + i64::from(count) - 1).build();
            let (started, mut rounds) = (Instant::now(), 0_u32);
            while started.elapsed() < TIME_EACH {
                for _ in 0..10 {
                    assert!(std::hint::black_box(&batch).examine(&rules).is_ok(), "the batch is as it should be");
                }
                rounds += 10;
            }
            let each = started.elapsed().as_secs_f64() / f64::from(rounds);
            println!(
                "{:>8} {count:>8} {value_len:>10} {:>10.1} {:>11.1} {:>10.0}",
                format!("{codec:?}"),
                each * 1e9 / f64::from(count),
                each * 1e6,
                body.len() as f64 / each / 1e6
            );
        }
    }
}
