//! Two clusters in one namespace, and beside them resources that cannot be followed, or whose brokers cannot start: each of
//! the two is made, keeps its own records, and is restarted without a pod of the other being touched.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::ensure;

/// Resources that come to nothing, and the reason that their condition `Degraded` has.
const BROKEN: &[(&str, &str, &str)] = &[
    ("unclear", "config: {log.segment.bytes: 2GiB}", "InvalidSpec"),
    ("imageless", "image: 'chronik:there-is-no-such-image'", "BrokerFailing"),
];

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let kubectl = environment.kubectl.within(&environment::namespace("beside"));
    kubectl.create_namespace()?;
    client::start(&kubectl, "client", &["idle"])?;
    let apply = |name: &str, spec: &str| {
        kubectl.apply(&format!(
            "{{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {{name: {name}}}, \
             spec: {{storage: {{size: 1Gi}}, {spec}}}}}"
        ))
    };
    for (name, spec, _) in BROKEN {
        apply(name, spec)?;
    }
    apply("one", "")?;
    apply("two", "")?;
    let [one, two] = ["one", "two"].map(|name| Brokers { kubectl: &kubectl, name });
    one.wait_ready()?;
    two.wait_ready()?;
    for (name, _, wanted) in BROKEN {
        let brokers = Brokers { kubectl: &kubectl, name };
        until(wanted, || Ok((brokers.condition("Degraded")?.1 == *wanted).then_some(())))?;
    }
    timeline.say("two clusters are ready, beside two that cannot be");

    let client = |words: &[&str], brokers: &Brokers<'_>| {
        let bootstrap = brokers.bootstrap();
        client::exec(&kubectl, "client", &[words, &["--bootstrap", &bootstrap]].concat())
    };
    client(&["produce", "--count", "1000"], &one)?;
    client(&["produce", "--count", "500"], &two)?;
    let (first, second) = (one.uids()?, two.uids()?);
    two.patch(r#"{"config":{"num.partitions":7}}"#)?;
    two.wait_rolled(&second)?;
    ensure!(one.uids()? == first, "pods of the other cluster were replaced");
    // Consuming goes on to the end of the partitions: what was written to the other one would show.
    client(&["consume", "--count", "1000"], &one)?;
    client(&["consume", "--count", "500"], &two)?;
    timeline.say("one was restarted without the other, and each has its own records and no others");
    for brokers in [&one, &two] {
        brokers.never_restarted()?;
    }
    environment.discard(&kubectl)
}
