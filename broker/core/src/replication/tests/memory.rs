//! What a replica takes while nothing happens.

use crate::replication::Replica;

#[test]
fn a_replica_is_small_as_a_broker_may_hold_ten_thousand() {
    let bytes = size_of::<Replica>();
    assert!(bytes <= 576, "a replica takes {bytes} bytes: what few have at a time belongs into a box");
}
