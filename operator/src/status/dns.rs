//! The records to create in the domains' DNS, as zone files have them.
//!
//! ```text
//!   _xmpp-client._tcp.example.com    SRV   0 5 5222 xmpp.example.com.        STARTTLS (RFC 6120 §3.2.1)
//!   _xmpps-client._tcp.example.com   SRV   0 5 5223 xmpp.example.com.        direct TLS (XEP-0368)
//!   xmpp.example.com                 A     192.0.2.1
//! ```
//!
//! A load balancer that has a name instead of addresses is named by the SRV records themselves: they may not point to an
//! alias (RFC 2782).

use std::net::IpAddr;

use crate::{
    crd::{AddressType, DnsRecord, RecordType, ServiceType, XmppServerSpec},
    inventory::Clients,
    names,
};

/// As many as the schema takes.
const MOST: usize = 512;

pub(super) fn records(spec: &XmppServerSpec, clients: Option<&Clients>) -> Vec<DnsRecord> {
    let service = &spec.c2s.service;
    let Some(clients) = clients.filter(|_| service.type_ != ServiceType::ClusterIp) else { return Vec::new() };
    let port = |name: &str, number: u16| match service.type_ {
        // Which nodes have it, only those know who set them up.
        ServiceType::NodePort => clients.node_ports.iter().find(|(of, _)| of == name).map(|(_, port)| *port),
        _ => Some(number.into()),
    };
    let ports = [("_xmpp-client", "starttls", names::STARTTLS), ("_xmpps-client", "direct-tls", names::DIRECT_TLS)];
    let host = clients.addresses.iter().find(|address| address.type_ == AddressType::Hostname);
    let mut records = Vec::new();
    for domain in &spec.domains {
        let own = format!("xmpp.{}", domain.name);
        let target = host.map_or(own.as_str(), |host| host.value.trim_end_matches('.'));
        for (service, name, number) in ports {
            let Some(port) = port(name, number) else { continue };
            records.push(DnsRecord {
                name: format!("{service}._tcp.{}", domain.name),
                type_: RecordType::Srv,
                value: format!("0 5 {port} {target}."),
            });
        }
        for address in
            clients.addresses.iter().filter(|address| host.is_none() && address.type_ == AddressType::IpAddress)
        {
            let type_ = match address.value.parse() {
                Ok(IpAddr::V4(_)) => RecordType::A,
                Ok(IpAddr::V6(_)) => RecordType::Aaaa,
                Err(_) => continue,
            };
            records.push(DnsRecord { name: own.clone(), type_, value: address.value.clone() });
        }
    }
    records.truncate(MOST);
    records
}
