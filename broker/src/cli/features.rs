//! `chronik features`: which formats may be written (KIP-584), like Kafka's `kafka-features.sh`.

use super::client::{Client, ClientError, To, refused};
use super::common::{Common, block_on};
use super::output::{Output, Table};
use anyhow::Context as _;
use chronik_wire::ErrorCode;
use chronik_wire::messages::{ApiVersionsRequest, FeatureUpdateKey, StrBytes, UpdateFeaturesRequest, message};
use clap::{Args, Subcommand};
use serde_json::json;
use std::collections::BTreeMap;

const TIMEOUT_MS: i32 = 30_000;
/// The feature that there is.
const METADATA_VERSION: &str = "metadata.version";

/// Show and raise the versions of formats that the cluster writes.
#[derive(Debug, Args)]
pub struct Features {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show each feature's level, and the levels that all brokers know.
    List,
    /// Raise `metadata.version`, after a new release runs on all brokers. The release before cannot be run after that.
    Upgrade {
        /// To this level [default: the highest that all brokers know]
        #[arg(long, value_name = "LEVEL")]
        to: Option<i16>,
        /// Say whether it could be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Features {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let mut client = self.common.client();
        block_on(async move {
            let before = all(&mut client).await?;
            let Action::Upgrade { to, dry_run } = self.action else {
                return table(&before).print(self.common.output);
            };
            let known = before.get(METADATA_VERSION).context("the brokers do not say which levels they know")?;
            let level = to.unwrap_or(known.max);
            upgrade(&mut client, level, dry_run).await?;
            let say = |what: String| match self.common.output {
                Output::Text => eprintln!("{what}"),
                Output::Json => {}
            };
            if level == known.level {
                say(match &known.highest[..] {
                    [] => format!("{METADATA_VERSION} was {level} before, the highest that there is."),
                    newer => {
                        format!("{METADATA_VERSION} was {level} before: only brokers {newer:?} know a higher one.")
                    }
                });
            } else if dry_run {
                say(format!(
                    "{METADATA_VERSION} can be {level}. Nothing is changed: the same without --dry-run does it."
                ));
            }
            let done = || format!("{METADATA_VERSION} is {level} now, but how it looks cannot be shown");
            let after = if dry_run { before } else { all(&mut client).await.with_context(done)? };
            table(&after).print(self.common.output)
        })
    }
}

/// A feature, as all brokers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Feature {
    /// What may be written; 0 as long as nothing was decided.
    level: i16,
    /// The lowest and the highest level that all brokers know.
    min: i16,
    max: i16,
    /// The brokers that know a higher one than others do.
    highest: Vec<i32>,
}

/// Every feature, as the brokers that are alive say.
async fn all(client: &mut Client) -> Result<BTreeMap<String, Feature>, ClientError> {
    client.topics(Some(&[])).await?;
    let request = message!(ApiVersionsRequest {
        client_software_name: StrBytes::from("chronik"),
        client_software_version: StrBytes::from(env!("CARGO_PKG_VERSION")),
    });
    let (mut features, mut newest) = (BTreeMap::<String, Feature>::new(), i64::MIN);
    let mut highest = Vec::new();
    for broker in client.brokers() {
        let answer = client.again(async |client| client.ask(To::Broker(broker), 3..=3, &request).await).await?;
        refused(format!("broker {broker}"), answer.error_code, None)?;
        for known in &answer.supported_features {
            let (min, max) = (known.min_version, known.max_version);
            let new = || Feature { level: 0, min, max, highest: Vec::new() };
            let feature = features.entry(known.name.to_string()).or_insert_with(new);
            (feature.min, feature.max) = (feature.min.max(min), feature.max.min(max));
            highest.push((known.name.to_string(), broker, max));
        }
        // One may have heard of a change that another has not.
        if answer.finalized_features_epoch > newest {
            newest = answer.finalized_features_epoch;
            for decided in &answer.finalized_features {
                if let Some(feature) = features.get_mut(&*decided.name) {
                    feature.level = decided.max_version_level;
                }
            }
        }
    }
    for (name, broker, max) in highest {
        if let Some(feature) = features.get_mut(&name).filter(|feature| feature.max < max) {
            feature.highest.push(broker);
        }
    }
    Ok(features)
}

async fn upgrade(client: &mut Client, level: i16, validate_only: bool) -> Result<(), ClientError> {
    let update = message!(FeatureUpdateKey {
        feature: StrBytes::from(METADATA_VERSION),
        max_version_level: level,
        upgrade_type: 1,
    });
    let request = message!(UpdateFeaturesRequest {
        timeout_ms: TIMEOUT_MS,
        feature_updates: vec![update],
        validate_only: validate_only,
    });
    let answer = client.again(async |client| client.ask(To::Any, 1..=2, &request).await).await?;
    let what = || format!("{METADATA_VERSION} {level}");
    // Later versions have one answer for all, and earlier ones one for each.
    let each = answer.results.iter().map(|result| (result.error_code, result.error_message.as_ref()));
    for (code, text) in each.chain([(answer.error_code, answer.error_message.as_ref())]) {
        refused(what(), code, text.filter(|_| code != ErrorCode::NONE.0))?;
    }
    Ok(())
}

fn table(features: &BTreeMap<String, Feature>) -> Table {
    let mut table = Table::new(&["feature", "level", "lowest", "highest"]);
    for (name, feature) in features {
        table.row(vec![json!(name), json!(feature.level), json!(feature.min), json!(feature.max)]);
    }
    table
}
