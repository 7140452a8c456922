//! The metadata log in bytes: openraft counts its entries alone, of which a few may be as large as thousands of others.

use super::raft_log::LogStore;
use super::types::Raft;
use std::time::Duration;

/// Bytes of entries after which a snapshot is made, and that are kept before it for followers that are not far behind.
const MOST: usize = 64 << 20;
const INTERVAL: Duration = Duration::from_secs(1);

/// What is to be done about the log.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    snapshot: bool,
    /// Entries up to here are not kept.
    purge: Option<u64>,
}

/// By the bytes after the newest snapshot and before its end, and by that end.
fn wanted((after, before, end): (usize, usize, Option<u64>)) -> Wanted {
    Wanted { snapshot: after > MOST, purge: end.filter(|_| before > MOST) }
}

/// Looks after it until it is dropped.
pub(super) async fn keep_small(raft: Raft, log: LogStore) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Wanted { snapshot, purge } = wanted(log.sizes());
        // They fail when raft has ended, which others see to.
        if snapshot && raft.trigger().snapshot().await.is_err() {
            return;
        }
        if let Some(upto) = purge
            && raft.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_many_bytes_is_cut_however_few_its_entries_are() {
        let nothing = Wanted { snapshot: false, purge: None };
        assert_eq!(wanted((MOST, MOST, Some(3))), nothing);
        assert_eq!(wanted((MOST + 1, 0, None)), Wanted { snapshot: true, ..nothing });
        assert_eq!(
            wanted((0, MOST + 1, Some(3))),
            Wanted { purge: Some(3), ..Wanted { snapshot: false, purge: None } }
        );
    }
}
