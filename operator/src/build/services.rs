//! Services: for clients, for finding routers, for finding metrics.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    names::{self, Component},
    validate::Validated,
};

use super::metadata;

pub(super) fn all(server: &Validated) -> Vec<Service> {
    let mut services = vec![clients(server), metrics(server)];
    if !server.is_standalone() {
        services.push(routers(server));
    }
    services
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number.into(),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

fn clients(server: &Validated) -> Service {
    let (owner, service) = (&server.owner, &server.spec.c2s.service);
    let component = if server.is_standalone() { Component::Standalone } else { Component::C2s };
    let mut metadata = metadata(owner, names::c2s_service(&owner.name), Some(component));
    metadata.annotations = Some(service.annotations.clone()).filter(|annotations| !annotations.is_empty());
    let families = service.ip_families.as_ref();
    let families = families.map(|families| families.iter().map(|family| family.as_str().to_owned()).collect());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(service.type_.as_str().to_owned()),
            selector: Some(names::selector(&owner.name, component)),
            ports: Some(vec![port("starttls", names::STARTTLS), port("direct-tls", names::DIRECT_TLS)]),
            load_balancer_class: service.load_balancer_class.clone(),
            load_balancer_source_ranges: service.load_balancer_source_ranges.clone(),
            external_traffic_policy: service.external_traffic_policy.map(|policy| policy.as_str().to_owned()),
            ip_families: families,
            ip_family_policy: service.ip_family_policy.map(|policy| policy.as_str().to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Its name stands for the addresses of all routers that are ready.
fn routers(server: &Validated) -> Service {
    headless(
        server,
        names::of(&server.owner.name, Component::Router),
        Some(Component::Router),
        port("router", names::ROUTER),
    )
}

fn metrics(server: &Validated) -> Service {
    headless(server, names::metrics_service(&server.owner.name), None, port("http", names::HTTP))
}

fn headless(server: &Validated, name: String, component: Option<Component>, port: ServicePort) -> Service {
    let owner = &server.owner;
    let selector: BTreeMap<_, _> = match component {
        Some(component) => names::selector(&owner.name, component),
        None => names::instance_selector(&owner.name),
    };
    Service {
        metadata: metadata(owner, name, component),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(selector),
            ports: Some(vec![port]),
            ip_family_policy: Some("PreferDualStack".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
