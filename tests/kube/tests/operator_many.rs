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
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use starling_kube_tests::{ControlPlane, Operator, Options, until};
use starling_operator::crd::{XmppServer, definition};

use crate::world::World;

const LEASE: &str = "starling-operator";
/// For all of them: as long as the controllers need for some thousands of pods.
const SETTLED: Duration = Duration::from_secs(1800);

/// Resident memory that is its own, in MiB: with the program's text and without it.
fn memory(operator: &Operator) -> [u64; 2] {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", operator.id())).unwrap();
    ["Pss:", "Pss_Anon:"].map(|name| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    })
}

/// CPU time so far.
fn cpu(operator: &Operator) -> Duration {
    let text = fs::read_to_string(format!("/proc/{}/stat", operator.id())).unwrap();
    let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = [11, 12].into_iter().map(|at: usize| fields[at].parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

struct Measured {
    world: World,
    user: String,
    operator: Operator,
}

impl Measured {
    async fn start(world: World) -> Self {
        let user = format!("operator-of-{}", world.namespace);
        let operator = Self::operator(&world, &user);
        Self { world, user, operator }
    }

    fn operator(world: &World, user: &str) -> Operator {
        let access = world.plane.user(user, &["system:masters"]);
        Operator::start(&access, &world.namespace, "measured", &["run", "--log=warn", "--server-image", world::OLD])
    }

    /// Waits for a number of renewals of the Lease: a clock, for an operator that does nothing else.
    async fn renewals(&self, number: usize) {
        let renewed = |lease: Option<&Lease>| lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone());
        let leases = self.world.api::<Lease>();
        for _ in 0..number {
            let last = renewed(leases.get_opt(LEASE).await.unwrap().as_ref());
            until(&leases, LEASE, |lease| renewed(lease) != last).await;
        }
    }

    /// Waits until nothing was asked for between two renewals.
    async fn idle(&self) {
        loop {
            let before = self.world.requests(&self.user).len();
            self.renewals(1).await;
            if self.world.requests(&self.user).len() == before {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: it is a measurement"]
async fn five_hundred_servers_settle_and_then_cost_next_to_nothing() {
    let servers: usize = std::env::var("STARLING_SERVERS").map_or(500, |count| count.parse().unwrap());
    let controllers = ["deployment", "replicaset", "job", "endpoint", "service-endpoint"];
    let fast = ["--kube-api-qps=1000", "--kube-api-burst=2000"].map(str::to_owned).into_iter();
    let controller_manager = fast.chain(controllers.map(|of| format!("--concurrent-{of}-syncs=20"))).collect();
    let options = Options { crds: vec![definition()], controller_manager, ..Options::default() };
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start(options).await));
    let begun = Instant::now();
    let mut measured = Measured::start(World::without_operator(plane).await).await;
    measured.renewals(1).await;
    println!("leads after {:?}, {:?} MiB", begun.elapsed(), memory(&measured.operator));

    let api = measured.world.api::<XmppServer>();
    let begun = Instant::now();
    let create = |number: usize| {
        let world = &measured.world;
        async move { drop(world.server(&format!("server-{number}"), json!({})).await) }
    };
    stream::iter(0..servers).for_each_concurrent(8, create).await;
    println!("{servers} servers made after {:?}", begun.elapsed());
    for number in 0..servers {
        settled(&api, &format!("server-{number}")).await;
    }
    let (time, operator) = (begun.elapsed(), &measured.operator);
    println!("settled after {time:?}: {:?} of CPU, {:?} MiB", cpu(operator), memory(operator));
    let requests = measured.world.requests(&measured.user).len();
    println!("{requests} requests, {} pods", measured.world.pods().await.len());

    // One that finds all of them there: what it looks at before it does nothing.
    assert!(measured.operator.end().await.success());
    let begun = Instant::now();
    measured.operator = Measured::operator(&measured.world, &measured.user);
    measured.idle().await;
    let operator = &measured.operator;
    // One that grew with them, and one that finds them all at once: both are to be small.
    println!("a new one is idle after {:?}: {:?} of CPU, {:?} MiB", begun.elapsed(), cpu(operator), memory(operator));

    let (begun, spent, requests) = (Instant::now(), cpu(operator), measured.world.requests(&measured.user).len());
    measured.renewals(6).await;
    let (time, spent) = (begun.elapsed(), cpu(operator) - spent);
    let idle = measured.world.requests(&measured.user).split_off(requests);
    println!("idle for {time:?}: {spent:?} of CPU, {} requests, {:?} MiB", idle.len(), memory(operator));
    assert_eq!(idle, [], "an idle operator asks nothing");
    assert!(spent < time / 100, "{spent:?} of CPU in {time:?}");
    assert!(memory(operator)[0] < 60, "{:?} MiB", memory(operator));

    let requests = measured.world.requests(&measured.user).len();
    let change = json!({ "spec": { "c2s": { "podLabels": { "a": "b" } } } });
    measured.world.change::<XmppServer>("server-7", change).await;
    settled(&api, "server-7").await;
    measured.idle().await;
    let touched = measured.world.requests(&measured.user).split_off(requests);
    println!("a change to one: {} requests", touched.len());
    // What it refers to is read again; all else is its own.
    let is_its_own = |name: &str| name == "server-7" || name.starts_with("server-7-") || name.starts_with("server-7.");
    let others = touched.iter().filter(|(verb, _, name)| verb != "get" && !name.is_empty() && !is_its_own(name));
    let others: Vec<_> = others.collect();
    assert!(others.is_empty(), "{others:?}");
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
    tokio::time::timeout(SETTLED, settled).await.unwrap_or_else(|_| panic!("{name}")).unwrap();
}
