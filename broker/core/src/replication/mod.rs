//! The replica of one partition on this broker: leader or follower, its high watermark, its view of the ISR,
//! and the producers that wait for it. Events in, commands out; `event` names both.

mod event;

pub use event::{
    Acks, Command, Config, Event, FollowerMessage, LeaderMessage, LogState, PartitionState, ProduceError, Produced,
    StreamId, Ticket,
};
