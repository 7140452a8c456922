//! DescribeConfigs: the configs of topics and of this broker.

use super::Handlers;
use super::configs::{self, Value};
use chronik_wire::messages::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym, StrBytes, message,
};
use chronik_wire::{ErrorCode, Header};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(super) fn handle(handlers: &Handlers, header: Header, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let (synonyms, docs) = (request.include_synonyms, request.include_documentation && header.version >= 3);
    let results = request
        .resources
        .into_iter()
        .map(|resource| match find(handlers, &resource) {
            Ok(values) => {
                let keys = resource.configuration_keys;
                let configs = values
                    .into_iter()
                    .filter(|v| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| **key == *v.name)))
                    .map(|value| describe(value, synonyms, docs))
                    .collect();
                message!(DescribeConfigsResult {
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name,
                    configs: configs,
                })
            }
            Err((error, text)) => message!(DescribeConfigsResult {
                error_code: error.0,
                error_message: Some(StrBytes::from(text)),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
            }),
        })
        .collect();
    message!(DescribeConfigsResponse { results: results })
}

fn find(handlers: &Handlers, resource: &DescribeConfigsResource) -> Result<Vec<Value>, (ErrorCode, String)> {
    let name = &*resource.resource_name;
    match resource.resource_type {
        TOPIC => match handlers.controller.image().topic_by_name(name) {
            Some(topic) => Ok(configs::of_topic(topic, &handlers.config)),
            None => Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("there is no topic '{name}'"))),
        },
        BROKER if name.parse() == Ok(handlers.config.me.0) => Ok(configs::of_broker(&handlers.config)),
        // The default of all brokers: nothing can be set there.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => {
            let me = handlers.config.me;
            Err((ErrorCode::INVALID_REQUEST, format!("this is broker {me}; ask broker '{name}' for its configs")))
        }
        other => Err((ErrorCode::INVALID_REQUEST, format!("resources of type {other} have no configs here"))),
    }
}

fn describe(value: Value, synonyms: bool, docs: bool) -> DescribeConfigsResourceResult {
    let synonyms = if synonyms { value.synonyms } else { Vec::new() };
    message!(DescribeConfigsResourceResult {
        name: StrBytes::from(value.name),
        value: Some(StrBytes::from(value.text)),
        // Nothing can be changed while a broker runs or a topic is there.
        read_only: true,
        config_source: value.source as i8,
        config_type: value.kind as i8,
        documentation: (docs && !value.doc.is_empty()).then(|| StrBytes::from(value.doc)),
        synonyms: synonyms
            .into_iter()
            .map(|(name, value, source)| {
                message!(DescribeConfigsSynonym {
                    name: StrBytes::from(name),
                    value: Some(StrBytes::from(value)),
                    source: source as i8,
                })
            })
            .collect(),
    })
}
