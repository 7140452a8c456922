//! How much room the data directory's file system has: looked at now and then, on a thread that may hang with the disk
//! while nothing else does.

use chronik_quorum::DiskSpace;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Between looks.
const EVERY: Duration = Duration::from_secs(5);

/// The room that there is, as last seen; `None` before it was looked at, or when it could not be.
pub(crate) fn watch(dir: &Path, tasks: &TaskTracker, stop: CancellationToken) -> watch::Receiver<Option<DiskSpace>> {
    let (seen, shown) = watch::channel(None);
    let dir = dir.to_owned();
    tasks.spawn(stop.run_until_cancelled_owned(async move {
        loop {
            let dir = dir.clone();
            let looked = tokio::task::spawn_blocking(move || look(&dir)).await;
            seen.send_replace(looked.ok().flatten());
            tokio::time::sleep(EVERY).await;
        }
    }));
    shown
}

fn look(dir: &Path) -> Option<DiskSpace> {
    match rustix::fs::statvfs(dir) {
        Ok(volume) => {
            let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
            Some(DiskSpace { total: bytes(volume.f_blocks), free: bytes(volume.f_bavail) })
        }
        Err(error) => {
            debug!(dir = %dir.display(), %error, "Cannot ask how much room there is");
            None
        }
    }
}
