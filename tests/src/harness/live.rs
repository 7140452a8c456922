//! Writes that go on all the time, at a rate that does not follow how fast they are acknowledged, and how long each waits.

use super::appender::{self, Appender};
use super::cluster::PATIENCE;
use super::wait;
use crate::report::percentile;
use anyhow::{Result, anyhow, ensure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// So many connections, each of which sends when it is due, without waiting for answers.
const WRITERS: usize = 20;
/// Records a second, in all.
pub const RATE: u32 = 2_000;
/// From one record of a connection to the next.
const EACH: Duration = Duration::from_millis(1_000 * WRITERS as u64 / RATE as u64);
const BYTES: usize = 100;
/// From when on writes are on time …
const ON_TIME_MS: f64 = 20.0;
/// … and where a slow machine never gets to that, from when on none waits for what was there before …
const NO_BACKLOG_MS: f64 = 250.0;
/// … after so long.
const SETTLES: Duration = Duration::from_secs(10);

/// One write that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    /// When.
    pub at: Instant,
    /// Since it was due.
    pub ms: f64,
}

/// Small acks=all writes to a topic's partitions. They end when it is dropped.
#[derive(Debug)]
pub struct Live {
    waits: Arc<Mutex<Vec<Waited>>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Live {
    /// Begins to write. `leaders` are the ports of the leaders of the topic's partitions.
    pub fn start(topic: &str, leaders: &[u16]) -> Result<Self> {
        let (waits, ended) = (Arc::default(), Arc::default());
        let record = appender::batch(BYTES)?;
        let mut live = Self { waits, ended, threads: Vec::new() };
        for n in 0..WRITERS {
            let partition = n % leaders.len();
            let mut receiving = Appender::connect(leaders[partition], topic, PATIENCE)?;
            let (mut sending, partition) = (receiving.share()?, partition as i32);
            let (waits, ended, record) = (Arc::clone(&live.waits), Arc::clone(&live.ended), record.clone());
            let (sent, all_sent) = mpsc::channel();
            let mut due = Instant::now() + EACH * n as u32 / WRITERS as u32;
            live.threads.push(thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    sending.send([partition], &record)?;
                    if sent.send(due).is_err() {
                        break;
                    }
                    due += EACH;
                }
                Ok(())
            }));
            live.threads.push(thread::spawn(move || {
                for due in all_sent {
                    receiving.next_answer()?.map_err(|error| anyhow!("an append is refused: {error:?}"))?;
                    let at = Instant::now();
                    let ms = at.saturating_duration_since(due).as_secs_f64() * 1e3;
                    waits.lock().unwrap_or_else(PoisonError::into_inner).push(Waited { at, ms });
                }
                Ok(())
            }));
        }
        Ok(live)
    }

    /// The writes that were acknowledged meanwhile.
    pub fn watch_while(&self, what: impl FnOnce() -> Result<()>) -> Result<Vec<Waited>> {
        let take = || std::mem::take(&mut *self.waits.lock().unwrap_or_else(PoisonError::into_inner));
        take();
        what()?;
        let waits = take();
        ensure!(!waits.is_empty(), "nothing is acknowledged");
        Ok(waits)
    }

    /// The writes that were acknowledged in the time to come.
    pub fn watch_for(&self, time: Duration) -> Result<Vec<Waited>> {
        self.watch_while(|| {
            thread::sleep(time);
            Ok(())
        })
    }

    /// Waits until writes are acknowledged soon again.
    pub fn wait_until_on_time(&self) -> Result<()> {
        let since = Instant::now();
        wait::until("live writes to be on time", PATIENCE, || {
            let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
            let last = waits.len().saturating_sub(10 * WRITERS);
            let newest: Vec<_> = waits[last..].iter().map(|waited| waited.ms).collect();
            let limit = if since.elapsed() < SETTLES { ON_TIME_MS } else { NO_BACKLOG_MS };
            let late = percentile(&newest, 90.0);
            ensure!(late < limit, "nine of ten wait less than {late:.1} ms");
            Ok(Some(()))
        })
    }

    /// Why any of them ended before.
    pub fn end(mut self) -> Result<Vec<String>> {
        self.ended.store(true, Ordering::Relaxed);
        let ended = |thread: JoinHandle<_>| thread.join().map_err(|_| anyhow!("a writer panicked"));
        let outcomes = self.threads.drain(..).map(ended).collect::<Result<Vec<_>>>()?;
        Ok(outcomes.into_iter().filter_map(|outcome| Some(format!("{:#}", outcome.err()?))).collect())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
