//! Fewer pods: the emptiest of them go.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use starling_operator::{crd::XmppServer, names};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    plane,
    world::{World, component},
};

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Answers as a pod with so many sessions, at the port that all pods have. Returns how often it was asked.
async fn answer(address: Ipv4Addr, sessions: u32) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind((address, names::HTTP)).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            let text = format!("starling_sessions {sessions}\n");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok() {
                stream.write_all(answer.as_bytes()).await.ok();
            }
        }
    });
    asked
}

async fn of_clients(world: &World) -> Vec<Pod> {
    let pods = world.pods().await.into_iter();
    pods.filter(|pod| component(pod) == "c2s" && pod.metadata.deletion_timestamp.is_none()).collect()
}

#[tokio::test]
async fn when_there_are_to_be_fewer_pods_the_emptiest_goes_and_before_that_no_pod_is_asked() {
    let world = World::new(plane().await).await;
    world.server("chat", json!({ "c2s": { "replicas": 3 } })).await;
    world.settled("chat").await;
    // Loopback addresses of this process's own.
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let (mut sessions, mut asked) = (BTreeMap::new(), Vec::new());
    for (pod, (last, count)) in of_clients(&world).await.into_iter().zip([(1, 40), (2, 3), (3, 200)]) {
        let address = Ipv4Addr::new(127, 64 + high / 4, low, last);
        asked.push(answer(address, count).await);
        let status = json!({ "status": { "podIP": address, "podIPs": [{ "ip": address }] } });
        let name = pod.name_any();
        let pods = world.api::<Pod>();
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        sessions.insert(name, count);
    }
    let times = || asked.iter().map(|asked| asked.load(Ordering::Relaxed)).collect::<Vec<_>>();

    world.change::<XmppServer>("chat", json!({ "spec": { "limits": { "connections": 1000 } } })).await;
    world.settled("chat").await;
    assert_eq!(times(), [0, 0, 0], "they are asked only when some of them are to go");

    let scale = Patch::Merge(json!({ "spec": { "replicas": 2 } }));
    world.api::<XmppServer>().patch_scale("chat", &PatchParams::default(), &scale).await.unwrap();
    world.settled("chat").await;
    let left: BTreeMap<_, _> = of_clients(&world)
        .await
        .iter()
        .map(|pod| (pod.name_any(), pod.annotations().get(COST).and_then(|cost| cost.parse().ok()).unwrap_or_default()))
        .collect();
    sessions.retain(|_, count| *count != 3);
    assert_eq!(left, sessions, "the emptiest has gone, and Kubernetes was told why");
    let after = times();
    assert!(after.iter().all(|times| *times > 0), "{after:?}");

    world.change::<XmppServer>("chat", json!({ "spec": { "limits": { "connections": 2000 } } })).await;
    world.settled("chat").await;
    assert_eq!(times(), after);
}
