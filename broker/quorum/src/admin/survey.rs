//! Who of the voters answers, for whoever is told that nobody is sure: what to do about it depends on that.

use super::{AdminHandle, unsure};
use crate::link::{CallError, Client};
use crate::proto;
use chronik_core::ids::BrokerId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// Each voter has so long to answer. Who asks, as the operator, waits a second longer than it is tried to find an answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two tries: that a connection has ended long ago is found by a call alone.
const AGAIN: Duration = Duration::from_millis(10);

impl AdminHandle {
    /// The same, with who of the voters answers this broker, and what to do next.
    pub(super) async fn with_survey(&self, why: &Status) -> Status {
        let me = self.calls.me;
        let voters = self.calls.handover.electorate.voters();
        let asked: Vec<_> = voters.iter().copied().filter(|id| *id != me).map(|id| self.answers(id)).collect();
        let mut answered: BTreeSet<BrokerId> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        if voters.contains(&me) {
            answered.insert(me);
        }
        // While voters change, of the former ones and of the next.
        let enough = self.calls.handover.electorate.is_majority(|id| answered.contains(&id));
        unsure(&format!("{}{}", why.message(), survey(me, &voters, &answered, enough)))
    }

    /// That voter, if it answers.
    async fn answers(&self, voter: BrokerId) -> Option<BrokerId> {
        let links = &self.calls.links;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = proto::ProbeRequest { caller: Some(links.caller(voter)), candidacy: None };
            let call = |mut client: Client| async move { client.probe(request).await };
            let left = deadline.saturating_duration_since(Instant::now());
            match links.call(voter, left, call).await {
                Ok(_) => return Some(voter),
                Err(CallError::Lost(_)) if Instant::now() + AGAIN < deadline => tokio::time::sleep(AGAIN).await,
                Err(_) => return None,
            }
        }
    }
}

/// What to add to an answer that nobody is sure of.
fn survey(me: BrokerId, voters: &BTreeSet<BrokerId>, answered: &BTreeSet<BrokerId>, enough: bool) -> String {
    if voters.is_empty() {
        return format!("; broker {me} knows of no voters yet: see whether it reaches those that its file names");
    }
    let list = |ids: &BTreeSet<BrokerId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let silent: BTreeSet<BrokerId> = voters.difference(answered).copied().collect();
    let heard = if answered.is_empty() { "none of them".into() } else { list(answered) };
    let asked = format!("; broker {me} asked the voters {}, and heard {heard}", list(voters));
    if !enough {
        let missing = (voters.len() / 2 + 1).saturating_sub(answered.len()).max(1);
        let reach = "and see whether they reach each other at their controller ports";
        return format!("{asked}: start at least {missing} of {}, {reach}", list(&silent));
    }
    format!("{asked}, which are a majority: ask again in a moment, and see their logs if it stays so")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_that_nobody_is_sure_hears_who_answers_and_what_to_do() {
        let set = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<BTreeSet<_>>();
        let says = |voters: &[i32], answered: &[i32]| {
            survey(BrokerId(0), &set(voters), &set(answered), answered.len() > voters.len() / 2)
        };
        let table: [(&[i32], &[i32], &str); 5] = [
            (&[0, 1, 2], &[0], "; broker 0 asked the voters 0, 1, 2, and heard 0: start at least 1 of 1, 2, and"),
            (
                &[1, 2, 3],
                &[],
                "; broker 0 asked the voters 1, 2, 3, and heard none of them: start at least 2 of 1, 2, 3,",
            ),
            (&[0, 1], &[0], "; broker 0 asked the voters 0, 1, and heard 0: start at least 1 of 1, and"),
            (
                &[0, 1, 2],
                &[0, 2],
                "; broker 0 asked the voters 0, 1, 2, and heard 0, 2, which are a majority: ask again",
            ),
            (&[], &[], "; broker 0 knows of no voters yet"),
        ];
        for (voters, answered, expected) in table {
            let said = says(voters, answered);
            assert!(said.starts_with(expected), "{said}");
        }
        let changing = survey(BrokerId(0), &set(&[0, 1, 2, 3]), &set(&[0, 1, 2]), false);
        assert!(changing.contains("heard 0, 1, 2: start at least 1 of 3"), "{changing}");
    }
}
