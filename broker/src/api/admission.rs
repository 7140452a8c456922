//! Checking what producers send, record by record, and where that work is done.
//!
//! Most batches take microseconds, and are checked where their request is read. What may take longer is given to a
//! thread of its own, as everything else on this one would wait for it: a few kilobytes can decompress to gigabytes.

use super::errors::Code as _;
use crate::partitions::Reservation;
use bytes::Bytes;
use chronik_core::record::{
    BatchError, BatchHeader, Compression, Limits, MAX_DECOMPRESSED, RecordBatch, RecordRules, RecordsError, WalkError,
    max_decompressed,
};
use chronik_wire::ErrorCode;
use std::sync::Arc;
use std::thread::available_parallelism;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Batches of up to so many bytes are checked in the connection's own task, if they are not compressed; longer ones on
/// a thread for blocking work.
const INLINE: usize = 2 << 20;
/// The same for compressed batches, by their compressed length.
const INLINE_COMPRESSED: usize = 128 << 10;
/// A compressed batch whose records turn out to be longer than this goes on on such a thread.
const INLINE_DECOMPRESSED: u64 = 256 << 10;

/// Bytes that a batch may decompress to, unless it is long itself. It is in memory as a whole when it is cleaned, and
/// three times over when it is compressed in another way.
const WHOLE: u64 = 64 << 20;
/// How many are compressed in another way at the same time.
const RECOMPRESSED_AT_ONCE: usize = 4;

/// Batches that are checked elsewhere at the same time, whatever the number of processors: reads of the disk want some of
/// those threads too.
const AT_ONCE: usize = 8;

/// Why a batch is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdmissionError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("the broker is stopping")]
    Stopping,
}

impl AdmissionError {
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::Batch(error) => error.code(),
            Self::Records(error) => error.code(),
            Self::Stopping => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        }
    }
}

/// The check of batches, which does as much at once as there are processors.
#[derive(Debug)]
pub(super) struct Admission {
    room: Arc<Semaphore>,
    /// For those that are compressed in another way.
    recompressing: Arc<Semaphore>,
}

impl Admission {
    pub(super) fn new() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let room = |most: usize| Arc::new(Semaphore::new(processors.min(most)));
        Self { room: room(AT_ONCE), recompressing: room(RECOMPRESSED_AT_ONCE) }
    }

    /// Checks a batch and each of its records, and puts its header right. `reservation` is kept as long as its bytes are.
    pub(super) async fn admit(
        &self,
        bytes: Bytes,
        limits: Limits,
        rules: RecordRules,
        reservation: &Reservation,
    ) -> Result<RecordBatch, AdmissionError> {
        // Compressing takes many times as long as reading, and wants all of the batch in memory.
        let recompressed = rules.compression.is_some() && compression(&bytes) != rules.compression;
        let least = if recompressed || rules.keyed { WHOLE } else { MAX_DECOMPRESSED };
        let most = max_decompressed(least, bytes.len()).min(rules.max_decompressed);
        let rules = RecordRules { max_decompressed: most, ..rules };
        if bytes.len() <= limits.max_bytes && (recompressed || bytes.len() > inline(&bytes)) {
            let work = move || fitting(RecordBatch::validate(bytes, limits)?.admit(&rules)?, limits);
            let room = if recompressed { &self.recompressing } else { &self.room };
            return elsewhere(room, reservation, work).await;
        }
        let batch = RecordBatch::validate(bytes, limits)?;
        let short = RecordRules { max_decompressed: rules.max_decompressed.min(INLINE_DECOMPRESSED), ..rules };
        match batch.examine(&short) {
            Ok(examined) => Ok(batch.stamped(&examined)),
            Err(RecordsError::Unreadable(WalkError::TooLong { max })) if max < rules.max_decompressed => {
                elsewhere(&self.room, reservation, move || Ok(batch.admit(&rules)?)).await
            }
            Err(error) => Err(error.into()),
        }
    }
}

async fn elsewhere(
    room: &Arc<Semaphore>,
    reservation: &Reservation,
    work: impl FnOnce() -> Result<RecordBatch, AdmissionError> + Send + 'static,
) -> Result<RecordBatch, AdmissionError> {
    let reservation = Arc::clone(reservation);
    let room = Arc::clone(room).acquire_owned().await.map_err(|_| AdmissionError::Stopping)?;
    // Goes on when the connection is closed meanwhile, and takes up room until it is done.
    let work = spawn_blocking(move || {
        let _held = (room, reservation);
        work()
    });
    work.await.unwrap_or(Err(AdmissionError::Stopping))
}

/// Refuses a batch that is too long now that it is compressed in another way.
fn fitting(batch: RecordBatch, limits: Limits) -> Result<RecordBatch, AdmissionError> {
    let bytes = batch.bytes().len();
    if bytes > limits.max_bytes {
        return Err(BatchError::TooLarge { bytes, max: limits.max_bytes }.into());
    }
    Ok(batch)
}

/// How long a batch may be to be checked in place.
fn inline(bytes: &Bytes) -> usize {
    match compression(bytes) {
        Some(Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd) => INLINE_COMPRESSED,
        _ => INLINE,
    }
}

fn compression(bytes: &Bytes) -> Option<Compression> {
    BatchHeader::read(bytes).ok()?.compression()
}
