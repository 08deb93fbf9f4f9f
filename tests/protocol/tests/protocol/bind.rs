//! RFC 6120 §7: resource binding. RFC 3921 §3: the session that is no more.

use std::collections::HashSet;

use starling_test_support::{Element, RawClient, Server};

use crate::{juliet, verona};

const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// Logged in, nothing bound.
async fn logged_in(server: &Server) -> RawClient {
    let mut client = RawClient::plain(server).await;
    client.open("localhost").await;
    client.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
    client.open("localhost").await;
    client
}

fn bound(answer: &Element) -> Option<String> {
    let bind = answer.as_raw().child("bind", BIND)?;
    bind.child("jid", BIND).map(|jid| jid.text().into_owned())
}

fn condition(answer: &Element) -> Option<String> {
    let error = answer.as_raw().child("error", "jabber:client")?;
    error.children().find(|child| child.namespace() == STANZAS).map(|child| child.name().to_owned())
}

#[tokio::test]
async fn rfc6120_7_7_1_the_resource_that_is_asked_for_is_bound() {
    let server = verona().start().await;
    let mut client = logged_in(&server).await;
    let answer = client.try_bind("<resource>balcony</resource>").await;
    assert_eq!(bound(&answer).as_deref(), Some("juliet@localhost/balcony"));
    assert_eq!(answer.as_raw().attribute("id").as_deref(), Some("bind"));
}

#[tokio::test]
async fn rfc6120_7_6_1_a_resource_is_made_up_where_none_is_asked_for() {
    let server = verona().start().await;
    let mut made_up = HashSet::new();
    let mut clients = Vec::new();
    for wish in ["", "<resource/>", "<resource></resource>", ""] {
        let mut client = logged_in(&server).await;
        let full = bound(&client.try_bind(wish).await).unwrap();
        let resource = full.strip_prefix("juliet@localhost/").unwrap().to_owned();
        assert!(resource.len() >= 8, "hard to guess: {resource}");
        assert!(made_up.insert(resource));
        clients.push(client);
    }
}

#[tokio::test]
async fn rfc6120_7_7_2_1_a_resource_that_cannot_be_is_a_bad_request_and_another_may_follow() {
    let server = verona().start().await;
    let mut client = logged_in(&server).await;
    for wish in [format!("<resource>{}</resource>", "a".repeat(1024)), "<resource>a\u{7f}b</resource>".to_owned()] {
        let answer = client.try_bind(&wish).await;
        assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("error"));
        assert_eq!(condition(&answer).as_deref(), Some("bad-request"), "{}", client.transcript());
    }
    assert_eq!(client.bind("balcony").await, "juliet@localhost/balcony");
}

#[tokio::test]
async fn rfc6120_7_6_2_resources_are_kept_apart_by_case_and_take_other_scripts() {
    let server = verona().start().await;
    for resource in ["balcony", "Balcony", "балкон 露台", "a/b@c"] {
        let mut client = logged_in(&server).await;
        assert_eq!(client.bind(resource).await, format!("juliet@localhost/{resource}"));
    }
}

#[tokio::test]
async fn rfc6120_7_1_no_stanza_before_a_resource_is_bound() {
    let server = verona().start().await;
    let table = [
        "<message to='romeo@localhost'><body>?</body></message>",
        "<presence/>",
        "<iq type='get' id='1' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
    ];
    for stanza in table {
        let mut client = logged_in(&server).await;
        client.send(stanza).await;
        client.expect_stream_error("not-authorized").await;
    }
}

#[tokio::test]
async fn rfc6120_7_7_2_2_conflict_replaces_the_older_session() {
    let server = verona().set("session.conflict", "replace").start().await;
    let mut older = juliet(&server, "balcony").await;
    let mut newer = juliet(&server, "balcony").await;
    older.expect_stream_error("conflict").await;
    newer.expect_nothing().await;
    // What is sent to the address arrives at the newer one, also after the older one has ended.
    let echo = newer.ask("<message to='juliet@localhost/balcony' id='1'><body>?</body></message>").await;
    assert_eq!(echo.as_raw().attribute("type"), None, "{}", newer.transcript());
}

#[tokio::test]
async fn rfc6120_7_7_2_2_conflict_refuses_the_newer_session() {
    let server = verona().set("session.conflict", "refuse").start().await;
    let mut older = juliet(&server, "balcony").await;
    let mut newer = logged_in(&server).await;
    let answer = newer.try_bind("<resource>balcony</resource>").await;
    assert_eq!(condition(&answer).as_deref(), Some("conflict"), "{}", newer.transcript());
    assert_eq!(newer.bind("garden").await, "juliet@localhost/garden");
    older.expect_nothing().await;
}

#[tokio::test]
async fn rfc6120_7_7_2_2_conflict_renames_the_newer_session() {
    let server = verona().set("session.conflict", "rename").start().await;
    let mut older = juliet(&server, "balcony").await;
    let mut newer = logged_in(&server).await;
    let full = newer.bind("balcony").await;
    assert!(full.starts_with("juliet@localhost/") && full != "juliet@localhost/balcony", "{full}");
    older.expect_nothing().await;
    newer.expect_nothing().await;
}

#[tokio::test]
async fn rfc6120_7_6_2_1_resources_of_an_account_are_limited() {
    let server = verona().set("session.resources_per_account", "2").start().await;
    let (one, _two) = (juliet(&server, "one").await, juliet(&server, "two").await);
    let mut third = logged_in(&server).await;
    let answer = third.try_bind("<resource>three</resource>").await;
    assert_eq!(condition(&answer).as_deref(), Some("resource-constraint"), "{}", third.transcript());
    // A place that is free again is taken.
    let mut one = one;
    one.send("</stream:stream>").await;
    one.expect_close().await;
    assert_eq!(third.bind("three").await, "juliet@localhost/three");
}

#[tokio::test]
async fn rfc6120_7_4_only_one_resource_is_bound_to_a_stream() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let answer = client.try_bind("<resource>garden</resource>").await;
    assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("error"), "{}", client.transcript());
    client.expect_nothing().await;
}

#[tokio::test]
async fn rfc3921_3_a_session_is_offered_as_optional_and_granted() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    client.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
    let features = client.open("localhost").await;
    let session = features.as_raw().child("session", "urn:ietf:params:xml:ns:xmpp-session").unwrap();
    assert!(session.child("optional", "urn:ietf:params:xml:ns:xmpp-session").is_some());
    client.bind("balcony").await;
    for to in ["", " to='localhost'"] {
        let answer = client
            .ask(&format!("<iq type='set' id='s'{to}><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>"))
            .await;
        assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("result"), "{}", client.transcript());
    }
}

#[tokio::test]
async fn everything_from_the_first_byte_to_a_ping_in_one_packet() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    let header = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                  xmlns:stream='http://etherx.jabber.org/streams'>";
    client
        .send(&format!(
            "{header}<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldAByMG0zMA==</auth>\
             {header}<iq type='set' id='b'><bind xmlns='{BIND}'/></iq>\
             <iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"
        ))
        .await;
    client.header().await;
    client.features().await;
    assert_eq!(client.element().await.as_raw().name(), "success");
    client.restart();
    client.header().await;
    client.features().await;
    assert!(bound(&client.element().await).is_some());
    assert_eq!(client.element().await.as_raw().attribute("id").as_deref(), Some("p"));
}
