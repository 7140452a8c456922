//! A seed that breaks a rule is run again for its trace, which has to tell the same story.

use crate::checker::{Invariant, Violation};
use crate::options::{Options, Report};
use crate::run;

/// Runs one seed, and once more with the trace when it breaks a rule.
pub fn run_and_explain(options: &Options) -> Report {
    let first = run(options.clone());
    if first.violation.is_none() || options.trace {
        return first;
    }
    let again = run(Options { trace: true, ..options.clone() });
    confirmed(&first, again)
}

/// The second report of a run. If it differs from the first, that is what is wrong: neither can be relied upon, and what
/// the first found must not be lost.
pub fn confirmed(first: &Report, mut again: Report) -> Report {
    if (first.trace_hash, &first.violation) == (again.trace_hash, &again.violation) {
        return again;
    }
    let story = |report: &Report| {
        let end = report.violation.as_ref().map_or_else(|| "keeps all rules".to_owned(), Violation::to_string);
        format!("trace {:016x}, {} steps, {end}", report.trace_hash, report.steps)
    };
    let how = format!("the first run: {}; the same again: {}", story(first), story(&again));
    again.violation = Some(Violation { invariant: Invariant::Deterministic, how });
    again
}
