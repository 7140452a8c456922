//! DescribeConfigs: the configs of topics, of this broker, those of all brokers, and of groups (KIP-133, KIP-226, KIP-569,
//! KIP-848).

use super::configs::{self, Value};
use super::resources::{BROKER, GROUP, Refused, TOPIC, this_broker, topic_named};
use super::{Handlers, each_once};
use chronik_core::cluster::Image;
use chronik_wire::messages::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym, StrBytes, message,
};
use chronik_wire::{ErrorCode, Header};

/// Bytes of one answer at most: a few bytes of a request make kilobytes of an answer.
const MOST: usize = 64 << 20;
/// What a resource takes of that at least, as its configs are looked up whatever is asked for of them.
const LEAST: usize = 1 << 10;
/// About what a config takes beside its texts.
const CONFIG: usize = 32;

pub(super) fn handle(handlers: &Handlers, header: Header, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let (synonyms, docs) = (request.include_synonyms, request.include_documentation && header.version >= 3);
    let image = handlers.controller.image();
    let mut left = MOST;
    let results = each_once(request.resources, |r| (r.resource_type, r.resource_name.clone()))
        .into_iter()
        .map(|resource| match find(handlers, &image, &resource, left) {
            Ok(values) => {
                let keys = resource.configuration_keys;
                // As in Kafka, no keys at all ask for all of them.
                let keys = keys.filter(|keys| !keys.is_empty());
                let asked = |v: &Value| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| **key == *v.name));
                // Documentation is what an answer about very many topics can do without.
                let docs = docs && left > MOST / 2;
                let configs: Vec<_> =
                    values.into_iter().filter(asked).map(|value| describe(value, synonyms, docs)).collect();
                left = left.saturating_sub(configs.iter().map(len).sum::<usize>().max(LEAST));
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

fn find(
    handlers: &Handlers,
    image: &Image,
    resource: &DescribeConfigsResource,
    room: usize,
) -> Result<Vec<Value>, Refused> {
    if room == 0 {
        return Err((ErrorCode::INVALID_REQUEST, "too many resources for one answer: ask for fewer".into()));
    }
    let name = &*resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            let values = configs::of_topic(topic_named(image, name)?, image, &handlers.config);
            Ok(configs::as_kafka_prints(values))
        }
        BROKER if name.is_empty() => Ok(configs::of_all_brokers(image)),
        BROKER => {
            this_broker(handlers.config.me, name)?;
            Ok(configs::as_kafka_prints(configs::of_broker(image, &handlers.config)))
        }
        GROUP if name.is_empty() => Err((ErrorCode::INVALID_REQUEST, "a group has a name".into())),
        GROUP => Ok(configs::of_group(name, image, &handlers.config)),
        other => Err((ErrorCode::INVALID_REQUEST, format!("resources of type {other} have no configs here"))),
    }
}

/// About how many bytes a config takes in the answer.
fn len(config: &DescribeConfigsResourceResult) -> usize {
    let text = |text: &Option<StrBytes>| text.as_deref().map_or(0, str::len);
    let synonyms = config.synonyms.iter().map(|s| CONFIG + s.name.len() + text(&s.value)).sum::<usize>();
    CONFIG + config.name.len() + text(&config.value) + text(&config.documentation) + synonyms
}

fn describe(value: Value, synonyms: bool, docs: bool) -> DescribeConfigsResourceResult {
    let synonyms = if synonyms { value.synonyms } else { Vec::new() };
    message!(DescribeConfigsResourceResult {
        name: StrBytes::from(value.name),
        value: Some(StrBytes::from(value.text)),
        read_only: value.read_only,
        config_source: value.source as i8,
        config_type: value.kind as i8,
        documentation: (docs && !value.doc.is_empty()).then(|| StrBytes::from(value.doc)),
        synonyms: synonyms
            .into_iter()
            .map(|synonym| {
                message!(DescribeConfigsSynonym {
                    name: StrBytes::from(synonym.name),
                    value: Some(StrBytes::from(synonym.value)),
                    source: synonym.source as i8,
                })
            })
            .collect(),
    })
}
