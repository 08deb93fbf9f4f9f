//! The settings of `c2s`, checked and in the form in which it uses them. The daemon makes them from the file.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use starling_stream::Networks;
use starling_xmpp::negotiate::AcceptPolicy;

/// How clients connect.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen for streams that begin in the clear (RFC 6120 §5).
    pub starttls: Vec<SocketAddr>,
    /// Where to listen for TLS from the first byte (XEP-0368). Needs certificates.
    pub direct_tls: Vec<SocketAddr>,
    /// What else.
    pub rules: Rules,
}

/// What can be changed while clients are connected: see [`C2s::set_rules`](crate::C2s::set_rules).
#[derive(Clone, Debug)]
pub struct Rules {
    /// Who may say by a PROXY header whose connection it forwards. Nobody else's header is looked at.
    pub trusted_proxies: Networks,
    /// What negotiation offers and demands.
    pub policy: Arc<AcceptPolicy>,
    /// The bounds.
    pub limits: Limits,
}

/// What clients may use. `None`: no limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the accepted connection to the bound resource; then `connection-timeout`.
    pub authentication_time: Duration,
    /// The largest element before log-in, in bytes.
    pub stanza_bytes_before_log_in: usize,
    /// Of stanzas after log-in.
    pub stanza: starling_xml::Limits,
    /// Connections of this instance; one more is told `resource-constraint`.
    pub connections: Option<u32>,
    /// Connections from one IPv4 address or IPv6 /64; one more is told `policy-violation`.
    pub connections_per_address: Option<u32>,
    /// Connections taken per second; more wait in the listener's backlog. (rate, burst)
    pub accept_rate: Option<(f64, f64)>,
    /// Failed log-ins per minute from one address, after which its connections are told `policy-violation`.
    pub failed_log_ins_per_address: Option<u32>,
    /// Failed log-ins per minute for one account, after which log-ins to it get `temporary-auth-failure`.
    pub failed_log_ins_per_account: Option<u32>,
    /// Attempts per hour from one address to make an account, if the policy lets any be made; one more is told
    /// `resource-constraint` (XEP-0077).
    pub registrations_per_address: Option<u32>,
    /// Bytes per second that are read from one client; it is slowed down to that. (rate, burst)
    pub bytes_rate: Option<(f64, f64)>,
    /// How long a client may take none of what is written to it; then its connection is cut.
    pub write_timeout: Duration,
    /// Seconds that a session waits for its client after the connection was cut (XEP-0198 §5); 0: sessions cannot be
    /// resumed.
    pub resume_seconds: u32,
    /// How long a client has to take what still waits for it when its session ends.
    pub closing_time: Duration,
}
