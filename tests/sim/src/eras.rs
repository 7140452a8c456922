//! What unclean elections do to what was promised. The log that a replica has when it begins to lead after one is the
//! partition's log from then on: an era begins. What was committed before and is not in that log may be lost. All that holds
//! within one era holds as ever, and nothing of another one: what a replica has of a former era is looked at again when it
//! follows a leader of the new one.

use crate::activity::Activity;
use crate::checker::{Checker, Committed};
use crate::network::NodeId;
use crate::storage::PartitionLog;
use crate::world::{World, note};
use chronik_core::ids::{LeaderEpoch, Offset, TopicPartition};
use chronik_core::record::RecordBatch;
use chronik_core::replication::{Replica, Role};

/// The eras of one partition, if it has had an unclean election.
#[derive(Debug, Default)]
pub(crate) struct Eras {
    /// The leader epochs from which on they are, the first one excepted, which is before all of them.
    begun: Vec<LeaderEpoch>,
    /// Leader epochs of unclean elections in which nobody has begun to lead before the next one.
    passed_over: Vec<LeaderEpoch>,
    /// That of an unclean election after which nobody has begun to lead yet.
    pending: Option<LeaderEpoch>,
    /// What was committed in former ones.
    former: Vec<Former>,
    /// Before that offset nobody knows what is committed, as the era's first leader had nothing of it.
    floor: Offset,
}

/// What a former era came to.
#[derive(Debug)]
struct Former {
    committed: Vec<Committed>,
    /// Before which offset records were asked to be removed.
    removed: Offset,
}

impl Eras {
    /// Somebody is to lead who was not eligible.
    fn elected(&mut self, epoch: LeaderEpoch) {
        self.passed_over.extend(self.pending.replace(epoch));
    }
}

/// How many of these committed batches a log has, one after the other from its first batch on, up to an offset; and after
/// how many others they come.
fn in_common(log: &PartitionLog, committed: &[Committed], up_to: Offset) -> (usize, usize) {
    let first = first_of(log);
    let before = committed.partition_point(|batch| batch.base < first);
    let same = |(found, known): &(&RecordBatch, &Committed)| Committed::from(*found) == **known && known.end <= up_to;
    (before, log.batches.iter().zip(&committed[before..]).take_while(same).count())
}

fn first_of(log: &PartitionLog) -> Offset {
    log.batches.first().map_or(log.end, |batch| batch.header().base_offset)
}

/// Before which offset a log may have nothing, if that was asked for in an era of which this was committed.
fn removed_of(log: &PartitionLog, committed: &[Committed], removed: Offset) -> Offset {
    let (before, count) = in_common(log, committed, Offset(i64::MAX));
    let end = committed[..before + count].last().filter(|_| count > 0).map_or(Offset::ZERO, |batch| batch.end);
    removed.min(end)
}

impl Checker {
    /// How many unclean elections have come to something.
    pub(crate) fn era(&self, tp: TopicPartition) -> usize {
        self.eras.get(&tp).map_or(0, |eras| eras.begun.len())
    }

    /// Whether a broker's log is known to be of the present era.
    pub(crate) fn is_of_era(&self, node: NodeId, tp: TopicPartition) -> bool {
        self.of_era.get(&(node, tp)).copied().unwrap_or(0) == self.era(tp)
    }

    /// Whether somebody was elected who was not eligible, and has not begun to lead.
    pub(crate) fn awaits_era(&self, tp: TopicPartition) -> bool {
        self.eras.get(&tp).is_some_and(|eras| eras.pending.is_some())
    }

    /// From where on it is known what is committed.
    pub(crate) fn known_from(&self, tp: TopicPartition) -> Offset {
        self.eras.get(&tp).map_or(Offset::ZERO, |eras| eras.floor)
    }

    /// Whether that was committed, be it in a former era.
    pub(crate) fn was_ever_committed(&self, tp: TopicPartition, batch: Committed) -> bool {
        let has =
            |log: &[Committed]| log.binary_search_by_key(&batch.base, |c| c.base).is_ok_and(|at| log[at] == batch);
        let formerly = self.eras.get(&tp).is_some_and(|eras| eras.former.iter().any(|former| has(&former.committed)));
        formerly || self.committed.get(&tp).is_some_and(|log| has(log))
    }

    /// A broker leads in that epoch, or has told the leader of that epoch that its log is a part of the leader's.
    pub(crate) fn takes_up(&mut self, node: NodeId, tp: TopicPartition, epoch: LeaderEpoch) {
        let Some(eras) = self.eras.get(&tp) else { return };
        let era = eras.begun.partition_point(|from| *from <= epoch);
        let since = era.checked_sub(1).map(|at| eras.begun[at]);
        // Whoever was elected in one of these had a log of its own, which came to nothing.
        let aside = |elected: &LeaderEpoch| *elected <= epoch && Some(*elected) > since;
        if eras.passed_over.iter().chain(&eras.pending).any(aside) {
            return;
        }
        let known = self.of_era.entry((node, tp)).or_default();
        if era > *known {
            *known = era;
            self.agreed.remove(&(node, tp));
        }
    }
}

impl World {
    /// Hears of unclean elections.
    pub(crate) fn note_unclean(&mut self) {
        for (tp, epoch) in std::mem::take(&mut self.controller.unclean) {
            note!(self, "p{} is to be led in e{epoch} by one that is not eligible", tp.partition);
            self.checker.eras.entry(tp).or_default().elected(epoch);
        }
    }

    /// Whether a broker may not lose what is committed.
    pub(crate) fn has_to_keep(&self, node: NodeId, tp: TopicPartition) -> bool {
        self.is_counted(node, tp) && self.checker.is_of_era(node, tp) && !self.checker.awaits_era(tp)
    }

    /// If a broker leads, and is the first one since an unclean election, its log is what counts.
    pub(crate) fn begin_era(&mut self, node: NodeId, tp: TopicPartition) {
        let status = self.nodes[node].process.as_ref().and_then(|p| p.replicas.get(&tp)).map(Replica::status);
        let Some(status) = status.filter(|status| status.role == Role::Leader) else { return };
        let (epoch, durable) = (status.leader_epoch, status.durable_end);
        let elected = self.checker.eras.get_mut(&tp).and_then(|eras| eras.pending.take_if(|elected| *elected <= epoch));
        let Some(elected) = elected else {
            self.checker.takes_up(node, tp, epoch);
            if self.checker.awaits_era(tp) || !self.checker.is_of_era(node, tp) {
                // Perhaps it was elected like that too, and knows less to be committed than it did.
                self.checker.high_watermarks.remove(&(node, tp));
            }
            return;
        };
        let Some(process) = &self.nodes[node].process else { return };
        let log = process.logs.get(&tp).cloned().unwrap_or_default();
        let committed = self.checker.committed.remove(&tp).unwrap_or_default();
        let removed = self.checker.removed_before(tp);
        let (before, count) = in_common(&log, &committed, durable);
        // Without a batch in common, nobody can tell whether what came before its log was the same.
        let kept = if count > 0 { committed[..before + count].to_vec() } else { Vec::new() };
        let lost = committed.len() - kept.len();
        let Some(eras) = self.checker.eras.get_mut(&tp) else { return };
        if count == 0 {
            eras.floor = first_of(&log);
        }
        eras.former.push(Former { committed, removed });
        eras.begun.push(elected);
        // What was removed from a log that its leader has, too, needs nobody to have.
        let may_lack = eras.former.iter().map(|former| removed_of(&log, &former.committed, former.removed));
        let removed = may_lack.fold(log.start, Offset::max);
        let (floor, era) = (eras.floor, eras.begun.len());
        let end = kept.last().map_or(floor, |batch| batch.end);
        note!(self, "b{node} p{} begins era {era}: committed up to {end}, {lost} batches are lost", tp.partition);
        self.counts.note(Activity::EraBegun);
        if lost > 0 {
            self.counts.note(Activity::CommittedLost);
        }
        self.checker.of_era.insert((node, tp), era);
        self.checker.removed.insert(tp, removed);
        self.checker.agreed.retain(|(_, other), _| *other != tp);
        self.checker.high_watermarks.remove(&(node, tp));
        if let Some(epochs) = self.checker.epochs.get_mut(&tp) {
            epochs.retain(|(_, first)| count > 0 && *first < end);
        }
        self.checker.committed.insert(tp, kept);
        self.lose_from(tp, if count > 0 { end } else { Offset::ZERO });
        for reader in self.readers.iter_mut().filter(|reader| reader.tp == tp) {
            reader.position = reader.position.min(end);
            reader.high_watermark = reader.high_watermark.min(end);
        }
    }

    /// What producers had committed from there on may be lost, whatever they were told of it.
    fn lose_from(&mut self, tp: TopicPartition, end: Offset) {
        let Self { checker, producers, .. } = self;
        for (n, producer) in producers.iter_mut().enumerate().filter(|(_, p)| p.partition() == tp) {
            let all = checker.produced.entry(n).or_default();
            let lost: Vec<(usize, Offset)> = all.iter().copied().filter(|(_, base)| *base >= end).collect();
            all.retain(|(_, base)| *base < end);
            producer.lose(lost.into_iter().map(|(number, _)| number));
        }
    }
}
