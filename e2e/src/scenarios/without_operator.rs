//! Brokers need no operator to run, nor to start: pods that were all deleted become ready again while there is none.

use crate::brokers::Brokers;
use crate::environment::{self, Environment, OPERATOR, OPERATOR_NAMESPACE};
use crate::timeline::Timeline;

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("without-operator"));
    let operator = environment.kubectl.within(OPERATOR_NAMESPACE);
    let brokers = Brokers::make(&kubectl, "")?;
    let scale =
        |replicas: u32| operator.run(&["scale", &format!("deployment/{OPERATOR}"), &format!("--replicas={replicas}")]);
    let without = || {
        scale(0)?;
        operator.wait(&["--for=delete", "pod", "--selector=app.kubernetes.io/name=chronik-operator"])?;
        brokers.replace_pods()
    };
    let started = without();
    // Other scenarios need it, whatever became of this one.
    scale(1)?;
    started?;
    brokers.never_restarted()?;
    operator.wait_rolled_out(OPERATOR)?;
    timeline.say("without an operator three deleted pods became ready again");
    environment.discard(&kubectl)
}
