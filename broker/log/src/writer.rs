//! The one thread that writes a broker's log.
//!
//! It takes all that queued while the last sync ran, commits it as one round, answers, and applies. There is
//! no timer: an idle disk takes a single operation at once, a busy one many together. Everything else is done beside it:
//! checkpoints (see `pace` for how rounds keep to them), the next segment of the write-ahead log, syncs of segments when too
//! many are not synced, the removing of files that are out of use, and the watch over what room the disk has left.
//!
//! A disk that is full ends nothing here: what was accepted is tried again until it is written (see `apply`, [`Space`]).

mod done;
mod pace;
mod round;
mod rounds;

use crate::disk::Disk;
use crate::error::LogError;
use crate::log::Log;
use crate::space::{self, Ballast};
use crate::wal::Position;
use crate::{Op, Pulse, Space};
use chronik_core::ids::TopicPartition;
use chronik_core::record::RecordBatch;
use chronik_core::space::Room;
use done::Done;
use pace::Pace;
use rounds::Rounds;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use done::{Appender, Held};

/// What one round was.
#[derive(Clone, Copy, Debug)]
pub struct CommitStats {
    /// Operations in it.
    pub ops: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// How long its write and sync took.
    pub took: Duration,
}

/// Submits operations to the writer thread. When the last clone is gone the thread does what is queued,
/// makes a checkpoint and ends.
pub struct Writer {
    queue: Arc<Queue>,
    space: Space,
    pulse: Pulse,
    write_once: Arc<AtomicBool>,
}

struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    handles: AtomicUsize,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct State {
    ops: VecDeque<(Op, Done)>,
    closing: bool,
    dead: bool,
    /// The thread waits for something with operations in the queue.
    always_wake: bool,
    /// The thread waits, or did when it looked last: to wake nobody is a system call too.
    waiting: bool,
    /// A thread beside the writer's failed.
    failed: Option<LogError>,
    /// Somebody asked for a checkpoint.
    checkpoint_wanted: bool,
    checkpoint: Option<Result<Position, LogError>>,
}

impl Writer {
    /// Starts the thread. `on_fatal` is called on it, once, when the log cannot go on: the process should end.
    pub fn spawn<D: Disk>(log: Log<D>, on_fatal: impl FnOnce(LogError) + Send + 'static) -> (Self, JoinHandle<()>) {
        Self::spawn_observed(log, |_| {}, on_fatal)
    }

    /// [`Self::spawn`]; `observe` is called on the thread after each round, before its answers.
    pub fn spawn_observed<D: Disk>(
        log: Log<D>,
        observe: impl Fn(CommitStats) + Send + 'static,
        on_fatal: impl FnOnce(LogError) + Send + 'static,
    ) -> (Self, JoinHandle<()>) {
        let state = Mutex::default();
        let queue = Arc::new(Queue { state, wake: Condvar::new(), handles: AtomicUsize::new(1) });
        let (space, pulse) = (Space::new(log.store.options.reserve_bytes), log.store.files.pulse.clone());
        let write_once = Arc::clone(&log.once.allowed);
        space::measure(&space, &log.store.disk, &log.dir);
        let thread = {
            let (queue, space, pulse) = (Arc::clone(&queue), space.clone(), pulse.clone());
            thread::spawn(move || {
                let store = Arc::clone(&log.store);
                let beside = Beside::start(&log, &queue, &space);
                let mut rounds = Rounds {
                    queue: &queue,
                    ballast: Arc::clone(&beside.ballast),
                    space: space.clone(),
                    pulse,
                    pace: Pace::new(store.options.checkpoint_bytes),
                    checkpointing: None,
                    gave_up: false,
                    preparing: None,
                    unsealed: false,
                    log,
                };
                if let Err(e) = rounds.run(&observe) {
                    tracing::error!(error = %e, "the log cannot go on");
                    let abandoned = {
                        let mut state = queue.lock();
                        state.dead = true;
                        std::mem::take(&mut state.ops)
                    };
                    drop(abandoned);
                    on_fatal(e);
                }
                space.close();
                rounds.join();
                store.trash.close();
                store.files.end_syncing_early();
                // The directory stays locked until they end.
                beside.join();
            })
        };
        (Self { queue, space, pulse, write_once }, thread)
    }

    /// How much room the log's disk has.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// How long the round takes that is under way.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Queues an operation. `done` is called on the writer thread when it is durable; for all but an append, when it
    /// is applied too. Operations on a partition take effect in the order of submission. After a fatal
    /// error, or after [`Self::close`], nothing is done and `done` is dropped without a call.
    pub fn submit(&self, op: Op, done: Box<dyn FnOnce() + Send>) {
        self.queue(op, Done::Call(done));
    }

    /// Queues an append, of which `appender` is told when it is durable, together with all that the same round has of it.
    /// `held` is let go of before; or without a word, as `done` of [`Self::submit`] is.
    pub fn append(&self, partition: TopicPartition, batch: RecordBatch, held: Held, appender: &Appender) {
        self.queue(Op::Append { partition, batch }, Done::Tell(Arc::clone(appender), held));
    }

    fn queue(&self, op: Op, done: Done) {
        let mut state = self.queue.lock();
        if state.dead || state.closing {
            // What `done` owns may come back here when it is dropped.
            drop(state);
            return;
        }
        if let Op::Append { .. } = op {
            self.space.accept(op.bytes());
        }
        state.ops.push_back((op, done));
        if state.waiting && (state.ops.len() == 1 || state.always_wake) {
            self.queue.wake.notify_one();
        }
    }

    /// Asks for a checkpoint, soon: compaction's old segments leave with one.
    pub fn checkpoint(&self) {
        self.queue.lock().checkpoint_wanted = true;
        self.queue.wake.notify_one();
    }

    /// Says whether large appends may be written to their segments only, with a reference in the write-ahead log: from a
    /// metadata version on, as older brokers cannot read it. Not from the start.
    pub fn write_once(&self, may: bool) {
        self.write_once.store(may, Ordering::Relaxed);
    }

    /// Ends the thread after what is queued now, for all clones. Join its handle to wait for that.
    pub fn close(self) {
        self.queue.close();
    }
}

impl Clone for Writer {
    fn clone(&self) -> Self {
        self.queue.handles.fetch_add(1, Ordering::Relaxed);
        Self {
            queue: Arc::clone(&self.queue),
            space: self.space.clone(),
            pulse: self.pulse.clone(),
            write_once: Arc::clone(&self.write_once),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.queue.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.queue.close();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }
}

/// The threads that run as long as the writer's.
struct Beside<D> {
    ballast: Arc<Ballast<D>>,
    threads: [JoinHandle<()>; 3],
}

impl<D: Disk> Beside<D> {
    fn start(log: &Log<D>, queue: &Arc<Queue>, space: &Space) -> Self {
        let store = &log.store;
        let ballast = Arc::new(Ballast::new(store.disk.clone(), &log.dir, store.options.ballast_bytes));
        let removing = {
            let (store, space) = (Arc::clone(store), space.clone());
            thread::spawn(move || store.trash.remove_slowly(&store.disk, || space.room() != Room::Ample))
        };
        let watching = Arc::clone(queue);
        store.syncs.watch(move |error| {
            watching.lock().failed.get_or_insert(error);
            watching.wake.notify_one();
        });
        store.files.begin_syncing_early();
        let syncing = {
            let (store, queue) = (Arc::clone(store), Arc::clone(queue));
            thread::spawn(move || {
                if let Err(error) = store.sync_early() {
                    store.files.end_syncing_early();
                    queue.lock().failed = Some(error);
                    queue.wake.notify_one();
                }
            })
        };
        let watching = {
            let (space, ballast, dir) = (space.clone(), Arc::clone(&ballast), log.dir.clone());
            thread::spawn(move || space::watch(&space, &ballast, &dir))
        };
        Self { ballast, threads: [removing, syncing, watching] }
    }

    fn join(self) {
        for thread in self.threads {
            // It does not panic: a release build would end if it did.
            let _ = thread.join();
        }
    }
}
