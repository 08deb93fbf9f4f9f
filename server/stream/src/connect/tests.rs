use aws_lc_rs::digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::stream::Stream;
use super::tls::{Roots, handshake};
use crate::tls::tests::support::{Server, made, tcp_pair};
use crate::{Error, Transport};

const HEADER: &[u8] =
    b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

fn pin(der: &[u8]) -> Roots {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    Roots::Pinned(fingerprint)
}

#[tokio::test]
async fn both_ends_of_a_handshake_know_the_same_bindings() {
    let server = Server::new();
    for (roots, name) in [
        (Roots::Custom(vec![server.made.der.clone()]), "localhost"),
        (pin(&server.made.der), "localhost"),
        (pin(&server.made.der), "another.example"),
        (Roots::Any, "another.example"),
    ] {
        for direct in [false, true] {
            let (tcp, client) = tcp_pair().await;
            let acceptor = server.certificates.acceptor();
            let (accepted, shaken) =
                tokio::join!(Transport::plain(tcp).accept_tls(&acceptor), handshake(client, name, &roots, direct));
            let (transport, (stream, info)) = (accepted.unwrap(), shaken.unwrap());
            let served = transport.tls_info().unwrap();
            assert!(info.bindings.exporter.is_some() && info.bindings.end_point.is_some());
            assert_eq!(served.bindings.exporter, info.bindings.exporter);
            assert_eq!(served.bindings.end_point, info.bindings.end_point);
            assert_eq!((served.version, served.server_name.as_deref()), (info.version, Some(name)));
            assert_eq!(stream.get_ref().1.alpn_protocol().is_some(), direct);
        }
    }
}

#[tokio::test]
async fn rfc6120_13_7_2_a_certificate_that_is_not_believed_ends_it() {
    let server = Server::new();
    let other = made(&["localhost"]);
    for (roots, name) in [
        (Roots::Custom(vec![other.der.clone()]), "localhost"),
        (Roots::Custom(vec![server.made.der.clone()]), "another.example"),
        (pin(&other.der), "localhost"),
    ] {
        let (tcp, client) = tcp_pair().await;
        let acceptor = server.certificates.acceptor();
        let (accepted, shaken) =
            tokio::join!(Transport::plain(tcp).accept_tls(&acceptor), handshake(client, name, &roots, true));
        assert!(matches!(shaken, Err(Error::Tls(_))), "{roots:?} {name}");
        assert!(accepted.is_err());
    }
}

async fn connected() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stream, accepted) = tokio::join!(Stream::connect("127.0.0.1", port), listener.accept());
    (stream.unwrap(), accepted.unwrap().0)
}

#[tokio::test]
async fn elements_come_whole_whatever_the_fragments_and_then_the_end() {
    let (mut stream, mut server) = connected().await;
    let mut bytes = HEADER.to_vec();
    bytes.extend_from_slice(b"<message><body>one</body></message> <presence/></stream:stream>");
    let send = async {
        for byte in bytes.chunks(3) {
            server.write_all(byte).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        stream.frame(|_| ()).await.unwrap();
        assert_eq!(stream.element().await.unwrap().unwrap().as_raw().as_str(), "<message><body>one</body></message>");
        assert_eq!(stream.element().await.unwrap().unwrap().as_raw().as_str(), "<presence/>");
        assert!(stream.element().await.unwrap().is_none());
        assert!(stream.element().await.unwrap().is_none());
    };
    tokio::join!(send, read);
}

#[tokio::test]
async fn a_connection_that_ends_inside_the_stream_is_an_error() {
    let (mut stream, mut server) = connected().await;
    server.write_all(HEADER).await.unwrap();
    server.write_all(b"<mess").await.unwrap();
    drop(server);
    stream.frame(|_| ()).await.unwrap();
    assert!(matches!(stream.element().await, Err(Error::Ended)));
}

#[tokio::test]
async fn rfc6120_4_4_closing_waits_for_the_other_end_to_close_and_drops_what_comes_until_then() {
    let (mut stream, mut server) = connected().await;
    server.write_all(HEADER).await.unwrap();
    stream.frame(|_| ()).await.unwrap();
    let answer = async {
        let mut got = vec![0; b"</stream:stream>".len()];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, b"</stream:stream>");
        server.write_all(b"<presence/></stream:stream>").await.unwrap();
        server.read(&mut got).await.unwrap()
    };
    let (closed, rest) = tokio::join!(stream.close(), answer);
    closed.unwrap();
    assert_eq!(rest, 0);
}

#[tokio::test]
async fn rfc6120_5_4_3_3_what_is_injected_behind_proceed_is_refused() {
    let (mut stream, mut server) = connected().await;
    let mut bytes = HEADER.to_vec();
    bytes.extend_from_slice(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><message/>");
    server.write_all(&bytes).await.unwrap();
    stream.frame(|_| ()).await.unwrap();
    stream.element().await.unwrap().unwrap();
    let error = stream.start_tls("localhost", &Roots::Native, false).await.unwrap_err();
    assert!(matches!(error, Error::Unexpected(_)), "{error}");
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_an_io_error() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let error = Stream::connect("127.0.0.1", port).await.unwrap_err();
    assert!(matches!(error, Error::Io(_)) && error.is_transient());
}
