//! `chronik reassign`: partitions are moved to other brokers.

use super::client::{Client, ClientError, To, refused};
use super::common::{Common, block_on};
use super::output::Table;
use chronik_wire::messages::{
    AlterPartitionReassignmentsRequest, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    ReassignablePartition, ReassignableTopic, StrBytes, message,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::Duration;

const TIMEOUT_MS: i32 = 30_000;
/// Between two looks at partitions that are waited for.
const PAUSE: Duration = Duration::from_millis(200);

/// Move partitions to other brokers.
#[derive(Debug, Args)]
pub struct Reassign {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the partitions that are being moved.
    List,
    /// Move a partition to these brokers: the new ones are added, and the old ones go when all new ones are in sync.
    Move {
        /// The partition, as TOPIC-PARTITION.
        #[arg(value_parser = partition, value_name = "TOPIC-PARTITION")]
        partition: (String, i32),
        /// Who is to hold it, the preferred leader first.
        #[arg(value_delimiter = ',', required = true, value_name = "BROKER,BROKER,…")]
        replicas: Vec<i32>,
        /// Wait until it is done.
        #[arg(long)]
        wait: bool,
    },
    /// Leave a partition where it was before the move that is under way.
    Cancel {
        /// The partition, as TOPIC-PARTITION.
        #[arg(value_parser = partition, value_name = "TOPIC-PARTITION")]
        partition: (String, i32),
    },
}

/// `TOPIC-PARTITION`; topics have dashes too.
pub(super) fn partition(text: &str) -> Result<(String, i32), String> {
    let wrong = || format!("{text:?} is not of the form TOPIC-PARTITION");
    let (topic, index) = text.rsplit_once('-').filter(|(topic, _)| !topic.is_empty()).ok_or_else(wrong)?;
    Ok((topic.to_owned(), index.parse().map_err(|_| wrong())?))
}

impl Reassign {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let mut client = self.common.client();
        block_on(async move {
            match self.action {
                Action::List => {}
                Action::Move { partition, replicas, wait } => {
                    alter(&mut client, &partition, Some(replicas)).await?;
                    while wait && is_moving(&list(&mut client).await?, &partition) {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                Action::Cancel { partition } => alter(&mut client, &partition, None).await?,
            }
            table(&list(&mut client).await?).print(self.common.output)
        })
    }
}

/// Asks for it again while the controller is not known: what it asks for is the same each time. A move that is taken back
/// twice is refused the second time, so that is asked for once.
async fn alter(
    client: &mut Client,
    (topic, index): &(String, i32),
    replicas: Option<Vec<i32>>,
) -> Result<(), ClientError> {
    let once = replicas.is_none();
    let partition = message!(ReassignablePartition { partition_index: *index, replicas: replicas });
    let topic_of = message!(ReassignableTopic { name: StrBytes::from(&**topic), partitions: vec![partition] });
    let request = message!(AlterPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics: vec![topic_of] });
    let answer = if once {
        client.ask(To::Any, 0..=1, &request).await?
    } else {
        client.again(async |client| client.ask(To::Any, 0..=1, &request).await).await?
    };
    refused("the reassignment", answer.error_code, answer.error_message.as_ref())?;
    for partition in answer.responses.iter().flat_map(|t| &t.partitions) {
        let what = format!("partition {topic}-{index}");
        refused(what, partition.error_code, partition.error_message.as_ref())?;
    }
    Ok(())
}

async fn list(client: &mut Client) -> Result<ListPartitionReassignmentsResponse, ClientError> {
    let request = message!(ListPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics: None });
    let answer = client.again(async |client| client.ask(To::Any, 0..=0, &request).await).await?;
    refused("the list", answer.error_code, answer.error_message.as_ref())?;
    Ok(answer)
}

fn is_moving(listed: &ListPartitionReassignmentsResponse, (topic, index): &(String, i32)) -> bool {
    let found = listed.topics.iter().filter(|t| *t.name == **topic);
    found.flat_map(|t| &t.partitions).any(|p| p.partition_index == *index)
}

fn table(listed: &ListPartitionReassignmentsResponse) -> Table {
    let mut table = Table::new(&["topic", "partition", "replicas", "adding", "removing"]);
    for topic in &listed.topics {
        for p in &topic.partitions {
            table.row(vec![
                json!(&*topic.name),
                json!(p.partition_index),
                json!(p.replicas),
                json!(p.adding_replicas),
                json!(p.removing_replicas),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_what_stands_after_the_last_dash() {
        assert_eq!(partition("a-b-7"), Ok(("a-b".into(), 7)));
        for wrong in ["a", "-1", "a-", "a-b"] {
            assert!(partition(wrong).is_err(), "{wrong}");
        }
    }
}
