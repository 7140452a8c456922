//! What a scenario found: tables and checks, printed and kept as JSON.

use crate::harness::target;
use anyhow::Result;
use serde::Serialize;
use std::fmt::Display;
use std::time::{Duration, Instant};

/// One thing that had to hold.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What had to hold, as a sentence.
    pub name: String,
    /// Whether it did.
    pub passed: bool,
    /// What was seen.
    pub detail: String,
}

/// Figures in rows.
#[derive(Debug, Serialize)]
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self { title: title.to_owned(), columns: columns.iter().map(|c| (*c).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row with as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// Its rows of cells.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    fn print(&self) {
        let lines = || std::iter::once(&self.columns).chain(&self.rows);
        let width = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        println!("\n{}", self.title);
        for line in lines() {
            let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("  {}", cells.join("  ").trim_end());
        }
    }
}

/// The report of one subcommand.
#[derive(Debug, Serialize)]
pub struct Report {
    name: String,
    tables: Vec<Table>,
    checks: Vec<Check>,
    could_not_run: Vec<String>,
    seconds: f64,
    #[serde(skip)]
    started: Instant,
}

impl Report {
    /// An empty report.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tables: Vec::new(),
            checks: Vec::new(),
            could_not_run: Vec::new(),
            seconds: 0.0,
            started: Instant::now(),
        }
    }

    /// Prints a table and keeps it.
    pub fn table(&mut self, table: Table) {
        table.print();
        self.tables.push(table);
    }

    /// Says whether something held.
    pub fn check(&mut self, name: impl Display, passed: bool, detail: impl Display) -> bool {
        let check = Check { name: name.to_string(), passed, detail: detail.to_string() };
        println!("{} {}: {}", if passed { "pass" } else { "FAIL" }, check.name, check.detail);
        self.checks.push(check);
        passed
    }

    /// The same for something that ends with an error when it does not hold.
    pub fn check_result(&mut self, name: impl Display, result: Result<String>) -> bool {
        match result {
            Ok(detail) => self.check(name, true, detail),
            Err(e) => self.check(name, false, format!("{e:#}")),
        }
    }

    /// Whether something did not hold.
    pub fn has_failures(&self) -> bool {
        self.checks.iter().any(|c| !c.passed)
    }

    /// Names what this machine cannot do; `--all` makes it a failure.
    pub fn could_not_run(&mut self, what: impl Display) {
        println!("could not run: {what}");
        self.could_not_run.push(what.to_string());
    }

    /// Prints the closing line, writes `target/reports/NAME.json`, and says whether all held.
    pub fn finish(mut self, all: bool) -> Result<bool> {
        self.seconds = self.started.elapsed().as_secs_f64();
        let folder = target().join("reports");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{}.json", self.name)), serde_json::to_vec_pretty(&self)?)?;
        let failed = self.checks.iter().filter(|c| !c.passed).count();
        println!("\n{} in {:.0} s", self.name, self.seconds);
        for what in &self.could_not_run {
            println!("could not run: {what}");
        }
        println!("{} passed, {failed} failed", self.checks.len() - failed);
        // What checked nothing has shown nothing.
        Ok(failed == 0 && !self.checks.is_empty() && (!all || self.could_not_run.is_empty()))
    }
}

/// The middle of some measurements, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// A percentile (0 to 100) by linear interpolation; NaN of nothing.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = percent / 100.0 * last as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (place - place.floor())
}

/// A duration in milliseconds, for tables.
pub fn ms(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::{median, percentile};

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_hundredth_percentile_is_the_highest() {
        assert!((percentile(&[1.0, 9.0, 5.0], 100.0) - 9.0).abs() < 1e-9);
    }
}
