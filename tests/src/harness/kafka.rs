//! Apache Kafka from Maven: the peer that Chronik is measured beside, and the Java tools that are its clients.

use super::process::{self, Process};
use super::{leash, network, repository, target};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// Where Kafka's jars are.
#[derive(Clone, Debug)]
pub struct Kafka {
    class_path: String,
}

/// One at a time: two scenarios may want the same jars.
static FETCHING: Mutex<()> = Mutex::new(());

impl Kafka {
    /// Fetches what `tests/peers/pom.xml` names, once.
    pub fn fetch() -> Result<Self> {
        let _guard = FETCHING.lock();
        let pom = repository().join("tests/peers/pom.xml");
        let folder = target().join("peers");
        let done = folder.join("pom.fetched");
        let wanted = std::fs::read(&pom)?;
        if std::fs::read(&done).ok().as_ref() != Some(&wanted) {
            std::fs::create_dir_all(&folder)?;
            let maven = || {
                let mut command = leash::command(Path::new("mvn"))?;
                // Without -U it remembers for a day what it could not get.
                command.args(["-q", "-B", "-U", "dependency:copy-dependencies", "-DincludeScope=runtime", "-f"]);
                command.arg(&pom).arg(format!("-DoutputDirectory={}", folder.join("jars").display()));
                Ok(command)
            };
            process::run_patiently("mvn", maven, &folder.join("mvn.log"), Duration::from_mins(10))?;
            std::fs::write(&done, wanted)?;
        }
        let java = Command::new("java").arg("-version").output().context("java, 17 or later")?;
        ensure!(java.status.success(), "java does not run");
        Ok(Self { class_path: folder.join("jars/*").display().to_string() })
    }

    /// A Java program of Kafka's, or a source file of ours, on the leash. `heap` is java's own -Xmx notation.
    pub fn program(&self, main_class: &str, heap: &str) -> Result<Command> {
        let mut command = leash::command(Path::new("java"))?;
        // For programs that are over within seconds, most of which is the virtual machine's own start.
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        command.arg(format!("-Xmx{heap}")).args(["-cp", &self.class_path]);
        command.arg(format!("-Dlog4j2.configurationFile={}", repository().join("tests/peers/log4j2.xml").display()));
        command.arg(main_class);
        Ok(command)
    }

    /// A broker with the flags that Kafka's own start script gives it (`kafka-server-start.sh`,
    /// `kafka-run-class.sh`), so that it is measured at its best. In a network namespace, if one is given.
    pub fn broker(&self, properties: &Path, namespace: Option<&Path>) -> Result<Command> {
        let mut command = network::command_in(namespace, Path::new("java"))?;
        command.args(["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
        command.args(["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]);
        command.args(["-Djava.awt.headless=true", "-cp", &self.class_path]);
        command.arg(format!("-Dlog4j2.configurationFile={}", repository().join("tests/peers/log4j2.xml").display()));
        command.arg("kafka.Kafka").arg(properties);
        Ok(command)
    }

    /// Formats a broker's storage, which Kafka wants done before its first start.
    pub fn format(&self, properties: &Path, log: &Path) -> Result<()> {
        let mut command = self.program("kafka.tools.StorageTool", "256m")?;
        command.args(["format", "-t", "Y2hyb25pay1wZWVyLXRlcw", "-c"]).arg(properties);
        let status = Process::start("kafka-storage format", command, log)?.wait(Duration::from_mins(1))?;
        ensure!(status.success(), "kafka-storage format ended with {status}; see {}", log.display());
        Ok(())
    }
}

/// The folder and the ports that one of Kafka's brokers is given.
#[derive(Clone, Debug)]
pub struct Place {
    /// The node id.
    pub id: i32,
    /// Where it listens.
    pub host: Ipv4Addr,
    /// Where its log goes.
    pub data: PathBuf,
    /// For clients and brokers.
    pub kafka_port: u16,
    /// For the controller quorum.
    pub controller_port: u16,
}

/// The properties of a combined broker and controller among `places`.
pub fn properties(me: &Place, places: &[Place], extra: &[(String, String)]) -> String {
    let voters: Vec<_> = places.iter().map(|p| format!("{}@{}:{}", p.id, p.host, p.controller_port)).collect();
    let replicas = places.len().min(3);
    let mut text = format!(
        "process.roles=broker,controller\nnode.id={}\ncontroller.quorum.voters={}\ncontroller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://{host}:{},CONTROLLER://{host}:{}\nlog.dirs={}\n\
         offsets.topic.replication.factor={replicas}\ntransaction.state.log.replication.factor={replicas}\n\
         default.replication.factor={replicas}\nmin.insync.replicas={}\n",
        me.id,
        voters.join(","),
        me.kafka_port,
        me.controller_port,
        me.data.display(),
        replicas.min(2),
        host = me.host,
    );
    for (key, value) in extra {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}
