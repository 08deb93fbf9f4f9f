//! Secrets that the operator makes itself: once, and kept.

use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;
use starling_kube_tests::until;
use starling_operator::crd::XmppServer;

use crate::{
    plane,
    world::{World, condition},
};

fn text(secret: &Secret, key: &str) -> String {
    let data = secret.data.as_ref().unwrap();
    String::from_utf8(data.get(key).unwrap_or_else(|| panic!("no {key}")).0.clone()).unwrap()
}

#[tokio::test]
async fn a_password_that_is_there_is_taken_as_it_is_and_one_that_is_made_stays() {
    let world = World::new(plane().await).await;
    world.secret("chat-first-admin", &[("password", "his own")]).await;
    let own = world.api::<Secret>().get("chat-first-admin").await.unwrap();
    world.server("chat", json!({ "firstAdmin": { "address": "admin@example.com" } })).await;
    world.server("talk", json!({ "firstAdmin": { "address": "admin@example.com" } })).await;
    world.settled("chat").await;
    world.settled("talk").await;
    let accounts = world.api::<Secret>().get("chat-accounts").await.unwrap();
    assert_eq!(text(&accounts, "accounts"), "admin@example.com his own\n");
    assert_eq!(world.api::<Secret>().get("chat-first-admin").await.unwrap(), own);

    let made = world.api::<Secret>().get("talk-first-admin").await.unwrap();
    let accounts = world.api::<Secret>().get("talk-accounts").await.unwrap();
    assert_eq!(text(&accounts, "accounts"), format!("admin@example.com {}\n", text(&made, "password")));
    world.change::<XmppServer>("talk", json!({ "spec": { "admins": ["other@example.com"] } })).await;
    world.settled("talk").await;
    assert_eq!(world.api::<Secret>().get("talk-first-admin").await.unwrap(), made);
}

#[tokio::test]
async fn an_authority_that_is_lost_is_made_anew_beside_the_old_one_and_no_pod_is_replaced() {
    let mut world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    let secrets = world.api::<Secret>();
    let (authority, router) =
        (secrets.get("chat-link-authority").await.unwrap(), secrets.get("chat-link-router").await.unwrap());
    let generations = world.generations().await;

    // Another operator goes on with it.
    world.operator.take().unwrap().end().await.unwrap();
    world.operator = Some(world.start_operator("second").await);
    world.change::<XmppServer>("chat", json!({ "spec": { "router": { "replicas": 3 } } })).await;
    world.settled("chat").await;
    world.change::<XmppServer>("chat", json!({ "spec": { "router": { "replicas": 2 } } })).await;
    world.settled("chat").await;
    assert_eq!(secrets.get("chat-link-authority").await.unwrap(), authority);
    assert_eq!(secrets.get("chat-link-router").await.unwrap().data, router.data);

    // What cannot be read is nobody's to throw away, and stops nothing that runs.
    world.change::<Secret>("chat-link-authority", json!({ "stringData": { "ca.key": "none" } })).await;
    let server = world.told("chat", "Degraded", "True", "InternalCertificatesUnusable").await;
    assert_eq!(condition(&server, "Ready").unwrap().status, "True");
    assert_eq!(secrets.get("chat-link-router").await.unwrap().data, router.data);

    secrets.delete("chat-link-authority", &DeleteParams::default()).await.unwrap();
    let before = text(&router, "ca.crt");
    let is_new = |secret: Option<&Secret>| secret.is_some_and(|secret| text(secret, "ca.crt") != before);
    let router = until(&secrets, "chat-link-router", is_new).await.unwrap();
    assert!(text(&router, "ca.crt").ends_with(&before), "pods that have the old certificates are believed still");
    world.settled("chat").await;
    let after = world.generations().await;
    assert_eq!(after[1..], generations[1..], "pods read what is new");
}
