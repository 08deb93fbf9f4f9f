//! Changes: by those who may, and by those who may not.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Secret, Service},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use starling_kube_tests::until;
use starling_operator::crd::XmppServer;
use tokio::time::sleep;

use crate::{
    plane,
    world::{LONG_ENOUGH, World, component, condition},
};

fn data(map: &ConfigMap) -> BTreeMap<String, String> {
    map.data.clone().unwrap_or_default()
}

#[tokio::test]
async fn what_somebody_changed_is_changed_back_and_what_is_his_stays() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    let (maps, services, deployments) = (world.api::<ConfigMap>(), world.api::<Service>(), world.api::<Deployment>());
    let before = maps.get("chat-c2s").await.unwrap();

    world.change::<ConfigMap>("chat-c2s", json!({ "data": { "starling.toml": "domains = []" } })).await;
    until(&maps, "chat-c2s", |map| map.is_some_and(|map| data(map) == data(&before))).await;

    services.delete("chat-router", &DeleteParams::default()).await.unwrap();
    until(&services, "chat-router", |service| {
        service.is_some_and(|service| service.metadata.deletion_timestamp.is_none())
    })
    .await;

    let patch = json!({
        "metadata": { "annotations": { "somebody": "was here" }, "labels": { "app.kubernetes.io/managed-by": null } },
        "spec": { "replicas": 5, "template": { "spec": { "terminationGracePeriodSeconds": 999 } } },
    });
    let grace = |deployment: &Deployment| {
        deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()?.termination_grace_period_seconds)
    };
    let wanted = grace(&world.deployment("chat-router").await);
    assert_ne!(wanted, Some(999));
    world.change::<Deployment>("chat-router", patch).await;
    let is_back = |deployment: Option<&Deployment>| {
        deployment.is_some_and(|deployment| {
            deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(2)
                && grace(deployment) == wanted
                && deployment.labels().contains_key("app.kubernetes.io/managed-by")
        })
    };
    let back = until(&deployments, "chat-router", is_back).await.unwrap();
    assert_eq!(back.annotations().get("somebody").map(String::as_str), Some("was here"));
    world.settled("chat").await;
}

#[tokio::test]
async fn while_it_is_paused_everything_stays_as_it_is_and_after_that_nothing_does() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    world.change::<XmppServer>("chat", json!({ "spec": { "paused": true } })).await;
    world.told("chat", "Paused", "True", "Paused").await;
    world.change::<XmppServer>("chat", json!({ "spec": { "router": { "replicas": 3 } } })).await;
    world.api::<Service>().delete("chat-metrics", &DeleteParams::default()).await.unwrap();
    let server = world.told("chat", "Progressing", "False", "Paused").await;
    assert_eq!(condition(&server, "Ready").unwrap().status, "True", "clients are served as before");
    sleep(LONG_ENOUGH).await;
    assert_eq!(world.deployment("chat-router").await.spec.unwrap().replicas, Some(2));
    assert!(world.api::<Service>().get_opt("chat-metrics").await.unwrap().is_none());

    world.change::<XmppServer>("chat", json!({ "spec": { "paused": false } })).await;
    world.settled("chat").await;
    assert_eq!(world.deployment("chat-router").await.spec.unwrap().replicas, Some(3));
    assert!(world.api::<Service>().get_opt("chat-metrics").await.unwrap().is_some());
}

#[tokio::test]
async fn changes_roll_only_what_they_must() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    let before = world.generations().await;

    // A password, a Service, network policies: no pod is replaced.
    let url = "postgres://starling:another@database.example:5432/starling";
    world.change::<Secret>("database", json!({ "stringData": { "url": url } })).await;
    let has_password = |secret: Option<&Secret>| {
        let data = secret.and_then(|secret| secret.data.clone()).unwrap_or_default();
        data.get("database-password").is_some_and(|password| password.0 == b"another")
    };
    until(&world.api::<Secret>(), "chat-backends", has_password).await;
    let change = json!({ "spec": {
        "c2s": { "service": { "annotations": { "lb": "fast" } } }, "networkPolicy": { "enabled": false },
    } });
    world.change::<XmppServer>("chat", change).await;
    world.settled("chat").await;
    let has_annotation =
        |service: Option<&Service>| service.is_some_and(|service| service.annotations().contains_key("lb"));
    until(&world.api::<Service>(), "chat-c2s", has_annotation).await;
    let policies = world.api::<k8s_openapi::api::networking::v1::NetworkPolicy>();
    until(&policies, "chat-c2s", |policy| policy.is_none()).await;
    assert_eq!(world.generations().await, before);

    // Settings that a running server takes up: they are in its file, and no pod is replaced.
    let change = json!({ "spec": {
        "limits": { "connections": 1000 }, "log": { "level": "debug" }, "registration": { "enabled": true },
        "c2s": { "proxyProtocol": { "trusted": ["10.0.0.0/8"] } },
    } });
    world.change::<XmppServer>("chat", change).await;
    let text = |map: Option<&ConfigMap>| map.and_then(|map| map.data.as_ref()?.get("starling.toml").cloned());
    for (role, words) in [
        ("c2s", &["connections = 1000", "level = \"debug\"", "enabled = true", "10.0.0.0/8"][..]),
        ("session", &["level = \"debug\"", "enabled = true"]),
        ("router", &["level = \"debug\""]),
    ] {
        let is_told =
            |map: Option<&ConfigMap>| text(map).is_some_and(|text| words.iter().all(|words| text.contains(words)));
        until(&world.api::<ConfigMap>(), &format!("chat-{role}"), is_told).await;
    }
    world.settled("chat").await;
    assert_eq!(world.generations().await, before);

    // How long clients have to leave stands in their pods alone.
    let pods = world.pods().await;
    world.change::<XmppServer>("chat", json!({ "spec": { "drain": { "durationSeconds": 60 } } })).await;
    world.settled("chat").await;
    let after = world.generations().await;
    assert_eq!(after[..2], before[..2]);
    assert!(after[2] > before[2]);
    let names = |pods: &[Pod], of_clients: bool| -> BTreeSet<String> {
        let pods = pods.iter().filter(|pod| (component(pod) == "c2s") == of_clients);
        pods.map(ResourceExt::name_any).collect()
    };
    let now = world.pods().await;
    assert_eq!(names(&now, false), names(&pods, false));
    assert!(names(&now, true).is_disjoint(&names(&pods, true)));
}

#[tokio::test]
async fn who_insists_is_told_of_and_answered_more_slowly() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    let maps = world.api::<ConfigMap>();
    let good = data(&maps.get("chat-router").await.unwrap());
    // Another controller that believes that the field is its own.
    let params = PatchParams::apply("another-controller").force();
    let patch = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "chat-router" },
        "data": { "starling.toml": "domains = []" },
    });
    for _ in 0..4 {
        maps.patch("chat-router", &params, &Patch::Apply(&patch)).await.unwrap();
        until(&maps, "chat-router", |map| map.is_some_and(|map| data(map) == good)).await;
    }
    maps.patch("chat-router", &params, &Patch::Apply(&patch)).await.unwrap();
    let server = world.told("chat", "Degraded", "True", "FieldsContested").await;
    assert!(condition(&server, "Degraded").unwrap().message.contains("ConfigMap chat-router"));
    // In the end it is changed back all the same.
    until(&maps, "chat-router", |map| map.is_some_and(|map| data(map) == good)).await;
    world.told("chat", "Degraded", "False", "AsExpected").await;
}

#[tokio::test]
async fn what_is_somebody_elses_is_left_alone() {
    let world = World::new(plane().await).await;
    world.create::<ConfigMap>(json!({ "metadata": { "name": "chat-router" }, "data": { "his": "own" } })).await;
    world.server("chat", json!({})).await;
    let server = world.told("chat", "Degraded", "True", "ApplyRefused").await;
    let message = &condition(&server, "Degraded").unwrap().message;
    assert!(message.contains("ConfigMap chat-router"), "{message}");
    let his = world.api::<ConfigMap>().get("chat-router").await.unwrap();
    assert_eq!(data(&his), [("his".to_owned(), "own".to_owned())].into());
    assert!(his.metadata.owner_references.is_none());
    world.api::<ConfigMap>().delete("chat-router", &DeleteParams::default()).await.unwrap();
    world.settled("chat").await;
}
