//! `chronik partition`: the partitions that are not well.

use super::{AdminArgs, damage, lags};
use crate::cli::common::block_on;
use crate::cli::output::{Output, Table};
use chronik_admin::FactsResponse;
use chronik_admin::Partition as Facts;
use chronik_admin::missing_replica::Why;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// As many as one answer names.
const MOST: u32 = 20_000;

/// Show partitions that are not well.
#[derive(Debug, Args)]
pub struct Partition {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show those that are one of these.
    List {
        #[command(flatten)]
        of: Of,
    },
}

#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
struct Of {
    /// Not all replicas are in sync.
    #[arg(long)]
    under_replicated: bool,
    /// Fewer replicas are in sync than min.insync.replicas asks for.
    #[arg(long)]
    under_min_isr: bool,
    /// Nobody leads.
    #[arg(long)]
    offline: bool,
    /// A replica's disk has lost something of it: shows which offsets.
    #[arg(long)]
    damaged: bool,
}

impl Partition {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let (client, output) = (self.admin.client(), self.admin.output);
        let Action::List { of } = self.action;
        block_on(async move {
            let facts = client.facts_with_lags(MOST).await?;
            if of.damaged {
                return damaged(&facts, output);
            }
            let partitions = facts.partitions.unwrap_or_default();
            table(&partitions.not_well, of, output).print(output)?;
            if partitions.under_replicated > MOST {
                eprintln!("Only the worst {MOST} of {} are shown.", partitions.under_replicated);
            }
            Ok(())
        })
    }
}

fn damaged(facts: &FactsResponse, output: Output) -> anyhow::Result<()> {
    damage::table(&facts.damaged).print(output)?;
    let silent: Vec<String> = facts.brokers.iter().filter(|b| b.damaged.is_none()).map(|b| b.id.to_string()).collect();
    if !silent.is_empty() {
        eprintln!("Of broker {} it is not known.", silent.join(", "));
    }
    let all: usize = facts.brokers.iter().filter_map(|b| b.damaged).map(|n| n as usize).sum();
    if all > facts.damaged.len() {
        eprintln!("Of {all} damaged replicas the first of each broker are shown.");
    }
    Ok(())
}

fn table(partitions: &[Facts], of: Of, output: Output) -> Table {
    let mut table = Table::new(&[
        "topic",
        "partition",
        "leader",
        "epoch",
        "replicas",
        "isr",
        "elr",
        "min isr",
        "missing",
        "behind",
    ]);
    let chosen = |p: &&Facts| of.under_replicated || (of.under_min_isr && p.under_min_isr) || (of.offline && p.offline);
    for p in partitions.iter().filter(chosen) {
        let missing: Vec<String> = p.missing.iter().map(|m| format!("{} ({})", m.broker, why(m.why()))).collect();
        table.row(vec![
            json!(p.topic),
            json!(p.partition),
            json!(p.leader),
            json!(p.leader_epoch),
            json!(p.replicas),
            json!(p.isr),
            json!(p.elr),
            json!(p.min_isr),
            json!(missing),
            behind(p, output),
        ]);
    }
    table
}

/// How far the missing replicas are behind that are alive.
fn behind(partition: &Facts, output: Output) -> Value {
    let alive = partition.missing.iter().filter(|m| m.why() == Why::CatchingUp);
    match output {
        Output::Json => alive.map(lags::value).collect(),
        Output::Text => {
            alive.map(|m| format!("{}: {}", m.broker, lags::text(m).unwrap_or_else(|| "unknown".into()))).collect()
        }
    }
}

fn why(why: Why) -> &'static str {
    match why {
        Why::NeverSeen => "never seen",
        Why::Fenced => "fenced",
        Why::CatchingUp => "catching up",
        Why::Unspecified => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_chosen_by_how_bad_it_is() {
        let partition = |topic: &str, offline, under_min_isr| Facts {
            topic: topic.into(),
            offline,
            under_min_isr,
            ..Facts::default()
        };
        let all = [partition("a", true, true), partition("b", false, true), partition("c", false, false)];
        let none = Of { under_replicated: false, under_min_isr: false, offline: false, damaged: false };
        let topics = |of| {
            let rows = table(&all, of, Output::Json).json();
            rows.as_array().unwrap().iter().map(|r| r["topic"].as_str().unwrap().to_owned()).collect::<String>()
        };
        assert_eq!(topics(Of { under_replicated: true, ..none }), "abc");
        assert_eq!(topics(Of { under_min_isr: true, ..none }), "ab");
        assert_eq!(topics(Of { offline: true, ..none }), "a");
    }
}
