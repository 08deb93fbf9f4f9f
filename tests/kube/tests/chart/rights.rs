//! What the chart lets the operator do is what it does: `starling-operator`, run as the chart runs it, with a token of the chart's
//! service account. Nothing is refused to it, and nothing of its roles is there for nothing.

use std::{collections::BTreeSet, net::Ipv4Addr, ops::Deref};

use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod, Secret},
    rbac::v1::{ClusterRole, PolicyRule, Role},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use starling_kube_tests::{
    ControlPlane, Entry, Kubelet, Life, Namespace, Operator, Options, State, certificate, kinds_of_others, until,
};
use starling_operator::{
    crd::{XmppServer, definition},
    names,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    cluster::{api, apply},
    conditions::is_settled,
    helm::{Helm, chart},
};

const NEW: &str = "registry.example/starlingd:9";

/// Group, resource with its subresource, verb.
type Right = (String, String, String);

/// What the rules give.
fn rights(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let all = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in all(&rule.api_groups) {
            for resource in all(&rule.resources) {
                rights.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    rights
}

/// Whether the request needs the right. To apply what is not there is `patch`, and `create` as well.
fn uses(entry: &Entry, (group, resource, verb): &Right) -> bool {
    let Some(object) = &entry.object_ref else { return false };
    let creates = entry.verb == "patch" && entry.response_status.as_ref().is_some_and(|status| status.code == 201);
    (&object.api_group, &object.in_role()) == (group, resource)
        && (&entry.verb == verb || (creates && verb == "create"))
}

struct World {
    plane: ControlPlane,
    at: Namespace,
    kubelet: Kubelet,
    user: String,
}

impl Deref for World {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.at
    }
}

impl World {
    async fn start() -> Self {
        let crds = [vec![definition()], kinds_of_others()].concat();
        // As some distributions have it.
        let api_server = vec!["--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned()];
        let plane = ControlPlane::start(Options { crds, api_server, ..Options::default() }).await;
        let (client, namespace) = (plane.client().await, plane.namespace().await);
        let kubelet = Kubelet::start(client.clone(), Some(&namespace), Life::good).await;
        let user = format!("system:serviceaccount:{namespace}:demo-starling");
        Self { plane, at: Namespace::of(client, namespace), kubelet, user }
    }

    async fn install(&self, more: &[&str]) {
        let helm = Helm::of(self.plane.admin()).await;
        let chart = chart();
        let install = ["install", "demo", &chart, "--namespace", &self.namespace, "--set", "crds.install=false"];
        helm.succeed(&[&install, ["--set", "leaderElection.leaseSeconds=3"].as_slice(), more].concat()).await;
    }

    /// One of its pods: by the arguments that the chart gives it, but for the port.
    async fn operator(&self, name: &str) -> Operator {
        let deployment = self.api::<Deployment>().get("demo-starling").await;
        let arguments = deployment.unwrap().spec.unwrap().template.spec.unwrap().containers.remove(0).args.unwrap();
        let (listen, others): (Vec<_>, Vec<_>) =
            arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--listen="));
        assert_eq!(listen.len(), 1);
        let access = self.plane.service_account(&self.namespace, "demo-starling").await;
        Operator::start(&access, &self.namespace, name, &others)
    }

    async fn make(&self, object: Value) -> kube::api::DynamicObject {
        apply(self, &object).await.unwrap_or_else(|error| panic!("{error}: {object:#}"))
    }

    /// Waits until everything of a server is as it is asked for.
    async fn settled(&self, name: &str) -> XmppServer {
        until(&self.api::<XmppServer>(), name, is_settled).await.unwrap()
    }

    /// Waits until each of the rights was used.
    async fn all_used(&self, rights: &BTreeSet<Right>) {
        let audit = self.plane.audit();
        let is_used = |entry: &Entry, right: &Right| entry.user.username == self.user && uses(entry, right);
        let entries = audit.entries();
        for right in rights.iter().filter(|right| !entries.iter().any(|entry| is_used(entry, right))) {
            // If it does not come, this is the last line of the test's output.
            eprintln!("waiting for {right:?}");
            audit.find(|entry| is_used(entry, right)).await;
        }
    }

    fn assert_nothing_was_refused(&self) {
        let entries = self.plane.audit().entries();
        let refused = entries.iter().find(|entry| entry.user.username == self.user && entry.is_refused());
        assert!(refused.is_none(), "{refused:#?}");
    }

    /// Everything that a server can have, and one in one pod.
    async fn servers(&self) {
        let (certificate, key) = certificate(&["example.com"]);
        // What cert-manager would make.
        let tls = names::certificate("chat", "example.com");
        self.secret(&tls, &[("tls.crt", &certificate), ("tls.key", &key)]).await;
        self.secret("redis", &[("url", "redis://:secret@redis.example:6379")]).await;
        self.secret("database", &[("url", "postgres://starling:secret@database.example:5432/starling")]).await;
        self.create::<ConfigMap>(json!({"metadata": {"name": "ca"}, "data": {"ca.crt": certificate}})).await;
        let server = |name: &str, spec: Value| {
            json!({
                "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer", "metadata": {"name": name}, "spec": spec,
            })
        };
        let trial = json!({"profile": "Standalone", "domains": [{"name": "example.org"}]});
        self.make(server("trial", trial)).await;
        self.make(server(
            "chat",
            json!({
                "domains": [{"name": "example.com"}],
                "redis": {"secretRef": {"name": "redis"}},
                "database": {"secretRef": {"name": "database"}, "ca": {"configMapRef": {"name": "ca"}}},
                "tls": {"issuerRef": {"name": "issuer"}},
                "firstAdmin": {"address": "admin@example.com"},
                "c2s": {"replicas": 3},
                "router": {"autoscaling": {"maxReplicas": 3, "targetCpuPercent": 70}},
                "monitoring": {"podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}},
            }),
        ))
        .await;
        self.settled("trial").await;
        self.settled("chat").await;
    }

    /// Objects of each kind that another release might have made: what is left over goes.
    async fn leave_over(&self) {
        let uid = self.api::<XmppServer>().get("chat").await.unwrap().metadata.uid.unwrap();
        let labels = json!({
            "app.kubernetes.io/name": "starling", "app.kubernetes.io/instance": "chat",
            "app.kubernetes.io/managed-by": "starling-operator",
        });
        let owner = json!({
            "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer", "name": "chat", "uid": uid,
            "controller": true, "blockOwnerDeletion": true,
        });
        let pod =
            json!({"metadata": {"labels": {"left": "over"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
        let selector = json!({"matchLabels": {"left": "over"}});
        let mut job = pod.clone();
        job["spec"]["restartPolicy"] = json!("Never");
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"});
        for (version, kind, spec) in [
            ("v1", "ConfigMap", Value::Null),
            ("v1", "Secret", Value::Null),
            ("v1", "ServiceAccount", Value::Null),
            ("v1", "Service", json!({"selector": {"left": "over"}, "ports": [{"port": 80}]})),
            ("apps/v1", "Deployment", json!({"replicas": 0, "selector": selector, "template": pod})),
            (
                "apps/v1",
                "StatefulSet",
                json!({"replicas": 0, "serviceName": "a", "selector": selector, "template": pod}),
            ),
            ("autoscaling/v2", "HorizontalPodAutoscaler", json!({"scaleTargetRef": target, "maxReplicas": 2})),
            ("batch/v1", "Job", json!({"suspend": true, "template": job})),
            ("networking.k8s.io/v1", "NetworkPolicy", json!({"podSelector": selector})),
            ("policy/v1", "PodDisruptionBudget", json!({"maxUnavailable": 1, "selector": selector})),
            ("cert-manager.io/v1", "Certificate", json!({})),
            ("monitoring.coreos.com/v1", "PodMonitor", json!({})),
            ("monitoring.coreos.com/v1", "PrometheusRule", json!({})),
        ] {
            let metadata = json!({"name": "left-over", "labels": labels, "ownerReferences": [owner]});
            let mut object = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
            if !spec.is_null() {
                object["spec"] = spec;
            }
            self.make(object.clone()).await;
            until(&api(self, &object).await, "left-over", |object| object.is_none()).await;
        }
    }

    /// Fewer pods for clients while a new release is held: they are scaled, and the emptiest are to go.
    async fn fewer(&self) {
        // Pods of addresses that this test can answer at, with the port that all of them have.
        let address = Ipv4Addr::new(127, 99, 0, 1);
        let metrics = TcpListener::bind((address, names::HTTP)).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = metrics.accept().await {
                let mut request = [0; 1024];
                if stream.read(&mut request).await.is_ok() {
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nstarling_sessions 5\n";
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            }
        });
        let pods = self.api::<Pod>();
        let of_c2s = ListParams::default().labels("app.kubernetes.io/component=c2s");
        for pod in pods.list(&of_c2s).await.unwrap() {
            let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
            let name = pod.metadata.name.unwrap();
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
        self.kubelet.obey(|pod| {
            let is_new = pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image.as_deref() == Some(NEW));
            if is_new && Life::good(pod) == State::Ready.into() { State::Crashing.into() } else { Life::good(pod) }
        });
        self.change::<XmppServer>("chat", json!({"spec": {"image": NEW}})).await;
        let deployments = self.api::<Deployment>();
        let is_new = |deployment: Option<&Deployment>| {
            let spec = deployment.and_then(|deployment| deployment.spec.as_ref()?.template.spec.as_ref());
            spec.is_some_and(|spec| spec.containers[0].image.as_deref() == Some(NEW))
        };
        until(&deployments, "chat-router", is_new).await;
        self.change::<XmppServer>("chat", json!({"spec": {"c2s": {"replicas": 1}}})).await;
        let are_fewer = |deployment: Option<&Deployment>| {
            deployment.and_then(|deployment| deployment.spec.as_ref()?.replicas) == Some(1)
        };
        until(&deployments, "chat-c2s", are_fewer).await;
    }

    /// Somebody writes to the Lease: who holds it looks what there is.
    async fn touch_lease(&self) {
        self.change::<Lease>("demo-starling", json!({"metadata": {"annotations": {"touched": "true"}}})).await;
    }
}

#[tokio::test]
async fn of_the_chart_s_roles_nothing_is_missing_and_nothing_is_there_for_nothing() {
    let world = World::start().await;
    if !world.plane.is_own() {
        eprintln!("SKIPPED: the given cluster's audit log cannot be read");
        return;
    }
    world.install(&[]).await;
    let operator = world.operator("demo-starling-0").await;
    operator.said("This operator leads").await;
    // Who leads at once may have had no need to watch the Lease.
    let second = world.operator("demo-starling-1").await;
    second.said("Another operator leads; this one waits").await;
    world.servers().await;
    world.leave_over().await;
    world.touch_lease().await;
    world.fewer().await;

    let roles = Api::<ClusterRole>::all(world.client.clone());
    let role = roles.get(&format!("{}:demo-starling", world.namespace)).await.unwrap();
    let lease = world.api::<Role>().get("demo-starling-lease").await.unwrap();
    let mut rights = rights(&[role.rules.unwrap(), lease.rules.unwrap()].concat());
    // Asked for by the plugin that is on here, of whoever makes an object that a server owns; that is no request.
    let finalizers = ("starling.im", "xmppservers/finalizers", "update");
    assert!(rights.remove(&(finalizers.0.to_owned(), finalizers.1.to_owned(), finalizers.2.to_owned())));
    world.all_used(&rights).await;
    world.assert_nothing_was_refused();
    drop((operator, second));
}

#[tokio::test]
async fn a_namespace_s_own_role_is_enough_for_it() {
    let world = World::start().await;
    let watched = format!("watchNamespace={}", world.namespace);
    world.install(&["--set", &watched]).await;
    let operator = world.operator("demo-starling-0").await;
    world.servers().await;
    if world.plane.is_own() {
        world.assert_nothing_was_refused();
    }
    // Elsewhere it may nothing.
    let other = world.plane.namespace().await;
    let access = world.plane.service_account(&world.namespace, "demo-starling").await;
    let secrets = Api::<Secret>::namespaced(access.client().await, &other);
    secrets.list(&ListParams::default()).await.unwrap_err();
    secrets.create(&PostParams::default(), &Secret::default()).await.unwrap_err();
    secrets.delete("a", &DeleteParams::default()).await.unwrap_err();
    drop(operator);
}
