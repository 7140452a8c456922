//! What a broker does about a log that has lost something that was durable: it is believed no more, and repaired from
//! its peers, never the other way round.
//!
//! The damaged partitions are cut back to where they are whole, and the data directory gets a new identity: for the
//! controller that is an empty disk, which is in no in-sync set and leads nothing until it has caught up.

use crate::identity::Identity;
use anyhow::bail;
use chronik_log::{Log, Op, RealDisk, RecoveredPartition};
use tracing::warn;

/// Makes a log whole that was recovered with damage, and gives what it holds then.
pub(crate) fn repair(
    log: &mut Log<RealDisk>,
    recovered: Vec<RecoveredPartition>,
    identity: &mut Identity,
    has_peers: bool,
) -> anyhow::Result<Vec<RecoveredPartition>> {
    let damaged: Vec<_> = recovered.iter().filter_map(|p| Some((p.partition, p.damaged?))).collect();
    if damaged.is_empty() {
        return Ok(recovered);
    }
    for (partition, from) in &damaged {
        warn!(%partition, %from, "The disk has lost records from this offset on");
    }
    if !has_peers {
        bail!(
            "the log is damaged in {} partitions and there is no other broker to repair it from: restore the data \
             directory from a copy",
            damaged.len()
        );
    }
    // First the identity: after a crash in between, a log that is cut back must not pass for a whole one.
    identity.renew_directory()?;
    for (partition, from) in damaged {
        let cut = [Op::Truncate { partition, to: from }];
        log.commit(&cut)?;
        log.apply(&cut)?;
    }
    let reader = log.reader();
    Ok(recovered.into_iter().filter_map(|p| reader.state(p.partition)).collect())
}
