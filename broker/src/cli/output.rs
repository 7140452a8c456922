//! How answers are shown: a table for people, JSON for programs.

use clap::ValueEnum;
use serde_json::{Map, Value};
use std::io::{IsTerminal as _, Write as _};

/// The form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A table.
    Text,
    /// JSON.
    Json,
}

/// Says what was done to a program; people hear of what was not.
pub(super) fn say_done(
    output: Output,
    columns: &'static [&'static str],
    rows: impl Iterator<Item = Vec<Value>>,
) -> anyhow::Result<()> {
    if output == Output::Text {
        return Ok(());
    }
    Table { columns, rows: rows.collect() }.print(output)
}

/// Rows under column names.
#[derive(Debug)]
pub(super) struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Table {
    pub(super) fn new(columns: &'static [&'static str]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row, which has as many cells as there are columns.
    pub(super) fn row(&mut self, cells: Vec<Value>) {
        self.rows.push(cells);
    }

    /// Prints it.
    pub(super) fn print(&self, output: Output) -> anyhow::Result<()> {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let text = match output {
            Output::Text => self.text(colours),
            Output::Json => format!("{}\n", serde_json::to_string_pretty(&self.json())?),
        };
        Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
    }

    /// An array of objects, whose keys are the column names with underscores.
    pub(super) fn json(&self) -> Value {
        let object = |row: &Vec<Value>| {
            let cells = self.columns.iter().zip(row).map(|(name, cell)| (name.replace(' ', "_"), cell.clone()));
            Value::Object(cells.collect::<Map<_, _>>())
        };
        Value::Array(self.rows.iter().map(object).collect())
    }

    fn text(&self, colours: bool) -> String {
        let heads = self.columns.iter().map(|c| c.to_uppercase()).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        let width = |i: usize| {
            let cells = rows.iter().filter_map(|row| row.get(i)).map(|c| c.chars().count());
            cells.chain([heads[i].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut text = if colours { format!("\x1b[1m{}\x1b[0m\n", line(&heads)) } else { line(&heads) + "\n" };
        for row in &rows {
            text.push_str(&line(row));
            text.push('\n');
        }
        text
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(all) => all.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Text without what would steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Table {
        let mut table = Table::new(&["topic", "in sync"]);
        table.row(vec![json!("orders"), json!([0, 1])]);
        table.row(vec![json!("a\x1b"), Value::Null]);
        table
    }

    #[test]
    fn a_table_is_aligned_and_coloured_only_where_asked_for() {
        assert_eq!(table().text(false), "TOPIC   IN SYNC\norders  0,1\na\u{fffd}      -\n");
        assert!(table().text(true).starts_with("\x1b[1mTOPIC   IN SYNC\x1b[0m\n"));
    }

    #[test]
    fn json_keeps_types_and_names_columns() {
        assert_eq!(table().json()[0], json!({"topic": "orders", "in_sync": [0, 1]}));
        assert_eq!(table().json()[1], json!({"topic": "a\x1b", "in_sync": null}));
    }
}
