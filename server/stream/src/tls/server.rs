use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::tls13::OkmBlock;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{KeyLog, ProtocolVersion, ServerConfig};
use starling_xmpp::negotiate::TlsInfo;
use starling_xmpp::sasl::ChannelBindings;

use super::certificates::Set;
use super::{ALPN_CLIENT, bindings, provider};
use crate::Error;

/// How many tickets a client gets to resume a TLS 1.3 session with: one for its next connection. They hold the session, so
/// that the server need not.
const TICKETS: usize = 1;

/// What makes the server's side of TLS out of a connection, with the certificates of one moment. Cheap to clone.
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
    set: Arc<Set>,
}

/// A connection whose handshake is under way.
pub(crate) struct Handshake {
    pub(crate) connection: UnbufferedServerConnection,
    seen: Arc<Seen>,
}

impl TlsAcceptor {
    /// New keys for tickets each time: a session is not resumed under another certificate, of which the client could
    /// not know the `tls-server-end-point`.
    pub(super) fn new(set: Arc<Set>) -> Result<Self, Error> {
        let seen = Arc::new(Seen { set: Arc::clone(&set), values: Mutex::default() });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(seen);
        config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = TICKETS;
        Ok(Self { config: Arc::new(config), set })
    }

    pub(super) fn set(&self) -> &Set {
        &self.set
    }

    /// The configuration of one connection: it must tell what it saw to nobody else. It is freed after the handshake.
    pub(crate) fn handshake(&self) -> Result<Handshake, Error> {
        let seen = Arc::new(Seen { set: Arc::clone(&self.set), values: Mutex::default() });
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::clone(&seen) as Arc<dyn ResolvesServerCert>;
        config.key_log = Arc::clone(&seen) as Arc<dyn KeyLog>;
        Ok(Handshake { connection: UnbufferedServerConnection::new(Arc::new(config))?, seen })
    }
}

impl Handshake {
    /// The finished connection, and what is known about it.
    pub(crate) fn finish(self) -> (UnbufferedServerConnection, TlsInfo) {
        let values = std::mem::take(&mut *self.seen.values());
        let exporter = match (self.connection.negotiated_cipher_suite(), &values.exporter_secret) {
            (Some(suite), Some(secret)) => bindings::exporter(suite, secret),
            _ => None,
        };
        let version = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let end_point = values.end_point.map(|hash| hash.to_vec());
        let bindings = ChannelBindings { exporter, end_point };
        (self.connection, TlsInfo { bindings, version, server_name: values.server_name })
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor").field("set", &self.set).finish_non_exhaustive()
    }
}

/// What a handshake comes by that rustls' unbuffered connection does not tell afterwards: it is the certificates' chooser
/// and the key log of that one connection.
struct Seen {
    set: Arc<Set>,
    values: Mutex<Values>,
}

#[derive(Default)]
struct Values {
    server_name: Option<String>,
    end_point: Option<Arc<[u8]>>,
    exporter_secret: Option<OkmBlock>,
}

impl Seen {
    fn values(&self) -> std::sync::MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says nothing of what was seen: there is a secret in it.
impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Seen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let pair = self.set.choose(name.as_deref(), hello.signature_schemes())?;
        let mut values = self.values();
        values.end_point.clone_from(&pair.end_point);
        values.server_name = name;
        Some(Arc::clone(&pair.certified))
    }
}

const EXPORTER_SECRET: &str = "EXPORTER_SECRET";

impl KeyLog for Seen {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == EXPORTER_SECRET && secret.len() <= OkmBlock::MAX_LEN {
            self.values().exporter_secret = Some(OkmBlock::new(secret));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET
    }
}
