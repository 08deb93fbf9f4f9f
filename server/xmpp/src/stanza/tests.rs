use starling_xml::{Limits, OwnedElement, Scope, parse};

use super::*;
use crate::error::{Condition, StanzaError, StreamCondition};

fn element(text: &str) -> OwnedElement {
    parse(text, &Scope::client(), Limits::default()).unwrap()
}

/// The condition that answers it, `stream:…` if it ends the stream, or `ok`.
fn verdict(text: &str) -> String {
    let element = element(text);
    match Stanza::parse(element.as_raw()) {
        Ok(_) => "ok".to_owned(),
        Err(malformed) => match malformed.refusal() {
            Refusal::Stanza(error) => error.condition.as_str().to_owned(),
            Refusal::Stream(error) => format!("stream:{}", error.condition.as_str()),
        },
    }
}

#[test]
fn rfc6120_8_headers_are_read_and_bad_ones_are_refused_with_their_condition() {
    for (text, expected) in [
        ("<message/>", "ok"),
        ("<message type='nonsense'/>", "ok"),
        ("<presence/>", "ok"),
        ("<presence type='nonsense'/>", "bad-request"),
        ("<iq type='get' id='1'><a xmlns='u'/></iq>", "ok"),
        ("<iq type='result' id='1'/>", "ok"),
        ("<iq type='get'><a xmlns='u'/></iq>", "bad-request"),
        ("<iq id='1'><a xmlns='u'/></iq>", "bad-request"),
        ("<iq type='nonsense' id='1'><a xmlns='u'/></iq>", "bad-request"),
        ("<iq type='set' id='1'/>", "bad-request"),
        ("<iq type='set' id='1'><a xmlns='u'/><b xmlns='u'/></iq>", "bad-request"),
        ("<iq type='result' id='1'><a xmlns='u'/><b xmlns='u'/></iq>", "bad-request"),
        ("<message to='@'/>", "jid-malformed"),
        ("<message to='a b@c'/>", "jid-malformed"),
        ("<message from='@'/>", "stream:invalid-from"),
        ("<nonsense/>", "stream:unsupported-stanza-type"),
        ("<message xmlns='urn:x'/>", "stream:unsupported-stanza-type"),
        ("<Message/>", "stream:unsupported-stanza-type"),
    ] {
        assert_eq!(verdict(text), expected, "{text}");
    }
}

#[test]
fn rfc6121_5_2_2_a_message_of_an_unknown_type_is_a_normal_one() {
    for (text, kind) in [("<message/>", MessageType::Normal), ("<message type='x'/>", MessageType::Normal)] {
        assert_eq!(Stanza::parse(element(text).as_raw()).unwrap().kind, Kind::Message(kind));
    }
}

#[test]
fn rfc6120_8_3_1_errors_and_results_are_never_answered() {
    let error = StanzaError::new(Condition::ServiceUnavailable);
    for text in [
        "<message type='error'><error/></message>",
        "<presence type='error'><error/></presence>",
        "<iq type='error' id='1'><error/></iq>",
        "<iq type='result' id='1'/>",
        "<nonsense/>",
    ] {
        let mut out = Vec::new();
        assert!(!error.reply(&element(text).as_raw(), None, None, &mut out), "{text}");
        assert!(out.is_empty());
    }
}

#[test]
fn rfc6120_8_3_1_an_error_has_the_id_and_the_addresses_swapped() {
    let mut out = Vec::new();
    let stanza = element("<iq type='get' id='a&amp;b' to='x@y' from='f@g/h'><q xmlns='u'/></iq>");
    let error = StanzaError::with_text(Condition::ItemNotFound, "not <here>");
    assert!(error.reply(&stanza.as_raw(), None, None, &mut out));
    let reply = element(std::str::from_utf8(&out).unwrap());
    let reply = reply.as_raw();
    assert_eq!(reply.attribute("id").as_deref(), Some("a&b"));
    assert_eq!(reply.attribute("from").as_deref(), Some("x@y"));
    assert_eq!(reply.attribute("to").as_deref(), Some("f@g/h"));
    assert_eq!(reply.attribute("type").as_deref(), Some("error"));
    assert_eq!(StanzaError::parse(&reply), Some(error));
}

#[test]
fn every_condition_is_written_and_read_back() {
    for condition in Condition::ALL {
        let mut out = b"<message type='error'>".to_vec();
        StanzaError::new(*condition).write(&mut out);
        out.extend_from_slice(b"</message>");
        let read = StanzaError::parse(&element(std::str::from_utf8(&out).unwrap()).as_raw());
        assert_eq!(read, Some(StanzaError::new(*condition)));
    }
    for condition in StreamCondition::ALL {
        let mut out = Vec::new();
        crate::StreamError::with_text(*condition, "why").write(&mut out);
        let read = crate::StreamError::parse(&element(std::str::from_utf8(&out).unwrap()).as_raw());
        assert_eq!(read, Some(crate::StreamError::with_text(*condition, "why")));
    }
}
