//! DescribeGroups of a classic group.

use super::{ClassicGroup, State};
use crate::groups::response::{DescribedGroup, DescribedMember};
use bytes::Bytes;
use std::sync::Arc;

impl ClassicGroup {
    /// Kafka's name of its state.
    pub(in crate::groups) fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    /// Its protocol type; empty until somebody has joined.
    pub(in crate::groups) fn protocol_type(&self) -> Arc<str> {
        self.protocol_type.clone().unwrap_or_else(|| Arc::from(""))
    }

    /// DescribeGroups. Only of a stable group the answer names the chosen protocol and the members' metadata.
    pub(in crate::groups) fn describe(&self) -> DescribedGroup {
        let stable = self.state == State::Stable;
        let members = self.members.iter().map(|(id, member)| DescribedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client.id.clone(),
            client_host: member.client.host.clone(),
            metadata: if stable { member.metadata(self.protocol.as_deref()) } else { Bytes::new() },
            assignment: member.assignment.clone(),
        });
        DescribedGroup {
            state: self.state_name(),
            protocol_type: self.protocol_type(),
            protocol: self.protocol.clone().filter(|_| stable).unwrap_or_else(|| Arc::from("")),
            members: members.collect(),
        }
    }
}
