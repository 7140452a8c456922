//! `chronik broker`: list, stop, cordon, drain and remove brokers.

use super::estimate::Estimate;
use super::{Admin, AdminArgs, cluster, print_json, print_line, refusal_text, refusals_json};
use crate::cli::common::block_on;
use crate::cli::output::{Output, Table};
use chronik_admin::{
    CordonRequest, DrainRequest, RecoveredRequest, Refusal, RemoveBrokerRequest, RequestStopRequest, StopRequest,
    UncordonRequest,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at a broker that is being emptied.
const PAUSE: Duration = Duration::from_millis(500);
/// For so long nobody may be sure to lead the controller meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// List, stop, cordon, drain and remove brokers.
#[derive(Debug, Args)]
pub struct Broker {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all brokers.
    List,
    /// Stop a broker's process, if nobody misses it; says what speaks against it otherwise.
    Stop {
        /// Its number.
        broker: i32,
        /// No other broker may be stopped for so long, unless this one is back before.
        #[arg(long, value_name = "SECONDS", default_value = "600")]
        ttl: u64,
        /// Stop it in spite of what speaks against it, for this reason, which is kept and logged.
        #[arg(long, value_name = "REASON")]
        force: Option<String>,
    },
    /// Close the permit that a broker was stopped with, once it is back in all its ISRs.
    Recovered {
        /// Its number.
        broker: i32,
    },
    /// Place nothing new on a broker.
    Cordon {
        /// Its number.
        broker: i32,
    },
    /// Place new replicas on a broker again.
    Uncordon {
        /// Its number.
        broker: i32,
    },
    /// Move all replicas of a broker to others, a few at a time, until it holds nothing. Interrupted and repeated, it goes
    /// on.
    Drain {
        /// Its number.
        broker: i32,
        /// Only show what would be moved.
        #[arg(long, conflicts_with = "begin")]
        plan: bool,
        /// Only begin, and show what is under way.
        #[arg(long)]
        begin: bool,
    },
    /// Remove a broker that holds nothing from the cluster.
    Remove {
        /// Its number.
        broker: i32,
    },
}

impl Broker {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let (client, output) = (self.admin.client(), self.admin.output);
        block_on(async move {
            match self.action {
                Action::List => cluster::brokers(&client.facts(1).await?).print(output),
                Action::Stop { broker, ttl, force } => stop(&client, broker, ttl, force, output).await,
                Action::Recovered { broker } => recovered(&client, broker).await,
                Action::Cordon { broker } => {
                    let request = CordonRequest { broker };
                    client.ask(async |mut client| client.cordon(request).await).await?;
                    Ok(())
                }
                Action::Uncordon { broker } => {
                    let request = UncordonRequest { broker };
                    client.ask(async |mut client| client.uncordon(request).await).await?;
                    Ok(())
                }
                Action::Drain { broker, plan, begin } if plan || begin => plan_of(&client, broker, plan, output).await,
                Action::Drain { broker, .. } => drain(&client, broker, output).await,
                Action::Remove { broker } => {
                    let request = RemoveBrokerRequest { broker };
                    let answer = client.ask(async |mut client| client.remove_broker(request).await).await?;
                    refused(&answer.refusals, &format!("broker {broker} is not removed"), output)
                }
            }
        })
    }
}

async fn stop(client: &Admin, broker: i32, ttl: u64, force: Option<String>, output: Output) -> anyhow::Result<()> {
    let incarnation = client.incarnation(broker).await?;
    let request = RequestStopRequest {
        broker,
        incarnation: incarnation.clone(),
        ttl_ms: ttl.saturating_mul(1000),
        force: force.unwrap_or_default(),
    };
    let answer = client.ask(async |mut client| client.request_stop(request.clone()).await).await?;
    let Some(permit) = answer.permit else {
        return refused(&answer.refusals, &format!("broker {broker} is not stopped"), output);
    };
    let request = StopRequest { broker, incarnation, permit: permit.id };
    client.ask(async |mut client| client.stop(request.clone()).await).await?;
    if output == Output::Json {
        let overruled = refusals_json(&answer.refusals);
        return print_json(&json!({
            "broker": broker,
            "permit": permit.id,
            "overruled": overruled,
            "only_replica": answer.only_replica_total,
        }));
    }
    if answer.only_replica_total > 0 {
        print_line(&format!(
            "{} partitions are unavailable until it is back: no other broker holds them.",
            answer.only_replica_total
        ))?;
    }
    print_line(&format!(
        "Broker {broker} stops. Once it is back: `chronik broker recovered {broker}`; until then, or for {ttl} s, no \
         other broker may be stopped."
    ))
}

async fn recovered(client: &Admin, broker: i32) -> anyhow::Result<()> {
    let Some(permit) = client.facts(1).await?.permit.filter(|permit| permit.broker == broker) else { return Ok(()) };
    let request = RecoveredRequest { permit: permit.id, unused: false };
    let answer = client.ask(async |mut client| client.recovered(request).await).await?;
    anyhow::ensure!(answer.closed, "the permit stays open: {}", answer.waits_for);
    Ok(())
}

/// Asks again and again, as each call begins as much as may be under way.
async fn drain(client: &Admin, broker: i32, output: Output) -> anyhow::Result<()> {
    let request = DrainRequest { broker, plan_only: false };
    let (mut shown, mut unsure) = (String::new(), None);
    let mut estimate = Estimate::new(client).await;
    loop {
        let answer = match client.ask(async |mut client| client.drain(request).await).await {
            Ok(answer) => answer,
            // The controller's leader may be the one that has just gone.
            Err(error) if error.is_retriable() && unsure.get_or_insert_with(Instant::now).elapsed() < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        unsure = None;
        refused(&answer.refusals, &format!("broker {broker} is not drained"), output)?;
        if answer.left == 0 {
            break;
        }
        if output == Output::Text {
            let rest = estimate.text(broker, &answer.moves).await;
            let line = format!(
                "{} replicas are on broker {broker} still, {} under way{rest}.",
                answer.left,
                answer.moves.len()
            );
            if shown != line {
                eprintln!("{line}");
                shown = line;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    if output == Output::Json {
        return print_json(&json!({ "broker": broker, "left": 0 }));
    }
    print_line(&format!("Broker {broker} holds nothing. It stays cordoned until `chronik broker uncordon {broker}`."))
}

async fn plan_of(client: &Admin, broker: i32, plan_only: bool, output: Output) -> anyhow::Result<()> {
    let request = DrainRequest { broker, plan_only };
    let answer = client.ask(async |mut client| client.drain(request).await).await?;
    refused(&answer.refusals, &format!("broker {broker} is not drained"), output)?;
    let mut table = Table::new(&["topic", "partition", "from", "to"]);
    for m in &answer.moves {
        table.row(vec![json!(m.topic), json!(m.partition), json!(m.from), json!(m.to)]);
    }
    table.print(output)?;
    if output == Output::Text {
        eprintln!("{} replicas are on broker {broker} still.", answer.left);
    }
    Ok(())
}

/// Fails if there are refusals, after it has shown them.
pub(super) fn refused(refusals: &[Refusal], what: &str, output: Output) -> anyhow::Result<()> {
    if refusals.is_empty() {
        return Ok(());
    }
    if output == Output::Json {
        print_json(&json!({ "refusals": refusals_json(refusals) }))?;
        anyhow::bail!("{what}");
    }
    let reasons: Vec<String> = refusals.iter().map(|r| format!("\n  {}", refusal_text(r))).collect();
    anyhow::bail!("{what}:{}", reasons.concat())
}
