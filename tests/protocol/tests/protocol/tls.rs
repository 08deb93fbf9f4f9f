//! What goes through TLS comes out as it went in, whatever its sizes and records.

use starling_test_support::{RawClient, Server, Versions};

use crate::verona;

async fn over(server: &Server, versions: Versions, direct: bool, jid: &str, password: &str) -> RawClient {
    let mut client = if direct {
        let mut client = RawClient::connect(server.direct_tls()).await;
        client.handshake(versions, &[b"xmpp-client"]).await;
        client
    } else {
        let mut client = RawClient::plain(server).await;
        client.open("localhost").await;
        client.start_tls(versions).await;
        client
    };
    client.log_in(jid, password, "r").await;
    client
}

/// A text that differs at every place, of `length` bytes.
fn text(number: usize, length: usize) -> String {
    (0..length).map(|at| char::from(b'a' + ((at * 7 + number * 13 + at / 251) % 26) as u8)).collect()
}

async fn send_all(client: &mut RawClient, to: &str, sizes: &[usize]) {
    for (number, size) in sizes.iter().enumerate() {
        let body = text(number, *size);
        client.send(&format!("<message to='{to}/r' id='{number}'><body>{body}</body></message>")).await;
    }
}

async fn receive_all(client: &mut RawClient, sizes: &[usize]) {
    for (number, size) in sizes.iter().enumerate() {
        let message = client.element().await;
        let raw = message.as_raw();
        assert_eq!(raw.attribute("id").as_deref(), Some(number.to_string().as_str()));
        assert!(raw.child("body", "jabber:client").unwrap().text() == text(number, *size), "message {number}");
    }
}

/// Records hold 16 KiB at most: sizes around that, and many at once.
#[tokio::test]
async fn messages_of_all_sizes_both_ways_through_both_versions() {
    let server = verona().set("c2s.limits.bytes_per_second", "off").start().await;
    let mut sizes: Vec<usize> = (0..100).collect();
    sizes.extend([16_200, 16_300, 16_383, 16_384, 16_385, 32_768, 65_536, 200_000, 250_000, 1, 0]);
    sizes.extend([20_000; 100]);
    for (versions, direct) in [(Versions::Tls12, false), (Versions::Tls13, true), (Versions::Tls13, false)] {
        let mut juliet = over(&server, versions, direct, "juliet@localhost", "r0m30").await;
        let mut romeo = over(&server, Versions::Tls13, true, "romeo@localhost", "jul13t").await;
        send_then_receive(&mut juliet, "romeo@localhost", &mut romeo, &sizes).await;
        send_then_receive(&mut romeo, "juliet@localhost", &mut juliet, &sizes).await;
    }
}

async fn send_then_receive(from: &mut RawClient, to: &str, recipient: &mut RawClient, sizes: &[usize]) {
    tokio::join!(send_all(from, to, sizes), receive_all(recipient, sizes));
    from.expect_nothing().await;
    recipient.expect_nothing().await;
}

#[tokio::test]
async fn a_record_for_each_byte() {
    let server = verona().start().await;
    for versions in [Versions::Tls12, Versions::Tls13] {
        let mut client = over(&server, versions, true, "juliet@localhost", "r0m30").await;
        for byte in b"<message to='juliet@localhost/r' id='1'><body>one by one</body></message>" {
            client.try_send(&[*byte]).await.unwrap();
        }
        let message = client.element().await;
        assert_eq!(message.as_raw().child("body", "jabber:client").unwrap().text(), "one by one");
    }
}

#[tokio::test]
async fn rfc6120_4_4_the_end_of_a_stream_under_tls_ends_tls_too() {
    let server = verona().start().await;
    for versions in [Versions::Tls12, Versions::Tls13] {
        let mut client = over(&server, versions, true, "juliet@localhost", "r0m30").await;
        client.send("</stream:stream>").await;
        // Without close_notify (RFC 8446 §6.1) the end would be an error.
        client.expect_close().await;
    }
}

/// A close_notify without `</stream:stream>` is an end as well, and frees the resource.
#[tokio::test]
async fn a_close_notify_ends_the_session() {
    let server = verona().start().await;
    let mut client = over(&server, Versions::Tls13, true, "juliet@localhost", "r0m30").await;
    client.shut_down().await;
    client.expect_gone().await;
    while server.metric("starling_sessions").await > 0.0 {
        tokio::task::yield_now().await;
    }
}

/// Garbage in the place of a record ends this connection, and the session with it.
#[tokio::test]
async fn plain_text_on_the_direct_tls_port_gets_no_plain_answer() {
    let server = verona().start().await;
    let mut client = RawClient::connect(server.direct_tls()).await;
    client.send_header("localhost").await;
    assert!(!client.rest().await.contains(&b'<'), "{}", client.transcript());
}
