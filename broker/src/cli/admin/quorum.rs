//! `chronik quorum`: who leads the controller, who votes, and how far each has the metadata log; and who shall vote.

use super::broker::refused;
use super::{Admin, AdminArgs, print_line};
use crate::cli::common::block_on;
use crate::cli::output::{Output, Table};
use chronik_admin::{ChangeVotersRequest, FactsResponse};
use clap::{Args, Subcommand};
use serde_json::json;

/// Show the controller quorum, or change who votes in it.
#[derive(Debug, Args)]
pub struct Quorum {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Have a broker vote that has joined the cluster and is caught up.
    AddVoter {
        /// Its number.
        broker: i32,
    },
    /// Take a broker's vote. It stays in the cluster.
    RemoveVoter {
        /// Its number.
        broker: i32,
    },
}

impl Quorum {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let (client, output) = (self.admin.client(), self.admin.output);
        block_on(async move {
            match self.action {
                None => table(&client.facts(1).await?).print(output),
                Some(Action::AddVoter { broker }) => change(&client, broker, true, output).await,
                Some(Action::RemoveVoter { broker }) => change(&client, broker, false, output).await,
            }
        })
    }
}

/// Done already is done.
async fn change(client: &Admin, broker: i32, shall_vote: bool, output: Output) -> anyhow::Result<()> {
    let seen: Vec<i32> = client.facts(1).await?.quorum.iter().flat_map(|q| q.voters.iter().map(|v| v.broker)).collect();
    let mut voters: Vec<i32> = seen.iter().copied().filter(|id| *id != broker).collect();
    voters.extend(shall_vote.then_some(broker));
    voters.sort_unstable();
    let request = ChangeVotersRequest { voters: voters.clone(), seen };
    let answer = client.ask(async |mut client| client.change_voters(request.clone()).await).await?;
    refused(&answer.refusals, "the voters are not changed", output)?;
    if output == Output::Text && voters.len().is_multiple_of(2) {
        print_line(&format!(
            "{} brokers vote: they stand the loss of no more than {} would. An odd number is better.",
            voters.len(),
            voters.len() - 1
        ))?;
    }
    Ok(())
}

fn table(facts: &FactsResponse) -> Table {
    let mut table = Table::new(&["broker", "role", "log end", "lag", "caught up", "address"]);
    let Some(quorum) = &facts.quorum else { return table };
    let voters = quorum.voters.iter().map(|m| (m, if m.broker == quorum.leader { "leader" } else { "voter" }));
    for (member, role) in voters.chain(quorum.observers.iter().map(|m| (m, "observer"))) {
        table.row(vec![
            json!(member.broker),
            json!(role),
            json!(member.matched),
            json!(member.matched.map(|at| quorum.last_index.saturating_sub(at))),
            json!(member.caught_up),
            json!(member.controller.as_ref().map(|at| format!("{}:{}", at.host, at.port))),
        ]);
    }
    table
}
