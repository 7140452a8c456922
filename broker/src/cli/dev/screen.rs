//! Where it is shown: lines that follow each other, and on a terminal a table that stays below them.

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

/// Standard output.
#[derive(Debug)]
pub(super) enum Screen {
    /// A file, a pipe, or a terminal that somebody else has.
    Lines,
    /// A terminal with a table at its end.
    Terminal(Terminal),
}

/// A terminal, which is as it was again when this is dropped.
#[derive(Debug)]
pub(super) struct Terminal {
    before: Termios,
    table: Vec<String>,
}

impl Screen {
    /// What there is: a table needs a terminal for what is written and for keys, in the foreground.
    pub(super) fn open() -> io::Result<Self> {
        let (input, output) = (io::stdin(), io::stdout());
        let plain = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        if plain || !input.is_terminal() || !output.is_terminal() {
            return Ok(Self::Lines);
        }
        // In the background the kernel would stop whoever changes the terminal.
        if tcgetpgrp(&input).ok() != Some(rustix::process::getpgrp()) {
            return Ok(Self::Lines);
        }
        let before = tcgetattr(&input)?;
        let mut keys = before.clone();
        // Keys come one by one and are not shown. Ctrl-C stays a signal; Ctrl-Z and Ctrl-\ would leave the terminal as it is now.
        keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        keys.special_codes[SpecialCodeIndex::VSUSP] = 0;
        keys.special_codes[SpecialCodeIndex::VQUIT] = 0;
        keys.special_codes[SpecialCodeIndex::VMIN] = 1;
        keys.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&input, OptionalActions::Now, &keys)?;
        write("\x1b[?25l")?;
        Ok(Self::Terminal(Terminal { before, table: Vec::new() }))
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Columns and rows.
    fn size() -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).ok();
        let or = |n: u16, default| if n == 0 { default } else { usize::from(n) };
        size.map_or((80, 24), |size| (or(size.ws_col, 80), or(size.ws_row, 24)))
    }

    /// How long a line may be that does not wrap.
    pub(super) fn width() -> usize {
        Self::size().0
    }

    /// Writes a line, above the table if there is one.
    pub(super) fn say(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Lines => write(&format!("{line}\n")),
            Self::Terminal(terminal) => {
                let (over, table) = (over(terminal.table.len()), lines(&terminal.table));
                write(&format!("{over}\x1b[J{line}\n{table}"))
            }
        }
    }

    /// Puts a table in the place of the one before, as much of it as there is room for.
    pub(super) fn show(&mut self, mut table: Vec<String>) -> io::Result<()> {
        let Self::Terminal(terminal) = self else { return Ok(()) };
        table.truncate(Self::size().1.saturating_sub(1));
        if table == terminal.table {
            return Ok(());
        }
        let text = format!("{}{}\x1b[J", over(terminal.table.len()), lines(&table));
        terminal.table = table;
        write(&text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that is gone.
        let _ = write(&format!("{}\x1b[J\x1b[?25h", over(self.table.len())));
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Back to the first of so many lines.
fn over(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\r\x1b[{lines}A") }
}

/// Lines over those that were there.
fn lines(table: &[String]) -> String {
    table.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}\x1b[K");
        text
    })
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
