//! Mutual TLS between the processes of a cluster: each shows a certificate, and believes those of the same authorities.
//! Used by `link`, which connects, and by `router`, which accepts.
//!
//! ```text
//!   certificate, key, authorities (files) ──► MutualTls ──┬─► acceptor():  asks clients for a certificate of ours
//!        changed? read again, else the old one stays      └─► connector(): wants the router's name in its certificate
//! ```
//!
//! Files are looked at whenever a connection begins, so that certificates rotate without a restart and without a dropped
//! stream. While authorities change, the file holds the old and the new. TLS 1.3 alone: both ends are ours.

mod files;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tracing::{info, warn};

pub use self::files::{Error, Files};
use self::files::{Read, Stamp};

/// HTTP/2, which gRPC is spoken over.
const ALPN: &[u8] = b"h2";

/// Both ends' configurations, as of the files.
#[derive(Debug)]
pub struct MutualTls {
    files: Files,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    stamp: Stamp,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl MutualTls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them cannot be read, or they do not fit each other.
    pub fn open(files: Files) -> Result<Self, Error> {
        let held = Mutex::new(Held::read(&files)?);
        Ok(Self { files, held })
    }

    /// For a connection that comes in.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current().server))
    }

    /// For a connection that goes out.
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.current().client))
    }

    /// Locked while a changed file is read: once per change, and never on the path of a message.
    fn current(&self) -> MutexGuard<'_, Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.files.stamp();
        if stamp != held.stamp {
            match Held::read(&self.files) {
                Ok(fresh) => {
                    info!("Certificates between processes read again");
                    *held = fresh;
                }
                Err(error) => {
                    warn!(%error, "Certificates between processes cannot be used as they are now; the old ones stay");
                    // Not tried again before something changes.
                    held.stamp = stamp;
                }
            }
        }
        held
    }
}

impl Held {
    fn read(files: &Files) -> Result<Self, Error> {
        // Taken first: what changes while it is read is read again the next time.
        let stamp = files.stamp();
        let Read { certificates, key, authorities } = files.read()?;
        let provider: Arc<CryptoProvider> = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|source| files.wrong_authority(source))?;
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let verifier = verifier.build().map_err(|error| files.no_authority(&error))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|source| files.mismatch(source))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates.clone(), key.clone_key())
            .map_err(|source| files.mismatch(source))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|source| files.mismatch(source))?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates, key)
            .map_err(|source| files.mismatch(source))?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { stamp, server: Arc::new(server), client: Arc::new(client) })
    }
}

#[cfg(test)]
mod tests;
