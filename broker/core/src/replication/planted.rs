//! Deliberate faults, so that the simulator can show that it would notice them. Without the feature
//! `planted-faults` they cannot be switched on.

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(test, feature = "planted-faults")),
    expect(unreachable_pub, reason = "it is exported with the feature")
)]
pub enum Fault {
    /// The leader counts its own and its followers' appended batches as durable.
    AcknowledgeBeforeDurable,
    /// A follower cuts its log back to its high watermark instead of asking where its epoch ends.
    TruncateByHighWatermark,
    /// A follower takes what its leader said in another leader epoch.
    FollowerTakesAnyEpoch,
    /// A follower takes what a former connection still delivers.
    FollowerTakesAnyStream,
    /// A follower appends batches whose epoch is older than that of what they follow, or newer than its leader's.
    FollowerTakesBatchesOfAnyEpoch,
    /// A leader takes what a follower said in another leader epoch.
    LeaderTakesAnyEpoch,
    /// A leader takes what a follower said over a former connection, or as a former process.
    LeaderTakesAnyStream,
    /// A follower takes whatever any leader said, in any leader epoch and over any connection.
    FollowerTakesAnything,
    /// A leader takes whatever a follower said, in any leader epoch and over any connection.
    LeaderTakesAnything,
    /// A leader takes a follower's log that is not longer than its own for a part of it.
    SubscriptionWithoutEpoch,
    /// A follower does not note at which offset the epochs of its batches start.
    FollowerForgetsEpochs,
    /// A leader sends on what was read for a follower in a former leadership.
    ReadOfAnyEpoch,
    /// A retry is acknowledged because its original is in the log, committed or not.
    DuplicateAcknowledgedEarly,
    /// The leader takes its own proposal to shrink the ISR for the controller's decision.
    ShrinkWithoutController,
    /// The high watermark is computed over the committed ISR while an expansion is proposed.
    HighWatermarkOverCommittedIsr,
    /// The lease is not looked at by producers' requests.
    IgnoreLease,
    /// The lease is not looked at by readers.
    ReadsIgnoreLease,
    /// Readers are let to the end of the log.
    ReadBeyondHighWatermark,
    /// Readers are let in before a new leader knows what is committed.
    ReadBeforeEpochStart,
    /// The high watermark goes back when a follower that is waited for has less.
    HighWatermarkGoesBack,
    /// The high watermark moves with fewer in-sync replicas than `min.insync.replicas`.
    CommitBelowMinInsync,
    /// A follower joins the ISR wherever it is.
    JoinsBehind,
    /// A follower that left the ISR is never proposed again.
    NeverRejoins,
    /// A batch is appended though one before it is missing.
    SequenceGapAccepted,
    /// A retry is appended again.
    DuplicateAppended,
    /// A retry is refused.
    DuplicateRefused,
    /// An answer is given twice.
    AnsweredTwice,
    /// The end of a leadership is not told to those who wait.
    EndIsNotTold,
}

#[cfg(feature = "planted-faults")]
impl Fault {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::AcknowledgeBeforeDurable,
        Self::TruncateByHighWatermark,
        Self::FollowerTakesAnyEpoch,
        Self::FollowerTakesAnyStream,
        Self::FollowerTakesBatchesOfAnyEpoch,
        Self::LeaderTakesAnyEpoch,
        Self::LeaderTakesAnyStream,
        Self::FollowerTakesAnything,
        Self::LeaderTakesAnything,
        Self::SubscriptionWithoutEpoch,
        Self::FollowerForgetsEpochs,
        Self::ReadOfAnyEpoch,
        Self::DuplicateAcknowledgedEarly,
        Self::ShrinkWithoutController,
        Self::HighWatermarkOverCommittedIsr,
        Self::IgnoreLease,
        Self::ReadsIgnoreLease,
        Self::ReadBeyondHighWatermark,
        Self::ReadBeforeEpochStart,
        Self::HighWatermarkGoesBack,
        Self::CommitBelowMinInsync,
        Self::JoinsBehind,
        Self::NeverRejoins,
        Self::SequenceGapAccepted,
        Self::DuplicateAppended,
        Self::DuplicateRefused,
        Self::AnsweredTwice,
        Self::EndIsNotTold,
    ];
}
