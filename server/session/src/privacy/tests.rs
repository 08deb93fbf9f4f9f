use std::cell::Cell;

use starling_xml::{Limits, Scope, parse};
use starling_xmpp::{
    error::Condition,
    stanza::{IqType, MessageType, PresenceType},
};

use super::*;

const MESSAGE: Kind = Kind::Message(MessageType::Chat);
const IQ: Kind = Kind::Iq(IqType::Get);
const NOTIFICATION: Kind = Kind::Presence(PresenceType::Available);

fn jid(text: &str) -> Jid {
    text.parse().unwrap()
}

/// A list as a client would send it.
fn list(name: &str, items: &str) -> List {
    try_list(name, items).unwrap()
}

fn try_list(name: &str, items: &str) -> Result<List, Condition> {
    let text = format!("<list xmlns='jabber:iq:privacy' name='{name}'>{items}</list>");
    let element = parse(&text, &Scope::none(), Limits::default()).unwrap();
    read_list(&element.as_raw().to_tree().unwrap()).map_err(|error| error.condition)
}

/// One default list with these items.
fn default_list(items: &str) -> Lists {
    Lists::new([].into(), vec![list("d", items)], Some("d".to_owned()))
}

fn stranger() -> Relation {
    Relation::default()
}

fn passes(lists: &Lists, direction: Direction, kind: Kind, peer: &str) -> bool {
    lists.verdict(None, direction, kind, &jid(peer), stranger) == Verdict::Allow
}

#[test]
fn xep0016_2_1_each_element_is_about_its_kind_of_stanza_in_its_direction() {
    use Direction::{In, Out};
    // Per item: message, iq, presence notification, subscription; each in and out. d: denied.
    let table = [
        ("", "dd dd dd dd"),
        ("<message/>", "d. .. .. .."),
        ("<iq/>", ".. d. .. .."),
        ("<presence-in/>", ".. .. d. .."),
        ("<presence-out/>", ".. .. .d .."),
        ("<message/><iq/>", "d. d. .. .."),
        ("<presence-in/><presence-out/>", ".. .. dd .."),
        ("<message/><iq/><presence-in/><presence-out/>", "d. d. dd .."),
    ];
    let messages = [MessageType::Chat, MessageType::Normal, MessageType::Headline, MessageType::Groupchat];
    let iqs = [IqType::Get, IqType::Set, IqType::Result, IqType::Error];
    let kinds: [Vec<Kind>; 4] = [
        messages.map(Kind::Message).to_vec(),
        iqs.map(Kind::Iq).to_vec(),
        [PresenceType::Available, PresenceType::Unavailable].map(Kind::Presence).to_vec(),
        [
            PresenceType::Subscribe,
            PresenceType::Subscribed,
            PresenceType::Unsubscribe,
            PresenceType::Unsubscribed,
            PresenceType::Probe,
            PresenceType::Error,
        ]
        .map(Kind::Presence)
        .to_vec(),
    ];
    for (elements, expected) in table {
        let lists = default_list(&format!("<item action='deny' order='1'>{elements}</item>"));
        for (kinds, expected) in kinds.iter().zip(expected.split(' ')) {
            for (direction, expected) in [In, Out].into_iter().zip(expected.chars()) {
                for kind in kinds {
                    let passed = passes(&lists, direction, *kind, "a@b/c");
                    assert_eq!(passed, expected == '.', "{elements} {direction:?} {kind:?}");
                }
            }
        }
    }
}

#[test]
fn xep0016_2_1_xep0191_6_addresses_match_resources_users_and_subdomains() {
    // Per address in the list: who is matched.
    let peers =
        ["u@d.x/r", "u@d.x/s", "u@d.x", "v@d.x/r", "d.x/r", "d.x", "s.d.x", "u@s.d.x/r", "ad.x", "u@x", "u@e.x/r"];
    let table = [
        ("u@d.x/r", "y.........."),
        ("u@d.x", "yyy........"),
        ("d.x/r", "....y......"),
        ("d.x", "yyyyyyyy..."),
        ("x", "yyyyyyyyyyy"),
        ("e.x", "..........y"),
    ];
    for (address, expected) in table {
        let by_list = default_list(&format!("<item type='jid' value='{address}' action='deny' order='1'/>"));
        let by_block = Lists::new([jid(address)].into(), vec![], None);
        for (peer, expected) in peers.into_iter().zip(expected.chars()) {
            for lists in [&by_list, &by_block] {
                let denied = !passes(lists, Direction::In, MESSAGE, peer);
                assert_eq!(denied, expected == 'y', "{address} matches {peer}");
            }
        }
    }
}

#[test]
fn xep0016_2_2_items_are_processed_in_ascending_order_and_the_first_that_matches_decides() {
    let both = |allow: u32, deny: u32| {
        default_list(&format!(
            "<item type='jid' value='a@b' action='deny' order='{deny}'/><item action='allow' order='{allow}'/>"
        ))
    };
    assert!(passes(&both(1, 2), Direction::In, MESSAGE, "a@b/c"));
    assert!(!passes(&both(2, 1), Direction::In, MESSAGE, "a@b/c"));
    assert!(!passes(&both(4_294_967_295, 0), Direction::In, MESSAGE, "a@b/c"));
}

#[test]
fn xep0016_2_2_an_item_for_other_stanzas_does_not_decide() {
    let lists = default_list("<item action='allow' order='1'><iq/></item><item action='deny' order='2'/>");
    assert!(passes(&lists, Direction::In, IQ, "a@b/c"));
    assert!(!passes(&lists, Direction::In, MESSAGE, "a@b/c"));
}

#[test]
fn xep0016_2_2_without_a_fall_through_item_the_rest_is_allowed() {
    let lists = default_list("<item type='jid' value='a@b' action='deny' order='1'/>");
    assert!(passes(&lists, Direction::In, MESSAGE, "x@b/c"));
    assert!(passes(&Lists::default(), Direction::In, MESSAGE, "a@b/c"));
}

#[test]
fn xep0016_2_2_an_active_list_is_applied_instead_of_the_default_never_besides() {
    let deny = list("deny", "<item action='deny' order='1'/>");
    let other = list("other", "<item type='jid' value='x@y' action='deny' order='1'/>");
    let lists = Lists::new([].into(), vec![deny, other], Some("deny".to_owned()));
    let verdict = |active| lists.verdict(active, Direction::In, MESSAGE, &jid("a@b/c"), stranger);
    assert_eq!(verdict(None), Verdict::Denied);
    assert_eq!(verdict(Some("other")), Verdict::Allow);
    assert_eq!(verdict(Some("deny")), Verdict::Denied);
    // Its list was removed by the session itself: the default again.
    assert_eq!(verdict(Some("gone")), Verdict::Denied);
}

#[test]
fn xep0016_2_1_subscriptions_and_groups_come_from_the_roster() {
    let all = [Subscription::None, Subscription::To, Subscription::From, Subscription::Both];
    for (name, meant) in ["none", "to", "from", "both"].into_iter().zip(all) {
        let lists = default_list(&format!("<item type='subscription' value='{name}' action='deny' order='1'/>"));
        for subscription in all {
            let relation = || Relation { subscription, groups: vec![] };
            let verdict = lists.verdict(None, Direction::In, MESSAGE, &jid("a@b/c"), relation);
            assert_eq!(verdict == Verdict::Denied, subscription == meant, "{name} {subscription:?}");
        }
    }
    let lists = default_list("<item type='group' value='Enemies' action='deny' order='1'/>");
    for (groups, expected) in [
        (vec![], Verdict::Allow),
        (vec!["Friends".to_owned()], Verdict::Allow),
        (vec!["Friends".to_owned(), "Enemies".to_owned()], Verdict::Denied),
    ] {
        let relation = || Relation { subscription: Subscription::Both, groups };
        assert_eq!(lists.verdict(None, Direction::In, MESSAGE, &jid("a@b/c"), relation), expected);
    }
}

#[test]
fn the_roster_is_asked_only_where_an_item_needs_it_and_once() {
    let asked = Cell::new(0);
    let ask = || {
        asked.set(asked.get() + 1);
        Relation::default()
    };
    let lists = default_list(
        "<item type='jid' value='a@b' action='deny' order='1'/>\
         <item type='group' value='g' action='deny' order='2'/>\
         <item type='subscription' value='both' action='deny' order='3'/>",
    );
    assert!(lists.ask_roster());
    lists.verdict(None, Direction::In, MESSAGE, &jid("a@b/c"), ask);
    assert_eq!(asked.get(), 0);
    lists.verdict(None, Direction::In, MESSAGE, &jid("x@b/c"), ask);
    assert_eq!(asked.get(), 1);
    assert!(!default_list("<item type='jid' value='a@b' action='deny' order='1'/>").ask_roster());
}

#[test]
fn xep0191_3_3_who_is_blocked_is_blocked_both_ways_for_everything_whatever_list_is_active() {
    let allow = list("allow", "<item action='allow' order='1'/>");
    let lists = Lists::new([jid("a@b")].into(), vec![allow], Some("allow".to_owned()));
    for active in [None, Some("allow")] {
        for direction in [Direction::In, Direction::Out] {
            for kind in [MESSAGE, IQ, NOTIFICATION, Kind::Presence(PresenceType::Subscribe)] {
                assert_eq!(lists.verdict(active, direction, kind, &jid("a@b/c"), stranger), Verdict::Blocked);
                assert_eq!(lists.verdict(active, direction, kind, &jid("x@b/c"), stranger), Verdict::Allow);
            }
        }
    }
}

#[test]
fn xep0191_3_4_what_is_unblocked_is_named_and_no_longer_blocked() {
    let mut lists = Lists::default();
    assert_eq!(lists.block([jid("a@b"), jid("c@d"), jid("a@b")]), [jid("a@b"), jid("c@d")]);
    assert!(lists.block([jid("a@b")]).is_empty());
    assert_eq!(lists.unblock(Some(&[jid("a@b"), jid("x@y")])), [jid("a@b")]);
    assert!(!lists.is_blocked(&jid("a@b/c")) && lists.is_blocked(&jid("c@d")));
    lists.block([jid("a@b")]);
    assert_eq!(lists.unblock(None), [jid("a@b"), jid("c@d")]);
    assert!(!lists.is_blocked(&jid("c@d")) && lists.is_empty());
}

#[test]
fn xep0016_2_1_lists_that_break_a_rule_are_refused() {
    let many: String = (0..1001).map(|order| format!("<item action='deny' order='{order}'/>")).collect();
    let table = [
        ("<item order='1'/>", Condition::BadRequest),
        ("<item action='drop' order='1'/>", Condition::BadRequest),
        ("<item action='deny'/>", Condition::BadRequest),
        ("<item action='deny' order='-1'/>", Condition::BadRequest),
        ("<item action='deny' order='4294967296'/>", Condition::BadRequest),
        ("<item action='deny' order='1'/><item action='allow' order='1'/>", Condition::BadRequest),
        ("<item type='jid' action='deny' order='1'/>", Condition::BadRequest),
        ("<item type='jid' value='@@' action='deny' order='1'/>", Condition::JidMalformed),
        ("<item type='group' action='deny' order='1'/>", Condition::BadRequest),
        ("<item type='subscription' value='all' action='deny' order='1'/>", Condition::BadRequest),
        ("<item type='mood' value='x' action='deny' order='1'/>", Condition::BadRequest),
        ("<item action='deny' order='1'><presence/></item>", Condition::BadRequest),
        ("<item action='deny' order='1'><message xmlns='urn:example:q'/></item>", Condition::BadRequest),
        ("<list name='x'/>", Condition::BadRequest),
        (many.as_str(), Condition::ResourceConstraint),
    ];
    for (items, expected) in table {
        assert_eq!(try_list("x", items), Err(expected), "{}", items.get(..80).unwrap_or(items));
    }
}

#[test]
fn what_is_written_is_what_is_read() {
    let items = "<item type='jid' value='a@b/&lt;c&gt;' action='deny' order='3'><message/><iq/></item>\
                 <item type='group' value='&quot;Us &amp; them&quot;' action='allow' order='1'/>\
                 <item type='subscription' value='from' action='deny' order='2'><presence-in/></item>\
                 <item action='deny' order='4294967295'><presence-out/></item>";
    let lists = Lists::new(
        [jid("a@b/it's"), jid("b"), jid("a@b/\"c\"")].into(),
        vec![list("one &lt; two", items), list("", "<item action='allow' order='0'/>")],
        Some("one < two".to_owned()),
    );
    assert_eq!(document::read(&document::write(&lists)).as_ref(), Some(&lists));
    for broken in ["", "<privacy xmlns='urn:starling:privacy:0'/>", "<privacy/>", "\u{0}"] {
        assert_eq!(document::read(broken.as_bytes()), None, "{broken}");
    }
}

#[test]
fn what_is_known_is_bounded_and_what_is_used_stays() {
    let cache = Cache::default();
    let used: BareJid = "used@localhost".parse().unwrap();
    cache.put(&used, None);
    for n in 0..200_000 {
        cache.put(&format!("{n}@localhost").parse().unwrap(), None);
        assert!(matches!(cache.cached(used.as_str()), Known::Nothing), "forgotten at {n}");
    }
    let known = (0..200_000).filter(|n| matches!(cache.cached(&format!("{n}@localhost")), Known::Nothing)).count();
    assert!((1..=65_536).contains(&known), "{known}");
    // Large lists are bounded by their bytes.
    let blocked: std::collections::BTreeSet<_> =
        (0..1000).map(|n| jid(&format!("{n}@b/{}", "x".repeat(200)))).collect();
    let held = Arc::new(Held::new(Lists::new(blocked, vec![], None), []));
    for n in 0..1000 {
        cache.put(&format!("large{n}@localhost").parse().unwrap(), Some(Arc::clone(&held)));
    }
    let known = (0..1000).filter(|n| matches!(cache.cached(&format!("large{n}@localhost")), Known::Held(_))).count();
    assert!((1..200).contains(&known), "{known}");
}

#[test]
fn xep0191_3_3_xep0016_2_14_the_refusal_says_why() {
    let refusal = |stanza: &str, blocked| {
        let element = parse(stanza, &Scope::client(), Limits::default()).unwrap();
        let mut out = Vec::new();
        refuse_out(&element.as_raw(), "juliet@localhost/balcony", blocked, &mut out)
            .then(|| String::from_utf8(out).unwrap())
    };
    let error = refusal("<message to='romeo@localhost' type='chat' id='1'/>", true).unwrap();
    let parsed = parse(&error, &Scope::client(), Limits::default()).unwrap();
    let raw = parsed.as_raw();
    assert_eq!(raw.attribute("from").as_deref(), Some("romeo@localhost"));
    assert_eq!(raw.attribute("to").as_deref(), Some("juliet@localhost/balcony"));
    let child = raw.child("error", ns::CLIENT).unwrap();
    assert_eq!(child.attribute("type").as_deref(), Some("cancel"));
    assert!(child.child("not-acceptable", ns::STANZAS).is_some());
    assert!(child.child("blocked", BLOCKING_ERRORS).is_some());
    assert!(!refusal("<presence to='romeo@localhost'/>", false).unwrap().contains(BLOCKING_ERRORS));
    for nobody_waits in ["<message type='error'/>", "<iq type='result' id='1'/>", "<iq type='error' id='1'/>"] {
        assert_eq!(refusal(nobody_waits, true), None, "{nobody_waits}");
    }
}
