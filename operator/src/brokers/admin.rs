//! The brokers' admin API over gRPC. Any broker will do: one that does not lead the controller passes a request on.

use super::{
    Answer, Balance, Bounds, BrokerFacts, Brokers, Contact, Facts, Failure, Permit, Standing, Stop, Unanswered,
    ask_each,
};
use chronik_admin::{
    AdminClient, ChangeVotersRequest, DrainRequest, FactsRequest, FactsResponse, RebalanceRequest, RebalanceResponse,
    RecoveredRequest, Refusal, RemoveBrokerRequest, RequestStopRequest, RequestStopResponse, UncordonRequest,
};
use futures::FutureExt;
use std::net::IpAddr;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// How long one broker is given to accept a connection; the next is asked then.
const CONNECT: Duration = Duration::from_secs(1);
/// How long one broker is given for an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long all of them are given: what there is to say about the cluster waits for it.
pub(crate) const IN_ALL: Duration = Duration::from_secs(10);
/// After this, another one is asked for facts beside one that has not answered: that changes nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long a permit holds: a pod that takes longer is found not to serve, and nothing else is stopped then either.
const PERMIT: Duration = Duration::from_mins(10);
/// More than any facts of a cluster of ten thousand partitions take.
const ANSWER_MAX: usize = 16 << 20;

/// What a leader says that has yet to give its cluster an identity.
const NO_CLUSTER: &str = "00000000-0000-0000-0000-000000000000";

/// A client of the brokers.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    port: u16,
}

impl Default for Admin {
    fn default() -> Self {
        Self { port: chronik_admin::DEFAULT_PORT }
    }
}

impl Admin {
    /// Asks one broker after the other, until one gives an answer that counts for all.
    async fn ask<T, F>(self, contact: Contact, what: &'static str, request: F) -> Result<T, Unanswered>
    where
        F: AsyncFn(AdminClient<Channel>) -> Result<Response<T>, Status>,
    {
        self.ask_each(CONNECT + DEADLINE, contact, what, request).await
    }

    /// The same, and another one beside one that has not answered in `patience`.
    async fn ask_each<T, F>(
        self,
        patience: Duration,
        contact: Contact,
        what: &'static str,
        request: F,
    ) -> Result<T, Unanswered>
    where
        F: AsyncFn(AdminClient<Channel>) -> Result<Response<T>, Status>,
    {
        let bounds = Bounds { patience, in_all: IN_ALL };
        let brokers = contact.addresses.iter().map(|(id, address)| (*id, self.ask_one(address, what, &request)));
        ask_each(brokers.collect(), bounds).await
    }

    /// One broker's answer, or why there is none.
    async fn ask_one<T, F>(self, address: &str, what: &'static str, request: &F) -> Result<T, Failure>
    where
        F: AsyncFn(AdminClient<Channel>) -> Result<Response<T>, Status>,
    {
        let asked = async {
            let channel = self.endpoint(address)?.connect().await.map_err(|error| describe(&error))?;
            let client = AdminClient::new(channel).max_decoding_message_size(ANSWER_MAX);
            Ok::<_, String>(request(client).await)
        };
        match tokio::time::timeout(CONNECT + DEADLINE, asked).await {
            Ok(Ok(Ok(answer))) => Ok(answer.into_inner()),
            Ok(Ok(Err(status))) => Err(failure(&status, what)),
            Ok(Err(reason)) => Err(Failure::Broken(reason)),
            Err(_) => Err(Failure::Broken("it does not answer".to_owned())),
        }
    }

    fn endpoint(self, address: &str) -> Result<Endpoint, String> {
        let host = match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => address.to_owned(),
        };
        let endpoint = Endpoint::from_shared(format!("http://{host}:{}", self.port)).map_err(|e| e.to_string())?;
        Ok(endpoint.connect_timeout(CONNECT).timeout(DEADLINE))
    }
}

/// What a status that is no answer means: another broker may know better, or not.
fn failure(status: &Status, what: &'static str) -> Failure {
    let said = || status.message().to_owned();
    match status.code() {
        Code::Unimplemented => Failure::Final(Unanswered::Unsupported(what)),
        Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound => {
            Failure::Final(Unanswered::Refused(said()))
        }
        _ => Failure::Broken(said()),
    }
}

/// tonic's own text says "transport error" and no more.
fn describe(error: &tonic::transport::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl Brokers for Admin {
    fn facts(&self, contact: Contact) -> Answer<Facts> {
        // Which partitions are not well is the controller's to weigh.
        let request = FactsRequest { max_partitions: 1, lags: false };
        let answer = self.ask_each(PATIENCE, contact, "facts", async move |mut client| client.facts(request).await);
        async { answer.await.map(facts) }.boxed()
    }

    fn request_stop(&self, contact: Contact, broker: i32, incarnation: String) -> Answer<Stop> {
        let ttl_ms = u64::try_from(PERMIT.as_millis()).unwrap_or(u64::MAX);
        let request = RequestStopRequest { broker, incarnation, ttl_ms, force: String::new() };
        let answer =
            self.ask(contact, "permits to stop", async move |mut client| client.request_stop(request.clone()).await);
        async { answer.await.map(stop) }.boxed()
    }

    fn recovered(&self, contact: Contact, permit: u64, unused: bool) -> Answer<Option<String>> {
        let request = RecoveredRequest { permit, unused };
        let answer = self.ask(contact, "permits to stop", async move |mut client| client.recovered(request).await);
        async { answer.await.map(|answer| (!answer.closed).then_some(answer.waits_for)) }.boxed()
    }

    fn drain(&self, contact: Contact, broker: i32) -> Answer<()> {
        let request = DrainRequest { broker, plan_only: false };
        let answer = self.ask(contact, "draining", async move |mut client| client.drain(request).await);
        async { refused(&answer.await?.refusals) }.boxed()
    }

    fn uncordon(&self, contact: Contact, broker: i32) -> Answer<()> {
        let request = UncordonRequest { broker };
        let answer = self.ask(contact, "uncordoning", async move |mut client| client.uncordon(request).await);
        async { answer.await.map(|_| ()) }.boxed()
    }

    fn rebalance(&self, contact: Contact, throttle: u64) -> Answer<Balance> {
        let request = RebalanceRequest { plan_only: false, throttle, cancel: false };
        let answer = self.ask(contact, "rebalancing", async move |mut client| client.rebalance(request).await);
        async { answer.await.map(balance) }.boxed()
    }

    fn change_voters(&self, contact: Contact, voters: Vec<i32>, seen: Vec<i32>) -> Answer<()> {
        let request = ChangeVotersRequest { voters, seen };
        let answer =
            self.ask(contact, "changing voters", async move |mut client| client.change_voters(request.clone()).await);
        async { refused(&answer.await?.refusals) }.boxed()
    }

    fn remove(&self, contact: Contact, broker: i32) -> Answer<()> {
        let request = RemoveBrokerRequest { broker };
        let answer = self.ask(contact, "removing brokers", async move |mut client| client.remove_broker(request).await);
        async { refused(&answer.await?.refusals) }.boxed()
    }
}

fn balance(answer: RebalanceResponse) -> Balance {
    let begun = u32::try_from(answer.moves.len()).unwrap_or(u32::MAX);
    Balance {
        left: answer.left.saturating_sub(begun),
        under_way: answer.under_way.saturating_add(begun),
        waits_for: Some(answer.waits_for).filter(|why| !why.is_empty()),
    }
}

fn refused(refusals: &[Refusal]) -> Result<(), Unanswered> {
    if refusals.is_empty() { Ok(()) } else { Err(Unanswered::Refused(in_words(refusals))) }
}

fn in_words(refusals: &[Refusal]) -> String {
    refusals.iter().map(|refusal| refusal.reason.as_str()).collect::<Vec<_>>().join("; ")
}

fn stop(answer: RequestStopResponse) -> Stop {
    match answer.permit {
        Some(permit) => Stop::Granted(known_permit(permit)),
        None => Stop::Refused(in_words(&answer.refusals)),
    }
}

fn known_permit(permit: chronik_admin::Permit) -> Permit {
    Permit { id: permit.id, broker: permit.broker, incarnation: permit.incarnation }
}

fn facts(answer: FactsResponse) -> Facts {
    let newer_metadata_version = newer_metadata_version(&answer);
    let partitions = answer.partitions.unwrap_or_default();
    let greatest = answer.topics.into_iter().max_by_key(|topics| topics.replication_factor);
    Facts {
        cluster: Some(answer.cluster_id).filter(|id| id != NO_CLUSTER).unwrap_or_default(),
        controller: answer.quorum.map(|quorum| quorum.leader),
        metadata_version: answer.metadata_version,
        newer_metadata_version,
        brokers: answer.brokers.into_iter().map(|broker| (broker.id, broker_facts(broker))).collect(),
        partitions: partitions.total,
        under_replicated: partitions.under_replicated,
        offline: partitions.offline,
        offline_alone: partitions.offline_only_replica,
        reassignments: u32::try_from(answer.reassignments.len()).unwrap_or(u32::MAX),
        greatest_factor: greatest.map(|topics| (topics.replication_factor, topics.names)),
        permit: answer.permit.map(known_permit),
    }
}

/// What `metadata.version` could be raised to. A broker that never registered may be of any release, and holds nothing up.
fn newer_metadata_version(answer: &FactsResponse) -> Option<u32> {
    let registered = answer.brokers.iter().filter(|broker| broker.incarnation.is_some());
    let known = registered.map(|broker| broker.max_metadata_version).min();
    known.filter(|known| *known > answer.metadata_version)
}

fn percent(read: u64, total: u64) -> u8 {
    let percent = u128::from(read.min(total)) * 100 / u128::from(total.max(1));
    u8::try_from(percent).unwrap_or(100)
}

fn broker_facts(broker: chronik_admin::Broker) -> BrokerFacts {
    BrokerFacts {
        incarnation: broker.incarnation,
        standing: match (broker.fenced, broker.recovering) {
            (true, _) => Standing::Fenced,
            (false, true) => Standing::Recovering,
            (false, false) => Standing::InSync,
        },
        starting: broker.starting.map(|so_far| percent(so_far.read, so_far.total)),
        cordoned: broker.cordoned,
        voter: broker.voter,
        leaders: broker.leaders,
        replicas: broker.replicas,
        only_replica: broker.only_replica,
        damaged: broker.damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_another_broker_could_not_better_ends_the_asking() {
        for (code, expected) in [
            (Code::Unimplemented, Some(Unanswered::Unsupported("draining"))),
            (Code::FailedPrecondition, Some(Unanswered::Refused("why".to_owned()))),
            (Code::Unavailable, None),
            (Code::DeadlineExceeded, None),
            (Code::Internal, None),
        ] {
            let found = match failure(&Status::new(code, "why"), "draining") {
                Failure::Final(answer) => Some(answer),
                Failure::Broken(_) => None,
            };
            assert_eq!(found, expected, "{code:?}");
        }
    }

    #[test]
    fn a_permit_is_granted_or_refused_with_every_reason() {
        let refusal = |reason: &str| Refusal { reason: reason.to_owned(), ..Refusal::default() };
        let refusals =
            vec![refusal("broker 1 is on its way back"), refusal("2 partitions are under min.insync.replicas")];
        let refused = RequestStopResponse { refusals, ..RequestStopResponse::default() };
        let words = "broker 1 is on its way back; 2 partitions are under min.insync.replicas";
        assert_eq!(stop(refused), Stop::Refused(words.to_owned()));
        let permit = chronik_admin::Permit { id: 7, broker: 2, ..chronik_admin::Permit::default() };
        let granted = RequestStopResponse { permit: Some(permit), ..RequestStopResponse::default() };
        assert_eq!(stop(granted), Stop::Granted(Permit { id: 7, broker: 2, incarnation: String::new() }));
    }

    #[test]
    fn how_far_a_start_is_is_said_in_whole_percent() {
        for (read, total, expected) in
            [(0, 0, 0), (0, 7, 0), (6, 7, 85), (7, 7, 100), (9, 7, 100), (u64::MAX, u64::MAX, 100)]
        {
            assert_eq!(percent(read, total), expected, "{read} of {total}");
        }
    }

    #[test]
    fn a_cluster_that_has_no_identity_yet_is_not_said_to_have_one() {
        for (id, expected) in [(NO_CLUSTER, ""), ("8d2f", "8d2f"), ("", "")] {
            let said = facts(FactsResponse { cluster_id: id.to_owned(), ..FactsResponse::default() });
            assert_eq!(said.cluster, expected);
        }
    }

    #[test]
    fn a_newer_metadata_version_is_one_that_all_registered_brokers_know() {
        let said = |versions: &[(Option<&str>, u32)]| {
            let broker = |(incarnation, most): &(Option<&str>, u32)| chronik_admin::Broker {
                incarnation: incarnation.map(str::to_owned),
                max_metadata_version: *most,
                ..chronik_admin::Broker::default()
            };
            let brokers = versions.iter().map(broker).collect();
            let said = facts(FactsResponse { metadata_version: 4, brokers, ..FactsResponse::default() });
            (said.metadata_version, said.newer_metadata_version)
        };
        assert_eq!(said(&[(Some("a"), 6), (Some("b"), 5)]), (4, Some(5)));
        assert_eq!(said(&[(Some("a"), 6), (Some("b"), 4)]), (4, None));
        assert_eq!(said(&[(Some("a"), 6), (None, 0)]), (4, Some(6)));
        assert_eq!(said(&[]), (4, None));
    }

    #[test]
    fn what_was_begun_is_on_its_way_and_not_left() {
        let begun = RebalanceResponse {
            moves: vec![chronik_admin::Move::default(); 3],
            under_way: 2,
            left: 5,
            ..RebalanceResponse::default()
        };
        let found = balance(begun);
        assert_eq!((found.left, found.under_way, found.is_done()), (2, 5, false));
        // The last ones have begun: they are not done.
        let last = RebalanceResponse { moves: vec![chronik_admin::Move::default()], left: 1, ..Default::default() };
        assert!(!balance(last).is_done());
        assert!(balance(RebalanceResponse::default()).is_done());
    }

    /// Takes connections and never answers.
    async fn silent() -> (tokio::net::TcpListener, u16) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn however_many_brokers_do_not_answer_that_is_known_in_time() {
        let (_kept, port) = silent().await;
        let addresses = (0..20).map(|id| (id, "127.0.0.1".to_owned())).collect();
        let contact = Contact { namespace: "default".to_owned(), name: "demo".to_owned(), addresses, cluster: None };
        let asked = std::time::Instant::now();
        let answer = Admin { port }.facts(contact).await;
        assert!(matches!(answer, Err(Unanswered::Unsure(_))), "{answer:?}");
        assert!(asked.elapsed() <= IN_ALL + 8 * PATIENCE, "{:?}", asked.elapsed());
    }

    #[test]
    fn an_address_of_ipv6_is_put_in_brackets() {
        let uri = |address| Admin { port: 9492 }.endpoint(address).unwrap().uri().to_string();
        assert_eq!(uri("10.0.0.1"), "http://10.0.0.1:9492/");
        assert_eq!(uri("fd00::1"), "http://[fd00::1]:9492/");
    }
}
