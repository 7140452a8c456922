//! What follows from the membership. Each broker keeps a link to every voter, wherever that one has said that it is, and
//! closes those to brokers that are no members any more. And the leader ends a change of the voters that another one
//! began: openraft changes them in two entries, and leaves the second one to who asked.

use super::admin::{Changing, unfinished};
use super::electorate::Electorate;
use super::handover::Yielding;
use super::leader::LeaderHandle;
use super::links::Links;
use super::types::Raft;
use chronik_core::ids::BrokerId;
use std::time::Duration;

/// Who asked for a change has so long to end it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The task that follows the membership.
pub(super) struct Members {
    pub(super) me: BrokerId,
    /// The voters by the configuration, as long as there is no membership.
    pub(super) first: Vec<BrokerId>,
    pub(super) raft: Raft,
    pub(super) electorate: Electorate,
    pub(super) links: Links,
    pub(super) leader: LeaderHandle,
    pub(super) yielding: Yielding,
    pub(super) changing: Changing,
}

impl Members {
    pub(super) async fn run(self) {
        for voter in self.first.iter().filter(|id| **id != self.me) {
            self.links.to(*voter);
        }
        let mut metrics = self.raft.server_metrics();
        loop {
            self.connect();
            tokio::select! {
                goes_on = Electorate::changed(&mut metrics) => if !goes_on { return },
                () = tokio::time::sleep(PATIENCE), if self.electorate.is_changing() => self.end_change().await,
            }
        }
    }

    async fn end_change(&self) {
        if self.leader.is_ready() && !self.yielding.is_under_way() && !self.changing.is_under_way() {
            match self.raft.change_membership(unfinished(), true).await {
                Ok(_) => tracing::info!("ended a change of the voters that another leader had begun"),
                Err(error) => tracing::debug!(%error, "cannot end the change of the voters yet"),
            }
        }
    }

    fn connect(&self) {
        let current = self.electorate.current();
        let membership = current.membership();
        for (id, node) in membership.nodes().filter(|(id, _)| **id != self.me) {
            self.links.learn(*id, node.0.clone());
        }
        for voter in membership.voter_ids().filter(|id| *id != self.me) {
            self.links.to(voter);
        }
        // Who is no member itself, or not yet, may know less of the members than whom it asks.
        if membership.get_node(&self.me).is_some() {
            self.links.keep_only(|id| membership.get_node(&id).is_some());
        }
    }
}
