//! The scenarios, one file each. Every one makes its own namespaces and leaves the others' alone.

mod api_away;
mod bad_specs;
mod beside;
mod chart;
mod drain;
mod external;
mod former_chart;
mod idle_roll;
mod java;
mod load_balancer;
mod lost_volume;
mod made_again;
mod many;
mod node_given_up;
mod node_lost;
mod one_namespace;
mod plugin;
mod pod_comes_back;
mod produce_consume;
mod readme;
mod release;
mod roll;
mod roll_bad_image;
mod roll_image;
mod scale;
mod slow_disk;
mod start_orders;
mod steady;
mod topics;
mod two_operators;
mod volumes_grow;
mod webhook;
mod without_operator;

use crate::environment::Environment;
use crate::timeline::Timeline;

/// What is run, and shown in the summary.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether it belongs to the long run alone.
    pub(crate) full: bool,
    pub(crate) run: fn(&Environment, &Timeline) -> anyhow::Result<()>,
}

/// In the order in which they run: what the others build on comes first.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "chart", about: "the chart lints, and renders for both scopes", full: false, run: chart::run },
    Scenario { name: "readme", about: "README's section on Kubernetes, word by word", full: false, run: readme::run },
    Scenario {
        name: "bad-specs",
        about: "bad specs are refused with a readable message",
        full: false,
        run: bad_specs::run,
    },
    Scenario {
        name: "produce-consume",
        about: "examples/minimal.yaml becomes ready; a client produces with acks=all and consumes",
        full: false,
        run: produce_consume::run,
    },
    Scenario {
        name: "pod-comes-back",
        about: "a deleted pod comes back with its data and into the in-sync set",
        full: false,
        run: pod_comes_back::run,
    },
    Scenario {
        name: "steady",
        about: "without a change nothing is written, and a restarted operator changes no pod",
        full: false,
        run: steady::run,
    },
    Scenario {
        name: "topics",
        about: "topics and dynamic configs become what resources say, and are put right, without a restart",
        full: false,
        run: topics::run,
    },
    Scenario {
        name: "plugin",
        about: "the commands of kubectl chronik: shown, logged, cordoned, paused, restarted",
        full: false,
        run: plugin::run,
    },
    Scenario {
        name: "roll",
        about: "a changed config is taken up under load, one broker at a time, though the operator is killed",
        full: false,
        run: roll::run,
    },
    Scenario {
        name: "idle-roll",
        about: "how long an idle broker takes to be in sync again, and a restart of three",
        full: false,
        run: idle_roll::run,
    },
    Scenario {
        name: "beside",
        about: "two clusters and, beside them, resources that come to nothing",
        full: false,
        run: beside::run,
    },
    Scenario {
        name: "webhook",
        about: "what admission adds to pods and lists is no change, and a restart goes through",
        full: false,
        run: webhook::run,
    },
    Scenario {
        name: "scale",
        about: "two more brokers come and go again under load; one that a topic needs does not go",
        full: false,
        run: scale::run,
    },
    Scenario {
        name: "external",
        about: "clients outside of Kubernetes reach every broker through the nodes' ports",
        full: false,
        run: external::run,
    },
    Scenario {
        name: "load-balancer",
        about: "load balancers that get their addresses late, and others later, without a restart",
        full: true,
        run: load_balancer::run,
    },
    Scenario {
        name: "drain",
        about: "nodes are drained under load, the second one only when the first one's broker is back in sync",
        full: false,
        run: drain::run,
    },
    Scenario {
        name: "volumes-grow",
        about: "volumes grow around running brokers, where their storage class lets them",
        full: false,
        run: volumes_grow::run,
    },
    Scenario {
        name: "many",
        about: "a hundred clusters are reconciled from cold, in bounded memory, and then left alone",
        full: true,
        run: many::run,
    },
    Scenario {
        name: "api-away",
        about: "the API server is away for a minute under load",
        full: true,
        run: api_away::run,
    },
    Scenario {
        name: "node-given-up",
        about: "a node is declared out of service and its volume given up; then it comes back after all",
        full: true,
        run: node_given_up::run,
    },
    Scenario { name: "node-lost", about: "a node stops for six minutes under load", full: true, run: node_lost::run },
    Scenario {
        name: "one-namespace",
        about: "an operator of one namespace makes a cluster there, and leaves that of another one alone",
        full: true,
        run: one_namespace::run,
    },
    Scenario {
        name: "two-operators",
        about: "a second operator leaves another one's cluster alone until it is given it",
        full: true,
        run: two_operators::run,
    },
    Scenario {
        name: "made-again",
        about: "a deleted cluster is made again: with fewer brokers refused, as it was with the same data",
        full: false,
        run: made_again::run,
    },
    Scenario {
        name: "roll-bad-image",
        about: "an image that cannot be pulled stops after one pod under load, and heals when it is corrected",
        full: false,
        run: roll_bad_image::run,
    },
    Scenario {
        name: "roll-image",
        about: "another image, and then the first one again, are taken up under load, one broker at a time",
        full: true,
        run: roll_image::run,
    },
    Scenario {
        name: "slow-disk",
        about: "a restart waits, and says so, while one broker's disk is too slow",
        full: true,
        run: slow_disk::run,
    },
    Scenario {
        name: "java",
        about: "a Java client that never asks bootstrap.servers again survives the replacement of all pods",
        full: true,
        run: java::run,
    },
    Scenario {
        name: "lost-volume",
        about: "a broker whose volume is lost comes back empty and catches up",
        full: false,
        run: lost_volume::run,
    },
    Scenario {
        name: "without-operator",
        about: "brokers that were all deleted start again while no operator runs",
        full: false,
        run: without_operator::run,
    },
    Scenario {
        name: "release",
        about: "the operator's release is upgraded, uninstalled and installed again; brokers go on as they were",
        full: false,
        run: release::run,
    },
    Scenario {
        name: "former-chart",
        about: "the release of a former chart is upgraded, and a cluster of its definition keeps what it said",
        full: true,
        run: former_chart::run,
    },
    Scenario {
        name: "start-orders",
        about: "pods started at once, and in any order 30 s apart: acks=all within 1 s of the last needed one",
        full: false,
        run: start_orders::run,
    },
];
