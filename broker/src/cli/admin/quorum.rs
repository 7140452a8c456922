//! `chronik quorum`: who leads the controller, who votes, and how far each has the metadata log.

use super::AdminArgs;
use crate::cli::common::block_on;
use crate::cli::output::Table;
use chronik_admin::FactsResponse;
use clap::Args;
use serde_json::json;

/// Show the controller quorum.
#[derive(Debug, Args)]
pub struct Quorum {
    #[command(flatten)]
    admin: AdminArgs,
}

impl Quorum {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let (client, output) = (self.admin.client(), self.admin.output);
        block_on(async move { table(&client.facts(1).await?).print(output) })
    }
}

fn table(facts: &FactsResponse) -> Table {
    let mut table = Table::new(&["broker", "role", "log end", "lag", "caught up"]);
    let Some(quorum) = &facts.quorum else { return table };
    let voters = quorum.voters.iter().map(|m| (m, if m.broker == quorum.leader { "leader" } else { "voter" }));
    for (member, role) in voters.chain(quorum.observers.iter().map(|m| (m, "observer"))) {
        table.row(vec![
            json!(member.broker),
            json!(role),
            json!(member.matched),
            json!(member.matched.map(|at| quorum.last_index.saturating_sub(at))),
            json!(member.caught_up),
        ]);
    }
    table
}
