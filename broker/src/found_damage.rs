//! What the log is known to have lost, for the controller's leader, who tells whoever asks how the cluster is.

use chronik_core::ids::TopicPartition;
use chronik_log::{LogReader, RealDisk};
use chronik_quorum::{DamagedLog, Damages};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between looks at what was damaged: whether it is still, and how far.
const EVERY: Duration = Duration::from_secs(1);

/// What is damaged, as last looked at. All partitions are looked at once; then those only of which a read has found it.
pub(crate) fn watch(
    reader: LogReader<RealDisk>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> watch::Receiver<Arc<Damages>> {
    let (finds, mut found) = mpsc::unbounded_channel();
    reader.watch_damage(move |partition, _| {
        // The broker may be stopping.
        let _ = finds.send(partition);
    });
    let mut known: BTreeSet<TopicPartition> = reader.partitions().into_iter().collect();
    let (seen, shown) = watch::channel(Arc::new(look(&reader, &mut known)));
    tasks.spawn(stop.run_until_cancelled_owned(async move {
        loop {
            tokio::select! {
                Some(partition) = found.recv() => {
                    known.insert(partition);
                    while let Ok(another) = found.try_recv() {
                        known.insert(another);
                    }
                }
                () = tokio::time::sleep(EVERY), if !known.is_empty() => {}
            }
            let now = look(&reader, &mut known);
            seen.send_if_modified(|before| {
                let changed = **before != now;
                if changed {
                    *before = Arc::new(now);
                }
                changed
            });
        }
    }));
    shown
}

/// Keeps those that are damaged.
fn look(reader: &LogReader<RealDisk>, known: &mut BTreeSet<TopicPartition>) -> Damages {
    known.retain(|partition| reader.damaged(*partition).is_some());
    let damage = |partition: &TopicPartition| {
        let damage = reader.damage(*partition)?;
        Some(DamagedLog { partition: *partition, from: damage.from, to: damage.to })
    };
    Damages::of(known.iter().filter_map(damage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::tests::{flip_bit, open, segment, tp, written};
    use chronik_core::ids::Offset;
    use chronik_log::Op;

    #[tokio::test]
    async fn what_a_read_has_found_is_shown_until_it_is_repaired() {
        let dir = written();
        let (mut log, _) = open(dir.path());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut shown = watch(log.reader(), &tasks, stop.clone());
        assert_eq!(**shown.borrow_and_update(), Damages::default());
        flip_bit(&segment(dir.path(), tp(1)), 25_000);
        assert!(log.reader().check(tp(1), |_| {}).is_err());
        shown.changed().await.expect("it is found");
        let found = DamagedLog { partition: tp(1), from: Offset(1), to: Some(Offset(1)) };
        assert_eq!(**shown.borrow_and_update(), Damages { total: 1, first: vec![found] });
        // Who begins to look now finds it too.
        assert_eq!(watch(log.reader(), &tasks, stop.clone()).borrow().total, 1);
        let cut = [Op::Repair { partition: tp(1), to: Offset(1) }];
        log.commit(&cut).expect("the disk is whole");
        log.apply(&cut).expect("the disk is whole");
        shown.changed().await.expect("it is gone");
        assert_eq!(**shown.borrow_and_update(), Damages::default());
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
