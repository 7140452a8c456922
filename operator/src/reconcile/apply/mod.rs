//! The writes that carry out a plan: what differs, what is to go, and one step at most. Each names the identity and the
//! version of what was seen, so that an operator which was deposed meanwhile, or decided on what is no more, does nothing.

mod objects;
mod step;
mod volumes;

pub(crate) use objects::apply;
pub use objects::{ApplyError, Outcome};
pub(crate) use step::{Done, NOT_SUPPORTED, REFUSED, Taker};
pub(crate) use volumes::{Changed, change};

use super::observe::Seen;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// What one write may take. Webhooks that look at it are given as long by default.
pub(crate) const WRITE_MAX: Duration = Duration::from_secs(10);

/// Deletes an object as it was seen; `false` if it is gone, or is not what was seen any more: there is another time.
pub(crate) async fn delete<K>(
    client: &Client,
    namespace: &str,
    seen: &Seen,
    propagation: Option<PropagationPolicy>,
) -> Result<bool, ApplyError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let as_seen = Preconditions { uid: Some(seen.uid.clone()), resource_version: Some(seen.resource_version.clone()) };
    let parameters = DeleteParams { propagation_policy: propagation, ..DeleteParams::default() }.preconditions(as_seen);
    let (api, kind) = (Api::<K>::namespaced(client.clone(), namespace), K::kind(&()).into_owned());
    let deleted = async {
        match api.delete(&seen.name, &parameters).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(false),
            Err(source) => Err(ApplyError::Api { kind: kind.clone(), name: seen.name.clone(), source }),
        }
    };
    in_time(&kind, &seen.name, deleted).await
}

/// A write that is answered in time; one that is not is a fault of that object, and is said so.
async fn in_time<T>(
    kind: &str,
    name: &str,
    write: impl Future<Output = Result<T, ApplyError>>,
) -> Result<T, ApplyError> {
    let late = |_| ApplyError::Late { kind: kind.to_owned(), name: name.to_owned() };
    tokio::time::timeout(WRITE_MAX, write).await.map_err(late)?
}
