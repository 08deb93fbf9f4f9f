//! Plays scheduler and kubelet for the pods of a namespace: nothing really runs, but the controllers see pods that do.
//!
//! ```text
//!   rule: Pod → Life ──┐                            ┌─► bind to the node
//!                      ├─► every pod, whenever it ──┼─► status: phase, conditions, containers
//!   watch: Pods ───────┘   or the rule changes      └─► delete, when it is to end and its time has come
//! ```
//!
//! The rule is asked again for every change, so that a test that changes the rule sees stuck pods mend, and good ones break.

mod status;

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::Status,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Error, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The node that all pods are bound to.
const NODE: &str = "simulated";

/// An API server that is away does not say when it is back: what failed is tried again so much later.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What is to become of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// While nobody deletes it.
    pub state: State,
    /// When somebody does.
    pub end: End,
}

/// How a pod fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// No node has room for it.
    Unscheduled,
    /// Its image cannot be had.
    NoImage,
    /// Its containers run, and are not ready.
    NotReady,
    /// It runs, and is ready, if its readiness gates are open.
    Ready,
    /// Its containers end with an error, and wait for their next try.
    Crashing,
    /// It is done, and did well.
    Succeeded,
    /// It is done, and did not.
    Failed,
}

/// How long a pod takes to end, from when it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// No time.
    AtOnce,
    /// This long, but no longer than its grace.
    After(Duration),
    /// For ever: its node does not answer.
    Never,
}

impl From<State> for Life {
    /// It ends at once.
    fn from(state: State) -> Self {
        Self { state, end: End::AtOnce }
    }
}

impl Life {
    /// Jobs' pods succeed, all others are ready, and they end at once.
    #[must_use]
    pub fn good(pod: &Pod) -> Self {
        let of_a_job = pod.owner_references().iter().any(|owner| owner.kind == "Job");
        if of_a_job { State::Succeeded.into() } else { State::Ready.into() }
    }
}

type Rule = Arc<dyn Fn(&Pod) -> Life + Send + Sync>;

/// A kubelet that works until it is dropped, or the runtime of its test ends.
pub struct Kubelet {
    rule: watch::Sender<Rule>,
    _stop: DropGuard,
}

impl std::fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kubelet")
    }
}

impl Kubelet {
    /// For the pods of one namespace, or of all. Two for the same pods would quarrel.
    pub async fn start(
        client: Client,
        namespace: Option<&str>,
        rule: impl Fn(&Pod) -> Life + Send + Sync + 'static,
    ) -> Self {
        make_node(&client).await;
        let (rule, rules) = watch::channel(Arc::new(rule) as Rule);
        let stop = CancellationToken::new();
        let worker = Worker {
            client,
            namespace: namespace.map(str::to_owned),
            rules,
            pods: HashMap::new(),
            ending: HashMap::new(),
            times: JoinSet::new(),
            failed: HashSet::new(),
            again: None,
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(worker.run()));
        Self { rule, _stop: stop.drop_guard() }
    }

    /// From now on another rule holds, for the pods that are there as well.
    pub fn obey(&self, rule: impl Fn(&Pod) -> Life + Send + Sync + 'static) {
        self.rule.send_replace(Arc::new(rule));
    }
}

type Uid = String;

struct Worker {
    client: Client,
    namespace: Option<String>,
    rules: watch::Receiver<Rule>,
    /// All that are there, as they were last.
    pods: HashMap<Uid, Pod>,
    /// Those that take their time to end, and whether it has come.
    ending: HashMap<Uid, bool>,
    /// Ends with a pod's time.
    times: JoinSet<Uid>,
    /// Those that the API server could not be asked about.
    failed: HashSet<Uid>,
    again: Option<Instant>,
}

impl Worker {
    async fn run(mut self) {
        let pods: Api<Pod> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let mut events = pin!(watcher(pods, watcher::Config::default()).default_backoff());
        loop {
            // What is awaited here loses nothing when it is dropped; the work is done behind the arrows.
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.hear(event).await,
                    // It tries again by itself.
                    Some(Err(_)) => {}
                    None => return,
                },
                changed = self.rules.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let all = self.pods.keys().cloned().collect();
                    self.look_after_all(all).await;
                }
                Some(Ok(uid)) = self.times.join_next() => {
                    if let Some(due) = self.ending.get_mut(&uid) {
                        *due = true;
                    }
                    self.look_after(&uid).await;
                }
                () = sleep_until(self.again.unwrap_or_else(Instant::now)), if self.again.is_some() => {
                    self.again = None;
                    let failed = self.failed.drain().collect();
                    self.look_after_all(failed).await;
                }
            }
        }
    }

    async fn hear(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.pods.clear(),
            Event::InitApply(pod) | Event::Apply(pod) => {
                let Some(uid) = pod.uid() else { return };
                self.pods.insert(uid.clone(), pod);
                self.look_after(&uid).await;
            }
            Event::InitDone => self.ending.retain(|uid, _| self.pods.contains_key(uid)),
            Event::Delete(pod) => {
                let uid = pod.uid().unwrap_or_default();
                self.pods.remove(&uid);
                self.ending.remove(&uid);
            }
        }
    }

    async fn look_after_all(&mut self, uids: Vec<Uid>) {
        for uid in uids {
            self.look_after(&uid).await;
        }
    }

    async fn look_after(&mut self, uid: &Uid) {
        let Some(pod) = self.pods.get(uid).cloned() else { return };
        let rule = Arc::clone(&self.rules.borrow());
        let life = rule(&pod);
        let pods = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let done = if pod.metadata.deletion_timestamp.is_none() {
            live(&pods, &pod, life.state).await
        } else if self.time_has_come(uid, &pod, life.end) {
            end(&pods, &pod).await
        } else {
            Ok(())
        };
        match done {
            Ok(()) => {}
            // It has changed, or gone: that will be heard.
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(Error::Api(status)) if matches!(status.code, 400 | 422) => panic!("{}: {status}", pod.name_any()),
            // The API server is away, or has not come back wholly.
            Err(_) => {
                self.failed.insert(uid.clone());
                self.again = Some(Instant::now() + AGAIN_AFTER);
            }
        }
    }

    fn time_has_come(&mut self, uid: &Uid, pod: &Pod, end: End) -> bool {
        let time = match end {
            End::AtOnce => return true,
            End::Never => return false,
            End::After(time) => time,
        };
        if let Some(&due) = self.ending.get(uid) {
            return due;
        }
        let grace = pod.metadata.deletion_grace_period_seconds.and_then(|seconds| seconds.try_into().ok());
        let time = grace.map_or(time, |seconds| time.min(Duration::from_secs(seconds)));
        self.ending.insert(uid.clone(), false);
        let uid = uid.clone();
        self.times.spawn(async move {
            sleep(time).await;
            uid
        });
        false
    }
}

async fn live(pods: &Api<Pod>, pod: &Pod, state: State) -> Result<(), Error> {
    let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if !bound && state != State::Unscheduled {
        // Its status follows when the binding is heard of.
        return bind(pods, pod).await;
    }
    tell(pods, pod, state, None).await.map(drop)
}

/// Tells the API server how a pod is, unless it says so already. Returns the pod as it is after that. `address`: its own, if it has
/// one.
pub(crate) async fn tell(
    pods: &Api<Pod>,
    pod: &Pod,
    state: State,
    address: Option<&str>,
) -> Result<Option<Pod>, Error> {
    let Some(status) = status::patch(pod, state, address, Timestamp::now()) else { return Ok(None) };
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await.map(Some)
}

/// Binds a pod to the node, as a scheduler does.
pub(crate) async fn bind(pods: &Api<Pod>, pod: &Pod) -> Result<(), Error> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": pod.name_any(), "uid": pod.uid()},
        "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
    });
    let answer: Result<Status, _> =
        pods.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await;
    answer.map(drop)
}

/// Lets a pod be gone: nothing of it runs any more.
pub(crate) async fn end(pods: &Api<Pod>, pod: &Pod) -> Result<(), Error> {
    let preconditions = Preconditions { uid: pod.uid(), ..Preconditions::default() };
    let now = DeleteParams::default().grace_period(0).preconditions(preconditions);
    pods.delete(&pod.name_any(), &now).await.map(drop)
}

/// The node, if it is not there. Without it, the pods on it would be taken for orphans.
pub(crate) async fn make_node(client: &Client) {
    let nodes = Api::<Node>::all(client.clone());
    let node = serde_json::from_value(json!({"metadata": {"name": NODE}})).unwrap();
    match nodes.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(Error::Api(status)) if status.code == 409 => return,
        Err(error) => panic!("the node cannot be made: {error}"),
    }
    let room = json!({"cpu": "1000", "memory": "1000Gi", "pods": "100000"});
    let ready = json!([{"type": "Ready", "status": "True", "reason": "Simulated"}]);
    let patch = Patch::Merge(json!({"status": {"capacity": room, "allocatable": room, "conditions": ready}}));
    nodes.patch_status(NODE, &PatchParams::default(), &patch).await.unwrap();
}
