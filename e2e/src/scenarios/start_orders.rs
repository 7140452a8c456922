//! Brokers' pods are held back by a scheduling gate and let go in every order, at once and 30 s apart, each time on
//! fresh volumes. A client pod tries to write all along. From the start of the second container (two of three brokers
//! are a majority, and enough for `min.insync.replicas`) to the first acknowledged `acks=all` write: 1 s at most as the
//! median of `--rounds`, or of up to five runs where it would be above that, which `--strict` insists on.
//!
//! The cluster's DNS is made to remember for 30 s that a name does not exist, as `CoreDNS` does out of the box and as
//! kubeadm has it not: brokers that have yet to start are asked for all along, by their peers and by the client.

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::evidence;
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;
use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

const NAME: &str = "start-orders";
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
const LONG_GAP: Duration = Duration::from_secs(30);
const LIMIT_MS: i64 = 1_000;
/// How often an order is run at most whose median is above the limit: one slow run does not tell what it takes.
const ENOUGH_RUNS: usize = 5;
/// When more orders than this are above the limit it is not chance, and none is run again.
const MANY: usize = 4;
/// What counts on a machine that others use too, for most orders: nothing may have waited for a name.
const LIMIT_SHARED_MS: i64 = 10_000;
/// The runs so far: each has a namespace of its own.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// One order of starts, in a namespace of its own.
struct Run<'a> {
    environment: &'a Environment,
    timeline: &'a Timeline,
    order: [usize; 3],
    gap: Duration,
    kubectl: Kubectl,
}

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    remember_absent_names(&environment.kubectl.within("kube-system"))?;
    timeline.say("the cluster's DNS remembers absent names for 30 s");
    hold_brokers(environment)?;
    timeline.say("brokers' pods are held back");
    let mut runs = Runs { environment, timeline, made: Vec::new() };
    let mut results = [Duration::ZERO, LONG_GAP].map(|gap| ORDERS.map(|order| Measured { order, gap, ms: Vec::new() }));
    for _ in 0..environment.start_orders.rounds {
        runs.clear()?;
        runs.measure(results.as_flattened_mut(), |_| true);
    }
    let worth_another = |results: &[[Measured; 6]; 2]| {
        let count = results.as_flattened().iter().filter(|order| order.is_worth_another_run()).count();
        (1..=MANY).contains(&count)
    };
    while worth_another(&results) {
        timeline.say(format!("orders whose median is above {LIMIT_MS} ms are run again"));
        runs.clear()?;
        runs.measure(results.as_flattened_mut(), Measured::is_worth_another_run);
    }
    if environment.keep {
        runs.made.iter().try_for_each(Kubectl::delete_namespace)?;
    }
    timeline.say("order    gap    start of the second container → first acks=all");
    for result in results.as_flattened() {
        timeline.say(result.to_string());
    }
    let strict = environment.start_orders.strict;
    judge(&results, strict)?;
    if !strict {
        timeline.say(format!("that each takes {LIMIT_MS} ms at most was not insisted on, which --strict does"));
    }
    Ok(())
}

/// The runs, and the namespaces that they have made.
struct Runs<'a> {
    environment: &'a Environment,
    timeline: &'a Timeline,
    made: Vec<Kubectl>,
}

impl<'a> Runs<'a> {
    /// Runs each of these orders once. They share the wait of their gap: after it the others' pods are let go order by
    /// order, each when the one before has been measured.
    fn measure(&mut self, orders: &mut [Measured], wanted: fn(&Measured) -> bool) {
        let wanted = orders.iter_mut().filter(|order| wanted(order)).collect::<Vec<_>>();
        let (at_once, apart) = wanted.into_iter().partition::<Vec<_>, _>(|order| order.gap.is_zero());
        for order in at_once {
            let run = self.begin(order);
            order.ms.push(run.finish(run.prepare().and_then(|()| run.start_at_once())));
        }
        let mut started = Vec::new();
        for order in apart {
            let run = self.begin(order);
            let prepared = run.prepare().and_then(|()| run.start_first());
            started.push((order, run, prepared));
        }
        if !started.is_empty() {
            self.timeline.say("the first broker of each order has started");
            sleep(LONG_GAP);
        }
        for (order, run, prepared) in started {
            order.ms.push(run.finish(prepared.and_then(|()| run.start_others())));
        }
    }

    fn begin(&mut self, order: &Measured) -> Run<'a> {
        let run = Run::new(self.environment, self.timeline, order.order, order.gap);
        self.made.push(run.kubectl.clone());
        run
    }

    /// Removes what is there. Not between measurements: it is work for every node. But a dozen clusters that idle are,
    /// too.
    fn clear(&mut self) -> anyhow::Result<()> {
        self.made.iter().try_for_each(Kubectl::delete_namespace)?;
        self.made.drain(..).try_for_each(|namespace| namespace.wait_deleted())
    }
}

/// How long one order took, run by run.
struct Measured {
    order: [usize; 3],
    gap: Duration,
    /// Milliseconds; none where nothing was acknowledged, or the run failed.
    ms: Vec<Option<i64>>,
}

impl Measured {
    /// One run says little: kube-proxy takes up changes once a second, whatever they are, and the machine may be busy.
    fn is_worth_another_run(&self) -> bool {
        self.ms.len() < ENOUGH_RUNS && self.median().is_some_and(|ms| ms > LIMIT_MS)
    }

    fn median(&self) -> Option<i64> {
        median(self.ms.iter().flatten().copied())
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |ms: &Option<i64>| ms.map_or("none".to_owned(), |ms| format!("{ms} ms"));
        let all = self.ms.iter().map(said).collect::<Vec<_>>().join(", ");
        let [a, b, c] = self.order;
        write!(f, "{a} {b} {c}  {:>3} s   {all}", self.gap.as_secs())?;
        if self.ms.len() > 1 {
            write!(f, "; median {}", said(&self.median()))?;
        }
        Ok(())
    }
}

/// The middle one, or the greater one of the two in the middle.
fn median(all: impl Iterator<Item = i64>) -> Option<i64> {
    let mut all = all.collect::<Vec<_>>();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

/// An order in which nothing was acknowledged fails always; only how long the others took is judged less strictly.
fn judge(results: &[[Measured; 6]; 2], strict: bool) -> anyhow::Result<()> {
    let orders = |wanted: fn(&Measured) -> bool| {
        let found = results.as_flattened().iter().filter(|order| wanted(order));
        found.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let never = orders(|order| order.ms.iter().any(Option::is_none));
    ensure!(never.is_empty(), "no write was acknowledged, or the run failed: {never}");
    let late = orders(|order| order.median().is_some_and(|ms| ms > LIMIT_MS));
    ensure!(late.is_empty() || !strict, "more than {LIMIT_MS} ms: {late}");
    for gap in results {
        let most = median(gap.iter().filter_map(Measured::median)).context("no orders")?;
        ensure!(most <= LIMIT_SHARED_MS, "most orders took more than {LIMIT_SHARED_MS} ms");
    }
    Ok(())
}

impl<'a> Run<'a> {
    fn new(environment: &'a Environment, timeline: &'a Timeline, order: [usize; 3], gap: Duration) -> Self {
        let [a, b, c] = order;
        // The namespace of an earlier try may not be gone yet.
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{}-{number}-{a}{b}{c}-{}", environment::namespace(NAME), gap.as_secs());
        Self { environment, timeline, order, gap, kubectl: environment.kubectl.within(&namespace) }
    }

    fn brokers(&self) -> Brokers<'_> {
        Brokers { kubectl: &self.kubectl, name: "demo" }
    }

    /// Three pods that are held back, and a client that tries.
    fn prepare(&self) -> anyhow::Result<()> {
        create_held_namespace(&self.kubectl)?;
        self.kubectl.apply(
            "{apiVersion: chronik.io/v1alpha1, kind: ChronikCluster, metadata: {name: demo}, \
             spec: {storage: {size: 1Gi}}}",
        )?;
        // The Services are there by then. A client that asks for their names before may be told that they are not, and
        // one of the DNS servers remembers it for 30 s.
        self.brokers().wait_pods()?;
        let words = ["produce-first", "--bootstrap", &self.brokers().addresses(), "--timeout", "15m"];
        client::start(&self.kubectl, "client", &words)
    }

    fn start_at_once(&self) -> anyhow::Result<i64> {
        for id in self.order {
            release(&self.kubectl, id)?;
        }
        let mut starts =
            self.order.map(|id| started(&self.kubectl, id)).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        starts.sort();
        let ms = self.milliseconds_since(starts[1])?;
        self.brokers().wait_ready()?;
        self.brokers().never_restarted()?;
        Ok(ms)
    }

    fn start_first(&self) -> anyhow::Result<()> {
        release(&self.kubectl, self.order[0])?;
        started(&self.kubectl, self.order[0]).map(|_| ())
    }

    fn start_others(&self) -> anyhow::Result<i64> {
        release(&self.kubectl, self.order[1])?;
        let ms = self.milliseconds_since(started(&self.kubectl, self.order[1])?)?;
        release(&self.kubectl, self.order[2])?;
        self.brokers().wait_ready()?;
        self.brokers().never_restarted()?;
        Ok(ms)
    }

    fn milliseconds_since(&self, start: Timestamp) -> anyhow::Result<i64> {
        let ms = acknowledged(&self.kubectl)?.as_millisecond() - start.as_millisecond();
        ensure!(ms >= 0, "acknowledged {} ms before there was a second broker", -ms);
        Ok(ms)
    }

    /// Keeps what explains a bad result.
    fn finish(&self, result: anyhow::Result<i64>) -> Option<i64> {
        let [a, b, c] = self.order;
        let what = format!("{a} {b} {c}  {:>3} s", self.gap.as_secs());
        match &result {
            Ok(ms) => self.timeline.say(format!("{what}   {ms} ms")),
            Err(error) => self.timeline.say(format!("{what}   {error:#}")),
        }
        if !matches!(result, Ok(ms) if ms <= LIMIT_MS) {
            let folder = self.environment.evidence(NAME).join(self.kubectl.namespace());
            if let Err(error) = evidence::keep_run(self.environment, &self.kubectl, &folder) {
                self.timeline.say(format!("evidence could not be kept: {error:#}"));
            }
        }
        result.ok()
    }
}

/// Has brokers' pods held back in the namespaces that say so, and waits until the API server does it.
fn hold_brokers(environment: &Environment) -> anyhow::Result<()> {
    environment.kubectl.apply(&fs::read_to_string(environment.root.join("e2e/hold.yaml"))?)?;
    let kubectl = environment.kubectl.within(&format!("{}-held", environment::namespace(NAME)));
    create_held_namespace(&kubectl)?;
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: held, labels: {chronik.io/cluster: held}}, \
               spec: {securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, \
               containers: [{name: held, image: held, securityContext: {allowPrivilegeEscalation: false, \
               capabilities: {drop: [ALL]}}}]}}";
    until("the hold on brokers' pods", || {
        let made: Value = serde_json::from_str(&kubectl.try_create(pod)?)?;
        Ok(made["spec"]["schedulingGates"].is_array().then_some(()))
    })?;
    environment.discard(&kubectl)
}

fn create_held_namespace(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.create_namespace()?;
    kubectl.run(&["label", "namespace", kubectl.namespace(), "chronik.io/e2e=hold"]).map(|_| ())
}

fn release(kubectl: &Kubectl, id: usize) -> anyhow::Result<()> {
    let patch = r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#;
    kubectl.run(&["patch", "pod", &format!("demo-{id}"), "--type=json", "--patch", patch]).map(|_| ())
}

/// When the broker's process wrote its first line, as the line itself says: Kubernetes tells a container's start in whole
/// seconds only, and the container runtime may see the line after what the broker did next.
fn started(kubectl: &Kubectl, id: usize) -> anyhow::Result<Timestamp> {
    until(&format!("demo-{id} to start"), || {
        let log = kubectl.run(&["logs", &format!("demo-{id}")])?;
        let first: Value = serde_json::from_str(log.lines().next().context("no line yet")?)?;
        Ok(Some(first["timestamp"].as_str().context("a line without a time")?.parse()?))
    })
}

/// When the client's first record was acknowledged.
fn acknowledged(kubectl: &Kubectl) -> anyhow::Result<Timestamp> {
    until("an acknowledged write", || {
        let said = client::said(kubectl, "client")?;
        if let Some(failed) = said.iter().find(|line| line["event"] == "failed") {
            bail!("the client gave up: {failed}");
        }
        let acknowledged = said.iter().find(|line| line["event"] == "acknowledged");
        acknowledged.and_then(|line| line["at"].as_str()).map(|at| Ok(at.parse()?)).transpose()
    })
}

/// Makes `CoreDNS` cache denials for the cluster's own names: with a plain `cache 30`.
fn remember_absent_names(kubectl: &Kubectl) -> anyhow::Result<()> {
    let config: Value = kubectl.json(&["get", "configmap", "coredns"])?;
    let corefile = config["data"]["Corefile"].as_str().context("CoreDNS has a Corefile")?;
    let mut lines = Vec::new();
    let mut inside = false;
    for line in corefile.lines() {
        let word = line.trim();
        if word.starts_with("cache ") && word.ends_with('{') {
            inside = true;
            lines.push("    cache 30");
        } else if inside {
            inside = word != "}";
        } else {
            lines.push(line);
        }
    }
    let plain = format!("{}\n", lines.join("\n"));
    ensure!(plain.contains("cache 30"), "no cache in the Corefile: {corefile}");
    let patch = serde_json::json!({ "data": { "Corefile": plain } }).to_string();
    kubectl.run(&["patch", "configmap", "coredns", "--type=merge", "--patch", &patch])?;
    kubectl.restart("coredns")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(times: [Option<i64>; 6], strict: bool) -> bool {
        let orders = |ms: &[Option<i64>]| ORDERS.map(|order| Measured { order, gap: Duration::ZERO, ms: ms.to_vec() });
        let each = times.map(|ms| Measured { order: ORDERS[0], gap: Duration::ZERO, ms: vec![ms] });
        judge(&[orders(&[Some(1)]), each], strict).is_ok()
    }

    #[test]
    fn the_median_of_an_orders_rounds_is_what_counts() {
        let one_of = |ms: [i64; 3]| {
            let each = |order| Measured { order, gap: LONG_GAP, ms: ms.map(Some).to_vec() };
            judge(&[ORDERS.map(each), ORDERS.map(each)], true).is_ok()
        };
        assert!(one_of([1_500, 200, 900]));
        assert!(!one_of([1_500, 1_001, 900]));
    }

    #[test]
    fn an_order_is_run_again_until_enough_runs_say_that_it_is_slow() {
        let again = |ms: &[i64]| {
            let ms = ms.iter().copied().map(Some).collect();
            Measured { order: ORDERS[0], gap: LONG_GAP, ms }.is_worth_another_run()
        };
        assert!(!again(&[1_000]));
        assert!(again(&[1_001]));
        assert!(again(&[1_001, 500]));
        assert!(!again(&[1_001, 500, 500]));
        assert!(again(&[1_001, 500, 500, 1_001]));
        assert!(!again(&[1_001, 500, 500, 1_001, 1_001]));
    }

    #[test]
    fn only_the_milliseconds_are_relaxed() {
        let quick = Some(500);
        for (times, strict, relaxed) in [
            ([quick; 6], true, true),
            ([quick, quick, Some(5_000), quick, Some(20_000), quick], false, true),
            ([quick, quick, Some(20_000), Some(20_000), Some(20_000), Some(20_000)], false, false),
            ([quick, quick, quick, quick, quick, None], false, false),
        ] {
            assert_eq!((judged(times, true), judged(times, false)), (strict, relaxed), "{times:?}");
        }
    }
}
