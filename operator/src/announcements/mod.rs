//! Brokers say where they are as soon as they run. Kubernetes tells a pod's address up to a second after its container
//! has started, when the kubelet looks for it the next time; until then nobody finds the broker. So it posts its
//! address here, and the operator lists it in EndpointSlices of its own beside those that Kubernetes will make.
//!
//! Who asks is known by a token that is bound to a pod, and is listed only for the address that it speaks from, only
//! under Services that select that pod, and only until Kubernetes has told an address. So who has no pod that a Service
//! selects is never listed under it. Any instance answers, whether it leads or not. Without an operator a cluster starts
//! all the same, up to a second later.

mod server;
mod slices;
mod verify;
mod withdraw;

use crate::MANAGER;
use crate::metrics::Metrics;
use crate::reconcile::build::{broker_service, brokers_service};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use std::net::IpAddr;
use tracing::info;
use verify::{Account, Broker, Refusal};

pub use server::serve;
pub use withdraw::withdraw;

/// Where announcements are posted: `{"address": "10.0.0.7", "token": "…"}`.
pub const PATH: &str = "/announcements";
/// The audience of the brokers' tokens: they are good for nothing else, the API server included.
pub const AUDIENCE: &str = MANAGER;

/// Takes announcements. Cheap to clone.
#[derive(Clone)]
pub struct Announcements {
    client: Client,
    namespace: Option<String>,
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Announcement {
    address: IpAddr,
    token: String,
}

impl Announcements {
    /// Asks `client` who a token belongs to, and writes with it. With a namespace, no broker outside it is listed.
    pub fn new(client: Client, namespace: Option<String>, metrics: Metrics) -> Self {
        Self { client, namespace, metrics }
    }

    async fn take(&self, from: IpAddr, body: &[u8]) -> Result<(), Refusal> {
        let announcement: Announcement = serde_json::from_slice(body).map_err(|e| Refusal::Malformed(e.to_string()))?;
        let address = announcement.address.to_canonical();
        if address != from {
            return Err(Refusal::Elsewhere { address, from });
        }
        let account = self.review(announcement.token).await?;
        if self.namespace.as_ref().is_some_and(|namespace| *namespace != account.namespace) {
            return Err(Refusal::NotABroker(format!("{}/{}", account.namespace, account.pod)));
        }
        let pod = self.api::<Pod>(&account).get_opt(&account.pod).await?;
        let broker = verify::broker(pod.as_ref(), &account)?;
        match broker.published {
            None => {
                self.list(&account, &broker, address).await?;
                info!(pod = broker.pod, namespace = account.namespace, %address, "a broker has announced itself");
                Ok(())
            }
            // So it is when a container is started again in its pod.
            Some(known) if known == address => Ok(()),
            // A pod that is moved without being replaced waits for Kubernetes.
            Some(known) => Err(Refusal::KnownElsewhere { pod: account.pod, known }),
        }
    }

    async fn review(&self, token: String) -> Result<Account, Refusal> {
        // The API server takes an empty one for a mistake of whoever asks.
        if token.is_empty() {
            return Err(Refusal::Token("there is none".to_owned()));
        }
        let spec = TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token) };
        let review = TokenReview { metadata: ObjectMeta::default(), spec, status: None };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        verify::account(answer.status.as_ref())
    }

    /// Lists the broker under its own Service and under that of all, if Kubernetes would.
    async fn list(&self, account: &Account, broker: &Broker, address: IpAddr) -> Result<(), Refusal> {
        let services = self.api::<Service>(account);
        let (own, all) = (broker_service(&broker.cluster, broker.id), brokers_service(&broker.cluster));
        let (own, all) = tokio::try_join!(services.get_opt(&own), services.get_opt(&all))?;
        for service in [own, all] {
            if !service.is_some_and(|service| verify::would_list(&service, broker)) {
                return Err(broker.refused());
            }
        }
        let [own, all] = slices::build(broker, address);
        tokio::try_join!(self.write(broker, own), self.write(broker, all)).map(|_| ())
    }

    /// The first announcement of a pod counts: who has its token from the wire comes too late. What an earlier pod of
    /// the same name has left is replaced.
    async fn write(&self, broker: &Broker, slice: EndpointSlice) -> Result<(), Refusal> {
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &broker.namespace);
        let name = slice.name_any();
        self.metrics.wrote();
        let create = async || api.create(&PostParams::default(), &slice).await.map(|_| ());
        match create().await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            done => return Ok(done?),
        }
        if let Some(there) = api.get_opt(&name).await? {
            if !slices::is_ours(&there) {
                return Err(broker.refused());
            }
            if slices::pods(&there).eq(slices::pods(&slice)) {
                let same = slices::addresses(&there).eq(slices::addresses(&slice));
                return if same { Ok(()) } else { Err(Refusal::AnnouncedElsewhere(broker.pod.clone())) };
            }
            let as_seen = Preconditions { uid: there.uid(), resource_version: there.resource_version() };
            api.delete(&name, &DeleteParams::default().preconditions(as_seen)).await?;
        }
        Ok(create().await?)
    }

    fn api<K>(&self, account: &Account) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &account.namespace)
    }
}
