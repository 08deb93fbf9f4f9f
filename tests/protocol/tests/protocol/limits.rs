//! The limits: every refusal is a proper error, or a slow-down.

use std::time::{Duration, Instant};

use starling_test_support::{RawClient, Received, Server, Versions};

use crate::{both, juliet, romeo, verona};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

async fn fail(server: &Server, user: &str) -> RawClient {
    let mut client = RawClient::plain(server).await;
    client.open("localhost").await;
    client
        .send(&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{}</auth>", base64(&format!("\0{user}\0wrong"))))
        .await;
    assert!(client.element().await.as_raw().is("failure", SASL));
    client
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn authentication_time_bounds_every_step_before_a_resource_is_bound() {
    let server = verona().set("c2s.limits.authentication_time", "1").start().await;
    let mut session = juliet(&server, "balcony").await;
    let silent = RawClient::plain(&server).await;
    let mut half_a_header = RawClient::plain(&server).await;
    half_a_header.send("<stream:stream ").await;
    for mut client in [silent, half_a_header] {
        client.header().await;
        client.expect_stream_error("connection-timeout").await;
    }
    let mut opened = RawClient::plain(&server).await;
    opened.open("localhost").await;
    let mut unbound = RawClient::plain(&server).await;
    unbound.open("localhost").await;
    unbound.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
    unbound.open("localhost").await;
    let mut in_tls = RawClient::direct_tls(&server).await;
    in_tls.open("localhost").await;
    for mut client in [opened, unbound, in_tls] {
        client.expect_stream_error("connection-timeout").await;
    }
    // There is nothing to say it on where the handshake is not done.
    let mut no_hello = RawClient::connect(server.direct_tls()).await;
    no_hello.expect_end().await;
    session.expect_nothing().await;
}

/// Bytes that trickle in do not make the time longer.
#[tokio::test]
async fn authentication_time_is_not_renewed_by_what_comes() {
    let server = verona().set("c2s.limits.authentication_time", "1").start().await;
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(900) {
        client.send(" ").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.expect_stream_error("connection-timeout").await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn failed_log_ins_bar_the_address_but_not_the_sessions_it_has() {
    let server = verona().set("c2s.limits.failed_logins_per_address", "4").start_one().await;
    let mut session = juliet(&server, "balcony").await;
    for _ in 0..3 {
        fail(&server, "romeo").await;
    }
    // The one too many is told why on its own stream, whoever comes later at once.
    fail(&server, "mallet").await.expect_stream_error("policy-violation").await;
    let mut barred = RawClient::plain(&server).await;
    barred.header().await;
    barred.expect_stream_error("policy-violation").await;
    let mut under_tls = RawClient::direct_tls(&server).await;
    under_tls.header().await;
    under_tls.expect_stream_error("policy-violation").await;
    session.expect_nothing().await;
}

#[tokio::test]
async fn failed_log_ins_bar_the_account_for_a_while_and_no_other() {
    let server = verona()
        .set("c2s.limits.failed_logins_per_account", "3")
        .set("c2s.limits.failed_logins_per_address", "off")
        .start_one()
        .await;
    for _ in 0..3 {
        fail(&server, "juliet").await;
    }
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let mut client = RawClient::plain(&server).await;
        client.open("localhost").await;
        let outcome = client.authenticate(mechanism, "juliet", "r0m30").await;
        assert_eq!(outcome, Err("temporary-auth-failure".to_owned()), "RFC 6120 §6.5.11");
    }
    romeo(&server, "orchard").await.expect_nothing().await;
}

/// An account that does not exist is barred just the same: else the limit would tell which exist.
#[tokio::test]
async fn failed_log_ins_do_not_tell_which_accounts_exist() {
    let server = verona()
        .set("c2s.limits.failed_logins_per_account", "2")
        .set("c2s.limits.failed_logins_per_address", "off")
        .start_one()
        .await;
    for user in ["juliet", "nobody"] {
        for _ in 0..2 {
            fail(&server, user).await;
        }
        let mut client = RawClient::plain(&server).await;
        client.open("localhost").await;
        let outcome = client.plain_as("", user, "wrong").await;
        assert_eq!(outcome, Err("temporary-auth-failure".to_owned()), "{user}");
    }
}

#[tokio::test]
async fn connections_per_address_and_a_place_that_is_free_again() {
    let server = verona().set("c2s.limits.connections_per_address", "3").start_one().await;
    let mut first = juliet(&server, "balcony").await;
    let (_second, _third) = (RawClient::plain(&server).await, juliet(&server, "garden").await);
    let mut in_the_clear = RawClient::plain(&server).await;
    in_the_clear.header().await;
    in_the_clear.expect_stream_error("policy-violation").await;
    let mut under_tls = RawClient::connect(server.direct_tls()).await;
    under_tls.handshake(Versions::Tls13, &[]).await;
    under_tls.header().await;
    under_tls.expect_stream_error("policy-violation").await;
    first.send("</stream:stream>").await;
    first.expect_close().await;
    drop(first);
    // The place is given back when the connection has ended on both sides.
    loop {
        let mut again = RawClient::plain(&server).await;
        again.send_header("localhost").await;
        again.header().await;
        let Received::Element(answer) = again.next().await else { panic!("{}", again.transcript()) };
        if answer.as_raw().name() == "features" {
            break;
        }
    }
}

#[tokio::test]
async fn connections_of_all_are_bounded() {
    let server = verona().set("c2s.limits.connections", "2").start_one().await;
    let (mut one, mut two) = both(&server).await;
    let mut third = RawClient::plain(&server).await;
    third.header().await;
    third.expect_stream_error("resource-constraint").await;
    one.expect_nothing().await;
    two.expect_nothing().await;
}

#[tokio::test]
async fn the_accept_rate_makes_connections_wait_and_refuses_none() {
    let server =
        verona().set("c2s.limits.accept_per_second", "10").set("c2s.limits.accept_burst", "1").start_one().await;
    let began = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..11 {
        let mut client = RawClient::plain(&server).await;
        client.send_header("localhost").await;
        clients.push(client);
    }
    for client in &mut clients {
        client.header().await;
        client.features().await;
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(850), "10 connections at 10 a second took {took:?}");
}

#[tokio::test]
async fn bytes_per_second_slow_a_client_down_and_nobody_else() {
    let server =
        verona().set("c2s.limits.bytes_per_second", "20000").set("c2s.limits.bytes_burst", "20000").start().await;
    let (mut fast, mut other) = both(&server).await;
    let text = "x".repeat(5_000);
    let began = Instant::now();
    for _ in 0..16 {
        fast.send(&format!("<message to='romeo@localhost/orchard'><body>{text}</body></message>")).await;
    }
    let slowed = async {
        for _ in 0..16 {
            let message = other.element().await;
            assert_eq!(message.as_raw().child("body", "jabber:client").unwrap().text().len(), text.len());
        }
        // 80 kB, of which a burst of 20 kB is free, and what one read takes beyond it.
        assert!(began.elapsed() >= Duration::from_millis(1_800), "{:?}", began.elapsed());
    };
    let undisturbed = async {
        let mut third = juliet(&server, "garden").await;
        let asked = Instant::now();
        third.expect_nothing().await;
        assert!(asked.elapsed() < Duration::from_secs(1));
    };
    tokio::join!(slowed, undisturbed);
    fast.expect_nothing().await;
    assert!(server.metric("starling_c2s_slowed_total").await >= 1.0);
}

#[tokio::test]
async fn stanzas_are_bounded_in_size_depth_and_attributes() {
    let server = verona()
        .set("c2s.limits.stanza_bytes", "12000")
        .set("c2s.limits.depth", "10")
        .set("c2s.limits.attributes", "16")
        .start()
        .await;
    let deep = |depth: usize| format!("<message>{}{}</message>", "<a>".repeat(depth - 1), "</a>".repeat(depth - 1));
    let wide = |count: usize| {
        let attributes: String = (0..count).map(|number| format!(" a{number}=''")).collect();
        format!("<message><x{attributes}/></message>")
    };
    let long = |bytes: usize| format!("<message><body>{}</body></message>", "x".repeat(bytes));
    let mut client = juliet(&server, "balcony").await;
    for allowed in [long(11_000), deep(10), wide(16)] {
        client.send(&allowed.replacen("<message", "<message to='juliet@localhost/balcony'", 1)).await;
        assert_eq!(client.element().await.as_raw().name(), "message");
    }
    for refused in [long(12_001), deep(11), wide(17), format!("<message><body>{}", "x".repeat(12_001))] {
        let mut client = juliet(&server, "balcony").await;
        client.send(&refused).await;
        client.expect_stream_error("policy-violation").await;
    }
}

#[tokio::test]
async fn before_log_in_elements_are_smaller() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    client.send(&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{}", "A".repeat(10_001))).await;
    client.expect_stream_error("policy-violation").await;
    let mut client = RawClient::plain(&server).await;
    client.send(&format!("<stream:stream to='{}", "a".repeat(10_001))).await;
    client.header().await;
    client.expect_stream_error("policy-violation").await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let server = verona()
        .set("c2s.limits.write_timeout", "1")
        .set("c2s.limits.bytes_per_second", "off")
        .set("c2s.limits.queue_bytes", "100000")
        .start()
        .await;
    let (mut sender, _deaf) = both(&server).await;
    let text = "x".repeat(50_000);
    let began = Instant::now();
    // As long as it takes until the recipient is not there any more.
    loop {
        sender.send(&format!("<message to='romeo@localhost/orchard' id='m'><body>{text}</body></message>")).await;
        sender.settled().await;
        sender.send("<iq type='get' id='sync' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>").await;
        let mut gone = false;
        loop {
            let answer = sender.element().await;
            if answer.as_raw().name() == "iq" {
                break;
            }
            gone = answer.as_raw().as_str().contains("<service-unavailable");
        }
        if gone {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "still there");
    }
    assert_eq!(server.metric("starling_c2s_write_timeouts_total").await, 1.0);
}
