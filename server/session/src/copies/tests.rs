use starling_registry::{InstanceId, SessionId, SessionRecord};
use starling_xml::{Limits, Scope, parse};

use super::*;

/// The facts of a message with these attributes and this inside.
fn of(attributes: &str, inner: &str) -> Facts {
    let text = format!("<message {attributes}>{inner}</message>");
    let element = parse(&text, &Scope::client(), Limits::default()).unwrap();
    facts(&Stanza::parse(element.as_raw()).unwrap()).unwrap()
}

fn copied(facts: &Facts) -> (bool, bool) {
    (facts.is_copied(Direction::Sent), facts.is_copied(Direction::Received))
}

const BODY: &str = "<body>Hi</body>";
const ACTIVE: &str = "<active xmlns='http://jabber.org/protocol/chatstates'/>";
const REQUEST: &str = "<request xmlns='urn:xmpp:receipts'/>";
const MARKER: &str = "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>";
const PRIVATE: &str = "<private xmlns='urn:xmpp:carbons:2'/>";
const NO_COPY: &str = "<no-copy xmlns='urn:xmpp:hints'/>";
const FORGED: &str = "<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'/></received>";
const DIRECT: &str = "<x xmlns='jabber:x:conference' jid='room@muc.example'/>";
const MEDIATED: &str = "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='a@b'/></x>";
const WITHIN: &str = "<x xmlns='http://jabber.org/protocol/muc#user'/>";
const OTHER: &str = "<q xmlns='urn:example:q'/>";
const THREAD: &str = "<thread>t</thread>";
const ORIGIN: &str = "<origin-id xmlns='urn:xmpp:sid:0' id='1'/>";
const NO_STORE: &str = "<no-store xmlns='urn:xmpp:hints'/>";
const NO_PERMANENT: &str = "<no-permanent-store xmlns='urn:xmpp:hints'/>";
const STORE: &str = "<store xmlns='urn:xmpp:hints'/>";
const ERROR: &str = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";

#[test]
fn xep0280_6_1_every_type_with_every_payload() {
    // Per payload: chat, normal, headline, groupchat; sent and received alike.
    let table = [
        ("", "ynnn"),
        (BODY, "yynn"),
        (ACTIVE, "yyyn"),
        (REQUEST, "yyyn"),
        (MARKER, "yyyn"),
        (OTHER, "ynnn"),
        (DIRECT, "yyyn"),
        (MEDIATED, "yyyn"),
        (THREAD, "ynnn"),
        (ORIGIN, "ynnn"),
        (STORE, "ynnn"),
        (NO_STORE, "ynnn"),
        (PRIVATE, "nnnn"),
        (NO_COPY, "nnnn"),
        (FORGED, "nnnn"),
    ];
    for (payload, expected) in table {
        for (kind, expected) in ["chat", "normal", "headline", "groupchat"].into_iter().zip(expected.chars()) {
            for to in ["romeo@localhost", "romeo@localhost/orchard"] {
                let facts = of(&format!("type='{kind}' to='{to}'"), payload);
                let expected = expected == 'y';
                assert_eq!(copied(&facts), (expected, expected), "{kind} to {to}: {payload}");
            }
        }
    }
}

#[test]
fn xep0280_6_1_what_forbids_a_copy_outweighs_what_allows_it() {
    for payload in [BODY, ACTIVE, REQUEST, MARKER, DIRECT, MEDIATED, WITHIN] {
        for forbidden in [PRIVATE, NO_COPY, FORGED] {
            let facts = of("type='chat' to='romeo@localhost/orchard'", &format!("{payload}{forbidden}"));
            assert_eq!(copied(&facts), (false, false), "{payload}{forbidden}");
        }
    }
}

/// The room copies its own private messages to all clients that joined; nobody else copies those that are sent.
#[test]
fn xep0280_6_1_private_messages_within_a_room_are_copied_when_sent_only() {
    for kind in ["chat", "normal"] {
        let full = of(&format!("type='{kind}' to='r@muc/nick' from='r@muc/nick'"), &format!("{BODY}{WITHIN}"));
        assert_eq!(copied(&full), (true, false), "{kind}");
        // From or to a bare JID it is not between participants: the other rules hold.
        let bare = of(&format!("type='{kind}' to='r@muc' from='r@muc'"), &format!("{BODY}{WITHIN}"));
        assert_eq!(copied(&bare), (true, true), "{kind}");
    }
    // An invitation comes from a room with the same element.
    let invitation = of("type='normal' from='r@muc/nick'", MEDIATED);
    assert_eq!(copied(&invitation), (true, true));
}

#[test]
fn xep0280_6_1_an_error_is_copied_if_it_answers_what_was_copied() {
    let mut facts = of("type='error' to='romeo@localhost/orchard'", &format!("{BODY}{ACTIVE}{ERROR}"));
    assert_eq!(copied(&facts), (false, false));
    facts.answers_copied = true;
    assert_eq!(copied(&facts), (true, true));
    // XEP-0334 §5: an echoed hint is not a hint; an echoed <private/> was never copied.
    let mut facts = of("type='error'", &format!("{BODY}{NO_COPY}{ERROR}"));
    facts.answers_copied = true;
    assert_eq!(copied(&facts), (true, true));
}

#[test]
fn xep0280_11_what_claims_to_be_a_copy_is_never_copied() {
    for name in ["sent", "received"] {
        let claim = format!("<{name} xmlns='urn:xmpp:carbons:2'/>{BODY}");
        assert!(of("type='chat'", &claim).is_copy);
        assert_eq!(copied(&of("type='chat'", &claim)), (false, false));
    }
    // Of another namespace it claims nothing.
    assert_eq!(copied(&of("type='chat'", "<sent xmlns='urn:example:q'/>")), (true, true));
}

#[test]
fn names_count_in_their_namespace_only() {
    for inner in [
        "<body xmlns='urn:example:q'/>",
        "<private xmlns='urn:example:q'/>",
        "<q xmlns='urn:example:q'><body xmlns='jabber:client'/></q>",
        "<no-copy/>",
    ] {
        let facts = of("type='normal'", inner);
        assert_eq!((facts.body, facts.private, facts.no_copy), (false, false, false), "{inner}");
    }
}

#[test]
fn xep0160_3_xep0313_6_1_1_xep0334_4_every_type_with_every_payload() {
    const NOT: Keep = Keep { archive: false, offline: false };
    const ALL: Keep = Keep { archive: true, offline: true };
    const OFFLINE: Keep = Keep { archive: false, offline: true };
    const ARCHIVE: Keep = Keep { archive: true, offline: false };
    // Per payload: chat and normal, headline.
    let table = [
        (vec![], NOT, NOT),
        (vec![BODY], ALL, NOT),
        (vec![ACTIVE], NOT, NOT),
        (vec![ACTIVE, THREAD, ORIGIN], NOT, NOT),
        (vec![THREAD], NOT, NOT),
        (vec![BODY, ACTIVE], ALL, NOT),
        (vec![REQUEST], OFFLINE, NOT),
        (vec![MARKER], OFFLINE, NOT),
        (vec![DIRECT], OFFLINE, NOT),
        (vec![MEDIATED], OFFLINE, NOT),
        (vec![OTHER], OFFLINE, NOT),
        (vec![OTHER, STORE], ALL, ARCHIVE),
        (vec![ACTIVE, STORE], ALL, ARCHIVE),
        (vec![BODY, STORE], ALL, ARCHIVE),
        (vec![BODY, NO_STORE], NOT, NOT),
        (vec![BODY, NO_STORE, STORE], NOT, NOT),
        (vec![BODY, NO_PERMANENT], OFFLINE, NOT),
        (vec![BODY, NO_PERMANENT, STORE], OFFLINE, NOT),
        (vec![ACTIVE, NO_PERMANENT], NOT, NOT),
        (vec![BODY, PRIVATE], ALL, NOT),
        (vec![BODY, NO_COPY], ALL, NOT),
        (vec![BODY, WITHIN], ALL, NOT),
    ];
    for (payload, talk, headline) in table {
        let payload = payload.concat();
        for kind in ["chat", "normal"] {
            assert_eq!(of(&format!("type='{kind}'"), &payload).keep(), talk, "{kind}: {payload}");
        }
        assert_eq!(of("type='headline'", &payload).keep(), headline, "headline: {payload}");
        assert_eq!(of("type='groupchat'", &payload).keep(), NOT, "groupchat: {payload}");
        assert_eq!(of("type='error'", &format!("{payload}{ERROR}")).keep(), NOT, "error: {payload}");
    }
}

fn session(id: u128, priority: Option<i8>, carbons: bool) -> SessionRecord {
    let full = format!("a@b/{id}").parse().unwrap();
    let mut record = SessionRecord::new(full, SessionId(id), InstanceId(1));
    (record.priority, record.carbons) = (priority, carbons);
    record
}

/// Who gets what: per resource `o` the message itself, `s` a copy of what was sent, `r` one of what was received, in the
/// order of the ids. The sender is 1, if it is among them.
fn shown(facts: &Facts, own: &[SessionRecord], recipient: Recipient<'_>, original: Original) -> Vec<(u128, char)> {
    let mut shown: Vec<_> = targets(facts, Some(SessionId(1)), own, recipient, original)
        .map(|copy| {
            let letter = match copy.direction {
                Direction::Sent => 's',
                Direction::Received => 'r',
            };
            (copy.record.id.0, letter)
        })
        .collect();
    let there = match recipient {
        Recipient::Same => own,
        Recipient::Account(theirs) => theirs,
        Recipient::Elsewhere => &[],
    };
    shown.extend(there.iter().filter(|record| original.went_to(record)).map(|record| (record.id.0, 'o')));
    shown.sort_unstable();
    shown
}

const PRIORITIES: [Option<i8>; 4] = [None, Some(-1), Some(0), Some(5)];

/// All accounts of up to three resources, each of any priority, with copies or without.
fn accounts(first: u128) -> Vec<Vec<SessionRecord>> {
    let one = |id: u128| {
        PRIORITIES.into_iter().flat_map(move |priority| [false, true].map(|carbons| session(id, priority, carbons)))
    };
    let mut all = vec![Vec::new()];
    for id in first..first + 3 {
        let longer: Vec<Vec<_>> = all
            .iter()
            .filter(|account| account.len() as u128 == id - first)
            .flat_map(|account| one(id).map(|next| [account.clone(), vec![next]].concat()))
            .collect();
        all.extend(longer);
    }
    all
}

#[test]
fn xep0280_7_8_between_two_accounts_each_resource_gets_the_message_or_one_copy() {
    let chat = of("type='chat' to='c@d'", BODY);
    let own = [session(1, Some(0), true), session(2, None, true), session(3, Some(9), false)];
    for theirs in accounts(10) {
        let full = theirs.iter().map(|record| Original::Session(record.id));
        for original in [Original::Takers, Original::Nobody].into_iter().chain(full) {
            let mut expected = vec![(2, 's')];
            for record in &theirs {
                let got = match original {
                    Original::Session(id) => record.id == id,
                    Original::Takers => record.priority.is_some_and(|priority| priority >= 0),
                    Original::Nobody => false,
                };
                match (got, record.carbons) {
                    (true, _) => expected.push((record.id.0, 'o')),
                    (false, true) => expected.push((record.id.0, 'r')),
                    (false, false) => {}
                }
            }
            assert_eq!(shown(&chat, &own, Recipient::Account(&theirs), original), expected, "{theirs:?} {original:?}");
        }
    }
}

/// XEP-0280 §8: the sender itself never gets a copy; and whoever gets the message gets no copy of it besides.
#[test]
fn xep0280_8_within_one_account_each_resource_gets_the_message_or_one_copy_as_sent() {
    let chat = of("type='chat' to='a@b'", BODY);
    for own in accounts(1) {
        let full = own.iter().map(|record| Original::Session(record.id));
        for original in [Original::Takers, Original::Nobody].into_iter().chain(full) {
            let shown = shown(&chat, &own, Recipient::Same, original);
            for record in &own {
                let letters: Vec<_> = shown.iter().filter(|(id, _)| *id == record.id.0).map(|(_, how)| *how).collect();
                let expected = match (original.went_to(record), record.id.0 != 1 && record.carbons) {
                    (true, _) => vec!['o'],
                    (false, true) => vec!['s'],
                    (false, false) => vec![],
                };
                assert_eq!(letters, expected, "{own:?} {original:?}");
            }
        }
    }
}

#[test]
fn xep0280_8_to_another_domain_the_senders_other_resources_get_a_copy() {
    let chat = of("type='chat' to='c@d'", BODY);
    let own = [session(1, Some(0), true), session(2, Some(-1), true), session(3, None, false)];
    assert_eq!(shown(&chat, &own, Recipient::Elsewhere, Original::Nobody), [(2, 's')]);
}

#[test]
fn xep0280_6_1_what_is_not_eligible_is_copied_to_nobody() {
    let own = [session(1, Some(0), true), session(2, Some(0), true)];
    let theirs = [session(11, Some(0), true), session(12, None, true)];
    for facts in [of("type='groupchat'", BODY), of("type='normal'", OTHER), of("type='chat'", PRIVATE)] {
        let targets = targets(&facts, Some(SessionId(1)), &own, Recipient::Account(&theirs), Original::Nobody);
        assert_eq!(targets.count(), 0, "{facts:?}");
    }
}

#[test]
fn xep0280_7_xep0297_3_the_copy_declares_every_namespace() {
    let inner =
        b"<message from='juliet@localhost/balcony' to='romeo@localhost/orchard' type='chat'><body>Hi</body></message>";
    let cases = [(Direction::Sent, "sent"), (Direction::Received, "received")];
    for (direction, name) in cases {
        let copy = carbon(direction, "o'neill@localhost", "o'neill@localhost/a'b", MessageType::Chat, inner);
        // Portable: it may be written into any stream of a content namespace.
        let element = parse(std::str::from_utf8(&copy).unwrap(), &Scope::client(), Limits::default()).unwrap();
        let raw = element.as_raw();
        assert!(raw.is("message", ns::CLIENT));
        assert_eq!(raw.attribute("from").as_deref(), Some("o'neill@localhost"));
        assert_eq!(raw.attribute("to").as_deref(), Some("o'neill@localhost/a'b"));
        assert_eq!(raw.attribute("type").as_deref(), Some("chat"));
        let forwarded = raw.child(name, CARBONS).unwrap().child("forwarded", "urn:xmpp:forward:0").unwrap();
        let message = forwarded.child("message", ns::CLIENT).unwrap();
        assert_eq!(message.attribute("from").as_deref(), Some("juliet@localhost/balcony"));
        assert_eq!(message.child("body", ns::CLIENT).unwrap().text(), "Hi");
    }
}

#[test]
fn xep0313_3_5_the_copy_of_a_sent_message_names_the_senders_archive() {
    let id = "0123456789abcdef0123456789abcdef";
    let stamped = |by: &str, behind: &str| {
        format!(
            "<message from='a@b/c' to='x@y'><body/><stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='{id}'/>{behind}</message>"
        )
    };
    let by = |direction, message: &str| {
        let copy = carbon(direction, "o'neill@b", "o'neill@b/d", MessageType::Normal, message.as_bytes());
        let element = parse(std::str::from_utf8(&copy).unwrap(), &Scope::client(), Limits::default()).unwrap();
        let wrapper = element.as_raw().children().next().unwrap();
        let message = wrapper.child("forwarded", "urn:xmpp:forward:0").unwrap().child("message", ns::CLIENT).unwrap();
        let stamp = message.child("stanza-id", STANZA_IDS).unwrap();
        assert_eq!(stamp.attribute("id").as_deref(), Some(id));
        stamp.attribute("by").unwrap().into_owned()
    };
    assert_eq!(by(Direction::Sent, &stamped("x@y", "")), "o'neill@b");
    assert_eq!(by(Direction::Received, &stamped("x@y", "")), "x@y");
    // Another's id stays another's.
    assert_eq!(by(Direction::Sent, &stamped("room@muc", "<q xmlns='urn:example:q'/>")), "room@muc");
}

#[test]
fn what_was_copied_is_known_by_sender_recipient_and_id() {
    let recent = Recent::default();
    recent.note("juliet@localhost", "romeo@localhost/orchard", "1");
    assert!(recent.answers("romeo@localhost/orchard", "juliet@localhost", "1"));
    recent.note("juliet@localhost", "romeo@localhost", "2");
    assert!(recent.answers("romeo@localhost/orchard", "juliet@localhost", "2"));
    for (from, to, id) in [
        ("romeo@localhost/orchard", "juliet@localhost", "3"),
        ("romeo@localhost/orchard", "nurse@localhost", "1"),
        ("tybalt@localhost/orchard", "juliet@localhost", "1"),
        ("juliet@localhost", "romeo@localhost/orchard", "1"),
    ] {
        assert!(!recent.answers(from, to, id), "{from} {to} {id}");
    }
}
