//! A million spoiled frames at a running broker, and random bytes at the ports that are for its peers, while a
//! well-behaved client goes on beside it. The brokers live, their memory and their logs stay bounded, and the
//! well-behaved client notices nothing.

use super::Settings;
use super::hostile_frames::{Target, corpus};
use super::mutate::mutate;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::raw::Raw;
use crate::load::{Load, verify};
use crate::report::{Report, Table, ms};
use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, RequestKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How hard to try.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Mutated frames [default: 1000000; with --quick 50000]
    #[arg(long)]
    frames: Option<u64>,
    /// The same seed sends the same frames
    #[arg(long)]
    seed: Option<u64>,
}

const TARGET: &str = "hostile-target";
const NEIGHBOUR: &str = "neighbour";
const WORKERS: u64 = 48;
/// How many frames are written before their answers are read.
const IN_A_ROW: usize = 32;
/// How much more memory a broker may take under attack than before it.
const GROWTH_BYTES: u64 = 256_000_000;
/// The longest that the well-behaved client may go without an acknowledgement.
const LONGEST_GAP: Duration = Duration::from_secs(2);

/// The attack, from beginning to end.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    let wanted = options.frames.unwrap_or(if settings.quick { 50_000 } else { 1_000_000 });
    let seed = options.seed.unwrap_or_else(rand::random);
    println!("{wanted} frames from seed {seed}");
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TARGET, 1, 3, &[])?;
    metadata.create_topic(NEIGHBOUR, 3, 3, &[])?;
    // The broker that leads the target: there the frames reach furthest.
    let victim = metadata.partitions(TARGET)?[0].leader.context("a leader")? as usize;
    let target = Target { name: TARGET, id: topic_id(cluster.ports(victim).kafka)? };
    let frames = Corpus::of(&target, cluster.ports(victim).kafka)?;
    let load = Load::start("neighbour", &cluster.bootstrap(), NEIGHBOUR, 3, 500)?;
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    let before = Watch::look(&cluster)?;
    let begin = Instant::now();

    let attack = Attack { port: cluster.ports(victim).kafka, wanted, seed, ..Attack::default() };
    let peaks = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|n| {
                scope.spawn({
                    let (attack, frames) = (&attack, &frames);
                    move || attack.work(n, frames)
                })
            })
            .collect();
        let ports = (0..3).flat_map(|id| [cluster.ports(id).replication, cluster.ports(id).controller]);
        let noise = is_chronik(settings).then(|| {
            scope.spawn({
                let (ports, attack) = (ports.collect::<Vec<_>>(), &attack);
                move || attack.noise(&ports)
            })
        });
        let peaks = watch(&cluster, &workers);
        attack.over.store(true, Ordering::SeqCst);
        drop(noise);
        peaks
    });
    let took = begin.elapsed();
    judge(&mut cluster, report, &attack, &before, &peaks)?;
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    let gap = load.longest_gaps(begin, begin + took).into_iter().max().unwrap_or(Duration::MAX);
    report.check("the well-behaved client never waits longer than 2 s", gap <= LONGEST_GAP, ms(gap));
    load.pause(PATIENCE)?;
    report.check(
        "no write of the well-behaved client fails",
        load.failures().is_empty(),
        format!("{:?}", load.failures()),
    );
    report.check_result("its records are there once and in order", verify(&cluster.bootstrap(), &[&load]));
    let mut table =
        Table::new("Hostile frames", &["frames", "connections", "answers", "seconds", "noise to peer ports"]);
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed).to_string();
    table.row(vec![
        count(&attack.dealt_with),
        count(&attack.connections),
        count(&attack.answers),
        format!("{:.0}", took.as_secs_f64()),
        count(&attack.noises),
    ]);
    report.table(table);
    Ok(())
}

fn is_chronik(settings: &Settings) -> bool {
    matches!(settings.software, crate::harness::cluster::Software::Chronik(_))
}

fn judge(cluster: &mut Cluster, report: &mut Report, attack: &Attack, before: &[Watch], peaks: &[u64]) -> Result<()> {
    let alive = cluster.check_alive();
    if alive.is_err() {
        println!("kept: {}", cluster.keep().display());
    }
    report.check_result("every broker lives through it", alive.map(|()| "the same pids as before".into()));
    let dealt_with = attack.dealt_with.load(Ordering::Relaxed);
    report.check("every frame was answered or closed its connection", dealt_with >= attack.wanted, dealt_with);
    // A quarter is still good enough for an answer; who only closes connections has looked at nothing.
    let answers = attack.answers.load(Ordering::Relaxed);
    report.check("at least a tenth of them is answered", answers * 10 >= dealt_with, answers);
    let mb = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
    for (id, (before, peak)) in before.iter().zip(peaks).enumerate() {
        report.check(
            format!("broker {id} takes at most {} more than before", mb(GROWTH_BYTES)),
            peak.saturating_sub(before.rss_bytes) <= GROWTH_BYTES,
            format!("{} before, {} at most", mb(before.rss_bytes), mb(*peak)),
        );
    }
    let connections = attack.connections.load(Ordering::Relaxed) + attack.noises.load(Ordering::Relaxed);
    for (id, before) in before.iter().enumerate() {
        let log = fs::metadata(cluster.log(id))?.len() - before.log_bytes;
        let lines = lines(cluster, id)? - before.log_lines;
        report.check(
            format!("broker {id} logs at most a line a connection"),
            lines <= connections + 1_000 && log <= (connections + 1_000) * 512,
            format!("{lines} lines, {} for {connections} connections", mb(log)),
        );
        let panics = BufReader::new(fs::File::open(cluster.log(id))?).lines().map_while(Result::ok);
        let panic = panics.into_iter().find(|line| line.contains("panicked at"));
        report.check(format!("no task of broker {id} panics"), panic.is_none(), panic.unwrap_or_else(|| "none".into()));
    }
    Ok(())
}

/// What a broker looked like.
struct Watch {
    rss_bytes: u64,
    log_bytes: u64,
    log_lines: u64,
}

impl Watch {
    fn look(cluster: &Cluster) -> Result<Vec<Self>> {
        let look = |id| {
            let log_bytes = fs::metadata(cluster.log(id))?.len();
            Ok(Self { rss_bytes: cluster.usage(id)?.rss_bytes, log_bytes, log_lines: lines(cluster, id)? })
        };
        (0..cluster.size()).map(look).collect()
    }
}

fn lines(cluster: &Cluster, id: usize) -> Result<u64> {
    Ok(BufReader::new(fs::File::open(cluster.log(id))?).lines().map_while(Result::ok).count() as u64)
}

/// The highest resident memory of each broker until all workers have ended; a broker that died has what it had.
fn watch(cluster: &Cluster, workers: &[thread::ScopedJoinHandle<'_, ()>]) -> Vec<u64> {
    let mut peaks = vec![0; cluster.size()];
    while workers.iter().any(|worker| !worker.is_finished()) {
        for (id, peak) in peaks.iter_mut().enumerate() {
            *peak = cluster.usage(id).map_or(*peak, |usage| usage.rss_bytes.max(*peak));
        }
        thread::sleep(Duration::from_millis(100));
    }
    peaks
}

#[derive(Default)]
struct Attack {
    port: u16,
    wanted: u64,
    seed: u64,
    dealt_with: AtomicU64,
    connections: AtomicU64,
    answers: AtomicU64,
    noises: AtomicU64,
    over: AtomicBool,
}

impl Attack {
    /// One worker: connection after connection until all workers together have sent enough.
    fn work(&self, worker: u64, frames: &Corpus) {
        let mut random = SmallRng::seed_from_u64(self.seed.wrapping_add(worker));
        let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
        let mut refused = 0;
        while self.dealt_with.load(Ordering::Relaxed) < self.wanted && refused < 100 {
            while waiting.len() < IN_A_ROW {
                let pick = |random: &mut SmallRng| frames.pick(random).clone();
                let (frame, other) = (pick(&mut random), pick(&mut random));
                waiting.push_back(mutate(&mut random, &frame, &other).1);
            }
            let Ok(answers) = self.converse(&waiting) else {
                // A broker that is gone refuses for ever; one that is busy does not.
                refused += 1;
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            refused = 0;
            // Behind the frame that closed the connection nothing was looked at: it is sent again.
            let dealt_with = (answers + 1).min(waiting.len());
            waiting.drain(..dealt_with);
            self.dealt_with.fetch_add(dealt_with as u64, Ordering::Relaxed);
            self.answers.fetch_add(answers as u64, Ordering::Relaxed);
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes all of these frames to a new connection, and counts the answers until it is closed.
    fn converse(&self, frames: &VecDeque<Vec<u8>>) -> std::io::Result<usize> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        // A fetch may have been made to wait for long: who attacks does not.
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        stream.set_write_timeout(Some(Duration::from_millis(300)))?;
        let bytes: Vec<u8> = frames.iter().flatten().copied().collect();
        // The broker may close at any byte, and what it answered before counts.
        let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let (mut answers, mut reader, mut length) = (0, BufReader::new(stream), [0; 4]);
        while reader.read_exact(&mut length).is_ok() {
            let length = u64::from(u32::from_be_bytes(length));
            if std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).unwrap_or(0) < length {
                break;
            }
            answers += 1;
        }
        Ok(answers)
    }

    /// Random bytes at ports that expect brokers, some with a plausible length in front, until the rest is done.
    fn noise(&self, ports: &[u16]) {
        let mut random = SmallRng::seed_from_u64(!self.seed);
        while !self.over.load(Ordering::SeqCst) {
            let port = ports[random.random_range(0..ports.len())];
            let mut bytes: Vec<u8> = (0..random.random_range(1..512)).map(|_| random.random()).collect();
            if bytes.len() > 4 && random.random() {
                let length = if random.random() { bytes.len() as u32 - 4 } else { random.random() };
                let length = if random.random() { length.to_be_bytes() } else { length.to_le_bytes() };
                bytes[..4].copy_from_slice(&length);
            }
            if random.random_ratio(1, 10) {
                bytes.splice(0..0, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            }
            if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                // Whether it takes them or closes is the broker's choice.
                let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
                let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
                let _ = stream.read(&mut [0; 256]);
                self.noises.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What the mutations start from.
struct Corpus {
    served: Vec<Bytes>,
    others: Vec<Bytes>,
}

impl Corpus {
    /// Frames that the broker says it serves apart from those that it will refuse by their first four bytes.
    fn of(target: &Target, port: u16) -> Result<Self> {
        let request = RequestKind::ApiVersions(ApiVersionsRequest::default());
        let versions: ApiVersionsResponse = Raw::connect(port, PATIENCE)?.ask(ApiKey::ApiVersions, 0, &request)?;
        let is_served = |frame: &Bytes| {
            let (api, version) = ((&frame[4..]).get_i16(), (&frame[6..]).get_i16());
            versions.api_keys.iter().any(|v| v.api_key == api && (v.min_version..=v.max_version).contains(&version))
        };
        let (served, others): (Vec<_>, Vec<_>) = corpus(target)?.into_iter().partition(is_served);
        ensure!(!served.is_empty() && !others.is_empty(), "{} served, {} others", served.len(), others.len());
        println!("{} frames that are served, {} others", served.len(), others.len());
        Ok(Self { served, others })
    }

    /// Mostly of what is served: what is refused at once closes the connection and tries little.
    fn pick(&self, random: &mut SmallRng) -> &Bytes {
        let from = if random.random_ratio(1, 20) { &self.others } else { &self.served };
        &from[random.random_range(0..from.len())]
    }
}

/// The target's topic id, asked for on a raw connection as librdkafka does not tell it.
fn topic_id(port: u16) -> Result<Uuid> {
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str(TARGET))));
    let request = RequestKind::Metadata(MetadataRequest::default().with_topics(Some(vec![topic])));
    let response: MetadataResponse = Raw::connect(port, PATIENCE)?.ask(ApiKey::Metadata, 12, &request)?;
    let id = response.topics.first().context("a topic in the answer")?.topic_id;
    ensure!(!id.is_nil(), "the topic has no id");
    Ok(id)
}
