//! From the beginning to the end of a server.

use std::fmt::Debug;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::Job,
        core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    serde::de::DeserializeOwned,
};
use kube::{
    Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use starling_kube_tests::until;
use starling_operator::crd::XmppServer;

use crate::{
    plane,
    world::{World, conditions},
};

/// Names of all objects of a kind that the operator made.
async fn made<K>(world: &World) -> Vec<String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=starling-operator");
    let mut names: Vec<_> =
        world.api::<K>().list(&ours).await.unwrap().items.iter().map(|object| object.name_any()).collect();
    names.sort();
    names
}

/// What `kubectl get xmpp` shows: names of columns and what stands in them, without the age.
async fn table(world: &World) -> (Vec<String>, Vec<Value>) {
    let path = world.api::<XmppServer>().resource_url().to_owned();
    let request = hyper::Request::get(path).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table: Value = world.client.request(request.body(Vec::new()).unwrap()).await.unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    // Others are for `-o wide`.
    let shown: Vec<_> =
        columns.enumerate().filter(|(_, column)| column["priority"] == 0 && column["name"] != "Age").collect();
    let cells = &table["rows"][0]["cells"];
    shown.into_iter().map(|(at, column)| (column["name"].as_str().unwrap().to_owned(), cells[at].clone())).unzip()
}

#[tokio::test]
async fn a_server_is_made_in_order_says_so_and_goes_whole() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({ "firstAdmin": { "address": "admin@example.com" } })).await;
    let server = world.settled("chat").await;

    assert_eq!(
        conditions(&server),
        [
            "Ready True AllAvailable",
            "Progressing False Complete",
            "Degraded False AsExpected",
            "TLSReady True Valid",
            "Migrated True Migrated",
            "Paused False NotPaused"
        ]
    );
    let status = server.status.clone().unwrap();
    assert_eq!(status.domains.as_deref(), Some("example.com"));
    assert_eq!(status.version.as_deref(), Some("1.0.0"));
    for role in [&status.c2s, &status.session, &status.router] {
        assert_eq!(role.as_ref().unwrap().summary, "2/2");
    }
    assert!(status.certificates[0].not_after.is_some());

    let (columns, cells) = table(&world).await;
    assert_eq!(columns, ["Name", "Domains", "C2S", "Version", "Ready", "Reason"]);
    assert_eq!(cells, ["chat", "example.com", "2/2", "1.0.0", "True", "AllAvailable"]);

    let deployments = ["chat-c2s", "chat-router", "chat-session"];
    assert_eq!(made::<Deployment>(&world).await, deployments);
    assert_eq!(made::<PodDisruptionBudget>(&world).await, deployments);
    assert_eq!(made::<Service>(&world).await, ["chat-c2s", "chat-metrics", "chat-router"]);
    assert_eq!(made::<ServiceAccount>(&world).await, ["chat-server"]);
    let secrets = ["accounts", "backends", "first-admin", "link-authority", "link-instance", "link-router"];
    assert_eq!(made::<Secret>(&world).await, secrets.map(|name| format!("chat-{name}")));
    assert_eq!(made::<ConfigMap>(&world).await.len(), 5);
    assert_eq!(made::<NetworkPolicy>(&world).await.len(), 5);
    assert_eq!(made::<Job>(&world).await.len(), 2);

    // In order: each when those before it were done.
    let user = &world.operator.as_ref().unwrap().user;
    let patched: Vec<_> = world.requests(user).into_iter().filter(|(verb, ..)| verb == "patch").collect();
    let first = |resource: &str, prefix: &str| {
        let is = |(_, of, name): &(String, String, String)| of == resource && name.starts_with(prefix);
        patched.iter().position(is).unwrap_or_else(|| panic!("{prefix}: {patched:?}"))
    };
    let order = [
        first("secrets", "chat-backends"),
        first("jobs", "chat-migrate"),
        first("deployments", "chat-router"),
        first("deployments", "chat-session"),
        first("deployments", "chat-c2s"),
    ];
    assert!(order.is_sorted(), "{order:?} {patched:?}");

    world.api::<XmppServer>().delete("chat", &DeleteParams::background()).await.unwrap();
    until(&world.api::<XmppServer>(), "chat", |server| server.is_none()).await;
    for name in deployments {
        until(&world.api::<Deployment>(), name, |object| object.is_none()).await;
    }
    for name in ["chat-link-authority", "chat-first-admin", "chat-backends"] {
        until(&world.api::<Secret>(), name, |object| object.is_none()).await;
    }
    until(&world.api::<ConfigMap>(), "chat-c2s", |object| object.is_none()).await;
    until(&world.api::<Service>(), "chat-c2s", |object| object.is_none()).await;
    until(&world.api::<Secret>(), "redis", |object| object.is_some()).await;
}

#[tokio::test]
async fn a_standalone_server_needs_two_lines() {
    let world = World::new(plane().await).await;
    world.standalone("trial").await;
    let server = world.settled("trial").await;
    assert_eq!(server.status.as_ref().unwrap().c2s.as_ref().unwrap().summary, "1/1");
    assert!(conditions(&server).contains(&"TLSReady True SelfSigned".to_owned()));
    assert!(conditions(&server).contains(&"Migrated True NotNeeded".to_owned()));
    assert_eq!(made::<StatefulSet>(&world).await, ["trial-standalone"]);
    assert!(made::<Deployment>(&world).await.is_empty());
    assert!(!made::<Secret>(&world).await.contains(&"trial-link-authority".to_owned()));
}

#[tokio::test]
async fn addresses_and_dns_records_are_told_when_the_load_balancer_has_some() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    until(&world.api::<Service>(), "chat-c2s", |service| service.is_some()).await;
    let services = world.api::<Service>();
    let ingress = json!([{ "ip": "192.0.2.7" }, { "ip": "2001:db8::7" }]);
    let patch = Patch::Merge(json!({ "status": { "loadBalancer": { "ingress": ingress } } }));
    services.patch_status("chat-c2s", &PatchParams::default(), &patch).await.unwrap();
    let has_addresses = |server: Option<&XmppServer>| {
        server.and_then(|server| server.status.as_ref()).is_some_and(|status| !status.addresses.is_empty())
    };
    let server = until(&world.api::<XmppServer>(), "chat", has_addresses).await.unwrap();
    let status = serde_json::to_value(server.status.unwrap()).unwrap();
    assert_eq!(
        status["dnsRecords"],
        json!([
            { "name": "_xmpp-client._tcp.example.com", "type": "SRV", "value": "0 5 5222 xmpp.example.com." },
            { "name": "_xmpps-client._tcp.example.com", "type": "SRV", "value": "0 5 5223 xmpp.example.com." },
            { "name": "xmpp.example.com", "type": "A", "value": "192.0.2.7" },
            { "name": "xmpp.example.com", "type": "AAAA", "value": "2001:db8::7" },
        ])
    );
}

#[tokio::test]
async fn scaling_follows_the_scale_subresource_and_the_autoscaler_counts_undisturbed() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    let servers = world.api::<XmppServer>();
    let scale = Patch::Merge(json!({ "spec": { "replicas": 3 } }));
    servers.patch_scale("chat", &PatchParams::default(), &scale).await.unwrap();
    let server = world.settled("chat").await;
    assert_eq!(server.status.unwrap().c2s.unwrap().summary, "3/3");
    let scale = servers.get_scale("chat").await.unwrap();
    assert_eq!(scale.status.as_ref().unwrap().replicas, 3);
    let selector = scale.status.unwrap().selector.unwrap();
    assert_eq!(world.api::<Pod>().list(&ListParams::default().labels(&selector)).await.unwrap().items.len(), 3);

    // Something else counts from now on. It finds as many as there were, and what it says stays.
    let autoscaling = json!({ "minReplicas": 2, "maxReplicas": 9, "targetCpuPercent": 60 });
    world.change::<XmppServer>("chat", json!({ "spec": { "c2s": { "autoscaling": autoscaling } } })).await;
    until(&world.api::<HorizontalPodAutoscaler>(), "chat-c2s", |autoscaler| autoscaler.is_some()).await;
    world.settled("chat").await;
    assert_eq!(world.deployment("chat-c2s").await.spec.unwrap().replicas, Some(3));
    let deployments = world.api::<Deployment>();
    let scale = Patch::Merge(json!({ "spec": { "replicas": 4 } }));
    deployments.patch_scale("chat-c2s", &PatchParams::default(), &scale).await.unwrap();
    world.change::<XmppServer>("chat", json!({ "spec": { "c2s": { "podLabels": { "a": "b" } } } })).await;
    let is_labelled = |deployment: Option<&Deployment>| {
        let labels =
            deployment.and_then(|deployment| deployment.spec.as_ref()?.template.metadata.as_ref()?.labels.clone());
        labels.is_some_and(|labels| labels.contains_key("a"))
    };
    until(&deployments, "chat-c2s", is_labelled).await;
    assert_eq!(world.deployment("chat-c2s").await.spec.unwrap().replicas, Some(4));
    assert_eq!(world.settled("chat").await.status.unwrap().c2s.unwrap().summary, "4/4");

    world.change::<XmppServer>("chat", json!({ "spec": { "c2s": { "autoscaling": null, "replicas": 2 } } })).await;
    until(&world.api::<HorizontalPodAutoscaler>(), "chat-c2s", |autoscaler| autoscaler.is_none()).await;
    assert_eq!(world.settled("chat").await.status.unwrap().c2s.unwrap().summary, "2/2");
}

#[tokio::test]
async fn a_server_that_scales_itself_begins_with_as_many_pods_as_it_has_at_least() {
    let world = World::new(plane().await).await;
    let autoscaling = json!({ "minReplicas": 3, "maxReplicas": 9, "targetCpuPercent": 60 });
    world.server("chat", json!({ "c2s": { "autoscaling": autoscaling } })).await;
    assert_eq!(world.settled("chat").await.status.unwrap().c2s.unwrap().summary, "3/3");
}
