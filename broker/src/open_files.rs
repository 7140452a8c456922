//! How many files and sockets this process may have open. Many systems start a process with room for 1024 of them and
//! allow it more, if it asks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Besides connections of clients and the log's segments: connections of peers, the WAL, and what is open for a moment.
const OTHERS: usize = 1000;
/// What the log gets at least, and has use for at most.
const LOG: (usize, usize) = (512, 16 * 1024);

/// Asks for as many as there may be, and says how many of them the log can keep open beside so many connections.
pub(crate) fn for_the_log(connections: usize) -> usize {
    let before = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before }) {
        warn!(%error, "The limit on open files cannot be raised");
    }
    let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| n as usize);
    debug!(before = ?before.current, limit, "Limit on open files");
    if limit < connections.saturating_add(OTHERS + LOG.0) {
        warn!(limit, connections, "The limit on open files (ulimit -n) is less than max.connections may need");
    }
    share_of_the_log(limit, connections)
}

fn share_of_the_log(limit: usize, connections: usize) -> usize {
    limit.saturating_sub(connections.saturating_add(OTHERS)).clamp(LOG.0, LOG.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_gets_what_connections_leave_within_bounds() {
        for (limit, connections, share) in
            [(1024, 10_000, 512), (20_000, 10_000, 9_000), (1 << 20, 10_000, 16 * 1024), (usize::MAX, usize::MAX, 512)]
        {
            assert_eq!(share_of_the_log(limit, connections), share, "{limit} files, {connections} connections");
        }
    }

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        for_the_log(0);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
