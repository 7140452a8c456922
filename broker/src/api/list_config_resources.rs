//! ListConfigResources: what has configs (KIP-1142; version 0 was `ListClientMetricsResources`, KIP-1000).

use super::Handlers;
use super::resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use chronik_wire::messages::{
    ListConfigResourcesRequest, ListConfigResourcesResponse, ListedConfigResource, StrBytes, message,
};
use chronik_wire::{ErrorCode, Header};

pub(super) fn handle(
    handlers: &Handlers,
    header: Header,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let all: &[i8] = &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    let asked = match request.resource_types.as_slice() {
        _ if header.version == 0 => &[CLIENT_METRICS],
        [] => all,
        some => some,
    };
    if asked.iter().any(|kind| !all.contains(kind)) {
        return message!(ListConfigResourcesResponse { error_code: ErrorCode::UNSUPPORTED_VERSION.0 });
    }
    let image = handlers.controller.image();
    let resource =
        |kind: i8, name: StrBytes| message!(ListedConfigResource { resource_type: kind, resource_name: name });
    let mut resources = Vec::new();
    if asked.contains(&TOPIC) {
        resources.extend(image.topic_ids.keys().map(|name| resource(TOPIC, StrBytes::from(&**name))));
    }
    if asked.contains(&BROKER) {
        let alive = image.brokers.values().filter(|broker| !broker.fenced);
        resources.extend(alive.map(|broker| resource(BROKER, StrBytes::from(broker.id.to_string()))));
    }
    if asked.contains(&GROUP) {
        resources.extend(image.group_configs.keys().map(|name| resource(GROUP, StrBytes::from(&**name))));
    }
    // There is nothing of the other kinds.
    message!(ListConfigResourcesResponse { config_resources: resources })
}
