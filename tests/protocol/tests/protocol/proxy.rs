//! The PROXY protocol: believed from trusted networks only, and then the client's own address counts.

use starling_test_support::{RawClient, Server};

use crate::verona;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.200 40000 5222\r\n").into_bytes()
}

/// A version 2 header of a forwarded IPv4 connection.
fn v2(client: [u8; 4]) -> Vec<u8> {
    let mut header = V2.to_vec();
    header.extend_from_slice(&[0x21, 0x11, 0, 12]);
    header.extend_from_slice(&client);
    header.extend_from_slice(&[192, 0, 2, 200, 0x9c, 0x40, 0x14, 0x66]);
    header
}

/// The same of an IPv6 connection, with a TLV behind it.
fn v2_ipv6(client: std::net::Ipv6Addr) -> Vec<u8> {
    let mut header = V2.to_vec();
    header.extend_from_slice(&[0x21, 0x21, 0, 36 + 7]);
    header.extend_from_slice(&client.octets());
    header.extend_from_slice(&client.octets());
    header.extend_from_slice(&[0x9c, 0x40, 0x14, 0x66, 0x04, 0, 4, 1, 2, 3, 4]);
    header
}

async fn trusting(limit: &str) -> Server {
    verona()
        .set("c2s.proxy_protocol.trusted", r#"["127.0.0.0/8"]"#)
        .set("c2s.limits.connections_per_address", limit)
        .start_one()
        .await
}

async fn through(server: &Server, header: &[u8]) -> RawClient {
    let mut client = RawClient::plain(server).await;
    client.try_send(header).await.unwrap();
    client
}

#[tokio::test]
async fn both_versions_from_a_trusted_network() {
    let server = trusting("off").await;
    let headers = [
        v1("192.0.2.1"),
        b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 5222\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2([192, 0, 2, 1]),
        v2_ipv6("2001:db8::1".parse().unwrap()),
        // A health check of the balancer itself: LOCAL.
        [V2, &[0x20, 0, 0, 0]].concat(),
    ];
    for header in headers {
        let mut client = through(&server, &header).await;
        client.log_in("juliet@localhost", "r0m30", "balcony").await;
        client.expect_nothing().await;
        client.send("</stream:stream>").await;
        client.expect_close().await;
    }
}

#[tokio::test]
async fn a_header_in_pieces_and_the_stream_in_the_same_packet() {
    let server = trusting("off").await;
    for header in [v1("192.0.2.1"), v2([192, 0, 2, 1])] {
        let mut client = RawClient::plain(&server).await;
        for byte in &header {
            client.try_send(&[*byte]).await.unwrap();
        }
        client.open("localhost").await;
        let mut client = RawClient::plain(&server).await;
        let stream = b"<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                       xmlns:stream='http://etherx.jabber.org/streams'>";
        client.try_send(&[&header, &stream[..]].concat()).await.unwrap();
        client.header().await;
        client.features().await;
    }
}

#[tokio::test]
async fn limits_count_the_clients_own_address() {
    let server = trusting("1").await;
    for header in [v1, |client: &str| v2(client.parse::<std::net::Ipv4Addr>().unwrap().octets())] {
        let mut first = through(&server, &header("192.0.2.1")).await;
        first.open("localhost").await;
        let mut other = through(&server, &header("192.0.2.2")).await;
        other.open("localhost").await;
        let mut second = through(&server, &header("192.0.2.1")).await;
        second.header().await;
        second.expect_stream_error("policy-violation").await;
        for mut client in [first, other] {
            client.send("</stream:stream>").await;
            client.expect_close().await;
        }
        while server.metric("starling_c2s_connections").await > 0.0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn nobody_elses_header_is_believed() {
    let server = verona().set("c2s.proxy_protocol.trusted", r#"["192.0.2.0/24"]"#).start().await;
    for header in [v1("192.0.2.1"), v2([192, 0, 2, 1])] {
        let mut client = through(&server, &header).await;
        client.header().await;
        client.expect_stream_error("not-well-formed").await;
    }
    RawClient::plain(&server).await.open("localhost").await;
}

#[tokio::test]
async fn a_trusted_network_that_sends_no_header_is_not_served() {
    let server = trusting("off").await;
    for bytes in [
        b"<stream:stream to='localhost' version='1.0'>".as_slice(),
        b"PROXY TCP4 nonsense\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 1\r\n",
        &[V2, &[0x31, 0x11, 0, 12]].concat(),
    ] {
        let mut client = through(&server, bytes).await;
        client.expect_gone().await;
        assert!(!client.transcript().contains("\n<"), "{}", client.transcript());
    }
    assert_eq!(server.metric("starling_c2s_proxy_errors_total").await, 4.0);
}
