//! Names, as a cluster's name server has them: headless Services stand for the addresses of their pods that are ready.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    pin::pin,
    process::Stdio,
};

use futures_util::StreamExt as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client, ResourceExt as _,
    api::ListParams,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::process::{Child, Command};

use super::network::NODE;

const CLUSTER: &str = "svc.cluster.local";
/// What the endpoints controller writes onto slices of Services without an address of their own.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// What stands on every slice.
const SERVICE: &str = "kubernetes.io/service-name";

/// What a pod of a namespace asks, and how.
pub(super) fn resolv_conf(namespace: &str) -> String {
    format!("nameserver {NODE}\nsearch {namespace}.{CLUSTER} {CLUSTER} cluster.local\noptions ndots:5\n")
}

/// The name server. `hosts` are names of `name.namespace` that all stand for the node itself.
pub(super) struct Names {
    server: Child,
    file: PathBuf,
    fixed: String,
}

impl Names {
    pub(super) fn start(folder: &Path, hosts: &[&str]) -> Self {
        let file = folder.join("names");
        let fixed: String = hosts.iter().map(|host| format!("{NODE} {host}.{CLUSTER}\n")).collect();
        fs::write(&file, &fixed).unwrap();
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]);
        command.args([
            "--bind-interfaces",
            "--local=/cluster.local/",
            "--local-ttl=1",
            "--pid-file=",
            "--log-facility=-",
        ]);
        command.arg(format!("--listen-address={NODE}")).arg(format!("--addn-hosts={}", file.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let server = command.spawn().expect("dnsmasq is installed (dnsmasq-base)");
        Self { server, file, fixed }
    }

    /// Follows the endpoints of a namespace, until it is dropped.
    pub(super) async fn follow(self, client: Client, namespace: String) {
        let slices = Api::<EndpointSlice>::namespaced(client, &namespace);
        let mut events = pin!(watcher(slices, watcher::Config::default()).default_backoff());
        let mut known = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => known.clear(),
                Ok(Event::InitApply(slice) | Event::Apply(slice)) => {
                    known.insert(slice.name_any(), lines(&slice, &namespace));
                }
                Ok(Event::Delete(slice)) => {
                    known.remove(&slice.name_any());
                }
                // It tries again by itself.
                Ok(Event::InitDone) | Err(_) => {}
            }
            self.publish(known.values()).await;
        }
    }

    async fn publish<'a>(&'a self, all: impl Iterator<Item = &'a String>) {
        let text: String = [&self.fixed].into_iter().chain(all).map(String::as_str).collect();
        fs::write(&self.file, text).unwrap();
        let number = self.server.id().expect("the name server runs").to_string();
        assert!(Command::new("kill").args(["-s", "HUP", &number]).status().await.unwrap().success());
    }
}

fn lines(slice: &EndpointSlice, namespace: &str) -> String {
    let mut text = String::new();
    let Some(service) = slice.labels().get(SERVICE).filter(|_| slice.labels().contains_key(HEADLESS)) else {
        return text;
    };
    for address in ready(slice) {
        writeln!(text, "{address} {service}.{namespace}.{CLUSTER}").unwrap();
    }
    text
}

/// The Services of a namespace, and where they send their clients.
#[derive(Clone, Debug)]
pub struct Endpoints(Api<EndpointSlice>);

impl Endpoints {
    pub(super) fn of(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    /// The addresses that a Service has by now.
    pub async fn ready(&self, service: &str) -> Vec<Ipv4Addr> {
        let of_service = ListParams::default().labels(&format!("{SERVICE}={service}"));
        let slices = self.0.list(&of_service).await.unwrap().items;
        slices.iter().flat_map(ready).map(|address| address.parse().unwrap()).collect()
    }
}

/// The addresses that a slice has for whoever is to be served.
fn ready(slice: &EndpointSlice) -> impl Iterator<Item = &String> {
    let endpoints = slice.endpoints.iter();
    let ready = endpoints
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
    ready.flat_map(|endpoint| &endpoint.addresses)
}
