//! RFC 6120 §5: STARTTLS. XEP-0368: direct TLS.

use starling_test_support::{RawClient, Server, Versions};

use crate::verona;

const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

#[tokio::test]
async fn rfc6120_5_3_1_mandatory_tls_is_offered_alone() {
    let server = verona().set("c2s.starttls.required", "true").start().await;
    let mut client = RawClient::plain(&server).await;
    let features = client.open("localhost").await;
    let starttls = features.as_raw().child("starttls", TLS).unwrap();
    assert!(starttls.child("required", TLS).is_some());
    assert_eq!(features.as_raw().children().count(), 1, "{}", client.transcript());
    // Nobody logs in past it.
    let failure = client.auth("PLAIN", "\0juliet\0r0m30").await;
    assert!(failure.as_raw().child("encryption-required", SASL).is_some(), "§6.5.4: {}", client.transcript());
    client.send("<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>").await;
    client.expect_stream_error("not-authorized").await;
}

#[tokio::test]
async fn rfc6120_5_3_1_voluntary_tls_is_offered_beside_mechanisms() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    let features = client.open("localhost").await;
    assert!(features.as_raw().child("starttls", TLS).is_some_and(|tls| tls.child("required", TLS).is_none()));
    assert!(features.as_raw().child("mechanisms", SASL).is_some());
}

#[tokio::test]
async fn rfc6120_5_4_the_stream_begins_anew_under_tls_and_offers_no_tls() {
    let server = verona().set("c2s.starttls.required", "true").start().await;
    for versions in [Versions::Tls12, Versions::Tls13] {
        let mut client = RawClient::plain(&server).await;
        client.send_header("localhost").await;
        let in_clear = client.header().await.id.unwrap();
        client.features().await;
        client.start_tls(versions).await;
        client.send_header("localhost").await;
        assert_ne!(client.header().await.id.unwrap(), in_clear, "§5.4.3.3: a new id");
        let features = client.features().await;
        assert!(features.as_raw().child("starttls", TLS).is_none(), "§5.4.3.3");
        assert!(features.as_raw().child("mechanisms", SASL).is_some());
        client.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
        client.open("localhost").await;
        assert_eq!(client.bind("balcony").await, "juliet@localhost/balcony");
    }
}

/// What an attacker put behind `<starttls/>` must not be taken for what came under TLS.
#[tokio::test]
async fn rfc6120_5_4_3_3_data_behind_starttls_is_refused() {
    let server = verona().start().await;
    let table = [
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldAByMG0zMA==</auth>",
        "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>",
        "x",
    ];
    for behind in table {
        let mut client = RawClient::plain(&server).await;
        client.open("localhost").await;
        client.send(&format!("{STARTTLS}{behind}")).await;
        client.expect_stream_error("policy-violation").await;
        assert!(!client.transcript().contains("<proceed"), "{}", client.transcript());
    }
}

#[tokio::test]
async fn rfc6120_5_4_2_2_starttls_under_tls_fails_and_ends_the_stream() {
    let server = verona().start().await;
    let mut client = RawClient::starttls(&server).await;
    client.open("localhost").await;
    let failure = client.ask(STARTTLS).await;
    assert!(failure.as_raw().is("failure", TLS), "{}", client.transcript());
    client.expect_stream_error("policy-violation").await;
}

#[tokio::test]
async fn rfc6120_5_4_3_1_a_handshake_that_fails_ends_the_connection() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    assert!(client.ask(STARTTLS).await.as_raw().is("proceed", TLS));
    client.try_send(b"this is no ClientHello, however long one looks at it").await.unwrap();
    // An alert of TLS at most: nothing more of the stream.
    let left = client.rest().await;
    assert!(!left.contains(&b'<'), "{}", client.transcript());
    let failed = server.metric("starling_c2s_log_ins_failed_total{end=\"tls\"}").await;
    assert_eq!(failed, 1.0);
}

#[tokio::test]
async fn rfc6120_5_after_log_in_there_is_no_starttls() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    client.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
    client.open("localhost").await;
    client.send(STARTTLS).await;
    client.expect_stream_error("unsupported-stanza-type").await;
}

#[tokio::test]
async fn xep0368_3_alpn_is_xmpp_client() {
    let server = verona().start().await;
    let connect = async |alpn: &'static [&'static [u8]]| {
        let mut client = RawClient::connect(server.direct_tls()).await;
        client.try_handshake(Versions::Tls13, alpn).await.map(|()| client)
    };
    let mut named = connect(&[b"xmpp-client"]).await.unwrap();
    assert_eq!(named.alpn(), Some(&b"xmpp-client"[..]));
    named.open("localhost").await;
    // Clients that know nothing of ALPN are served too.
    let mut unnamed = connect(&[]).await.unwrap();
    assert_eq!(unnamed.alpn(), None);
    unnamed.open("localhost").await;
    assert!(connect(&[b"h2"]).await.is_err(), "RFC 7301 §3.2: no_application_protocol");
}

#[tokio::test]
async fn xep0368_log_in_over_direct_tls_of_both_versions() {
    let server = verona().start().await;
    for versions in [Versions::Tls12, Versions::Tls13] {
        let mut client = RawClient::connect(server.direct_tls()).await;
        client.handshake(versions, &[b"xmpp-client"]).await;
        client.log_in("juliet@localhost", "r0m30", "balcony").await;
        client.expect_nothing().await;
        client.send("</stream:stream>").await;
        client.expect_close().await;
    }
}

#[tokio::test]
async fn defaults_let_nobody_log_in_without_tls() {
    let server = Server::builder()
        .set("c2s.starttls.required", "true")
        .set("auth.mechanisms_without_tls", "[]")
        .user("juliet@localhost", "r0m30")
        .start()
        .await;
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    for mechanism in ["PLAIN", "SCRAM-SHA-1"] {
        let failure = client.auth(mechanism, "\0juliet\0r0m30").await;
        assert!(failure.as_raw().child("encryption-required", SASL).is_some(), "{}", client.transcript());
    }
}
