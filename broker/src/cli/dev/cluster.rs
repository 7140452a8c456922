//! The cluster that runs here: its processes, what is known of it, and the screen that shows it.

use super::keys::Key;
use super::layout::{Layout, Planned};
use super::probe::{OfBroker, Probed};
use super::process::{Ended, Event, Process};
use super::screen::Screen;
use super::view::{Phase, Shown};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::Instant;
use tokio::sync::mpsc;

/// Lines that a broker logged last, shown when it fails.
const LAST_LINES: usize = 10;

/// A cluster on this machine.
#[derive(Debug)]
pub(super) struct Cluster {
    layout: Layout,
    program: PathBuf,
    brokers: Vec<One>,
    events: mpsc::Sender<Event>,
    probed: Probed,
    shown: Shown,
    /// The broker that keys are for, in the layout's order.
    chosen: usize,
    screen: Screen,
    /// Whether what brokers log is shown.
    verbose: bool,
    greeted: bool,
    /// All are being stopped: that they end is no news.
    ending: bool,
    began: Instant,
}

/// One of its brokers.
#[derive(Debug)]
struct One {
    planned: Planned,
    process: Option<Process>,
    phase: Phase,
    /// When its process was last started, or ended.
    changed: Instant,
    last_lines: VecDeque<String>,
}

impl Cluster {
    /// None of its brokers runs yet.
    pub(super) fn new(layout: Layout, events: mpsc::Sender<Event>, screen: Screen, verbose: bool) -> io::Result<Self> {
        let one = |planned: &Planned| One {
            planned: planned.clone(),
            process: None,
            phase: Phase::Stopped,
            changed: Instant::now(),
            last_lines: VecDeque::with_capacity(LAST_LINES),
        };
        Ok(Self {
            brokers: layout.brokers.iter().map(one).collect(),
            layout,
            program: std::env::current_exe()?,
            events,
            probed: Probed::default(),
            shown: Shown::default(),
            chosen: 0,
            screen,
            verbose,
            greeted: false,
            ending: false,
            began: Instant::now(),
        })
    }

    /// Starts a broker that does not run, in the layout's order.
    pub(super) fn start(&mut self, index: usize) -> io::Result<()> {
        let Some(one) = self.brokers.get_mut(index).filter(|one| !one.phase.runs()) else { return Ok(()) };
        let process = Process::start(&self.program, &one.planned, self.events.clone())?;
        let (id, file) = (one.planned.id, one.planned.file.display());
        let line = format!("broker {id}  pid {}  {}  {file}", process.pid, one.planned.address());
        one.last_lines.clear();
        one.process = Some(process);
        one.changed = Instant::now();
        one.phase = Phase::Running { served: false };
        self.screen.say(&line)
    }

    pub(super) fn start_all(&mut self) -> io::Result<()> {
        (0..self.brokers.len()).try_for_each(|index| self.start(index))
    }

    /// Stops all that run.
    pub(super) fn stop_all(&mut self) {
        self.ending = true;
        for one in &mut self.brokers {
            if let Some(process) = &mut one.process {
                process.stop();
            }
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.brokers.iter().any(|one| one.phase.runs())
    }

    /// Nobody is left, and nobody is there to start them.
    pub(super) fn is_over(&self) -> bool {
        !self.is_running() && !self.screen.is_terminal()
    }

    /// Whether somebody at a terminal presses keys.
    pub(super) fn has_keys(&self) -> bool {
        self.screen.is_terminal()
    }

    /// The screen becomes an ordinary one again.
    pub(super) fn leave_screen(&mut self) {
        self.screen = Screen::Lines;
    }

    pub(super) fn say(&mut self, line: &str) -> io::Result<()> {
        self.screen.say(line)
    }

    /// Does what a key asks for.
    pub(super) fn pressed(&mut self, key: Key) -> io::Result<()> {
        match key {
            Key::Up => self.chosen = self.chosen.saturating_sub(1),
            Key::Down => self.chosen = (self.chosen + 1).min(self.brokers.len().saturating_sub(1)),
            Key::Number(id) => {
                let found = self.brokers.iter().position(|one| one.planned.id == id);
                self.chosen = found.unwrap_or(self.chosen);
            }
            Key::Start => {
                // The others go on without it.
                if let Err(error) = self.start(self.chosen) {
                    self.say(&format!("broker {} cannot be started: {error}", self.brokers[self.chosen].planned.id))?;
                }
            }
            Key::Stop | Key::Kill => {
                let one = &mut self.brokers[self.chosen];
                match (&mut one.process, key) {
                    (Some(process), Key::Stop) => {
                        process.stop();
                        one.phase = Phase::Stopping;
                    }
                    (Some(process), _) => process.kill(),
                    (None, _) => {}
                }
            }
            Key::End => {}
        }
        self.show()
    }

    /// Takes in what happened to a broker.
    pub(super) fn happened(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Said(id, line) => {
                if let Some(one) = self.brokers.iter_mut().find(|one| one.planned.id == id) {
                    if one.last_lines.len() == LAST_LINES {
                        one.last_lines.pop_front();
                    }
                    one.last_lines.push_back(line.clone());
                }
                if self.verbose { self.say(&format!("[{id}] {}", without_date(&line))) } else { Ok(()) }
            }
            Event::Ended(ended) => self.ended(&ended),
        }
    }

    fn ended(&mut self, ended: &Ended) -> io::Result<()> {
        let Some(index) = self.brokers.iter().position(|one| one.planned.id == ended.broker) else { return Ok(()) };
        let one = &mut self.brokers[index];
        one.process = None;
        one.changed = Instant::now();
        one.phase = match ended {
            _ if ended.by_signal() => Phase::Killed,
            _ if ended.well() => Phase::Stopped,
            _ => Phase::Failed,
        };
        if let Some(of_broker) = self.probed.brokers.get_mut(index) {
            *of_broker = OfBroker::default();
        }
        if self.ending && one.phase == Phase::Stopped {
            return Ok(());
        }
        let mut lines = vec![format!("broker {} (pid {}) {}", ended.broker, ended.pid, ended.how())];
        if one.phase == Phase::Failed && !self.verbose {
            lines.extend(one.last_lines.iter().map(|line| format!("[{}] {}", ended.broker, without_date(line))));
        }
        if !self.screen.is_terminal() && !self.ending {
            lines.push("To bring it back, in another terminal:".to_owned());
            lines.push(format!("    {} serve --config {}", self.program.display(), one.planned.file.display()));
        }
        lines.iter().try_for_each(|line| self.say(line))?;
        if self.ending { Ok(()) } else { self.show() }
    }

    /// Takes over the answers to a probe.
    pub(super) fn probed(&mut self, probed: Probed) -> io::Result<()> {
        self.probed = probed;
        for (one, of_broker) in self.brokers.iter_mut().zip(&mut self.probed.brokers) {
            if self.probed.begun.is_some_and(|begun| begun < one.changed) {
                // It may be the process before that answered.
                *of_broker = OfBroker::default();
            }
            if let Phase::Running { served } = &mut one.phase {
                *served |= of_broker.ready;
            }
        }
        if !self.greeted && self.probed.brokers.iter().all(|broker| broker.ready) && !self.probed.brokers.is_empty() {
            self.greeted = true;
            self.greet()?;
        }
        self.show()
    }

    fn show(&mut self) -> io::Result<()> {
        let brokers = self.brokers.iter().map(|one| (one.planned.id, one.planned.address(), &one.phase));
        let now = Shown::new(brokers, &self.probed);
        if self.screen.is_terminal() {
            self.screen.show(now.table(self.chosen, Screen::width()))?;
        } else {
            let seconds = self.began.elapsed().as_secs_f64();
            for line in now.changes(&self.shown) {
                self.screen.say(&format!("{seconds:6.1} s  {line}"))?;
            }
        }
        // What nobody is sure of at the moment is compared with what was last known.
        let (partitions, controller) = (self.shown.partitions.take(), self.shown.controller);
        self.shown = Shown {
            partitions: now.partitions.or(partitions),
            controller: now.controller.or(controller),
            brokers: now.brokers,
        };
        Ok(())
    }

    fn greet(&mut self) -> io::Result<()> {
        let all: Vec<String> = self.layout.brokers.iter().map(Planned::address).collect();
        let first = &all[0];
        let mut lines = vec![
            String::new(),
            format!("Ready. Kafka clients connect to {}", all.join(",")),
            format!("    echo hello | kcat -b {first} -t greetings -P -X acks=all"),
            format!("    kcat -b {first} -t greetings -C -e"),
        ];
        if !self.screen.is_terminal() {
            lines.push(format!("Ctrl-C stops the brokers; the data stays in {}", self.layout.dir.display()));
        }
        lines.push(String::new());
        lines.iter().try_for_each(|line| self.screen.say(line))
    }
}

/// A terminal shows lines as they come: the time of day is enough.
fn without_date(line: &str) -> &str {
    match line.split_once('T') {
        Some((date, rest)) if date.len() == 10 && date.starts_with("20") => rest,
        _ => line,
    }
}
