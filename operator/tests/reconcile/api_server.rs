//! An API server in memory, as far as the operator uses one: objects with uid, version and generation, server-side apply
//! as a merge, preconditions, and a log of what was written.

use crate::rbac::granted;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

/// Plural and name. There is one namespace.
type Key = (String, String);
/// What an admission webhook makes of an object.
type Webhook = fn(&str, &mut Value);
/// Why a request is forbidden, by resource, verb and body.
type Policy = fn(&str, &str, &Value) -> Option<&'static str>;

/// What goes wrong with a request, by resource and verb.
type Faults = fn(&str, &str) -> Option<Fault>;

/// How a request goes wrong.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// It is never answered.
    Hangs,
    /// It is not done, and answered by this.
    Refused(StatusCode),
    /// It is not done, and answered by this, with another reason than is usual for it.
    RefusedAs(StatusCode, &'static str),
    /// It is done, and answered by this.
    Done(StatusCode),
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    versions: u64,
    writes: Vec<String>,
    webhook: Option<Webhook>,
    policy: Option<Policy>,
    faults: Option<Faults>,
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct ApiServer {
    state: Arc<Mutex<State>>,
}

/// The body of an answer.
enum Answer {
    Whole(Option<Bytes>),
    /// That of a watch, of which nothing ever comes: what is to be seen must be looked for.
    Watch,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Watch => Poll::Pending,
        }
    }
}

/// A request, taken apart.
struct Asked {
    plural: String,
    name: Option<String>,
    status: bool,
    /// Labels with their values, or that are to be there at all.
    selector: Vec<(String, Option<String>)>,
}

impl Asked {
    fn resource(&self) -> String {
        if self.status { format!("{}/status", self.plural) } else { self.plural.clone() }
    }

    fn verb(&self, method: &Method) -> &'static str {
        match (method.as_str(), &self.name) {
            ("GET", Some(_)) => "get",
            ("GET", None) => "list",
            ("PATCH", _) => "patch",
            ("POST", _) => "create",
            _ => "delete",
        }
    }
}

impl ApiServer {
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                if head.uri.query().is_some_and(|query| query.contains("watch=")) {
                    return Ok(Response::new(Answer::Watch));
                }
                let body = body.collect_bytes().await.unwrap_or_default();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let kind = head.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
                let (code, answer) = match server.fault(&head.method, &head.uri) {
                    Some(Fault::Hangs) => std::future::pending().await,
                    Some(Fault::Refused(code)) => status(code),
                    Some(Fault::RefusedAs(code, reason)) => {
                        let (code, mut answer) = status(code);
                        answer["reason"] = json!(reason);
                        (code, answer)
                    }
                    Some(Fault::Done(code)) => {
                        server.answer(&head.method, &head.uri, kind, &body);
                        status(code)
                    }
                    None => server.answer(&head.method, &head.uri, kind, &body),
                };
                let response = Response::builder().status(code).header("content-type", "application/json");
                let answer = Answer::Whole(Some(serde_json::to_vec(&answer).unwrap().into()));
                Ok::<_, Infallible>(response.body(answer).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, uri: &http::Uri, kind: &str, body: &Value) -> (StatusCode, Value) {
        let asked = parse(uri);
        let (resource, verb) = (asked.resource(), asked.verb(method));
        if !granted().contains(&(resource.clone(), verb.to_owned())) {
            return status(StatusCode::FORBIDDEN);
        }
        let state = &mut *self.state.lock().unwrap();
        if let Some(why) = state.policy.and_then(|policy| policy(&resource, verb, body)) {
            let (code, mut answer) = status(StatusCode::FORBIDDEN);
            answer["message"] = json!(why);
            return (code, answer);
        }
        let key = (asked.plural.clone(), asked.name.clone().unwrap_or_default());
        match (method.as_str(), &asked.name) {
            ("GET", Some(_)) => {
                state.objects.get(&key).map_or_else(not_found, |object| (StatusCode::OK, object.clone()))
            }
            ("GET", None) => (StatusCode::OK, state.list(&asked)),
            ("PATCH", Some(_)) => state.patch(&asked, &key, kind.contains("apply"), body),
            ("POST", None) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                state.write(&(asked.plural, name), body.clone(), "create")
            }
            ("DELETE", Some(_)) => state.delete(&key, body),
            _ => status(StatusCode::METHOD_NOT_ALLOWED),
        }
    }

    fn fault(&self, method: &Method, uri: &http::Uri) -> Option<Fault> {
        let (asked, faults) = (parse(uri), self.state.lock().unwrap().faults?);
        faults(&asked.resource(), asked.verb(method))
    }

    /// What was written since this was asked last, Events aside.
    pub(crate) fn writes(&self) -> Vec<String> {
        let writes = std::mem::take(&mut self.state.lock().unwrap().writes);
        writes.into_iter().filter(|write| !write.contains(" events/")).collect()
    }

    pub(crate) fn set_webhook(&self, webhook: Webhook) {
        self.state.lock().unwrap().webhook = Some(webhook);
    }

    pub(crate) fn set_policy(&self, policy: Option<Policy>) {
        self.state.lock().unwrap().policy = policy;
    }

    pub(crate) fn set_faults(&self, faults: Option<Faults>) {
        self.state.lock().unwrap().faults = faults;
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(&(plural.to_owned(), name.to_owned())).cloned()
    }

    pub(crate) fn all(&self, plural: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.objects.iter().filter(|((of, _), _)| of == plural).map(|(_, object)| object.clone()).collect()
    }

    /// Writes an object as somebody else, who is not logged.
    pub(crate) fn put(&self, plural: &str, object: Value) {
        let mut state = self.state.lock().unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        state.write(&(plural.to_owned(), name), object, "put");
        state.writes.pop();
    }

    /// Changes an object as somebody else.
    pub(crate) fn change(&self, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(plural, name).unwrap();
        change(&mut object);
        self.put(plural, object);
    }

    /// Deletes an object as somebody does who does not wait for its finalizers.
    pub(crate) fn delete_as_somebody(&self, plural: &str, name: &str) {
        let has_finalizers =
            self.get(plural, name).unwrap()["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        if has_finalizers {
            self.change(plural, name, |object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        } else {
            self.remove(plural, name);
        }
    }

    pub(crate) fn remove(&self, plural: &str, name: &str) {
        self.state.lock().unwrap().objects.remove(&(plural.to_owned(), name.to_owned()));
    }
}

impl State {
    fn list(&self, asked: &Asked) -> Value {
        let selected = |object: &&Value| {
            asked.selector.iter().all(|(label, value)| match value {
                Some(value) => object["metadata"]["labels"][label] == value.as_str(),
                None => object["metadata"]["labels"][label].is_string(),
            })
        };
        let of_kind = self.objects.iter().filter(|((plural, _), _)| *plural == asked.plural).map(|(_, object)| object);
        json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": self.versions.to_string() },
                "items": of_kind.filter(selected).collect::<Vec<_>>() })
    }

    fn patch(&mut self, asked: &Asked, key: &Key, apply: bool, body: &Value) -> (StatusCode, Value) {
        let Some(live) = self.objects.get(key) else {
            return if apply { self.write(key, body.clone(), "apply") } else { not_found() };
        };
        for field in ["uid", "resourceVersion"] {
            let expected = &body["metadata"][field];
            if !expected.is_null() && *expected != live["metadata"][field] {
                return status(StatusCode::CONFLICT);
            }
        }
        let mut object = live.clone();
        if asked.status {
            object["status"] = body["status"].clone();
        } else {
            let mut body = body.clone();
            body.as_object_mut().unwrap().remove("status");
            merge(&mut object, &body);
        }
        self.write(key, object, if asked.status { "status" } else { "patch" })
    }

    fn write(&mut self, key: &Key, mut object: Value, verb: &str) -> (StatusCode, Value) {
        if verb != "status"
            && let Some(webhook) = self.webhook
        {
            webhook(&key.0, &mut object);
        }
        let live = self.objects.get(key);
        if live == Some(&object) {
            return (StatusCode::OK, object);
        }
        self.versions += 1;
        let generation = live.map_or(1, |live| {
            live["metadata"]["generation"].as_u64().unwrap_or(1) + u64::from(live["spec"] != object["spec"])
        });
        let uid = live.map_or_else(|| json!(format!("uid-{}", self.versions)), |live| live["metadata"]["uid"].clone());
        object["metadata"]["uid"] = uid;
        object["metadata"]["namespace"] = json!("default");
        object["metadata"]["generation"] = json!(generation);
        object["metadata"]["resourceVersion"] = json!(self.versions.to_string());
        self.writes.push(format!("{verb} {}/{}", key.0, key.1));
        let has_finalizers =
            object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
        if object["metadata"]["deletionTimestamp"].is_string() && !has_finalizers {
            self.objects.remove(key);
        } else {
            self.objects.insert(key.clone(), object.clone());
        }
        (StatusCode::OK, object)
    }

    fn delete(&mut self, key: &Key, body: &Value) -> (StatusCode, Value) {
        let Some(live) = self.objects.get(key) else { return not_found() };
        for field in ["uid", "resourceVersion"] {
            let expected = &body["preconditions"][field];
            if !expected.is_null() && *expected != live["metadata"][field] {
                return status(StatusCode::CONFLICT);
            }
        }
        self.writes.push(format!("delete {}/{}", key.0, key.1));
        self.objects.remove(key).map_or_else(not_found, |object| (StatusCode::OK, object))
    }
}

fn parse(uri: &http::Uri) -> Asked {
    let mut words = uri.path().trim_matches('/').split('/').collect::<Vec<_>>();
    words.drain(..if words[0] == "api" { 2 } else { 3 });
    if words[0] == "namespaces" {
        words.drain(..2);
    }
    let query = uri.query().unwrap_or_default().replace("%2F", "/").replace("%3D", "=").replace("%2C", ",");
    let selector = query.split('&').find_map(|pair| pair.strip_prefix("labelSelector=").map(str::to_owned));
    let pairs = selector.iter().flat_map(|selector| selector.split(','));
    Asked {
        plural: words[0].to_owned(),
        name: words.get(1).map(|name| (*name).to_owned()),
        status: words.get(2) == Some(&"status"),
        selector: pairs
            .map(|pair| match pair.split_once('=') {
                Some((label, value)) => (label.to_owned(), Some(value.to_owned())),
                None => (pair.to_owned(), None),
            })
            .collect(),
    }
}

/// Fields of one over those of the other; a null takes one away.
fn merge(into: &mut Value, from: &Value) {
    let Value::Object(from) = from else {
        *into = from.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let fields = into.as_object_mut().unwrap();
    for (name, value) in from {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn not_found() -> (StatusCode, Value) {
    status(StatusCode::NOT_FOUND)
}

fn status(code: StatusCode) -> (StatusCode, Value) {
    let reason = code.canonical_reason().unwrap_or_default();
    let body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
                       "reason": reason.replace(' ', ""), "code": code.as_u16() });
    (code, body)
}
