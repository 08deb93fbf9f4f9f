//! `starling-operator`, as a process of its own: its probes, and its end.

use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Service};
use kube::api::DeleteParams;
use serde_json::json;
use starling_kube_tests::{Operator, until};
use starling_operator::crd::XmppServer;

use crate::{
    plane,
    world::{LEASE, OLD, World, holder},
};

fn start(world: &World, name: &str) -> Operator {
    let access = world.plane.user(&format!("{name}-of-{}", world.namespace), &["system:masters"]);
    // Nobody waits for the end of such a Lease: who gets it was given it.
    let lease = ["--lease-seconds=3600", "--server-image", OLD];
    let arguments = [["run", "--namespace", &world.namespace].as_slice(), &lease].concat();
    Operator::start(&access, &world.namespace, name, &arguments)
}

#[tokio::test]
async fn told_to_end_it_finishes_its_work_gives_up_the_lease_and_ends_without_an_error() {
    let world = World::without_operator(plane().await).await;
    let first = start(&world, "first");
    world.held_by("first").await;
    let second = start(&world, "second");
    second.said("Another operator leads; this one waits").await;
    world.server("chat", json!({})).await;
    world.settled("chat").await;

    for (operator, leads) in [(&first, 1), (&second, 0)] {
        assert!(operator.get("/healthz").await.0.ends_with("200 OK"));
        let (status, rest) = operator.get("/readyz").await;
        assert!(status.ends_with("200 OK"), "{status} {rest}");
        let (_, metrics) = operator.get("/metrics").await;
        for line in [format!("starling_operator_leader {leads}"), format!("starling_operator_servers {leads}")] {
            assert!(metrics.lines().any(|of| of == line), "{line}: {metrics}");
        }
    }

    // While it has something to do.
    world.change::<XmppServer>("chat", json!({ "spec": { "router": { "replicas": 3 } } })).await;
    let status = first.end().await;
    assert_eq!(status.code(), Some(0), "{status}");
    world.held_by("second").await;
    // Whichever of them did it.
    world.settled("chat").await;
    let deployment = world.deployment("chat-router").await;
    assert_eq!(deployment.spec.unwrap().replicas, Some(3));
    world.api::<Service>().delete("chat-metrics", &DeleteParams::default()).await.unwrap();
    until(&world.api::<Service>(), "chat-metrics", |service| service.is_some()).await;

    assert_eq!(second.end().await.code(), Some(0));
    assert_eq!(holder(Some(&world.api::<Lease>().get(LEASE).await.unwrap())), None);
    // Without any, what runs goes on.
    assert!(world.api::<Deployment>().get("chat-c2s").await.unwrap().status.unwrap().available_replicas == Some(2));
}
