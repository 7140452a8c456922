//! The scenarios, one file each. Every one makes its own namespaces and leaves the others' alone.

mod bad_specs;
mod chart;
mod pod_comes_back;
mod produce_consume;
mod start_orders;
mod steady;
mod without_operator;

use crate::environment::Environment;
use crate::timeline::Timeline;

/// What is run, and shown in the summary.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Environment, &Timeline) -> anyhow::Result<()>,
}

/// In the order in which they run: what the others build on comes first.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "chart", about: "the chart lints, and renders for both scopes", run: chart::run },
    Scenario { name: "bad-specs", about: "bad specs are refused with a readable message", run: bad_specs::run },
    Scenario {
        name: "produce-consume",
        about: "examples/minimal.yaml becomes ready; a client produces with acks=all and consumes",
        run: produce_consume::run,
    },
    Scenario {
        name: "pod-comes-back",
        about: "a deleted pod comes back with its data and into the in-sync set",
        run: pod_comes_back::run,
    },
    Scenario {
        name: "steady",
        about: "without a change nothing is written, and a restarted operator changes no pod",
        run: steady::run,
    },
    Scenario {
        name: "without-operator",
        about: "brokers that were all deleted start again while no operator runs",
        run: without_operator::run,
    },
    Scenario {
        name: "start-orders",
        about: "pods started at once, and in any order 30 s apart: acks=all within 1 s of the last needed one",
        run: start_orders::run,
    },
];
