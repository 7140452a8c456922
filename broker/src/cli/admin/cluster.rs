//! `chronik cluster`: how it is, why, and what to do next.

use super::health::{Finding, findings};
use super::{Admin, AdminArgs, print_json, print_line};
use crate::cli::common::block_on;
use crate::cli::output::{Output, Table};
use chronik_admin::{Broker, FactsResponse, Starting};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Show how the cluster is.
#[derive(Debug, Args)]
pub struct Cluster {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show its brokers, partitions and controller.
    Status,
    /// Show what is not well, why, and what to do next; fails if anything is.
    Health,
}

impl Cluster {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let (client, output) = (self.admin.client(), self.admin.output);
        block_on(async move {
            match self.action {
                Action::Status => status(&client.facts(1).await?, output),
                Action::Health => health(&client, output).await,
            }
        })
    }
}

fn status(facts: &FactsResponse, output: Output) -> anyhow::Result<()> {
    let brokers = brokers(facts);
    let partitions = facts.partitions.clone().unwrap_or_default();
    let controller = facts.quorum.as_ref().map(|quorum| quorum.leader);
    let factors: Vec<Value> =
        facts.topics.iter().map(|t| json!({"replication_factor": t.replication_factor, "topics": t.topics})).collect();
    if output == Output::Json {
        let permit = facts.permit.as_ref().map(|p| json!({"id": p.id, "broker": p.broker, "left_ms": p.left_ms}));
        return print_json(&json!({
            "cluster_id": facts.cluster_id,
            "controller": controller,
            "term": facts.term,
            "metadata_offset": facts.offset,
            "metadata_version": facts.metadata_version,
            "partitions": {
                "total": partitions.total,
                "offline": partitions.offline,
                "under_min_isr": partitions.under_min_isr,
                "under_replicated": partitions.under_replicated,
                "undecided": partitions.undecided,
                "undecided_all_alive": partitions.undecided_all_alive,
                "unclean_elections": partitions.unclean_elections,
            },
            "topics": factors,
            "permit": permit,
            "brokers": brokers.json(),
        }));
    }
    print_line(&format!(
        "Cluster {}, controller {}, metadata version {}, as of metadata offset {} in term {}",
        facts.cluster_id,
        controller.map_or_else(|| "-".into(), |id| id.to_string()),
        facts.metadata_version,
        facts.offset,
        facts.term,
    ))?;
    print_line(&format!(
        "{} partitions: {} offline, {} under min.insync.replicas, {} under-replicated\n",
        partitions.total, partitions.offline, partitions.under_min_isr, partitions.under_replicated
    ))?;
    brokers.print(output)
}

/// The brokers, a row each.
pub(super) fn brokers(facts: &FactsResponse) -> Table {
    let mut table = Table::new(&[
        "broker",
        "address",
        "state",
        "version",
        "rack",
        "leaders",
        "replicas",
        "out of sync",
        "disk free",
        "damaged",
    ]);
    for broker in &facts.brokers {
        let address = broker.kafka.as_ref().map(|at| format!("{}:{}", at.host, at.port));
        table.row(vec![
            json!(broker.id),
            json!(address),
            json!(state(broker)),
            json!(broker.version),
            json!(broker.rack),
            json!(broker.leaders),
            json!(broker.replicas),
            json!(broker.out_of_sync),
            json!(broker.disk.map(|disk| format!("{} %", disk.free.saturating_mul(100) / disk.total.max(1)))),
            json!(broker.damaged),
        ]);
    }
    table
}

fn state(broker: &Broker) -> String {
    let state = match broker {
        Broker { starting: Some(starting), .. } => return format!("starting, {}", so_far(starting)),
        Broker { incarnation: None, .. } => "never seen",
        Broker { fenced: true, .. } => "fenced",
        Broker { recovering: true, .. } => "catching up",
        _ => "in sync",
    };
    format!("{state}{}", if broker.cordoned { ", cordoned" } else { "" })
}

/// How far a start is.
pub(super) fn so_far(starting: &Starting) -> String {
    if starting.total == 0 {
        return "opening its log".into();
    }
    let (read, total) = (starting.read.min(starting.total), starting.total);
    let percent = u128::from(read) * 100 / u128::from(total);
    format!("{percent} % of its log read ({} of {} MiB)", read >> 20, total >> 20)
}

async fn health(client: &Admin, output: Output) -> anyhow::Result<()> {
    let found = findings(&client.facts_with_lags(100).await?);
    if output == Output::Json {
        let one = |f: &Finding| json!({"bad": f.bad, "what": f.what, "next": f.next});
        print_json(&json!({
            "healthy": !found.iter().any(|f| f.bad),
            "findings": found.iter().map(one).collect::<Vec<_>>(),
        }))?;
    } else {
        for finding in &found {
            print_line(&format!("{} {}", if finding.bad { "✗" } else { "–" }, finding.what))?;
            print_line(&format!("  → {}", finding.next))?;
        }
        if found.is_empty() {
            print_line("All is well.")?;
        }
    }
    anyhow::ensure!(!found.iter().any(|f| f.bad), "the cluster is not well");
    Ok(())
}
