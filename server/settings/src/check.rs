//! What values cannot be, as far as it can be told without XMPP and without trying.

use std::net::{IpAddr, SocketAddr};

use crate::{Problem, Role, Settings};

/// More elements inside each other than any protocol uses; few enough for the stack where a stanza is read as a tree.
const DEPTH: u32 = 500;

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn demand(&mut self, holds: bool, key: &'static str, reason: &str) {
        if !holds {
            self.0.push(Problem { key, reason: reason.to_owned() });
        }
    }

    fn each(&mut self, key: &'static str, values: &[String], holds: impl Fn(&str) -> bool, reason: &str) {
        for value in values.iter().filter(|value| !holds(value)) {
            self.0.push(Problem { key, reason: format!("{value:?}: {reason}") });
        }
    }
}

impl Settings {
    /// All that is wrong with the values: numbers out of their range, addresses that are none. Names of XMPP (domains,
    /// accounts, mechanisms) and files are checked by those who know them.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        self.check_names(&mut problems);
        self.check_limits(&mut problems);
        self.check_cluster(&mut problems);
        problems.0
    }

    fn check_names(&self, problems: &mut Problems) {
        problems.demand(!self.data.as_os_str().is_empty(), "data", "no folder");
        problems.demand(!self.domains.is_empty(), "domains", "at least one is needed");
        problems.demand(!self.auth.mechanisms.is_empty(), "auth.mechanisms", "at least one is needed");
        let without_tls = &self.auth.mechanisms_without_tls;
        let bound = "it binds the log-in to TLS";
        problems.each("auth.mechanisms_without_tls", without_tls, |name| !name.ends_with("-PLUS"), bound);
        let is_address = |text: &str| text.parse::<SocketAddr>().is_ok();
        let reason = "not an address and a port";
        let http = Some(self.http.listen.clone()).filter(|listen| !listen.is_empty());
        problems.each("http.listen", http.as_slice(), is_address, reason);
        problems.each("c2s.starttls.listen", &self.c2s.starttls.listen, is_address, reason);
        problems.each("c2s.direct_tls.listen", &self.c2s.direct_tls.listen, is_address, reason);
        let trusted = &self.c2s.proxy_protocol.trusted;
        problems.each("c2s.proxy_protocol.trusted", trusted, is_network, "not a network, like 10.0.0.0/8");
    }

    fn check_cluster(&self, problems: &mut Problems) {
        problems.demand(!self.roles.is_empty(), "roles", "at least one is needed");
        let is_address = |text: &str| text.parse::<SocketAddr>().is_ok();
        let reason = "not an address and a port";
        problems.each("router.listen", &self.router.listen, is_address, reason);
        problems.each("link.name_servers", &self.link.name_servers, is_address, reason);
        problems.each("link.routers", &self.link.routers, is_host_and_port, "not a host and a port");
        problems.each("redis.servers", &self.redis.servers, is_host_and_port, "not a host and a port");
        let is_prefix = |text: &str| !text.is_empty() && !text.contains(['{', '}']) && text.is_ascii();
        problems.demand(is_prefix(&self.redis.key_prefix), "redis.key_prefix", "empty, not ASCII, or with braces");
        let (routes, links) = (self.roles.contains(&Role::Router), !self.link.routers.is_empty());
        let tls = &self.link.tls;
        for (key, file) in
            [("link.tls.certificate", &tls.certificate), ("link.tls.key", &tls.key), ("link.tls.ca", &tls.ca)]
        {
            let needless = !routes && !links;
            problems.demand(needless || !file.as_os_str().is_empty(), key, "needed between processes");
        }
        problems.demand(!routes || !self.router.listen.is_empty(), "router.listen", "a router has to listen somewhere");
        if links && self.roles.iter().any(|role| *role != Role::Router) {
            // What one process keeps for itself, others would not find.
            problems.demand(!self.redis.servers.is_empty(), "redis.servers", "needed with link.routers");
            problems.demand(!self.database.url.is_empty(), "database.url", "needed with link.routers");
        }
        let url = &self.database.url;
        let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
        problems.demand(url.is_empty() || is_postgres, "database.url", "not the URL of a PostgreSQL database");
        problems.demand(self.database.connections >= 4, "database.connections", "not 4 or more");
    }

    fn check_limits(&self, problems: &mut Problems) {
        problems.demand(self.threads <= 1024, "threads", "more than 1024");
        let rounds = 4_096..=10_000_000;
        problems.demand(rounds.contains(&self.auth.iterations), "auth.iterations", "not from 4096 to 10000000");
        let limits = &self.c2s.limits;
        let standard = "RFC 6120 section 13.12 asks for 10000 or more";
        problems.demand(limits.stanza_bytes >= 10_000, "c2s.limits.stanza_bytes", standard);
        problems.demand(limits.stanza_bytes <= 1 << 30, "c2s.limits.stanza_bytes", "more than 1 GiB");
        let before = limits.stanza_bytes_before_login;
        problems.demand(before >= 4_096, "c2s.limits.stanza_bytes_before_login", "not 4096 or more");
        let more = "more than c2s.limits.stanza_bytes";
        problems.demand(before <= limits.stanza_bytes, "c2s.limits.stanza_bytes_before_login", more);
        problems.demand((8..=DEPTH).contains(&limits.depth), "c2s.limits.depth", "not from 8 to 500");
        problems.demand(limits.attributes >= 16, "c2s.limits.attributes", "not 16 or more");
        for (key, value) in [
            ("auth.max_attempts", self.auth.max_attempts),
            ("c2s.limits.authentication_time", limits.authentication_time),
            ("c2s.limits.accept_burst", limits.accept_burst),
            ("c2s.limits.bytes_burst", limits.bytes_burst),
            ("c2s.limits.queue_stanzas", limits.queue_stanzas),
            ("c2s.limits.queue_bytes", limits.queue_bytes),
            ("c2s.limits.write_timeout", limits.write_timeout),
            ("session.resources_per_account", self.session.resources_per_account),
        ] {
            problems.demand(value > 0, key, "not 1 or more");
        }
    }
}

/// `name:5270`, `10.0.0.1:5270`, `[fd00::1]:5270`.
fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_plain = !host.is_empty() && !host.contains([':', '/', '@', ' ']);
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        (is_plain || is_bracketed) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// An address, alone or with the length of its network's prefix.
fn is_network(text: &str) -> bool {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= longest))
}
