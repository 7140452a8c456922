//! Clients that are programs of their own: Python's in a virtual environment, kcat, Kafka's Java tools.

use super::process::{self, Process};
use super::{leash, repository, target, wait};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

static INSTALLING: Mutex<()> = Mutex::new(());

/// A Python with what `tests/clients/requirements.txt` pins; made once.
pub fn python() -> Result<PathBuf> {
    let _guard = INSTALLING.lock();
    let requirements = repository().join("tests/clients/requirements.txt");
    let wanted = fs::read(&requirements)?;
    let folder = target().join("clients");
    let python = folder.join("venv/bin/python3");
    let done = folder.join("requirements.installed");
    if fs::read(&done).ok().as_ref() == Some(&wanted) && python.exists() {
        return Ok(python);
    }
    fs::create_dir_all(&folder)?;
    let log = folder.join("pip.log");
    let mut venv = leash::command(Path::new("python3"))?;
    venv.args(["-m", "venv", "--clear"]).arg(folder.join("venv"));
    let status = Process::start("python3 -m venv", venv, &log)?.wait(Duration::from_mins(2))?;
    ensure!(status.success(), "python3 -m venv ended with {status}; see {}", log.display());
    let pip = || {
        let mut pip = leash::command(&python)?;
        pip.args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements);
        Ok(pip)
    };
    process::run_patiently("pip install", pip, &log, Duration::from_mins(10))?;
    fs::write(&done, wanted)?;
    Ok(python)
}

/// A script of `tests/clients`, on the leash.
pub fn script(python: &Path, name: &str) -> Result<Command> {
    let mut command = leash::command(python)?;
    command.arg(repository().join("tests/clients").join(name));
    Ok(command)
}

/// kcat from the path, or from Debian when this is root on a Debian that lacks it.
pub fn kcat() -> Result<PathBuf> {
    if let Some(found) = on_path("kcat").or_else(|| on_path("kafkacat")) {
        return Ok(found);
    }
    ensure!(on_path("apt-get").is_some() && rustix::process::getuid().is_root(), "kcat is not installed");
    fs::create_dir_all(target())?;
    let log = target().join("apt-get.log");
    for arguments in [&["update"][..], &["install", "-y", "--no-install-recommends", "kcat"]] {
        let apt_get = || {
            let mut command = leash::command(Path::new("apt-get"))?;
            command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
            Ok(command)
        };
        // What matters is whether kcat is there in the end: an update may fail for packages that nobody asks for.
        let _ = process::run_patiently("apt-get", apt_get, &log, Duration::from_mins(5));
    }
    on_path("kcat").with_context(|| format!("kcat is not installed, and apt-get could not; see {}", log.display()))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// What a program said, and how it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
    /// Its exit code was 0.
    pub success: bool,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
}

impl Outcome {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Fails unless the program succeeded, with what it said.
    pub fn succeeded(self) -> Result<Self> {
        if !self.success {
            bail!("it failed: {}{}", shorten(&self.text()), shorten(&self.err));
        }
        Ok(self)
    }

    /// The end of standard error, on one line.
    pub fn err_tail(&self) -> String {
        shorten(&self.err).lines().next_back().unwrap_or_default().to_owned()
    }

    /// Fails unless standard output contains this.
    pub fn says(self, what: &str) -> Result<Self> {
        let text = self.text();
        ensure!(text.contains(what), "expected {what:?} in: {}{}", shorten(&text), shorten(&self.err));
        Ok(self)
    }
}

fn shorten(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|l| !l.trim_start().starts_with("at ")).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Runs a command of [`leash::command`] to its end with this on its standard input.
pub fn run(mut command: Command, input: &[u8], patience: Duration) -> Result<Outcome> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = command.get_args().nth(2).map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
    let mut child = leash::spawn(command).with_context(|| format!("start {name}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends before it has read all is judged by what it says, not here.
            let _ = stdin.map(|mut pipe| pipe.write_all(input));
        });
        let out = scope.spawn(move || read(stdout));
        let err = scope.spawn(move || read(stderr));
        let status = wait::until(&format!("{name} to end"), patience, || Ok(child.try_wait()?));
        if status.is_err() {
            child.kill()?;
            child.wait()?;
        }
        let out = out.join().unwrap_or_default();
        let err = String::from_utf8_lossy(&err.join().unwrap_or_default()).into_owned();
        let status = status.with_context(|| shorten(&err))?;
        Ok(Outcome { out, err, success: status.success(), code: status.code() })
    })
}

fn read(pipe: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read before an error is what there is to judge by.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    bytes
}
