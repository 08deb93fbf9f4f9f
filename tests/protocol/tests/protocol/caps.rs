//! XEP-0115: entity capabilities, of the server and of clients.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use starling_test_support::{Element, RawClient, Server, condition};

use crate::{both, juliet, romeo, verona};

const CAPS: &str = "http://jabber.org/protocol/caps";
const INFO: &str = "http://jabber.org/protocol/disco#info";

/// The simple example of §5.2.
const VER: &str = "QgayPKawpkPSDYmwT/WM94uAlu0=";
const EXODUS: &str = "<identity category='client' name='Exodus 0.9.1' type='pc'/>\
    <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#items'/>\
    <feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/muc'/>";
/// Something else, which has the same verification string: the last feature as the type of a form.
const FORGED: &str = "<identity category='client' name='Exodus 0.9.1' type='pc'/>\
    <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#items'/>\
    <feature var='http://jabber.org/protocol/disco#info'/><x xmlns='jabber:x:data' type='result'>\
    <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc</value></field></x>";

/// Sends presence with `<c/>`; the id of the server's question, if it has one. It asks before it broadcasts.
async fn announce(client: &mut RawClient, attributes: &str) -> Option<String> {
    client.send(&format!("<presence><c xmlns='{CAPS}' node='urn:exodus' {attributes}/></presence>")).await;
    let mut asked = None;
    loop {
        let element = client.element().await;
        match element.as_raw().name() {
            "presence" if element.as_raw().attribute("from").as_deref() == Some(client.full()) => break,
            "presence" => {}
            _ => assert!(asked.replace(element).is_none(), "{}", client.transcript()),
        }
    }
    let asked: Element = asked?;
    let asked = asked.as_raw();
    assert_eq!(asked.attribute("type").as_deref(), Some("get"));
    assert_eq!(asked.attribute("from").as_deref(), Some("localhost"));
    assert_eq!(asked.attribute("to").as_deref(), Some(client.full()));
    let query = asked.child("query", INFO).unwrap();
    assert!(query.attribute("node").unwrap().starts_with("urn:exodus#"), "{}", client.transcript());
    Some(asked.attribute("id").unwrap().into_owned())
}

fn hashed() -> String {
    format!("hash='sha-1' ver='{VER}'")
}

async fn answer(client: &mut RawClient, id: &str, inner: &str) {
    client
        .send(&format!("<iq type='result' id='{id}' to='localhost'><query xmlns='{INFO}'>{inner}</query></iq>"))
        .await;
    client.expect_nothing_but_presence().await;
}

/// Whether a client that announces the hash now is asked what it means.
async fn is_asked_of_another(server: &Server) -> bool {
    let mut client = juliet(server, "another").await;
    announce(&mut client, &hashed()).await.is_some()
}

#[tokio::test]
async fn xep0115_6_3_the_servers_own_are_a_stream_feature_and_a_disco_node() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    let features = client.identify("juliet@localhost", "r0m30").await;
    let c = features.as_raw().child("c", CAPS).unwrap();
    assert_eq!(c.attribute("hash").as_deref(), Some("sha-1"));
    let node = format!("{}#{}", c.attribute("node").unwrap(), c.attribute("ver").unwrap());
    client.bind("balcony").await;
    let info = |node: &str| format!("<iq type='get' id='1' to='localhost'><query xmlns='{INFO}' {node}/></iq>");
    let answer = client.ask(&info(&format!("node='{node}'"))).await;
    let query = answer.as_raw().child("query", INFO).unwrap();
    assert_eq!(query.attribute("node").as_deref(), Some(node.as_str()));

    // §5.1, by hand.
    let mut tokens = Vec::new();
    for child in query.children() {
        let text = |name| child.attribute(name).unwrap_or_default().into_owned();
        match child.name() {
            "identity" => tokens.push(format!("{}/{}//{}", text("category"), text("type"), text("name"))),
            _ => tokens.push(text("var")),
        }
    }
    tokens[1..].sort_unstable();
    let text: String = tokens.iter().map(|token| format!("{token}<")).collect();
    let ver = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
    assert_eq!(c.attribute("ver").as_deref(), Some(ver.as_str()), "{text}");
    assert!(tokens.iter().any(|token| token == CAPS));

    let plain = client.ask(&info("")).await;
    let count = |answer: &Element| answer.as_raw().child("query", INFO).unwrap().children().count();
    assert_eq!(count(&plain), count(&answer));
    let other = client.ask(&info(&format!("node='{node}x'"))).await;
    assert_eq!(condition(&other).as_deref(), Some("item-not-found"));
}

#[tokio::test]
async fn xep0115_6_2_the_first_client_of_a_hash_is_asked_and_no_other() {
    let server = verona().start_one().await;
    let (mut juliet, mut romeo) = both(&server).await;
    let id = announce(&mut juliet, &hashed()).await.unwrap();
    assert!(announce(&mut juliet, &hashed()).await.is_none(), "not twice");
    assert!(announce(&mut romeo, &hashed()).await.is_none(), "one at a time");
    answer(&mut juliet, &id, EXODUS).await;
    assert!(!is_asked_of_another(&server).await);
    let mut mute = juliet_without_caps(&server).await;
    assert!(mute.until_quiet().await.iter().all(|element| element.as_raw().name() == "presence"));
}

async fn juliet_without_caps(server: &Server) -> RawClient {
    let mut client = juliet(server, "mute").await;
    client.become_available(0).await;
    client
}

#[tokio::test]
async fn xep0115_5_4_an_answer_that_does_not_prove_its_hash_is_not_believed_of_others() {
    for wrong in ["<identity category='client' type='pc'/><feature var='urn:evil'/>", FORGED, ""] {
        let server = verona().start_one().await;
        let (mut juliet, mut romeo) = both(&server).await;
        let id = announce(&mut romeo, &hashed()).await.unwrap();
        assert!(announce(&mut juliet, &hashed()).await.is_none());
        answer(&mut romeo, &id, wrong).await;
        // She waited for his answer, and is asked now that it is worth nothing.
        let asked = juliet.until_quiet().await;
        let id = asked.iter().find(|element| element.as_raw().name() == "iq").unwrap().as_raw().attribute("id");
        assert!(announce(&mut romeo, &hashed()).await.is_none(), "he is not asked again");
        answer(&mut juliet, &id.unwrap(), EXODUS).await;
        assert!(!is_asked_of_another(&server).await);
    }
}

#[tokio::test]
async fn xep0115_answers_count_only_from_whom_was_asked() {
    let server = verona().start_one().await;
    let (mut juliet, mut romeo) = both(&server).await;
    let id = announce(&mut juliet, &hashed()).await.unwrap();
    // Right answers, of somebody else, and to a question that nobody asked.
    answer(&mut romeo, &id, EXODUS).await;
    answer(&mut juliet, "caps-0", EXODUS).await;
    let mut second = romeo_again(&server).await;
    assert!(announce(&mut second, &hashed()).await.is_none(), "Juliet's answer is still waited for");
    // An error passes the question on, and what she says after it is too late.
    juliet
        .send(&format!(
            "<iq type='error' id='{id}' to='localhost'><error type='cancel'>\
             <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        ))
        .await;
    answer(&mut juliet, &id, EXODUS).await;
    assert!(second.until_quiet().await.iter().any(|element| element.as_raw().name() == "iq"));
}

async fn romeo_again(server: &Server) -> RawClient {
    romeo(server, "again").await
}

#[tokio::test]
async fn xep0115_without_a_hash_every_client_is_asked_for_itself() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    for attributes in [format!("ver='{VER}'"), "hash='md2' ver='another'".to_owned()] {
        for client in [&mut juliet, &mut romeo] {
            let id = announce(client, &attributes).await.unwrap();
            answer(client, &id, EXODUS).await;
        }
    }
    assert!(is_asked_of_another(&server).await);
}

#[tokio::test]
async fn xep0115_a_client_that_leaves_without_an_answer_holds_nobody_up() {
    let server = verona().start_one().await;
    let (mut juliet, mut romeo) = both(&server).await;
    announce(&mut romeo, &hashed()).await.unwrap();
    assert!(announce(&mut juliet, &hashed()).await.is_none());
    drop(romeo);
    loop {
        let element = juliet.element().await;
        if element.as_raw().name() == "iq" {
            assert!(element.as_raw().child("query", INFO).is_some(), "{}", juliet.transcript());
            break;
        }
    }
}
