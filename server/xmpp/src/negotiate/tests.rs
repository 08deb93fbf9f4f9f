mod register;
mod resume;

use std::sync::Arc;

use starling_xml::{Frame, Limits, Reader};

use super::TlsInfo;
use super::accept::{Accept, AcceptPolicy, Input, Next, TlsPolicy};
use super::initiate::{self, Initiate};
use crate::random::SystemRandom;
use crate::sasl::{ChannelBindings, Credentials, Mechanism};
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
        registration: true,
        more_features: "<more xmlns='urn:example:more'/>".to_owned(),
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

/// Both ends in memory: without TLS, or, after STARTTLS, with something to bind to.
fn log_in(mechanism: Mechanism, tls: Option<ChannelBindings>, wish: &str) -> String {
    let mut rules = (*policy(if tls.is_some() { TlsPolicy::Required } else { TlsPolicy::Off })).clone();
    rules.mechanisms_without_tls = vec![mechanism];
    rules.mechanisms = vec![mechanism];
    let info = tls.map(|bindings| TlsInfo { bindings, version: "TLSv1.3", server_name: None });
    let known = Credentials::derive("secret", 4096, &mut SystemRandom).unwrap();
    let mut server = Accept::new(Arc::new(rules), None, SystemRandom);
    let me = jid::parse(&format!("me@a.example{wish}")).unwrap();
    let mut client = Initiate::client(&me, "secret", info.is_some(), None, SystemRandom).allow_plain_without_tls();
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
                        let resource = resource.unwrap_or_else(|| jid::parse_resource("made up").unwrap());
                        server.handle(Input::Bound(account.with_resource(&resource)), &mut down)
                    }
                    Next::StartTls => {
                        restart = true;
                        server.handle(Input::TlsReady(info.clone().unwrap()), &mut down)
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
                initiate::Next::StartTls => {
                    restart = true;
                    client.handle(initiate::Input::TlsReady(info.clone().unwrap()), &mut up).unwrap();
                }
                initiate::Next::Read | initiate::Next::Accepted => {}
            }
        }
        if restart {
            at_client.restart();
        }
    }
    panic!("no end");
}

#[test]
fn both_ends_log_in_by_every_mechanism_that_needs_no_binding() {
    for mechanism in Mechanism::BY_STRENGTH.into_iter().filter(|mechanism| !mechanism.is_plus()) {
        assert_eq!(log_in(mechanism, None, "/here"), "me@a.example/here", "{mechanism}");
    }
}

#[test]
fn both_ends_log_in_after_starttls_bound_by_either_type() {
    for exporter in [Some([3; 32]), None] {
        let bindings = ChannelBindings { exporter, end_point: Some(vec![5; 32]) };
        for mechanism in Mechanism::BY_STRENGTH {
            assert_eq!(log_in(mechanism, Some(bindings.clone()), "/here"), "me@a.example/here", "{mechanism}");
        }
    }
}

#[test]
fn rfc6120_7_6_without_a_wish_the_server_makes_up_a_resource() {
    assert_eq!(log_in(Mechanism::ScramSha256, None, ""), "me@a.example/made up");
}

/// What the server answers to an attempt that is told how the store fares.
fn after_load(answer: Input<'_>) -> String {
    let mut accept = Accept::new(policy(TlsPolicy::Off), None, SystemRandom);
    let text = format!(
        "{OPEN}<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>biwsbj1hLHI9eA==</auth>"
    );
    let (mut reader, mut input, mut out) = (Reader::new(Limits::default()), text.as_bytes(), Vec::new());
    let mut answer = Some(answer);
    while let Some(frame) = reader.read(&mut input).unwrap() {
        let next = match &frame {
            Frame::Open(header) => accept.handle(Input::Open(header), &mut out),
            Frame::Element(element) => accept.handle(Input::Element(*element), &mut out),
            Frame::Close => break,
        };
        if let Next::Load { account } = next.unwrap() {
            assert_eq!(account.to_string(), "a@a.example");
            accept.handle(answer.take().unwrap(), &mut out).unwrap();
        }
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn rfc6120_6_5_11_a_store_that_is_away_is_a_temporary_failure() {
    assert!(after_load(Input::BackendAway).contains("<temporary-auth-failure/>"));
}

#[test]
fn an_account_that_does_not_exist_gets_a_challenge_like_any_other() {
    assert!(after_load(Input::Credentials(None)).contains("</challenge>"));
}

#[test]
fn rfc6120_6_4_5_attempts_are_limited() {
    let attempt = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AAAA</auth>";
    let (out, ended) = say(TlsPolicy::Off, &format!("{OPEN}{}", attempt.repeat(3)));
    assert_eq!(out.matches("<malformed-request/>").count(), 2, "{out}");
    assert_eq!(ended, Some(StreamCondition::PolicyViolation));
}

#[test]
fn xep0440_binding_types_are_advertised_with_the_mechanisms_that_use_them() {
    let bindings = ChannelBindings { exporter: Some([3; 32]), end_point: Some(vec![5; 32]) };
    for (bindings, expected) in [(bindings, 2), (ChannelBindings::default(), 0)] {
        let info = TlsInfo { bindings, version: "TLSv1.3", server_name: None };
        let mut accept = Accept::new(policy(TlsPolicy::Required), Some(info), SystemRandom);
        let (mut reader, mut input, mut out) = (Reader::new(Limits::default()), OPEN.as_bytes(), Vec::new());
        let Ok(Some(Frame::Open(header))) = reader.read(&mut input) else { panic!("no header") };
        accept.handle(Input::Open(&header), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.matches("<channel-binding ").count(), expected, "{out}");
        assert_eq!(out.matches("-PLUS</mechanism>").count(), if expected > 0 { 3 } else { 0 }, "{out}");
        assert!(!out.contains("starttls"), "{out}");
    }
}

#[test]
fn xep0114_3_a_component_proves_its_secret_by_the_streams_id() {
    let mut component = Initiate::component("gate.localhost", "gatesecret");
    let (mut reader, mut out) = (Reader::new(Limits::default()), Vec::new());
    component.start(&mut out);
    assert!(String::from_utf8(out.split_off(0)).unwrap().contains("to='gate.localhost'"));
    let mut input = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' \
                     id='3BF96D32' from='gate.localhost'><handshake/>"
        .as_bytes();
    let mut accepted = false;
    while let Some(frame) = reader.read(&mut input).unwrap() {
        let next = match &frame {
            Frame::Open(header) => component.handle(initiate::Input::Open(header), &mut out),
            Frame::Element(element) => component.handle(initiate::Input::Element(*element), &mut out),
            Frame::Close => panic!("closed"),
        };
        accepted = matches!(next.unwrap(), initiate::Next::Accepted);
    }
    // sha1("3BF96D32" + "gatesecret")
    assert_eq!(String::from_utf8(out).unwrap(), "<handshake>e41be3f785072616735afcd4109b5b8797bacfe7</handshake>");
    assert!(accepted);
}
