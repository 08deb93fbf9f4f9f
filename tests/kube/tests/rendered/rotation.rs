//! Certificates between the pods change under streams that go on: each step of a rotation, and after each a router that knows
//! nothing of what was before.
//!
//! The hour between two steps is passed by what the operator remembers: the time of the last step is moved back in its Secret.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::DeleteParams;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::json;
use starling_kube_tests::until;
use starling_operator::{
    certificates::{Kept, secret},
    crd::XmppServer,
};
use tokio::net::TcpStream;

use crate::{
    people::Conversation,
    world::{Serving, World, has, text},
};

const AUTHORITY: &str = "chat-link-authority";
const ROUTER: &str = "chat-link-router";
const INSTANCE: &str = "chat-link-instance";
/// Long ago, for authorities and what they sign: both are to be replaced.
const AGE: Duration = Duration::from_secs(366 * 24 * 3600);
/// Longer ago than a step has to be.
const STEP: Duration = Duration::from_secs(2 * 3600);
/// The name in a router's certificate.
const NAME: &str = "router.starling.internal";

fn seconds(time: SystemTime) -> String {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().to_string()
}

fn count(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

/// Lets the operator find the authority that it would have made a year ago: it replaces it as soon as the step before is an hour
/// ago, in which it stopped believing another.
pub(crate) async fn age(world: &World, server: &XmppServer) {
    let (now, then) = (SystemTime::now(), SystemTime::now() - AGE);
    let another = Kept::first(then, None).unwrap().certificates().authorities;
    let kept = Kept::first(then, Some(&another)).unwrap().to_data();
    let mut data: serde_json::Map<_, _> = kept.into_iter().map(|(key, value)| (key, json!(value.reveal()))).collect();
    data.insert("since".to_owned(), json!(seconds(now)));
    assert_eq!(secret("chat"), AUTHORITY);
    let owner = json!({
        "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer", "name": "chat", "uid": server.metadata.uid,
        "controller": true, "blockOwnerDeletion": true,
    });
    let labels = json!({
        "app.kubernetes.io/name": "starling", "app.kubernetes.io/instance": "chat",
        "app.kubernetes.io/managed-by": "starling-operator",
    });
    let metadata = json!({ "name": AUTHORITY, "labels": labels, "ownerReferences": [owner] });
    world.create::<Secret>(json!({ "metadata": metadata, "stringData": data })).await;
}

/// An hour passes. Returns what the operator then remembers, and what routers and all others then get.
async fn step(world: &World, is_done: impl Fn(&Secret) -> bool) -> [Secret; 3] {
    let since = seconds(SystemTime::now() - STEP);
    let before = world.read(ROUTER, "ca.crt").await;
    world.change::<Secret>(AUTHORITY, json!({ "stringData": { "since": since } })).await;
    let secrets = world.api::<Secret>();
    let authority = until(&secrets, AUTHORITY, |secret| secret.is_some_and(&is_done)).await.unwrap();
    let changed = |secret: Option<&Secret>| secret.is_some_and(|secret| text(secret, "ca.crt") != before);
    let router = until(&secrets, ROUTER, changed).await.unwrap();
    let instance = until(&secrets, INSTANCE, changed).await.unwrap();
    for (component, secret) in [("router", &router), ("session", &instance), ("c2s", &instance)] {
        for pod in world.serving(component).await {
            for file in ["ca.crt", "tls.crt", "tls.key"] {
                world.has_file(&pod, &format!("/etc/starling/link/{file}"), &text(secret, file)).await;
            }
        }
    }
    [authority, router, instance]
}

pub(crate) async fn internal_certificates_rotate_under_streams_that_go_on(world: &World, people: &mut Conversation) {
    let connections = people.connections();
    let serve = ["c2s", "session"];
    let processes = world.processes(&serve).await;
    let first = world.read(AUTHORITY, "ca.crt").await;
    assert_eq!(count(&world.read(ROUTER, "ca.crt").await), 2);

    // Another authority is announced: all believe it, and nobody shows anything of it yet.
    let [authority, router, instance] = step(world, |authority| has(authority, "next-ca.crt")).await;
    let second = text(&authority, "next-ca.crt");
    assert_eq!(text(&router, "ca.crt"), format!("{first}{second}"));
    people.goes_on().await;
    for pod in world.serving("router").await {
        assert_eq!(shown(&pod, &first, &instance).await, certificate(&text(&router, "tls.crt")));
    }

    // It signs. Routers that run show what it signed, to whomever believes it alone.
    let [authority, router, instance] = step(world, |authority| has(authority, "previous-ca.crt")).await;
    assert_eq!(text(&authority, "ca.crt"), second);
    assert_eq!(text(&router, "ca.crt"), format!("{second}{first}"));
    let routers = world.serving("router").await;
    for pod in &routers {
        assert_eq!(shown(pod, &second, &instance).await, certificate(&text(&router, "tls.crt")));
    }
    people.goes_on().await;
    replace(world, &routers[0]).await;
    people.goes_on().await;

    // The first is forgotten: a router that begins now lets nobody in who shows what that one signed.
    let [_, router, _] = step(world, |authority| !has(authority, "previous-ca.crt")).await;
    assert_eq!(text(&router, "ca.crt"), second);
    people.goes_on().await;
    replace(world, &routers[1]).await;
    people.goes_on().await;

    assert_eq!(people.connections(), connections, "no stream has ended");
    assert_eq!(world.processes(&serve).await, processes, "nothing but routers was replaced");
}

/// Takes a router away, and waits until all others are attached to the one that comes in its place.
async fn replace(world: &World, router: &Serving) {
    let before = world.serving("router").await;
    world.api::<Pod>().delete(&router.name, &DeleteParams::default()).await.unwrap();
    let another = world.another("router", &before).await;
    let others = world.serving("c2s").await.len() + world.serving("session").await.len();
    world.metric(&another, "starling_router_instances", others.try_into().unwrap()).await;
}

/// The certificate that a router shows to one that believes `authority` alone and shows what instances do.
async fn shown(router: &Serving, authority: &str, instance: &Secret) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(authority)).unwrap();
    let own = certificate(&text(instance, "tls.crt"));
    let key = PrivateKeyDer::from_pem_slice(text(instance, "tls.key").as_bytes()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)
        .unwrap();
    let connection = TcpStream::connect((router.address, 5270)).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, connection).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    shown.into_owned()
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}
