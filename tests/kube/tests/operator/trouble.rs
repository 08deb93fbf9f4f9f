//! What stands in the way, and what does not.

use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;
use starling_kube_tests::{End, Life, certificate};
use starling_operator::crd::XmppServer;

use crate::{
    plane,
    world::{World, component, condition},
};

#[tokio::test]
async fn what_is_missing_is_named_and_what_runs_goes_on_until_it_is_there() {
    let world = World::new(plane().await).await;
    world.api::<Secret>().delete("redis", &DeleteParams::default()).await.unwrap();
    world.server("chat", json!({})).await;
    let server = world.told("chat", "Ready", "False", "SecretMissing").await;
    assert!(condition(&server, "Ready").unwrap().message.contains("redis"));
    assert!(world.pods().await.is_empty());

    // A Secret is watched, although nobody owns it.
    world.secret("redis", &[("url", "redis://redis.example")]).await;
    world.settled("chat").await;
    let generations = world.generations().await;

    world.api::<Secret>().delete("database", &DeleteParams::default()).await.unwrap();
    let server = world.told("chat", "Degraded", "True", "SecretMissing").await;
    assert_eq!(condition(&server, "Ready").unwrap().status, "True");
    assert_eq!(condition(&server, "Progressing").unwrap().reason, "SecretMissing");
    world.secret("database", &[("url", "postgres://starling:secret@database.example/starling")]).await;
    world.settled("chat").await;
    assert_eq!(world.generations().await, generations);

    // One Event for each change, however often it was looked at.
    let mut events = world.events("chat").await;
    events.sort();
    let missing = events.iter().filter(|(about, reason)| about == "Degraded" && reason == "SecretMissing").count();
    let mended = events.iter().filter(|(about, reason)| about == "Degraded" && reason == "AsExpected").count();
    // The second of the same within some minutes is counted on the first.
    assert_eq!((missing, mended), (1, 1), "{events:?}");
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_and_the_last_good_ones_stay() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    let before = world.deployment("chat-c2s").await.metadata.generation;
    let settings = json!({ "spec": { "c2s": { "settings": { "c2s.limits.depht": 3 } } } });
    world.change::<XmppServer>("chat", settings).await;
    let server = world.told("chat", "Degraded", "True", "SettingUnknown").await;
    assert!(condition(&server, "Degraded").unwrap().message.contains("depht"));
    assert_eq!(world.deployment("chat-c2s").await.metadata.generation, before);
    let settings = json!({ "spec": { "c2s": { "settings": { "c2s.limits.depht": null, "c2s.limits.depth": 32 } } } });
    world.change::<XmppServer>("chat", settings).await;
    world.settled("chat").await;
}

#[tokio::test]
async fn certificates_are_looked_at_whenever_they_change() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({ "domains": [{ "name": "example.com" }, { "name": "example.org" }] })).await;
    let server = world.told("chat", "TLSReady", "False", "NameMismatch").await;
    assert!(condition(&server, "TLSReady").unwrap().message.contains("example.org"));
    let (good, key) = certificate(&["example.com", "example.org"]);
    world.change::<Secret>("tls", json!({ "stringData": { "tls.crt": good, "tls.key": key } })).await;
    world.told("chat", "TLSReady", "True", "Valid").await;
    let (_, other) = certificate(&["example.com"]);
    world.change::<Secret>("tls", json!({ "stringData": { "tls.key": other } })).await;
    let server = world.told("chat", "TLSReady", "False", "CertificateUnusable").await;
    assert!(!condition(&server, "TLSReady").unwrap().message.contains("PRIVATE"));
}

#[tokio::test]
async fn a_pod_that_does_not_end_is_told_of_until_it_has() {
    let world = World::new(plane().await).await;
    // Grace is short enough to be waited for: none before, a second for streams, and what the operator adds.
    world.server("chat", json!({ "drain": { "graceSeconds": 0, "durationSeconds": 1 } })).await;
    world.settled("chat").await;
    let sticks = |pod: &k8s_openapi::api::core::v1::Pod| {
        let end = if component(pod) == "router" { End::Never } else { End::AtOnce };
        Life { end, ..Life::good(pod) }
    };
    world.kubelet.obey(sticks);
    let pods = world.pods().await;
    let router = pods.iter().find(|pod| component(pod) == "router").unwrap();
    let name = router.metadata.name.clone().unwrap();
    let params = DeleteParams { grace_period_seconds: Some(1), ..DeleteParams::default() };
    world.api::<k8s_openapi::api::core::v1::Pod>().delete(&name, &params).await.unwrap();
    let server = world.told("chat", "Degraded", "True", "PodStuckTerminating").await;
    assert!(condition(&server, "Degraded").unwrap().message.contains(&name));
    assert_eq!(condition(&server, "Ready").unwrap().status, "True", "another took its place");
    world.kubelet.obey(Life::good);
    world.told("chat", "Degraded", "False", "AsExpected").await;
}
