//! RFC 6120 §8: stanzas.

use starling_test_support::{Element, RawClient};

use crate::{both, juliet, verona};

const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// Type and condition of an error stanza.
fn error(answer: &Element) -> Option<(String, String)> {
    let raw = answer.as_raw();
    let error = raw.child("error", "jabber:client").filter(|_| raw.attribute("type").as_deref() == Some("error"))?;
    let condition = error.children().find(|child| child.namespace() == STANZAS)?;
    Some((error.attribute("type")?.into_owned(), condition.name().to_owned()))
}

fn is_error(answer: &Element, kind: &str, condition: &str) -> bool {
    error(answer) == Some((kind.to_owned(), condition.to_owned()))
}

#[tokio::test]
async fn rfc6120_8_2_3_what_is_no_iq_is_a_bad_request() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let table = [
        format!("<iq type='get' to='localhost'>{ping}</iq>"),
        format!("<iq id='1' to='localhost'>{ping}</iq>"),
        format!("<iq type='fetch' id='1' to='localhost'>{ping}</iq>"),
        "<iq type='get' id='1' to='localhost'/>".to_owned(),
        "<iq type='set' id='1' to='localhost'/>".to_owned(),
        format!("<iq type='get' id='1' to='localhost'>{ping}{ping}</iq>"),
    ];
    for stanza in table {
        let answer = client.ask(&stanza).await;
        assert!(is_error(&answer, "modify", "bad-request"), "{stanza}\n{}", client.transcript());
    }
}

#[tokio::test]
async fn rfc6120_8_2_3_results_and_errors_are_never_answered() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for to in ["", "to='localhost'", "to='romeo@localhost'", "to='romeo@localhost/x'", "to='nobody@localhost/x'"] {
        client.send(&format!("<iq type='result' id='1' {to}/>")).await;
        client
            .send(&format!(
                "<iq type='error' id='1' {to}><error type='cancel'><item-not-found xmlns='{STANZAS}'/></error></iq>"
            ))
            .await;
        client
            .send(&format!(
                "<message type='error' id='1' {to}><error type='cancel'><gone xmlns='{STANZAS}'/></error></message>"
            ))
            .await;
    }
    client.expect_nothing().await;
}

#[tokio::test]
async fn rfc6120_8_4_an_unknown_payload_is_service_unavailable() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for to in ["", "to='localhost'", "to='juliet@localhost'", "to='romeo@localhost'"] {
        for kind in ["get", "set"] {
            let answer = client.ask(&format!("<iq type='{kind}' id='1' {to}><q xmlns='urn:example:no'/></iq>")).await;
            assert!(is_error(&answer, "cancel", "service-unavailable"), "{to} {kind}\n{}", client.transcript());
        }
    }
}

#[tokio::test]
async fn rfc6120_8_3_1_an_error_comes_from_the_address_that_was_asked_with_the_same_id() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let answer = client.ask("<iq type='get' id='&lt;&apos;&gt;' to='romeo@localhost/x'><q xmlns='urn:no'/></iq>").await;
    let raw = answer.as_raw();
    assert_eq!(raw.attribute("id").as_deref(), Some("<'>"));
    assert_eq!(raw.attribute("from").as_deref(), Some("romeo@localhost/x"));
    assert_eq!(raw.attribute("to").as_deref(), Some("juliet@localhost/balcony"));
    assert!(is_error(&answer, "cancel", "service-unavailable"));
}

#[tokio::test]
async fn rfc6120_8_3_3_8_a_malformed_address_is_jid_malformed() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let long = format!("{}@localhost", "a".repeat(1024));
    for to in ["@localhost", "romeo@", "romeo@localhost/", "ro meo@localhost", "a@b@c", long.as_str()] {
        for stanza in [
            format!("<message to='{to}' id='1'><body>?</body></message>"),
            format!("<iq type='get' id='1' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>"),
        ] {
            let answer = client.ask(&stanza).await;
            assert!(is_error(&answer, "modify", "jid-malformed"), "{to}\n{}", client.transcript());
        }
    }
}

#[tokio::test]
async fn rfc6120_8_1_2_1_a_from_that_is_not_ones_own_ends_the_stream() {
    let server = verona().start().await;
    for from in ["romeo@localhost", "juliet@localhost/garden", "localhost", "not@@an address", ""] {
        let mut client = juliet(&server, "balcony").await;
        client.send(&format!("<message from='{from}' to='romeo@localhost'><body>?</body></message>")).await;
        client.expect_stream_error("invalid-from").await;
    }
}

#[tokio::test]
async fn rfc6120_8_1_2_1_from_is_stamped_with_the_full_jid() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    for from in ["", "from='juliet@localhost'", "from='juliet@localhost/balcony'"] {
        juliet.send(&format!("<message {from} to='romeo@localhost/orchard' id='1'><body>?</body></message>")).await;
        let message = romeo.element().await;
        assert_eq!(message.as_raw().attribute("from").as_deref(), Some("juliet@localhost/balcony"));
        assert_eq!(message.as_raw().attribute("to").as_deref(), Some("romeo@localhost/orchard"));
    }
}

#[tokio::test]
async fn rfc6120_8_1_5_a_stanza_without_language_gets_that_of_the_stream() {
    let server = verona().start().await;
    let mut juliet = RawClient::plain(&server).await;
    juliet.open("localhost").await;
    juliet.authenticate("PLAIN", "juliet", "r0m30").await.unwrap();
    juliet
        .send(
            "<stream:stream to='localhost' version='1.0' xml:lang='it' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>",
        )
        .await;
    juliet.header().await;
    juliet.features().await;
    juliet.bind("balcony").await;
    let echo = juliet.ask("<message to='juliet@localhost/balcony'><body>ciao</body></message>").await;
    assert_eq!(echo.as_raw().lang().as_deref(), Some("it"));
    let echo = juliet.ask("<message xml:lang='de' to='juliet@localhost/balcony'><body>Tag</body></message>").await;
    assert_eq!(echo.as_raw().lang().as_deref(), Some("de"));
}

#[tokio::test]
async fn rfc6120_8_1_3_an_id_is_kept_as_it_is() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    juliet.send("<message to='romeo@localhost/orchard' id='a&amp;b&quot;ü'><body>?</body></message>").await;
    assert_eq!(romeo.element().await.as_raw().attribute("id").as_deref(), Some("a&b\"ü"));
    juliet.send("<message to='romeo@localhost/orchard'><body>?</body></message>").await;
    assert_eq!(romeo.element().await.as_raw().attribute("id"), None);
}

#[tokio::test]
async fn rfc6120_8_1_4_an_unknown_type_of_message_is_a_normal_one() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    juliet.send("<message type='shout' to='romeo@localhost/orchard'><body>?</body></message>").await;
    assert_eq!(romeo.element().await.as_raw().name(), "message");
    let answer = juliet.ask("<message type='shout' to='romeo@localhost/none' id='1'><body>?</body></message>").await;
    assert!(is_error(&answer, "cancel", "service-unavailable"), "{}", juliet.transcript());
}

#[tokio::test]
async fn rfc6120_8_4_extended_content_passes_as_it_is() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    let payload = "<x xmlns='urn:example:x' a='1&amp;2'><y:z xmlns:y='urn:example:y' y:b='ä'>&lt;ü&gt;</y:z> <e/></x>";
    juliet.send(&format!("<message to='romeo@localhost/orchard'>{payload}</message>")).await;
    let message = romeo.element().await;
    let x = message.as_raw().child("x", "urn:example:x").unwrap();
    assert_eq!(x.attribute("a").as_deref(), Some("1&2"));
    let z = x.child("z", "urn:example:y").unwrap();
    assert_eq!((z.attribute_ns("urn:example:y", "b").as_deref(), z.text().as_ref()), (Some("ä"), "<ü>"));
}

#[tokio::test]
async fn rfc6120_4_9_3_24_first_level_elements_that_are_no_stanzas_end_the_stream() {
    let server = verona().start().await;
    for element in ["<pigeon/>", "<message xmlns='jabber:server'/>", "<message xmlns='urn:example'/>"] {
        let mut client = juliet(&server, "balcony").await;
        client.send(element).await;
        client.expect_stream_error("unsupported-stanza-type").await;
    }
}
