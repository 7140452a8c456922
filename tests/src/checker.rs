//! What a history of numbered writes and a read of the whole log prove. Pure: no cluster, no clock.
//!
//! Each partition has one idempotent writer that numbers its records 0, 1, 2, … The log must hold every
//! acknowledged number exactly once, at the offset that the acknowledgement named, with the numbers ascending; a
//! number without an acknowledgement may be there or not, but once at most; and nothing else may be there.

use std::collections::HashMap;
use std::fmt;

/// What the writer of one partition knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The numbers below this were handed to the client.
    pub sent: u64,
    /// Numbers with the offsets that their acknowledgements named.
    pub acknowledged: Vec<(u64, i64)>,
}

/// One record that a consumer read, in the order in which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Where it lies.
    pub offset: i64,
    /// Its number; `None` for a value that the writer of this partition never makes.
    pub number: Option<u64>,
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It was acknowledged and is not there.
    Lost {
        /// The record's number.
        number: u64,
        /// What the acknowledgement said.
        offset: i64,
    },
    /// It is there, at another offset than was acknowledged.
    Moved {
        /// The record's number.
        number: u64,
        /// What the acknowledgement said.
        acknowledged: i64,
        /// Where it is.
        found: i64,
    },
    /// It is there again.
    Duplicated {
        /// The record's number.
        number: u64,
        /// Where it was first.
        first: i64,
        /// Where it is again.
        again: i64,
    },
    /// It comes after a record that was sent later.
    Reordered {
        /// The record's number.
        number: u64,
        /// Where it is.
        offset: i64,
        /// The higher number that came before.
        after: u64,
    },
    /// It was never sent.
    Invented {
        /// Where it is.
        offset: i64,
    },
    /// The consumer was given an offset that is not above the one before.
    Backwards {
        /// The offset before.
        before: i64,
        /// This one.
        offset: i64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { number, offset } => write!(f, "lost: {number}, acknowledged at offset {offset}"),
            Self::Moved { number, acknowledged, found } => {
                write!(f, "moved: {number}, acknowledged at offset {acknowledged}, is at {found}")
            }
            Self::Duplicated { number, first, again } => write!(f, "duplicated: {number} at {first} and {again}"),
            Self::Reordered { number, offset, after } => write!(f, "reordered: {number} at {offset} after {after}"),
            Self::Invented { offset } => write!(f, "invented: the record at {offset} was never sent"),
            Self::Backwards { before, offset } => write!(f, "backwards: offset {offset} was read after {before}"),
        }
    }
}

/// All that one partition's history breaks, in the order of the log; what is lost comes last.
pub fn check(written: &Written, read: &[Read]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut found: HashMap<u64, i64> = HashMap::with_capacity(read.len());
    let (mut last_offset, mut highest) = (None, None);
    for &Read { offset, number } in read {
        if let Some(before) = last_offset.filter(|before| *before >= offset) {
            violations.push(Violation::Backwards { before, offset });
        }
        last_offset = Some(offset);
        let Some(number) = number.filter(|number| *number < written.sent) else {
            violations.push(Violation::Invented { offset });
            continue;
        };
        if let Some(first) = found.get(&number) {
            violations.push(Violation::Duplicated { number, first: *first, again: offset });
            continue;
        }
        found.insert(number, offset);
        if let Some(after) = highest.filter(|highest| *highest > number) {
            violations.push(Violation::Reordered { number, offset, after });
        }
        highest = highest.max(Some(number));
    }
    for &(number, offset) in &written.acknowledged {
        match found.get(&number) {
            None => violations.push(Violation::Lost { number, offset }),
            // The answer "duplicate" to an idempotent writer may lack the offset of the first copy.
            Some(at) if offset >= 0 && *at != offset => {
                violations.push(Violation::Moved { number, acknowledged: offset, found: *at });
            }
            Some(_) => {}
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(sent: u64, acknowledged: &[(u64, i64)]) -> Written {
        Written { sent, acknowledged: acknowledged.to_vec() }
    }

    fn read(records: &[(i64, u64)]) -> Vec<Read> {
        records.iter().map(|(offset, number)| Read { offset: *offset, number: Some(*number) }).collect()
    }

    #[test]
    fn a_log_that_holds_all_that_was_acknowledged_breaks_nothing() {
        assert_eq!(check(&written(3, &[(0, 0), (1, 1), (2, 2)]), &read(&[(0, 0), (1, 1), (2, 2)])), []);
    }

    #[test]
    fn a_record_without_an_acknowledgement_may_be_there_or_not() {
        let written = written(4, &[(0, 0), (2, 1)]);
        assert_eq!(check(&written, &read(&[(0, 0), (1, 2)])), []);
        assert_eq!(check(&written, &read(&[(0, 0), (1, 2), (2, 3)])), []);
    }

    #[test]
    fn offsets_may_have_gaps_but_not_go_back() {
        assert_eq!(check(&written(2, &[]), &read(&[(3, 0), (9, 1)])), []);
        assert_eq!(check(&written(2, &[]), &read(&[(9, 0), (3, 1)])), [Violation::Backwards { before: 9, offset: 3 }]);
    }

    #[test]
    fn a_lost_record_is_seen() {
        assert_eq!(
            check(&written(3, &[(0, 0), (1, 1), (2, 2)]), &read(&[(0, 0), (2, 2)])),
            [Violation::Lost { number: 1, offset: 1 }]
        );
    }

    #[test]
    fn a_lost_tail_is_seen() {
        assert_eq!(check(&written(1, &[(0, 0)]), &[]), [Violation::Lost { number: 0, offset: 0 }]);
    }

    #[test]
    fn a_duplicated_record_is_seen_acknowledged_or_not() {
        let duplicated = [Violation::Duplicated { number: 0, first: 0, again: 1 }];
        assert_eq!(check(&written(1, &[(0, 0)]), &read(&[(0, 0), (1, 0)])), duplicated);
        assert_eq!(check(&written(1, &[]), &read(&[(0, 0), (1, 0)])), duplicated);
    }

    #[test]
    fn a_reordered_record_is_seen() {
        assert_eq!(
            check(&written(2, &[]), &read(&[(0, 1), (1, 0)])),
            [Violation::Reordered { number: 0, offset: 1, after: 1 }]
        );
    }

    #[test]
    fn an_invented_record_is_seen() {
        assert_eq!(check(&written(1, &[]), &read(&[(0, 1)])), [Violation::Invented { offset: 0 }]);
        assert_eq!(check(&written(1, &[]), &[Read { offset: 7, number: None }]), [Violation::Invented { offset: 7 }]);
    }

    #[test]
    fn a_record_elsewhere_than_was_acknowledged_is_seen() {
        assert_eq!(
            check(&written(2, &[(0, 0), (1, 1)]), &read(&[(0, 0), (5, 1)])),
            [Violation::Moved { number: 1, acknowledged: 1, found: 5 }]
        );
    }

    #[test]
    fn an_acknowledgement_that_names_no_offset_moves_nothing() {
        assert_eq!(check(&written(1, &[(0, -1)]), &read(&[(4, 0)])), []);
    }
}
