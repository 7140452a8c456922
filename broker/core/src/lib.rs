//! Chronik's decisions as pure state machines: no sockets, files, clocks or randomness. Time and random
//! numbers are arguments, so the same code runs in a broker and under the simulator.

pub mod cluster;
pub mod compaction;
pub mod fetch_sessions;
pub mod groups;
pub mod ids;
pub mod producers;
pub mod record;
pub mod replication;
pub mod retention;
pub mod space;
pub mod time;
