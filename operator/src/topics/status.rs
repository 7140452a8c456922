//! What is reported about a topic: a pure function of its resource, of what was found and of what was reported before.

use super::plan::{Finding, kafka_name, wanted_configs};
use crate::events::News;
use crate::kafka::KafkaTopic;
use chronik_crds::{ChronikTopic, ChronikTopicStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The topic exists, and is as the spec says.
const READY: &str = "Ready";

/// What to report now. What is not known of the topic is reported as it was last known.
pub(super) fn report(
    topic: &ChronikTopic,
    before: &ChronikTopicStatus,
    found: Option<&KafkaTopic>,
    finding: &Finding,
    now: Timestamp,
) -> ChronikTopicStatus {
    let managed = managed(topic, before, found);
    let others = |found: &KafkaTopic| found.configs.keys().filter(|name| !managed.contains(name)).cloned().collect();
    ChronikTopicStatus {
        conditions: vec![condition(&before.conditions, finding, topic.metadata.generation, now)],
        observed_generation: topic.metadata.generation,
        topic_name: Some(kafka_name(topic)),
        // A topic that is another resource's is none of this one's.
        topic_id: found
            .filter(|_| !matches!(finding.reason, "TopicTaken" | "InvalidSpec"))
            .map(KafkaTopic::id_text)
            .or_else(|| before.topic_id.clone()),
        partitions: found.map(|found| found.partitions).or(before.partitions),
        replicas: found.map_or(before.replicas, |found| found.factors.last().and_then(|f| i32::try_from(*f).ok())),
        other_config: found.map_or_else(|| before.other_config.clone(), others),
        managed_config: managed,
    }
}

/// The configs that are to be reset when the spec does not name them any more: those that it names, and those that it has
/// named and that are still set.
pub(super) fn managed(topic: &ChronikTopic, before: &ChronikTopicStatus, found: Option<&KafkaTopic>) -> Vec<String> {
    let still_set = |name: &&String| found.is_none_or(|found| found.configs.contains_key(*name));
    let mut managed = before.managed_config.iter().filter(still_set).cloned().collect::<Vec<_>>();
    managed.extend(wanted_configs(topic).into_keys());
    managed.sort();
    managed.dedup();
    managed
}

pub(super) fn condition(before: &[Condition], finding: &Finding, generation: Option<i64>, now: Timestamp) -> Condition {
    let status = if finding.ready { "True" } else { "False" };
    let unchanged = before.iter().find(|old| old.type_ == READY && old.status == status);
    // Kubernetes keeps whole seconds: with more, what was written would never equal what is read.
    let now = || Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.to_owned(),
        message: finding.message.clone(),
        observed_generation: generation,
        last_transition_time: unchanged.map_or_else(now, |old| old.last_transition_time.clone()),
    }
}

/// The events to publish: for another reason, and for another topic under the same name.
pub(super) fn news(before: &ChronikTopicStatus, after: &ChronikTopicStatus) -> Vec<News> {
    let reason = |status: &ChronikTopicStatus| status.conditions.first().map(|c| c.reason.clone());
    let mut news = Vec::new();
    if before.topic_id.is_some() && before.topic_id != after.topic_id {
        let note = "the topic is another one than before, of the same name".to_owned();
        news.push(News {
            warning: true,
            reason: "TopicReplaced".to_owned(),
            note,
            action: "Reconcile",
            ..News::default()
        });
    }
    if let Some(condition) = after.conditions.first().filter(|c| reason(before).as_ref() != Some(&c.reason)) {
        // What is under way is reported when it is done.
        let passing = matches!(condition.reason.as_str(), "Creating" | "Changing" | "Deleting");
        if !passing {
            news.push(News {
                warning: condition.status != "True",
                reason: condition.reason.clone(),
                note: condition.message.clone(),
                action: "Reconcile",
                ..News::default()
            });
        }
    }
    news
}
