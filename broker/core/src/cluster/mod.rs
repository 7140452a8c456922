//! The cluster's metadata as every broker sees it, and the decisions of the controller: both are the result
//! of applying the metadata log's entries, in order, to an [`Image`].
//!
//! The log holds commands, and what they lead to is decided when they are applied: by every broker alike,
//! because nothing but the image and the entry goes into it. So a rule that is in use may not change for
//! entries that may be in a log already; a changed rule is a new command.

mod apply;
mod assignment;
mod balance;
mod command;
pub mod config;
mod configs;
mod connections;
mod diff;
mod drain;
mod election;
mod features;
mod fencing;
pub mod group_configs;
mod health;
mod image;
mod isr;
mod leadership;
mod listeners;
mod membership;
mod partitions;
mod permits;
mod producer_ids;
mod read_replicas;
mod reassignment;
mod rebalance;
mod rebalance_rates;
mod resignation;
#[cfg(test)]
mod tests;
mod throttles;
mod topics;
mod unreached;
mod voters;

pub use balance::{LeaderBalance, LeaderBalanceConfig};
pub use command::{
    Answer, Change, Election, Leaving, Member, MetadataCommand, Outcome, Reassignment, Refusal, ResignReason,
    ResignedPartitions,
};
pub use connections::{ConnectionsPerIp, MAX_CONNECTIONS_PER_IP, MAX_CONNECTIONS_PER_IP_OVERRIDES};
pub use drain::Drain;
pub use features::{MetadataVersion, SupportedVersions};
pub use health::{Ailing, Ailment, Holdings};
pub use image::{Broker, Endpoint, Image, Partition, Topic};
pub use leadership::Elected;
pub use listeners::{ADVERTISED_LISTENERS, listener_name};
pub use permits::{Objection, Permit, Recovery};
pub use rebalance::{DiskUse, FULL_PERCENT, NotNow, Rebalance, Spread};
pub use rebalance_rates::OtherRate;
pub use throttles::{Throttle, ThrottledRates};
pub use topics::{MAX_PARTITIONS, OFFSETS_TOPIC, is_internal};
pub use unreached::{Reach, Unreached};
pub use voters::{CaughtUp, VoterChange, VoterObjection, next_voter_change};
