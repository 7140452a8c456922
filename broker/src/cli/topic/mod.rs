//! `chronik topic`: topics are made, shown, changed and removed.

mod decide;
mod delete;

use super::client::{Client, ClientError, To, refused};
use super::common::{Common, block_on, done_so_far, pair};
use super::config;
use super::output::{Output, Table, say_done};
use super::reassign::partition;
use super::start::Start;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    CreatableTopic, CreatePartitionsRequest, CreatePartitionsTopic, CreateTopicsRequest, StrBytes,
    create_topics_request::CreatableTopicConfig, message,
};
use clap::{Args, Subcommand};
use serde_json::json;

const TIMEOUT_MS: i32 = 30_000;

/// Create, list, describe, alter and delete topics.
#[derive(Debug, Args)]
pub struct Topic {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a topic.
    Create {
        /// Its name.
        name: String,
        /// How many partitions [default: the cluster's]
        #[arg(long)]
        partitions: Option<i32>,
        /// On how many brokers each is kept [default: the cluster's]
        #[arg(long)]
        replicas: Option<i16>,
        /// A config of the topic; may be repeated.
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        config: Vec<(String, String)>,
        /// A topic of that name is taken as it is.
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Show all topics.
    List {
        /// Those of the brokers' own too.
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions.
    Describe {
        /// Its name.
        name: String,
    },
    /// Give a topic more partitions, or change its configs.
    Alter {
        /// Its name.
        name: String,
        /// How many partitions it shall have: more than it has.
        #[arg(long, required_unless_present = "config")]
        partitions: Option<i32>,
        /// A config to set; may be repeated.
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        config: Vec<(String, String)>,
    },
    /// Have a partition led by its preferred replica, which is the first one.
    Elect {
        /// The partition, as TOPIC-PARTITION.
        #[arg(value_parser = partition, value_name = "TOPIC-PARTITION")]
        partition: (String, i32),
        /// By any replica that is alive, where nobody leads: what it lacks is lost, also by brokers that come back later.
        #[arg(long)]
        unclean: bool,
    },
    /// Remove the records of a partition before a position, for good.
    DeleteRecords {
        /// The partition, as TOPIC-PARTITION.
        #[arg(value_parser = partition, value_name = "TOPIC-PARTITION")]
        partition: (String, i32),
        /// The first record that is kept: an offset, `end`, -COUNT from the end, @MILLISECONDS since 1970 or a time like
        /// 2024-05-01T12:00:00Z.
        #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
        before: Start,
        /// Show what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove topics with all their records.
    Delete {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
        /// Show what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Topic {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let mut client = self.common.client();
        block_on(async move {
            match self.action {
                Action::Create { name, partitions, replicas, config, if_not_exists } => {
                    let topic = creatable(&name, partitions, replicas, &config);
                    match create(&mut client, &name, topic).await {
                        Err(ClientError::Refused { code: ErrorCode::TOPIC_ALREADY_EXISTS, .. }) if if_not_exists => {}
                        done => done?,
                    }
                    describe(&mut client, &name).await?.print(self.common.output)
                }
                Action::List { internal } => list(&mut client, internal).await?.print(self.common.output),
                Action::Describe { name } => describe(&mut client, &name).await?.print(self.common.output),
                Action::Alter { name, partitions, config } => {
                    alter(&mut client, &name, partitions, &config).await?;
                    describe(&mut client, &name).await?.print(self.common.output)
                }
                Action::Elect { partition, unclean } => {
                    decide::elect(&mut client, &partition, unclean).await?;
                    describe(&mut client, &partition.0).await?.print(self.common.output)
                }
                Action::DeleteRecords { partition, before, dry_run } => {
                    decide::delete_records(&mut client, &partition, before, dry_run)
                        .await?
                        .print(self.common.output)?;
                    say_if(
                        dry_run,
                        self.common.output,
                        "Nothing is removed: the same command without --dry-run does it.",
                    );
                    Ok(())
                }
                Action::Delete { names, dry_run: true } => {
                    delete::plan(&mut client, &names).await?.print(self.common.output)?;
                    say_if(true, self.common.output, "Nothing is removed: the same command without --dry-run does it.");
                    Ok(())
                }
                Action::Delete { names, dry_run: false } => {
                    delete::delete(&mut client, &names).await?;
                    let rows = names.iter().map(|name| vec![json!(name), json!("deleted")]);
                    say_done(self.common.output, &["topic", "result"], rows)
                }
            }
        })
    }
}

fn say_if(so: bool, output: Output, what: &str) {
    if so && output == Output::Text {
        eprintln!("{what}");
    }
}

fn creatable(
    name: &str,
    partitions: Option<i32>,
    replicas: Option<i16>,
    config: &[(String, String)],
) -> CreatableTopic {
    let config = config.iter().map(|(key, value)| {
        message!(CreatableTopicConfig { name: StrBytes::from(&**key), value: Some(StrBytes::from(&**value)) })
    });
    message!(CreatableTopic {
        name: StrBytes::from(name),
        num_partitions: partitions.unwrap_or(-1),
        replication_factor: replicas.unwrap_or(-1),
        configs: config.collect(),
    })
}

async fn create(client: &mut Client, name: &str, topic: CreatableTopic) -> Result<(), ClientError> {
    let request = message!(CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS });
    let answer = client.ask(To::Any, 5..=7, &request).await?;
    for topic in &answer.topics {
        refused(format!("topic {name} cannot be created"), topic.error_code, topic.error_message.as_ref())?;
    }
    // The broker that is asked next may hear of it a moment later.
    client
        .again(async |client| match client.topic(name).await {
            Err(ClientError::Refused { what, code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, text }) => {
                Err(ClientError::Refused { what, code: ErrorCode::LEADER_NOT_AVAILABLE, text })
            }
            found => {
                let leaderless = found?.partitions.iter().any(|p| p.leader_id < 0);
                let code = if leaderless { ErrorCode::LEADER_NOT_AVAILABLE } else { ErrorCode::NONE };
                refused(format!("topic {name} is created, but has no leaders yet"), code.0, None)
            }
        })
        .await
}

async fn list(client: &mut Client, internal: bool) -> Result<Table, ClientError> {
    let mut topics = client.topics(None).await?;
    topics.retain(|t| internal || !t.is_internal);
    topics.sort_by(|a, b| a.name.as_deref().cmp(&b.name.as_deref()));
    let mut table = Table::new(&["topic", "partitions", "replicas", "under replicated"]);
    for t in &topics {
        let replicas = t.partitions.iter().map(|p| p.replica_nodes.len()).max().unwrap_or(0);
        let under = t.partitions.iter().filter(|p| p.isr_nodes.len() < p.replica_nodes.len()).count();
        table.row(vec![json!(t.name.as_deref()), json!(t.partitions.len()), json!(replicas), json!(under)]);
    }
    Ok(table)
}

async fn describe(client: &mut Client, name: &str) -> Result<Table, ClientError> {
    let topic = client.topic(name).await?;
    let mut table = Table::new(&["topic", "partition", "leader", "epoch", "replicas", "in sync"]);
    for p in &topic.partitions {
        let leader = (p.leader_id >= 0).then_some(p.leader_id);
        table.row(vec![
            json!(name),
            json!(p.partition_index),
            json!(leader),
            json!(p.leader_epoch),
            json!(p.replica_nodes),
            json!(p.isr_nodes),
        ]);
    }
    Ok(table)
}

/// Changes all that is asked for, or nothing: all of it is checked by the cluster first.
async fn alter(
    client: &mut Client,
    name: &str,
    partitions: Option<i32>,
    config: &[(String, String)],
) -> anyhow::Result<()> {
    if let (Some(count), false) = (partitions, config.is_empty()) {
        config::set(client, config::TOPIC, name, config, true).await?;
        grow(client, name, count, true).await?;
    }
    let mut done = Vec::new();
    if !config.is_empty() {
        config::set(client, config::TOPIC, name, config, false).await?;
        done.push("configs".to_owned());
    }
    if let Some(count) = partitions {
        let left = [format!("the number of partitions to {count}")];
        grow(client, name, count, false).await.map_err(|error| done_so_far(error, "changed", &done, &left))?;
    }
    Ok(())
}

async fn grow(client: &mut Client, name: &str, count: i32, validate_only: bool) -> Result<(), ClientError> {
    let topic = message!(CreatePartitionsTopic { name: StrBytes::from(name), count: count, assignments: None });
    let request =
        message!(CreatePartitionsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, validate_only: validate_only });
    let answer = client.ask(To::Any, 2..=3, &request).await?;
    for topic in &answer.results {
        refused(format!("topic {name}"), topic.error_code, topic.error_message.as_ref())?;
    }
    Ok(())
}
