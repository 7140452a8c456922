//! What the API server checks when a resource is applied, as CEL rules, each with the message that a person reads.
//!
//! The operator's validation repeats those that it depends on: a resource may have been stored before a rule
//! existed.

use crate::properties::{Shape, offered, refused};
use kube::core::{Message, Rule};

/// Names become those of pods, services and label values.
pub(crate) fn name() -> Rule {
    Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be at most 40 characters of a-z, 0-9 and '-', and start with a letter")
}

/// One of two brokers alone is no majority, so that either the first is the only voter or both are needed.
pub(crate) fn replicas_are_not_two() -> Rule {
    Rule::new("self != 2").message("replicas cannot be 2: both stop with the first of them; use 1, or 3 and more")
}

/// A cluster of one broker keeps each record once, and its only voter is its first.
pub(crate) fn one_stays_one() -> Rule {
    Rule::new("self == oldSelf || (self >= 3 && oldSelf >= 3)")
        .message("replicas cannot be changed from or to 1, only among 3 and more")
}

pub(crate) fn factor_fits_replicas() -> Rule {
    Rule::new("!has(self.replication) || !has(self.replication.factor) || self.replication.factor <= self.replicas")
        .message("replication.factor must not be larger than replicas")
        .field_path(".replication.factor")
}

pub(crate) fn min_insync_fits_factor() -> Rule {
    let factor = "(has(self.replication.factor) ? self.replication.factor : (self.replicas < 3 ? self.replicas : 3))";
    Rule::new(format!(
        "!has(self.replication) || !has(self.replication.minInsync) || self.replication.minInsync <= {factor}"
    ))
    .message("replication.minInsync must not be larger than the replication factor")
    .field_path(".replication.minInsync")
}

pub(crate) fn size_is_a_quantity() -> Rule {
    Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("storage.size must be a quantity above zero, such as 10Gi")
}

pub(crate) fn storage_class_stays() -> Rule {
    Rule::new(
        "has(self.storageClass) == has(oldSelf.storageClass) && \
         (!has(self.storageClass) || self.storageClass == oldSelf.storageClass)",
    )
    .message("storage.storageClass cannot be changed")
}

pub(crate) fn amounts_are_quantities() -> Rule {
    Rule::new("self.all(k, isQuantity(string(self[k])))")
        .message("resources must be quantities, such as 500m for cpu or 512Mi for memory")
}

pub(crate) fn properties_are_not_owned() -> Rule {
    let instead =
        refused().map(|(name, instead)| format!("'{name}': '{name}: {instead}'")).collect::<Vec<_>>().join(", ");
    let owned = refused().map(|(name, _)| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    Rule::new(format!("self.all(k, !(k in [{owned}]))"))
        .message(Message::Expression(format!("{{{instead}}}[self.filter(k, k in [{owned}])[0]]")))
}

pub(crate) fn properties_are_known() -> Rule {
    let known = offered().map(|(name, _)| name).chain(refused().map(|(name, _)| name));
    let known = known.map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let offered = offered().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    Rule::new(format!("self.all(k, k in [{known}])")).message(Message::Expression(format!(
        "'unknown broker property ' + self.filter(k, !(k in [{known}]))[0] + '; known are {offered}'"
    )))
}

pub(crate) fn properties_have_the_shape(shape: Shape) -> Rule {
    let names = offered().filter(|(_, s)| *s == shape).map(|(name, _)| name).collect::<Vec<_>>();
    let listed = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    Rule::new(format!("[{listed}].all(k, !(k in self) || string(self[k]).matches('{}'))", shape.pattern()))
        .message(Message::Message(format!("{} must be {}", names.join(", "), shape.describe())))
}

/// The ports of a broker by number, and the names that its ports and Services have already.
pub const OWNED_PORTS: [i32; 5] = [9092, 9192, 9292, 9392, 9492];
/// Names that a listener cannot have.
pub const OWNED_LISTENERS: [&str; 6] = ["kafka", "replication", "controller", "http", "admin", "broker"];

pub(crate) fn listener_is_not_owned() -> Rule {
    let names = OWNED_LISTENERS.map(|name| format!("'{name}'")).join(", ");
    Rule::new(format!("!(self.name in [{names}]) && (!has(self.port) || !(self.port in {OWNED_PORTS:?}))")).message(
        Message::Message(format!(
            "a listener cannot have the name or the port of one that every broker has: {}, and {}",
            OWNED_LISTENERS.join(", "),
            OWNED_PORTS.map(|port| port.to_string()).join(", ")
        )),
    )
}

pub(crate) fn listeners_have_ports_of_their_own() -> Rule {
    let port = |of: &str| format!("(has({of}.port) ? {of}.port : 9094)");
    Rule::new(format!("self.all(one, self.exists_one(other, {} == {}))", port("one"), port("other")))
        .message("each listener needs a port of its own")
}

/// At a rate of 0 nothing would ever be moved.
pub(crate) fn rate_is_a_size() -> Rule {
    let pattern = Shape::Size.pattern();
    Rule::new(format!("!has(self.throttle) || (self.throttle.matches('{pattern}') && self.throttle.matches('[1-9]'))"))
        .message(Message::Message(format!("autoRebalance.throttle must be {}, above 0", Shape::Size.describe())))
        .field_path(".throttle")
}

pub(crate) fn cluster_stays() -> Rule {
    Rule::new("self == oldSelf").message("cluster cannot be changed")
}

pub(crate) fn topic_name_stays() -> Rule {
    Rule::new(
        "has(self.topicName) == has(oldSelf.topicName) && \
         (!has(self.topicName) || self.topicName == oldSelf.topicName)",
    )
    .message("topicName cannot be changed")
    .field_path(".topicName")
}

pub(crate) fn partitions_do_not_shrink() -> Rule {
    Rule::new("self >= oldSelf").message("partitions cannot become fewer: that would delete records")
}

/// Taken out and given again, a smaller number would not be compared with the former one.
pub(crate) fn partitions_stay_given() -> Rule {
    Rule::new("!has(oldSelf.partitions) || has(self.partitions)")
        .message("partitions cannot be taken out once it is given")
        .field_path(".partitions")
}
