//! `chronik group delete`: groups without members go, with their offsets.

use super::describe::group_of;
use crate::cli::client::{Client, ClientError, Place, refused};
use crate::cli::common::done_so_far;
use crate::cli::output::Table;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{DeleteGroupsRequest, StrBytes, message};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A group that is to go.
#[derive(Debug)]
pub(super) struct Found {
    name: String,
    state: String,
    members: usize,
    committed: BTreeMap<Place, i64>,
}

/// What is to go. Fails if there is no such group.
pub(super) async fn plan(client: &mut Client, groups: &[String]) -> Result<Vec<Found>, ClientError> {
    let mut found = Vec::new();
    for name in groups {
        let group = group_of(client, name).await?;
        let committed = client.committed(name).await?;
        found.push(Found { name: name.clone(), state: group.state, members: group.members.len(), committed });
    }
    Ok(found)
}

/// A row for each committed offset, and one for a group that has none.
pub(super) fn table(found: &[Found]) -> Table {
    let mut table = Table::new(&["group", "state", "members", "topic", "partition", "committed"]);
    for group in found {
        let mut row = |topic: Value, partition: Value, committed: Value| {
            let about = [json!(group.name), json!(group.state), json!(group.members)];
            table.row(about.into_iter().chain([topic, partition, committed]).collect());
        };
        for ((topic, partition), offset) in &group.committed {
            row(json!(topic), json!(partition), json!(offset));
        }
        if group.committed.is_empty() {
            row(Value::Null, Value::Null, Value::Null);
        }
    }
    table
}

/// Fails if one of them has members, and would not be removed.
pub(super) fn check(found: &[Found]) -> Result<(), ClientError> {
    match found.iter().find(|group| group.members > 0) {
        Some(group) => refused(format!("group {} cannot be deleted", group.name), ErrorCode::NON_EMPTY_GROUP.0, None),
        None => Ok(()),
    }
}

/// Removes them: none, unless all of them can be.
pub(super) async fn delete(client: &mut Client, groups: &[String]) -> anyhow::Result<()> {
    check(&plan(client, groups).await?)?;
    for (n, group) in groups.iter().enumerate() {
        one(client, group).await.map_err(|error| done_so_far(error, "deleted", &groups[..n], &groups[n..]))?;
    }
    Ok(())
}

async fn one(client: &mut Client, group: &str) -> Result<(), ClientError> {
    let request = message!(DeleteGroupsRequest { groups_names: vec![StrBytes::from(group)] });
    let mut asked_before = false;
    client
        .again(async |client| {
            let coordinator = client.coordinator(group).await?;
            let again = std::mem::replace(&mut asked_before, true);
            let answer = client.ask(coordinator, 0..=2, &request).await?;
            answer.results.iter().try_for_each(|result| gone(group, result.error_code, again))
        })
        .await
}

/// Whether a group is gone by an answer. It was there before the first try, whose answer may have been lost: when it is not
/// there at a later one, that try has removed it.
fn gone(group: &str, code: i16, again: bool) -> Result<(), ClientError> {
    if again && code == ErrorCode::GROUP_ID_NOT_FOUND.0 {
        return Ok(());
    }
    refused(format!("group {group} cannot be deleted"), code, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(members: usize, committed: &[(&str, i32, i64)]) -> Found {
        let committed = committed.iter().map(|(t, p, offset)| (((*t).to_owned(), *p), *offset)).collect();
        Found { name: "g".into(), state: "Empty".into(), members, committed }
    }

    #[test]
    fn a_dry_run_shows_each_offset_that_goes_and_groups_without_any() {
        let shown = table(&[found(0, &[("t", 0, 5), ("t", 1, 7)]), found(0, &[])]).json();
        let offsets: Vec<_> = shown.as_array().unwrap().iter().map(|row| row["committed"].as_i64()).collect();
        assert_eq!(offsets, [Some(5), Some(7), None]);
    }

    #[test]
    fn a_group_that_is_not_there_when_it_is_asked_again_was_removed_by_the_try_before() {
        let not_found = ErrorCode::GROUP_ID_NOT_FOUND.0;
        assert!(gone("g", not_found, true).is_ok() && gone("g", 0, false).is_ok());
        assert!(gone("g", not_found, false).is_err() && gone("g", ErrorCode::NON_EMPTY_GROUP.0, true).is_err());
    }

    #[test]
    fn a_group_with_members_is_refused_before_anything_is_removed() {
        assert!(check(&[found(0, &[])]).is_ok());
        let refused = check(&[found(0, &[]), found(1, &[])]).unwrap_err().to_string();
        assert!(refused.contains("group g cannot be deleted") && refused.contains("group describe"), "{refused}");
    }
}
