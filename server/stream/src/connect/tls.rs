//! The client's side of TLS.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, ProtocolVersion, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use starling_xmpp::negotiate::TlsInfo;
use starling_xmpp::sasl::ChannelBindings;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Error;
use crate::tls::{ALPN_CLIENT, EXPORTER_LABEL, end_point, provider};

/// Which servers' certificates are believed.
#[derive(Clone, Default)]
pub enum Roots {
    /// Those of the authorities that the system trusts.
    #[default]
    Native,
    /// Those of these authorities, in DER.
    Custom(Vec<CertificateDer<'static>>),
    /// One certificate, by the SHA-256 of its DER; neither its name nor its time are looked at.
    Pinned([u8; 32]),
    /// All. Whoever is between can read what is sent, unless the log-in binds the channel, as SCRAM's `-PLUS` does; by PLAIN
    /// nobody is logged in then.
    Any,
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("Native"),
            Self::Custom(roots) => write!(f, "Custom({} certificates)", roots.len()),
            Self::Pinned(_) => f.write_str("Pinned"),
            Self::Any => f.write_str("Any"),
        }
    }
}

/// Does the client's side of a handshake for `domain`, which the certificate must be for (RFC 6120 §13.7.2), with the ALPN
/// name of a client's stream when TLS begins the connection (`direct`, XEP-0368).
pub(super) async fn handshake(
    tcp: TcpStream,
    domain: &str,
    roots: &Roots,
    direct: bool,
) -> Result<(TlsStream<TcpStream>, TlsInfo), Error> {
    let name = ServerName::try_from(domain.to_owned())
        .map_err(|_| Error::Configuration(format!("`{domain}` cannot be the name in a certificate")))?;
    let mut config = config(roots)?;
    if direct {
        config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    }
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(from_io)?;
    let info = info(&stream, domain);
    Ok((stream, info))
}

fn config(roots: &Roots) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let verifier: Arc<dyn ServerCertVerifier> = match roots {
        Roots::Pinned(fingerprint) => Arc::new(Pinned { fingerprint: Some(*fingerprint), provider: provider() }),
        Roots::Any => Arc::new(Pinned { fingerprint: None, provider: provider() }),
        Roots::Native => webpki(rustls_native_certs::load_native_certs().certs)?,
        Roots::Custom(roots) => webpki(roots.clone())?,
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn webpki(roots: Vec<CertificateDer<'static>>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut store = RootCertStore::empty();
    // Systems hold a few that no verifier can use.
    store.add_parsable_certificates(roots);
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
        .build()
        .map_err(|error| Error::Configuration(format!("trusted authorities: {error}")))
}

fn info(stream: &TlsStream<TcpStream>, domain: &str) -> TlsInfo {
    let (_, connection) = stream.get_ref();
    let is_13 = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let exporter = is_13.then(|| connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&[])).ok()).flatten();
    let end_point = connection.peer_certificates().and_then(|chain| end_point(chain.first()?));
    TlsInfo {
        bindings: ChannelBindings { exporter, end_point },
        version: if is_13 { "TLSv1.3" } else { "TLSv1.2" },
        server_name: Some(domain.to_owned()),
    }
}

fn from_io(error: std::io::Error) -> Error {
    match error.downcast::<rustls::Error>() {
        Ok(error) => Error::Tls(error),
        Err(error) => Error::Io(error),
    }
}

#[derive(Debug)]
struct Pinned {
    /// `None`: any.
    fingerprint: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fits = |pin: &[u8; 32]| digest::digest(&digest::SHA256, end_entity).as_ref() == pin;
        if self.fingerprint.as_ref().is_none_or(fits) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
