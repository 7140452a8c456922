//! A network for brokers that are real processes, each in a network namespace of its own, and for this process in
//! another one, through which all that they send to each other goes. What it sends on, drops or delays is changed at once.
//!
//! All of it belongs to namespaces that this process has to itself, and ends with it.

use super::{leash, namespaces, packets};
use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// Where `ip netns` keeps its own.
const NAMES: &str = "/run/netns";
/// Whose packets are held: of [`Fault::Late`], and of [`Fault::Far`].
const LATE_QUEUE: u16 = 1;
const FAR_QUEUE: u16 = 2;
/// One way over a wide area.
const FAR_DELAY: Duration = Duration::from_millis(25);
/// Which part of the packets is lost on that way.
const FAR_LOSS: f64 = 0.01;

/// Who sends or gets something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The broker with this id.
    Broker(usize),
    /// All clients: this process.
    Clients,
}

/// What becomes of what one sends to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is dropped, without an error for either side.
    Lost,
    /// It comes later by what the network was made for.
    Late,
    /// It goes over a wide area: a packet takes 25 ms, and one in a hundred is lost.
    Far,
    /// What goes to this TCP port is dropped, and nothing else.
    LostTo(u16),
}

/// From whom, to whom, and what becomes of it.
pub type Rule = (Host, Host, Fault);

/// Lines between brokers, all of which go through this process's network namespace.
#[derive(Debug)]
pub struct Network {
    brokers: usize,
    delay: Duration,
    holds_late: OnceLock<()>,
    holds_far: OnceLock<()>,
}

impl Network {
    /// Has this program run in namespaces of its own from its beginning, and makes the network there.
    pub fn enter(brokers: usize, delay: Duration) -> Result<Self> {
        namespaces::enter(&["--mount", "--net"])?;
        // `ip` wants to keep names there, which others must not see.
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        fs::create_dir_all(NAMES)?;
        run("ip", &["link", "set", "lo", "up"])?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("have packets forwarded")?;
        let network = Self { brokers, delay, holds_late: OnceLock::new(), holds_far: OnceLock::new() };
        (0..brokers).try_for_each(|id| network.connect(id))?;
        network.set(&[])?;
        Ok(network)
    }

    fn connect(&self, id: usize) -> Result<()> {
        let (name, line) = (name(id), line(id));
        let (here, there) = (format!("10.77.{id}.1"), self.address(id));
        run("ip", &["netns", "add", &name])?;
        run("ip", &["link", "add", &line, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
        run("ip", &["addr", "add", &format!("{here}/30"), "dev", &line])?;
        run("ip", &["link", "set", &line, "up"])?;
        let within = |arguments: &[&str]| run("ip", &[&["-n", &name], arguments].concat());
        within(&["addr", "add", &format!("{there}/30"), "dev", "eth0"])?;
        within(&["link", "set", "eth0", "up"])?;
        within(&["link", "set", "lo", "up"])?;
        within(&["route", "add", "default", "via", &here])
    }

    /// The address of a broker, of which there are few.
    pub fn address(&self, id: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, id as u8, 2)
    }

    /// Where a broker's namespace is.
    pub fn namespace(&self, id: usize) -> PathBuf {
        Path::new(NAMES).join(name(id))
    }

    /// How many brokers it was made for.
    pub fn brokers(&self) -> usize {
        self.brokers
    }

    /// All that is wrong with it from now on; nothing, if there are no rules. It changes in one step.
    pub fn set(&self, rules: &[Rule]) -> Result<()> {
        for (fault, holds, queue, delay) in [
            (Fault::Late, &self.holds_late, LATE_QUEUE, self.delay),
            (Fault::Far, &self.holds_far, FAR_QUEUE, FAR_DELAY),
        ] {
            if rules.iter().any(|(_, _, of_rule)| *of_rule == fault) && holds.get().is_none() {
                packets::delay_by(queue, delay)?;
                holds.get_or_init(|| ());
            }
        }
        let mut filter =
            Command::new("iptables-restore").stdin(Stdio::piped()).spawn().context("run iptables-restore")?;
        filter.stdin.take().context("its input")?.write_all(table(rules).as_bytes())?;
        let status = filter.wait()?;
        ensure!(status.success(), "iptables-restore ended with {status}");
        Ok(())
    }
}

/// A command as [`leash::command`] makes it, in a network namespace, if one is given.
pub fn command_in(namespace: Option<&Path>, program: &Path) -> Result<Command> {
    let Some(namespace) = namespace else { return leash::command(program) };
    let mut command = leash::command(Path::new("nsenter"))?;
    command.arg(format!("--net={}", namespace.display())).arg(program);
    Ok(command)
}

fn name(id: usize) -> String {
    format!("broker-{id}")
}

fn line(id: usize) -> String {
    format!("to-broker-{id}")
}

/// The whole table `filter`, as `iptables-restore` reads it.
fn table(rules: &[Rule]) -> String {
    let mut text = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n".to_owned();
    for (from, to, fault) in rules {
        let place = match (from, to) {
            (Host::Broker(from), Host::Broker(to)) => format!("FORWARD -i {} -o {}", line(*from), line(*to)),
            (Host::Broker(from), Host::Clients) => format!("INPUT -i {}", line(*from)),
            (Host::Clients, Host::Broker(to)) => format!("OUTPUT -o {}", line(*to)),
            (Host::Clients, Host::Clients) => continue,
        };
        if *fault == Fault::Far {
            let _ = writeln!(text, "-A {place} -m statistic --mode random --probability {FAR_LOSS} -j DROP");
        }
        let what = match fault {
            Fault::Lost => "-j DROP".to_owned(),
            Fault::Late => format!("-j NFQUEUE --queue-num {LATE_QUEUE}"),
            Fault::Far => format!("-j NFQUEUE --queue-num {FAR_QUEUE}"),
            Fault::LostTo(port) => format!("-p tcp --dport {port} -j DROP"),
        };
        let _ = writeln!(text, "-A {place} {what}");
    }
    text.push_str("COMMIT\n");
    text
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?} ended with {}: {said}", output.status);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_stands_in_the_chain_that_its_packets_go_through() {
        let rules = [
            (Host::Broker(0), Host::Broker(1), Fault::Lost),
            (Host::Broker(2), Host::Clients, Fault::Lost),
            (Host::Clients, Host::Broker(2), Fault::Late),
        ];
        let expected = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n\
                        -A FORWARD -i to-broker-0 -o to-broker-1 -j DROP\n\
                        -A INPUT -i to-broker-2 -j DROP\n\
                        -A OUTPUT -o to-broker-2 -j NFQUEUE --queue-num 1\nCOMMIT\n";
        assert_eq!(table(&rules), expected);
    }

    #[test]
    fn what_is_far_is_lost_now_and_then_and_what_is_left_of_it_is_held() {
        let rules =
            [(Host::Broker(0), Host::Broker(1), Fault::Far), (Host::Broker(2), Host::Broker(1), Fault::LostTo(9))];
        let expected = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n\
                        -A FORWARD -i to-broker-0 -o to-broker-1 \
                        -m statistic --mode random --probability 0.01 -j DROP\n\
                        -A FORWARD -i to-broker-0 -o to-broker-1 -j NFQUEUE --queue-num 2\n\
                        -A FORWARD -i to-broker-2 -o to-broker-1 -p tcp --dport 9 -j DROP\nCOMMIT\n";
        assert_eq!(table(&rules), expected);
    }
}
