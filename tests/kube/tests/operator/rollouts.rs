//! Upgrades: in order, stuck, and the way back.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{Pod, ResourceQuota},
};
use kube::{ResourceExt, api::ListParams};
use serde_json::json;
use starling_kube_tests::{Life, State, until};
use starling_operator::crd::XmppServer;

use crate::{
    plane,
    steps::Steps,
    world::{NEW, OLD, ROLES, World, component, condition, image, is_of_new_pods, pod_image},
};

/// What is told when there is nothing left to do.
const COMPLETE: &str = "everything is as it is asked for";

/// Pods of the new release are not ready, of these roles.
fn bad(roles: &'static [&'static str]) -> impl Fn(&Pod) -> Life + Send + Sync + 'static {
    move |pod| {
        let is_bad = pod_image(pod) == NEW && roles.contains(&component(pod));
        if is_bad { State::Crashing.into() } else { Life::good(pod) }
    }
}

async fn upgrade(world: &World, to: &str) {
    world.change::<XmppServer>("chat", json!({ "spec": { "image": to } })).await;
}

#[tokio::test]
async fn an_upgrade_goes_stage_by_stage_and_each_step_is_told() {
    let mut steps = Steps::of("upgrade");
    let world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    steps.note(&world, "settled", COMPLETE).await;

    // Each stage is let go on by the test, so that what stands behind it can be seen to wait.
    let stages = [("router", "chat-router"), ("session", "chat-session"), ("c2s", "chat-c2s")];
    world.kubelet.obey(bad(&["migrate", "router", "session", "c2s"]));
    upgrade(&world, NEW).await;
    let jobs = world.api::<Job>();
    world.told("chat", "Migrated", "False", "Migrating").await;
    let is_new = |job: &Job| {
        let spec = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        spec.is_some_and(|spec| spec.containers[0].image.as_deref() == Some(NEW))
    };
    let job = jobs.list(&ListParams::default()).await.unwrap().items.into_iter().find(is_new).unwrap().name_any();
    steps.note(&world, "the schema is changed", "are at work").await;
    for (_, name) in stages {
        assert_eq!(image(&world.deployment(name).await), OLD, "{name} waits for the schema");
    }
    let rules: [&'static [&'static str]; 3] = [&["router", "session", "c2s"], &["session", "c2s"], &["c2s"]];
    for (at, rule) in rules.into_iter().enumerate() {
        world.kubelet.obey(bad(rule));
        let (role, name) = stages[at];
        until(&world.api::<Deployment>(), name, |deployment| deployment.is_some_and(|d| image(d) == NEW)).await;
        steps.note(&world, &format!("the first new {role} pod starts"), "1 of 2 are of the new template").await;
        for (_, later) in &stages[at + 1..] {
            assert_eq!(image(&world.deployment(later).await), OLD, "{later} waits for {name}");
        }
    }
    world.kubelet.obey(Life::good);
    world.settled("chat").await;
    steps.note(&world, "all pods are new", COMPLETE).await;
    let left: Vec<_> =
        jobs.list(&ListParams::default()).await.unwrap().items.iter().map(ResourceExt::name_any).collect();
    assert_eq!(left, [job], "the Job of the release before is gone");

    world.kubelet.obey(|pod| if component(pod) == "c2s" { State::NotReady.into() } else { Life::good(pod) });
    steps.note(&world, "no pod for clients is ready", "0 of 2 are available").await;
    world.kubelet.obey(Life::good);
    world.settled("chat").await;
    // No more pods than there are: what is new cannot be made.
    let quota = json!({ "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } } });
    world.create::<ResourceQuota>(quota).await;
    let change = json!({ "spec": { "router": { "podLabels": { "a": "b" } } } });
    world.change::<XmppServer>("chat", change).await;
    steps.note(&world, "routers do not get on", "do not get on").await;
    world.change::<XmppServer>("chat", json!({ "spec": { "router": null } })).await;
    world.settled("chat").await;
    steps.note(&world, "the way back was taken", COMPLETE).await;
    world.change::<XmppServer>("chat", json!({ "spec": { "paused": true } })).await;
    steps.note(&world, "paused", "everything stays as it is").await;
    steps.finish();
}

#[tokio::test]
async fn a_release_that_does_not_start_goes_no_further_and_the_way_back_is_open() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    world.kubelet.obey(bad(&["session"]));
    upgrade(&world, NEW).await;
    until(&world.api::<Deployment>(), "chat-session", |deployment| deployment.is_some_and(|d| image(d) == NEW)).await;
    // A quarter of an hour is more than a test can wait: behind the operator's back, it becomes some seconds.
    world.change::<XmppServer>("chat", json!({ "spec": { "paused": true } })).await;
    world.told("chat", "Paused", "True", "Paused").await;
    world.change::<Deployment>("chat-session", json!({ "spec": { "progressDeadlineSeconds": 11 } })).await;
    let is_late = |deployment: Option<&Deployment>| {
        let conditions = deployment.and_then(|deployment| deployment.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|conditions| {
            conditions.iter().any(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded"))
        })
    };
    until(&world.api::<Deployment>(), "chat-session", is_late).await;
    world.change::<XmppServer>("chat", json!({ "spec": { "paused": false } })).await;
    let server = world.told("chat", "Progressing", "False", "RolloutStuck").await;
    assert_eq!(condition(&server, "Degraded").unwrap().reason, "RolloutStuck");
    assert_eq!(condition(&server, "Ready").unwrap().status, "True", "the old ones serve on");
    assert_eq!(image(&world.deployment("chat-c2s").await), OLD);

    // More pods for clients are had all the same, of the release that they are.
    world.change::<XmppServer>("chat", json!({ "spec": { "c2s": { "replicas": 3 } } })).await;
    let is_scaled = |deployment: Option<&Deployment>| {
        deployment.is_some_and(|deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(3))
    };
    until(&world.api::<Deployment>(), "chat-c2s", is_scaled).await;
    assert_eq!(image(&world.deployment("chat-c2s").await), OLD);

    upgrade(&world, OLD).await;
    let server = world.settled("chat").await;
    assert_eq!(server.status.unwrap().version.as_deref(), Some("1.0.0"));
    for name in ROLES {
        assert_eq!(image(&world.deployment(name).await), OLD);
    }
    assert!(world.pods().await.iter().all(|pod| pod_image(pod) == OLD));
}

#[tokio::test]
async fn a_standalone_server_comes_back_from_a_release_that_does_not_start() {
    let world = World::new(plane().await).await;
    world.standalone("chat").await;
    world.settled("chat").await;
    world.kubelet.obey(bad(&["standalone"]));
    upgrade(&world, NEW).await;
    world.told("chat", "Ready", "False", "NoPodAvailable").await;
    upgrade(&world, OLD).await;
    until(&world.api::<StatefulSet>(), "chat-standalone", |set| set.is_some_and(is_of_new_pods)).await;
    world.settled("chat").await;
    assert!(world.pods().await.iter().all(|pod| pod_image(pod) == OLD));
}

#[tokio::test]
async fn a_job_that_fails_is_told_of_and_holds_back_the_pods() {
    let world = World::new(plane().await).await;
    world.kubelet.obey(|pod| if component(pod) == "migrate" { State::Failed.into() } else { Life::good(pod) });
    world.server("chat", json!({})).await;
    let is_there = |server: Option<&XmppServer>| {
        server.and_then(|server| condition(server, "Migrated")).is_some_and(|condition| condition.reason == "Migrating")
    };
    until(&world.api::<XmppServer>(), "chat", is_there).await;
    let jobs = world.api::<Job>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(jobs.len(), 1);
    assert!(world.api::<Deployment>().list(&ListParams::default()).await.unwrap().items.is_empty());
    world.kubelet.obey(Life::good);
    world.settled("chat").await;
}
