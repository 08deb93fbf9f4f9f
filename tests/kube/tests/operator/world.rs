//! A namespace with what servers stand on, nodes that play along, and an operator.

// By its path: whoever takes in this file by its own takes in that one.
#[path = "conditions.rs"]
mod conditions;

use std::{net::Ipv4Addr, ops::Deref, time::Duration};

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    coordination::v1::Lease,
    core::v1::Pod,
    events::v1::Event,
};
use kube::api::ListParams;
use serde_json::{Value, json};
use starling_kube_tests::{ControlPlane, Kubelet, Life, Namespace, certificate, until};
use starling_operator::{
    crd::XmppServer,
    run::{Arguments, Error, run},
    telemetry::LogFormat,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use self::conditions::*;

/// The image of servers at first.
pub(crate) const OLD: &str = "registry.example/starlingd:1.0.0";
/// The image of the next release.
pub(crate) const NEW: &str = "registry.example/starlingd:1.1.0";

/// What the operators of a namespace lead by.
pub(crate) const LEASE: &str = "starling-operator";

/// The Deployments of a server `chat`.
pub(crate) const ROLES: [&str; 3] = ["chat-router", "chat-session", "chat-c2s"];

/// Kinds that are installed later are noticed within a second: that costs requests which no test counts.
const OFFERS_SECONDS: u64 = 1;

pub(crate) struct World {
    pub(crate) plane: &'static ControlPlane,
    at: Namespace,
    pub(crate) kubelet: Kubelet,
    pub(crate) operator: Option<Operator>,
}

impl Deref for World {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.at
    }
}

/// An operator at work.
pub(crate) struct Operator {
    pub(crate) user: String,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Operator {
    /// Tells it to end, as SIGTERM would, and waits until it has.
    pub(crate) async fn end(self) -> Result<(), Error> {
        self.stop.cancel();
        self.task.await.unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(self) -> Result<(), Error> {
        self.task.await.unwrap()
    }

    /// It is gone at once, as by SIGKILL.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

impl World {
    /// With an operator.
    pub(crate) async fn new(plane: &'static ControlPlane) -> Self {
        let mut world = Self::without_operator(plane).await;
        world.operator = Some(world.start_operator("operator").await);
        world
    }

    pub(crate) async fn without_operator(plane: &'static ControlPlane) -> Self {
        let (client, namespace) = (plane.client().await, plane.namespace().await);
        let kubelet = Kubelet::start(client.clone(), Some(&namespace), Life::good).await;
        let at = Namespace::of(client, namespace).managed_by("somebody");
        let world = Self { plane, at, kubelet, operator: None };
        world.secret("redis", &[("url", "redis://starling:secret@redis.example:6379")]).await;
        world.secret("database", &[("url", "postgres://starling:secret@database.example:5432/starling")]).await;
        let (certificate, key) = certificate(&["example.com"]);
        world.secret("tls", &[("tls.crt", &certificate), ("tls.key", &key)]).await;
        world
    }

    /// Another operator for this namespace.
    pub(crate) async fn start_operator(&self, name: &str) -> Operator {
        self.start_operator_with(name, |_| {}).await
    }

    /// The same, with other arguments.
    pub(crate) async fn start_operator_with(&self, name: &str, change: impl FnOnce(&mut Arguments)) -> Operator {
        let user = format!("{name}-of-{}", self.namespace);
        let client = self.plane.user(&user, &["system:masters"]).client().await;
        let mut arguments = Arguments {
            namespace: Some(self.namespace.clone()),
            server_image: OLD.to_owned(),
            lease_namespace: self.namespace.clone(),
            lease_name: LEASE.to_owned(),
            lease_seconds: 6,
            identity: Some(name.to_owned()),
            pod_ips: vec![Ipv4Addr::LOCALHOST.into()],
            offers_seconds: OFFERS_SECONDS,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            log: "info".to_owned(),
            log_format: LogFormat::Human,
        };
        change(&mut arguments);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(client, arguments, stop.clone()));
        Operator { user, stop, task }
    }

    /// A Distributed server with this beside what it needs.
    pub(crate) async fn server(&self, name: &str, more: Value) -> XmppServer {
        let mut spec = json!({
            "domains": [{ "name": "example.com" }],
            "redis": { "secretRef": { "name": "redis" } },
            "database": { "secretRef": { "name": "database" } },
            "tls": { "secretRefs": [{ "name": "tls" }] },
        });
        merge(&mut spec, more);
        self.create(json!({
            "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer",
            "metadata": { "name": name }, "spec": spec,
        }))
        .await
    }

    /// A Standalone server of two lines.
    pub(crate) async fn standalone(&self, name: &str) -> XmppServer {
        self.create(json!({
            "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer", "metadata": { "name": name },
            "spec": { "profile": "Standalone", "domains": [{ "name": "localhost" }] },
        }))
        .await
    }

    /// Waits until a server's status is about its newest spec, and a condition says this.
    pub(crate) async fn told(&self, name: &str, type_: &str, status: &str, reason: &str) -> XmppServer {
        let is_told = |server: Option<&XmppServer>| server.is_some_and(|server| says(server, type_, status, reason));
        until(&self.api::<XmppServer>(), name, is_told).await.unwrap()
    }

    /// Waits until everything is as it is asked for, and clients are served.
    pub(crate) async fn settled(&self, name: &str) -> XmppServer {
        until(&self.api::<XmppServer>(), name, is_settled).await.unwrap()
    }

    /// Waits until the operator of this name leads.
    pub(crate) async fn held_by(&self, name: &str) {
        until(&self.api::<Lease>(), LEASE, |lease| holder(lease) == Some(name)).await;
    }

    /// Waits for a number of renewals of the Lease: a clock, for an operator that does nothing else.
    pub(crate) async fn renewals(&self, number: usize) {
        let renewed = |lease: Option<&Lease>| lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone());
        let leases = self.api::<Lease>();
        for _ in 0..number {
            let last = renewed(Some(&leases.get(LEASE).await.unwrap()));
            until(&leases, LEASE, |lease| renewed(lease) != last).await;
        }
    }

    pub(crate) async fn deployment(&self, name: &str) -> Deployment {
        self.api().get(name).await.unwrap()
    }

    /// Of the Deployments of `chat`, in the order of [`ROLES`].
    pub(crate) async fn generations(&self) -> [i64; 3] {
        let mut all = [0; 3];
        for (generation, name) in all.iter_mut().zip(ROLES) {
            *generation = self.deployment(name).await.metadata.generation.unwrap();
        }
        all
    }

    pub(crate) async fn pods(&self) -> Vec<Pod> {
        self.api().list(&ListParams::default()).await.unwrap().items
    }

    /// Reasons of the Events about a server, by the conditions that they are about.
    pub(crate) async fn events(&self, name: &str) -> Vec<(String, String)> {
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let about = events.into_iter().filter(|event| {
            event.regarding.as_ref().is_some_and(|object| {
                object.kind.as_deref() == Some("XmppServer") && object.name.as_deref() == Some(name)
            })
        });
        about.map(|event| (event.action.unwrap_or_default(), event.reason.unwrap_or_default())).collect()
    }

    /// What the operator asked for so far: verb, resource, name; without watches and its Lease.
    pub(crate) fn requests(&self, user: &str) -> Vec<(String, String, String)> {
        let entries = self.plane.audit().entries().into_iter();
        let of_operator = entries.filter(|entry| entry.who() == user && entry.stage == "ResponseComplete");
        let objects = of_operator.filter_map(|entry| {
            let object = entry.object_ref?;
            Some((entry.verb, object.in_role(), object.name))
        });
        objects.filter(|(verb, resource, _)| verb != "watch" && resource != "leases").collect()
    }
}

/// Who leads.
pub(crate) fn holder(lease: Option<&Lease>) -> Option<&str> {
    lease?.spec.as_ref()?.holder_identity.as_deref()
}

pub(crate) fn image(deployment: &Deployment) -> String {
    let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap();
    spec.containers[0].image.clone().unwrap()
}

pub(crate) fn pod_image(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

pub(crate) fn component(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get("app.kubernetes.io/component")).map_or("", String::as_str)
}

pub(crate) fn is_of_new_pods(set: &StatefulSet) -> bool {
    let status = set.status.clone().unwrap_or_default();
    status.observed_generation == set.metadata.generation
        && status.updated_replicas == Some(1)
        && status.available_replicas == Some(1)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// For what is looked at, and cannot be awaited because it is not to happen: long enough that it would have.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(3);
