//! A Standalone server: what its volume holds outlives its pod.

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;
use starling_kube_tests::{isolated, until};
use starling_operator::crd::XmppServer;
use starling_test_support::{RawClient, body};

use crate::{
    people::{ADMIN, BOB, DOMAIN, PASSWORD, connect},
    world::{World, is_serving},
};

const POD: &str = "chat-standalone-0";

#[test]
fn what_the_volume_holds_outlives_the_pod() {
    isolated("standalone::what_the_volume_holds_outlives_the_pod", async || {
        let mut world = World::new().await;
        world.start_operator();
        world
            .server(json!({
                "profile": "Standalone",
                "domains": [{ "name": DOMAIN }],
                "tls": { "secretRefs": [{ "name": "tls" }] },
                "firstAdmin": { "address": ADMIN },
                "drain": { "graceSeconds": 0, "durationSeconds": 5 },
            }))
            .await;
        world.settled().await;
        world.add_user(POD, BOB, PASSWORD).await;
        let password = world.read("chat-first-admin", "password").await;

        let mut admin = log_in(&world, ADMIN, &password).await;
        let mut bob = log_in(&world, BOB, PASSWORD).await;
        say(&mut admin, &mut bob, "hello").await;
        say(&mut bob, &mut admin, "hello yourself").await;
        bob.close().await;
        admin.send(&format!("<message to='{BOB}' type='chat'><body>later</body></message>")).await;
        admin.close().await;

        let before = world.api::<Pod>().get(POD).await.unwrap().metadata.uid;
        world.api::<Pod>().delete(POD, &DeleteParams::default()).await.unwrap();
        until(&world.api::<Pod>(), POD, |pod| pod.is_some_and(|pod| pod.metadata.uid != before && is_serving(pod)))
            .await;
        let mut bob = log_in(&world, BOB, PASSWORD).await;
        assert_eq!(body(&bob.message().await), "later");
        bob.close().await;

        world.api::<XmppServer>().delete("chat", &DeleteParams::default()).await.unwrap();
        until(&world.api::<Pod>(), POD, |pod| pod.is_none()).await;
        let ended = world.node.ended();
        assert!(ended.iter().all(|end| end.status.success() && !end.is_killed), "{ended:?}");
        let containers: Vec<_> = ended.iter().map(|end| end.container.as_str()).collect();
        // The administrator is imported each time, and is there the second time.
        assert_eq!(containers, ["first-admin", "starlingd", "first-admin", "starlingd"]);
        world.end_operator().await;
    });
}

async fn log_in(world: &World, jid: &str, password: &str) -> RawClient {
    let [pod] = &world.serving("standalone").await[..] else { panic!("one pod") };
    let mut client = connect(pod.address).await;
    client.log_in(jid, password, "here").await;
    client.become_available(0).await;
    client
}

async fn say(from: &mut RawClient, to: &mut RawClient, text: &str) {
    from.send(&format!("<message to='{}' type='chat'><body>{text}</body></message>", to.full())).await;
    assert_eq!(body(&to.message().await), text);
}
