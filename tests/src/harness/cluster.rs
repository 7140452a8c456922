//! A cluster of broker processes on this machine, of Chronik or of Apache Kafka.

use super::kafka::{self, Kafka};
use super::network::{self, Network};
use super::process::{Process, Usage};
use super::{metadata::Metadata, ports, target, wait};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the brokers run.
#[derive(Clone, Debug)]
pub enum Software {
    /// The `chronik` binary at this path.
    Chronik(PathBuf),
    /// Apache Kafka, which the tests themselves are tested on, and the benchmarks beside.
    Kafka(Kafka),
}

impl Software {
    /// For tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Chronik(_) => "chronik",
            Self::Kafka(_) => "kafka",
        }
    }
}

/// The ports of one broker.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Kafka's protocol.
    pub kafka: u16,
    /// Followers' streams.
    pub replication: u16,
    /// The controller quorum.
    pub controller: u16,
    /// The admin API.
    pub admin: u16,
    /// Health and metrics.
    pub http: u16,
}

#[derive(Debug)]
struct Broker {
    host: Ipv4Addr,
    /// The network namespace that its processes are in, if it is one of their own.
    namespace: Option<PathBuf>,
    ports: Ports,
    config: PathBuf,
    log: PathBuf,
    /// Environment variables of its processes.
    env: Vec<(&'static str, PathBuf)>,
    process: Option<Process>,
    cpu_before: Duration,
}

/// Brokers 0, 1, 2, …; those that run are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    brokers: Vec<Broker>,
    software: Software,
    folder: TempDir,
}

impl Broker {
    fn new(folder: &Path, id: usize) -> Result<Self> {
        let home = folder.join(format!("broker-{id}"));
        fs::create_dir_all(&home)?;
        Ok(Self {
            host: Ipv4Addr::LOCALHOST,
            namespace: None,
            ports: Ports {
                kafka: ports::free()?,
                replication: ports::free()?,
                controller: ports::free()?,
                admin: ports::free()?,
                http: ports::free()?,
            },
            config: home.join("broker.config"),
            log: home.join("broker.log"),
            env: Vec::new(),
            process: None,
            cpu_before: Duration::ZERO,
        })
    }
}

/// How long a broker is given to do what it should do within a second.
pub const PATIENCE: Duration = Duration::from_mins(1);

impl Cluster {
    /// Writes the brokers' files, and starts none. `properties` are broker properties by Kafka's names.
    pub fn new(software: &Software, brokers: usize, properties: &[(&str, &str)]) -> Result<Self> {
        Self::on(None, software, brokers, properties)
    }

    /// The same with each broker in a network namespace of its own, as many as the network was made for.
    pub fn in_network(network: &Network, software: &Software, properties: &[(&str, &str)]) -> Result<Self> {
        Self::on(Some(network), software, network.brokers(), properties)
    }

    fn on(network: Option<&Network>, software: &Software, brokers: usize, properties: &[(&str, &str)]) -> Result<Self> {
        let parent = target().join("clusters");
        fs::create_dir_all(&parent)?;
        let folder = tempfile::Builder::new().prefix(software.name()).tempdir_in(parent)?;
        let properties: Vec<_> = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut all = (0..brokers).map(|id| Broker::new(folder.path(), id)).collect::<Result<Vec<_>>>()?;
        if let Some(network) = network {
            for (id, broker) in all.iter_mut().enumerate() {
                (broker.host, broker.namespace) = (network.address(id), Some(network.namespace(id)));
            }
        }
        let cluster = Self { brokers: all, software: software.clone(), folder };
        cluster.write_files(&properties)?;
        Ok(cluster)
    }

    /// A cluster of three of which all are started, and that has answered with all three.
    pub fn of_three(software: &Software, properties: &[(&str, &str)]) -> Result<Self> {
        let mut cluster = Self::new(software, 3, properties)?;
        cluster.start_all()?;
        cluster.wait_for_brokers(3)?;
        Ok(cluster)
    }

    fn write_files(&self, properties: &[(String, String)]) -> Result<()> {
        let places: Vec<_> = self.brokers.iter().enumerate().map(|(id, b)| self.place(id, b)).collect();
        for (id, broker) in self.brokers.iter().enumerate() {
            match &self.software {
                Software::Chronik(_) => {
                    let all: Vec<usize> = (0..self.brokers.len()).collect();
                    fs::write(&broker.config, self.chronik_config(id, &all, properties))?;
                }
                Software::Kafka(kafka) => {
                    fs::write(&broker.config, kafka::properties(&places[id], &places, properties))?;
                    kafka.format(&broker.config, &broker.log)?;
                }
            }
        }
        Ok(())
    }

    fn place(&self, id: usize, broker: &Broker) -> kafka::Place {
        kafka::Place {
            id: id as i32,
            host: broker.host,
            data: self.data_dir(id),
            kafka_port: broker.ports.kafka,
            controller_port: broker.ports.controller,
        }
    }

    /// One more broker of Chronik, whose file names it and one member to knock at; no other broker's file names it.
    pub fn join(&mut self, knocks_at: usize) -> Result<usize> {
        let id = self.brokers.len();
        self.brokers.push(Broker::new(self.folder.path(), id)?);
        let text = format!("{}voters: []\n", self.chronik_config(id, &[id, knocks_at], &[]));
        fs::write(&self.brokers[id].config, text)?;
        Ok(id)
    }

    fn chronik_config(&self, id: usize, members: &[usize], properties: &[(String, String)]) -> String {
        let Broker { host, ports, .. } = &self.brokers[id];
        let mut text = format!(
            "broker_id: {id}\ndata_dir: {}\nlisten:\n  kafka: {host}:{}\n  replication: {host}:{}\n  \
             controller: {host}:{}\n  admin: {host}:{}\n  http: {host}:{}\nmembers:\n",
            self.data_dir(id).display(),
            ports.kafka,
            ports.replication,
            ports.controller,
            ports.admin,
            ports.http,
        );
        for id in members {
            let Broker { host, ports: Ports { kafka, replication, controller, .. }, .. } = &self.brokers[*id];
            let _ = writeln!(
                text,
                "  - {{id: {id}, host: {host}, kafka_port: {kafka}, replication_port: {replication}, \
                 controller_port: {controller}}}"
            );
        }
        if !properties.is_empty() {
            text.push_str("kafka:\n");
        }
        for (key, value) in properties {
            let _ = writeln!(text, "  {key}: {value}");
        }
        text
    }

    /// Puts a broker that is not started into a rack; the cluster has other properties too.
    pub fn set_rack(&self, id: usize, rack: &str) -> Result<()> {
        let config = &self.brokers[id].config;
        let text = fs::read_to_string(config)?;
        Ok(fs::write(config, format!("{text}  broker.rack: {rack}\n"))?)
    }

    /// Sets an environment variable of the broker's processes that are started from now on.
    pub fn set_env(&mut self, id: usize, name: &'static str, value: PathBuf) {
        self.brokers[id].env.push((name, value));
    }

    /// How many brokers it has, running or not.
    pub fn size(&self) -> usize {
        self.brokers.len()
    }

    /// Where a broker keeps its data.
    pub fn data_dir(&self, id: usize) -> PathBuf {
        self.folder.path().join(format!("broker-{id}/data"))
    }

    /// The folders of the partitions that a broker has, and of those that it is about to remove.
    pub fn partition_folders(&self, id: usize) -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(self.data_dir(id).join("log/partitions")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// Where a broker's output goes.
    pub fn log(&self, id: usize) -> &Path {
        &self.brokers[id].log
    }

    /// A broker's ports.
    pub fn ports(&self, id: usize) -> Ports {
        self.brokers[id].ports
    }

    /// Where clients find a broker.
    pub fn address(&self, id: usize) -> SocketAddrV4 {
        SocketAddrV4::new(self.brokers[id].host, self.brokers[id].ports.kafka)
    }

    /// What clients are given: every broker's address, of those too that never start.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = self.brokers.iter().map(|b| format!("{}:{}", b.host, b.ports.kafka)).collect();
        addresses.join(",")
    }

    /// Starts a broker, and says when it was asked for.
    pub fn start(&mut self, id: usize) -> Result<Instant> {
        let broker = &mut self.brokers[id];
        ensure!(broker.process.is_none(), "broker {id} runs already");
        let namespace = broker.namespace.as_deref();
        let mut command = match &self.software {
            Software::Chronik(binary) => {
                let mut command = network::command_in(namespace, binary)?;
                command.args(["serve", "--config"]).arg(&broker.config);
                command
            }
            Software::Kafka(kafka) => kafka.broker(&broker.config, namespace)?,
        };
        command.envs(broker.env.iter().cloned());
        let process = Process::start(&format!("broker {id}"), command, &broker.log)?;
        let started = process.started;
        broker.process = Some(process);
        Ok(started)
    }

    /// Starts all that do not run, together, and says when the first was asked for.
    pub fn start_all(&mut self) -> Result<Instant> {
        let mut first = None;
        for id in 0..self.brokers.len() {
            if self.brokers[id].process.is_none() {
                let started = self.start(id)?;
                first.get_or_insert(started);
            }
        }
        first.context("every broker runs already")
    }

    /// `kill -9`.
    pub fn kill(&mut self, id: usize) -> Result<()> {
        self.end(id)?.kill()
    }

    /// `kill -9` of all that run, with nothing between the signals.
    pub fn kill_all(&mut self) -> Result<()> {
        for process in self.brokers.iter().filter_map(|b| b.process.as_ref()) {
            process.signal(Signal::KILL)?;
        }
        (0..self.brokers.len())
            .filter(|id| self.is_running(*id))
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|id| self.kill(id))
    }

    /// SIGTERM; the broker has to end with success.
    pub fn stop(&mut self, id: usize) -> Result<()> {
        let status = self.end(id)?.stop(PATIENCE)?;
        // A Java virtual machine that stops by SIGTERM says 143 after an orderly shutdown.
        ensure!(status.success() || status.code() == Some(143), "broker {id} answered SIGTERM with {status}");
        Ok(())
    }

    /// Waits until a broker has ended by itself, as the cluster asked it to; it has to end with success.
    pub fn wait_for_end(&mut self, id: usize) -> Result<()> {
        let mut process = self.end(id)?;
        let status = wait::until(&format!("broker {id} to end"), PATIENCE, || process.has_ended())?;
        ensure!(status.success(), "broker {id} ended with {status}:\n{}", tail(&self.brokers[id].log));
        Ok(())
    }

    fn end(&mut self, id: usize) -> Result<Process> {
        let broker = &mut self.brokers[id];
        let process = broker.process.take().with_context(|| format!("broker {id} does not run"))?;
        broker.cpu_before += process.usage().map_or(Duration::ZERO, |u| u.cpu);
        Ok(process)
    }

    /// SIGSTOP: it hangs from now on, with all its connections open.
    pub fn pause(&self, id: usize) -> Result<()> {
        let process = self.process(id)?;
        process.signal(Signal::STOP)?;
        wait::until(&format!("broker {id} to hang"), PATIENCE, || Ok(process.is_stopped()?.then_some(())))
    }

    /// Whether a broker hangs.
    pub fn is_paused(&self, id: usize) -> Result<bool> {
        self.process(id)?.is_stopped()
    }

    /// SIGCONT.
    pub fn resume(&self, id: usize) -> Result<()> {
        self.process(id)?.signal(Signal::CONT)
    }

    /// Whether a broker was started and neither killed nor stopped since.
    pub fn is_running(&self, id: usize) -> bool {
        self.brokers[id].process.is_some()
    }

    fn process(&self, id: usize) -> Result<&Process> {
        self.brokers[id].process.as_ref().with_context(|| format!("broker {id} does not run"))
    }

    /// A running broker's pid.
    pub fn pid(&self, id: usize) -> Result<u32> {
        Ok(self.process(id)?.pid())
    }

    /// What a running broker uses; its processor time counts earlier processes of the same broker too.
    pub fn usage(&self, id: usize) -> Result<Usage> {
        let mut usage = self.process(id)?.usage()?;
        usage.cpu += self.brokers[id].cpu_before;
        Ok(usage)
    }

    /// Fails when a broker that should run has ended, with the last lines of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        for (id, broker) in self.brokers.iter_mut().enumerate() {
            if let Some(process) = &mut broker.process
                && let Some(status) = process.has_ended()?
            {
                anyhow::bail!("broker {id} ended by itself ({status}):\n{}", tail(&broker.log));
            }
        }
        Ok(())
    }

    /// Waits until metadata names this many brokers.
    pub fn wait_for_brokers(&mut self, count: usize) -> Result<()> {
        let metadata = Metadata::new(&self.bootstrap())?;
        let outcome = wait::until(&format!("{count} brokers in the metadata"), PATIENCE, || {
            self.check_alive()?;
            Ok((metadata.brokers()?.len() == count).then_some(()))
        });
        outcome.with_context(|| self.tails())
    }

    /// A broker's answer to `GET path` on its HTTP port: the status code and the body.
    pub fn http(&self, id: usize, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect((self.brokers[id].host, self.brokers[id].ports.http))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status code")?;
        Ok((code, body.to_owned()))
    }

    /// How many lines there are of this kind in the logs of all brokers.
    pub fn count_log_lines(&self, is_one: impl Fn(&str) -> bool) -> Result<usize> {
        let mut lines = 0;
        for (id, broker) in self.brokers.iter().enumerate() {
            let log = fs::read(&broker.log).with_context(|| format!("the log of broker {id}"))?;
            lines += String::from_utf8_lossy(&log).lines().filter(|line| is_one(line)).count();
        }
        Ok(lines)
    }

    /// The ends of all logs, for a failure's message.
    pub fn tails(&self) -> String {
        let mut text = String::new();
        for (id, broker) in self.brokers.iter().enumerate() {
            let _ = writeln!(text, "--- broker {id}, end of its log:\n{}", tail(&broker.log));
        }
        text
    }

    /// Keeps the folder with configuration, data and logs after the end, and says where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
