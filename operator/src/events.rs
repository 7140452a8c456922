//! Events: one for each decision. kube's own recorder merges those of one reason for minutes, and shows the first one's
//! text for all of them.

use crate::MANAGER;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::warn;

/// An event is news: it is not worth more time than this.
const DEADLINE: Duration = Duration::from_secs(5);
/// What the API server takes at most, in bytes.
pub(crate) const NOTE_MAX: usize = 1024;

/// Something to tell of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// Whether a person should look at it.
    pub warning: bool,
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub note: String,
    /// What was being done, in one word.
    pub action: &'static str,
    /// Another object that it is about.
    pub related: Option<ObjectReference>,
}

/// Where events go.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    /// The last event that `publish_once` published of each object, by kind, namespace and name.
    once: Arc<Mutex<BTreeMap<[String; 3], News>>>,
}

impl Events {
    /// `instance` is the name of this process.
    pub fn new(client: Client, instance: &str) -> Self {
        Self { client, instance: instance.to_owned(), once: Arc::default() }
    }

    /// Publishes an event, unless it is the last one that this published of the object: for a state that lasts, and is
    /// found at every reconcile.
    pub async fn publish_once(&self, about: &ObjectReference, news: News) {
        let key = [&about.kind, &about.namespace, &about.name].map(|word| word.clone().unwrap_or_default());
        let before = self.once.lock().unwrap_or_else(PoisonError::into_inner).insert(key, news.clone());
        if before.as_ref() != Some(&news) {
            self.publish(about, news).await;
        }
    }

    /// Publishes an event. One that cannot be published changes nothing else.
    pub async fn publish(&self, about: &ObjectReference, news: News) {
        let api = Api::<Event>::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or("default"));
        let event = event(about, news, &self.instance, Timestamp::now());
        match tokio::time::timeout(DEADLINE, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(object = about.name, %error, "cannot publish an event"),
            Err(_) => warn!(object = about.name, "cannot publish an event in time"),
        }
    }
}

fn event(about: &ObjectReference, news: News, instance: &str, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            namespace: about.namespace.clone(),
            name: Some(format!("{}.{:x}", about.name.as_deref().unwrap_or(MANAGER), now.as_nanosecond())),
            ..ObjectMeta::default()
        },
        type_: Some(if news.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(news.reason),
        note: Some(cut(&news.note, NOTE_MAX).to_owned()),
        action: Some(news.action.to_owned()),
        event_time: Some(MicroTime(now)),
        regarding: Some(about.clone()),
        related: news.related,
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    }
}

/// At most so many bytes, without half a character.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_events_of_one_reason_are_two_objects_each_with_its_own_text() {
        let about = ObjectReference { name: Some("demo".to_owned()), ..ObjectReference::default() };
        let news = |note: &str| News { reason: "Waiting".to_owned(), note: note.to_owned(), ..News::default() };
        let first = event(&about, news("for broker 1"), "me", Timestamp::from_nanosecond(1).unwrap());
        let second = event(&about, news("for broker 2"), "me", Timestamp::from_nanosecond(2).unwrap());
        assert_ne!(first.metadata.name, second.metadata.name);
        assert_eq!((first.note.as_deref(), second.note.as_deref()), (Some("for broker 1"), Some("for broker 2")));
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!((cut("äöü", 3), cut("äöü", 9)), ("ä", "äöü"));
    }
}
