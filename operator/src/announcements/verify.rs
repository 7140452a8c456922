//! Whether who announces itself is the broker that it says.

use crate::reconcile::build::CLUSTER_LABEL;
use hyper::StatusCode;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Why an announcement is not followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("not an announcement: {0}")]
    Malformed(String),
    #[error("{from} announces {address}: only the address that a broker speaks from is listed")]
    Elsewhere { address: IpAddr, from: IpAddr },
    #[error("the token is not valid for this operator: {0}")]
    Token(String),
    #[error("the token is not bound to a pod")]
    NotAPod,
    #[error("pod {0} is not a broker that is to be found")]
    NotABroker(String),
    #[error("pod {pod} is at {known}, as Kubernetes has told already")]
    KnownElsewhere { pod: String, known: IpAddr },
    #[error("pod {0} has announced another address")]
    AnnouncedElsewhere(String),
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Token(_) => StatusCode::UNAUTHORIZED,
            // What the operator may not do, or what is not valid, is no better a moment later.
            Self::Api(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => StatusCode::FORBIDDEN,
            Self::Api(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

/// The pod that a token is bound to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) namespace: String,
    pub(super) pod: String,
    uid: String,
}

/// A broker, as its pod has it.
#[derive(Debug)]
pub(super) struct Broker {
    /// The cluster's name.
    pub(super) cluster: String,
    /// The pod's namespace.
    pub(super) namespace: String,
    /// The pod's name.
    pub(super) pod: String,
    /// The pod's labels.
    pub(super) labels: BTreeMap<String, String>,
    /// The broker's id.
    pub(super) id: i32,
    /// The node that the pod runs on.
    pub(super) node: String,
    /// The address that Kubernetes has told, if it has: from then on its word counts.
    pub(super) published: Option<IpAddr>,
    /// The pod, as the owner of what is written for it.
    pub(super) owner: OwnerReference,
}

impl Broker {
    pub(super) fn refused(&self) -> Refusal {
        Refusal::NotABroker(format!("{}/{}", self.namespace, self.pod))
    }
}

/// Who a token belongs to, by what the API server says of it ([TokenReview]).
///
/// [TokenReview]: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/
pub(super) fn account(status: Option<&TokenReviewStatus>) -> Result<Account, Refusal> {
    let refused = |why: Option<&str>| Refusal::Token(why.unwrap_or("not authenticated").to_owned());
    let status = status.ok_or_else(|| refused(None))?;
    // An API server that knows nothing of audiences names none.
    let meant = status.audiences.iter().flatten().any(|audience| audience == super::AUDIENCE);
    if status.authenticated != Some(true) || !meant {
        return Err(refused(status.error.as_deref()));
    }
    status.user.as_ref().and_then(bound).ok_or(Refusal::NotAPod)
}

fn bound(user: &UserInfo) -> Option<Account> {
    let extra = |key: &str| user.extra.as_ref()?.get(&format!("authentication.kubernetes.io/{key}"))?.first().cloned();
    let (namespace, _) = user.username.as_ref()?.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    Some(Account { namespace: namespace.to_owned(), pod: extra("pod-name")?, uid: extra("pod-uid")? })
}

/// The broker that the pod is, by its name and its labels.
pub(super) fn broker(pod: Option<&Pod>, account: &Account) -> Result<Broker, Refusal> {
    pod.and_then(|pod| live(pod, account))
        .ok_or_else(|| Refusal::NotABroker(format!("{}/{}", account.namespace, account.pod)))
}

fn live(pod: &Pod, account: &Account) -> Option<Broker> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"));
    if ended || pod.metadata.uid.as_ref() != Some(&account.uid) {
        return None;
    }
    let cluster = pod.labels().get(CLUSTER_LABEL)?;
    let published = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).and_then(|ip| ip.parse().ok());
    Some(Broker {
        cluster: cluster.clone(),
        namespace: account.namespace.clone(),
        pod: account.pod.clone(),
        labels: pod.labels().clone(),
        id: account.pod.strip_prefix(cluster.as_str())?.strip_prefix('-')?.parse().ok()?,
        node: pod.spec.as_ref()?.node_name.clone()?,
        published,
        owner: OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: account.pod.clone(),
            uid: account.uid.clone(),
            ..OwnerReference::default()
        },
    })
}

/// Whether Kubernetes itself would list the broker under a Service, ready or not, as soon as it knows its address.
pub(super) fn would_list(service: &Service, broker: &Broker) -> bool {
    let spec = service.spec.clone().unwrap_or_default();
    let selector = spec.selector.unwrap_or_default();
    let selects = selector.iter().all(|(key, value)| broker.labels.get(key) == Some(value));
    spec.publish_not_ready_addresses == Some(true) && !selector.is_empty() && selects
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn status() -> Value {
        json!({
            "authenticated": true,
            "audiences": ["chronik-operator"],
            "user": {
                "username": "system:serviceaccount:shop:demo",
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["demo-1"],
                    "authentication.kubernetes.io/pod-uid": ["u1"],
                },
            },
        })
    }

    fn reviewed(change: impl FnOnce(&mut Value)) -> Result<Account, Refusal> {
        let mut status = status();
        change(&mut status);
        account(Some(&serde_json::from_value(status).unwrap()))
    }

    fn demo_1() -> Account {
        Account { namespace: "shop".to_owned(), pod: "demo-1".to_owned(), uid: "u1".to_owned() }
    }

    #[test]
    fn a_token_says_which_pod_it_is_bound_to() {
        assert_eq!(reviewed(|_| ()).unwrap(), demo_1());
    }

    #[test]
    fn a_token_that_is_not_valid_or_not_meant_for_this_or_not_of_a_pod_is_refused() {
        let code = |refusal: Result<Account, Refusal>| refusal.unwrap_err().status().as_u16();
        assert_eq!(code(account(None)), 401);
        assert_eq!(code(reviewed(|status| status["authenticated"] = json!(false))), 401);
        assert_eq!(code(reviewed(|status| status["audiences"] = json!(["https://kubernetes.default.svc"]))), 401);
        assert_eq!(code(reviewed(|status| status["audiences"] = json!(null))), 401);
        assert_eq!(code(reviewed(|status| status["user"]["username"] = json!("admin"))), 403);
        assert_eq!(code(reviewed(|status| status["user"]["extra"] = json!({}))), 403);
    }

    fn pod(change: &dyn Fn(&mut Value)) -> Result<Broker, Refusal> {
        let labels = json!({ "app.kubernetes.io/name": "chronik", "chronik.io/cluster": "demo" });
        let metadata = json!({ "name": "demo-1", "uid": "u1", "labels": labels });
        let mut pod = json!({ "metadata": metadata, "spec": { "nodeName": "n1", "containers": [] } });
        change(&mut pod);
        broker(Some(&serde_json::from_value(pod).unwrap()), &demo_1())
    }

    #[test]
    fn only_a_live_pod_with_a_brokers_name_is_a_broker() {
        let found = pod(&|_| ()).unwrap();
        assert_eq!((&*found.cluster, found.id, &*found.node, found.published), ("demo", 1, "n1", None));
        let changes: [&dyn Fn(&mut Value); 6] = [
            &|pod| pod["metadata"]["uid"] = json!("u2"),
            &|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            &|pod| pod["status"] = json!({ "phase": "Failed" }),
            &|pod| pod["spec"]["nodeName"] = json!(null),
            &|pod| pod["metadata"]["labels"]["chronik.io/cluster"] = json!("other"),
            &|pod| pod["metadata"]["labels"]["chronik.io/cluster"] = json!("demo-1"),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(matches!(pod(change), Err(Refusal::NotABroker(_))), "change {number}");
        }
        assert!(matches!(broker(None, &demo_1()), Err(Refusal::NotABroker(_))));
    }

    #[test]
    fn what_kubernetes_has_told_is_known() {
        let known = pod(&|pod| pod["status"] = json!({ "podIP": "10.0.0.7" })).unwrap().published;
        assert_eq!(known, Some(IpAddr::from([10, 0, 0, 7])));
    }

    #[test]
    fn a_broker_is_listed_where_kubernetes_would_list_it() {
        let broker = pod(&|_| ()).unwrap();
        let listed = |spec: Value| would_list(&serde_json::from_value(json!({ "spec": spec })).unwrap(), &broker);
        let cluster = |name: &str| json!({ "chronik.io/cluster": name });
        assert!(listed(json!({ "selector": cluster("demo"), "publishNotReadyAddresses": true })));
        assert!(!listed(json!({ "selector": cluster("other"), "publishNotReadyAddresses": true })));
        assert!(!listed(json!({ "selector": cluster("demo") })));
        assert!(!listed(json!({ "selector": {}, "publishNotReadyAddresses": true })));
        assert!(!listed(json!({ "publishNotReadyAddresses": true })));
    }

    #[test]
    fn what_the_api_server_forbids_is_not_worth_another_try() {
        let answer = |code| {
            let status = kube::core::Status::failure("no", "reason").with_code(code);
            Refusal::Api(kube::Error::Api(status.boxed())).status().as_u16()
        };
        assert_eq!([403, 422, 409, 500].map(answer), [403, 403, 503, 503]);
    }
}
