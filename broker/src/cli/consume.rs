//! `chronik consume`: records to standard output.

use super::client::{Client, ClientError, LATEST, Member, Place, To, refused};
use super::common::{Common, block_on};
use super::line;
use super::membership::Membership;
use super::output::Output;
use super::start::Start;
use chronik_core::record::split_batches;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{FetchPartition, FetchRequest, FetchTopic, StrBytes, message};
use clap::Args;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Bytes of a fetch from one partition.
const PARTITION_BYTES: i32 = 1 << 20;
/// Bytes of a fetch from one broker.
const FETCH_BYTES: i32 = 16 << 20;
/// Bytes that a batch may decompress to.
const MAX_DECOMPRESSED: u64 = 256 << 20;
/// How long a broker waits for records, in milliseconds: so long does a heartbeat wait, too.
const WAIT_MS: i32 = 250;
/// A member that stops at the ends of its partitions, and is not given any for so long, has nothing to wait for: the
/// others have them all.
const NOTHING_ASSIGNED: Duration = Duration::from_secs(10);
/// What stands in the way for so long is said.
const TROUBLE: Duration = Duration::from_secs(5);
/// Between two tries while something stands in the way.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a group's offsets are committed.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// Read records to standard output, until interrupted.
#[derive(Debug, Args)]
pub struct Consume {
    #[command(flatten)]
    common: Common,
    /// The topic.
    topic: String,
    /// Only this partition; may be repeated.
    #[arg(long, conflicts_with = "group")]
    partition: Vec<i32>,
    /// Where to begin: beginning, end, an offset, -COUNT from the end, @MILLISECONDS since 1970 or a time like
    /// 2024-05-01T12:00:00Z. With a group, where nothing is committed.
    #[arg(long, default_value = "beginning", allow_hyphen_values = true)]
    from: Start,
    /// As a member of this consumer group, which commits what was written out.
    #[arg(long)]
    group: Option<String>,
    /// Stop at the ends that the partitions have now.
    #[arg(long)]
    to_end: bool,
    /// Stop after so many records.
    #[arg(long)]
    count: Option<u64>,
    /// Write keys, and this between a key and its value.
    #[arg(long, value_name = "SEPARATOR", conflicts_with = "format")]
    key_separator: Option<String>,
    /// How a record is written: %t topic, %p partition, %o offset, %T timestamp, %k key, %v value, %h headers, \n, \t.
    #[arg(long, default_value = "%v\\n")]
    format: String,
}

impl Consume {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        block_on(async move {
            let mut reader = Reader::new(self).await?;
            let interrupted = tokio::signal::ctrl_c();
            let mut terminated = signal(SignalKind::terminate())?;
            let done = tokio::select! {
                done = reader.read() => done,
                signal = interrupted => signal.map_err(Into::into),
                _ = terminated.recv() => Ok(()),
            };
            let left = reader.leave().await;
            done?;
            Ok(left?)
        })
    }
}

struct Reader {
    client: Client,
    options: Consume,
    format: String,
    /// The next offset of each partition that is read.
    positions: BTreeMap<i32, i64>,
    /// Where to stop, if to stop.
    ends: BTreeMap<i32, i64>,
    membership: Option<Membership>,
    written: u64,
    committed_at: tokio::time::Instant,
    /// When the group last took away what this member had, or let it in with nothing.
    idle_since: Option<tokio::time::Instant>,
    /// Since when something stands in the way, and whether that was said.
    trouble: Option<(tokio::time::Instant, bool)>,
}

impl Reader {
    async fn new(options: Consume) -> anyhow::Result<Self> {
        let mut client = options.common.client();
        let topic = client.topic(&options.topic).await?;
        let format = match &options.key_separator {
            Some(separator) => format!("%k{}%v\\n", separator.replace('%', "%%").replace('\\', "\\\\")),
            None => options.format.clone(),
        };
        let membership = options.group.as_ref().map(|group| Membership::new(group, &options.topic, topic.topic_id));
        let committed_at = tokio::time::Instant::now();
        let (positions, ends) = (BTreeMap::new(), BTreeMap::new());
        let mut new = Self {
            client,
            options,
            format,
            positions,
            ends,
            membership,
            written: 0,
            committed_at,
            idle_since: None,
            trouble: None,
        };
        if new.membership.is_none() {
            let all = topic.partitions.iter().map(|p| p.partition_index);
            let wanted = if new.options.partition.is_empty() { all.collect() } else { new.options.partition.clone() };
            new.assign(&wanted, &BTreeMap::new()).await?;
        }
        Ok(new)
    }

    /// Reads these partitions from now on, beginning where something is committed, or where it was asked for.
    async fn assign(&mut self, partitions: &[i32], committed: &BTreeMap<Place, i64>) -> Result<(), ClientError> {
        self.positions.retain(|partition, _| partitions.contains(partition));
        for &partition in partitions {
            if self.positions.contains_key(&partition) {
                continue;
            }
            let topic = self.options.topic.as_str();
            let position = match committed.get(&(topic.to_owned(), partition)) {
                Some(offset) => *offset,
                None => self.options.from.resolve(&mut self.client, topic, partition).await?,
            };
            if self.options.to_end {
                let end = self.client.offset_at(topic, partition, LATEST).await?;
                self.ends.insert(partition, end);
            }
            self.positions.insert(partition, position);
        }
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        while !self.is_done() {
            self.keep_up_membership().await?;
            if self.positions.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            self.round().await?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let enough = self.options.count.is_some_and(|count| self.written >= count);
        let at_end = |(partition, position): (&i32, &i64)| self.ends.get(partition).is_some_and(|end| position >= end);
        let all = self.options.to_end && !self.positions.is_empty() && self.positions.iter().all(at_end);
        let idle = self.options.to_end && self.idle_since.is_some_and(|since| since.elapsed() >= NOTHING_ASSIGNED);
        enough || all || idle
    }

    /// Sends a heartbeat if it is due, takes what is assigned, and commits now and then.
    async fn keep_up_membership(&mut self) -> Result<(), ClientError> {
        let owned: Vec<i32> = self.positions.keys().copied().collect();
        let Some(membership) = &mut self.membership else { return Ok(()) };
        if let Some(assigned) = membership.heartbeat(&mut self.client, &owned).await? {
            let group = membership.group().to_owned();
            // Whoever gets what is given up goes on where this member stopped.
            self.commit().await?;
            let committed = self.client.committed(&group).await?;
            self.assign(&assigned, &committed).await?;
            self.idle_since = assigned.is_empty().then(tokio::time::Instant::now);
        }
        if self.committed_at.elapsed() >= COMMIT_EVERY {
            self.commit().await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), ClientError> {
        self.committed_at = tokio::time::Instant::now();
        let Some(Membership { member, .. }) = &self.membership else { return Ok(()) };
        let topic = &self.options.topic;
        let offsets: BTreeMap<_, _> = self.positions.iter().map(|(p, offset)| ((topic.clone(), *p), *offset)).collect();
        let (Some(group), Member { epoch: 1.., .. }, false) = (&self.options.group, member, offsets.is_empty()) else {
            return Ok(());
        };
        self.client.commit(group, member, &offsets).await
    }

    /// Commits, and leaves the group.
    async fn leave(&mut self) -> Result<(), ClientError> {
        let committed = self.commit().await;
        if let Some(membership) = &mut self.membership {
            membership.leave(&mut self.client).await?;
        }
        committed
    }

    /// One fetch from each leader.
    async fn round(&mut self) -> anyhow::Result<()> {
        let topic = self.options.topic.clone();
        let found = self.client.topic(&topic).await?;
        let mut leaders: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for p in found.partitions.iter().filter(|p| self.positions.contains_key(&p.partition_index)) {
            leaders.entry(p.leader_id).or_default().push(p.partition_index);
        }
        let before = self.written;
        let leaderless = leaders.remove(&-1);
        let mut hindrance = leaderless.map(|partitions| format!("partitions {partitions:?} of {topic} have no leader"));
        let wait = WAIT_MS / i32::try_from(leaders.len().max(1)).unwrap_or(WAIT_MS);
        for (leader, partitions) in leaders {
            match self.fetch(leader, &partitions, wait).await {
                Ok(None) => {}
                Ok(Some(error)) => hindrance = Some(error.to_string()),
                Err(error) if error.downcast_ref().is_some_and(ClientError::is_retriable) => {
                    hindrance = Some(error.to_string());
                }
                Err(error) => return Err(error),
            }
            if self.is_done() {
                return Ok(());
            }
        }
        self.note(hindrance, self.written == before).await;
        Ok(())
    }

    /// Says what stands in the way if it has for a while; waits a moment if nothing came past it.
    async fn note(&mut self, hindrance: Option<String>, nothing: bool) {
        let Some(hindrance) = hindrance else {
            self.trouble = None;
            return;
        };
        let (since, said) = self.trouble.get_or_insert((tokio::time::Instant::now(), false));
        if !*said && since.elapsed() >= TROUBLE {
            eprintln!("chronik: {hindrance}\n  Trying again and again.");
            *said = true;
        }
        if nothing {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Fetches from a leader. Returns why a partition was refused that may be read a moment later.
    async fn fetch(
        &mut self,
        leader: i32,
        partitions: &[i32],
        max_wait_ms: i32,
    ) -> anyhow::Result<Option<ClientError>> {
        let asked = partitions.iter().map(|p| {
            message!(FetchPartition {
                partition: *p,
                current_leader_epoch: -1,
                fetch_offset: self.positions.get(p).copied().unwrap_or(0),
                last_fetched_epoch: -1,
                log_start_offset: -1,
                partition_max_bytes: PARTITION_BYTES,
            })
        });
        let asked = message!(FetchTopic { topic: StrBytes::from(&*self.options.topic), partitions: asked.collect() });
        let request = message!(FetchRequest {
            replica_id: -1,
            max_wait_ms: max_wait_ms,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            session_epoch: -1,
            topics: vec![asked],
        });
        let answer = self.client.ask(To::Broker(leader), 11..=12, &request).await?;
        refused("fetch", answer.error_code, None)?;
        let mut hindrance = None;
        for p in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            let what = format!("partition {} of topic {}", p.partition_index, self.options.topic);
            if p.error_code == ErrorCode::OFFSET_OUT_OF_RANGE.0 {
                let offset = Start::Beginning.resolve(&mut self.client, &self.options.topic, p.partition_index).await?;
                eprintln!("chronik: {what}: the offset is out of range; going on from {offset}, the beginning");
                self.positions.insert(p.partition_index, offset);
                continue;
            }
            let position = self.positions.get(&p.partition_index).copied().unwrap_or_default();
            match refused(format!("{what}, offset {position}"), p.error_code, None) {
                Err(error) if error.is_retriable() => hindrance = Some(error),
                Err(error) => return Err(error.into()),
                Ok(()) => self.write(p.partition_index, p.records.unwrap_or_default())?,
            }
        }
        Ok(hindrance)
    }

    /// Writes records out, and moves the position behind them.
    fn write(&mut self, partition: i32, records: bytes::Bytes) -> anyhow::Result<()> {
        let Some(from) = self.positions.get(&partition).copied() else { return Ok(()) };
        let (mut out, mut next) = (Vec::new(), from);
        let left = |written: u64| self.options.count.is_none_or(|count| written < count);
        let end = self.ends.get(&partition).copied().unwrap_or(i64::MAX);
        let mut written = self.written;
        for batch in split_batches(records)? {
            if batch.header().end_offset().0 <= next {
                continue;
            }
            if !batch.header().is_control() {
                for record in batch.contents(MAX_DECOMPRESSED)?.iter().filter(|r| r.offset.0 >= from) {
                    if !left(written) || record.offset.0 >= end {
                        break;
                    }
                    if self.options.common.output == Output::Json {
                        let json = line::to_json(&self.options.topic, partition, record);
                        out.extend_from_slice(json.to_string().as_bytes());
                        out.push(b'\n');
                    } else {
                        line::write(&self.format, &self.options.topic, partition, record, &mut out);
                    }
                    (written, next) = (written + 1, record.offset.0 + 1);
                }
            }
            if !left(written) || next >= end {
                break;
            }
            next = batch.header().end_offset().0;
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&out)?;
        stdout.flush()?;
        self.written = written;
        self.positions.insert(partition, next);
        Ok(())
    }
}
