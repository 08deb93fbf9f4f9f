use std::sync::Arc;

use starling_xml::{Frame, Limits, Reader};

use super::accept::{Accept, AcceptPolicy, Input, Next, TlsPolicy};
use super::initiate::{self, Initiate};
use crate::random::SystemRandom;
use crate::sasl::{Credentials, Mechanism};
use crate::{StreamCondition, jid};

fn policy(tls: TlsPolicy) -> Arc<AcceptPolicy> {
    Arc::new(AcceptPolicy {
        domains: vec!["a.example".to_owned()],
        tls,
        mechanisms: Mechanism::BY_STRENGTH.to_vec(),
        mechanisms_without_tls: vec![Mechanism::ScramSha256, Mechanism::Plain],
        max_attempts: 2,
        fake_salt_key: [7; 32],
        fake_iterations: 4096,
        lang: "en".to_owned(),
    })
}

const OPEN: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                    to='a.example' version='1.0'>";

/// What the server writes, with its error last if the stream ends.
fn say(tls: TlsPolicy, text: &str) -> (String, Option<StreamCondition>) {
    let mut accept = Accept::new(policy(tls), None, SystemRandom);
    let (mut reader, mut input, mut out) = (Reader::new(Limits::default()), text.as_bytes(), Vec::new());
    let mut ended = None;
    while let Ok(Some(frame)) = reader.read(&mut input) {
        let result = match &frame {
            Frame::Open(header) => accept.handle(Input::Open(header), &mut out),
            Frame::Element(element) => accept.handle(Input::Element(*element), &mut out),
            Frame::Close => break,
        };
        if let Err(error) = result {
            accept.fail(&error, &mut out);
            ended = Some(error.condition);
            break;
        }
    }
    (String::from_utf8(out).unwrap(), ended)
}

#[test]
fn rfc6120_4_headers_are_refused_behind_a_header_of_ours() {
    for (from, to, condition) in [
        ("to='a.example'", "to='b.example'", StreamCondition::HostUnknown),
        (" version='1.0'", "", StreamCondition::UnsupportedVersion),
        ("version='1.0'", "version='0.9'", StreamCondition::UnsupportedVersion),
        ("jabber:client", "jabber:server", StreamCondition::InvalidNamespace),
        ("etherx.jabber.org", "other.example", StreamCondition::InvalidNamespace),
    ] {
        let (out, ended) = say(TlsPolicy::Off, &OPEN.replace(from, to));
        assert_eq!(ended, Some(condition), "{to}");
        assert!(out.starts_with("<?xml") && out.ends_with("</stream:stream>"), "{out}");
    }
}

#[test]
fn rfc6120_5_3_1_required_tls_is_offered_alone() {
    let (out, ended) = say(TlsPolicy::Required, OPEN);
    assert!(ended.is_none() && out.contains("<required/>") && !out.contains("<mechanism"), "{out}");
}

#[test]
fn rfc6120_5_and_6_refusals() {
    let auth = |name: &str, text: &str| {
        format!("{OPEN}<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{name}'>{text}</auth>")
    };
    for (tls, text, word) in [
        (
            TlsPolicy::Off,
            format!("{OPEN}<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
            "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        ),
        (TlsPolicy::Off, format!("{OPEN}<message/>"), "<not-authorized xmlns"),
        (TlsPolicy::Off, auth("X-NONE", ""), "<invalid-mechanism/>"),
        (TlsPolicy::Off, auth("PLAIN", "a b"), "<incorrect-encoding/>"),
        (TlsPolicy::Off, auth("PLAIN", "AAAA"), "<malformed-request/>"),
        (TlsPolicy::Required, auth("PLAIN", "AGEAYg=="), "<encryption-required/>"),
    ] {
        assert!(say(tls, &text).0.contains(word), "{text}");
    }
}

/// Both ends in memory, without TLS.
fn log_in(mechanism: Mechanism) -> String {
    let mut rules = (*policy(TlsPolicy::Off)).clone();
    rules.mechanisms_without_tls = vec![mechanism];
    let known = Credentials::derive("secret", 4096, &mut SystemRandom).unwrap();
    let mut server = Accept::new(Arc::new(rules), None, SystemRandom);
    let me = jid::parse("me@a.example/here").unwrap();
    let mut client = Initiate::client(&me, "secret", false, None, SystemRandom).allow_plain_without_tls();
    let (mut at_server, mut at_client) = (Reader::new(Limits::default()), Reader::new(Limits::default()));
    let (mut up, mut down) = (Vec::new(), Vec::new());
    client.start(&mut up);
    for _ in 0..20 {
        let sent = std::mem::take(&mut up);
        let mut input = sent.as_slice();
        let mut restart = false;
        while let Some(frame) = at_server.read(&mut input).unwrap() {
            let mut next = match &frame {
                Frame::Open(header) => server.handle(Input::Open(header), &mut down),
                Frame::Element(element) => server.handle(Input::Element(*element), &mut down),
                Frame::Close => panic!("closed"),
            };
            loop {
                next = match next.unwrap() {
                    Next::Load { .. } => server.handle(Input::Credentials(Some(known.clone())), &mut down),
                    Next::CheckPassword(check) => server.handle(Input::PasswordChecked(check.run()), &mut down),
                    Next::Bind { account, resource } => {
                        let full = account.with_resource(&resource.unwrap());
                        server.handle(Input::Bound(full), &mut down)
                    }
                    Next::Authenticated { .. } => {
                        restart = true;
                        break;
                    }
                    Next::Read | Next::Established { .. } => break,
                    other => panic!("{other:?}"),
                };
            }
        }
        if restart {
            at_server.restart();
        }
        let sent = std::mem::take(&mut down);
        let mut input = sent.as_slice();
        restart = false;
        while let Some(frame) = at_client.read(&mut input).unwrap() {
            let next = match &frame {
                Frame::Open(header) => client.handle(initiate::Input::Open(header), &mut up),
                Frame::Element(element) => client.handle(initiate::Input::Element(*element), &mut up),
                Frame::Close => panic!("closed"),
            };
            match next.unwrap() {
                initiate::Next::Established { full } => return full.to_string(),
                initiate::Next::Restart => restart = true,
                _ => {}
            }
        }
        if restart {
            at_client.restart();
        }
    }
    panic!("no end");
}

#[test]
fn both_ends_log_in_by_scram_and_plain() {
    assert_eq!(log_in(Mechanism::ScramSha256), "me@a.example/here");
    assert_eq!(log_in(Mechanism::Plain), "me@a.example/here");
}
