//! TLS on the server's side: certificates by SNI that are read again when their files change, and connections on rustls'
//! unbuffered API. TLS 1.2 and 1.3, aws-lc-rs. A client that sends ALPN must offer `xmpp-client` (XEP-0368).

mod bindings;
mod certificates;
mod pair;
mod reload;
mod server;
pub(crate) mod unbuffered;

pub(crate) use bindings::EXPORTER_LABEL;
pub use bindings::end_point;
pub use certificates::{CertificateStatus, Certificates, Status};
pub use pair::CertificateFiles;
pub(crate) use server::Handshake;
pub use server::TlsAcceptor;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The ALPN name of a client's stream (XEP-0368 §4).
pub const ALPN_CLIENT: &[u8] = b"xmpp-client";

/// The only crypto provider in the program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
pub(crate) mod tests;
