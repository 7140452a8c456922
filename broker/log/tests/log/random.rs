//! Any workload, any sizes, any crash, any failed sync: what was committed is there.

use crate::common::{Model, Workload};
use chronik_log::{Log, Options, SimulatedDisk};
use proptest::prelude::*;
use std::path::Path;

/// How a process ends. After the others the kernel goes on, with what it has in memory.
const POWER_CUT: i32 = 0;
const KILL: i32 = 1;
const FAILED_SYNC: i32 = 2;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_committed_is_there_however_processes_ended(
        seed in any::<u64>(),
        ends in prop::collection::vec((1u64..400, 0..3), 1..5),
        wal_segment_bytes in 8192u64..100_000,
        segment_bytes in 1u64..20_000,
        index_interval_bytes in 100u64..5000,
        index_from_bytes in 0u64..5000,
        checkpoint_bytes in 4096u64..200_000,
        max_open_files in 2usize..20,
        write_once_bytes in 1usize..1000,
    ) {
        let options = Options {
            wal_segment_bytes,
            segment_bytes,
            index_interval_bytes,
            index_from_bytes,
            checkpoint_bytes,
            max_open_files,
            write_once_bytes,
            ..Options::default()
        };
        let disk = SimulatedDisk::new(seed);
        let mut workload = Workload::with_all(seed);
        let (mut model, mut unknown) = (Model::default(), Vec::new());
        for (after, end) in ends.into_iter().chain([(u64::MAX / 2, POWER_CUT)]) {
            match end {
                POWER_CUT => disk.crash_after(after),
                KILL => disk.kill_after(after),
                _ => disk.fail_sync_after(after / 3),
            }
            let opened = Log::open(disk.clone(), Path::new("/d"), options);
            if let Ok((mut log, recovered)) = opened {
                log.write_once(!write_once_bytes.is_multiple_of(4));
                prop_assert!(!log.wal_lost(), "a crash loses nothing that was synced");
                let found = Model::found(&log.reader(), &recovered);
                let mut allowed = vec![model.clone()];
                for op in &unknown {
                    let mut next = allowed[allowed.len() - 1].clone();
                    next.apply(op);
                    allowed.push(next);
                }
                prop_assert!(allowed.contains(&found));
                model = found;
                unknown = workload.run(&mut log, &mut model, 60).err().unwrap_or_default();
            } else {
                prop_assert!(disk.is_down() || end == FAILED_SYNC, "it opens when the disk works: {:?}", opened.err());
            }
            if end == POWER_CUT {
                disk.crash();
            }
            disk.restart();
        }
    }
}
