//! DescribeCluster: the brokers (KIP-700).

use super::Handlers;
use super::leaders::controller_id;
use super::listener::ListenerName;
use super::metadata::CLUSTER_OPERATIONS;
use chronik_wire::messages::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse, StrBytes, cluster_id_text, message,
};
use chronik_wire::{ErrorCode, Header};

/// Endpoints of brokers, and not of controllers (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn handle(
    handlers: &Handlers,
    header: Header,
    listener: &ListenerName,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let error = match request.endpoint_type {
        _ if header.version == 0 => None,
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        )),
        _ => Some((ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, "no such endpoint type")),
    };
    if let Some((error, text)) = error {
        return message!(DescribeClusterResponse { error_code: error.0, error_message: Some(StrBytes::from(text)) });
    }
    let image = handlers.controller.image();
    let with_fenced = header.version >= 2 && request.include_fenced_brokers;
    let brokers = image
        .brokers
        .values()
        // A member that has never registered is known by its configuration alone.
        .filter(|broker| !broker.fenced || (with_fenced && broker.epoch.is_some()))
        .filter_map(|broker| {
            let at = listener.endpoint(&image, broker)?;
            Some(message!(DescribeClusterBroker {
                broker_id: broker.id.0,
                host: StrBytes::from(&*at.host),
                port: i32::from(at.port),
                rack: broker.rack.as_deref().map(StrBytes::from),
                is_fenced: broker.fenced,
            }))
        })
        .collect();
    let mut response = message!(DescribeClusterResponse {
        cluster_id: image.cluster_id.map(|id| StrBytes::from(cluster_id_text(id))).unwrap_or_default(),
        controller_id: controller_id(&image, handlers.controller.leader(), handlers.config.me),
        brokers: brokers,
    });
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}
