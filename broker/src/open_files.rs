//! How many files and sockets this process may have open. Many systems start a process with room for 1024 of them and
//! allow it more, if it asks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Besides connections of clients and the log's segments: connections of peers, the WAL, and what is open for a moment.
const OTHERS: usize = 256;
/// What the log gets at least, if there is as much, and has use for at most.
const LOG: (usize, usize) = (512, 16 * 1024);

/// Who may have how many of them open. Clients get what the others leave: the log ends the process when it cannot open
/// the file that it needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    /// The log's segments.
    pub(crate) log: usize,
    /// Clients' connections.
    pub(crate) connections: usize,
}

impl OpenFiles {
    /// Asks for as many as there may be, and divides them; there should be so many connections.
    pub(crate) fn divide(connections: usize) -> Self {
        let maximum = getrlimit(Resource::Nofile).maximum;
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            warn!(%error, "The limit on open files cannot be raised");
        }
        let limit =
            getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let divided = Self::of(limit, connections);
        if divided.connections < connections {
            let (given, wanted) = (divided.connections, connections);
            warn!(limit, "The limit on open files (ulimit -n) leaves {given} of max.connections={wanted}");
        }
        divided
    }

    fn of(limit: usize, connections: usize) -> Self {
        let log = limit.saturating_sub(connections.saturating_add(OTHERS)).clamp(LOG.0.min(limit / 2), LOG.1);
        Self { log, connections: connections.min(limit.saturating_sub(OTHERS + log)).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_and_the_connections_share_what_there_is() {
        for (limit, wanted, log, connections) in [
            (1024, 10_000, 512, 256),
            (20_000, 10_000, 9_744, 10_000),
            (1 << 20, 10_000, 16 * 1024, 10_000),
            (usize::MAX, usize::MAX, 512, usize::MAX - 768),
        ] {
            assert_eq!(OpenFiles::of(limit, wanted), OpenFiles { log, connections }, "{limit} files, {wanted} wanted");
        }
    }

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        OpenFiles::divide(0);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
