//! `chronik rebalance`: all brokers are made to hold about as much as each other.

use super::{Admin, AdminArgs, print_json, print_line};
use crate::cli::common::block_on;
use crate::cli::output::{Output, Table};
use crate::cli::sizes::{Sizes, sizes};
use crate::config::Size;
use chronik_admin::{Move, RebalanceRequest, RebalanceResponse, Spread};
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at what is under way.
const PAUSE: Duration = Duration::from_millis(500);
/// For so long nobody may be sure to lead the controller meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// Move replicas until all brokers that are not cordoned hold about as much as each other: in as many racks as there are, as
/// many replicas, as many preferred leaders.
#[derive(Debug, Args)]
pub struct Rebalance {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    what: What,
    /// Bytes per second that each broker sends, and gets, at most for what is moved (`50MiB`). It stays in force when this is
    /// interrupted, until it is run to its end or cancelled. Refused where somebody has set another rate of all brokers.
    #[arg(long, value_name = "BYTES", value_parser = rate, requires = "run")]
    throttle: Option<u64>,
}

#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Show what would be moved, and what it improves.
    #[arg(long)]
    plan: bool,
    /// Move it, a few partitions at a time, and wait while something is not well. Interrupted and repeated, it goes on.
    #[arg(long)]
    run: bool,
    /// Take back every move that is under way in the cluster, by whomever, and the throttle.
    #[arg(long)]
    cancel: bool,
}

fn rate(text: &str) -> Result<u64, String> {
    match text.parse::<Size>()? {
        Size(0) => Err("nothing would ever be moved at that rate".into()),
        Size(rate) => Ok(rate),
    }
}

impl Rebalance {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        let (client, output) = (self.admin.client(), self.admin.output);
        let request = RebalanceRequest {
            plan_only: self.what.plan,
            throttle: self.throttle.unwrap_or(0),
            cancel: self.what.cancel,
        };
        block_on(async move {
            match self.what {
                What { plan: true, .. } => plan(&client, request, output).await,
                What { cancel: true, .. } => cancel(&client, request, output).await,
                _ => run(&client, request, output).await,
            }
        })
    }
}

async fn ask(client: &Admin, request: RebalanceRequest) -> anyhow::Result<RebalanceResponse> {
    let begun = Instant::now();
    loop {
        match client.ask(async |mut client| client.rebalance(request).await).await {
            // The controller's leader may be the one that has just gone.
            Err(error) if error.is_retriable() && begun.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            done => return Ok(done?),
        }
    }
}

async fn plan(client: &Admin, request: RebalanceRequest, output: Output) -> anyhow::Result<()> {
    let answer = ask(client, request).await?;
    // What is not known is not shown: the plan is the same without it.
    let sizes = sizes(&mut client.kafka().await?).await.unwrap_or_default();
    let (now, planned) = (answer.now.unwrap_or_default(), answer.planned.unwrap_or_default());
    let total: u64 = answer.moves.iter().filter_map(|m| moved_bytes(m, &sizes)).sum();
    if output == Output::Json {
        return print_json(&json!({
            "moves": answer.moves.iter().map(|m| row(m, &sizes)).collect::<Vec<_>>(),
            "bytes": total,
            "under_way": answer.under_way,
            "waits_for": answer.waits_for,
            "now": spread_json(now),
            "planned": spread_json(planned),
        }));
    }
    let mut table = Table::new(&["topic", "partition", "from", "to", "bytes"]);
    for m in &answer.moves {
        table.row(vec![json!(m.topic), json!(m.partition), json!(m.from), json!(m.to), json!(moved_bytes(m, &sizes))]);
    }
    table.print(output)?;
    let copied = answer.moves.iter().filter(|m| new(m).next().is_some()).count();
    eprintln!(
        "{copied} partitions are copied, {total} bytes; {} change their order alone.",
        answer.moves.len() - copied
    );
    eprintln!("Replicas of a broker: {}", range(now, planned, |s| (s.fewest_replicas, s.most_replicas)));
    eprintln!("Preferred leader of: {}", range(now, planned, |s| (s.fewest_preferred, s.most_preferred)));
    eprintln!("In fewer racks than there are: {} partitions, then {}.", now.crowded, planned.crowded);
    if !answer.waits_for.is_empty() {
        eprintln!("It would not begin now: {}.", answer.waits_for);
    }
    Ok(())
}

fn range(now: Spread, planned: Spread, of: fn(Spread) -> (u32, u32)) -> String {
    let ((a, b), (c, d)) = (of(now), of(planned));
    format!("{a} to {b}, then {c} to {d}.")
}

/// The brokers that a partition comes to.
fn new(m: &Move) -> impl Iterator<Item = &i32> {
    m.to.iter().filter(|id| !m.from.contains(id))
}

/// What is copied; `None` if the partition's size is not known.
fn moved_bytes(m: &Move, sizes: &Sizes) -> Option<u64> {
    let size = sizes.get(&(m.topic.clone(), m.partition))?;
    Some(size.saturating_mul(new(m).count() as u64))
}

fn row(m: &Move, sizes: &Sizes) -> Value {
    json!({ "topic": m.topic, "partition": m.partition, "from": m.from, "to": m.to, "bytes": moved_bytes(m, sizes) })
}

fn spread_json(spread: Spread) -> Value {
    json!({
        "replicas": [spread.fewest_replicas, spread.most_replicas],
        "preferred": [spread.fewest_preferred, spread.most_preferred],
        "crowded": spread.crowded,
    })
}

async fn run(client: &Admin, request: RebalanceRequest, output: Output) -> anyhow::Result<()> {
    let mut shown = String::new();
    let spread = loop {
        let answer = ask(client, request).await?;
        if answer.left == 0 && answer.under_way == 0 {
            if output == Output::Text && !answer.waits_for.is_empty() {
                eprintln!("Nothing more is begun: {}.", answer.waits_for);
            }
            break answer.now.unwrap_or_default();
        }
        let mut line = format!("{} partitions are left to change, {} under way.", answer.left, answer.under_way);
        if !answer.waits_for.is_empty() {
            line = format!("{line} Nothing is begun: {}.", answer.waits_for);
        }
        if output == Output::Text && shown != line {
            eprintln!("{line}");
            shown = line;
        }
        tokio::time::sleep(PAUSE).await;
    };
    if output == Output::Json {
        return print_json(&json!({ "left": 0, "now": spread_json(spread) }));
    }
    print_line(&done(spread))
}

/// What is said when nothing is left to move.
fn done(spread: Spread) -> String {
    let Spread { fewest_replicas: fewest, most_replicas: most, .. } = spread;
    if most <= fewest + 1 {
        return "All brokers that are not cordoned hold about as much as each other.".to_owned();
    }
    format!(
        "Nothing more can be moved, though brokers hold {fewest} to {most} replicas: a broker is given nothing whose disk is \
         more than 85 % full, and no partition gets into fewer racks."
    )
}

async fn cancel(client: &Admin, request: RebalanceRequest, output: Output) -> anyhow::Result<()> {
    let answer = ask(client, request).await?;
    if output == Output::Json {
        return print_json(&json!({ "taken_back": answer.moves.len() }));
    }
    print_line(&format!("{} moves are taken back.", answer.moves.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_is_what_new_replicas_get() {
        let sizes = Sizes::from([(("a".to_owned(), 0), 10)]);
        let m = |to: &[i32]| Move { topic: "a".into(), partition: 0, from: vec![0, 1], to: to.to_vec() };
        assert_eq!(moved_bytes(&m(&[2, 3]), &sizes), Some(20));
        assert_eq!(moved_bytes(&m(&[1, 0]), &sizes), Some(0));
        assert_eq!(moved_bytes(&Move { partition: 1, ..m(&[2]) }, &sizes), None);
    }

    #[test]
    fn whoever_cannot_be_given_more_is_not_called_even() {
        let spread = |fewest_replicas, most_replicas| Spread { fewest_replicas, most_replicas, ..Spread::default() };
        assert!(done(spread(5, 6)).starts_with("All brokers"));
        assert!(done(spread(2, 8)).contains("2 to 8 replicas"));
    }

    #[test]
    fn a_rate_is_more_than_nothing() {
        assert_eq!(rate("50MiB"), Ok(50 << 20));
        assert!(rate("0").is_err() && rate("fast").is_err());
    }
}
