//! A load over many partitions that costs its client little. librdkafka looks at all of its partitions for each request,
//! and puts one partition's batch into it: over thousands of partitions it is what is measured. This one has its batches
//! ready and puts a megabyte of them, for many partitions, into a request, as Java's client does.

use crate::harness::appender::{self, Appender};
use anyhow::{Context as _, Result, anyhow};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Each with partitions of its own.
const CONNECTIONS: i32 = 4;
/// Requests of a connection that have no answer yet.
const AHEAD: usize = 2;
/// Bytes of the values in a request.
const REQUEST_BYTES: usize = 1 << 20;
/// What a client's memory leaves for one batch of very many.
const LEAST_BATCH_BYTES: usize = 8 << 10;
/// How long an answer may take: the first writes to thousands of partitions are in one request's way.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a broker took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    /// How long it took until each partition had its first batch.
    pub(super) first: Duration,
    /// Bytes of values that were acknowledged a second, after that.
    pub(super) bytes_per_second: f64,
    /// All that were acknowledged.
    pub(super) bytes: u64,
}

/// The requests that one connection sends, one after the other: the partitions that each has a batch for.
fn requests(partitions: i32, connection: i32, batch_bytes: usize) -> Vec<Vec<i32>> {
    let share: Vec<_> = (connection..partitions).step_by(CONNECTIONS as usize).collect();
    share.chunks((REQUEST_BYTES / batch_bytes).max(1)).map(<[i32]>::to_vec).collect()
}

/// The values of one batch, in bytes: requests are full where there are few partitions too.
fn batch_bytes(partitions: i32) -> usize {
    let each = (partitions / CONNECTIONS).max(1) as usize;
    // Room for the batch's header below what brokers take.
    (REQUEST_BYTES / each).clamp(LEAST_BATCH_BYTES, REQUEST_BYTES / 2)
}

/// Writes to all partitions of a topic, as fast as that is acknowledged: for a fifth of `length` and then for `length`, after
/// the first batch of each.
pub(super) fn write(port: u16, topic: &str, partitions: i32, record: usize, length: Duration) -> Result<Spread> {
    let bytes = batch_bytes(partitions);
    let batch = appender::batch_of(bytes / record, record, 1_700_000_000_000)?;
    let (acknowledged, over, failed) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(None));
    let connections: Vec<_> = (0..CONNECTIONS.min(partitions)).map(|n| requests(partitions, n, bytes)).collect();
    let begun = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let firsts: Vec<_> = connections
            .iter()
            .map(|requests| scope.spawn(|| send_all(port, topic, &batch, requests.iter(), &acknowledged)))
            .collect();
        firsts.into_iter().try_for_each(|first| first.join().map_err(|_| anyhow!("a connection's thread panicked"))?)
    })?;
    let first = begun.elapsed();
    let bytes_per_second = thread::scope(|scope| {
        for requests in &connections {
            let again = requests.iter().cycle().take_while(|_| !over.load(Ordering::Relaxed));
            let (batch, acknowledged, failed) = (&batch, &acknowledged, &failed);
            scope.spawn(move || {
                if let Err(error) = send_all(port, topic, batch, again, acknowledged) {
                    failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
                }
            });
        }
        thread::sleep(length / 5);
        let (since, before) = (Instant::now(), acknowledged.load(Ordering::Relaxed));
        thread::sleep(length);
        let batches = acknowledged.load(Ordering::Relaxed) - before;
        let took = since.elapsed();
        over.store(true, Ordering::Relaxed);
        batches as f64 * bytes as f64 / took.as_secs_f64()
    });
    match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error).context("a connection of the load"),
        None => Ok(Spread { first, bytes_per_second, bytes: acknowledged.into_inner() * bytes as u64 }),
    }
}

/// Sends one request after the other over a connection, and counts the batches that are acknowledged.
fn send_all<'a>(
    port: u16,
    topic: &str,
    batch: &bytes::Bytes,
    requests: impl Iterator<Item = &'a Vec<i32>>,
    acknowledged: &AtomicU64,
) -> Result<()> {
    let mut connection = Appender::connect(port, topic, PATIENCE)?;
    let read_answer = |connection: &mut Appender| -> Result<()> {
        let offsets = connection.next_answer()?.map_err(|error| anyhow!("an append is refused: {error:?}"))?;
        acknowledged.fetch_add(offsets.len() as u64, Ordering::Relaxed);
        Ok(())
    };
    let mut ahead = 0;
    for request in requests {
        connection.send(request.iter().copied(), batch)?;
        ahead += 1;
        if ahead == AHEAD {
            read_answer(&mut connection)?;
            ahead -= 1;
        }
    }
    (0..ahead).try_for_each(|_| read_answer(&mut connection))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_is_in_one_request_of_one_connection() {
        for partitions in [1, 6, 100, 10_000] {
            let bytes = batch_bytes(partitions);
            let all = (0..CONNECTIONS).flat_map(|n| requests(partitions, n, bytes));
            let (mut seen, mut largest) = (Vec::new(), 0);
            for request in all {
                largest = largest.max(request.len() * bytes);
                seen.extend(request);
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..partitions).collect::<Vec<_>>());
            assert!(largest <= REQUEST_BYTES, "{largest}");
        }
    }
}
