//! Deliberate faults, so that the simulator can show that it would notice them. Without the feature
//! `planted-faults` they cannot be switched on.

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted-faults"), expect(unreachable_pub, reason = "it is exported with the feature"))]
pub enum Fault {
    /// The leader counts its own and its followers' appended batches as durable.
    AcknowledgeBeforeDurable,
    /// A follower cuts its log back to its high watermark instead of asking where its epoch ends.
    TruncateByHighWatermark,
    /// Epochs are not looked at: messages of another one are taken for the current one's, and a log of the right
    /// length for the same log.
    NoEpochCheck,
    /// A retry is acknowledged because its original is in the log, committed or not.
    DuplicateAcknowledgedEarly,
    /// The leader takes its own proposal to shrink the ISR for the controller's decision.
    ShrinkWithoutController,
    /// The high watermark is computed over the committed ISR while an expansion is proposed.
    HighWatermarkOverCommittedIsr,
    /// The lease is not looked at.
    IgnoreLease,
}
