use std::process::Stdio;
use std::time::Duration;

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::support::{Client, Server, connect, made, tcp_pair};
use crate::tls::{EXPORTER_LABEL, end_point};
use crate::{Error, Transport};

/// What the client exports, by rustls' own exporter.
fn exported(client: &TlsStream<TcpStream>) -> [u8; 32] {
    client.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(&[])).unwrap()
}

#[tokio::test]
async fn rfc9266_tls13_both_ends_export_the_same_with_every_cipher_suite() {
    let server = Server::new();
    for suite in crate::tls::provider().cipher_suites.iter().filter(|suite| suite.tls13().is_some()) {
        let mut client = server.client();
        let mut provider = (*crate::tls::provider()).clone();
        provider.cipher_suites = vec![*suite];
        let mut config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        std::mem::swap(&mut config, &mut client.0);
        let client = client.trusting_any_name();
        let (transport, stream) = server.connected(&client).await;
        let info = transport.tls_info().unwrap();
        assert_eq!(info.version, "TLSv1.3");
        assert_eq!(info.server_name.as_deref(), Some("localhost"));
        assert_eq!(info.bindings.exporter, Some(exported(&stream)), "{suite:?}");
        assert_eq!(info.bindings.end_point, end_point(&server.made.der), "{suite:?}");
    }
}

#[tokio::test]
async fn rfc9266_4_2_tls12_has_no_exporter_but_an_end_point() {
    let server = Server::new();
    let client = Client::with_versions(&[&server.made], &[&TLS12]);
    let (mut transport, mut stream) = server.connected(&client).await;
    let info = transport.tls_info().unwrap().clone();
    assert_eq!(info.version, "TLSv1.2");
    assert_eq!(info.bindings.exporter, None);
    assert_eq!(info.bindings.end_point, end_point(&server.made.der));
    let mut buf = [0; 64];
    stream.write_all(b"ping").await.unwrap();
    assert_eq!(transport.read(&mut buf).await.unwrap(), 4);
    transport.write_all(b"pong").await.unwrap();
    stream.read_exact(&mut buf[..4]).await.unwrap();
    assert_eq!(&buf[..4], b"pong");
}

#[test]
fn rfc5929_4_1_the_end_point_is_hashed_as_the_signature_is() {
    for (algorithm, length) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)),
        (&rcgen::PKCS_ECDSA_P521_SHA512, Some(64)),
        (&rcgen::PKCS_ED25519, None),
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        assert_eq!(end_point(certificate.der()).map(|hash| hash.len()), length, "{algorithm:?}");
    }
    assert_eq!(end_point(b"garbage"), None);
}

#[tokio::test]
async fn a_session_is_resumed_by_ticket_with_bindings_of_its_own_until_the_certificate_changes() {
    let server = Server::new();
    for version in [&TLS13, &TLS12] {
        let client = Client::with_versions(&[&server.made], &[version]);
        let mut exporters = Vec::new();
        for (round, expected) in [HandshakeKind::Full, HandshakeKind::Resumed].into_iter().enumerate() {
            let (mut transport, mut stream) = server.connected(&client).await;
            // The ticket comes before the first data.
            transport.write_all(b"x").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected), "{version:?} {round}");
            let info = transport.tls_info().unwrap();
            assert_eq!(info.bindings.end_point, end_point(&server.made.der), "{version:?} {round}");
            assert_eq!(info.server_name.as_deref(), Some("localhost"));
            if version == &TLS13 {
                assert_eq!(info.bindings.exporter, Some(exported(&stream)));
                exporters.push(info.bindings.exporter);
            }
        }
        exporters.dedup();
        assert_ne!(exporters.len(), 1);
    }
    let other = made(&["localhost"]);
    let client = Client::new(&[&server.made, &other]);
    for expected in [HandshakeKind::Full, HandshakeKind::Full] {
        let (mut transport, mut stream) = server.connected(&client).await;
        transport.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        other.write(server.folder.path());
        assert!(server.certificates.reload().unwrap().is_good());
    }
}

#[tokio::test]
async fn xep0368_4_alpn_must_be_ours_when_it_is_sent() {
    let server = Server::new();
    /// What a client offers, and what is agreed on; `Err` where that is nothing.
    type Row = (&'static [&'static [u8]], Result<Option<&'static [u8]>, ()>);
    let table: [Row; 5] = [
        (&[], Ok(None)),
        (&[b"xmpp-client"], Ok(Some(b"xmpp-client"))),
        (&[b"h2", b"xmpp-client"], Ok(Some(b"xmpp-client"))),
        (&[b"h2", b"http/1.1"], Err(())),
        (&[b"xmpp-server"], Err(())),
    ];
    for (names, expected) in table {
        let client = server.client().alpn(names);
        let (transport, stream) = connect(&server.certificates.acceptor(), &client, "localhost").await;
        match expected {
            Ok(name) => {
                transport.unwrap();
                assert_eq!(stream.unwrap().get_ref().1.alpn_protocol(), name);
            }
            Err(()) => {
                assert!(matches!(transport, Err(Error::Tls(rustls::Error::NoApplicationProtocol))));
                assert!(stream.unwrap_err().to_string().contains("NoApplicationProtocol"));
            }
        }
    }
}

/// A judge that is not rustls.
#[tokio::test]
async fn openssl_agrees_on_the_exporter_and_the_data() {
    let server = Server::new();
    for (option, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut openssl = tokio::process::Command::new("openssl")
            .args(["s_client", "-connect", &listener.local_addr().unwrap().to_string(), option])
            .args(["-servername", "localhost", "-alpn", "xmpp-client", "-verify_return_error"])
            .args(["-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32"])
            .arg("-CAfile")
            .arg(server.folder.path().join("tls.crt"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the package openssl is needed for this test: apt-get install openssl");
        let (tcp, _) = listener.accept().await.unwrap();
        let mut transport = Transport::plain(tcp).accept_tls(&server.certificates.acceptor()).await.unwrap();
        let info = transport.tls_info().unwrap().clone();
        assert_eq!(info.version, version);
        openssl.stdin.as_mut().unwrap().write_all(b"ping\n").await.unwrap();
        let mut buf = [0; 64];
        assert_eq!(transport.read(&mut buf).await.unwrap(), 5);
        transport.write_all(b"\nall good\n").await.unwrap();
        transport.shutdown().await.unwrap();
        let mut lines = BufReader::new(openssl.stdout.take().unwrap()).lines();
        let (mut exported, mut heard) = (None, false);
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(hex) = line.trim().strip_prefix("Keying material: ") {
                exported = Some(hex.to_ascii_lowercase());
            }
            heard |= line == "all good";
        }
        assert!(heard);
        assert_eq!(info.bindings.exporter.is_some(), version == "TLSv1.3");
        if let Some(exporter) = info.bindings.exporter {
            let hex: String = exporter.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(exported, Some(hex));
        }
        drop(openssl.stdin.take());
    }
}

async fn refused(bytes: &[u8], hang_up: bool) -> (Error, Vec<u8>) {
    let server = Server::new();
    let (tcp, mut client) = tcp_pair().await;
    let acceptor = server.certificates.acceptor();
    let accept = Transport::plain(tcp).accept_tls(&acceptor);
    let send = async {
        client.write_all(bytes).await.unwrap();
        if hang_up {
            client.shutdown().await.unwrap();
        }
    };
    let (error, ()) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(accept, send) }).await.unwrap();
    let mut answer = Vec::new();
    // What was sent too much may reset the connection behind the alert.
    drop(client.read_to_end(&mut answer).await);
    (error.unwrap_err(), answer)
}

#[tokio::test]
async fn garbage_instead_of_a_handshake_is_refused_with_an_alert() {
    let table: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"<?xml version='1.0'?><stream:stream to='localhost'>",
        &[0; 64],
        &[22, 3, 1, 0xff, 0xff, 1, 0, 0, 0, 0],
        // Application data, an alert and a key change before any hello.
        &[23, 3, 3, 0, 1, 0],
        &[20, 3, 3, 0, 1, 1, 20, 3, 3, 0, 1, 1],
        // A hello of nothing.
        &[22, 3, 1, 0, 4, 1, 0, 0, 0],
    ];
    for bytes in table {
        let (error, answer) = refused(bytes, false).await;
        assert!(matches!(error, Error::Tls(_)), "{:?}: {error}", &bytes[..8]);
        assert_eq!(error.blame(), crate::Blame::Peer);
        // An alert record, fatal.
        assert_eq!(answer.first(), Some(&21), "{:?}: {error}", &bytes[..8]);
        assert_eq!(answer.get(5), Some(&2));
    }
}

#[tokio::test]
async fn a_handshake_message_without_end_is_refused_early() {
    // Announced as 16 MiB, in records of one byte; as 60 KiB.
    for length in [[255, 255, 255], [0, 0xf0, 0]] {
        let mut bytes = Vec::new();
        for byte in [1].into_iter().chain(length).chain(std::iter::repeat_n(0, 20_000)) {
            bytes.extend([22, 3, 3, 0, 1, byte]);
        }
        let (error, _) = refused(&bytes, false).await;
        assert!(matches!(error, Error::Tls(_)), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_handshake_is_an_io_error() {
    for bytes in [&[][..], &[22], &[22, 3, 1, 2, 0, 1]] {
        let (error, _) = refused(bytes, true).await;
        assert!(matches!(error, Error::Io(_)), "{error}");
    }
}

#[tokio::test]
async fn a_hello_in_the_smallest_records_and_single_bytes_is_understood() {
    let server = Server::new();
    for version in [&TLS13, &TLS12] {
        let mut client = Client::with_versions(&[&server.made], &[version]);
        client.0.max_fragment_size = Some(32);
        let (tcp, relay_out) = tcp_pair().await;
        let (relay_in, client_tcp) = tcp_pair().await;
        let relay = tokio::spawn(async move {
            relay_out.set_nodelay(true).unwrap();
            let (mut from_client, mut to_client) = relay_in.into_split();
            let (mut from_server, mut to_server) = relay_out.into_split();
            let forward = async {
                let mut byte = [0];
                while from_client.read(&mut byte).await.unwrap_or(0) == 1 {
                    to_server.write_all(&byte).await.unwrap();
                }
                drop(to_server);
            };
            let back = async { drop(tokio::io::copy(&mut from_server, &mut to_client).await) };
            tokio::join!(forward, back);
        });
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client.0));
        let acceptor = server.certificates.acceptor();
        let (transport, stream) = tokio::join!(
            Transport::plain(tcp).accept_tls(&acceptor),
            connector.connect("localhost".try_into().unwrap(), client_tcp)
        );
        let (mut transport, mut stream) = (transport.unwrap(), stream.unwrap());
        let sent: Vec<u8> = (0..5000_u32).map(|n| (n % 251) as u8).collect();
        let (write, read) = tokio::join!(async { stream.write_all(&sent).await.and(stream.shutdown().await) }, async {
            let mut read = Vec::new();
            let mut buf = [0; 100];
            loop {
                match transport.read(&mut buf).await.unwrap() {
                    0 => break read,
                    length => read.extend_from_slice(&buf[..length]),
                }
            }
        });
        write.unwrap();
        assert!(read == sent);
        drop((transport, stream));
        relay.await.unwrap();
    }
}
