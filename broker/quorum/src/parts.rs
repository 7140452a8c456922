//! The tasks that a controller is made of, and what each of them is given.

use super::acks::Acks;
use super::disks::Disks;
use super::electorate::Electorate;
use super::handle::{ControllerHandle, Registration};
use super::heartbeats::Lease;
use super::leader::{Leader, LeaderHandle};
use super::links::Links;
use super::proposer::Proposer;
use super::publisher::Publisher;
use super::raft_log::{LogStore, LogThread};
use super::silence::Silence;
use super::starts::Starts;
use super::types::Raft;
use super::{
    Controller, ControllerConfig, admin, bootstrap, elections, handover, heartbeats, log_size, lost_leader, membership,
    registration, requests, restart, server,
};
use chronik_core::cluster::Image;
use chronik_core::ids::{BrokerEpoch, BrokerId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the tasks are made of.
pub(super) struct Parts {
    pub(super) config: ControllerConfig,
    pub(super) raft: Raft,
    pub(super) log: LogStore,
    pub(super) links: Links,
    pub(super) proposer: Proposer,
    pub(super) acks: Acks,
    pub(super) images: watch::Receiver<Image>,
    pub(super) past: restart::Past,
    pub(super) handed_over: handover::HandedOver,
    pub(super) silence: Silence,
    pub(super) yielding: handover::Yielding,
    pub(super) electorate: Electorate,
    pub(super) changing: admin::Changing,
    pub(super) hearing: elections::Hearing,
    pub(super) starts: Starts,
}

impl Parts {
    /// Starts all of them.
    pub(super) fn run(self, publisher: Publisher, thread: LogThread) -> Controller {
        let (leading, leader_handle) = Leader::new(
            &self.config,
            self.raft.clone(),
            self.proposer.clone(),
            self.acks.clone(),
            self.images.clone(),
            self.electorate.clone(),
            self.silence.clone(),
        );
        let (leader_seen, leader) = watch::channel(None);
        let (registering, registration) = watch::channel(Registration::default());
        let (displacing, displaced) = mpsc::channel(1);
        let (requests, asked) = mpsc::unbounded_channel();

        let me = self.config.me.id;
        let lost_leader = self.lost_leader();
        let mut tasks = Tasks { set: JoinSet::new(), stop: CancellationToken::new() };
        if self.config.voters.iter().any(|(id, _)| *id == me) {
            tasks.spawn(self.bootstrap().run());
        }
        tasks.spawn(self.restart().run());
        tasks.spawn(self.elections().run());
        tasks.spawn(lost_leader.clone().run());
        tasks.spawn(self.members(leader_handle.clone()).run());
        tasks.spawn(leading.run());
        tasks.spawn(self.registrar(leader.clone(), leader_handle.clone(), displaced).run());
        let disks = Disks {
            data: self.config.data_disk.clone(),
            metadata: thread.pulse.clone(),
            timeout: self.config.disk_stall_timeout,
        };
        tasks.spawn(self.heart(leader.clone(), leader_handle.clone(), registering, displacing, disks).run());
        tasks.spawn(self.hearing.clone().tell(leader_seen));
        tasks.spawn(log_size::keep_small(self.raft.clone(), self.log.clone()));

        let handover = self.handover(leader_handle.clone());
        let calls = self.admin(leader_handle.clone(), handover.clone());
        let admin = admin::AdminHandle::new(calls.clone(), leader.clone());
        tasks.spawn(self.requests(leader.clone(), registration.clone(), admin.clone()).run(asked));
        let service = self.service(leader_handle, calls, lost_leader);
        let Self { config, raft, images, .. } = self;
        // The server ends by itself, so that answers on their way are still sent.
        tasks.set.spawn(server::serve(config.listener, service, tasks.stop.clone()));
        let handle = ControllerHandle::new(requests, images, registration, leader);
        let guard = tasks.stop.clone().drop_guard();
        Controller { raft, handle, admin, publisher, handover, tasks, log: thread, _guard: guard }
    }

    fn seeds(&self) -> Vec<BrokerId> {
        let seeds = self.config.seeds.iter().chain(&self.config.voters).map(|(id, _)| *id);
        let others: BTreeSet<BrokerId> = seeds.filter(|id| *id != self.config.me.id).collect();
        others.into_iter().collect()
    }

    fn members(&self, leader: LeaderHandle) -> membership::Members {
        membership::Members {
            me: self.config.me.id,
            first: self.config.voters.iter().map(|(id, _)| *id).collect(),
            raft: self.raft.clone(),
            electorate: self.electorate.clone(),
            links: self.links.clone(),
            leader,
            yielding: self.yielding.clone(),
            changing: self.changing.clone(),
        }
    }

    fn admin(&self, leader: LeaderHandle, handover: handover::Handover) -> admin::Calls {
        admin::Calls {
            me: self.config.me.id,
            incarnation: self.config.incarnation,
            lately: self.config.timings.session,
            raft: self.raft.clone(),
            leader,
            proposer: self.proposer.clone(),
            links: self.links.clone(),
            acks: self.acks.clone(),
            image: self.images.clone(),
            stop: self.config.stop.clone(),
            handover,
            changing: self.changing.clone(),
            lags: self.config.lags.clone(),
            starts: self.starts.clone(),
        }
    }

    fn service(
        &self,
        leader: LeaderHandle,
        admin: admin::Calls,
        lost_leader: lost_leader::LostLeader,
    ) -> server::Service {
        server::Service {
            me: self.config.me.id,
            directory: self.config.directory,
            electorate: self.electorate.clone(),
            raft: self.raft.clone(),
            log: self.log.clone(),
            links: self.links.clone(),
            peers: self.config.peers.clone(),
            proposer: self.proposer.clone(),
            leader,
            past: self.past,
            admin,
            handed_over: self.handed_over.clone(),
            lost_leader,
            hearing: self.hearing.clone(),
            silence: self.silence.clone(),
            yielding: self.yielding.clone(),
        }
    }

    fn lost_leader(&self) -> lost_leader::LostLeader {
        lost_leader::LostLeader {
            me: self.config.me.id,
            raft: self.raft.clone(),
            links: self.links.clone(),
            peers: self.config.peers.clone(),
            log: self.log.clone(),
            handed_over: self.handed_over.clone(),
            hint: Arc::default(),
        }
    }

    fn handover(&self, leader: LeaderHandle) -> handover::Handover {
        let (raft, links) = (self.raft.clone(), self.links.clone());
        let (electorate, yielding) = (self.electorate.clone(), self.yielding.clone());
        handover::Handover { me: self.config.me.id, electorate, raft, links, leader, yielding }
    }

    fn restart(&self) -> restart::Restart {
        restart::Restart {
            me: self.config.me.id,
            past: self.past,
            election_min: self.config.timings.election_min,
            electorate: self.electorate.clone(),
            raft: self.raft.clone(),
            links: self.links.clone(),
        }
    }

    fn elections(&self) -> elections::Elections {
        elections::Elections {
            me: self.config.me.id,
            past: self.past,
            election_min: self.config.timings.election_min,
            election_max: self.config.timings.election_max,
            electorate: self.electorate.clone(),
            raft: self.raft.clone(),
            log: self.log.clone(),
            links: self.links.clone(),
            hearing: self.hearing.clone(),
            #[cfg(test)]
            caller: self.config.peers.caller.clone(),
        }
    }

    fn bootstrap(&self) -> bootstrap::Bootstrap {
        bootstrap::Bootstrap {
            me: self.config.me.id,
            directory: self.config.directory,
            voters: self.config.voters.clone(),
            others: self.seeds(),
            raft: self.raft.clone(),
            log: self.log.clone(),
            links: self.links.clone(),
        }
    }

    fn registrar(
        &self,
        leader: watch::Receiver<Option<BrokerId>>,
        leading: LeaderHandle,
        displaced: mpsc::Receiver<BrokerEpoch>,
    ) -> registration::Registrar {
        registration::Registrar {
            member: self.config.me.clone(),
            directory: self.config.directory,
            incarnation: self.config.incarnation,
            known: self.config.known_incarnations.clone(),
            damaged: self.config.damaged.clone(),
            controller: self.config.endpoint.clone(),
            electorate: self.electorate.clone(),
            seeds: self.seeds(),
            links: self.links.clone(),
            leader,
            leading,
            proposer: self.proposer.clone(),
            image: self.images.clone(),
            displaced,
        }
    }

    fn heart(
        &self,
        leader: watch::Receiver<Option<BrokerId>>,
        leading: LeaderHandle,
        registration: watch::Sender<Registration>,
        displaced: mpsc::Sender<BrokerEpoch>,
        disks: Disks,
    ) -> heartbeats::Heart {
        heartbeats::Heart {
            me: self.config.me.id,
            incarnation: self.config.incarnation,
            interval: self.config.timings.heartbeat,
            lease: Lease::of(&self.config.timings),
            silence: self.silence.clone(),
            links: self.links.apart("heartbeats"),
            leader,
            leading,
            image: self.images.clone(),
            registration,
            disk: self.config.disk.clone(),
            damages: self.config.damages.clone(),
            disks,
            raft: self.raft.clone(),
            displaced,
            number: AtomicU64::new(0),
        }
    }

    fn requests(
        &self,
        leader: watch::Receiver<Option<BrokerId>>,
        registration: watch::Receiver<Registration>,
        admin: admin::AdminHandle,
    ) -> requests::Requests {
        requests::Requests {
            me: self.config.me.id,
            defaults: self.config.defaults,
            links: self.links.clone(),
            proposer: self.proposer.clone(),
            leader,
            image: self.images.clone(),
            registration,
            admin,
        }
    }
}

/// The tasks of a running controller.
pub(super) struct Tasks {
    pub(super) set: JoinSet<()>,
    pub(super) stop: CancellationToken,
}

impl Tasks {
    /// Runs until stopped.
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.set.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }
}
