//! One of several operators leads; an idle one asks nothing.

use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Service};
use kube::api::DeleteParams;
use serde_json::json;
use starling_kube_tests::until;
use starling_operator::{crd::XmppServer, run::Error};

use crate::{
    plane,
    world::{LEASE, World, holder},
};

#[tokio::test]
async fn a_second_operator_waits_and_takes_over_when_the_first_ends_or_dies() {
    let world = World::without_operator(plane().await).await;
    let first = world.start_operator("first").await;
    world.held_by("first").await;
    let second = world.start_operator("second").await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    // It may look, at its Lease alone.
    assert_eq!(world.requests(&second.user), []);

    first.end().await.unwrap();
    world.held_by("second").await;
    world.api::<Service>().delete("chat-router", &DeleteParams::default()).await.unwrap();
    until(&world.api::<Service>(), "chat-router", |service| service.is_some()).await;

    // Killed, it gives nothing up: the next one waits for the end of the Lease.
    let third = world.start_operator("third").await;
    second.kill().await;
    world.held_by("third").await;
    world.change::<XmppServer>("chat", json!({ "spec": { "router": { "replicas": 3 } } })).await;
    world.settled("chat").await;
    third.end().await.unwrap();
    let free = world.api::<Lease>().get(LEASE).await.unwrap();
    assert_eq!(holder(Some(&free)), None);
}

#[tokio::test]
async fn who_loses_the_lease_ends() {
    let mut world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    world.change::<Lease>(LEASE, json!({ "spec": { "holderIdentity": "another" } })).await;
    let ended = world.operator.take().unwrap().ended().await;
    assert!(matches!(ended, Err(Error::Lost(_))), "{ended:?}");
}

#[tokio::test]
async fn an_idle_operator_asks_nothing_and_a_change_to_one_touches_one() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.server("talk", json!({})).await;
    world.settled("chat").await;
    world.settled("talk").await;
    let user = &world.operator.as_ref().unwrap().user;
    // What was under way is done.
    world.renewals(2).await;
    let before = world.requests(user).len();
    world.renewals(5).await;
    assert_eq!(world.requests(user)[before..], []);

    world.change::<XmppServer>("talk", json!({ "spec": { "router": { "replicas": 3 } } })).await;
    world.settled("talk").await;
    until(&world.api::<Deployment>(), "talk-router", |deployment| {
        deployment.is_some_and(|deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(3))
    })
    .await;
    let after = world.requests(user).split_off(before);
    let others: Vec<_> = after.iter().filter(|(verb, _, name)| verb != "get" && name.starts_with("chat")).collect();
    assert!(others.is_empty(), "{others:?}");
    // Beside the Deployment it tells people.
    let is_telling = |resource: &str| resource == "xmppservers/status" || resource == "events";
    let writes: Vec<_> = after.iter().filter(|(verb, resource, _)| verb == "patch" && !is_telling(resource)).collect();
    assert_eq!(writes.len(), 1, "{writes:?}");
}
