//! The writer's thread: round after round, and what goes on beside them.

use super::done::{Done, Told};
use super::pace::Pace;
use super::round::Round;
use super::{CommitStats, Queue};
use crate::disk::Disk;
use crate::error::LogError;
use crate::log::Log;
use crate::space::{Ballast, Need, TRY_AGAIN};
use crate::wal::Position;
use crate::wal::writer::MadeSegment;
use crate::{Op, Pulse, Space};
use std::cell::Cell;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

pub(super) struct Rounds<'a, D: Disk> {
    pub(super) log: Log<D>,
    pub(super) queue: &'a Arc<Queue>,
    pub(super) space: Space,
    pub(super) pulse: Pulse,
    pub(super) ballast: Arc<Ballast<D>>,
    pub(super) pace: Pace,
    pub(super) checkpointing: Option<JoinHandle<()>>,
    /// A checkpoint found no room and was not waited for.
    pub(super) gave_up: bool,
    pub(super) preparing: Option<JoinHandle<MadeSegment<D>>>,
    /// Nothing says yet that the last round was synced: another one is to follow it at once.
    pub(super) unsealed: bool,
}

/// What the thread does next.
enum Next {
    Commit(Round),
    Checkpoint,
    Checkpointed(Result<Position, LogError>),
    /// To write what had no room.
    Retry,
    Failed(LogError),
    End,
}

impl<D: Disk> Rounds<'_, D> {
    pub(super) fn run(&mut self, observe: &impl Fn(CommitStats)) -> Result<(), LogError> {
        self.log.prepare()?;
        loop {
            let next = self.next();
            if !matches!(next, Next::Commit(_) | Next::Failed(_)) {
                self.seal();
            }
            match next {
                Next::Commit(round) => {
                    self.pulse.begin();
                    let before = self.log.wal_bytes();
                    self.round(round, observe)?;
                    let bytes = (self.log.wal_bytes() - before) as usize;
                    self.pulse.end();
                    if self.checkpointing.is_none() && self.log.checkpoint_due() {
                        self.begin_checkpoint();
                    }
                    self.prepare_segment();
                    let pause = self.pace.pause(bytes, self.log.unreplayed());
                    if !pause.is_zero() {
                        self.seal();
                        thread::sleep(pause);
                    }
                }
                Next::Checkpointed(result) => {
                    self.pulse.begin();
                    self.finish_checkpoint(result)?;
                    // What is held back has not begun.
                    self.pulse.end();
                }
                Next::Checkpoint => self.begin_checkpoint(),
                Next::Retry => self.retry()?,
                Next::Failed(error) => return Err(error),
                Next::End => return self.end(),
            }
        }
    }

    fn next(&mut self) -> Next {
        let overdue = self.checkpointing.is_some() && self.pace.is_overdue(self.log.unreplayed());
        let max_bytes = self.pace.max_round_bytes(self.log.unreplayed());
        let queue = self.queue;
        let mut state = queue.lock();
        loop {
            state.waiting = false;
            if let Some(error) = state.failed.take() {
                return Next::Failed(error);
            }
            if let Some(result) = state.checkpoint.take() {
                return Next::Checkpointed(result);
            }
            let may_begin = self.checkpointing.is_none() && self.log.stuck.is_empty() && !self.gave_up;
            if state.checkpoint_wanted && may_begin {
                state.checkpoint_wanted = false;
                return Next::Checkpoint;
            }
            // On a full disk deletions must go on, whatever a checkpoint waits for.
            let held = overdue && !self.space.lacks(Need::Checkpoint);
            let (waits, needs_another) = (Cell::new(false), Cell::new(false));
            if !held {
                let holds_back = |op: &Op| {
                    let waiting = self.log.waits_for_checkpoint(op);
                    waits.set(waits.get() || waiting);
                    needs_another.set(needs_another.get() || waiting && self.log.once.waits_for_another_checkpoint(op));
                    waiting || self.log.stuck.holds_back(op)
                };
                let round = Round::take(&mut state.ops, max_bytes, holds_back);
                state.checkpoint_wanted |= needs_another.get();
                if !round.is_empty() {
                    return Next::Commit(round);
                }
                if waits.get() && may_begin {
                    state.checkpoint_wanted = true;
                    continue;
                }
                if state.closing && waits.get() && self.checkpointing.is_some() {
                    // It gives up if it has no room.
                    self.space.close();
                } else if state.closing {
                    return Next::End;
                }
            } else if !state.ops.is_empty() {
                self.pulse.begin();
            }
            if self.unsealed {
                // The round that was to follow waits for something. Nobody waits for the seal to submit another one.
                drop(state);
                self.seal();
                state = queue.lock();
                continue;
            }
            state.waiting = true;
            state.always_wake = held || waits.get() || !self.log.stuck.is_empty();
            if self.log.stuck.is_empty() {
                state = queue.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                let (locked, waited) =
                    queue.wake.wait_timeout(state, TRY_AGAIN).unwrap_or_else(PoisonError::into_inner);
                if waited.timed_out() {
                    return Next::Retry;
                }
                state = locked;
            }
        }
    }

    fn round(&mut self, round: Round, observe: &impl Fn(CommitStats)) -> Result<(), LogError> {
        let Round { ops, dones, bytes, .. } = round;
        let begin = Instant::now();
        if self.preparing.as_ref().is_some_and(JoinHandle::is_finished) || self.log.is_short_of(bytes) {
            self.take_segment()?;
        }
        self.commit(&ops)?;
        self.unsealed = true;
        self.pulse.beat();
        observe(CommitStats { ops: ops.len(), bytes, took: begin.elapsed() });
        // An append is done when it is durable, everything else when it is applied.
        let (mut applied, mut appended, mut told) = (Vec::new(), 0, Told::default());
        for (op, done) in ops.iter().zip(dones) {
            if matches!(op, Op::Append { .. }) {
                appended += op.bytes();
                done.appended(op, &mut told);
            } else {
                applied.push(done);
            }
        }
        told.tell();
        // A round that follows at once says the same. If none does after all, this is made up for before anything is waited for.
        if self.checkpointing.is_some() || self.log.may_wait_to_apply(ops.len()) || self.queue.lock().ops.is_empty() {
            self.seal();
        }
        let was_stuck = !self.log.stuck.is_empty();
        self.log.apply_only(&ops)?;
        self.space.applied(appended);
        applied.into_iter().for_each(Done::applied);
        if self.log.stuck.is_empty() {
            self.space.lack(Need::Segment, false);
        } else if !was_stuck {
            self.retry()?;
        }
        Ok(())
    }

    /// Lets a recovery see that the last round was synced, unless that is so already.
    fn seal(&mut self) {
        if std::mem::take(&mut self.unsealed) {
            self.log.seal();
        }
    }

    /// Waits for room if there is none: what was accepted cannot be refused any more.
    fn commit(&mut self, ops: &[Op]) -> Result<(), LogError> {
        let (space, ballast, queue) = (&self.space, &self.ballast, self.queue);
        let again = || {
            space.lack(Need::Wal, true);
            ballast.release();
            space.wait_for_room() && {
                let state = queue.lock();
                !state.closing && state.failed.is_none()
            }
        };
        self.log.commit_when_possible(ops, again)?;
        self.space.lack(Need::Wal, false);
        Ok(())
    }

    fn retry(&mut self) -> Result<(), LogError> {
        self.space.exhausted();
        self.ballast.release();
        match self.log.apply_stuck() {
            Err(e) if e.is_full() => self.space.lack(Need::Segment, true),
            other => {
                other?;
                self.space.lack(Need::Segment, false);
            }
        }
        Ok(())
    }

    fn begin_checkpoint(&mut self) {
        let job = self.log.begin_checkpoint();
        self.pace.begins(self.log.unreplayed());
        let (queue, space, ballast) = (Arc::clone(self.queue), self.space.clone(), Arc::clone(&self.ballast));
        self.checkpointing = Some(thread::spawn(move || {
            let result = loop {
                match job.run() {
                    Err(e) if e.is_full() => {
                        space.lack(Need::Checkpoint, true);
                        ballast.release();
                        // The writer may wait for this, and what makes room is in its queue.
                        drop(queue.lock());
                        queue.wake.notify_one();
                        if !space.wait_for_room() {
                            break Err(e);
                        }
                    }
                    other => break other,
                }
            };
            space.lack(Need::Checkpoint, false);
            queue.lock().checkpoint = Some(result);
            queue.wake.notify_one();
        }));
    }

    fn finish_checkpoint(&mut self, result: Result<Position, LogError>) -> Result<(), LogError> {
        self.join_checkpoint();
        match result {
            // It gave up as the log is being closed.
            Err(e) if e.is_full() => {
                self.gave_up = true;
                Ok(())
            }
            other => {
                self.log.finish_checkpoint(other?)?;
                self.pace.ends();
                Ok(())
            }
        }
    }

    /// Has the next segment of the write-ahead log made before it is needed.
    fn prepare_segment(&mut self) {
        if self.preparing.is_some() {
            return;
        }
        if let Some(job) = self.log.next_segment() {
            self.preparing = Some(thread::spawn(move || job.run()));
        }
    }

    /// Takes the next segment over, waiting for it if it has to.
    fn take_segment(&mut self) -> Result<(), LogError> {
        let Some(thread) = self.preparing.take() else { return Ok(()) };
        if !thread.is_finished() {
            self.seal();
        }
        // It does not panic: a release build would end if it did.
        let Ok(made) = thread.join() else { return Err(LogError::Poisoned) };
        match self.log.has_next_segment(made) {
            // It is tried again, in haste once it is needed.
            Err(e) if e.is_full() => {
                self.space.exhausted();
                self.ballast.release();
                Ok(())
            }
            other => other,
        }
    }

    fn end(&mut self) -> Result<(), LogError> {
        self.space.close();
        self.join_checkpoint();
        if let Some(result) = self.queue.lock().checkpoint.take() {
            self.finish_checkpoint(result)?;
        }
        if self.gave_up {
            // What that checkpoint took over to sync may not be: one made now would vouch for it.
            tracing::warn!("No room for a checkpoint: the next start replays more");
            return Ok(());
        }
        match self.log.checkpoint() {
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "No room for a checkpoint: the next start replays more");
                Ok(())
            }
            other => other,
        }
    }

    /// Waits for the threads beside this one.
    pub(super) fn join(&mut self) {
        self.join_checkpoint();
        if let Some(thread) = self.preparing.take() {
            // What it made is found by the next start.
            let _ = thread.join();
        }
    }

    fn join_checkpoint(&mut self) {
        if let Some(thread) = self.checkpointing.take() {
            // It does not panic: a release build would end if it did.
            let _ = thread.join();
        }
    }
}
