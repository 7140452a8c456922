//! Brokers are made to hold about as much as each other, a few moves at a time: each call begins as many as may be under
//! way, and says what is left. So whoever asks can stop at any time, and somebody else can go on.

use super::confirm::View;
use super::drain::{planned, precondition, under_way};
use super::facts::count;
use super::{Calls, Failure};
use chronik_admin as api;
use chronik_core::cluster::{DiskUse, FULL_PERCENT, Image, MetadataCommand, NotNow, Reassignment, Rebalance, Spread};
use chronik_core::ids::BrokerId;
use std::collections::BTreeMap;
use tonic::Status;

/// Partitions that may be under way.
const AT_ONCE: usize = 16;
/// Moves of a plan that are told.
const MOST: usize = 20_000;

impl Calls {
    pub(super) async fn rebalance(&self, request: api::RebalanceRequest) -> Result<api::RebalanceResponse, Failure> {
        let view = self.view().await?;
        if request.cancel {
            return self.take_back(&view).await;
        }
        let plan = plan_of(&view, if request.plan_only { MOST } else { AT_ONCE }).await?;
        let not_now = view.image.not_now();
        let mut begun = Vec::new();
        if request.plan_only {
            begun.clone_from(&plan.moves);
        } else if plan.left == 0 && plan.under_way.is_empty() {
            if request.throttle > 0 {
                self.unthrottle(&view.image, Some(request.throttle)).await?;
            }
        } else if not_now.is_none() {
            if request.throttle > 0 {
                self.throttle(&view.image, &plan.moves, request.throttle).await?;
            }
            begun.clone_from(&plan.moves);
            self.reassign(begun.clone()).await?;
        }
        Ok(api::RebalanceResponse {
            moves: begun.iter().filter_map(|m| planned(&view.image, m)).collect(),
            under_way: count(plan.under_way.len()),
            left: count(plan.left),
            waits_for: not_now.map(said).or_else(|| full(&plan)).unwrap_or_default(),
            now: Some(spread(plan.now)),
            planned: Some(spread(plan.planned)),
        })
    }

    async fn take_back(&self, view: &View) -> Result<api::RebalanceResponse, Failure> {
        let moving = view.image.partitions().filter(|(_, _, p)| p.is_reassigning()).take(MOST).map(|(tp, ..)| tp);
        let moving: Vec<_> = moving.collect();
        let moves = moving.iter().filter_map(|tp| under_way(&view.image, *tp)).collect();
        self.reassign(moving.into_iter().map(|partition| Reassignment { partition, replicas: None }).collect()).await?;
        self.unthrottle(&view.image, None).await?;
        Ok(api::RebalanceResponse { moves, ..Default::default() })
    }

    /// Before what is throttled begins.
    async fn throttle(&self, image: &Image, moves: &[Reassignment], rate: u64) -> Result<(), Failure> {
        let commands = image.throttled(moves, rate).map_err(|other| {
            Status::failed_precondition(format!(
                "{other}, which `chronik rebalance --cancel` does if it was a rebalance's"
            ))
        })?;
        self.configure(commands).await
    }

    async fn unthrottle(&self, image: &Image, rate: Option<u64>) -> Result<(), Failure> {
        self.configure(image.unthrottled(rate)).await
    }

    async fn configure(&self, commands: Vec<MetadataCommand>) -> Result<(), Failure> {
        for command in commands {
            let (outcome, _) = self.propose(command).await?;
            outcome.map_err(|refusal| precondition(&refusal))?;
        }
        Ok(())
    }
}

/// The plan, made where it holds up nobody.
async fn plan_of(view: &View, at_once: usize) -> Result<Rebalance, Status> {
    let disk = |(id, sign): (&BrokerId, &crate::observed::Sign)| {
        let disk = sign.disk?;
        Some((*id, DiskUse { total: disk.total, free: disk.free }))
    };
    let disks: BTreeMap<BrokerId, DiskUse> = view.observed.signs.iter().filter_map(disk).collect();
    let image = view.image.clone();
    let plan = tokio::task::spawn_blocking(move || image.rebalance(&disks, at_once)).await;
    plan.map_err(|_| Status::internal("the plan could not be made"))
}

/// What keeps brokers from their share when nothing is left to move.
fn full(plan: &Rebalance) -> Option<String> {
    let ids: Vec<_> = plan.full.iter().map(ToString::to_string).collect();
    let keeps = plan.left == 0 && plan.under_way.is_empty() && !ids.is_empty();
    keeps.then(|| format!("the disks of brokers {} are more than {FULL_PERCENT} % full", ids.join(", ")))
}

fn said(not_now: NotNow) -> String {
    match not_now {
        NotNow::Ailing(1) => "1 partition is not well".into(),
        NotNow::Ailing(n) => format!("{n} partitions are not well"),
        NotNow::Permit(broker) => format!("broker {broker} holds the permit to be stopped"),
    }
}

fn spread(spread: Spread) -> api::Spread {
    api::Spread {
        fewest_replicas: count(spread.replicas.0),
        most_replicas: count(spread.replicas.1),
        fewest_preferred: count(spread.preferred.0),
        most_preferred: count(spread.preferred.1),
        crowded: count(spread.crowded),
    }
}
