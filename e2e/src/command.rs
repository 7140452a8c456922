//! Running other programs.

use anyhow::{Context, bail};
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a command to its end and returns what it printed; on failure, the error says what it complained of.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    output_with_input(command, "")
}

/// The same, with text on its standard input.
pub(crate) fn output_with_input(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let shown = shown(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why in its own words.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(command.get_program().to_string_lossy().into_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
