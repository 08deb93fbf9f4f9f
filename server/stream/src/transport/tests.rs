use std::io::{self, IoSlice, Read as _};
use std::task::Poll;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Inner, READ_BYTES, Transport};
use crate::tls::tests::support::{Client, Server, tcp_pair};
use crate::tls::unbuffered::{MAX_SEALED, MAX_WIRE};

/// The memory that a connection's buffers own, in bytes.
fn held(transport: &Transport) -> usize {
    match &transport.0 {
        Inner::Plain(_) => 0,
        Inner::Tls(stream) => stream.held(),
    }
}

async fn both_versions() -> Vec<(Transport, tokio_rustls::client::TlsStream<tokio::net::TcpStream>)> {
    let server = Server::new();
    let mut all = Vec::new();
    for version in [&TLS13, &TLS12] {
        all.push(server.connected(&Client::with_versions(&[&server.made], &[version])).await);
    }
    all
}

#[test]
fn the_plaintext_of_one_read_fits_into_what_callers_give() {
    const { assert!(READ_BYTES >= MAX_WIRE) }
}

#[tokio::test]
async fn an_idle_connection_owns_no_buffer() {
    for (mut transport, mut client) in both_versions().await {
        assert_eq!(held(&transport), 0);
        let mut buf = vec![0; READ_BYTES];
        for size in [1, 1000, 16_384, 100_000] {
            let data = vec![7; size];
            let receive = async {
                let mut got = 0;
                while got < size {
                    got += transport.read(&mut buf).await.unwrap();
                }
                transport.write_all(&data).await.unwrap();
            };
            let send = async {
                client.write_all(&data).await.unwrap();
                let mut back = vec![0; size];
                client.read_exact(&mut back).await.unwrap();
                assert!(back == data);
            };
            tokio::join!(receive, send);
            assert_eq!(held(&transport), 0, "{size}");
        }
    }
}

#[tokio::test]
async fn what_a_small_buffer_cannot_take_is_given_by_the_next_reads() {
    for (mut transport, mut client) in both_versions().await {
        let sent: Vec<u8> = (0..40_000_u32).map(|n| (n % 253) as u8).collect();
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut read = Vec::new();
        let mut buf = [0; 700];
        loop {
            match transport.read(&mut buf).await.unwrap() {
                0 => break,
                length => read.extend_from_slice(&buf[..length]),
            }
        }
        assert!(read == sent);
        assert_eq!(held(&transport), 0);
    }
}

#[tokio::test]
async fn big_writes_to_a_peer_that_does_not_read_wait_and_keep_no_more_than_one_call() {
    const TOTAL: usize = 24 << 20;
    for (mut transport, mut client) in both_versions().await {
        let data: Vec<u8> = (0..TOTAL).map(|n| (n % 249) as u8).collect();
        let mut sent = 0;
        let mut most = 0;
        // Until the socket takes no more; the peer reads nothing.
        let stalled = std::future::poll_fn(|cx| {
            while sent < TOTAL {
                let rest = &data[sent..];
                let (first, second) = rest.split_at(rest.len().min(1000));
                match transport.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]) {
                    Poll::Ready(written) => sent += written.unwrap(),
                    Poll::Pending => return Poll::Ready(true),
                }
                most = most.max(held(&transport));
            }
            Poll::Ready(false)
        });
        assert!(stalled.await, "the socket took everything");
        assert!(most > 0 && most <= MAX_SEALED + 1024, "{most}");
        let write = async {
            transport.write_all(&data[sent..]).await.unwrap();
            transport.shutdown().await.unwrap();
        };
        let read = async {
            let mut read = Vec::with_capacity(TOTAL);
            client.read_to_end(&mut read).await.unwrap();
            read
        };
        let ((), read) = tokio::join!(write, read);
        assert!(read == data);
        assert_eq!(held(&transport), 0);
    }
}

#[tokio::test]
async fn many_slices_go_into_one_record_and_one_write() {
    for (mut transport, mut client) in both_versions().await {
        // What the handshake sent is read up by this.
        transport.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        let pieces: Vec<Vec<u8>> = (0..40).map(|n: u8| vec![n; 300]).collect();
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let written = std::future::poll_fn(|cx| transport.poll_write_vectored(cx, &slices)).await.unwrap();
        assert_eq!(written, 40 * 300);
        transport.write_all(&vec![1; MAX_SEALED]).await.unwrap();
        transport.shutdown().await.unwrap();
        let (mut tcp, mut connection) = client.into_inner();
        let mut wire = Vec::new();
        tcp.read_to_end(&mut wire).await.unwrap();
        let mut lengths = Vec::new();
        let mut rest = &wire[..];
        while let [23, 3, 3, high, low, more @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            lengths.push(length);
            rest = &more[length..];
        }
        // 12000 bytes, then four full records; in TLS 1.3 the alert of the end looks like data too.
        assert!(lengths[0] > 12_000 && lengths[0] < 12_100, "{lengths:?}");
        assert!(lengths[1..5].iter().all(|length| *length > 16_384), "{lengths:?}");
        let mut plain = Vec::new();
        let mut wire = &wire[..];
        while !wire.is_empty() {
            connection.read_tls(&mut wire).unwrap();
            connection.process_new_packets().unwrap();
            match connection.reader().read_to_end(&mut plain) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert!(plain[..12_000] == pieces.concat());
        assert_eq!(plain.len(), 12_000 + MAX_SEALED);
    }
}

#[tokio::test]
async fn rfc8446_6_1_close_notify_ends_each_direction_by_itself() {
    for (mut transport, mut client) in both_versions().await {
        let mut buf = vec![0; READ_BYTES];
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(transport.read(&mut buf).await.unwrap(), 4);
        assert_eq!(transport.read(&mut buf).await.unwrap(), 0);
        assert_eq!(transport.read(&mut buf).await.unwrap(), 0);
        transport.write_all(b"answer").await.unwrap();
        transport.shutdown().await.unwrap();
        assert_eq!(transport.write_all(b"late").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let mut rest = Vec::new();
        // An end without close_notify would be an error.
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"answer");
    }
}

#[tokio::test]
async fn reading_goes_on_after_our_own_close_notify() {
    for (mut transport, mut client) in both_versions().await {
        transport.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0);
        client.write_all(b"still here").await.unwrap();
        client.shutdown().await.unwrap();
        let mut buf = vec![0; READ_BYTES];
        assert_eq!(transport.read(&mut buf).await.unwrap(), 10);
        assert_eq!(transport.read(&mut buf).await.unwrap(), 0);
        transport.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn fin_without_close_notify_is_the_end_as_well() {
    for (mut transport, client) in both_versions().await {
        let (mut tcp, _) = client.into_inner();
        tcp.shutdown().await.unwrap();
        assert_eq!(transport.read(&mut vec![0; READ_BYTES]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_bad_record_behind_good_data_is_an_error_after_the_data() {
    for (mut transport, mut client) in both_versions().await {
        client.write_all(b"good").await.unwrap();
        let (mut tcp, _) = client.into_inner();
        let mut bad = vec![23, 3, 3, 0, 40];
        bad.resize(45, 9);
        tcp.write_all(&bad).await.unwrap();
        let mut buf = vec![0; READ_BYTES];
        let mut got = Vec::new();
        let error = loop {
            match transport.read(&mut buf).await {
                Ok(0) => panic!("an end instead of an error"),
                Ok(length) => got.extend_from_slice(&buf[..length]),
                Err(error) => break error,
            }
        };
        assert_eq!(got, b"good");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(transport.read(&mut buf).await.unwrap(), 0);
        assert_eq!(transport.write_all(b"late").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        transport.shutdown().await.unwrap();
        // Something more than the tickets: an alert.
        drop(transport);
        let mut rest = Vec::new();
        tcp.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.is_empty());
    }
}

#[tokio::test]
async fn rfc8446_4_6_3_key_updates_go_unnoticed() {
    let server = Server::new();
    let (mut transport, mut client) = server.connected(&Client::with_versions(&[&server.made], &[&TLS13])).await;
    let mut buf = vec![0; READ_BYTES];
    for round in 0..5_u8 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(&[round; 100]).await.unwrap();
        assert_eq!(transport.read(&mut buf).await.unwrap(), 100);
        transport.write_all(&[round; 50]).await.unwrap();
        let mut back = [0; 50];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!(back, [round; 50]);
    }
    assert_eq!(held(&transport), 0);
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let server = Server::new();
    let (mut transport, mut client) = server.connected(&server.client()).await;
    let mut buf = vec![0; READ_BYTES];
    let (mut sent, mut got) = (Vec::new(), Vec::new());
    for round in 0..200_u8 {
        let piece = vec![round; 1 + usize::from(round) * 7];
        client.write_all(&piece).await.unwrap();
        sent.extend(piece);
        // Often too short.
        if let Ok(length) = tokio::time::timeout(Duration::ZERO, transport.read(&mut buf)).await {
            got.extend_from_slice(&buf[..length.unwrap()]);
        }
    }
    client.shutdown().await.unwrap();
    loop {
        match transport.read(&mut buf).await.unwrap() {
            0 => break,
            length => got.extend_from_slice(&buf[..length]),
        }
    }
    assert!(got == sent);
}

#[tokio::test]
async fn starttls_begins_on_a_connection_that_has_spoken_before() {
    let server = Server::new();
    let (tcp, mut client) = tcp_pair().await;
    let mut transport = Transport::plain(tcp);
    assert!(transport.tls_info().is_none());
    let mut buf = vec![0; READ_BYTES];
    client.write_all(b"<starttls/>").await.unwrap();
    assert_eq!(transport.read(&mut buf).await.unwrap(), 11);
    transport.write_all(b"<proceed/>").await.unwrap();
    client.read_exact(&mut buf[..10]).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(server.client().0));
    let acceptor = server.certificates.acceptor();
    let (transport, stream) = tokio::join!(transport.accept_tls(&acceptor), async {
        let mut stream = connector.connect("localhost".try_into().unwrap(), client).await.unwrap();
        // In the same segment as the client's last handshake message, often.
        stream.write_all(b"early").await.unwrap();
        stream
    });
    let mut transport = transport.unwrap();
    assert_eq!(transport.read(&mut buf).await.unwrap(), 5);
    assert!(transport.accept_tls(&acceptor).await.is_err());
    drop(stream);
}
