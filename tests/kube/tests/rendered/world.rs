//! A cluster of one node, with an operator, and Redis and PostgreSQL beside it.

use std::{collections::BTreeMap, net::Ipv4Addr, ops::Deref, time::Duration};

use clap::Parser;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};
use kube::{ResourceExt as _, api::ListParams};
use rcgen::CertificateParams;
use serde_json::{Value, json};
use starling_backends::{
    Authority,
    postgres::{self, Postgres},
    redis::{self, Redis},
};
use starling_kube_tests::{ControlPlane, Namespace, Node, Options, asked, certificate, programs, until};
use starling_operator::{
    crd::XmppServer,
    run::{Arguments, Error, run},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::conditions::is_settled;

/// Of the user `starling`, who has it in both.
const PASSWORD: &str = "not-the-best:of/pass@words";
/// As it stands in a URL.
const ESCAPED: &str = "not-the-best%3Aof%2Fpass%40words";

/// Where nothing can be awaited, it is looked at for so long.
const ASKED_FOR: Duration = Duration::from_secs(60);

pub(crate) struct World {
    // Fields are dropped in this order: the control plane last.
    operator: Option<(CancellationToken, JoinHandle<Result<(), Error>>)>,
    pub(crate) node: Node,
    backends: Option<(Postgres, Redis)>,
    at: Namespace,
    _plane: ControlPlane,
}

impl Deref for World {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.at
    }
}

/// As the operator's own command line.
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    arguments: Arguments,
}

/// A pod that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Serving {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
}

impl World {
    /// Without an operator yet, and without Redis and PostgreSQL.
    pub(crate) async fn new() -> Self {
        let options = Options {
            crds: vec![starling_operator::crd::definition()],
            // There is no way out of here, from which it could guess.
            api_server: vec![format!("--advertise-address={}", Node::ADDRESS)],
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await;
        let namespace = plane.namespace_with(&[("pod-security.kubernetes.io/enforce", "restricted")]).await;
        let client = plane.client().await;
        let node = Node::start(
            client.clone(),
            &namespace,
            &programs::own("starlingd"),
            &["redis.backends", "postgres.backends"],
        )
        .await;
        let world = Self { operator: None, node, backends: None, at: Namespace::of(client, namespace), _plane: plane };
        let (certificate, key) = certificate(&["example.com"]);
        world.secret("tls", &[("tls.crt", &certificate), ("tls.key", &key)]).await;
        world
    }

    /// Starts Redis and PostgreSQL, with no more rights than are needed, and puts the Secrets about them into the namespace.
    pub(crate) async fn start_backends(&mut self) {
        let authority = Authority::new();
        let names = vec!["postgres.backends".to_owned()];
        let (certificate, key) = authority.sign(CertificateParams::new(names).unwrap());
        let tls = postgres::Tls { certificate, key };
        let options = postgres::Options {
            port: Some(5432),
            networks: vec![format!("{}/16", Node::ADDRESS)],
            tls: Some(tls),
            ..postgres::Options::default()
        };
        let postgres = Postgres::start(options).await;
        postgres.role("starling", PASSWORD).await;
        postgres.database("starling", "starling", "template1").await;
        let redis = Redis::start(redis::Options {
            port: Some(6379),
            users: vec![format!(
                "starling on >{PASSWORD} ~{}/chat* &{}/chat* +@all -@admin",
                self.namespace, self.namespace
            )],
            lines: vec![format!("bind 127.0.0.1 {}", Node::ADDRESS)],
            ..redis::Options::default()
        })
        .await;
        let url = |scheme: &str, host: &str| format!("{scheme}://starling:{ESCAPED}@{host}");
        self.secret("redis", &[("url", &url("redis", "redis.backends:6379"))]).await;
        self.secret("database", &[("url", &url("postgres", "postgres.backends:5432/starling"))]).await;
        self.secret("database-ca", &[("ca.crt", &authority.certificate())]).await;
        self.backends = Some((postgres, redis));
    }

    /// Starts the operator.
    pub(crate) fn start_operator(&mut self) {
        let address = Node::ADDRESS.to_string();
        let flags = [
            ("--namespace", self.namespace.as_str()),
            ("--server-image", "registry.example/starlingd:1.0.0"),
            ("--lease-namespace", &self.namespace),
            ("--identity", "operator"),
            // Pods have addresses of the same family.
            ("--pod-ips", &address),
            ("--listen", "127.0.0.1:0"),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag, value]);
        let Flags { arguments } = Flags::parse_from(["starling-operator"].into_iter().chain(flags));
        let stop = CancellationToken::new();
        self.operator = Some((stop.clone(), tokio::spawn(run(self.client.clone(), arguments, stop))));
    }

    /// Ends it, as SIGTERM would.
    pub(crate) async fn end_operator(&mut self) {
        let (stop, task) = self.operator.take().unwrap();
        stop.cancel();
        task.await.unwrap().unwrap();
    }

    /// A text in a Secret, when it is there.
    pub(crate) async fn read(&self, secret: &str, key: &str) -> String {
        let found = until(&self.api::<Secret>(), secret, |secret| secret.is_some_and(|secret| has(secret, key))).await;
        text(&found.unwrap(), key)
    }

    /// Somebody gets an account, by way of a pod that runs.
    pub(crate) async fn add_user(&self, pod: &str, address: &str, password: &str) {
        let add = ["user", "add", address, "--config", "/etc/starling/config/starling.toml"];
        let added = self.node.run(pod, &add, &format!("{password}\n")).await;
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }

    pub(crate) async fn server(&self, spec: Value) -> XmppServer {
        let metadata = json!({ "name": "chat" });
        let kind =
            json!({ "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer", "metadata": metadata, "spec": spec });
        self.create(kind).await
    }

    /// Waits until everything is as it is asked for, and clients are served.
    pub(crate) async fn settled(&self) {
        until(&self.api::<XmppServer>(), "chat", is_settled).await;
    }

    /// The pods of a component that are ready, and are not to end.
    pub(crate) async fn serving(&self, component: &str) -> Vec<Serving> {
        let of_component = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
        let pods = self.api::<Pod>().list(&of_component).await.unwrap().items;
        pods.iter().filter(|pod| is_serving(pod)).map(serving).collect()
    }

    /// Waits until the Deployment of a component has this many pods, all of its newest template, and all available.
    pub(crate) async fn rolled(&self, component: &str, replicas: i32) {
        let is_rolled = |deployment: Option<&Deployment>| {
            let Some(deployment) = deployment else { return false };
            let status = deployment.status.clone().unwrap_or_default();
            let all = [status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas];
            status.observed_generation == deployment.metadata.generation && all == [Some(replicas); 4]
        };
        until(&self.api::<Deployment>(), &format!("chat-{component}"), is_rolled).await;
    }

    /// Waits until a pod serves that did not before.
    pub(crate) async fn another(&self, component: &str, before: &[Serving]) -> Serving {
        let is_new = |pod: &Serving| !before.contains(pod);
        let serving = self.until_serving(component, |serving| serving.iter().any(is_new)).await;
        serving.into_iter().find(is_new).unwrap()
    }

    /// Waits until the pods that serve are as they are to be.
    pub(crate) async fn until_serving(&self, component: &str, wanted: impl Fn(&[Serving]) -> bool) -> Vec<Serving> {
        // The Deployment's status says whenever one has come or gone.
        let deployments = self.api::<Deployment>();
        loop {
            let status = deployments.get(&format!("chat-{component}")).await.unwrap().status;
            let serving = self.serving(component).await;
            if wanted(&serving) {
                return serving;
            }
            until(&deployments, &format!("chat-{component}"), |deployment| {
                deployment.is_some_and(|deployment| deployment.status != status)
            })
            .await;
        }
    }

    /// The processes of all pods that serve.
    pub(crate) async fn processes(&self, components: &[&str]) -> BTreeMap<String, u32> {
        let mut processes = BTreeMap::new();
        for component in components {
            for pod in self.serving(component).await {
                let process = self.node.process(&pod.name);
                processes.insert(pod.name, process);
            }
        }
        processes
    }

    /// Waits until a pod's process sees this in a file.
    pub(crate) async fn has_file(&self, pod: &Serving, path: &str, content: &str) {
        // Files are changed by the node, which says nothing of it.
        asked(ASKED_FOR, async || {
            let is_there = self.node.file(&pod.name, path).as_deref() == Some(content);
            is_there.then_some(()).ok_or_else(|| format!("{}: {path} is as it was", pod.name))
        })
        .await;
    }

    /// Waits until a metric of a pod, by its name with labels, is this.
    pub(crate) async fn metric(&self, pod: &Serving, name: &str, value: u32) {
        let line = format!("{name} {value}");
        // Nobody tells when a number changes.
        asked(ASKED_FOR, async || {
            let text = self.node.metrics(pod.address).await;
            let is_there = text.lines().any(|found| found == line);
            let missing = || format!("{}: not {line} in\n{text}\n{}", pod.name, self.node.log(&pod.name));
            is_there.then_some(()).ok_or_else(missing)
        })
        .await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.node.logs());
        }
    }
}

pub(crate) fn has(secret: &Secret, key: &str) -> bool {
    secret.data.as_ref().is_some_and(|data| data.contains_key(key))
}

pub(crate) fn text(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
}

/// Whether it is ready, and is not to end.
pub(crate) fn is_serving(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

fn serving(pod: &Pod) -> Serving {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).unwrap();
    Serving { name: pod.name_any(), address: address.parse().unwrap() }
}
