//! A client's first acks=all write to a topic that does not exist yet, in a cluster that may not either.

use crate::harness::clients as programs;
use crate::harness::leash;
use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Where it goes: the broker makes it with its default replication factor.
pub(super) const TOPIC: &str = "first-write";
/// What it is, as in `tests/clients/acks_all.py`.
pub(super) const VALUE: &[u8] = b"the first write";
/// How long a client is given for its first write before the run is a failure: longer than any of its timeouts.
const PATIENCE: Duration = Duration::from_secs(90);

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Client {
    KafkaPython,
    Librdkafka,
}

impl Client {
    /// Whether by its defaults a write that is tried again is there once; of any other client's it may be twice.
    pub(super) fn is_idempotent(self) -> bool {
        match self {
            Self::KafkaPython => true,
            Self::Librdkafka => false,
        }
    }
}

/// A client with everything loaded that waits for the word.
pub(super) enum Writer {
    Program {
        child: Child,
        lines: Receiver<(Instant, String)>,
    },
    Library {
        bootstrap: String,
        producer: Option<ThreadedProducer<FirstAck>>,
        acks: Receiver<Instant>,
        tell: Sender<Instant>,
    },
}

#[derive(Clone)]
pub(super) struct FirstAck(Sender<Instant>);

impl ClientContext for FirstAck {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ProducerContext for FirstAck {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            // A run that has ended does not wait for it.
            let _ = self.0.send(Instant::now());
        }
    }
}

impl Writer {
    pub(super) fn prepare(client: Client, bootstrap: &str, python: Option<&Path>) -> Result<Self> {
        let Client::KafkaPython = client else {
            let (tell, acks) = channel();
            return Ok(Self::Library { bootstrap: bootstrap.to_owned(), producer: None, acks, tell });
        };
        let python: PathBuf = python.context("a Python with kafka-python")?.to_owned();
        let mut command = programs::script(&python, "acks_all.py")?;
        command.args([bootstrap, TOPIC]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = leash::spawn(command)?;
        let output = child.stdout.take().context("a pipe")?;
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        // From here on it ends with this writer, whatever comes.
        let writer = Self::Program { child, lines };
        let Self::Program { lines, .. } = &writer else { bail!("a writer that is a program") };
        let (_, line) = lines.recv_timeout(PATIENCE).context("the client to be loaded")?;
        ensure!(line == "ready", "the client says {line}");
        Ok(writer)
    }

    /// Writes the record.
    pub(super) fn write(&mut self) -> Result<()> {
        match self {
            Self::Program { child, .. } => Ok(child.stdin.as_mut().context("a pipe")?.write_all(b"go\n")?),
            Self::Library { bootstrap, producer, tell, .. } => {
                let made: ThreadedProducer<_> = ClientConfig::new()
                    .set("bootstrap.servers", bootstrap.as_str())
                    .set("acks", "all")
                    .create_with_context(FirstAck(tell.clone()))?;
                let record = BaseRecord::<(), [u8], ()>::to(TOPIC).payload(VALUE);
                made.send(record).map_err(|(e, _)| e)?;
                *producer = Some(made);
                Ok(())
            }
        }
    }

    /// When the first write was acknowledged.
    pub(super) fn acknowledged(&mut self) -> Result<Instant> {
        match self {
            Self::Library { acks, .. } => acks.recv_timeout(PATIENCE).context("no acknowledged write"),
            Self::Program { lines, .. } => {
                let (deadline, mut errors) = (Instant::now() + PATIENCE, Vec::new());
                loop {
                    let left = deadline.saturating_duration_since(Instant::now());
                    match lines.recv_timeout(left) {
                        Ok((at, line)) if line.starts_with("acknowledged") => return Ok(at),
                        Ok((_, line)) => errors.push(line),
                        Err(_) => bail!("no acknowledged write; the client said {errors:?}"),
                    }
                }
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Self::Program { child, .. } = self {
            // It may have ended already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
