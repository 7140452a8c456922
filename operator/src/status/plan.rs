//! The plan as it is reported: what comes next, and what it waits for.

use crate::reconcile::plan::balance::UNDER_WAY;
use crate::reconcile::plan::{Plan, Step, Wait};
use chronik_crds::PlanStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::time::Duration;

/// What is said of a step that nothing speaks against. An event reports it once it was taken.
const NEXT: &str = "nothing speaks against it";

/// The reasons of what goes on only because somebody looks.
const MOVES: [&str; 3] = ["Draining", "Reassigning", UNDER_WAY];
/// What has been waited for for long is looked at so seldom at last.
const PATIENCE_MAX: Duration = Duration::from_secs(15);

/// The step that is next, or the first thing that is waited for.
pub fn report(plan: &Plan) -> Option<PlanStatus> {
    plan.step.as_ref().map(of_step).or_else(|| plan.waits.first().map(of_wait))
}

/// A step that nothing speaks against, as it is reported.
pub fn of_step(step: &Step) -> PlanStatus {
    PlanStatus { action: step.to_string(), reason: step.reason().to_owned(), message: NEXT.to_owned(), since: None }
}

/// Something that is waited for, as it is reported.
pub fn of_wait(wait: &Wait) -> PlanStatus {
    PlanStatus {
        action: wait.action.clone(),
        reason: wait.reason.to_owned(),
        message: wait.message.clone(),
        since: None,
    }
}

/// Whether it is a step that nothing speaks against.
pub fn is_step(plan: &PlanStatus) -> bool {
    plan.message == NEXT
}

/// The same, with since when it is so.
pub fn since(plan: PlanStatus, before: Option<&PlanStatus>, now: Timestamp) -> PlanStatus {
    let same = before.filter(|before| (&before.action, &before.reason) == (&plan.action, &plan.reason));
    PlanStatus { since: same.and_then(|before| before.since.clone()).or(Some(Time(now))), ..plan }
}

/// For how long what is waited for may be left alone: a tenth of the time that it has been waited for, so that it is noticed
/// that much later at most.
pub fn patience(plan: &PlanStatus, now: Timestamp) -> Duration {
    let waits = !is_step(plan) && !MOVES.contains(&plan.reason.as_str());
    let since = plan.since.as_ref().filter(|_| waits);
    let age = since.and_then(|since| Duration::try_from(now.duration_since(since.0)).ok()).unwrap_or_default();
    (age / 10).min(PATIENCE_MAX)
}

/// Whether an event is to report it: something else waits, or for another reason. Counts that change are no news.
pub fn is_news(before: Option<&PlanStatus>, after: &PlanStatus) -> bool {
    after.message != NEXT
        && before.is_none_or(|before| (&before.action, &before.reason) != (&after.action, &after.reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(reason: &'static str, message: &str) -> Wait {
        Wait { action: "restart broker 2".to_owned(), reason, message: message.to_owned() }
    }

    #[test]
    fn a_step_is_reported_before_what_waits() {
        let waits = vec![wait("StopRefused", "votes")];
        let plan = Plan { step: Some(Step::Drain(4)), waits, ..Plan::default() };
        assert_eq!(report(&plan).unwrap().action, "drain broker 4");
        let refused = report(&Plan { step: None, ..plan }).unwrap();
        assert_eq!((refused.reason.as_str(), refused.message.as_str()), ("StopRefused", "votes"));
        assert_eq!(report(&Plan::default()), None);
    }

    #[test]
    fn what_has_been_waited_for_for_long_is_looked_at_less_often() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let began = since(of_wait(&wait("UnderReplicated", "3 partitions")), None, at(0));
        let later = since(of_wait(&wait("UnderReplicated", "2 partitions")), Some(&began), at(60));
        let other = since(of_wait(&wait("StopRefused", "votes")), Some(&later), at(60));
        let moves = since(of_wait(&wait("Draining", "3 replicas")), None, at(0));
        let step = since(of_step(&Step::Drain(4)), None, at(0));
        for (plan, now, seconds) in
            [(&began, 0, 0), (&later, 60, 6), (&later, 600, 15), (&other, 60, 0), (&moves, 600, 0), (&step, 600, 0)]
        {
            assert_eq!(patience(plan, at(now)), Duration::from_secs(seconds), "{plan:?} {now}");
        }
        assert_eq!(patience(&later, at(-60)), Duration::ZERO, "a clock that was put back");
    }

    #[test]
    fn a_count_that_changes_is_no_news() {
        let status = |reason, message| of_wait(&wait(reason, message));
        let three = status("UnderReplicated", "3 partitions");
        assert!(is_news(None, &three));
        assert!(!is_news(Some(&three), &status("UnderReplicated", "2 partitions")));
        assert!(is_news(Some(&three), &status("BrokerNotReady", "")));
        let taken = of_step(&Step::Drain(4));
        assert!(!is_news(Some(&three), &taken));
    }
}
