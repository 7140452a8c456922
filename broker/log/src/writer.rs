//! The one thread that writes a broker's log.
//!
//! It takes all that queued while the last sync ran, commits it as one round, answers, and applies. There is
//! no timer: an idle disk takes a single operation at once, a busy one many together. Checkpoints are
//! carried out by a second thread, so that rounds go on meanwhile; only when one takes so long that a start would
//! have too much to replay do they wait for it. A third one removes the files that are out of use.

use crate::Op;
use crate::disk::Disk;
use crate::error::LogError;
use crate::log::Log;
use crate::wal::Position;
use chronik_core::ids::TopicPartition;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes that one round takes at most, but for an operation that is larger by itself.
const MAX_ROUND_BYTES: usize = 8 * 1024 * 1024;

/// Truncations, moves of the start and deletions that one round takes at most: each renames files, and appends in the
/// next round wait for that.
const MAX_ROUND_CHANGES: usize = 64;

type Done = Box<dyn FnOnce() + Send>;

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
}

struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    handles: AtomicUsize,
}

#[derive(Default)]
struct State {
    ops: VecDeque<(Op, Done)>,
    closing: bool,
    dead: bool,
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
        let thread = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let store = Arc::clone(&log.store);
                let removing = {
                    let store = Arc::clone(&store);
                    thread::spawn(move || store.trash.remove_slowly(&store.disk))
                };
                let mut rounds = Rounds { log, queue: &queue, checkpointing: None };
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
                rounds.join_checkpoint();
                store.trash.close();
                // It does not panic: a release build would end if it did. The directory stays locked until it ends.
                let _ = removing.join();
            })
        };
        (Self { queue }, thread)
    }

    /// Queues an operation. `done` is called on the writer thread when it is durable; for all but an append, when it
    /// is applied too. Operations on a partition take effect in the order of submission. After a fatal
    /// error, or after [`Self::close`], nothing is done and `done` is dropped without a call.
    pub fn submit(&self, op: Op, done: Done) {
        let mut state = self.queue.lock();
        if state.dead || state.closing {
            // What `done` owns may come back here when it is dropped.
            drop(state);
            return;
        }
        state.ops.push_back((op, done));
        if state.ops.len() == 1 {
            self.queue.wake.notify_one();
        }
    }

    /// Asks for a checkpoint, soon: compaction's old segments leave with one.
    pub fn checkpoint(&self) {
        self.queue.lock().checkpoint_wanted = true;
        self.queue.wake.notify_one();
    }

    /// Ends the thread after what is queued now, for all clones. Join its handle to wait for that.
    pub fn close(self) {
        self.queue.close();
    }
}

impl Clone for Writer {
    fn clone(&self) -> Self {
        self.queue.handles.fetch_add(1, Ordering::Relaxed);
        Self { queue: Arc::clone(&self.queue) }
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

struct Rounds<'a, D: Disk> {
    log: Log<D>,
    queue: &'a Arc<Queue>,
    checkpointing: Option<JoinHandle<()>>,
}

/// What is committed together.
#[derive(Default)]
struct Round {
    ops: Vec<Op>,
    dones: Vec<Done>,
    bytes: usize,
    /// Operations that are no appends.
    changes: usize,
    /// The partitions in it, and whether by more than appends.
    partitions: HashMap<TopicPartition, bool>,
}

impl Round {
    /// Takes what makes up the next round off the queue, in order. In a round a partition has either appends, or one
    /// operation of another kind: where a truncation ends is known when all before it is applied, and what comes next
    /// counts on it. What does not fit stays in the queue, and what comes behind it for other partitions goes before
    /// it: thousands of deletions hold back no append but those to their own partitions.
    fn take(queue: &mut VecDeque<(Op, Done)>) -> Self {
        let (mut round, mut left) = (Self::default(), VecDeque::new());
        let mut waiting = HashSet::new();
        while let Some((op, done)) = queue.pop_front() {
            let tp = op.partition();
            if waiting.contains(&tp) || !round.may_take(&op) {
                waiting.insert(tp);
                left.push_back((op, done));
            } else if round.ops.is_empty() || round.bytes + op.bytes() <= MAX_ROUND_BYTES {
                round.push(op, done);
            } else {
                queue.push_front((op, done));
                break;
            }
        }
        while let Some(entry) = left.pop_back() {
            queue.push_front(entry);
        }
        round
    }

    fn may_take(&self, op: &Op) -> bool {
        let taken = self.partitions.get(&op.partition());
        match op {
            Op::Append { .. } => taken.is_none_or(|changed| !changed),
            _ => taken.is_none() && self.changes < MAX_ROUND_CHANGES,
        }
    }

    fn push(&mut self, op: Op, done: Done) {
        let changes = !matches!(op, Op::Append { .. });
        self.bytes += op.bytes();
        self.changes += usize::from(changes);
        self.partitions.insert(op.partition(), changes);
        self.ops.push(op);
        self.dones.push(done);
    }
}

/// What the thread does next.
enum Next {
    Commit(Vec<Op>, Vec<Done>),
    Checkpoint,
    Checkpointed(Result<Position, LogError>),
    End,
}

impl<D: Disk> Rounds<'_, D> {
    fn run(&mut self, observe: &impl Fn(CommitStats)) -> Result<(), LogError> {
        self.log.prepare()?;
        loop {
            match self.next() {
                Next::Commit(ops, done) => self.round(&ops, done, observe)?,
                Next::Checkpoint => self.begin_checkpoint(),
                Next::Checkpointed(result) => {
                    self.join_checkpoint();
                    self.log.finish_checkpoint(result?)?;
                }
                Next::End => return self.end(),
            }
        }
    }

    fn next(&self) -> Next {
        let held = self.checkpointing.is_some() && self.log.checkpoint_overdue();
        let mut state = self.queue.lock();
        loop {
            if let Some(result) = state.checkpoint.take() {
                return Next::Checkpointed(result);
            }
            if state.checkpoint_wanted && self.checkpointing.is_none() {
                state.checkpoint_wanted = false;
                return Next::Checkpoint;
            }
            if state.ops.is_empty() && state.closing {
                return Next::End;
            }
            if !state.ops.is_empty() && !held {
                break;
            }
            state = self.queue.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let Round { ops, dones, .. } = Round::take(&mut state.ops);
        Next::Commit(ops, dones)
    }

    fn round(&mut self, ops: &[Op], dones: Vec<Done>, observe: &impl Fn(CommitStats)) -> Result<(), LogError> {
        let begin = Instant::now();
        self.log.commit(ops)?;
        observe(CommitStats { ops: ops.len(), bytes: ops.iter().map(Op::bytes).sum(), took: begin.elapsed() });
        // An append is done when it is durable, everything else when it is applied.
        let mut applied = Vec::new();
        for (op, done) in ops.iter().zip(dones) {
            if matches!(op, Op::Append { .. }) {
                done();
            } else {
                applied.push(done);
            }
        }
        self.log.apply_only(ops)?;
        for done in applied {
            done();
        }
        if self.checkpointing.is_none() && self.log.checkpoint_due() {
            self.begin_checkpoint();
        }
        Ok(())
    }

    fn begin_checkpoint(&mut self) {
        let job = self.log.begin_checkpoint();
        let queue = Arc::clone(self.queue);
        self.checkpointing = Some(thread::spawn(move || {
            let result = job.run();
            queue.lock().checkpoint = Some(result);
            queue.wake.notify_one();
        }));
    }

    fn end(&mut self) -> Result<(), LogError> {
        self.join_checkpoint();
        if let Some(result) = self.queue.lock().checkpoint.take() {
            self.log.finish_checkpoint(result?)?;
        }
        self.log.checkpoint()
    }

    fn join_checkpoint(&mut self) {
        if let Some(thread) = self.checkpointing.take() {
            // It does not panic: a release build would end if it did.
            let _ = thread.join();
        }
    }
}
