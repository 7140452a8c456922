//! The plan as it is reported: what comes next, and what it waits for.

use crate::reconcile::plan::{Plan, Step, Wait};
use chronik_crds::PlanStatus;

/// What is said of a step that nothing speaks against. An event reports it once it was taken.
const NEXT: &str = "nothing speaks against it";

/// The step that is next, or the first thing that is waited for.
pub fn report(plan: &Plan) -> Option<PlanStatus> {
    plan.step.as_ref().map(of_step).or_else(|| plan.waits.first().map(of_wait))
}

/// A step that nothing speaks against, as it is reported.
pub fn of_step(step: &Step) -> PlanStatus {
    PlanStatus { action: step.to_string(), reason: step.reason().to_owned(), message: NEXT.to_owned() }
}

/// Something that is waited for, as it is reported.
pub fn of_wait(wait: &Wait) -> PlanStatus {
    PlanStatus { action: wait.action.clone(), reason: wait.reason.to_owned(), message: wait.message.clone() }
}

/// Whether it is a step that nothing speaks against.
pub fn is_step(plan: &PlanStatus) -> bool {
    plan.message == NEXT
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
