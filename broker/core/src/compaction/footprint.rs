//! What room compaction takes on a disk: what is left of segments stands beside them until a checkpoint lets them go.

use crate::space::Room;

/// A checkpoint is due after so many bytes of segments were replaced.
const CHECKPOINT_AFTER: u64 = 256 << 20;

/// The segments that were replaced, and are still there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    replaced: u64,
}

impl Footprint {
    /// Whether there is room to write up to so many bytes, with `available` of the disk: as long as the lower half of the
    /// `floor` stays, which is for what must go on. The upper half may be taken: where only compaction makes room, a disk
    /// below its floor would stay there.
    pub fn fits(room: Room, available: u64, floor: u64, bytes: u64) -> bool {
        room != Room::None && available.saturating_sub(floor / 2) >= bytes
    }

    /// Notes that segments were replaced. Says whether a checkpoint is due: there is much to leave, or with it the disk comes
    /// back to its `floor`, with `available` bytes of it now. One for each group of segments would hold back whoever writes
    /// there, and where little goes free nothing for it.
    pub fn replaced(&mut self, bytes: u64, room: Room, available: u64, floor: u64) -> bool {
        self.replaced += bytes;
        let opens = || room != Room::Ample && room.with(available.saturating_add(self.replaced), floor) > room;
        (self.replaced >= CHECKPOINT_AFTER || opens()) && self.leaves()
    }

    /// Says whether a checkpoint is due when nothing follows.
    pub fn leaves(&mut self) -> bool {
        std::mem::take(&mut self.replaced) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Room::{Ample, Internal, None};

    #[test]
    fn the_lower_half_of_the_floor_is_left_alone() {
        for (room, available, bytes, fits) in [
            (Ample, 1000, 950, true),
            (Ample, 1000, 951, false),
            (Internal, 99, 49, true),
            (Internal, 99, 50, false),
            (None, 1000, 1, false),
            (None, 40, 0, false),
        ] {
            assert_eq!(Footprint::fits(room, available, 100, bytes), fits, "{room:?}, {available}, {bytes}");
        }
    }

    #[test]
    fn what_was_replaced_leaves_before_it_is_much_and_at_the_end() {
        let mut footprint = Footprint::default();
        assert!(!footprint.leaves(), "nothing was replaced");
        assert!(!footprint.replaced(CHECKPOINT_AFTER - 1, Ample, u64::MAX, 0));
        assert!(footprint.replaced(1, Ample, u64::MAX, 0));
        assert!(!footprint.leaves(), "it has left");
        assert!(!footprint.replaced(1, Ample, u64::MAX, 0));
        assert!(footprint.leaves());
    }

    #[test]
    fn below_the_floor_it_leaves_when_that_opens_the_disk() {
        let mut footprint = Footprint::default();
        // It opens a quarter of the floor above it.
        assert!(!footprint.replaced(20, Internal, 90, 100));
        assert!(!footprint.replaced(14, Internal, 90, 100));
        assert!(footprint.replaced(1, Internal, 90, 100));
        assert!(!footprint.replaced(34, Internal, 90, 100), "what has left does not count again");
        assert!(footprint.replaced(1, None, 40, 100), "to what the cluster itself writes");
        assert!(footprint.replaced(CHECKPOINT_AFTER, Internal, 0, u64::MAX), "it is much");
    }
}
