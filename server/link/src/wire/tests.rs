use std::sync::Arc;

use prost::Message as _;

use super::*;
use crate::{Tracking, item::Report};

fn envelope(to: Option<&str>, kept: Option<(u128, bool)>, stanza: &[u8]) -> Arc<Envelope> {
    let from = "romeo@example.net/orchard".parse().unwrap();
    let tracking = kept.map(|(id, archived)| Tracking::new(id, archived, Arc::default()));
    let to = to.map(|to| to.parse().unwrap());
    Arc::new(Envelope {
        to,
        from,
        kind: Kind::Message(MessageType::Chat),
        stanza: stanza.to_vec(),
        copied: false,
        tracking,
    })
}

fn stanzas() -> Vec<Item> {
    let long = vec![b'x'; 70_000];
    let mut items = Vec::new();
    for to in [None, Some("juliet@example.com"), Some("juliet@example.com/balcony")] {
        for kept in [None, Some((u128::MAX, true)), Some((1, false))] {
            for stanza in [&b""[..], b"<message/>", &long] {
                let many = (0..3).map(|n| format!("juliet@example.com/{n}").into()).collect();
                for addressees in [Addressees::To, Addressees::Sessions(many), Addressees::Domain] {
                    items.push(Item::Stanza(envelope(to, kept, stanza), addressees));
                }
            }
        }
    }
    items
}

fn others() -> Vec<Item> {
    let (full, session) = ("juliet@example.com/balcony".into(), SessionId(7));
    let report = |sequence, acknowledged| Report { sequence, acknowledged, envelope: envelope(None, None, b"") };
    vec![
        Item::Reports(vec![report(1, true), report(u64::MAX, true), report(300, false)]),
        Item::Reports(Vec::new()),
        Item::Poke { full, session },
        Item::Close { full: "a@b/c".into(), session, error: StreamCondition::Conflict.into() },
        Item::Close {
            full: "a@b/c".into(),
            session,
            error: StreamError::with_text(StreamCondition::NotAuthorized, "the account was removed"),
        },
        Item::Request { id: 9, content: Bytes::from_static(b"what?") },
        Item::Response { id: 9, content: Some(Bytes::from_static(b"that")) },
        Item::Response { id: 9, content: Some(Bytes::new()) },
        Item::Response { id: 9, content: None },
        Item::Notice(Bytes::from_static(b"hear")),
        Item::Void,
    ]
}

#[test]
fn what_is_written_by_hand_is_what_the_generated_code_reads() {
    let head = Head { first: 7, confirmed: u64::MAX, window: 1 << 20, missing: 3 };
    let (mut body, items) = (Vec::new(), [stanzas(), others()].concat());
    head.write(&mut body);
    items.iter().for_each(|item| write_item(item, false, &mut body));
    let generated = proto::Body::decode(body.as_slice()).unwrap();
    assert_eq!((generated.first, generated.confirmed, generated.window, generated.missing), (7, u64::MAX, 1 << 20, 3));
    assert_eq!(generated.payloads.len(), items.len());
    for (payload, item) in generated.payloads.iter().zip(&items) {
        let Item::Stanza(envelope, addressees) = item else { continue };
        let Some(proto::payload::What::Stanza(stanza)) = &payload.what else { panic!("{payload:?}") };
        assert_eq!((stanza.from.as_str(), &stanza.stanza[..]), (envelope.from.as_str(), &envelope.stanza[..]));
        assert_eq!(stanza.to, envelope.to.as_ref().map_or("", |to| to.as_str()));
        let targets = match addressees {
            Addressees::Sessions(sessions) => sessions.len(),
            Addressees::To | Addressees::Domain => 0,
        };
        assert_eq!((stanza.targets.len(), stanza.to_domain), (targets, matches!(addressees, Addressees::Domain)));
        let id = envelope.tracking.as_ref().map_or(Vec::new(), |tracking| tracking.id.to_be_bytes().to_vec());
        assert_eq!(
            (&stanza.id[..], stanza.archived),
            (&id[..], envelope.tracking.as_ref().is_some_and(|t| t.archived))
        );
    }
    // And the generated code writes the same, byte by byte, but for what neither writes: fields that are empty.
    assert_eq!(generated.encode_to_vec().len(), body.len());
}

#[test]
fn what_is_read_by_hand_is_what_was_written() {
    for item in [stanzas(), others()].concat() {
        let mut body = Vec::new();
        Head { first: 1, ..Head::default() }.write(&mut body);
        write_item(&item, false, &mut body);
        let (head, payloads) = read(&body).unwrap();
        assert_eq!((head.first, payloads.len()), (1, 1));
        match (read_payload(payloads[0]).unwrap(), item) {
            (Payload::Stanza(read), Item::Stanza(envelope, addressees)) => {
                assert_eq!((read.kind, read.from), (Some(envelope.kind), envelope.from.as_str()));
                assert_eq!(read.to, envelope.to.as_ref().map_or("", |to| to.as_str()));
                assert_eq!(read.id, envelope.tracking.as_ref().map(|tracking| tracking.id));
                assert_eq!(
                    (read.stanza, read.to_domain),
                    (&*envelope.stanza, matches!(addressees, Addressees::Domain))
                );
                if let Addressees::Sessions(sessions) = addressees {
                    assert_eq!(read.targets.to_vec(), sessions.iter().map(|full| &**full).collect::<Vec<_>>());
                }
            }
            (Payload::Reports { acknowledged, returned }, Item::Reports(reports)) => {
                let of = |which| reports.iter().filter(move |r| r.acknowledged == which).map(|r| r.sequence);
                assert_eq!((acknowledged, returned), (of(true).collect(), of(false).collect()));
            }
            (Payload::Poke { full, session }, Item::Poke { full: other, session: id }) => {
                assert_eq!((&*full, session), (&*other, id));
            }
            (Payload::Close { full, session, error }, Item::Close { full: other, session: id, error: why }) => {
                assert_eq!((&*full, session, error), (&*other, id, why));
            }
            (Payload::Request { id, content }, Item::Request { id: other, content: what }) => {
                assert_eq!((id, content), (other, what));
            }
            (Payload::Response { id, content }, Item::Response { id: other, content: what }) => {
                assert_eq!((id, content), (other, what));
            }
            (Payload::Notice(content), Item::Notice(what)) => assert_eq!(content, what),
            (Payload::Nothing, Item::Void) => {}
            (read, item) => panic!("{item:?} was read as {read:?}"),
        }
    }
}

#[test]
fn every_kind_has_a_number_of_its_own() {
    for (expected, known) in KINDS {
        assert_eq!((number(known), kind(expected.into())), (expected, Some(known)));
    }
    let numbers: std::collections::BTreeSet<_> = KINDS.iter().map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), KINDS.len());
    assert_eq!(kind(0), None);
}

#[test]
fn what_a_newer_release_adds_is_passed_over() {
    let mut body = Vec::new();
    Head { first: 4, ..Head::default() }.write(&mut body);
    // A field that is not known, of each wire type.
    encode_key(90, WireType::Varint, &mut body);
    encode_varint(u64::MAX, &mut body);
    encode_key(91, WireType::SixtyFourBit, &mut body);
    body.extend_from_slice(&[1; 8]);
    encode_key(92, WireType::ThirtyTwoBit, &mut body);
    body.extend_from_slice(&[1; 4]);
    encode_key(93, WireType::LengthDelimited, &mut body);
    body.extend_from_slice(b"\x03abc");
    // A payload of a kind that is not known.
    encode_key(5, WireType::LengthDelimited, &mut body);
    body.extend_from_slice(b"\x05\xfa\x06\x02hi");
    let (head, payloads) = read(&body).unwrap();
    assert_eq!((head.first, payloads.len()), (4, 1));
    assert!(matches!(read_payload(payloads[0]), Ok(Payload::Nothing)));
}

#[test]
fn whatever_comes_is_read_or_refused_and_nothing_else() {
    let mut seed = 1_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut whole = Vec::new();
    Head { first: 1, confirmed: 2, window: 3, missing: 4 }.write(&mut whole);
    [stanzas(), others()]
        .concat()
        .iter()
        .filter(|item| item.weight() < 1000)
        .for_each(|item| write_item(item, false, &mut whole));
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut body = whole.clone();
        body.truncate(next(body.len() as u64) as usize + 1);
        for _ in 0..=next(3) {
            let at = next(body.len() as u64) as usize;
            body[at] = next(256) as u8;
        }
        match read(&body) {
            Ok((_, payloads)) => refused += payloads.iter().filter(|payload| read_payload(payload).is_err()).count(),
            Err(Malformed) => refused += 1,
        }
    }
    assert!(refused > 1000, "{refused}");
}
