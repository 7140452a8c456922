//! `chronik group`: consumer groups, what they have committed, and how far they are behind.

mod delete;
mod describe;

use super::client::{Client, ClientError, Member, Place, To, refused};
use super::common::{Common, block_on};
use super::output::{Output, Table, say_done};
use super::start::Start;
use chronik_wire::messages::{ListGroupsRequest, ListedGroup};
use clap::{Args, Subcommand};
use serde_json::json;
use std::collections::BTreeMap;

/// List, describe, reset and delete consumer groups.
#[derive(Debug, Args)]
pub struct Group {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all groups.
    List,
    /// Show a group's state, its members and what each reads, its offsets, and how far it is behind.
    Describe {
        /// Its name.
        group: String,
    },
    /// Move a group's offsets; shows what would be done, unless it is told to do it.
    Reset {
        /// Its name. It must have no members.
        group: String,
        /// This topic [default: all that the group has committed offsets for]
        #[arg(long)]
        topic: Option<String>,
        /// Where to: beginning, end, an offset, -COUNT from the end, @MILLISECONDS since 1970 or a time like
        /// 2024-05-01T12:00:00Z.
        #[arg(long, allow_hyphen_values = true)]
        to: Start,
        /// Do it.
        #[arg(long)]
        execute: bool,
    },
    /// Remove groups that have no members, with their offsets.
    Delete {
        /// Their names.
        #[arg(required = true)]
        groups: Vec<String>,
        /// Show what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Group {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let (mut client, output) = (self.common.client(), self.common.output);
        block_on(async move {
            match self.action {
                Action::List => list(&mut client).await?.print(output),
                Action::Describe { group } => describe::describe(&mut client, &group).await?.print(output),
                Action::Reset { group, topic, to, execute } => {
                    let moves = plan(&mut client, &group, topic.as_deref(), to).await?;
                    anyhow::ensure!(
                        !moves.is_empty(),
                        "group {group} has committed nothing; name a topic with --topic to give it offsets there"
                    );
                    table_of(&moves).print(output)?;
                    if execute {
                        let offsets = moves.into_iter().map(|m| (m.place, m.to)).collect();
                        let nobody = Member { id: String::new(), epoch: -1 };
                        client.commit(&group, &nobody, &offsets).await?;
                    } else if output == Output::Text {
                        eprintln!("Nothing is changed yet: the same command with --execute does it.");
                    }
                    Ok(())
                }
                Action::Delete { groups, dry_run: true } => {
                    let found = delete::plan(&mut client, &groups).await?;
                    delete::table(&found).print(output)?;
                    delete::check(&found)?;
                    if output == Output::Text {
                        eprintln!("Nothing is removed: the same command without --dry-run does it.");
                    }
                    Ok(())
                }
                Action::Delete { groups, dry_run: false } => {
                    delete::delete(&mut client, &groups).await?;
                    say_done(
                        output,
                        &["group", "result"],
                        groups.iter().map(|group| vec![json!(group), json!("deleted")]),
                    )
                }
            }
        })
    }
}

/// All groups of the cluster, by name.
pub(super) async fn all(client: &mut Client) -> Result<BTreeMap<String, ListedGroup>, ClientError> {
    client.topics(Some(&[])).await?;
    let request = ListGroupsRequest::default();
    let mut groups = BTreeMap::new();
    for broker in client.brokers() {
        let answer = client
            .again(async |client| {
                let answer = client.ask(To::Broker(broker), 3..=5, &request).await?;
                refused(format!("groups of broker {broker}"), answer.error_code, None)?;
                Ok(answer)
            })
            .await?;
        groups.extend(answer.groups.into_iter().map(|group| (group.group_id.to_string(), group)));
    }
    Ok(groups)
}

async fn list(client: &mut Client) -> Result<Table, ClientError> {
    let groups = all(client).await?;
    let mut table = Table::new(&["group", "state", "type", "protocol"]);
    for (name, group) in &groups {
        table.row(vec![
            json!(name),
            json!(&*group.group_state),
            json!(&*group.group_type),
            json!(&*group.protocol_type),
        ]);
    }
    Ok(table)
}

/// A partition whose committed offset is to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    place: Place,
    from: Option<i64>,
    to: i64,
}

async fn plan(client: &mut Client, group: &str, topic: Option<&str>, to: Start) -> Result<Vec<Move>, ClientError> {
    let committed = client.committed(group).await?;
    let all = match topic {
        Some(topic) => {
            let found = client.topic(topic).await?;
            found.partitions.iter().map(|p| (topic.to_owned(), p.partition_index)).collect()
        }
        None => Vec::new(),
    };
    let mut moves = Vec::new();
    for place in places(topic, all, &committed) {
        let offset = to.resolve(client, &place.0, place.1).await?;
        moves.push(Move { from: committed.get(&place).copied(), place, to: offset });
    }
    Ok(moves)
}

/// Which partitions are moved: all of the topic, or all that have a committed offset.
fn places(topic: Option<&str>, all: Vec<Place>, committed: &BTreeMap<Place, i64>) -> Vec<Place> {
    if topic.is_some() { all } else { committed.keys().cloned().collect() }
}

fn table_of(moves: &[Move]) -> Table {
    let mut table = Table::new(&["topic", "partition", "committed", "new", "records"]);
    for m in moves {
        // How many are read again, as a negative number, or left out.
        let by = m.from.map(|from| m.to - from);
        table.row(vec![json!(m.place.0), json!(m.place.1), json!(m.from), json!(m.to), json!(by)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_moves_a_topics_partitions_or_all_that_were_committed() {
        let place = |topic: &str, partition| (topic.to_owned(), partition);
        let committed = BTreeMap::from([(place("a", 0), 5), (place("b", 1), 7)]);
        assert_eq!(places(None, Vec::new(), &committed), [place("a", 0), place("b", 1)]);
        let all = vec![place("c", 0), place("c", 1)];
        assert_eq!(places(Some("c"), all.clone(), &committed), all);
    }
}
