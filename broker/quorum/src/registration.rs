//! This broker's registration: asked for as soon as somebody leads, and again when another process has taken
//! its place.

use super::electorate::Electorate;
use super::encoding;
use super::leader::LeaderHandle;
use super::links::Links;
use super::proposer::Proposer;
use super::proto;
use chronik_core::cluster::{Endpoint, Image, Member, MetadataCommand, Outcome, Partition, SupportedVersions};
use chronik_core::ids::{BrokerEpoch, BrokerId, DirectoryId, IncarnationId, TopicPartition};
use rand::seq::IteratorRandom;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// One try.
const TIMEOUT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// Between registrations of a broker whose place is taken again and again.
const MAX_CONTEST_PAUSE: Duration = Duration::from_secs(30);

/// Who registers.
pub(super) struct Registrar {
    pub(super) member: Member,
    pub(super) directory: DirectoryId,
    pub(super) incarnation: IncarnationId,
    /// Those of which one registered last, if that is known.
    pub(super) known: Vec<IncarnationId>,
    /// Told with the first registration.
    pub(super) damaged: Vec<TopicPartition>,
    /// Where this broker's controller port is.
    pub(super) controller: Endpoint,
    pub(super) electorate: Electorate,
    /// Whom to ask as long as no voter is known, or answers.
    pub(super) seeds: Vec<BrokerId>,
    pub(super) links: Links,
    pub(super) leader: watch::Receiver<Option<BrokerId>>,
    pub(super) leading: LeaderHandle,
    pub(super) proposer: Proposer,
    pub(super) image: watch::Receiver<Image>,
    /// Told which registration of this process the leader does not know (any more).
    pub(super) displaced: mpsc::Receiver<BrokerEpoch>,
}

impl Registrar {
    pub(super) async fn run(mut self) {
        let mut contest = Duration::from_secs(1);
        loop {
            self.register().await;
            // Known from now on; what is repaired later must not be taken away again.
            self.damaged.clear();
            loop {
                let Some(lost) = self.displaced.recv().await else { return };
                // What was said of the registration before this one is old.
                if self.epoch().is_none_or(|epoch| epoch <= lost) {
                    break;
                }
            }
            tracing::error!(
                broker = %self.member.id,
                "another process has registered as broker {}: two brokers must not have the same id",
                self.member.id
            );
            tokio::time::sleep(contest).await;
            contest = (contest * 2).min(MAX_CONTEST_PAUSE);
        }
    }

    /// Asks until the registration is in this broker's own image.
    async fn register(&mut self) {
        let mut pause = FIRST_PAUSE;
        let mut hint = None;
        while !self.is_registered() {
            let leader = *self.leader.borrow_and_update();
            let target = leader.or(hint.take()).unwrap_or_else(|| self.anybody());
            let was_ready = self.leading.is_ready();
            let mut leaders = self.leader.clone();
            let answer = tokio::select! {
                answer = self.ask(target) => answer,
                // Whoever was asked for want of a leader may not even be there: the leader is asked at once. A
                // registration that is asked for twice is the same one.
                _ = leaders.wait_for(|now| now.is_some_and(|id| id != target)) => continue,
            };
            match answer {
                Answer::Registered => {
                    let registered = {
                        let (me, incarnation) = (self.member.id, self.incarnation);
                        self.image.wait_for(move |i| has(i, me, incarnation))
                    };
                    // The entry is on its way here; if it does not come the leader has changed, and is asked anew.
                    let _ = tokio::time::timeout(TIMEOUT, registered).await;
                    continue;
                }
                Answer::NotLeader(leader) => hint = leader,
                Answer::Unknown => {}
            }
            tokio::select! {
                _ = self.leader.changed() => {}
                // The leader may have been this broker all along, and not ready yet.
                () = self.leading.becomes_ready(), if !was_ready => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Somebody who may know the leader.
    fn anybody(&self) -> BrokerId {
        let mut all = self.electorate.voters();
        all.extend(&self.seeds);
        all.into_iter().choose(&mut rand::rng()).unwrap_or(self.member.id)
    }

    fn is_registered(&self) -> bool {
        self.epoch().is_some()
    }

    /// The epoch of this process's registration, as this broker's image has it.
    fn epoch(&self) -> Option<BrokerEpoch> {
        let image = self.image.borrow();
        image.brokers.get(&self.member.id).filter(|b| b.incarnation == Some(self.incarnation))?.epoch
    }

    async fn ask(&self, target: BrokerId) -> Answer {
        let command = MetadataCommand::RegisterBroker {
            member: self.member.clone(),
            directory: self.directory,
            incarnation: self.incarnation,
            damaged: self.damaged.clone(),
            versions: SupportedVersions::HERE,
        };
        if target == self.member.id {
            if !self.leading.is_ready() {
                return Answer::NotLeader(None);
            }
            let command = believed(command, &self.known, &self.image.borrow().clone());
            return match self.proposer.propose(command).await {
                Ok((outcome, _)) => registered(&outcome),
                Err(_) => Answer::Unknown,
            };
        }
        let Ok(body) = encoding::encode(&command) else { return Answer::Unknown };
        let request = proto::RegisterRequest {
            caller: Some(self.links.caller(target)),
            body,
            controller_host: self.controller.host.to_string(),
            controller_port: self.controller.port.into(),
            known_incarnations: self.known.iter().map(|id| id.0.as_bytes().to_vec()).collect(),
        };
        let call = |mut client: super::link::Client| async move { client.register(request).await };
        match self.links.call(target, TIMEOUT, call).await {
            Ok(answer) if answer.not_leader => {
                let leader = answer.leader.map(BrokerId).filter(|id| *id != target);
                if let (Some(id), Ok(port @ 1..)) = (leader, u16::try_from(answer.leader_port)) {
                    self.links.learn(id, Endpoint { host: answer.leader_host.into(), port });
                }
                Answer::NotLeader(leader)
            }
            Ok(answer) => match encoding::decode::<Outcome>(&answer.outcome) {
                Ok(outcome) => registered(&outcome),
                Err(_) => Answer::Unknown,
            },
            Err(error) => {
                tracing::debug!(?error, "broker {target} did not register this one");
                Answer::Unknown
            }
        }
    }
}

/// A registration as the leader proposes it, by its own image. A data directory that does not know the process that
/// registered last is an old copy: it has lost something of each partition, for all that anybody knows.
pub(super) fn believed(command: MetadataCommand, known: &[IncarnationId], image: &Image) -> MetadataCommand {
    let MetadataCommand::RegisterBroker { member, directory, incarnation, mut damaged, versions } = command else {
        return command;
    };
    let last = image.brokers.get(&member.id).filter(|broker| broker.directory == Some(directory));
    let last = last.and_then(|broker| broker.incarnation);
    if let Some(last) = last.filter(|last| !known.is_empty() && !known.contains(last)) {
        tracing::warn!(
            broker = %member.id, %last,
            "broker {}'s data directory is an old copy: it is not believed to hold what was written since",
            member.id
        );
        // What nobody else has is all that there is, however old it is.
        let has_more = |p: &Partition| p.replicas.contains(&member.id) && p.replicas.len() > 1;
        damaged = image.partitions().filter(|(_, _, p)| has_more(p)).map(|(tp, _, _)| tp).collect();
    }
    MetadataCommand::RegisterBroker { member, directory, incarnation, damaged, versions }
}

/// What the outcome of a registration means. It is asked for again in any case: a refusal may be of an older leader.
fn registered(outcome: &Outcome) -> Answer {
    match outcome {
        Ok(_) => Answer::Registered,
        Err(refusal) => {
            tracing::error!(%refusal, "the controller does not register this broker");
            Answer::Unknown
        }
    }
}

enum Answer {
    Registered,
    NotLeader(Option<BrokerId>),
    Unknown,
}

fn has(image: &Image, me: BrokerId, incarnation: IncarnationId) -> bool {
    image.brokers.get(&me).is_some_and(|b| b.incarnation == Some(incarnation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::{Answer, MetadataCommand as Command, MetadataVersion};
    use chronik_core::ids::{ClusterId, MetadataOffset, TopicId};
    use std::collections::BTreeMap;
    use uuid::Uuid;

    #[test]
    fn a_directory_that_does_not_know_the_last_process_is_an_old_copy() {
        let endpoint = Endpoint { host: "here".into(), port: 1 };
        let member = Member { id: BrokerId(0), kafka: endpoint.clone(), replication: endpoint, rack: None };
        let process = |n| IncarnationId(Uuid::from_u128(n));
        let registers = |n, directory| Command::RegisterBroker {
            member: member.clone(),
            directory: DirectoryId(Uuid::from_u128(directory)),
            incarnation: process(n),
            damaged: Vec::new(),
            versions: SupportedVersions::HERE,
        };
        let mut image = Image::default();
        let create = Command::CreateCluster {
            cluster_id: ClusterId(Uuid::from_u128(1)),
            members: vec![member.clone(), Member { id: BrokerId(1), ..member.clone() }],
            metadata_version: MetadataVersion::LATEST,
        };
        let topic = |id, replication_factor, assignments: BTreeMap<_, _>| Command::CreateTopic {
            id: TopicId(Uuid::from_u128(id)),
            name: format!("t-{id}"),
            partitions: 2,
            replication_factor,
            assignments,
            configs: BTreeMap::new(),
            default_min_insync_replicas: 1,
        };
        image.apply(MetadataOffset(1), &create).0.unwrap();
        let Ok(Answer::Registered(epoch)) = image.apply(MetadataOffset(2), &registers(1, 7)).0 else {
            panic!("no epoch")
        };
        // Of the second one nobody else has anything.
        let alone = [0, 1].map(|n| (n, vec![member.id])).into();
        let topics = [topic(2, 2, BTreeMap::new()), topic(3, 1, alone)];
        for (at, command) in (3..).zip([Command::Unfence { id: member.id, epoch }].into_iter().chain(topics)) {
            image.apply(MetadataOffset(at), &command).0.unwrap();
        }
        let damaged = |command, known: &[u128]| {
            let known: Vec<_> = known.iter().copied().map(process).collect();
            match believed(command, &known, &image) {
                Command::RegisterBroker { damaged, .. } => damaged.len(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(damaged(registers(2, 7), &[1, 2]), 0, "the next process");
        assert_eq!(damaged(registers(1, 7), &[1]), 0, "the same one again");
        assert_eq!(damaged(registers(2, 7), &[]), 0, "of a directory that does not say");
        assert_eq!(damaged(registers(2, 8), &[2]), 0, "another disk, which the registration says itself");
        assert_eq!(damaged(registers(3, 7), &[0, 3]), 2, "restored from before process 1");
    }
}
