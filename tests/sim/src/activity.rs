//! What a run has seen: a world in which nothing happens keeps all rules too.

use std::collections::BTreeMap;

macro_rules! activities {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Something that may happen in a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Activity {
            $($(#[$doc])* $name,)*
        }

        impl Activity {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

activities! {
    /// A process died.
    Crash,
    /// It died while its disk was at work.
    CrashInWrite,
    /// All processes died at once.
    CrashOfAll,
    /// One did not come back at all from the last crash.
    NeverReturned,
    /// A disk was replaced by an empty one.
    DiskLost,
    /// A process was stopped for a while.
    Stop,
    /// A direction between two brokers was cut.
    Cut,
    /// A broker lost the controller.
    ControllerLost,
    /// A disk was slow.
    SlowDisk,
    /// A disk had no room for a while.
    FullDisk,
    /// A disk did not come back from a write for a while.
    HungDisk,
    /// A broker whose disk did not come back was given no lease.
    LeaseGivenUp,
    /// A clock jumped.
    ClockJump,
    /// A connection broke.
    ConnectionReset,
    /// A log's start was moved.
    StartMoved,
    /// A follower whose log ended before its leader's began dropped it.
    BegunAnew,
    /// A frame arrived after its connection broke.
    LateFrame,
    /// A connection took no more batches for a while.
    SendRefused,
    /// A read for a follower took long.
    SlowRead,
    /// An ISR change was asked for in vain.
    IsrChangeLost,
    /// An ISR change reached the controller after it was given up.
    IsrChangeLate,
    /// The answer to an ISR change was lost.
    IsrAnswerLost,
    /// A producer gave up on a connection.
    ProducerTimeout,
    /// A process started on a disk that had something.
    Recovery,
    /// A broker was fenced because it was silent.
    Fenced,
    /// A broker gave leaderships up.
    Resigned,
    /// A partition was to move to other brokers, or to stay after all.
    Reassigned,
    /// A topic was deleted.
    TopicDeleted,
    /// A broker that was no replica any more dropped its log.
    LogDropped,
    /// A partition had moved.
    Moved,
    /// A preferred replica was elected in the place of a leader that was there.
    PreferredElected,
    /// Somebody was elected who was not eligible, as it was asked for.
    UncleanElection,
    /// Who was elected so began to lead.
    EraBegun,
    /// It had not got all that was committed.
    CommittedLost,
    /// A producer had to begin anew, as what it knew to be acknowledged was lost.
    ProducerBegunAnew,
    /// The controller failed over to another one.
    ControllerFailover,
    /// A command was committed, and who had proposed it did not hear of that.
    CommittedUnheard,
    /// A leader was elected.
    Election,
    /// It was not in the ISR, but eligible.
    ElectionOfEligible,
    /// An ISR lost a member.
    IsrShrink,
    /// An ISR won a member.
    IsrExpand,
    /// A follower cut its log back.
    Truncation,
    /// A leader sent what it had to read.
    CatchUpRead,
    /// A batch was acknowledged.
    Acknowledged,
    /// A batch was acknowledged that was on the leader's disk, with `acks=1`.
    AcknowledgedByLeader,
    /// A batch was acknowledged that the producer had sent before.
    RetryAcknowledged,
    /// A producer was refused.
    Refused,
    /// A reader was given something.
    Read,
    /// By a leader that could not say what else is committed.
    ReadBelowKnown,
    /// A broker gave up a copy that was not as its leader had it.
    CopyGivenUp,
    /// A process ended because a sync failed.
    DiskFailed,
    /// A running broker could not read what it had.
    ReadFailed,
    /// A disk lost something with its power, which the start found.
    DiskRotted,
    /// A disk lost a bit while its broker ran.
    BitLost,
    /// A truncation was none, as damage was in its way.
    TruncationRefused,
    /// Two brokers saw the others, and not each other.
    Bridge,
    /// A leader heard nobody.
    Deaf,
    /// Nobody heard a leader.
    Mute,
    /// Two disks took long for each sync.
    SlowSyncs,
    /// When all others were healed, one was not.
    Outsider,
    /// A broker compacted a log.
    Cleaned,
    /// Tombstones went with that.
    TombstonesGone,
    /// A reader was given what comes behind a gap that compaction has left.
    ReadOverGap,
}

/// How often each happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<Activity, usize>);

impl Counts {
    /// It happened once more.
    pub(crate) fn note(&mut self, activity: Activity) {
        *self.0.entry(activity).or_default() += 1;
    }

    /// How often it happened.
    pub fn of(&self, activity: Activity) -> usize {
        self.0.get(&activity).copied().unwrap_or_default()
    }

    /// Adds what others have seen.
    pub fn add(&mut self, others: &Self) {
        for (activity, count) in &others.0 {
            *self.0.entry(*activity).or_default() += count;
        }
    }
}
