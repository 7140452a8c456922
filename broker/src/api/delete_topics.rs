//! DeleteTopics: by name, and by id (KIP-516).

use super::errors::Code as _;
use super::leaders::find_topic;
use super::{Deadline, Handlers};
use chronik_wire::messages::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse, StrBytes, Uuid, message,
    topic_id, wire_id,
};
use chronik_wire::{ErrorCode, Header, TopicRef};
use futures::stream::{self, StreamExt as _};

/// Topics of one request that are deleted at the same time.
const TOGETHER: usize = 16;

pub(super) async fn handle(handlers: &Handlers, header: Header, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let deadline = Deadline::after(request.timeout_ms);
    let named = request.topic_names.into_iter().map(|name| message!(DeleteTopicState { name: Some(name) }));
    let all: Vec<_> = named.chain(request.topics).collect();
    let responses = stream::iter(all)
        .map(|topic| async move { one(handlers, header.version, topic, deadline).await })
        .buffered(TOGETHER)
        .collect()
        .await;
    message!(DeleteTopicsResponse { responses: responses })
}

async fn one(handlers: &Handlers, version: i16, topic: DeleteTopicState, deadline: Deadline) -> DeletableTopicResult {
    let by_id = topic_id(topic.topic_id).is_some();
    let by = match (&topic.name, by_id) {
        (Some(name), false) => Ok(TopicRef::Name(name.clone())),
        (None, true) => Ok(TopicRef::Id(topic.topic_id)),
        (Some(_), true) | (None, false) => Err(ErrorCode::INVALID_REQUEST),
    };
    let image = handlers.controller.image();
    let found = by.and_then(|by| find_topic(&image, &by));
    let (error, text) = match found {
        Err(error) => (error, None),
        Ok(_) if !handlers.config.delete_topics => {
            (ErrorCode::TOPIC_DELETION_DISABLED, Some(StrBytes::from("delete.topic.enable is false")))
        }
        Ok(topic) => match handlers.controller.delete_topic(topic.id, deadline.left()).await {
            Ok(()) => (ErrorCode::NONE, None),
            Err(error) => (error.code(), Some(StrBytes::from(error.to_string()))),
        },
    };
    message!(DeletableTopicResult {
        name: found.ok().map(|t| StrBytes::from(&*t.name)).or(topic.name),
        topic_id: if version >= 6 { found.map_or(topic.topic_id, |t| wire_id(t.id)) } else { Uuid::ZERO },
        error_code: error.0,
        error_message: text,
    })
}
