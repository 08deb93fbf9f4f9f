//! What a cluster may lack: cert-manager, prometheus-operator. With a control plane of its own, on which they come and go.

use k8s_openapi::{
    api::core::v1::Secret, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject},
};
use serde_json::json;
use starling_kube_tests::{ControlPlane, Options, certificate, kinds_of_others, until};
use starling_operator::{
    apply,
    crd::{XmppServer, definition},
    names,
};
use tokio::sync::OnceCell;

use crate::world::{World, condition};

async fn plane() -> &'static ControlPlane {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    PLANE.get_or_init(|| ControlPlane::start(Options { crds: vec![definition()], ..Options::default() })).await
}

fn api(world: &World, kind: &str) -> Api<DynamicObject> {
    Api::namespaced_with(world.client.clone(), &world.namespace, &apply::resource(kind).unwrap())
}

#[tokio::test]
async fn what_the_cluster_lacks_is_said_stops_nothing_and_is_used_as_soon_as_it_is_there() {
    let world = World::new(plane().await).await;
    let secret = names::certificate("chat", "example.com");
    let monitoring = json!({ "podMonitor": { "enabled": true }, "prometheusRule": { "enabled": true } });
    let tls = json!({ "secretRefs": null, "issuerRef": { "name": "issuer" } });
    world.server("chat", json!({ "tls": tls, "monitoring": monitoring })).await;
    let server = world.settled("chat").await;
    for (type_, reason, words) in [
        ("TLSReady", "CertManagerMissing", "needs cert-manager"),
        ("Degraded", "PrometheusOperatorMissing", "needs prometheus-operator"),
    ] {
        let condition = condition(&server, type_).unwrap();
        assert!(condition.reason == reason && condition.message.contains(words), "{condition:?}");
    }
    let generations = world.generations().await;

    plane().await.install(&kinds_of_others()).await;
    world.told("chat", "Degraded", "False", "AsExpected").await;
    world.told("chat", "TLSReady", "False", "CertificatePending").await;
    let asked = api(&world, "Certificate").get(&secret).await.unwrap();
    assert_eq!(asked.data["spec"]["dnsNames"], json!(["example.com"]));
    api(&world, "PrometheusRule").get("chat").await.unwrap();
    // As cert-manager would.
    let (certificate, key) = certificate(&["example.com"]);
    world.secret(&secret, &[("tls.crt", &certificate), ("tls.key", &key)]).await;
    world.told("chat", "TLSReady", "True", "Valid").await;
    // They are looked after like everything else.
    let monitors = api(&world, "PodMonitor");
    monitors.delete("chat", &DeleteParams::default()).await.unwrap();
    until(&monitors, "chat", |monitor| monitor.is_some()).await;

    let definitions = Api::<CustomResourceDefinition>::all(world.client.clone());
    for name in ["podmonitors.monitoring.coreos.com", "certificates.cert-manager.io"] {
        definitions.delete(name, &DeleteParams::background()).await.unwrap();
    }
    let is_told = |server: Option<&XmppServer>| {
        server.and_then(|server| condition(server, "Degraded")).is_some_and(|condition| {
            ["cert-manager", "prometheus-operator"].iter().all(|name| condition.message.contains(name))
        })
    };
    let server = until(&world.api::<XmppServer>(), "chat", is_told).await.unwrap();
    assert_eq!(condition(&server, "TLSReady").unwrap().reason, "Valid", "what is there is as good as before");
    assert!(world.api::<Secret>().get_opt(&secret).await.unwrap().is_some(), "it is cert-manager's, and in use");
    world.change::<XmppServer>("chat", json!({ "spec": { "router": { "replicas": 3 } } })).await;
    assert_eq!(world.settled("chat").await.status.unwrap().router.unwrap().summary, "3/3");
    assert_eq!(world.generations().await[1..], generations[1..]);
}
