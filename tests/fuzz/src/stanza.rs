//! Stanzas and addresses: any element is either a stanza or refused, what answers it is well-formed, and normalising an
//! address twice changes nothing (RFC 7622 §3).
//!
//! Input: an element of a client's stream. Its text is also taken as an address.

use starling_xml::{Limits, Scope, parse};
use starling_xmpp::stanza::{Refusal, Stanza};
use starling_xmpp::{Condition, StanzaError, jid};

/// The target.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    address(text);
    let Ok(element) = parse(text, &Scope::client(), Limits::default()) else { return };
    let raw = element.as_raw();
    address(&raw.text());
    for name in ["to", "from"] {
        address(&raw.attribute(name).unwrap_or_default());
    }
    let mut out = Vec::new();
    match Stanza::parse(raw) {
        Ok(stanza) => {
            assert_eq!(stanza.id, raw.attribute("id"));
            if StanzaError::new(Condition::ServiceUnavailable).reply(&raw, None, None, &mut out) {
                check_answer(&out, raw.name());
            } else {
                assert!(out.is_empty(), "no answer, and yet something to send");
            }
        }
        Err(malformed) => match malformed.refusal() {
            Refusal::Stanza(error) => {
                if error.reply(&raw, None, None, &mut out) {
                    check_answer(&out, raw.name());
                }
            }
            Refusal::Stream(error) => {
                error.write(&mut out);
                check_answer(&out, "error");
            }
        },
    }
}

fn check_answer(answer: &[u8], name: &str) {
    let answer = std::str::from_utf8(answer).expect("UTF-8");
    match parse(answer, &Scope::client(), Limits::default()) {
        Ok(element) => assert_eq!(element.as_raw().name(), name, "{answer}"),
        Err(error) => panic!("{error}: {answer}"),
    }
}

fn address(text: &str) {
    let Ok(address) = jid::parse(text) else { return };
    match jid::parse(address.as_str()) {
        Ok(again) => assert_eq!(again, address, "normalised twice: {text:?}"),
        Err(error) => panic!("{text:?} became {address}, which is none: {error}"),
    }
}
