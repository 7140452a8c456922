//! Spoiled frames at a running broker, a million with `--full`, and random bytes at the ports that are for its peers, while a
//! well-behaved client goes on beside it. The brokers live, their memory and their logs stay bounded, and the
//! well-behaved client notices nothing.

use super::hostile_frames::{Target, corpus, endless_fetch};
use super::hostile_talk::{Stand, Talk, is_complete};
use super::mutate::{hurry, mutate};
use super::{Settings, TimeLimit};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::raw::Raw;
use crate::load::{Load, verify};
use crate::report::{Report, Table};
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
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How hard to try.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Mutated frames [default: 300000; with --full 1000000, with --quick 50000]
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
/// How long a worker waits for an answer before it leaves the connection to whoever waits for the late ones.
const SOON: Duration = Duration::from_secs(2);
/// A complete frame is answered, or closes its connection, within this: a broker holds a fetch for a minute at most.
const LATEST: Duration = Duration::from_secs(75);
/// After so many that were not the point is made.
const ENOUGH: u64 = 10;
/// Connections that are left to be waited for at most.
const LATE: usize = 200;
/// How much more memory a broker may have under attack than before it: what requests being served may take
/// (`queued.max.request.bytes`, 128 MiB), half as much for what they are decoded to, and 32 MiB of newest batches.
const GROWTH_BYTES: u64 = 235_000_000;
/// How much more it may have when the attack is over: the newest batches, which stay, and as much again for what
/// the allocator keeps.
const KEPT_BYTES: u64 = 64_000_000;
/// The longest that the well-behaved client may go without an acknowledgement.
const LONGEST_GAP: TimeLimit = TimeLimit { target: Duration::from_secs(2), always: Duration::from_secs(10) };

/// The attack, from beginning to end.
pub fn run(settings: &Settings, options: &Options, report: &mut Report) -> Result<()> {
    let frames = match settings {
        Settings { full: true, .. } => 1_000_000,
        Settings { quick: true, .. } => 50_000,
        _ => 300_000,
    };
    let wanted = options.frames.unwrap_or(frames);
    let seed = options.seed.unwrap_or_else(rand::random);
    println!("{wanted} frames from seed {seed}");
    let mut cluster = Cluster::of_three(&settings.software, &[])?;
    let outcome = attack(settings, &mut cluster, wanted, seed, report);
    if outcome.is_err() || report.has_failures() {
        println!("kept: {}", cluster.keep().display());
    }
    outcome.with_context(|| cluster.tails())
}

fn attack(settings: &Settings, cluster: &mut Cluster, wanted: u64, seed: u64, report: &mut Report) -> Result<()> {
    let metadata = Metadata::new(&cluster.bootstrap())?;
    metadata.create_topic(TARGET, 1, 3, &[])?;
    metadata.create_topic(NEIGHBOUR, 3, 3, &[])?;
    // The broker that leads the target: there the frames reach furthest.
    let victim = metadata.leader(TARGET, 0)?;
    let port = cluster.ports(victim).kafka;
    let target = Target { name: TARGET, id: topic_id(port)? };
    let frames = Corpus::of(&target, port)?;
    // The attackers' fetches are hurried; one of them is not, where there is the time to wait for it.
    let mut endless = (is_chronik(settings) && !settings.quick)
        .then(|| Talk::begin(port, &mut [endless_fetch(&target)?.to_vec()], PATIENCE))
        .transpose()?;
    report.check_result("the frames that will be spoiled are good ones", frames.is_understood(port));
    let load = Load::start("neighbour", &cluster.bootstrap(), NEIGHBOUR, 3, 500)?;
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    let before = Watch::measure(cluster)?;
    let begin = Instant::now();

    let attack = Attack { port, wanted, seed, ..Attack::default() };
    let (late, inbox) = sync_channel(LATE);
    let most = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|n| {
                let (attack, frames, late) = (&attack, &frames, late.clone());
                scope.spawn(move || attack.work(n, frames, &late))
            })
            .collect();
        drop(late);
        let attack = &attack;
        let patient = scope.spawn(move || inbox.into_iter().for_each(|talk| attack.wait_for(talk)));
        if is_chronik(settings) {
            let ports = (0..3).flat_map(|id| [cluster.ports(id).replication, cluster.ports(id).controller]);
            let ports = ports.collect::<Vec<_>>();
            scope.spawn(move || attack.noise(&ports));
        }
        let most = watch(cluster, || workers.iter().all(ScopedJoinHandle::is_finished) && patient.is_finished());
        attack.over.store(true, Ordering::SeqCst);
        most
    });
    let took = begin.elapsed();
    report.table(attack.table(took));
    if let Some(talk) = &mut endless {
        let stand = talk.listen(talk.since + LATEST);
        report.check("a fetch that asks to wait for ever is answered", stand == Stand::Done, format!("{stand:?}"));
    }
    attack.judge(report, is_chronik(settings));
    let under_attack = Watch::measure(cluster)?;
    // Those that the noise was for have to find each other still.
    metadata.wait_for_isr(TARGET, 1, 3)?;
    metadata.wait_for_isr(NEIGHBOUR, 3, 3)?;
    load.wait_for_acknowledgements_after(Instant::now(), PATIENCE)?;
    let gap = load.longest_gaps(begin, begin + took).into_iter().max().unwrap_or(Duration::MAX);
    let name = "the well-behaved client's longest wait for an acknowledgement";
    LONGEST_GAP.check(settings, report, name, gap.as_secs_f64() * 1e3, "");
    load.pause(PATIENCE)?;
    report.check(
        "no write of the well-behaved client fails",
        load.failures().is_empty(),
        format!("{:?}", load.failures()),
    );
    report.check_result("its records are there once and in order", verify(&cluster.bootstrap(), &[&load]));
    judge_memory(cluster, report, &before, &under_attack, &most)?;
    judge_logs(cluster, report, &before, attack.connections())?;
    // Last of all: what broke may have needed its time to show.
    let pids = (0..cluster.size()).map(|id| cluster.pid(id)).collect::<Result<Vec<_>>>()?;
    let same = pids.iter().eq(before.iter().map(|watch| &watch.pid));
    let alive = cluster.check_alive().map(|()| format!("pids {pids:?}"));
    report.check_result("every broker lives to the end", alive);
    report.check("they are the processes that were attacked", same, format!("pids {pids:?}"));
    Ok(())
}

fn is_chronik(settings: &Settings) -> bool {
    matches!(settings.software, crate::harness::cluster::Software::Chronik(_))
}

fn judge_memory(
    cluster: &Cluster,
    report: &mut Report,
    before: &[Watch],
    under_attack: &[Watch],
    sampled: &[u64],
) -> Result<()> {
    let mb = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
    for (id, (before, under_attack)) in before.iter().zip(under_attack).enumerate() {
        // The kernel's peak misses nothing, but it may be older than the attack; then no sample can be beyond it.
        let new_peak = (under_attack.peak_bytes > before.peak_bytes).then_some(under_attack.peak_bytes);
        let most = new_peak.unwrap_or(sampled[id]);
        let after = cluster.usage(id)?.rss_bytes;
        let seen = format!("{} before, {} at most, {} after", mb(before.rss_bytes), mb(most), mb(after));
        let (grown, kept) = (most.saturating_sub(before.rss_bytes), after.saturating_sub(before.rss_bytes));
        report.check(format!("broker {id} takes at most {} more", mb(GROWTH_BYTES)), grown <= GROWTH_BYTES, &seen);
        report.check(format!("broker {id} keeps at most {} of it", mb(KEPT_BYTES)), kept <= KEPT_BYTES, &seen);
    }
    Ok(())
}

fn judge_logs(cluster: &Cluster, report: &mut Report, before: &[Watch], connections: u64) -> Result<()> {
    for (id, before) in before.iter().enumerate() {
        let text = log(cluster, id)?;
        let (bytes, lines) = (text.len() as u64 - before.log_bytes, text.lines().count() as u64 - before.log_lines);
        report.check(
            format!("broker {id} logs at most a line a connection"),
            lines <= connections + 1_000 && bytes <= (connections + 1_000) * 512,
            format!("{lines} lines, {:.0} MB for {connections} connections", bytes as f64 / 1e6),
        );
        let panic = text.lines().find(|line| line.contains("panicked at"));
        report.check(format!("no task of broker {id} panics"), panic.is_none(), panic.unwrap_or("none"));
    }
    Ok(())
}

/// What a broker looked like.
struct Watch {
    pid: u32,
    rss_bytes: u64,
    peak_bytes: u64,
    log_bytes: u64,
    log_lines: u64,
}

impl Watch {
    fn measure(cluster: &Cluster) -> Result<Vec<Self>> {
        let look = |id| {
            let (usage, log) = (cluster.usage(id)?, log(cluster, id)?);
            Ok(Self {
                pid: cluster.pid(id)?,
                rss_bytes: usage.rss_bytes,
                peak_bytes: usage.peak_rss_bytes,
                log_bytes: log.len() as u64,
                log_lines: log.lines().count() as u64,
            })
        };
        (0..cluster.size()).map(look).collect()
    }
}

/// All that a broker has logged, with the attacker's bytes that are no text.
fn log(cluster: &Cluster, id: usize) -> Result<String> {
    let bytes = fs::read(cluster.log(id))?;
    // Each byte is a character, so that lengths stay what they are.
    Ok(bytes.into_iter().map(|b| if b.is_ascii() { char::from(b) } else { '?' }).collect())
}

/// The highest resident memory of each broker until the attack is over; a broker that died has what it had.
fn watch(cluster: &Cluster, over: impl Fn() -> bool) -> Vec<u64> {
    let mut most = vec![0; cluster.size()];
    while !over() {
        for (id, most) in most.iter_mut().enumerate() {
            *most = cluster.usage(id).map_or(*most, |usage| usage.rss_bytes.max(*most));
        }
        thread::sleep(Duration::from_millis(100));
    }
    most
}

#[derive(Default)]
struct Attack {
    port: u16,
    wanted: u64,
    seed: u64,
    /// Frames with an answer.
    answered: AtomicU64,
    /// Produce requests that were processed without one, as those with acks=0 are.
    unanswered: AtomicU64,
    /// Frames upon which the broker closed the connection.
    closed: AtomicU64,
    /// Parts of a frame, waited for until this side closed.
    incomplete: AtomicU64,
    /// Connections that were silent for a while, and then went on.
    late: AtomicU64,
    /// Complete frames with neither an answer nor a close, and parts of one whose connection nobody closed.
    hung: AtomicU64,
    nonsense: Mutex<Vec<String>>,
    connections: AtomicU64,
    noises: AtomicU64,
    over: AtomicBool,
}

impl Attack {
    fn dealt_with(&self) -> u64 {
        [&self.answered, &self.unanswered, &self.closed, &self.incomplete]
            .map(|n| n.load(Ordering::Relaxed))
            .iter()
            .sum()
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed) + self.noises.load(Ordering::Relaxed)
    }

    /// One worker: connection after connection until all workers together have sent enough.
    fn work(&self, worker: u64, frames: &Corpus, late: &SyncSender<Talk>) {
        let mut random = SmallRng::seed_from_u64(self.seed.wrapping_add(worker));
        let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
        let mut lie = None;
        let mut refused = 0;
        let go_on = || self.dealt_with() < self.wanted && self.hung.load(Ordering::Relaxed) < ENOUGH;
        while go_on() && refused < 100 {
            while waiting.len() < IN_A_ROW && lie.is_none() {
                let pick = |random: &mut SmallRng| frames.pick(random).clone();
                let (frame, other) = (pick(&mut random), pick(&mut random));
                let (mutation, mut bytes) = mutate(&mut random, &frame, &other);
                if mutation.is_honest() {
                    hurry(&mut bytes);
                    waiting.push_back(bytes);
                } else {
                    lie = Some(bytes);
                }
            }
            let Ok(mut talk) = Talk::begin(self.port, waiting.make_contiguous(), LATEST) else {
                // A broker that is gone refuses for ever; one that is busy does not.
                refused += 1;
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            refused = 0;
            self.connections.fetch_add(1, Ordering::Relaxed);
            match talk.listen(Instant::now() + SOON) {
                Stand::Silent => {
                    waiting.clear();
                    // Nobody is there to take it when everybody has given up.
                    let _ = late.send(talk);
                }
                stand => {
                    let processed = self.count(&talk, &stand);
                    // Behind the frame that closed the connection nothing was looked at: it is sent again.
                    waiting.drain(..processed.min(waiting.len()));
                    if stand == Stand::Done
                        && let Some(lie) = lie.take()
                    {
                        let stand = talk.lie(&lie, LATEST);
                        self.count_lie(is_complete(&lie), stand);
                    }
                }
            }
        }
    }

    /// Takes in what became of a connection's frames, and returns how many of them were processed.
    fn count(&self, talk: &Talk, stand: &Stand) -> usize {
        let (passed, answered) = talk.counts();
        self.answered.fetch_add(answered as u64, Ordering::Relaxed);
        self.unanswered.fetch_add((passed - answered) as u64, Ordering::Relaxed);
        match stand {
            Stand::Done => return passed,
            Stand::Closed => self.closed.fetch_add(1, Ordering::Relaxed),
            Stand::Silent => self.hung.fetch_add(1, Ordering::Relaxed),
            Stand::Nonsense(what) => {
                self.complain(what);
                0
            }
        };
        passed + 1
    }

    fn count_lie(&self, complete: bool, stand: Stand) {
        let counter = match stand {
            Stand::Nonsense(what) => return self.complain(&what),
            Stand::Silent => &self.hung,
            Stand::Done => &self.answered,
            Stand::Closed if complete => &self.closed,
            Stand::Closed => &self.incomplete,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn complain(&self, what: &str) {
        self.nonsense.lock().unwrap_or_else(PoisonError::into_inner).push(what.to_owned());
    }

    /// What was silent has until the latest moment to go on.
    fn wait_for(&self, mut talk: Talk) {
        let stand = talk.listen(talk.since + LATEST);
        self.count(&talk, &stand);
        self.late.fetch_add(u64::from(stand != Stand::Silent), Ordering::Relaxed);
    }

    fn table(&self, took: Duration) -> Table {
        let columns = [
            "answered",
            "acks=0",
            "closed",
            "incomplete",
            "hung",
            "late",
            "connections",
            "seconds",
            "noise to peer ports",
        ];
        let mut table = Table::new("Hostile frames", &columns);
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed).to_string();
        let outcomes = [&self.answered, &self.unanswered, &self.closed, &self.incomplete, &self.hung, &self.late];
        let mut row: Vec<_> = outcomes.into_iter().map(count).collect();
        row.extend([count(&self.connections), format!("{:.0}", took.as_secs_f64()), count(&self.noises)]);
        table.row(row);
        table
    }

    fn judge(&self, report: &mut Report, has_peer_ports: bool) {
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let dealt_with = self.dealt_with();
        report.check("enough frames were processed", dealt_with >= self.wanted, dealt_with);
        let hung = count(&self.hung);
        report.check(
            "every complete frame is answered or closes its connection, and nobody waits for the rest of one whose sender closes",
            hung == 0,
            format!("{hung} hung for {} s; {} were late", LATEST.as_secs(), count(&self.late)),
        );
        let nonsense = self.nonsense.lock().unwrap_or_else(PoisonError::into_inner);
        let first = nonsense.first().map_or("none", String::as_str);
        report.check("every answer is for its frame, and none is left out", nonsense.is_empty(), first);
        // A quarter is still good enough for an answer; who only closes connections has looked at nothing.
        let answered = count(&self.answered);
        report.check("at least a tenth of them is answered", answered * 10 >= dealt_with, answered);
        let (closed, incomplete) = (count(&self.closed), count(&self.incomplete));
        let detail = format!("{closed} closed, {incomplete} incomplete");
        report.check("some close their connection, and some are incomplete", closed > 0 && incomplete > 0, detail);
        let noises = count(&self.noises);
        report.check("the ports for peers hear noise", noises > 0 || !has_peer_ports, noises);
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

    /// Before they are spoiled all that are served are answered: what is refused as it is tries nothing.
    fn is_understood(&self, port: u16) -> Result<String> {
        let mut answered = 0;
        for served in &self.served {
            let mut talk = Talk::begin(port, &mut [served.to_vec()], PATIENCE)?;
            let stand = talk.listen(Instant::now() + PATIENCE);
            ensure!(stand == Stand::Done, "{stand:?} after {served:02x?}");
            answered += talk.counts().1;
        }
        Ok(format!("{answered} of {} with an answer, the others with acks=0", self.served.len()))
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
