//! Certificates, a server's and a client's end for the tests of `tls` and `transport`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::{CertificateFiles, Certificates, TlsAcceptor, provider};
use crate::{Error, Transport};

/// A self-signed certificate and its key, in PEM.
pub(crate) struct Made {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) der: CertificateDer<'static>,
}

pub(crate) fn made(names: &[&str]) -> Made {
    made_with(names, |_| {})
}

pub(crate) fn made_with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Made {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Made { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
}

impl Made {
    pub(crate) fn write(&self, folder: &Path) -> CertificateFiles {
        let files = CertificateFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
        fs::create_dir_all(folder).unwrap();
        fs::write(&files.certificate, &self.certificate).unwrap();
        fs::write(&files.key, &self.key).unwrap();
        files
    }
}

/// One certificate for `localhost`, served.
pub(crate) struct Server {
    pub(crate) certificates: Certificates,
    pub(crate) made: Made,
    pub(crate) folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = made(&["localhost"]);
        let certificates = Certificates::open(vec![made.write(folder.path())]).unwrap();
        Self { certificates, made, folder }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&[&self.made])
    }

    /// Both ends after the handshake.
    pub(crate) async fn connected(&self, client: &Client) -> (Transport, TlsStream<TcpStream>) {
        let (server, client) = connect(&self.certificates.acceptor(), client, "localhost").await;
        (server.unwrap(), client.unwrap())
    }
}

/// A client that trusts some certificates.
#[derive(Clone)]
pub(crate) struct Client(pub(crate) ClientConfig);

impl Client {
    pub(crate) fn new(trusted: &[&Made]) -> Self {
        Self::with_versions(trusted, rustls::ALL_VERSIONS)
    }

    pub(crate) fn with_versions(trusted: &[&Made], versions: &[&'static SupportedProtocolVersion]) -> Self {
        let mut roots = RootCertStore::empty();
        for made in trusted {
            roots.add(made.der.clone()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(config)
    }

    pub(crate) fn alpn(mut self, names: &[&[u8]]) -> Self {
        self.0.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
        self
    }
}

/// A loopback connection: the server's end, the client's end.
pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (accepted.unwrap().0, client.unwrap())
}

pub(crate) async fn connect(
    acceptor: &TlsAcceptor,
    client: &Client,
    name: &str,
) -> (Result<Transport, Error>, std::io::Result<TlsStream<TcpStream>>) {
    let (server, tcp) = tcp_pair().await;
    let connector = TlsConnector::from(Arc::new(client.0.clone()));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio::join!(Transport::plain(server).accept_tls(acceptor), connector.connect(name, tcp))
}

/// Believes every certificate; signatures are checked.
#[derive(Debug)]
struct AnyName {
    ed25519: bool,
}

impl Client {
    pub(crate) fn trusting_any_name(mut self) -> Self {
        self.0.dangerous().set_certificate_verifier(Arc::new(AnyName { ed25519: true }));
        self
    }

    pub(crate) fn without_ed25519(mut self) -> Self {
        self.0.dangerous().set_certificate_verifier(Arc::new(AnyName { ed25519: false }));
        self
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = provider().signature_verification_algorithms.supported_schemes();
        schemes.retain(|scheme| self.ed25519 || *scheme != SignatureScheme::ED25519);
        schemes
    }
}
