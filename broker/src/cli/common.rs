//! What the commands that talk to a cluster have in common.

use super::client::{Client, ClientError};
use super::output::Output;
use clap::Args;

/// The cluster, and the form of answers.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// A broker to begin with; several are separated by commas.
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The form of answers.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(super) output: Output,
}

impl Common {
    pub(super) fn client(&self) -> Client {
        Client::new(&self.bootstrap)
    }
}

/// Runs a command that talks to a cluster.
pub(super) fn block_on(what: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(what);
    // A read of standard input may never end.
    runtime.shutdown_background();
    done
}

/// `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not of the form KEY=VALUE"))?;
    if key.is_empty() {
        return Err(format!("{text:?} has no key before the ="));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// An error in the middle of several things, with what has become of each.
pub(super) fn done_so_far(error: ClientError, how: &str, done: &[String], left: &[String]) -> anyhow::Error {
    if done.is_empty() {
        return error.into();
    }
    let text = format!("{how}: {}; not {how}: {}", done.join(", "), left.join(", "));
    anyhow::Error::from(error).context(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_ends_its_key_at_the_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }

    #[test]
    fn an_error_in_the_middle_says_what_was_done_and_keeps_its_exit_code() {
        let error = || ClientError::Refused {
            what: "topic b".into(),
            code: chronik_wire::ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            text: None,
        };
        let names = ["a".to_owned(), "b".to_owned()];
        let reported = done_so_far(error(), "deleted", &names[..1], &names[1..]);
        assert!(format!("{reported:#}").starts_with("deleted: a; not deleted: b: topic b: "), "{reported:#}");
        assert_eq!(reported.downcast_ref().map(ClientError::exit_code), Some(4));
        assert!(format!("{:#}", done_so_far(error(), "deleted", &[], &names)).starts_with("topic b: "));
    }
}
