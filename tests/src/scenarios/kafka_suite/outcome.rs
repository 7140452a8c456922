//! How one test ended, as the test JVM writes it.

use anyhow::{Context, Result, bail};

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It failed, and asked for an object inside of a broker.
    Internals,
    /// The suite failed: this says nothing about the broker.
    Error,
    /// It says by itself that it is not for this cluster.
    Skipped,
}

/// One test's outcome.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// `Class#method`, and `[n]` of a method that runs several times.
    pub(super) test: String,
    pub(super) ending: Ending,
    pub(super) millis: u64,
    /// What it failed of, on one line.
    pub(super) error: String,
    /// `API:ERROR` that its clients were answered.
    pub(super) refusals: Vec<String>,
    /// Broker properties that it sets and the broker does not take.
    pub(super) dropped: Vec<String>,
}

impl Outcome {
    /// Reads a line of the test JVM's.
    pub(super) fn parse(line: &str) -> Result<Self> {
        let mut fields = line.split('\t');
        let mut next = || fields.next().with_context(|| format!("not a result: {line:?}"));
        let test = next()?.to_owned();
        let ending = match next()? {
            "passed" => Ending::Passed,
            "failed" => Ending::Failed,
            "internals" => Ending::Internals,
            "error" => Ending::Error,
            "skipped" => Ending::Skipped,
            other => bail!("not an ending: {other:?}"),
        };
        let millis = next()?.parse().with_context(|| format!("not a time: {line:?}"))?;
        let error = next()?.to_owned();
        let mut list =
            || Ok::<_, anyhow::Error>(next()?.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect());
        Ok(Self { test, ending, millis, error, refusals: list()?, dropped: list()? })
    }

    /// A test that was asked for and not heard of.
    pub(super) fn missing(test: &str, why: &str) -> Self {
        let (test, error) = (test.to_owned(), why.to_owned());
        Self { test, ending: Ending::Error, millis: 0, error, refusals: Vec::new(), dropped: Vec::new() }
    }

    /// `Class#method`, which may run several times.
    pub(super) fn method(&self) -> &str {
        method_of(&self.test)
    }

    /// Whether it counts as a failure of the broker, for now or for good.
    pub(super) fn fails(&self) -> bool {
        matches!(self.ending, Ending::Failed | Ending::Internals | Ending::Error)
    }

    /// Its line in `results.tsv`.
    pub(super) fn line(&self) -> String {
        let Self { test, ending, millis, error, refusals, dropped } = self;
        let ending = format!("{ending:?}").to_lowercase();
        format!("{test}\t{ending}\t{millis}\t{error}\t{}\t{}", refusals.join(","), dropped.join(","))
    }
}

/// A test's name without the number of its run.
pub(super) fn method_of(test: &str) -> &str {
    test.split_once('[').map_or(test, |(method, _)| method)
}

#[cfg(test)]
mod tests {
    use super::{Ending, Outcome};

    #[test]
    fn a_line_is_read_as_it_is_written() {
        let line = "a.B#c[2]\tfailed\t17\tAssertionError: no\tFETCH:NONE,X:UNSUPPORTED\t";
        let outcome = Outcome::parse(line).expect("a result");
        assert_eq!((outcome.ending, outcome.method()), (Ending::Failed, "a.B#c"));
        assert_eq!(outcome.refusals, ["FETCH:NONE", "X:UNSUPPORTED"]);
        assert_eq!(outcome.line(), line);
    }

    #[test]
    fn a_line_that_was_cut_is_no_result() {
        assert!(Outcome::parse("a.B#c\tpassed\t17").is_err());
        assert!(Outcome::parse("a.B#c\tpasse").is_err());
    }
}
