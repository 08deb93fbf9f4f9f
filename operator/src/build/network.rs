//! NetworkPolicies: clients reach the ports for clients, the server's own pods each other, and nobody else anything but
//! metrics. Pods reach name servers, routers, Redis and the database.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use starling_settings::RedisMode;

use crate::{
    names::{self, Component},
    validate::Validated,
};

use super::{label_selector, metadata};

/// Of name servers.
const DNS: u16 = 53;

pub(super) fn policies(server: &Validated) -> Vec<NetworkPolicy> {
    if !server.spec.network_policy.enabled {
        return Vec::new();
    }
    server.settings.keys().map(|component| policy(server, *component)).collect()
}

fn policy(server: &Validated, component: Component) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(&server.owner, names::of(&server.owner.name, component), Some(component)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(label_selector(&server.owner, component)),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            // Without rules, nothing may pass. An empty list would be dropped on the way, and be missing for ever after.
            ingress: Some(ingress(server, component)).filter(|rules| !rules.is_empty()),
            egress: Some(egress(server, component)).filter(|rules| !rules.is_empty()),
        }),
    }
}

fn ingress(server: &Validated, component: Component) -> Vec<NetworkPolicyIngressRule> {
    let mut rules = Vec::new();
    if component.takes_clients() {
        rules.push(NetworkPolicyIngressRule {
            from: None,
            ports: Some(vec![tcp(names::STARTTLS), tcp(names::DIRECT_TLS)]),
        });
    }
    if component == Component::Router {
        let clients = [Component::C2s, Component::Session].map(|component| pods(server, component));
        rules.push(NetworkPolicyIngressRule { from: Some(clients.to_vec()), ports: Some(vec![tcp(names::ROUTER)]) });
    }
    if !component.is_job() {
        let from = Some(server.spec.network_policy.metrics_from.clone()).filter(|peers| !peers.is_empty());
        rules.push(NetworkPolicyIngressRule { from, ports: Some(vec![tcp(names::HTTP)]) });
    }
    rules
}

fn egress(server: &Validated, component: Component) -> Vec<NetworkPolicyEgressRule> {
    let mut rules = Vec::new();
    if component.needs_database() || component.needs_redis() {
        let udp = NetworkPolicyPort { protocol: Some("UDP".to_owned()), ..tcp(DNS) };
        rules.push(NetworkPolicyEgressRule { to: None, ports: Some(vec![udp, tcp(DNS)]) });
        let to = Some(server.spec.network_policy.backends.clone()).filter(|peers| !peers.is_empty());
        rules.push(NetworkPolicyEgressRule { to, ports: backends(server, component) });
    }
    if matches!(component, Component::C2s | Component::Session) {
        rules.push(NetworkPolicyEgressRule {
            to: Some(vec![pods(server, Component::Router)]),
            ports: Some(vec![tcp(names::ROUTER)]),
        });
    }
    rules
}

/// `None`: all, since sentinels and clusters tell of servers on ports that stand in no URL.
fn backends(server: &Validated, component: Component) -> Option<Vec<NetworkPolicyPort>> {
    let mut ports = Vec::new();
    if component.needs_redis() {
        let redis = server.redis.as_ref().map(|redis| &redis.connection)?;
        if redis.mode != RedisMode::Standalone {
            return None;
        }
        ports.extend(redis.servers.iter().filter_map(|server| server.rsplit_once(':')?.1.parse::<u16>().ok()));
    }
    if component.needs_database() {
        ports.extend(server.database.as_ref().map(|database| database.connection.port));
    }
    ports.sort_unstable();
    ports.dedup();
    Some(ports.into_iter().map(tcp).collect())
}

fn tcp(port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some("TCP".to_owned()),
        port: Some(IntOrString::Int(port.into())),
        ..NetworkPolicyPort::default()
    }
}

fn pods(server: &Validated, component: Component) -> NetworkPolicyPeer {
    let selector: LabelSelector = label_selector(&server.owner, component);
    NetworkPolicyPeer { pod_selector: Some(selector), ..NetworkPolicyPeer::default() }
}
