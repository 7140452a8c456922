//! The replica of one partition on this broker: leader or follower, its high watermark, its view of the ISR,
//! and the producers that wait for it. Events in, commands out; `event` names both.

mod context;
mod damage;
mod epochs;
mod event;
mod follower;
mod follower_reads;
mod gaps;
mod high_watermark;
mod isr;
mod leader;
mod log;
mod pending_appends;
mod progress;
mod replica;
mod status;
#[cfg(test)]
mod tests;

pub use event::{
    Acks, Command, Config, Event, FollowerMessage, LeaderMessage, LogState, PartitionState, ProduceError, Produced,
    StreamId, Ticket,
};
pub use isr::{IsrState, IsrView};
pub use replica::Replica;
pub use status::{Lag, Readable, Role, Status};
