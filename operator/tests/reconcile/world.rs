//! A Kubernetes cluster around the operator: its API server, the StatefulSet controller with pods that become ready, and
//! brokers that say of themselves what follows from their pods.

use crate::api_server::ApiServer;
use crate::kafka::FakeKafka;
use chronik_operator::brokers::{
    Answer, Balance, BrokerFacts, Brokers, Contact, Facts, Permit, Standing, Stop, Unanswered,
};
use chronik_operator::events::Events;
use chronik_operator::metrics::Metrics;
use chronik_operator::reconcile::{ReconcileError, Reconciler};
use futures::FutureExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;

#[derive(Default)]
pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) brokers: FakeBrokers,
    pub(crate) kafka: FakeKafka,
    pub(crate) default_image: String,
    pub(crate) operator: String,
    /// Pods with this image do not start.
    pub(crate) bad_image: Option<String>,
    /// Pods run, and do not become ready.
    pub(crate) unready: bool,
    /// Those of the one operator that acts.
    events: OnceLock<Events>,
}

impl World {
    /// With a cluster of so many brokers, which nobody has looked at yet.
    pub(crate) fn with_cluster(replicas: i32) -> Self {
        let world = Self { default_image: "chronik:1".to_owned(), ..Self::default() };
        *world.brokers.server.lock().unwrap() = world.server.clone();
        for id in 0..5 {
            let status = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
            world.server.put("nodes", json!({ "metadata": { "name": format!("node-{id}") }, "status": status }));
        }
        world.apply_cluster(&json!({ "replicas": replicas, "storage": { "size": "1Gi" } }));
        world
    }

    pub(crate) fn apply_cluster(&self, spec: &Value) {
        self.server.put(
            "chronikclusters",
            json!({ "apiVersion": "chronik.io/v1alpha1", "kind": "ChronikCluster", "metadata": { "name": "demo" },
                    "spec": spec }),
        );
    }

    pub(crate) fn change_spec(&self, change: impl FnOnce(&mut Value)) {
        self.server.change("chronikclusters", "demo", |cluster| change(&mut cluster["spec"]));
    }

    pub(crate) async fn reconcile(&self) -> Result<Option<Duration>, ReconcileError> {
        Box::pin(self.reconciler().reconcile("default", "demo")).await
    }

    /// Brings the budget of disruptions to what is so, as is done while reconciles fail.
    pub(crate) async fn guard(&self) -> Result<(), ReconcileError> {
        let watched = self.server.get("chronikclusters", "demo").unwrap()["metadata"].clone();
        Box::pin(self.reconciler().guard(&serde_json::from_value(watched).unwrap())).await
    }

    pub(crate) fn reconciler(&self) -> Reconciler {
        let client = self.server.client();
        Reconciler {
            client: client.clone(),
            brokers: Arc::new(self.brokers.clone()),
            kafka: Arc::new(self.kafka.clone()),
            events: self.events.get_or_init(|| Events::new(client, "test")).clone(),
            default_image: self.default_image.clone(),
            operator: Some(self.operator.clone()),
            metrics: Metrics::default(),
        }
    }

    /// Reconciles, and lets Kubernetes do its part, until neither writes anything.
    pub(crate) async fn run_until_idle(&self) {
        for _ in 0..60 {
            self.server.writes();
            self.reconcile().await.unwrap();
            let wrote = !self.server.writes().is_empty();
            if !self.run_kubernetes() && !wrote {
                return;
            }
        }
        panic!("no end to it: {}", self.status());
    }

    /// So many rounds of both, where there is no end to it.
    pub(crate) async fn settle_for(&self, rounds: u32) {
        for _ in 0..rounds {
            self.reconcile().await.unwrap();
            self.run_kubernetes();
        }
    }

    pub(crate) fn status(&self) -> Value {
        self.server.get("chronikclusters", "demo").unwrap()["status"].clone()
    }

    pub(crate) fn condition(&self, kind: &str) -> Value {
        let status = self.status();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
    }

    /// The StatefulSet controller, the scheduler and the kubelets: one round. Returns whether anything was to do.
    pub(crate) fn run_kubernetes(&self) -> bool {
        let Some(mut set) = self.server.get("statefulsets", "demo") else { return false };
        let revision = format!("r{}", hash(&set["spec"]["template"].to_string()));
        let generation = set["metadata"]["generation"].clone();
        let status = json!({ "replicas": 0, "observedGeneration": generation, "updateRevision": revision });
        let mut busy = set["status"] != status;
        busy |= self.open_node_ports();
        set["status"] = status;
        self.server.put("statefulsets", set.clone());
        let replicas = i32::try_from(set["spec"]["replicas"].as_i64().unwrap()).unwrap();
        for id in 0..replicas {
            if self.server.get("pods", &format!("demo-{id}")).is_none() {
                self.start_pod(&set, &revision, id);
                busy = true;
            }
        }
        for pod in self.server.all("pods") {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let id = name.trim_start_matches("demo-").parse::<i32>().unwrap();
            if id >= replicas {
                self.server.remove("pods", &name);
                busy = true;
            }
        }
        busy
    }

    /// As the API server does when a Service asks for it.
    fn open_node_ports(&self) -> bool {
        let mut busy = false;
        for service in self.server.all("services") {
            let asks = service["spec"]["type"] == "NodePort" || service["spec"]["type"] == "LoadBalancer";
            if asks && service["spec"]["ports"][0]["nodePort"].is_null() {
                let name = service["metadata"]["name"].as_str().unwrap();
                let id = name.rsplit('-').next().unwrap().parse::<i32>().unwrap();
                self.server.change("services", name, |service| {
                    service["spec"]["ports"][0]["nodePort"] = json!(31_000 + id);
                });
                busy = true;
            }
        }
        busy
    }

    fn start_pod(&self, set: &Value, revision: &str, id: i32) {
        let mut pod =
            json!({ "metadata": set["spec"]["template"]["metadata"], "spec": set["spec"]["template"]["spec"] });
        pod["spec"]["nodeName"] = json!(format!("node-{id}"));
        let labels = set["spec"]["template"]["metadata"]["labels"].clone();
        pod["metadata"]["name"] = json!(format!("demo-{id}"));
        pod["metadata"]["labels"]["controller-revision-hash"] = json!(revision);
        let image = pod["spec"]["containers"][0]["image"].as_str().map(str::to_owned);
        pod["status"] = if image.is_some() && image == self.bad_image {
            let state = json!({ "waiting": { "reason": "ErrImagePull" } });
            json!({ "containerStatuses": [{ "name": "chronik", "image": "", "imageID": "", "ready": false,
                                            "restartCount": 0, "state": state }] })
        } else if self.unready {
            let container = json!({ "name": "chronik", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                                    "state": { "running": {} } });
            json!({ "podIP": format!("10.0.0.{id}"), "containerStatuses": [container] })
        } else {
            json!({ "podIP": format!("10.0.0.{id}"), "conditions": [{ "type": "Ready", "status": "True" }] })
        };
        self.server.put("pods", pod);
        let claim = format!("data-demo-{id}");
        if self.server.get("persistentvolumeclaims", &claim).is_none() {
            let template = &set["spec"]["volumeClaimTemplates"][0];
            self.server.put(
                "persistentvolumeclaims",
                json!({ "metadata": { "name": claim, "labels": labels }, "spec": template["spec"] }),
            );
        }
    }

    /// Each pod's uid, by name.
    pub(crate) fn pods(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pods = self.server.all("pods");
        pods.iter().map(|pod| (text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]))).collect()
    }
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(7, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
}

/// Brokers whose process is their pod, and that are in sync whenever it runs. Broker 1 leads the controller.
#[derive(Clone, Default)]
pub(crate) struct FakeBrokers {
    pub(crate) server: Arc<Mutex<ApiServer>>,
    pub(crate) state: Arc<Mutex<BrokersState>>,
}

#[derive(Default)]
pub(crate) struct BrokersState {
    /// Why nobody is sure.
    pub(crate) unsure: Option<String>,
    pub(crate) under_replicated: u32,
    /// How many partitions the disks of brokers have lost something of.
    pub(crate) damaged: BTreeMap<i32, u32>,
    /// Why nobody may stop.
    pub(crate) refuse: Option<String>,
    pub(crate) permit: Option<Permit>,
    /// Partitions that have yet to be moved to brokers that have joined: one is at each request.
    pub(crate) unbalanced: u32,
    /// Replicas on each broker that is being drained; without a word, brokers cannot be drained.
    pub(crate) draining: Option<u32>,
    /// Why no broker may be drained.
    pub(crate) refuse_drain: Option<String>,
    /// The cluster that brokers say they are of.
    pub(crate) cluster: String,
    /// What somebody else does while brokers are asked for facts.
    pub(crate) meanwhile: Option<fn(&ApiServer)>,
    pub(crate) cordoned: BTreeSet<i32>,
    /// Those that the controller has never heard of, though they have a pod.
    pub(crate) unheard: BTreeSet<i32>,
    /// What was asked for beside facts.
    pub(crate) requests: Vec<String>,
    /// Replaces the pod of a broker that has just been given its permit.
    pub(crate) meddle: bool,
    /// Brokers of a version that does not know how to take a cordon back.
    pub(crate) old: bool,
    /// Brokers say how they are when something else has come to pass.
    pub(crate) facts_after: Option<oneshot::Receiver<()>>,
    /// Somebody else writes, while brokers are asked for facts, that the cluster was complete once.
    pub(crate) formed_meanwhile: bool,
}

impl FakeBrokers {
    fn facts_now(&self) -> Result<Facts, Unanswered> {
        let state = self.state.lock().unwrap();
        if let Some(why) = &state.unsure {
            return Err(Unanswered::Unsure(why.clone()));
        }
        let pods = self.server.lock().unwrap().all("pods");
        let broker = |pod: &Value| {
            let id = pod["metadata"]["name"].as_str()?.strip_prefix("demo-")?.parse::<i32>().ok()?;
            if state.unheard.contains(&id) {
                return None;
            }
            let incarnation = pod["metadata"]["uid"].as_str().map(str::to_owned);
            let fenced = pod["status"]["podIP"].is_null();
            let standing = if fenced { Standing::Fenced } else { Standing::InSync };
            let cordoned = state.cordoned.contains(&id);
            let replicas = state.draining.unwrap_or_default();
            let damaged = Some(state.damaged.get(&id).copied().unwrap_or_default());
            let voter = id < 3;
            let facts =
                BrokerFacts { incarnation, standing, cordoned, voter, replicas, damaged, ..BrokerFacts::default() };
            Some((id, facts))
        };
        Ok(Facts {
            cluster: state.cluster.clone(),
            controller: Some(1),
            brokers: pods.iter().filter_map(broker).collect(),
            under_replicated: state.under_replicated,
            permit: state.permit.clone(),
            ..Facts::default()
        })
    }

    fn asked(&self, request: String) {
        self.state.lock().unwrap().requests.push(request);
    }
}

impl Brokers for FakeBrokers {
    fn facts(&self, _: Contact) -> Answer<Facts> {
        let facts = self.facts_now();
        if std::mem::take(&mut self.state.lock().unwrap().formed_meanwhile) {
            let server = self.server.lock().unwrap();
            server.change("chronikclusters", "demo", |cluster| cluster["status"]["formed"] = json!(true));
        }
        let meanwhile = self.state.lock().unwrap().meanwhile.take();
        if let Some(meanwhile) = meanwhile {
            meanwhile(&self.server.lock().unwrap());
        }
        let after = self.state.lock().unwrap().facts_after.take();
        async move {
            if let Some(after) = after {
                after.await.unwrap();
            }
            facts
        }
        .boxed()
    }

    fn request_stop(&self, _: Contact, broker: i32, incarnation: String) -> Answer<Stop> {
        self.asked(format!("stop {broker}"));
        let mut state = self.state.lock().unwrap();
        let answer = if let Some(why) = &state.refuse {
            Stop::Refused(why.clone())
        } else {
            let permit = Permit { id: 7, broker, incarnation };
            state.permit = Some(permit.clone());
            Stop::Granted(permit)
        };
        if state.meddle {
            let server = self.server.lock().unwrap();
            let mut pod = server.get("pods", &format!("demo-{broker}")).unwrap();
            server.remove("pods", &format!("demo-{broker}"));
            pod["metadata"]["uid"] = Value::Null;
            server.put("pods", pod);
        }
        async { Ok(answer) }.boxed()
    }

    fn recovered(&self, _: Contact, _: u64, unused: bool) -> Answer<Option<String>> {
        self.asked(format!("recovered{}", if unused { " unused" } else { "" }));
        self.state.lock().unwrap().permit = None;
        async { Ok(None) }.boxed()
    }

    fn drain(&self, _: Contact, broker: i32) -> Answer<()> {
        self.asked(format!("drain {broker}"));
        let mut state = self.state.lock().unwrap();
        if let Some(why) = state.refuse_drain.clone() {
            return async { Err(Unanswered::Refused(why)) }.boxed();
        }
        let answer = match state.draining {
            Some(_) => {
                state.cordoned.insert(broker);
                Ok(())
            }
            None => Err(Unanswered::Unsupported("draining")),
        };
        async { answer }.boxed()
    }

    fn uncordon(&self, _: Contact, broker: i32) -> Answer<()> {
        self.asked(format!("uncordon {broker}"));
        let mut state = self.state.lock().unwrap();
        let answer = if state.old {
            Err(Unanswered::Unsupported("uncordoning"))
        } else {
            state.cordoned.remove(&broker);
            Ok(())
        };
        async { answer }.boxed()
    }

    fn rebalance(&self, _: Contact, throttle: u64) -> Answer<Balance> {
        self.asked(format!("rebalance {throttle}"));
        let mut state = self.state.lock().unwrap();
        let balance = Balance { left: state.unbalanced, ..Balance::default() };
        state.unbalanced = state.unbalanced.saturating_sub(1);
        async { Ok(balance) }.boxed()
    }

    fn change_voters(&self, _: Contact, voters: Vec<i32>, _: Vec<i32>) -> Answer<()> {
        self.asked(format!("voters {voters:?}"));
        async { Err(Unanswered::Unsupported("changing voters")) }.boxed()
    }

    fn remove(&self, _: Contact, broker: i32) -> Answer<()> {
        self.asked(format!("remove {broker}"));
        async { Err(Unanswered::Unsupported("removing brokers")) }.boxed()
    }
}
