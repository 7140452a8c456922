//! `chronik group describe`: a group's state, its members, and how far it is behind. What a classic member reads is in the
//! bytes that its group's leader has sent; those of protocol type `consumer` are understood.

use crate::cli::client::{Client, ClientError, LATEST, Place, To, refused};
use crate::cli::output::{Output, Table};
use chronik_core::groups::assigned_partitions;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    ConsumerGroupDescribeRequest, DescribeGroupsRequest, DescribedGroup, DescribedGroupMember, StrBytes,
    consumer_group_describe, message,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;

/// What the coordinator says of a group.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) state: String,
    /// Which of the two protocols: `Classic` or `Consumer`.
    kind: &'static str,
    /// The assignor; none while a classic group has not agreed on one.
    protocol: Option<String>,
    /// The coordinator: its id and address.
    coordinator: (i32, String),
    pub(super) members: Vec<Reader>,
}

/// A member, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    member: String,
    /// `group.instance.id`, of static members.
    instance: Option<String>,
    client: String,
    host: String,
    /// Partitions by topic; `None` if the assignment is of a protocol that is unknown here, as that of Kafka Connect.
    assigned: Option<Vec<(String, Vec<i32>)>>,
}

/// A group, its members, and its offsets.
#[derive(Debug)]
pub(super) struct Description {
    group: Described,
    offsets: Table,
}

/// Asks for all that there is to be shown.
pub(super) async fn describe(client: &mut Client, group: &str) -> Result<Description, ClientError> {
    let described = group_of(client, group).await?;
    let committed = client.committed(group).await?;
    let readers = by_partition(&described.members);
    let mut places: Vec<&Place> = committed.keys().chain(readers.keys()).collect();
    places.sort();
    places.dedup();
    let mut offsets = Table::new(&["topic", "partition", "committed", "end", "lag", "member", "client", "host"]);
    for place in places {
        let end = match client.offset_at(&place.0, place.1, LATEST).await {
            Err(ClientError::Refused { code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, .. }) => None,
            found => Some(found?),
        };
        let offset = committed.get(place).copied();
        let reader = readers.get(place);
        offsets.row(vec![
            json!(place.0),
            json!(place.1),
            json!(offset),
            json!(end),
            json!(offset.zip(end).map(|(offset, end)| (end - offset).max(0))),
            json!(reader.map(|r| &r.member)),
            json!(reader.map(|r| &r.client)),
            json!(reader.map(|r| &r.host)),
        ]);
    }
    Ok(Description { group: described, offsets })
}

fn by_partition(members: &[Reader]) -> BTreeMap<Place, &Reader> {
    let mut readers = BTreeMap::new();
    for reader in members {
        for (topic, partitions) in reader.assigned.iter().flatten() {
            readers.extend(partitions.iter().map(|p| ((topic.clone(), *p), reader)));
        }
    }
    readers
}

impl Description {
    /// Three tables; or one object, with `members` and `offsets` in it.
    pub(super) fn print(&self, output: Output) -> anyhow::Result<()> {
        let newline = |()| Ok(writeln!(std::io::stdout().lock())?);
        match output {
            Output::Text => {
                self.group.table().print(output).and_then(newline)?;
                if !self.group.members.is_empty() {
                    self.group.members_table().print(output).and_then(newline)?;
                }
                self.offsets.print(output)
            }
            Output::Json => Ok(writeln!(std::io::stdout().lock(), "{:#}", self.json())?),
        }
    }

    fn json(&self) -> Value {
        let Described { name, state, kind, protocol, coordinator: (id, address), members } = &self.group;
        json!({
            "group": name,
            "state": state,
            "type": kind,
            "protocol": protocol,
            "coordinator": { "id": id, "address": address },
            "members": members.iter().map(Reader::json).collect::<Vec<_>>(),
            "offsets": self.offsets.json(),
        })
    }
}

impl Described {
    fn table(&self) -> Table {
        let mut table = Table::new(&["group", "state", "type", "protocol", "coordinator", "members"]);
        let (id, address) = &self.coordinator;
        table.row(vec![
            json!(self.name),
            json!(self.state),
            json!(self.kind),
            json!(self.protocol),
            json!(format!("{id} ({address})")),
            json!(self.members.len()),
        ]);
        table
    }

    fn members_table(&self) -> Table {
        let mut table = Table::new(&["member", "client", "host", "assigned"]);
        for m in &self.members {
            table.row(vec![json!(m.member), json!(m.client), json!(m.host), json!(m.assigned_text())]);
        }
        table
    }
}

impl Reader {
    /// As kafka-consumer-groups shows it: `orders(0,1)`. `None` for what is not understood.
    fn assigned_text(&self) -> Option<Vec<String>> {
        let of_topic = |(topic, partitions): &(String, Vec<i32>)| {
            let partitions: Vec<_> = partitions.iter().map(ToString::to_string).collect();
            format!("{topic}({})", partitions.join(","))
        };
        self.assigned.as_ref().map(|assigned| assigned.iter().map(of_topic).collect())
    }

    fn json(&self) -> Value {
        let assigned = self.assigned.as_ref().map(|assigned| {
            let of_topic = |(topic, partitions): &(String, Vec<i32>)| json!({"topic": topic, "partitions": partitions});
            assigned.iter().map(of_topic).collect::<Vec<_>>()
        });
        json!({
            "member": self.member,
            "instance": self.instance,
            "client": self.client,
            "host": self.host,
            "assigned": assigned,
        })
    }
}

/// A group of either protocol, which must exist.
pub(super) async fn group_of(client: &mut Client, group: &str) -> Result<Described, ClientError> {
    match consumer_group(client, group).await {
        Err(ClientError::Refused { code: ErrorCode::GROUP_ID_NOT_FOUND, .. } | ClientError::Unsupported { .. }) => {
            classic_group(client, group).await
        }
        described => described,
    }
}

async fn consumer_group(client: &mut Client, group: &str) -> Result<Described, ClientError> {
    let request = message!(ConsumerGroupDescribeRequest { group_ids: vec![StrBytes::from(group)] });
    client
        .again(async |client| {
            let to = client.coordinator(group).await?;
            let answer = client.ask(to, 0..=1, &request).await?;
            let found = answer.groups.into_iter().next().unwrap_or_default();
            refused(format!("group {group}"), found.error_code, found.error_message.as_ref())?;
            Ok(Described {
                name: group.to_owned(),
                state: found.group_state.to_string(),
                kind: "Consumer",
                protocol: named(&found.assignor_name),
                coordinator: named_broker(client, to),
                members: found.members.iter().map(consumer_member).collect(),
            })
        })
        .await
}

fn consumer_member(member: &consumer_group_describe::Member) -> Reader {
    let assigned = member.assignment.topic_partitions.iter();
    Reader {
        member: member.member_id.to_string(),
        instance: member.instance_id.as_ref().map(ToString::to_string),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assigned: Some(assigned.map(|topic| (topic.topic_name.to_string(), topic.partitions.clone())).collect()),
    }
}

async fn classic_group(client: &mut Client, group: &str) -> Result<Described, ClientError> {
    let request = message!(DescribeGroupsRequest { groups: vec![StrBytes::from(group)] });
    client
        .again(async |client| {
            let to = client.coordinator(group).await?;
            let answer = client.ask(to, 4..=6, &request).await?;
            let found = answer.groups.into_iter().next().unwrap_or_default();
            refused(format!("group {group}"), found.error_code, found.error_message.as_ref())?;
            // Before version 6, a group that is not there is a dead one.
            let code = if &*found.group_state == "Dead" { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE };
            refused(format!("group {group}"), code.0, None)?;
            Ok(classic(&found, named_broker(client, to)))
        })
        .await
}

fn classic(found: &DescribedGroup, coordinator: (i32, String)) -> Described {
    Described {
        name: found.group_id.to_string(),
        state: found.group_state.to_string(),
        kind: "Classic",
        protocol: named(&found.protocol_data),
        coordinator,
        members: found.members.iter().map(|member| classic_member(&found.protocol_type, member)).collect(),
    }
}

fn classic_member(protocol_type: &str, member: &DescribedGroupMember) -> Reader {
    let assigned = (protocol_type == "consumer").then(|| assigned_partitions(&member.member_assignment)).flatten();
    Reader {
        member: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(ToString::to_string),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assigned: assigned.map(|all| all.into_iter().map(|(topic, p)| (topic.to_string(), p)).collect()),
    }
}

fn named(name: &str) -> Option<String> {
    Some(name).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn named_broker(client: &Client, to: To) -> (i32, String) {
    match to {
        To::Broker(id) => (id, client.address(id).unwrap_or_default().to_owned()),
        To::Any => (-1, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// `ConsumerProtocolAssignment`, version 0: partitions 0 and 2 of topic `t`, no user data.
    const ASSIGNMENT: &[u8] = b"\0\0\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x02\xff\xff\xff\xff";

    fn group(protocol_type: &str) -> Described {
        let member = message!(DescribedGroupMember {
            member_id: StrBytes::from("m-1"),
            client_id: StrBytes::from("app"),
            client_host: StrBytes::from("/10.0.0.1"),
            member_assignment: Bytes::from_static(ASSIGNMENT),
        });
        let found = message!(DescribedGroup {
            group_id: StrBytes::from("g"),
            group_state: StrBytes::from("Stable"),
            protocol_type: StrBytes::from(protocol_type),
            protocol_data: StrBytes::from("range"),
            members: vec![member],
        });
        classic(&found, (2, "b:9092".to_owned()))
    }

    #[test]
    fn a_classic_groups_members_are_shown_with_what_they_read() {
        let described = group("consumer");
        assert_eq!(described.members[0].assigned, Some(vec![("t".to_owned(), vec![0, 2])]));
        let readers = by_partition(&described.members);
        let places: Vec<_> = readers.iter().map(|((t, p), r)| (t.as_str(), *p, r.member.as_str())).collect();
        assert_eq!(places, [("t", 0, "m-1"), ("t", 2, "m-1")]);
        let expected = json!([{"member": "m-1", "client": "app", "host": "/10.0.0.1", "assigned": ["t(0,2)"]}]);
        assert_eq!(described.members_table().json(), expected);
        let description = Description { group: described, offsets: Table::new(&["topic"]) };
        let json = description.json();
        assert_eq!(
            (&json["state"], &json["type"], &json["protocol"]),
            (&json!("Stable"), &json!("Classic"), &json!("range"))
        );
        assert_eq!(json["coordinator"], json!({"id": 2, "address": "b:9092"}));
        assert_eq!(json["members"][0]["assigned"], json!([{"topic": "t", "partitions": [0, 2]}]));
    }

    #[test]
    fn an_assignment_of_another_protocol_is_not_guessed_at() {
        let described = group("connect");
        assert_eq!((described.members[0].assigned.clone(), described.members.len()), (None, 1));
        assert_eq!(described.members_table().json()[0]["assigned"], Value::Null);
    }
}
