//! Brokers' pods are held back by a scheduling gate and let go: all at once, `--rounds` times, and in every order with
//! 30 s between the first and the second; each time on fresh volumes. A client pod tries to write all along. What is
//! measured is the time from the start of the second container (two of three brokers are a majority, and enough for
//! `min.insync.replicas`) to the first acknowledged `acks=all` write. `--strict` insists on what is promised, and runs
//! again what is slow: at once, a median of 1 s at most, and 2 s for 95 % of the starts; in every order, a median of 1 s
//! at most.
//!
//! The cluster's DNS is made to remember for 30 s that a name does not exist, as `CoreDNS` does out of the box and as
//! kubeadm has it not: brokers that have yet to start are asked for all along, by their peers and by the client.

mod measured;

use crate::brokers::Brokers;
use crate::client;
use crate::environment::{self, Environment};
use crate::evidence;
use crate::kubectl::Kubectl;
use crate::timeline::Timeline;
use crate::wait::until;
use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use measured::{LONG_GAP, MEDIAN_MAX_MS, Measured, ORDERS, Starts, judge};
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

const NAME: &str = "start-orders";
/// When more orders than this are slow it is not chance, and none is run again.
const MANY: usize = 3;
/// The runs so far: each has a namespace of its own.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// One start of three brokers, in a namespace of its own.
struct Run<'a> {
    environment: &'a Environment,
    timeline: &'a Timeline,
    /// In which their pods are let go.
    order: [usize; 3],
    /// Between the first and the second.
    gap: Duration,
    kubectl: Kubectl,
}

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    remember_absent_names(&environment.kubectl.within("kube-system"))?;
    timeline.say("the cluster's DNS remembers absent names for 30 s");
    hold_brokers(environment)?;
    timeline.say("brokers' pods are held back");
    let (strict, rounds) = (environment.start_orders.strict, environment.start_orders.rounds as usize);
    let mut runs = Runs { environment, timeline, made: Vec::new() };
    let mut at_once = Measured::new(Starts::AtOnce);
    runs.measure_at_once(&mut at_once, |measured| {
        measured.runs() < rounds || (strict && measured.is_worth_another_run())
    })?;
    let mut apart = ORDERS.map(|order| (order, Measured::new(Starts::Apart(order))));
    runs.measure_apart(&mut apart, |_| true)?;
    let worth_another = |apart: &[([usize; 3], Measured)]| {
        let count = apart.iter().filter(|(_, measured)| measured.is_worth_another_run()).count();
        strict && (1..=MANY).contains(&count)
    };
    while worth_another(&apart) {
        timeline.say(format!("orders whose median is above {MEDIAN_MAX_MS} ms are run again"));
        runs.measure_apart(&mut apart, Measured::is_worth_another_run)?;
    }
    if environment.keep {
        runs.made.iter().try_for_each(Kubectl::delete_namespace)?;
    }
    let apart = apart.map(|(_, measured)| measured);
    timeline.say("order    gap    start of the second container → first acks=all");
    for measured in std::iter::once(&at_once).chain(&apart) {
        timeline.say(measured.to_string());
    }
    judge(&at_once, &apart, strict)?;
    if !strict {
        timeline.say("how long each took was not insisted on, which --strict does");
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
    /// Starts all brokers at once as long as that is wanted. Their pods are let go by one request each, so the order
    /// changes from run to run.
    fn measure_at_once(&mut self, measured: &mut Measured, wanted: impl Fn(&Measured) -> bool) -> anyhow::Result<()> {
        while wanted(measured) {
            self.clear()?;
            for order in ORDERS {
                if wanted(measured) {
                    let run = self.begin(order, Duration::ZERO);
                    measured.push(run.finish(run.prepare().and_then(|()| run.start_at_once())));
                }
            }
        }
        Ok(())
    }

    /// Runs each of these orders once. They share the wait of their gap: after it the others' pods are let go order by
    /// order, each when the one before has been measured.
    fn measure_apart(
        &mut self,
        orders: &mut [([usize; 3], Measured)],
        wanted: fn(&Measured) -> bool,
    ) -> anyhow::Result<()> {
        self.clear()?;
        let orders = orders.iter_mut().filter(|(_, measured)| wanted(measured));
        let mut runs: Vec<_> = orders.map(|(order, measured)| (measured, self.begin(*order, LONG_GAP))).collect();
        // What is waited for here is Kubernetes, and one cluster's pods say nothing of another's.
        let prepared = thread::scope(|scope| {
            let start = |run: &Run<'_>| run.prepare().and_then(|()| run.start_first());
            let begun: Vec<_> = runs.iter().map(|(_, run)| scope.spawn(move || start(run))).collect();
            let ended = |run: thread::ScopedJoinHandle<'_, _>| run.join().unwrap_or_else(|_| bail!("it panicked"));
            begun.into_iter().map(ended).collect::<Vec<anyhow::Result<()>>>()
        });
        self.timeline.say("the first broker of each order has started");
        sleep(LONG_GAP);
        let measured: Vec<_> = (runs.iter().zip(prepared))
            .map(|((_, run), prepared)| run.finish(prepared.and_then(|()| run.start_others())))
            .collect();
        for ((starts, run), ms) in runs.iter_mut().zip(measured) {
            let whole = |ms: i64| run.is_whole().map(|()| ms);
            starts.push(ms.and_then(|ms| whole(ms).map_or_else(|error| run.finish(Err(error)), Some)));
        }
        Ok(())
    }

    fn begin(&mut self, order: [usize; 3], gap: Duration) -> Run<'a> {
        let run = Run::new(self.environment, self.timeline, order, gap);
        self.made.push(run.kubectl.clone());
        run
    }

    /// Removes what is there. Not between measurements: it is work for every node. But half a dozen clusters that idle
    /// are, too.
    fn clear(&mut self) -> anyhow::Result<()> {
        self.made.iter().try_for_each(Kubectl::delete_namespace)?;
        self.made.drain(..).try_for_each(|namespace| namespace.wait_deleted())
    }
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
        // The Services are there by then. A client that asks for their names before may learn that they do not exist,
        // which one of the DNS servers caches for 30 s.
        self.brokers().wait_pods()?;
        let words = ["produce-first", "--bootstrap", &self.brokers().addresses(), "--timeout", "15m"];
        client::start(&self.kubectl, "client", &words)
    }

    fn start_at_once(&self) -> anyhow::Result<i64> {
        for id in self.order {
            release(&self.kubectl, id)?;
        }
        let mut starts =
            self.order.map(|id| self.brokers().started(id)).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        starts.sort();
        let ms = self.milliseconds_since(starts[1])?;
        self.is_whole()?;
        Ok(ms)
    }

    fn start_first(&self) -> anyhow::Result<()> {
        release(&self.kubectl, self.order[0])?;
        self.brokers().started(self.order[0]).map(|_| ())
    }

    fn start_others(&self) -> anyhow::Result<i64> {
        release(&self.kubectl, self.order[1])?;
        let ms = self.milliseconds_since(self.brokers().started(self.order[1])?)?;
        release(&self.kubectl, self.order[2])?;
        self.brokers().started(self.order[2])?;
        Ok(ms)
    }

    /// Waits until all brokers are ready, none of which was restarted.
    fn is_whole(&self) -> anyhow::Result<()> {
        self.brokers().wait_ready()?;
        self.brokers().never_restarted()
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
        if !matches!(result, Ok(ms) if ms <= MEDIAN_MAX_MS) {
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

/// When the client's first record was acknowledged.
fn acknowledged(kubectl: &Kubectl) -> anyhow::Result<Timestamp> {
    until("an acknowledged write", || {
        let said = client::printed(kubectl, "client")?;
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
