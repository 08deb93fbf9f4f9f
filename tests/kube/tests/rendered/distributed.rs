//! A Distributed server, from its beginning to its end, with two people who talk through all of it.

use std::net::Ipv4Addr;

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Pod, Secret},
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;
use starling_kube_tests::{isolated, until};
use starling_operator::crd::XmppServer;
use starling_test_support::{RawClient, body};

use crate::{
    people::{ADMIN, BOB, Conversation, DOMAIN, PASSWORD, Person, connect},
    rotation::{age, internal_certificates_rotate_under_streams_that_go_on},
    world::World,
};

const ROLES: [&str; 3] = ["router", "session", "c2s"];

#[test]
fn two_people_talk_while_all_that_they_talk_through_is_changed() {
    isolated("distributed::two_people_talk_while_all_that_they_talk_through_is_changed", async || {
        let mut world = World::new().await;
        world.start_backends().await;
        let server = world
            .server(json!({
                "domains": [{ "name": DOMAIN }],
                "redis": { "secretRef": { "name": "redis" } },
                "database": { "secretRef": { "name": "database" }, "ca": { "secretRef": { "name": "database-ca" } } },
                "tls": { "secretRefs": [{ "name": "tls" }] },
                "firstAdmin": { "address": ADMIN },
                "drain": { "graceSeconds": 2, "durationSeconds": 10 },
            }))
            .await;
        age(&world, &server).await;
        world.start_operator();

        let mut people = two_people_log_in_at_two_pods(&world).await;
        settings_are_taken_up_without_a_restart(&world, &mut people).await;
        Box::pin(internal_certificates_rotate_under_streams_that_go_on(&world, &mut people)).await;
        pods_are_replaced_and_streams_go_on_at_others(&world, &mut people).await;
        more_pods_and_fewer_disturb_nobody(&world, &mut people).await;
        people.end().await;
        the_server_goes_whole_and_in_order(&world).await;
        world.end_operator().await;
    });
}

/// The administrator by the password that the operator made, and somebody whom the administrator adds.
async fn two_people_log_in_at_two_pods(world: &World) -> Conversation {
    until(&world.api::<Deployment>(), "chat-c2s", |deployment| deployment.is_some()).await;
    let pods = world.until_serving("c2s", |pods| pods.len() == 2).await;
    // In order: the Jobs have done what all others stand on.
    let jobs = world.api::<Job>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job.status.as_ref().and_then(|status| status.succeeded) == Some(1)));

    world.add_user(&pods[1].name, BOB, PASSWORD).await;
    let password = world.read("chat-first-admin", "password").await;
    let admin = Person::log_in(pods[0].address, ADMIN, &password).await;
    shows(&admin.client, &world.read("tls", "tls.crt").await);
    let bob = Person::log_in(pods[1].address, BOB, PASSWORD).await;
    let mut people = Conversation::begin([admin, bob], world.node.endpoints());
    people.goes_on().await;
    people
}

/// The certificate of the Secret, to which the client binds what it logs in by.
fn shows(client: &RawClient, pem: &str) {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &certificate);
    assert_eq!(client.binding("tls-server-end-point").unwrap().data, digest.as_ref());
}

async fn settings_are_taken_up_without_a_restart(world: &World, people: &mut Conversation) {
    let (connections, processes) = (people.connections(), world.processes(&ROLES).await);
    let pods = world.serving("c2s").await;
    let mut before = stranger(pods[0].address, "before").await;

    let spec = json!({ "log": { "level": "info,starling_daemon=debug" }, "limits": { "stanzaBytes": 20_000 } });
    world.change::<XmppServer>("chat", json!({ "spec": spec })).await;
    for role in ROLES {
        for pod in world.serving(role).await {
            world.node.says(&pod.name, "Settings taken up").await;
            let metrics = world.node.metrics(pod.address).await;
            for gauge in ["starling_settings_faulty 0", "starling_settings_restart_needed 0"] {
                assert!(metrics.lines().any(|line| line == gauge), "{}: not {gauge} in\n{metrics}", pod.name);
            }
        }
    }
    // Streams keep the limits that they began with; new ones begin with the new ones.
    let long = "x".repeat(30_000);
    writes_itself(&mut before, &long).await;
    assert_eq!(body(&before.message().await), long);
    let mut after = stranger(pods[1].address, "after").await;
    writes_itself(&mut after, &long).await;
    after.expect_stream_error("policy-violation").await;
    before.close().await;

    people.goes_on().await;
    assert_eq!(people.connections(), connections);
    assert_eq!(world.processes(&ROLES).await, processes);
    let map = world.api::<ConfigMap>().get("chat-c2s").await.unwrap();
    assert!(map.data.unwrap()["starling.toml"].contains("stanza_bytes = 20000"));
}

/// Another client of Bob's.
async fn stranger(address: Ipv4Addr, resource: &str) -> RawClient {
    let mut client = connect(address).await;
    client.log_in(BOB, PASSWORD, resource).await;
    // What is for nobody of Bob's in particular is not for this one.
    client.become_available(-1).await;
    client
}

async fn writes_itself(client: &mut RawClient, text: &str) {
    let message = format!("<message to='{}'><body>{text}</body></message>", client.full());
    client.send(&message).await;
}

async fn pods_are_replaced_and_streams_go_on_at_others(world: &World, people: &mut Conversation) {
    world.settled().await;
    let others = world.processes(&["router", "session"]).await;
    let (before, connections) = (world.serving("c2s").await, people.connections());
    let change = json!({ "spec": { "c2s": { "podAnnotations": { "roll": "them" } } } });
    world.change::<XmppServer>("chat", change).await;
    people.reconnected(connections).await;
    world.rolled("c2s", 2).await;
    world.settled().await;
    let pods = world.until_serving("c2s", |pods| pods.len() == 2).await;
    assert!(pods.iter().all(|pod| !before.contains(pod)));
    people.goes_on().await;
    assert_eq!(world.processes(&["router", "session"]).await, others, "nobody else was replaced");
}

async fn more_pods_and_fewer_disturb_nobody(world: &World, people: &mut Conversation) {
    let (before, connections) = (world.serving("c2s").await, people.connections());
    scale(world, 3).await;
    let another = world.another("c2s", &before).await;
    // It is one like the others.
    stranger(another.address, "another").await.close().await;
    // Two people are at two pods at most: one without streams goes.
    scale(world, 2).await;
    world.until_serving("c2s", |pods| pods.len() == 2).await;
    world.settled().await;
    people.goes_on().await;
    assert_eq!(people.connections(), connections, "no stream has ended");
}

async fn scale(world: &World, replicas: i32) {
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    world.api::<XmppServer>().patch_scale("chat", &PatchParams::default(), &patch).await.unwrap();
}

async fn the_server_goes_whole_and_in_order(world: &World) {
    let pods = world.api::<Pod>();
    let all = pods.list(&ListParams::default()).await.unwrap().items;
    world.api::<XmppServer>().delete("chat", &DeleteParams::default()).await.unwrap();
    for pod in &all {
        until(&pods, &pod.name_any(), |pod| pod.is_none()).await;
    }
    let ended = world.node.ended();
    for end in &ended {
        assert!(end.status.success() && !end.is_killed, "{end:?}\n{}", world.node.log(&end.pod));
    }
    let logs = world.node.logs();
    let wrong: Vec<_> = logs.lines().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Folders that are swapped away are nothing to tell of.
    assert!(!logs.contains("watch descriptor"));
    let count = |component: &str| ended.iter().filter(|end| end.component == component).count();
    // Two at first; and those that came in the place of others.
    assert_eq!(["router", "session", "c2s", "migrate", "first-admin"].map(count), [4, 2, 5, 1, 1]);
    let secrets = world.api::<Secret>();
    until(&secrets, "chat-link-authority", |secret| secret.is_none()).await;
}
