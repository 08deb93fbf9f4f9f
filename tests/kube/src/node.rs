//! A node whose pods run: for the pods of a namespace, `starlingd` is started as a kubelet would have it started, in a network
//! of its own, as its own user, with its Secrets and ConfigMaps as files.
//!
//! ```text
//!   watch: Pods ──────────────► a task for each (pod) ─┬─► network: bridge, address           ─┐
//!   watch: Secrets, ConfigMaps ─► objects ─────────────┼─► volumes: files, swapped in place    ├─► container ─► process
//!   watch: EndpointSlices ─► names (dnsmasq) ◄─────────┼── health: probes ─► status            ─┘
//!                                                      └─► stop: preStop, SIGTERM, SIGKILL
//! ```
//!
//! It must be [`isolated`](crate::isolated()): nothing of it is taken down but by its end. There is one image, whatever images are
//! called. Not played: limits of CPU and memory, seccomp, network policies, addresses of Services.

mod container;
mod health;
mod known;
mod names;
mod network;
mod objects;
mod pod;
mod volumes;

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    pin::pin,
    process::{ExitStatus, Output},
    sync::{Arc, Mutex},
};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::names::Endpoints;
use self::{
    container::{Entry, Image, Log},
    names::Names,
    network::Network,
    objects::Objects,
    pod::Work,
};
use crate::{PATIENCE, http, kubelet::make_node};

/// A container that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Its pod.
    pub pod: String,
    /// The pod's `app.kubernetes.io/component`.
    pub component: String,
    /// Its name.
    pub container: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Whether it had to be killed: it took longer than its grace, or did not answer its probes.
    pub is_killed: bool,
}

/// What all pods share.
struct Shared {
    pods: Api<Pod>,
    folder: PathBuf,
    network: Network,
    image: Arc<Image>,
    objects: Arc<watch::Sender<Objects>>,
    ended: Mutex<Vec<Ended>>,
}

/// What is known of a pod, also when it is gone.
struct Known {
    pod: watch::Sender<Arc<Pod>>,
    entry: watch::Receiver<Option<Entry>>,
    log: Arc<Log>,
}

/// A node that works until it is dropped.
pub struct Node {
    client: Client,
    namespace: String,
    shared: Arc<Shared>,
    known: Arc<Mutex<HashMap<String, Known>>>,
    _stop: DropGuard,
    _folder: TempDir,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Node")
    }
}

impl Node {
    /// For the pods of one namespace, which run `program`. `hosts`: names (`name.namespace`) by which pods find what listens on
    /// [`Node::ADDRESS`].
    pub async fn start(client: Client, namespace: &str, program: &Path, hosts: &[&str]) -> Self {
        make_node(&client).await;
        let folder = tempfile::tempdir().unwrap();
        let network = Network::new();
        let names = Names::start(folder.path(), hosts);
        let shared = Arc::new(Shared {
            pods: Api::namespaced(client.clone(), namespace),
            folder: folder.path().to_owned(),
            network,
            image: Arc::new(Image::of(program, folder.path())),
            objects: Arc::new(watch::Sender::default()),
            ended: Mutex::default(),
        });
        let known = Arc::new(Mutex::new(HashMap::new()));
        let stop = CancellationToken::new();
        let tasks = [
            Box::pin(follow(Arc::clone(&shared), Arc::clone(&known))) as futures_util::future::BoxFuture<'static, ()>,
            Box::pin(objects::follow(client.clone(), namespace.to_owned(), Arc::clone(&shared.objects))),
            Box::pin(names.follow(client.clone(), namespace.to_owned())),
        ];
        for task in tasks {
            tokio::spawn(stop.clone().run_until_cancelled_owned(task));
        }
        Self { client, namespace: namespace.to_owned(), shared, known, _stop: stop.drop_guard(), _folder: folder }
    }

    /// Where pods find what runs beside them. It is there once a node has started.
    pub const ADDRESS: Ipv4Addr = network::NODE;

    /// Runs the program of a pod once more, beside it, as `kubectl exec` does.
    ///
    /// # Panics
    /// If nothing of the pod runs.
    pub async fn run(&self, pod: &str, arguments: &[&str], input: &str) -> Output {
        self.entry(pod).run(arguments, input).await
    }

    /// The number of a pod's process.
    ///
    /// # Panics
    /// If nothing of the pod runs.
    #[must_use]
    pub fn process(&self, pod: &str) -> u32 {
        self.entry(pod).process
    }

    /// A file as a pod's process sees it now, by its path there; `None`: it is not there.
    #[must_use]
    pub fn file(&self, pod: &str, path: &str) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{}/root{path}", self.process(pod))).ok()
    }

    /// What a pod has said so far.
    #[must_use]
    pub fn log(&self, pod: &str) -> String {
        self.of(pod, |known| known.log.text())
    }

    /// What all pods have said, also those that are gone: for when a test fails.
    #[must_use]
    pub fn logs(&self) -> String {
        let known = self.known.lock().unwrap();
        known.iter().map(|(pod, known)| format!("== {pod}\n{}", known.log.text())).collect()
    }

    /// Waits until a pod has said this.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub async fn says(&self, pod: &str, what: &str) {
        let log = self.of(pod, |known| Arc::clone(&known.log));
        if timeout(PATIENCE, log.says(what)).await.is_err() {
            panic!("{pod} does not say {what:?}:\n{}", log.text());
        }
    }

    /// The text of a pod's `/metrics`; empty while it does not answer.
    pub async fn metrics(&self, address: Ipv4Addr) -> String {
        http::get((address, 5280).into(), "/metrics").await.unwrap_or_default()
    }

    /// To ask where Services send their clients.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints::of(self.client.clone(), &self.namespace)
    }

    /// All containers that have ended, in the order of their ends.
    #[must_use]
    pub fn ended(&self) -> Vec<Ended> {
        self.shared.ended.lock().unwrap().clone()
    }

    fn entry(&self, pod: &str) -> Entry {
        self.of(pod, |known| known.entry.borrow().clone()).unwrap_or_else(|| panic!("{pod} does not run"))
    }

    fn of<T>(&self, pod: &str, ask: impl FnOnce(&Known) -> T) -> T {
        ask(self.known.lock().unwrap().get(pod).unwrap_or_else(|| panic!("there was no {pod}")))
    }
}

/// Gives every pod a task, and tells it how its pod is.
async fn follow(shared: Arc<Shared>, known: Arc<Mutex<HashMap<String, Known>>>) {
    let mut events = pin!(watcher(shared.pods.clone(), watcher::Config::default()).default_backoff());
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::InitApply(pod) | Event::Apply(pod) | Event::Delete(pod))) => {
                    hear(&shared, &known, pod, &mut tasks);
                }
                Some(Ok(Event::Init | Event::InitDone)) => {}
                // It tries again by itself.
                Some(Err(_)) => {}
                None => return,
            },
            // A node that lost a pod by a fault of its own is of no use.
            Some(ended) = tasks.join_next() => ended.unwrap(),
        }
    }
}

fn hear(shared: &Arc<Shared>, known: &Mutex<HashMap<String, Known>>, pod: Pod, tasks: &mut JoinSet<()>) {
    let (name, pod) = (pod.name_any(), Arc::new(pod));
    let mut known = known.lock().unwrap();
    let same = known.get(&name).filter(|known| known.pod.borrow().uid() == pod.uid());
    if let Some(known) = same {
        known.pod.send_replace(pod);
        return;
    }
    let (sender, pods) = watch::channel(pod);
    let (entry, entries) = watch::channel(None);
    // Of a StatefulSet's pod, its successor says more.
    let log = known.get(&name).map_or_else(Arc::default, |before| Arc::clone(&before.log));
    known.insert(name, Known { pod: sender, entry: entries, log: Arc::clone(&log) });
    tasks.spawn(Work { shared: Arc::clone(shared), log, pod: pods, entry, told: None }.run());
}
