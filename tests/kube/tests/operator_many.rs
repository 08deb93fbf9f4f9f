//! Many servers, and one operator as a process of its own: what it takes to settle, and what it costs to be there after that.
//!
//! `cargo build --release -p starling-operator && cargo test --release -p starling-kube-tests --test operator_many -- --ignored
//! --nocapture`; `STARLING_SERVERS` says how many.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "the other tests use all of it")]
#[path = "operator/world.rs"]
mod world;

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::PostParams};
use serde_json::json;
use starling_kube_tests::{ControlPlane, Options, until};
use starling_operator::crd::{XmppServer, definition};

use crate::world::World;

const LEASE: &str = "starling-operator";

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Process {
    /// Resident memory that is its own, in MiB.
    fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// CPU time so far.
    fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = [11, 12].into_iter().map(|at: usize| fields[at].parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: it is a measurement"]
async fn five_hundred_servers_settle_and_then_cost_next_to_nothing() {
    let servers: usize = std::env::var("STARLING_SERVERS").map_or(500, |count| count.parse().unwrap());
    let fast = ["--kube-api-qps=1000", "--kube-api-burst=2000", "--concurrent-statefulset-syncs=20"];
    let controller_manager = fast.map(str::to_owned).to_vec();
    let options = Options { crds: vec![definition()], controller_manager, ..Options::default() };
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start(options).await));
    let world = World::without_operator(plane).await;
    let user = format!("operator-of-{}", world.namespace);
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("starling-operator");
    let mut command = Command::new(program);
    command.args([
        "run",
        "--listen",
        "127.0.0.1:0",
        "--log",
        "warn",
        "--identity",
        "measured",
        "--pod-ips",
        "127.0.0.1",
    ]);
    command.args(["--lease-namespace", &world.namespace, "--server-image", world::OLD]);
    command.env("KUBECONFIG", plane.user(&user, &["system:masters"]).file()).stdin(Stdio::null());
    let begun = Instant::now();
    let operator = Process(command.spawn().unwrap());
    let leases = world.api::<Lease>();
    until(&leases, LEASE, |lease| lease.is_some()).await;
    println!("leads after {:?}, {} MiB", begun.elapsed(), operator.memory());

    let api = world.api::<XmppServer>();
    let begun = Instant::now();
    let create = |number: usize| {
        let api = api.clone();
        async move {
            let object = json!({
                "apiVersion": "starling.im/v1alpha1", "kind": "XmppServer",
                "metadata": { "name": format!("server-{number}") },
                "spec": { "profile": "Standalone", "domains": [{ "name": "example.com" }] },
            });
            api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        }
    };
    stream::iter(0..servers).for_each_concurrent(8, create).await;
    println!("{servers} servers made after {:?}", begun.elapsed());
    for number in 0..servers {
        settled(&api, &format!("server-{number}")).await;
    }
    println!("settled after {:?}: {:?} of CPU, {} MiB", begun.elapsed(), operator.cpu(), operator.memory());
    println!("{} requests", world.requests(&user).len());

    // The clock: it renews its Lease, and does nothing else.
    let renewed = |lease: Option<&Lease>| lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone());
    let next = async || {
        let last = renewed(Some(&leases.get(LEASE).await.unwrap()));
        until(&leases, LEASE, |lease| renewed(lease) != last).await;
    };
    next().await;
    let (begun, cpu, requests) = (Instant::now(), operator.cpu(), world.requests(&user).len());
    for _ in 0..6 {
        next().await;
    }
    let (time, cpu) = (begun.elapsed(), operator.cpu() - cpu);
    let idle = world.requests(&user).split_off(requests);
    println!("idle for {time:?}: {cpu:?} of CPU, {} requests, {} MiB", idle.len(), operator.memory());
    assert_eq!(idle, [], "an idle operator asks nothing");
    assert!(cpu < time / 100, "{cpu:?} of CPU in {time:?}");
    assert!(operator.memory() < 60, "{} MiB", operator.memory());

    let requests = world.requests(&user).len();
    world.change::<XmppServer>("server-7", json!({ "spec": { "c2s": { "podLabels": { "a": "b" } } } })).await;
    next().await;
    settled(&api, "server-7").await;
    let touched = world.requests(&user).split_off(requests);
    println!("a change to one: {} requests", touched.len());
    assert!(touched.iter().all(|(_, _, name)| name.is_empty() || name.starts_with("server-7")), "{touched:?}");
}

async fn settled(api: &Api<XmppServer>, name: &str) {
    let is = |server: &XmppServer, type_: &str, reason: &str| {
        world::condition(server, type_).is_some_and(|condition| {
            condition.observed_generation == server.metadata.generation && condition.reason == reason
        })
    };
    let is_settled = |server: Option<&XmppServer>| {
        server.is_some_and(|server| is(server, "Ready", "AllAvailable") && is(server, "Progressing", "Complete"))
    };
    let settled = kube::runtime::wait::await_condition(api.clone(), name, is_settled);
    tokio::time::timeout(Duration::from_secs(900), settled).await.unwrap_or_else(|_| panic!("{name}")).unwrap();
}
