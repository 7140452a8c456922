//! `perf` and `strace`, attached to running processes, and what they say.

use super::process::Process;
use super::{leash, wait};
use anyhow::{Context as _, Result, bail, ensure};
use inferno::collapse::Collapse as _;
use inferno::collapse::perf::Folder;
use inferno::flamegraph::{self, Options as GraphOptions};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a tool may take to write down what it has seen.
const PATIENCE: Duration = Duration::from_mins(5);
/// Samples a second; not a divisor of what other things are timed by.
const FREQUENCY: &str = "499";
/// The system calls that a broker is made of: each is counted by itself where the kernel lets it be.
const SYSTEM_CALLS: [&str; 30] = [
    "accept4",
    "clone3",
    "close",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "fallocate",
    "fdatasync",
    "fsync",
    "futex",
    "io_uring_enter",
    "madvise",
    "mmap",
    "munmap",
    "openat",
    "pread64",
    "preadv",
    "pwrite64",
    "pwritev",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "sched_yield",
    "sendfile64",
    "sendmsg",
    "sendto",
    "sync_file_range",
    "write",
    "writev",
];
/// Functions whose calls are counted: what they mean, and their names, or what is in the symbols of tokio's.
const FUNCTIONS: [(&str, &[&str]); 2] = [
    ("allocations", &["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"]),
    ("task wakes", &["wake_by_val", "wake_by_ref"]),
];

/// What the symbols of tokio's wakers have in them, however they are mangled.
const TASK_WAKERS: &str = "runtime4task5waker";

/// A tool that watches until it is told to stop.
#[derive(Debug)]
pub struct Attached {
    process: Process,
    name: &'static str,
    log: PathBuf,
}

/// What was counted, by name.
pub type Counts = BTreeMap<String, f64>;

/// Says what to do if `perf` is not there, or may not look at other processes.
pub fn check() -> Result<()> {
    let runs = Command::new("perf").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(
        runs.is_ok_and(|status| status.success()),
        "perf does not run: install it (Debian: linux-perf, Ubuntu: linux-tools-$(uname -r), Fedora: perf)"
    );
    let tries = Command::new("perf").args(["record", "-o", "/dev/null", "-g", "--", "true"]).output()?;
    ensure!(
        tries.status.success(),
        "perf may not record: lower /proc/sys/kernel/perf_event_paranoid to 1, or be root\n{}",
        String::from_utf8_lossy(&tries.stderr)
    );
    Ok(())
}

impl Attached {
    fn start(name: &'static str, program: &str, arguments: &[&str], log: PathBuf) -> Result<Self> {
        let mut command = leash::command(Path::new(program))?;
        command.args(arguments);
        // What an earlier one said is not this one's.
        let _ = fs::remove_file(&log);
        Ok(Self { process: Process::start(name, command, &log)?, name, log })
    }

    /// Ends it as Ctrl-C does, and returns what it said.
    pub fn stop(self) -> Result<String> {
        let Self { mut process, name, log } = self;
        if let Some(status) = process.has_ended()? {
            bail!("{name} ended by itself ({status}):\n{}", fs::read_to_string(&log).unwrap_or_default());
        }
        process.signal(Signal::INT)?;
        wait::until(&format!("{name} to end"), PATIENCE, || process.has_ended())?;
        Ok(fs::read_to_string(&log)?)
    }
}

/// Begins to take samples of the stacks of these processes.
pub fn record(pids: &[u32], data: &Path) -> Result<Attached> {
    let (pids, path) = (joined(pids), data.display().to_string());
    let arguments = ["record", "-q", "-F", FREQUENCY, "-g", "-o", &path, "-p", &pids];
    Attached::start("perf record", "perf", &arguments, data.with_extension("log"))
}

/// Begins to count system calls, and the threads that they and others woke.
pub fn count_system_calls(pids: &[u32], folder: &Path) -> Result<Attached> {
    let places = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
    let Some(events) = places.iter().map(Path::new).find(|place| place.join("raw_syscalls").is_dir()) else {
        bail!("system calls and woken threads are counted by the kernel's trace events, which only root may read");
    };
    let mut names = vec!["raw_syscalls:sys_enter".to_owned(), "sched:sched_wakeup".to_owned()];
    names.extend(SYSTEM_CALLS.iter().map(|call| format!("syscalls:sys_enter_{call}")).filter(|name| {
        let (group, event) = name.split_once(':').unwrap_or_default();
        events.join(group).join(event).is_dir()
    }));
    stat("perf stat of system calls", &names, pids, folder.join("system-calls.txt"))
}

fn stat(name: &'static str, events: &[String], pids: &[u32], log: PathBuf) -> Result<Attached> {
    let (pids, events) = (joined(pids), events.join(","));
    Attached::start(name, "perf", &["stat", "-x", ",", "-e", &events, "-p", &pids], log)
}

/// What a `perf stat` that was stopped has counted.
pub fn counts(said: &str) -> Counts {
    let mut counts = Counts::new();
    for line in said.lines() {
        let mut fields = line.split(',');
        let (Some(Ok(value)), Some(event)) = (fields.next().map(str::parse::<f64>), fields.nth(1)) else { continue };
        let name = event.rsplit_once(':').map_or(event, |(_, name)| name).trim_start_matches("sys_enter_");
        let name = match event {
            "raw_syscalls:sys_enter" => "system calls",
            "sched:sched_wakeup" => "threads woken",
            _ => name,
        };
        *counts.entry(name.to_owned()).or_default() += value;
    }
    counts
}

/// Probes at the beginning of functions of one program; gone when it is dropped.
#[derive(Debug)]
pub struct Probes {
    group: String,
    events: Vec<String>,
}

impl Probes {
    /// Puts probes on allocation and on the wakes of tasks, which only root may.
    pub fn place(binary: &Path) -> Result<Self> {
        let symbols = output_of(Command::new("nm").arg("--defined-only").arg(binary)).context("nm (binutils)")?;
        let segments = output_of(Command::new("readelf").arg("-lW").arg(binary)).context("readelf (binutils)")?;
        let mut probes = Self { group: format!("chronik{}", std::process::id()), events: Vec::new() };
        for (meaning, functions) in FUNCTIONS {
            let is_meant = |symbol: &str| {
                functions.iter().any(|name| symbol == *name || (symbol.contains(TASK_WAKERS) && symbol.contains(name)))
            };
            for (address, _) in symbols.lines().filter_map(symbol).filter(|(_, symbol)| is_meant(symbol)) {
                let offset = offset(&segments, address).context("a function outside of the program's segments")?;
                let event = format!("{}_{}", meaning.replace(' ', "_"), probes.events.len());
                let definition = format!("p:{}/{event} {}:{offset:#x}", probes.group, binary.display());
                define(&definition)
                    .context("functions are counted by the kernel's uprobes, which only root may place")?;
                probes.events.push(format!("{}:{event}", probes.group));
            }
        }
        ensure!(!probes.events.is_empty(), "{} has no symbols to place probes on", binary.display());
        Ok(probes)
    }

    /// Begins to count.
    pub fn count(&self, pids: &[u32], folder: &Path) -> Result<Attached> {
        stat("perf stat of functions", &self.events, pids, folder.join("functions.txt"))
    }

    /// What was counted, by what the functions mean.
    pub fn sums(said: &str) -> Counts {
        let mut sums = Counts::new();
        for (name, value) in counts(said) {
            let meaning = name.rsplit_once('_').map_or(&*name, |(meaning, _)| meaning).replace('_', " ");
            *sums.entry(meaning).or_default() += value;
        }
        sums
    }
}

/// What a command prints.
fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One line of `nm`: an address and a name.
fn symbol(line: &str) -> Option<(u64, &str)> {
    let mut fields = line.split(' ');
    let address = u64::from_str_radix(fields.next()?, 16).ok()?;
    Some((address, fields.nth(1)?))
}

/// Where in the file an address is, by the lines of `readelf -lW`.
fn offset(segments: &str, address: u64) -> Option<u64> {
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    segments.lines().find_map(|line| {
        let mut fields = line.trim().strip_prefix("LOAD")?.split_whitespace();
        let (offset, start) = (hex(fields.next()?)?, hex(fields.next()?)?);
        let len = hex(fields.nth(1)?)?;
        (start..start + len).contains(&address).then(|| address - start + offset)
    })
}

/// Adds one probe of the kernel's, or removes it.
fn define(probe: &str) -> Result<()> {
    let places = ["/sys/kernel/tracing/uprobe_events", "/sys/kernel/debug/tracing/uprobe_events"];
    let place = places.iter().find(|place| Path::new(place).exists()).context("no uprobe_events")?;
    writeln!(File::options().append(true).open(place)?, "{probe}").with_context(|| format!("add {probe}"))
}

impl Drop for Probes {
    fn drop(&mut self) {
        for event in &self.events {
            // What is left when this fails, fails nobody: it counts nothing without a `perf stat`.
            let _ = define(&format!("-:{}", event.replace(':', "/")));
        }
    }
}

/// Makes the flame graph of what was recorded, and returns the share of the samples of each function that was running.
pub fn flame_graph(data: &Path, svg: &Path, title: &str) -> Result<Vec<(String, f64)>> {
    let stacks = data.with_extension("stacks");
    let mut script = Command::new("perf");
    script.args(["script", "--no-inline", "-i"]).arg(data).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = script.spawn()?;
    let output = child.stdout.take().context("perf's output")?;
    let folded = BufWriter::new(File::create(&stacks)?);
    Folder::default().collapse(BufReader::new(output), folded)?;
    ensure!(child.wait()?.success(), "perf script failed");
    let mut options = GraphOptions::default();
    title.clone_into(&mut options.title);
    flamegraph::from_files(&mut options, std::slice::from_ref(&stacks), BufWriter::new(File::create(svg)?))?;
    Ok(shares(&fs::read_to_string(&stacks)?))
}

/// From lines of `frame;frame;frame count`: which share of all was in each last frame, the greatest first.
fn shares(folded: &str) -> Vec<(String, f64)> {
    let mut own: BTreeMap<&str, f64> = BTreeMap::new();
    let mut all = 0.0;
    for (stack, count) in folded.lines().filter_map(|line| line.rsplit_once(' ')) {
        let count: f64 = count.parse().unwrap_or(0.0);
        *own.entry(stack.rsplit(';').next().unwrap_or(stack)).or_default() += count;
        all += count;
    }
    let mut shares: Vec<_> = own.into_iter().map(|(name, count)| (name.to_owned(), count / all)).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

fn joined(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_named_by_the_system_call() {
        let said = "12,,raw_syscalls:sys_enter,5,100.00,,\n3,,syscalls:sys_enter_futex,5,100.00,,\n\
                    <not counted>,,syscalls:sys_enter_read,0,100.00,,\n4,,sched:sched_wakeup,5,100.00,,\n";
        let expected = [("futex", 3.0), ("system calls", 12.0), ("threads woken", 4.0)];
        assert_eq!(counts(said), expected.map(|(name, n)| (name.to_owned(), n)).into());
    }

    #[test]
    fn functions_with_one_meaning_are_added_up() {
        let said = "5,,chronik7:allocations_0,5,100.00,,\n6,,chronik7:allocations_1,5,100.00,,\n\
                    2,,chronik7:task_wakes_2,5,100.00,,\n";
        let expected = [("allocations", 11.0), ("task wakes", 2.0)];
        assert_eq!(Probes::sums(said), expected.map(|(name, n)| (name.to_owned(), n)).into());
    }

    #[test]
    fn an_address_is_found_in_the_file_by_its_segment() {
        let segments = "  Type  Offset\n  LOAD  0x000000 0x0000000000000000 0x0000000000000000 0x001000 0x001000 R   0x1000\n  \
                        LOAD  0x001000 0x0000000000402000 0x0000000000402000 0x000500 0x000500 R E 0x1000\n";
        assert_eq!(offset(segments, 0x40_2010), Some(0x1010));
        assert_eq!(offset(segments, 0x40_2500), None);
        assert_eq!(symbol("0000000000402010 T malloc"), Some((0x40_2010, "malloc")));
        assert_eq!(symbol(""), None);
    }

    #[test]
    fn a_share_is_that_of_the_function_that_ran() {
        let folded = "thread;main;read 1\nthread;main;write 2\nthread;other;write 1\n";
        assert_eq!(shares(folded), [("write".to_owned(), 0.75), ("read".to_owned(), 0.25)]);
    }
}
