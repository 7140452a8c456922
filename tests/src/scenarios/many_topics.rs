//! A thousand topics of six partitions on three brokers: created by one request, written to once each, and again after a
//! `kill -9` of a broker that leads a third of them. A tenth of them by default; all of them with `--full`.

use super::{Settings, TimeLimit};
use crate::harness::appender;
use crate::harness::asker::{Asker, Place};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::report::{Report, Table, ms, percentile};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 6;
/// Partitions in a request at most.
const AT_ONCE: usize = 2_000;
/// Between two questions to a broker.
const PAUSE: Duration = Duration::from_millis(5);

const CREATED: TimeLimit = TimeLimit { target: Duration::from_millis(500), always: Duration::from_secs(20) };
const WRITTEN: TimeLimit = TimeLimit { target: Duration::from_secs(3), always: Duration::from_mins(1) };
const AGAIN: TimeLimit = TimeLimit { target: Duration::from_secs(1), always: Duration::from_mins(1) };

/// One broker after the other is killed, each once or as often as the settings say.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let count = if settings.full { 1_000 } else { 100 };
    let names: Vec<String> = (0..count).map(|n| format!("many-topics-{n}")).collect();
    let places: BTreeSet<Place> = (0..count).flat_map(|topic| (0..PARTITIONS).map(move |p| (topic, p))).collect();
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    let batch = appender::batch(100)?;

    let since = Instant::now();
    metadata.create_topics(&names.iter().map(|name| (name.as_str(), PARTITIONS, 3)).collect::<Vec<_>>())?;
    let created = since.elapsed();
    CREATED.check(settings, report, &format!("{count} topics are created"), millis(created), "");
    let written = write_to_each(&cluster, &names, places.clone(), &batch).with_context(|| cluster.tails())?;
    let what = format!("each of {} partitions is written to with acks=all", places.len());
    WRITTEN.check(settings, report, &what, millis(written), "");

    let mut again = Vec::new();
    for round in 0..settings.rounds.unwrap_or(if settings.quick { 1 } else { 3 }) {
        let victim = round % cluster.size();
        let killed = Instant::now();
        cluster.kill(victim)?;
        write_to_each(&cluster, &names, places.clone(), &batch).with_context(|| cluster.tails())?;
        again.push(millis(killed.elapsed()));
        cluster.start(victim)?;
        metadata.wait_for_all_in_sync()?;
        cluster.check_alive()?;
    }
    let mut table =
        Table::new("A thousand topics", &["topics", "created", "each written", "kill -9: each written, p50", "worst"]);
    let of = |percent| ms(Duration::from_secs_f64(percentile(&again, percent) / 1e3));
    table.row(vec![count.to_string(), ms(created), ms(written), of(50.0), of(100.0)]);
    report.table(table);
    AGAIN.check(settings, report, "each is written to again after kill -9", percentile(&again, 100.0), " at worst");
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Asks each broker that runs for all partitions that nobody has acknowledged yet, until there are none. Says how long it
/// took.
fn write_to_each(cluster: &Cluster, names: &[String], places: BTreeSet<Place>, batch: &Bytes) -> Result<Duration> {
    let since = Instant::now();
    let missing = Mutex::new(places);
    thread::scope(|scope| {
        for id in (0..cluster.size()).filter(|id| cluster.is_running(*id)) {
            let (missing, mut asker) = (&missing, Asker::new(cluster.address(id), names));
            scope.spawn(move || {
                while since.elapsed() < PATIENCE {
                    let all: Vec<Place> =
                        missing.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
                    if all.is_empty() {
                        return;
                    }
                    for some in all.chunks(AT_ONCE) {
                        let some: BTreeSet<Place> = some.iter().copied().collect();
                        let acknowledged = asker.append(&some, batch).unwrap_or_default();
                        let mut missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
                        for place in acknowledged {
                            missing.remove(&place);
                        }
                    }
                    thread::sleep(PAUSE);
                }
            });
        }
    });
    let took = since.elapsed();
    let missing = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(missing.is_empty(), "{} partitions acknowledged nothing in {PATIENCE:?}", missing.len());
    Ok(took)
}
