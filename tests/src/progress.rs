//! What the members of a consumer group must not be given, as they see it. Pure: no cluster, no clock.
//!
//! A member commits what it has processed. Whoever is assigned a partition begins at what is committed: not below a
//! commit that was answered before the assignment, as records would be processed again beyond what at-least-once
//! allows, and not above what the group has processed, as something would be skipped. From there on no offset is
//! missing.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// One partition as the whole group sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything below was processed.
    processed: i64,
    /// The greatest offset whose commit was answered.
    committed: i64,
    /// Over what was processed, each offset once.
    checksum: u64,
    /// How many records came again.
    again: u64,
}

/// A partition's assignment to one member.
#[derive(Clone, Copy, Debug, Default)]
pub struct Assignment {
    /// The greatest offset whose commit was answered before the assignment.
    committed_before: i64,
    next: Option<i64>,
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Records were not given to anybody.
    Skipped {
        /// The first of them.
        from: i64,
        /// The one that came instead.
        to: i64,
    },
    /// Records came again that had been committed before the assignment.
    Repeated {
        /// The first of them.
        offset: i64,
        /// The offset whose commit was answered before the assignment.
        committed: i64,
    },
    /// Within an assignment an offset came that is not above the one before.
    Backwards {
        /// What should have come.
        expected: i64,
        /// What came.
        offset: i64,
    },
    /// The committed offset is below one whose commit was answered.
    WentBack {
        /// The offset whose commit was answered.
        committed: i64,
        /// What is.
        found: i64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped { from, to } => write!(f, "skipped: offsets from {from} to {to}"),
            Self::Repeated { offset, committed } => {
                write!(f, "repeated: {offset} came after the commit of {committed} was answered")
            }
            Self::Backwards { expected, offset } => write!(f, "backwards: {offset} came instead of {expected}"),
            Self::WentBack { committed, found } => {
                write!(f, "went back: the commit of {committed} was answered, and {found} is committed")
            }
        }
    }
}

impl Progress {
    /// A member is assigned the partition; it has not asked yet where to begin.
    pub fn assigned(&self) -> Assignment {
        Assignment { committed_before: self.committed, next: None }
    }

    /// A member processes a record.
    pub fn process(&mut self, assignment: &mut Assignment, offset: i64, value: &[u8]) -> Result<(), Violation> {
        let outcome = match assignment.next {
            Some(expected) if offset < expected => Err(Violation::Backwards { expected, offset }),
            Some(expected) if offset > expected => Err(Violation::Skipped { from: expected, to: offset }),
            None if offset < assignment.committed_before => {
                Err(Violation::Repeated { offset, committed: assignment.committed_before })
            }
            _ if offset > self.processed => Err(Violation::Skipped { from: self.processed, to: offset }),
            _ => Ok(()),
        };
        assignment.next = Some(offset + 1);
        if offset >= self.processed {
            self.processed = offset + 1;
            self.checksum = self.checksum.wrapping_add(checksum(offset, value));
        } else {
            self.again += 1;
        }
        outcome
    }

    /// A commit was answered.
    pub fn committed(&mut self, offset: i64) {
        self.committed = self.committed.max(offset);
    }

    /// What the cluster says is committed.
    pub fn found(&self, found: i64) -> Result<(), Violation> {
        if found < self.committed { Err(Violation::WentBack { committed: self.committed, found }) } else { Ok(()) }
    }

    /// Everything below was processed.
    pub fn processed(&self) -> i64 {
        self.processed
    }

    /// How many records came again.
    pub fn again(&self) -> u64 {
        self.again
    }

    /// The sum of [`checksum`] over what was processed.
    pub fn checksum(&self) -> u64 {
        self.checksum
    }
}

/// What one record adds to a checksum.
pub fn checksum(offset: i64, value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (offset, value).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(progress: &mut Progress, assignment: &mut Assignment, offsets: &[i64]) -> Result<(), Violation> {
        offsets.iter().try_for_each(|offset| progress.process(assignment, *offset, b"value"))
    }

    #[test]
    fn a_member_that_begins_at_the_commit_breaks_nothing_and_may_repeat_what_came_after_it() {
        let mut progress = Progress::default();
        process(&mut progress, &mut Assignment::default(), &[0, 1, 2, 3]).unwrap();
        progress.committed(2);
        let mut second = progress.assigned();
        process(&mut progress, &mut second, &[2, 3, 4]).unwrap();
        assert_eq!((progress.processed(), progress.again()), (5, 2));
        let once: u64 = (0..5).fold(0, |sum, offset| sum.wrapping_add(checksum(offset, b"value")));
        assert_eq!(progress.checksum(), once);
    }

    #[test]
    fn what_was_committed_does_not_come_again() {
        let mut progress = Progress::default();
        process(&mut progress, &mut Assignment::default(), &[0, 1, 2]).unwrap();
        progress.committed(2);
        let mut second = progress.assigned();
        let repeated = process(&mut progress, &mut second, &[1]);
        assert_eq!(repeated, Err(Violation::Repeated { offset: 1, committed: 2 }));
    }

    #[test]
    fn a_commit_after_the_assignment_says_nothing_of_where_it_begins() {
        let mut progress = Progress::default();
        process(&mut progress, &mut Assignment::default(), &[0, 1, 2]).unwrap();
        let mut second = progress.assigned();
        progress.committed(3);
        process(&mut progress, &mut second, &[0, 1]).unwrap();
    }

    #[test]
    fn nothing_is_skipped_at_the_beginning_or_later() {
        let mut progress = Progress::default();
        process(&mut progress, &mut Assignment::default(), &[0]).unwrap();
        let mut second = progress.assigned();
        assert_eq!(process(&mut progress, &mut second, &[2]), Err(Violation::Skipped { from: 1, to: 2 }));
        assert_eq!(process(&mut progress, &mut second, &[3, 5]), Err(Violation::Skipped { from: 4, to: 5 }));
    }

    #[test]
    fn offsets_of_an_assignment_do_not_go_back() {
        let mut progress = Progress::default();
        let mut first = Assignment::default();
        let outcome = process(&mut progress, &mut first, &[0, 1, 1]);
        assert_eq!(outcome, Err(Violation::Backwards { expected: 2, offset: 1 }));
    }

    #[test]
    fn a_committed_offset_that_went_back_is_seen() {
        let mut progress = Progress::default();
        progress.committed(7);
        progress.committed(5);
        assert_eq!(progress.found(7), Ok(()));
        assert_eq!(progress.found(6), Err(Violation::WentBack { committed: 7, found: 6 }));
    }
}
