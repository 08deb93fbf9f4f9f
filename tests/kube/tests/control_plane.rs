//! The control plane and the simulated kubelet do what the tests that use them believe.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::Job,
        core::v1::{ConfigMap, Pod, Secret},
        discovery::v1::EndpointSlice,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    serde::{Serialize, de::DeserializeOwned},
};
use kube::{
    Api, Error, Resource, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use starling_kube_tests::{Access, ControlPlane, End, Kubelet, Life, Options, PATIENCE, State, asked, until};

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

fn deployment(replicas: u32) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "initContainers": [{"name": "first", "image": "web:1"}],
                    "containers": [{"name": "web", "image": "web:1"}],
                },
            },
        },
    })
}

fn is_rolled_out(deployment: Option<&Deployment>, replicas: i32) -> bool {
    let Some(deployment) = deployment else { return false };
    let Some(status) = &deployment.status else { return false };
    status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.available_replicas] == [Some(replicas); 3]
}

fn image_is(pod: &Pod, image: &str) -> bool {
    pod.spec.as_ref().unwrap().containers.first().unwrap().image.as_deref() == Some(image)
}

async fn set_image(deployments: &Api<Deployment>, image: &str) {
    let containers = json!([{"name": "web", "image": image}]);
    let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
    deployments.patch("web", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_deployment_rolls_out_and_its_pods_are_endpoints() {
    let plane = ControlPlane::shared().await;
    let (client, namespace) = (plane.client().await, plane.namespace().await);
    let _kubelet = Kubelet::start(client.clone(), Some(&namespace), Life::good).await;
    let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace);
    create(&deployments, deployment(3)).await;
    let services = Api::<k8s_openapi::api::core::v1::Service>::namespaced(client.clone(), &namespace);
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    create(&services, service).await;
    until(&deployments, "web", |deployment| is_rolled_out(deployment, 3)).await;

    let pods = Api::<Pod>::namespaced(client.clone(), &namespace).list(&ListParams::default()).await.unwrap();
    assert_eq!(pods.items.len(), 3);
    let slices = Api::<EndpointSlice>::namespaced(client, &namespace);
    let name = wait_for_any(&slices).await;
    let all_ready = |slice: Option<&EndpointSlice>| {
        let endpoints = slice.map(|slice| slice.endpoints.clone()).unwrap_or_default();
        let is_ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
            endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))
        };
        endpoints.iter().filter(|endpoint| is_ready(endpoint)).count() == 3
    };
    until(&slices, &name, all_ready).await;
}

/// The name of an object that is made, whatever it is called.
async fn wait_for_any<K>(api: &Api<K>) -> String
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    use futures_util::TryStreamExt as _;
    use kube::runtime::{WatchStreamExt as _, watcher};
    let objects = watcher(api.clone(), watcher::Config::default()).applied_objects();
    let mut objects = std::pin::pin!(objects);
    objects.try_next().await.unwrap().unwrap().name_any()
}

#[tokio::test]
async fn a_new_version_that_is_never_ready_takes_no_pod_of_the_old_one_until_it_mends() {
    let plane = ControlPlane::shared().await;
    let (client, namespace) = (plane.client().await, plane.namespace().await);
    let bad = |state: State| move |pod: &Pod| Life::from(if image_is(pod, "web:2") { state } else { State::Ready });
    let kubelet = Kubelet::start(client.clone(), Some(&namespace), bad(State::Crashing)).await;
    let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace);
    let mut wanted = deployment(2);
    wanted["spec"]["progressDeadlineSeconds"] = json!(1);
    create(&deployments, wanted).await;
    until(&deployments, "web", |deployment| is_rolled_out(deployment, 2)).await;

    set_image(&deployments, "web:2").await;
    let is_stuck = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
        let late = |condition: &k8s_openapi::api::apps::v1::DeploymentCondition| {
            condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
        };
        status.conditions.unwrap_or_default().iter().any(late)
    };
    let stuck = until(&deployments, "web", is_stuck).await.unwrap().status.unwrap();
    assert_eq!((stuck.available_replicas, stuck.unavailable_replicas), (Some(2), Some(1)));
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
    let crashing = pods.list(&ListParams::default()).await.unwrap();
    let crashing = crashing.items.iter().find(|pod| image_is(pod, "web:2")).unwrap();
    let containers = crashing.status.as_ref().unwrap().container_statuses.as_ref().unwrap();
    let state = containers.first().unwrap().state.as_ref().unwrap();
    assert_eq!(state.waiting.as_ref().unwrap().reason.as_deref(), Some("CrashLoopBackOff"));

    kubelet.obey(bad(State::Ready));
    until(&deployments, "web", |deployment| is_rolled_out(deployment, 2)).await;
}

#[tokio::test]
async fn a_pod_takes_its_time_to_end_and_one_on_a_dead_node_does_not_end() {
    let plane = ControlPlane::shared().await;
    let (client, namespace) = (plane.client().await, plane.namespace().await);
    let ends = |end: End| move |_: &Pod| Life { state: State::Ready, end };
    let kubelet = Kubelet::start(client.clone(), Some(&namespace), ends(End::Never)).await;
    let pods = Api::<Pod>::namespaced(client, &namespace);
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    create(&pods, pod).await;
    let is_ready = kube::runtime::conditions::is_pod_running();
    until(&pods, "a", |pod| kube::runtime::wait::Condition::matches_object(&is_ready, pod)).await;

    pods.delete("a", &DeleteParams::default().grace_period(3600)).await.unwrap();
    let terminating = pods.get("a").await.unwrap();
    assert!(terminating.metadata.deletion_timestamp.is_some());
    let since = std::time::Instant::now();
    kubelet.obey(ends(End::After(Duration::from_millis(500))));
    until(&pods, "a", |pod| pod.is_none()).await;
    assert!(since.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn jobs_complete_or_fail_by_the_rule() {
    let plane = ControlPlane::shared().await;
    let (client, namespace) = (plane.client().await, plane.namespace().await);
    let rule = |pod: &Pod| {
        if pod.name_any().starts_with("bad") { State::Failed.into() } else { Life::good(pod) }
    };
    let _kubelet = Kubelet::start(client.clone(), Some(&namespace), rule).await;
    let jobs = Api::<Job>::namespaced(client, &namespace);
    for name in ["good", "bad"] {
        let template = json!({"restartPolicy": "Never", "containers": [{"name": "job", "image": "job:1"}]});
        create(&jobs, json!({"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": template}}}))
            .await;
    }
    let ended_as = |type_: &'static str| {
        move |job: Option<&Job>| {
            let conditions = job.and_then(|job| job.status.clone()?.conditions).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
        }
    };
    until(&jobs, "good", ended_as("Complete")).await;
    until(&jobs, "bad", ended_as("Failed")).await;
}

#[tokio::test]
async fn a_disruption_budget_is_kept_and_an_autoscaler_is_taken() {
    let plane = ControlPlane::shared().await;
    let (client, namespace) = (plane.client().await, plane.namespace().await);
    let _kubelet = Kubelet::start(client.clone(), Some(&namespace), Life::good).await;
    let budgets = Api::<PodDisruptionBudget>::namespaced(client.clone(), &namespace);
    create(
        &budgets,
        json!({
            "metadata": {"name": "web"},
            "spec": {
                "minAvailable": 2,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": {"app": "web"}},
            },
        }),
    )
    .await;
    let scalers = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), &namespace);
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}});
    create(
        &scalers,
        json!({
            "metadata": {"name": "web"},
            "spec": {
                "scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5,
                "metrics": [{"type": "Resource", "resource": cpu}],
            },
        }),
    )
    .await;
    let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace);
    create(&deployments, deployment(2)).await;
    until(&deployments, "web", |deployment| is_rolled_out(deployment, 2)).await;
    until(&budgets, "web", |budget| {
        let status = budget.and_then(|budget| budget.status.clone()).unwrap_or_default();
        (status.current_healthy, status.disruptions_allowed) == (2, 0)
    })
    .await;
    let pods = Api::<Pod>::namespaced(client, &namespace);
    let one = pods.list(&ListParams::default()).await.unwrap().items.first().unwrap().name_any();
    let refused = pods.evict(&one, &Default::default()).await.unwrap_err();
    assert!(matches!(&refused, Error::Api(status) if status.code == 429), "{refused}");
}

#[tokio::test]
async fn what_is_owned_goes_with_its_owner() {
    let plane = ControlPlane::shared().await;
    let (client, namespace) = (plane.client().await, plane.namespace().await);
    let _kubelet = Kubelet::start(client.clone(), Some(&namespace), Life::good).await;
    let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace);
    let owner = create(&deployments, deployment(2)).await;
    until(&deployments, "web", |deployment| is_rolled_out(deployment, 2)).await;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
    let owned = json!({"metadata": {"name": "owned", "ownerReferences": [owner.controller_owner_ref(&()).unwrap()]}});
    create(&maps, owned).await;

    deployments.delete("web", &DeleteParams::background()).await.unwrap();
    until(&maps, "owned", |map| map.is_none()).await;
    let sets = Api::<ReplicaSet>::namespaced(client.clone(), &namespace);
    let pods = Api::<Pod>::namespaced(client, &namespace);
    for set in sets.list(&ListParams::default()).await.unwrap() {
        until(&sets, &set.name_any(), |set| set.is_none()).await;
    }
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        until(&pods, &pod.name_any(), |pod| pod.is_none()).await;
    }
}

/// Waits until its user may list them: the API server hears of its own roles a moment later, and does not say when it has.
async fn allowed(secrets: &Api<Secret>) {
    let is_refused = |error: &Error| matches!(error, Error::Api(status) if status.code == 403);
    asked(PATIENCE, async || {
        let answer = secrets.list(&ListParams::default()).await;
        answer.inspect_err(|error| assert!(is_refused(error), "{error}"))
    })
    .await;
}

#[tokio::test]
async fn who_has_no_right_is_refused_and_the_audit_log_says_so() {
    let plane = ControlPlane::shared().await;
    let (client, namespace) = (plane.client().await, plane.namespace().await);
    let user = format!("reader-of-{namespace}");
    let access = plane.user(&user, &["readers"]);
    let secrets = Api::<Secret>::namespaced(access.client().await, &namespace);
    let refused = secrets.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, Error::Api(status) if status.code == 403), "{refused}");

    let rule = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]});
    let role = json!({"metadata": {"name": "reader"}, "rules": [rule]});
    create(&Api::<Role>::namespaced(client.clone(), &namespace), role).await;
    let group = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "readers"});
    let account = json!({"kind": "ServiceAccount", "name": "default", "namespace": namespace});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"});
    let binding = json!({"metadata": {"name": "readers"}, "roleRef": role, "subjects": [group, account]});
    create(&Api::<RoleBinding>::namespaced(client, &namespace), binding).await;
    allowed(&secrets).await;

    // By its token, not by somebody who speaks for it.
    let account = plane.service_account(&namespace, "default").await;
    let of_account = Api::<Secret>::namespaced(account.client().await, &namespace);
    of_account.list(&ListParams::default()).await.unwrap();
    of_account.delete("a", &DeleteParams::default()).await.unwrap_err();

    if !plane.is_own() {
        eprintln!("SKIPPED: the given cluster's audit log cannot be read");
        return;
    }
    let audit = plane.audit();
    let entry = audit.find(|entry| entry.who() == user && entry.is_refused()).await;
    let object = entry.object_ref.unwrap();
    assert_eq!(
        (entry.verb.as_str(), object.resource.as_str(), object.namespace),
        ("list", "secrets", namespace.clone())
    );
    audit.find(|entry| entry.who() == user && entry.verb == "list" && !entry.is_refused()).await;
    let account = format!("system:serviceaccount:{namespace}:default");
    audit.find(|entry| entry.user.username == account && entry.verb == "delete" && entry.is_refused()).await;
}

#[tokio::test]
async fn pods_that_break_the_namespace_s_security_level_are_refused() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace_with(&[("pod-security.kubernetes.io/enforce", "restricted")]).await;
    let pods = Api::<Pod>::namespaced(plane.client().await, &namespace);
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let pod = serde_json::from_value(pod).unwrap();
    let refused = pods.create(&PostParams::default(), &pod).await.unwrap_err();
    assert!(refused.to_string().contains("violates PodSecurity"), "{refused}");
}

#[tokio::test]
async fn objects_outlive_the_api_server_and_controllers_and_kubelet_come_back_to_it() {
    let plane = ControlPlane::start(Options::default()).await;
    if !plane.is_own() {
        eprintln!("SKIPPED: the given cluster's API server cannot be stopped");
        return;
    }
    let (client, namespace) = (plane.client().await, plane.namespace().await);
    let _kubelet = Kubelet::start(client.clone(), Some(&namespace), Life::good).await;
    let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace);
    let made = create(&deployments, deployment(1)).await;
    until(&deployments, "web", |deployment| is_rolled_out(deployment, 1)).await;

    plane.stop_api_server().await;
    let gone = deployments.get("web").await.unwrap_err();
    assert!(!matches!(gone, Error::Api(_)), "{gone}");
    plane.start_api_server().await;

    let again = deployments.get("web").await.unwrap();
    assert_eq!(again.uid(), made.uid());
    set_image(&deployments, "web:2").await;
    until(&deployments, "web", |deployment| is_rolled_out(deployment, 1)).await;
}

#[tokio::test]
async fn what_is_owned_by_a_resource_of_a_kind_that_was_given_goes_with_it() {
    let crd: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things", "singular": "thing"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }],
        },
    }))
    .unwrap();
    let plane = ControlPlane::start(Options { crds: vec![crd], ..Options::default() }).await;
    let (client, namespace) = (plane.client().await, plane.namespace().await);
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Thing"));
    let things = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &kind);
    let thing = DynamicObject::new("a", &kind);
    let thing = things.create(&PostParams::default(), &thing).await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(client, &namespace);
    let owned = json!({"metadata": {"name": "owned", "ownerReferences": [thing.controller_owner_ref(&kind).unwrap()]}});
    create(&maps, owned).await;
    things.delete("a", &DeleteParams::background()).await.unwrap();
    until(&maps, "owned", |map| map.is_none()).await;
}

#[tokio::test]
async fn helm_installs_for_whom_may_and_says_who_may_not() {
    let plane = ControlPlane::shared().await;
    let (client, namespace) = (plane.client().await, plane.namespace().await);
    let chart = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(chart.path().join(name), text).unwrap();
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    write("Chart.yaml", "{apiVersion: v2, name: small, version: 0.1.0}");
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: small}, data: {of: {{ .Capabilities.KubeVersion }}}}";
    write("templates/map.yaml", map);
    let install = async |access: &Access| {
        let mut helm = tokio::process::Command::from(access.command("helm").await);
        helm.args(["install", "small", "--namespace", &namespace]).arg(chart.path()).kill_on_drop(true);
        helm.output().await.unwrap()
    };
    let refused = install(&plane.user("nobody", &[])).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains(r#"User "nobody" cannot"#), "{said}");

    let installed = install(plane.admin()).await;
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let map = Api::<ConfigMap>::namespaced(client.clone(), &namespace).get("small").await.unwrap();
    let version = client.apiserver_version().await.unwrap().git_version;
    assert_eq!(map.data.unwrap().get("of"), Some(&version));
}
