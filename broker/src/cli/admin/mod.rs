//! The commands that ask the admin API: a file each.

pub mod broker;
pub mod cluster;
mod damage;
mod estimate;
mod health;
mod lags;
pub mod partition;
pub mod quorum;
pub mod rebalance;

use super::client::{Client, ClientError};
use super::output::Output;
use chronik_admin::{AdminClient, FactsRequest, FactsResponse, Refusal};
use clap::Args;
use serde_json::{Value, json};
use std::error::Error as _;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

/// A broker has this long to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// And this long to answer, wherever the controller's leader is.
const DEADLINE: Duration = Duration::from_secs(10);
/// Facts of a large cluster on a bad day.
const MAX_ANSWER: usize = 64 << 20;

/// The cluster, and the form of answers.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// The admin port of a broker, whichever; several are separated by commas.
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:9492")]
    admin: String,
    /// The form of answers.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(super) output: Output,
}

/// A client of the admin API.
pub(super) struct Admin {
    addresses: Vec<String>,
}

impl AdminArgs {
    pub(super) fn client(&self) -> Admin {
        Admin::new(self.admin.split(',').map(|address| address.trim().to_owned()).collect())
    }
}

impl Admin {
    /// A client of the brokers at these addresses.
    pub(super) fn new(addresses: Vec<String>) -> Self {
        Self { addresses }
    }

    /// Asks the first broker that accepts a connection and is sure.
    pub(super) async fn ask<T>(
        &self,
        call: impl AsyncFn(AdminClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, ClientError> {
        let mut last = ClientError::Admin { code: tonic::Code::Unavailable, message: "no address is given".into() };
        for address in &self.addresses {
            match connect(address).await {
                Ok(client) => match call(client).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(status) => {
                        let unsure = matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded);
                        last = ClientError::Admin { code: status.code(), message: status.message().to_owned() };
                        if !unsure {
                            break;
                        }
                    }
                },
                Err(reason) => {
                    let reason = format!(
                        "the admin port of {address} is not reached ({reason}); --admin HOST:PORT names another"
                    );
                    last = ClientError::Admin { code: tonic::Code::Unavailable, message: reason };
                }
            }
        }
        Err(last)
    }

    pub(super) async fn facts(&self, max_partitions: u32) -> Result<FactsResponse, ClientError> {
        self.facts_of(FactsRequest { max_partitions, lags: false }).await
    }

    /// The same, with how far replicas are behind.
    pub(super) async fn facts_with_lags(&self, max_partitions: u32) -> Result<FactsResponse, ClientError> {
        self.facts_of(FactsRequest { max_partitions, lags: true }).await
    }

    async fn facts_of(&self, request: FactsRequest) -> Result<FactsResponse, ClientError> {
        self.ask(async |mut client| client.facts(request).await).await
    }

    /// A client of Kafka's API of the same cluster.
    pub(super) async fn kafka(&self) -> Result<Client, ClientError> {
        let kafka = self.facts(1).await?.brokers.into_iter().filter(|b| !b.fenced).filter_map(|b| b.kafka);
        let addresses: Vec<String> = kafka.map(|at| format!("{}:{}", at.host, at.port)).collect();
        Ok(Client::new(&addresses.join(",")))
    }

    /// The process that a broker is now.
    pub(super) async fn incarnation(&self, broker: i32) -> anyhow::Result<String> {
        let facts = self.facts(1).await?;
        let found = facts.brokers.into_iter().find(|b| b.id == broker);
        let unknown =
            || ClientError::Admin { code: tonic::Code::NotFound, message: format!("there is no broker {broker}") };
        let incarnation = found.ok_or_else(unknown)?.incarnation;
        incarnation.ok_or_else(|| anyhow::anyhow!("broker {broker} has never registered"))
    }
}

async fn connect(address: &str) -> Result<AdminClient<Channel>, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
    let channel = endpoint.connect_timeout(CONNECT).timeout(DEADLINE).connect().await.map_err(|error| {
        // The error itself says "transport error" and no more.
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            reason = inner.to_string();
            source = inner.source();
        }
        reason
    })?;
    Ok(AdminClient::new(channel).max_decoding_message_size(MAX_ANSWER))
}

/// Refusals, a line each, with the partitions they name.
pub(super) fn refusal_text(refusal: &Refusal) -> String {
    let named: Vec<String> =
        refusal.partitions.iter().take(5).map(|p| format!("{}-{}", p.topic, p.partition)).collect();
    let more = u32::try_from(named.len()).is_ok_and(|n| n < refusal.partitions_total);
    if named.is_empty() {
        return refusal.reason.clone();
    }
    format!("{}: {}{}", refusal.reason, named.join(", "), if more { ", …" } else { "" })
}

pub(super) fn refusals_json(refusals: &[Refusal]) -> Value {
    let one = |r: &Refusal| {
        let partitions: Vec<_> =
            r.partitions.iter().map(|p| json!({"topic": p.topic, "partition": p.partition})).collect();
        json!({
            "kind": r.kind().as_str_name(),
            "reason": r.reason,
            "partitions": partitions,
            "partitions_total": r.partitions_total,
            "brokers": r.brokers,
        })
    };
    refusals.iter().map(one).collect()
}

/// Prints a document.
pub(super) fn print_json(value: &Value) -> anyhow::Result<()> {
    use std::io::Write as _;
    Ok(writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(value)?)?)
}

/// Prints a line.
pub(super) fn print_line(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}
