//! RFC 6120 §4: streams.

use std::{collections::HashSet, time::Duration};

use starling_test_support::{PATIENCE, RawClient, Received};
use tokio::time::timeout;

use crate::{both, juliet, verona};

const STREAMS: &str = "http://etherx.jabber.org/streams";

fn header(attributes: &str) -> String {
    format!("<stream:stream {attributes} xmlns='jabber:client' xmlns:stream='{STREAMS}'>")
}

#[tokio::test]
async fn rfc6120_4_7_the_header_that_answers() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    client.send(&header("to='localhost' from='juliet@localhost' version='1.0' xml:lang='it'")).await;
    let answer = client.header().await;
    assert_eq!(answer.from.as_deref(), Some("localhost"), "§4.7.1");
    assert_eq!(answer.version.as_deref(), Some("1.0"), "§4.7.5");
    assert!(answer.lang.is_some(), "§4.7.4: the receiving entity must say the language");
    assert_eq!(answer.content, "jabber:client", "§4.8.2");
    assert!(answer.id.is_some_and(|id| id.len() >= 16), "§4.7.3");
    assert!(answer.to.is_none_or(|to| to == "juliet@localhost"), "§4.7.2");
}

#[tokio::test]
async fn rfc6120_4_7_2_the_answer_is_to_whom_the_header_was_from() {
    let server = verona().start().await;
    let mut client = RawClient::direct_tls(&server).await;
    client.send(&header("to='localhost' from='juliet@localhost' version='1.0'")).await;
    assert_eq!(client.header().await.to.as_deref(), Some("juliet@localhost"));
}

#[tokio::test]
async fn rfc6120_4_7_3_ids_are_unique_also_of_a_restarted_stream() {
    let server = verona().start().await;
    let mut ids = HashSet::new();
    for _ in 0..20 {
        let mut client = RawClient::plain(&server).await;
        client.send_header("localhost").await;
        assert!(ids.insert(client.header().await.id.unwrap()));
        client.features().await;
        client.authenticate("SCRAM-SHA-256", "juliet", "r0m30").await.unwrap();
        client.send_header("localhost").await;
        assert!(ids.insert(client.header().await.id.unwrap()));
    }
    assert_eq!(ids.len(), 40);
}

#[tokio::test]
async fn rfc6120_4_3_3_a_restart_offers_bind_and_no_more_log_in() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    let first = client.open("localhost").await;
    assert!(first.as_raw().child("mechanisms", "urn:ietf:params:xml:ns:xmpp-sasl").is_some());
    assert!(first.as_raw().child("bind", "urn:ietf:params:xml:ns:xmpp-bind").is_none());
    client.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
    let second = client.open("localhost").await;
    assert!(second.as_raw().child("mechanisms", "urn:ietf:params:xml:ns:xmpp-sasl").is_none());
    assert!(second.as_raw().child("starttls", "urn:ietf:params:xml:ns:xmpp-tls").is_none());
    assert!(second.as_raw().child("bind", "urn:ietf:params:xml:ns:xmpp-bind").is_some());
}

#[tokio::test]
async fn rfc6120_4_4_a_closing_tag_is_answered_and_the_connection_ends() {
    let server = verona().start().await;
    let mut before_log_in = RawClient::plain(&server).await;
    before_log_in.open("localhost").await;
    let session = juliet(&server, "balcony").await;
    for mut client in [before_log_in, session] {
        client.send("</stream:stream>").await;
        client.expect_close().await;
    }
}

#[tokio::test]
async fn rfc6120_4_4_what_was_sent_before_the_closing_tag_is_still_handled() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    client.send("<iq type='get' id='1' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq></stream:stream>").await;
    assert_eq!(client.element().await.as_raw().attribute("id").as_deref(), Some("1"));
    client.expect_close().await;
}

/// §4.4: also what others have sent to it and it has not read yet.
#[tokio::test]
async fn rfc6120_4_4_what_waits_for_a_client_is_written_before_its_stream_is_closed() {
    let server = verona().set("c2s.limits.bytes_per_second", "off").start().await;
    let (mut sender, mut leaving) = both(&server).await;
    let text = "x".repeat(20_000);
    for number in 0..150 {
        sender
            .send(&format!("<message to='romeo@localhost/orchard' id='{number}'><body>{text}</body></message>"))
            .await;
    }
    sender.expect_nothing().await;
    leaving.send("</stream:stream>").await;
    for number in 0..150 {
        assert_eq!(leaving.element().await.as_raw().attribute("id").as_deref(), Some(number.to_string().as_str()));
    }
    leaving.expect_close().await;
}

#[tokio::test]
async fn rfc6120_4_6_1_white_space_between_stanzas_keeps_alive_and_says_nothing() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for white in [" ", "\n", "\t\r\n  "] {
        client.send(white).await;
    }
    client.expect_nothing().await;
}

#[tokio::test]
async fn rfc6120_4_6_1_white_space_before_log_in_says_nothing_either() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    client.send("\n \n").await;
    client.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
}

#[tokio::test]
async fn rfc6120_4_8_3_the_content_namespace_may_be_named_by_a_prefix() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    let header = "<stream to='localhost' version='1.0' xmlns='http://etherx.jabber.org/streams' \
                  xmlns:c='jabber:client'>";
    client.send(header).await;
    client.header().await;
    client.features().await;
    client.authenticate("SCRAM-SHA-256", "juliet", "r0m30").await.unwrap();
    client.send(header).await;
    client.header().await;
    client.features().await;
    let bound = client
        .ask(
            "<c:iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind>\
             </c:iq>",
        )
        .await;
    assert_eq!(bound.as_raw().attribute("type").as_deref(), Some("result"), "{}", client.transcript());
    let answer = client.ask("<c:message to='juliet@localhost/r' id='2'><c:body>to myself</c:body></c:message>").await;
    assert!(answer.as_raw().is("message", "jabber:client"));
    let body = answer.as_raw().child("body", "jabber:client").map(|body| body.text().into_owned());
    assert_eq!(body.as_deref(), Some("to myself"), "{}", client.transcript());
}

/// Each of them is answered by a header, the error, the end of the stream and of the connection (§4.9.1.1, §4.9.1.2).
#[tokio::test]
async fn rfc6120_4_9_3_what_is_wrong_with_a_header_has_its_own_error() {
    let server = verona().start().await;
    let streams = format!("xmlns='jabber:client' xmlns:stream='{STREAMS}'");
    let table = [
        ("host-unknown", header("to='verona.example' version='1.0'")),
        ("host-unknown", header("to='not a domain' version='1.0'")),
        ("unsupported-version", header("to='localhost'")),
        ("unsupported-version", header("to='localhost' version='0.9'")),
        ("invalid-namespace", format!("<stream:stream to='localhost' version='1.0' xmlns:stream='{STREAMS}'>")),
        (
            "invalid-namespace",
            format!("<stream:stream to='localhost' version='1.0' xmlns='jabber:nonsense' xmlns:stream='{STREAMS}'>"),
        ),
        (
            "invalid-namespace",
            "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='urn:wrong'>".to_owned(),
        ),
        ("bad-format", format!("<stream:flow to='localhost' version='1.0' {streams}>")),
        ("bad-namespace-prefix", "<stream:stream to='localhost' version='1.0' xmlns='jabber:client'>".to_owned()),
        ("not-well-formed", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("not-well-formed", "<stream:stream to=localhost>".to_owned()),
        ("not-well-formed", "\u{1}\u{2}\u{3}".to_owned()),
        ("unsupported-encoding", format!("<?xml version='1.0' encoding='UTF-16'?>{}", header("to='localhost'"))),
    ];
    for (condition, text) in table {
        let mut client = RawClient::plain(&server).await;
        client.send(&text).await;
        client.header().await;
        client.expect_stream_error(condition).await;
    }
}

#[tokio::test]
async fn rfc6120_4_9_1_2_an_error_before_any_header_comes_behind_one_with_id_and_from() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    client.send("<!-- hello -->").await;
    let header = client.header().await;
    assert!(header.id.is_some() && header.from.as_deref() == Some("localhost") && header.version.is_some());
    client.expect_stream_error("restricted-xml").await;
}

#[tokio::test]
async fn rfc6120_4_9_1_1_stream_errors_cannot_be_recovered_from() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    client.send("<oops/><iq type='get' id='1' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    client.expect_stream_error("unsupported-stanza-type").await;
    assert!(!client.transcript().contains("id='1'/>"), "nothing behind the error was handled");
}

#[tokio::test]
async fn rfc6120_4_2_header_and_first_element_may_come_byte_by_byte() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    for byte in header("to='localhost' version='1.0'").bytes() {
        client.try_send(&[byte]).await.unwrap();
    }
    client.header().await;
    client.features().await;
    for byte in b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldAByMG0zMA==</auth>" {
        client.try_send(&[*byte]).await.unwrap();
    }
    assert_eq!(client.element().await.as_raw().name(), "success");
}

#[tokio::test]
async fn rfc6120_4_5_a_connection_that_just_ends_ends_the_session() {
    let server = verona().start().await;
    let mut first = juliet(&server, "balcony").await;
    let mut second = juliet(&server, "garden").await;
    first.send("<iq type='get' id='1' to='localhost'><ping").await;
    drop(first);
    // What is for the resource that has gone comes back.
    let gone = async {
        loop {
            second.send("<message to='juliet@localhost/balcony' type='chat' id='m'><body>?</body></message>").await;
            second.settled().await;
            second.send("<iq type='get' id='sync' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>").await;
            if second.element().await.as_raw().attribute("id").as_deref() == Some("m") {
                break;
            }
        }
    };
    assert!(timeout(PATIENCE, gone).await.is_ok(), "the session has outlived its connection");
}

#[tokio::test]
async fn rfc6120_4_3_1_nothing_is_said_before_the_client_has_spoken() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    let silent = timeout(Duration::from_millis(300), client.receive()).await;
    assert!(silent.is_err(), "{silent:?}");
    client.send_header("localhost").await;
    assert!(matches!(client.next().await, Received::Open(_)));
}
