//! XEP-0077 before log-in.

use super::*;
use crate::negotiate::accept;
use crate::{Condition, StanzaError};

const FEATURE: &str = "<register xmlns='http://jabber.org/features/iq-register'/>";
const GET: &str = "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>";

fn set(fields: &str) -> String {
    format!("<iq type='set' id='1' to='a.example'><query xmlns='jabber:iq:register'>{fields}</query></iq>")
}

const GOOD: &str = "<username>Romeo</username><password>jul13t</password>";

/// What is written, what was to be registered, and the error that ends the stream. The store says `answer`.
fn say(
    rules: &AcceptPolicy,
    tls: bool,
    text: &str,
    answer: Result<(), StanzaError>,
) -> (String, Vec<String>, Option<StreamCondition>) {
    let info = TlsInfo { bindings: ChannelBindings::default(), version: "TLSv1.3", server_name: None };
    let mut accept = Accept::new(Arc::new(rules.clone()), tls.then_some(info), SystemRandom);
    let text = format!("{OPEN}{text}");
    let (mut reader, mut input, mut out) = (Reader::new(Limits::default()), text.as_bytes(), Vec::new());
    let (mut asked, mut ended) = (Vec::new(), None);
    while let Some(frame) = reader.read(&mut input).unwrap() {
        let next = match &frame {
            Frame::Open(header) => accept.handle(Input::Open(header), &mut out),
            Frame::Element(element) => accept.handle(Input::Element(*element), &mut out),
            Frame::Close => break,
        };
        match next {
            Ok(Next::Register { account, password }) => {
                assert!(!format!("{password:?}").contains("jul13t"));
                password.derive(4096, &mut SystemRandom).unwrap();
                asked.push(account.to_string());
                accept.handle(Input::Registered(answer.clone()), &mut out).unwrap();
            }
            Ok(_) => {}
            Err(error) => {
                accept.fail(&error, &mut out);
                ended = Some(error.condition);
                break;
            }
        }
    }
    (String::from_utf8(out).unwrap(), asked, ended)
}

#[test]
fn xep0077_8_it_is_offered_and_taken_only_where_a_password_may_be_sent() {
    let with_plain = (*policy(TlsPolicy::Optional)).clone();
    let without_plain = AcceptPolicy { mechanisms_without_tls: vec![Mechanism::ScramSha256], ..with_plain.clone() };
    let required = AcceptPolicy { tls: TlsPolicy::Required, ..with_plain.clone() };
    let off = AcceptPolicy { registration: false, ..with_plain.clone() };
    for (rules, tls, offered) in [
        (&with_plain, false, true),
        (&with_plain, true, true),
        (&without_plain, false, false),
        (&without_plain, true, true),
        (&required, false, false),
        (&required, true, true),
        (&off, false, false),
        (&off, true, false),
    ] {
        let (out, asked, ended) = say(rules, tls, &format!("{GET}{}", set(GOOD)), Ok(()));
        assert_eq!(out.contains(FEATURE), offered, "{out}");
        assert_eq!(asked.is_empty(), !offered, "{out}");
        assert_eq!(ended, (!offered).then_some(StreamCondition::NotAuthorized), "{out}");
    }
}

#[test]
fn xep0077_3_1_fields_are_told_and_an_account_is_made_by_its_prepared_name() {
    let rules = policy(TlsPolicy::Off);
    let (out, asked, ended) = say(&rules, false, &format!("{GET}{}", set(GOOD)), Ok(()));
    assert_eq!((asked, ended), (vec!["romeo@a.example".to_owned()], None));
    assert!(out.contains("<username/><password/></query></iq><iq type='result' id='1' from='a.example'/>"), "{out}");
}

#[test]
fn xep0077_3_1_what_the_store_refuses_is_told_and_another_try_is_open() {
    let rules = policy(TlsPolicy::Off);
    let (out, asked, ended) = say(&rules, false, &set(GOOD).repeat(2), Err(Condition::Conflict.into()));
    assert_eq!((asked.len(), ended), (2, None));
    assert_eq!(out.matches("<conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>").count(), 2, "{out}");
}

#[test]
fn xep0077_3_requests_that_cannot_be_met() {
    let rules = policy(TlsPolicy::Off);
    let name = |name: &str| set(&format!("<username>{name}</username><password>x</password>"));
    for (request, condition) in [
        (set(""), "not-acceptable"),
        (set("<username>romeo</username>"), "not-acceptable"),
        (set("<username>romeo</username><password/>"), "not-acceptable"),
        (set("<username/><password>x</password>"), "not-acceptable"),
        (name("romeo@a.example"), "not-acceptable"),
        (name("ro meo"), "not-acceptable"),
        (name("romeo/orchard"), "not-acceptable"),
        (set("<remove/>"), "unexpected-request"),
        (GET.replace(" id='1'", ""), "bad-request"),
    ] {
        let (out, asked, ended) = say(&rules, false, &request, Ok(()));
        assert!(asked.is_empty() && ended.is_none(), "{request}");
        assert!(
            out.contains(&format!("<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>")),
            "{request}: {out}"
        );
    }
}

#[test]
fn rfc6120_4_9_3_12_other_stanzas_still_end_the_stream() {
    let rules = policy(TlsPolicy::Off);
    for stanza in [
        "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='result' id='1'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='get' id='1' to='b.example'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='get' id='1' to='juliet@a.example'><query xmlns='jabber:iq:register'/></iq>",
        "<message><query xmlns='jabber:iq:register'/></message>",
    ] {
        let (_, asked, ended) = say(&rules, false, stanza, Ok(()));
        assert_eq!((asked.is_empty(), ended), (true, Some(StreamCondition::NotAuthorized)), "{stanza}");
    }
}

#[test]
fn what_the_caller_adds_is_announced_after_log_in() {
    let mut out = Vec::new();
    accept::features::write_authenticated(&policy(TlsPolicy::Off), &mut out);
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("</session><more xmlns='urn:example:more'/><sm xmlns='urn:xmpp:sm:3'/>"), "{out}");
}
