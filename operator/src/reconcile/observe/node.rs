//! The node of a pod that does not serve: a broker whose node is gone waits for nothing that passes by itself.

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};

/// How a node is, as far as this operator may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It could not be read: an operator of one namespace may not.
    Unknown,
    /// Its kubelet reports.
    Ready,
    /// Its kubelet does not report, or reports that it cannot run pods.
    NotReady,
    /// Somebody has declared it out of service, with Kubernetes' taint: its pods are deleted by force.
    OutOfService,
    /// There is no such node any more.
    Gone,
}

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub(super) async fn observe(client: &Client, name: &str) -> NodeState {
    match Api::<Node>::all(client.clone()).get_opt(name).await {
        Ok(Some(node)) => state(&node),
        Ok(None) => NodeState::Gone,
        Err(_) => NodeState::Unknown,
    }
}

fn state(node: &Node) -> NodeState {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    if taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)) {
        return NodeState::OutOfService;
    }
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|c| c.type_ == "Ready")).map(|c| c.status == "True");
    match ready {
        Some(true) => NodeState::Ready,
        Some(false) => NodeState::NotReady,
        None => NodeState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_node_that_does_not_report_is_not_ready_and_one_that_was_given_up_is_out_of_service() {
        let ready = |status: &str| json!({ "conditions": [{ "type": "Ready", "status": status }] });
        let taint = json!({ "taints": [{ "key": OUT_OF_SERVICE, "effect": "NoExecute" }] });
        for (spec, status, expected) in [
            (json!({}), ready("True"), NodeState::Ready),
            (json!({}), ready("Unknown"), NodeState::NotReady),
            (json!({}), ready("False"), NodeState::NotReady),
            (taint, ready("Unknown"), NodeState::OutOfService),
            (json!({}), Value::Null, NodeState::Unknown),
        ] {
            let node = serde_json::from_value(json!({ "spec": spec, "status": status })).unwrap();
            assert_eq!(state(&node), expected, "{node:?}");
        }
    }
}
