//! Where the routers are: a list of addresses and of names, each of which may stand for many.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use tracing::warn;

/// How often names are looked up again. A router that has come is used within this time.
pub(crate) const AGAIN: Duration = Duration::from_secs(5);

/// A router, or a name that stands for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterAddress {
    host: String,
    port: u16,
}

/// It is not `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host and a port")]
pub struct NotAnAddress;

impl FromStr for RouterAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(NotAnAddress)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| NotAnAddress)?;
        if host.is_empty() { Err(NotAnAddress) } else { Ok(Self { host: host.to_owned(), port }) }
    }
}

/// Looks names up.
pub(crate) struct Discovery {
    addresses: Vec<RouterAddress>,
    resolver: Option<TokioResolver>,
    /// What was found last.
    found: BTreeSet<SocketAddr>,
}

impl Discovery {
    /// `name_servers`: to be asked in the place of those of the system.
    pub(crate) fn new(addresses: Vec<RouterAddress>, name_servers: &[SocketAddr]) -> Self {
        let names = addresses.iter().any(|address| address.host.parse::<IpAddr>().is_err());
        Self { addresses, resolver: names.then(|| resolver(name_servers)).flatten(), found: BTreeSet::new() }
    }

    /// Whether there is anything to look up again.
    pub(crate) const fn may_change(&self) -> bool {
        self.resolver.is_some()
    }

    /// All addresses by now. What cannot be looked up keeps what it had.
    pub(crate) async fn look_up(&mut self) -> &BTreeSet<SocketAddr> {
        let mut found = BTreeSet::new();
        let mut complete = true;
        for RouterAddress { host, port } in &self.addresses {
            if let Ok(address) = host.parse::<IpAddr>() {
                found.insert(SocketAddr::new(address, *port));
                continue;
            }
            let Some(resolver) = &self.resolver else {
                complete = false;
                continue;
            };
            match resolver.lookup_ip(host.as_str()).await {
                Ok(addresses) => found.extend(addresses.iter().map(|address| SocketAddr::new(address, *port))),
                // A service without a router that is ready has no addresses either.
                Err(error) => {
                    warn!(host, %error, "Routers not found by their name; tried again");
                    complete = false;
                }
            }
        }
        if complete {
            self.found = found;
        } else {
            self.found.append(&mut found);
        }
        &self.found
    }
}

fn resolver(name_servers: &[SocketAddr]) -> Option<TokioResolver> {
    let builder = if name_servers.is_empty() {
        TokioResolver::builder_tokio()
    } else {
        let server = |address: &SocketAddr| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = address.port());
            NameServerConfig::new(address.ip(), true, connections)
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), name_servers.iter().map(server).collect());
        Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
    };
    let built = builder.and_then(|mut builder| {
        let options = builder.options_mut();
        // Routers come and go: what was found is not remembered for longer than until it is looked for again.
        options.positive_max_ttl = Some(AGAIN / 2);
        options.negative_max_ttl = Some(Duration::from_secs(1));
        options.timeout = Duration::from_secs(2);
        builder.build()
    });
    built.map_err(|error| warn!(%error, "No names of routers can be looked up")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(String, u16)> {
        text.parse::<RouterAddress>().ok().map(|address| (address.host, address.port))
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(parse("router.starling.svc:5270"), Some(("router.starling.svc".to_owned(), 5270)));
        assert_eq!(parse("10.0.0.1:1"), Some(("10.0.0.1".to_owned(), 1)));
        assert_eq!(parse("[fd00::1]:5270"), Some(("fd00::1".to_owned(), 5270)));
        for wrong in ["router", ":5270", "router:", "router:70000"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn addresses_need_no_looking_up() {
        let addresses = ["127.0.0.1:5270", "[::1]:5270"].map(|text| text.parse().unwrap()).to_vec();
        let mut discovery = Discovery::new(addresses, &[]);
        assert!(!discovery.may_change());
        let expected = ["127.0.0.1:5270", "[::1]:5270"].map(|text| text.parse().unwrap());
        assert_eq!(discovery.look_up().await, &BTreeSet::from(expected));
    }
}
