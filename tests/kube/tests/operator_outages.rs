//! The operator, when the API server is away, and when it does not understand a resource: with a control plane of its own,
//! for other tests would suffer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "the other tests use all of it")]
#[path = "operator/world.rs"]
mod world;

use k8s_openapi::{
    api::core::v1::Service,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON, JSONSchemaProps},
};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, PostParams},
};
use serde_json::json;
use starling_kube_tests::{ControlPlane, Options, until};
use starling_operator::crd::{XmppServer, definition};
use tokio::sync::OnceCell;

use crate::world::{World, conditions};

/// The definition of a later release, as it were: with a profile that this one does not know.
fn later() -> CustomResourceDefinition {
    fn profile(schema: &mut JSONSchemaProps) -> &mut JSONSchemaProps {
        let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
        spec.properties.as_mut().unwrap().get_mut("profile").unwrap()
    }
    let mut definition = definition();
    let schema = definition.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
    profile(schema).enum_.as_mut().unwrap().push(JSON(json!("Galactic")));
    definition
}

async fn plane() -> &'static ControlPlane {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    PLANE.get_or_init(|| ControlPlane::start(Options { crds: vec![later()], ..Options::default() })).await
}

/// One test, for only one may stop the API server.
#[tokio::test]
async fn a_resource_that_is_not_understood_stops_no_other_and_an_api_server_that_is_away_nothing() {
    let mut world = World::without_operator(plane().await).await;
    world.operator = Some(world.start_operator("operator").await);
    let resource = ApiResource::erase::<XmppServer>(&());
    let dynamic = Api::<DynamicObject>::namespaced_with(world.client.clone(), &world.namespace, &resource);
    let strange = json!({
        "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer", "metadata": { "name": "strange" },
        "spec": {
            "profile": "Galactic", "domains": [{ "name": "example.com" }],
            "redis": { "secretRef": { "name": "redis" } }, "database": { "secretRef": { "name": "database" } },
            "tls": { "secretRefs": [{ "name": "tls" }] },
        },
    });
    dynamic.create(&PostParams::default(), &serde_json::from_value(strange).unwrap()).await.unwrap();
    world.server("chat", json!({})).await;
    world.settled("chat").await;
    let is_told = |object: Option<&DynamicObject>| {
        let reason = object.and_then(|object| object.data.pointer("/status/conditions/0/reason"));
        reason == Some(&json!("Undecodable"))
    };
    let strange = until(&dynamic, "strange", is_told).await.unwrap();
    let message = strange.data.pointer("/status/conditions/0/message").unwrap().as_str().unwrap();
    assert!(message.contains("Galactic"), "{message}");
    assert!(world.events("strange").await.contains(&("Ready".to_owned(), "Undecodable".to_owned())));

    let operator = &world.operator.as_ref().unwrap().user;
    let told: Vec<_> =
        world.requests(operator).into_iter().filter(|(verb, _, name)| verb == "patch" && name == "strange").collect();
    assert_eq!(told.len(), 1, "once, and not again and again: {told:?}");

    // Away for longer than the Lease: it is lost, and the operator ends; the next one finds all as it was.
    let running = world.settled("chat").await;
    world.plane.stop_api_server().await;
    let ended = world.operator.take().unwrap().ended().await;
    assert!(ended.is_err(), "nobody leads without a Lease");
    // A new one waits for the API server, as a pod that is started again would.
    world.operator = Some(world.start_operator("operator-again").await);
    world.plane.start_api_server().await;
    world.api::<Service>().delete("chat-router", &DeleteParams::default()).await.unwrap();
    until(&world.api::<Service>(), "chat-router", |service| service.is_some()).await;
    assert_eq!(conditions(&world.settled("chat").await), conditions(&running));

    // Away for a moment: nobody ends.
    world.plane.stop_api_server().await;
    world.plane.start_api_server().await;
    world.change::<XmppServer>("chat", json!({ "spec": { "router": { "replicas": 3 } } })).await;
    assert_eq!(world.settled("chat").await.status.unwrap().router.unwrap().summary, "3/3");
    world.operator.take().unwrap().end().await.unwrap();
}
