//! Who may still write to a disk that fills.
//!
//! A floor of free space is kept: for the write-ahead log, for checkpoints, for the metadata log, and for removing. The
//! upper half of it is open to what the cluster writes for its own sake (group offsets), so that consumers go on while
//! producers are refused. What is closed opens again only when there is a quarter of the floor more than it was closed
//! at: a disk near the limit does not alternate between taking and refusing.

/// Who may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Nobody: what is left is for going on, and for removing.
    None,
    /// The cluster itself, to its internal topics.
    Internal,
    /// Everybody.
    #[default]
    Ample,
}

impl Room {
    /// Who may write when `left` bytes are free, after it was `self`. A floor of 0 closes nothing.
    #[must_use]
    pub fn with(self, left: u64, floor: u64) -> Self {
        let opens = |at: u64, open: bool| left >= if open { at } else { at.saturating_add(floor / 4) };
        if opens(floor, self == Self::Ample) {
            Self::Ample
        } else if opens(floor / 2, self >= Self::Internal) {
            Self::Internal
        } else {
            Self::None
        }
    }

    /// Whether a topic may be written to.
    pub fn takes(self, internal: bool) -> bool {
        self >= if internal { Self::Internal } else { Self::Ample }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_closes_at_the_floor_and_opens_a_quarter_above_it() {
        use Room::{Ample, Internal, None};
        for (before, left, after) in [
            (Ample, 100, Ample),
            (Ample, 99, Internal),
            (Ample, 50, Internal),
            (Ample, 49, None),
            (Internal, 100, Internal),
            (Internal, 124, Internal),
            (Internal, 125, Ample),
            (Internal, 49, None),
            (None, 50, None),
            (None, 74, None),
            (None, 75, Internal),
            (None, 124, Internal),
            (None, 125, Ample),
        ] {
            assert_eq!(before.with(left, 100), after, "{before:?}, {left} left");
        }
    }

    #[test]
    fn without_a_floor_nothing_is_closed() {
        assert_eq!(Room::None.with(0, 0), Room::Ample);
    }

    #[test]
    fn internal_topics_have_room_longer_than_others() {
        let takes = |room: Room| (room.takes(false), room.takes(true));
        assert_eq!([Room::Ample, Room::Internal, Room::None].map(takes), [(true, true), (false, true), (false, false)]);
    }
}
