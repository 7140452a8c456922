//! The plan as it is reported: what comes next, and what it waits for.

use crate::reconcile::plan::{Plan, Wait};
use chronik_crds::PlanStatus;

/// What is said of a step that nothing speaks against. That it was taken is told when it is.
const NEXT: &str = "nothing speaks against it";

/// A step that was taken, or the first thing that is waited for. `waits` is what was found when the step was to be taken.
pub fn report(plan: &Plan, waits: Option<&Wait>) -> Option<PlanStatus> {
    if let Some(wait) = waits {
        return Some(of_wait(wait));
    }
    if let Some(step) = &plan.step {
        let action = step.to_string();
        return Some(PlanStatus { message: NEXT.to_owned(), reason: step.reason().to_owned(), action });
    }
    plan.waits.first().map(of_wait)
}

/// Something that is waited for, as it is reported.
pub fn of_wait(wait: &Wait) -> PlanStatus {
    PlanStatus { action: wait.action.clone(), reason: wait.reason.to_owned(), message: wait.message.clone() }
}

/// Whether it is a step that nothing speaks against.
pub fn is_step(plan: &PlanStatus) -> bool {
    plan.message == NEXT
}

/// Whether a person is told: something else waits, or for another reason. Counts that change are no news.
pub fn is_news(before: Option<&PlanStatus>, after: &PlanStatus) -> bool {
    after.message != NEXT
        && before.is_none_or(|before| (&before.action, &before.reason) != (&after.action, &after.reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::plan::Step;

    fn wait(reason: &'static str, message: &str) -> Wait {
        Wait { action: "restart broker 2".to_owned(), reason, message: message.to_owned() }
    }

    #[test]
    fn what_the_brokers_say_against_a_step_is_reported_before_the_step() {
        let plan = Plan { step: Some(Step::Drain(4)), ..Plan::default() };
        assert_eq!(report(&plan, None).unwrap().action, "drain broker 4");
        let refused = report(&plan, Some(&wait("StopRefused", "votes"))).unwrap();
        assert_eq!((refused.reason.as_str(), refused.message.as_str()), ("StopRefused", "votes"));
        assert_eq!(report(&Plan::default(), None), None);
    }

    #[test]
    fn a_count_that_changes_is_no_news() {
        let status = |reason, message| report(&Plan::default(), Some(&wait(reason, message))).unwrap();
        let three = status("UnderReplicated", "3 partitions");
        assert!(is_news(None, &three));
        assert!(!is_news(Some(&three), &status("UnderReplicated", "2 partitions")));
        assert!(is_news(Some(&three), &status("BrokerNotReady", "")));
        let taken = report(&Plan { step: Some(Step::Drain(4)), ..Plan::default() }, None).unwrap();
        assert!(!is_news(Some(&three), &taken));
    }
}
