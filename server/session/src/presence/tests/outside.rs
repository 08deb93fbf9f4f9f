//! RFC 6121 §3 and §4 with a contact of another domain.

use super::*;
use crate::subscription::{Change, inbound, outbound};

fn nothing() -> Vec<String> {
    Vec::new()
}

fn stanza(kind: &str) -> String {
    format!(
        "<presence from='romeo@example.net/orchard' to='juliet@example.com/x' type='{kind}'><x xmlns='urn:x'/></presence>"
    )
}

#[tokio::test]
async fn rfc6121_3_1_a_request_from_another_domain_and_its_approval() {
    let mut world = World::new().await;
    let mut juliet = world.juliet().await;
    assert_eq!(world.comes(&stanza("subscribe")).await, Fate::Answered);
    assert_eq!(juliet.came(), ["subscribe romeo@example.net juliet@example.com"]);
    assert_eq!(juliet.send("<presence to='romeo@example.net' type='subscribed'/>").await, "");
    assert_eq!(juliet.came(), ["push romeo@example.net from"]);
    let expected =
        ["subscribed juliet@example.com romeo@example.net", "- juliet@example.com/balcony romeo@example.net"];
    assert_eq!(world.gone(), expected);
    // §4.4.2, §4.5.2
    juliet.send("<presence><show>away</show></presence>").await;
    assert_eq!(world.gone(), ["- juliet@example.com/balcony romeo@example.net"]);
    juliet.send("<presence to='romeo@example.net' type='unsubscribed'/>").await;
    let expected = [
        "unavailable juliet@example.com/balcony romeo@example.net",
        "unsubscribed juliet@example.com romeo@example.net",
    ];
    assert_eq!(world.gone(), expected);
}

#[tokio::test]
async fn rfc6121_3_1_a_request_to_another_domain_and_its_approval() {
    let mut world = World::new().await;
    let mut juliet = world.juliet().await;
    assert_eq!(juliet.send("<presence to='romeo@example.net/x' type='subscribe'/>").await, "");
    assert_eq!(world.gone(), ["subscribe juliet@example.com romeo@example.net"]);
    assert_eq!(juliet.came(), ["push romeo@example.net none ask"]);
    world.comes(&stanza("subscribed")).await;
    world.comes("<presence from='romeo@example.net/orchard' to='juliet@example.com'/>").await;
    let expected = [
        "subscribed romeo@example.net juliet@example.com",
        "push romeo@example.net to",
        "- romeo@example.net/orchard juliet@example.com",
    ];
    assert_eq!(juliet.came(), expected);
    assert_eq!(world.gone(), nothing());
    let refused = juliet.send("<presence to='romeo@example.org' type='subscribe' id='s'/>").await;
    assert!(refused.contains("remote-server-not-found"), "{refused}");
}

/// §A.3: each cell, with what is pushed and answered.
#[tokio::test]
async fn rfc6121_a_3_every_stanza_in_every_state() {
    let mut world = World::new().await;
    let mut juliet = world.juliet().await;
    for state in State::ALL {
        for change in Change::ALL {
            world.put(state, false).await;
            let case = format!("{change:?} {state:?}");
            let kind = change.presence().as_str().unwrap();
            world.comes(&stanza(kind)).await;
            let cell = inbound(change, state);
            assert_eq!(world.state().await, cell.next, "{case}");
            let came = juliet.came();
            let shows = |state: State| (state.subscription(), state.asks());
            let pushed = shows(state) != shows(cell.next);
            let expected = usize::from(cell.passes) + usize::from(pushed);
            assert_eq!(came.len(), expected, "{case}: {came:?}");
            if cell.passes {
                assert_eq!(
                    came[0],
                    format!("{kind} romeo@example.net juliet@example.com"),
                    "{case}: ahead of the push"
                );
            }
            let gone = world.gone();
            let answered = gone.contains(&"subscribed juliet@example.com romeo@example.net".to_owned());
            // §3.1.3: it has it already.
            assert_eq!(answered, change == Change::Subscribe && state.gives(), "{case}: {gone:?}");
            let ended = gone.contains(&"unavailable juliet@example.com/balcony romeo@example.net".to_owned());
            // §3.3.3
            assert_eq!(ended, change == Change::Unsubscribe && state.gives(), "{case}: {gone:?}");
        }
    }
}

/// §A.2: each cell.
#[tokio::test]
async fn rfc6121_a_2_every_stanza_in_every_state() {
    let mut world = World::new().await;
    let mut juliet = world.juliet().await;
    for state in State::ALL {
        for change in Change::ALL {
            world.put(state, false).await;
            let case = format!("{change:?} {state:?}");
            let kind = change.presence().as_str().unwrap();
            assert_eq!(juliet.send(&format!("<presence to='romeo@example.net' type='{kind}'/>")).await, "");
            let cell = outbound(change, state);
            assert_eq!(world.state().await, cell.next, "{case}");
            let gone = world.gone();
            let routed = gone.contains(&format!("{kind} juliet@example.com romeo@example.net"));
            assert_eq!(routed, cell.passes, "{case}: {gone:?}");
            let begins = gone.contains(&"- juliet@example.com/balcony romeo@example.net".to_owned());
            assert_eq!(begins, !state.gives() && cell.next.gives(), "{case}: {gone:?}");
            let ends = gone.first().is_some_and(|first| first.starts_with("unavailable juliet@example.com/balcony "));
            assert_eq!(ends, state.gives() && !cell.next.gives(), "{case}: {gone:?}");
            juliet.came();
        }
    }
}

#[tokio::test]
async fn rfc6121_3_4_who_was_approved_of_is_answered_for_the_user() {
    let mut world = World::new().await;
    let mut juliet = world.juliet().await;
    juliet.send("<presence to='romeo@example.net' type='subscribed'/>").await;
    assert_eq!((world.gone(), juliet.came()), (nothing(), vec!["push romeo@example.net none".to_owned()]));
    world.comes(&stanza("subscribe")).await;
    assert_eq!(juliet.came(), ["push romeo@example.net from"]);
    let expected =
        ["subscribed juliet@example.com romeo@example.net", "- juliet@example.com/balcony romeo@example.net"];
    assert_eq!(world.gone(), expected);
}

/// §2.5.2, for each state.
#[tokio::test]
async fn rfc6121_2_5_2_what_a_contact_is_sent_when_it_is_removed() {
    let mut world = World::new().await;
    let mut juliet = world.juliet().await;
    let rows = [
        (State::None, ""),
        (State::NonePendingOut, "unsubscribe"),
        (State::NonePendingOutIn, "unsubscribe unsubscribed"),
        (State::To, "unsubscribe"),
        (State::ToPendingIn, "unsubscribe unsubscribed"),
        (State::From, "unavailable unsubscribed"),
        (State::FromPendingOut, "unavailable unsubscribe unsubscribed"),
        (State::Both, "unavailable unsubscribe unsubscribed"),
    ];
    let remove = "<item jid='romeo@example.net' subscription='remove'/>";
    let remove = format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{remove}</query></iq>");
    for (state, expected) in rows {
        world.put(state, false).await;
        assert!(juliet.send(&remove).await.contains("type='result'"), "{state:?}");
        let gone: Vec<_> = world.gone().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(gone.join(" "), expected, "{state:?}");
        assert_eq!(juliet.came(), ["push romeo@example.net remove"]);
    }
    // §2.1.2.5: who only asks is not in the roster.
    world.put(State::NonePendingIn, false).await;
    assert!(juliet.send(&remove).await.contains("item-not-found"));
    assert_eq!(world.gone(), nothing());
}

/// §4.2.2, §4.3.1: by the state of the item, who is told and who is asked.
#[tokio::test]
async fn rfc6121_4_3_1_a_log_in_probes_contacts_of_other_domains_alone() {
    let mut world = World::new().await;
    for state in State::ALL {
        world.put(state, false).await;
        let mut client = world.client("juliet@example.com", "balcony").await;
        client.send("<presence/>").await;
        let mut expected = Vec::new();
        if state.gives() {
            expected.push("- juliet@example.com/balcony romeo@example.net");
        }
        if matches!(state, State::To | State::ToPendingIn | State::Both) {
            expected.push("probe juliet@example.com/balcony romeo@example.net");
        }
        assert_eq!(world.gone(), expected, "{state:?}");
        // §4.4.2: a change asks nobody.
        client.send("<presence><show>away</show></presence>").await;
        assert_eq!(world.gone(), expected.iter().filter(|line| line.starts_with('-')).copied().collect::<Vec<_>>());
        client.session.end().await;
        let expected = state.gives().then_some("unavailable juliet@example.com/balcony romeo@example.net");
        assert_eq!(world.gone(), Vec::from_iter(expected), "{state:?}");
    }
}

/// §4.3.2.1
#[tokio::test]
async fn rfc6121_4_3_2_a_probe_is_answered_by_what_the_one_who_asks_may_see() {
    let mut world = World::new().await;
    let probe = |to: &str| format!("<presence type='probe' from='romeo@example.net/orchard' to='{to}'/>");
    for state in State::ALL {
        world.put(state, false).await;
        world.comes(&probe("juliet@example.com")).await;
        let kind = if state.gives() { "unavailable" } else { "unsubscribed" };
        assert_eq!(world.gone(), [format!("{kind} juliet@example.com romeo@example.net")], "{state:?}");
    }
    // Whether there is such an account is not to be found out.
    for nobody in ["nurse@example.com", "nobody@example.com"] {
        world.comes(&probe(nobody)).await;
        assert_eq!(world.gone(), [format!("unsubscribed {nobody} romeo@example.net")]);
    }
    let mut juliet = world.juliet().await;
    let mut other = world.client("juliet@example.com", "chamber").await;
    other.send("<presence><priority>-1</priority></presence>").await;
    let _silent = world.client("juliet@example.com", "silent").await;
    world.gone();
    world.comes(&probe("juliet@example.com")).await;
    let mut gone = world.gone();
    gone.sort();
    let expected = ["- juliet@example.com/balcony romeo@example.net", "- juliet@example.com/chamber romeo@example.net"];
    assert_eq!(gone, expected);
    // Who is blocked is not answered at all (XEP-0191 §3.3).
    let item = "<item jid='romeo@example.net'/>";
    juliet.send(&format!("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>{item}</block></iq>")).await;
    world.gone();
    world.comes(&probe("juliet@example.com")).await;
    assert_eq!(world.gone(), nothing());
}

#[tokio::test]
async fn rfc6121_8_5_presence_from_another_domain_reaches_whom_it_is_for() {
    let world = World::new().await;
    let mut juliet = world.juliet().await;
    let mut silent = world.client("juliet@example.com", "silent").await;
    for (to, fate, available, unavailable) in [
        ("juliet@example.com", Fate::Delivered, 1, 0),
        ("juliet@example.com/balcony", Fate::Delivered, 1, 0),
        ("juliet@example.com/silent", Fate::Delivered, 0, 1),
        ("juliet@example.com/nowhere", Fate::DroppedUnattended, 0, 0),
        ("nobody@example.com", Fate::DroppedUnattended, 0, 0),
        ("example.com", Fate::DroppedUnattended, 0, 0),
    ] {
        for kind in ["", "type='unavailable'"] {
            let came = world.comes(&format!("<presence from='romeo@example.net/orchard' to='{to}' {kind}/>")).await;
            assert_eq!(came, fate, "{to}");
            assert_eq!((juliet.came().len(), silent.came().len()), (available, unavailable), "{to}");
        }
    }
}

#[tokio::test]
async fn rfc6121_4_6_3_another_domain_that_was_told_directly_hears_of_the_end_once() {
    let mut world = World::new().await;
    let mut juliet = world.juliet().await;
    juliet.send("<presence to='room@example.net/juliet'/>").await;
    assert_eq!(world.gone(), ["- juliet@example.com/balcony room@example.net/juliet"]);
    world.put(State::From, false).await;
    juliet.send("<presence to='romeo@example.net/orchard'/>").await;
    world.gone();
    juliet.session.end().await;
    let mut gone = world.gone();
    gone.sort();
    let expected = [
        "unavailable juliet@example.com/balcony romeo@example.net",
        "unavailable juliet@example.com/balcony room@example.net/juliet",
    ];
    assert_eq!(gone, expected);
}

/// Nobody who was to see the former owner of an address sees the next one.
#[tokio::test]
async fn an_account_that_is_removed_leaves_no_subscriptions_behind() {
    let mut world = World::new().await;
    let (mut juliet, mut nurse) = (world.juliet().await, world.client("nurse@example.com", "hall").await);
    nurse.send("<presence/>").await;
    for kind in ["subscribe", "subscribed"] {
        juliet.send(&format!("<presence to='nurse@example.com' type='{kind}'/>")).await;
        nurse.send(&format!("<presence to='juliet@example.com' type='{kind}'/>")).await;
    }
    world.put(State::From, false).await;
    for client in [&mut juliet, &mut nurse] {
        client.came();
    }
    world.gone();
    assert!(world.service.remove_account(&super::juliet()).await.unwrap());
    assert_eq!(nurse.came(), ["unavailable juliet@example.com/balcony nurse@example.com"]);
    assert_eq!(world.gone().last().unwrap(), "unsubscribed juliet@example.com romeo@example.net");
    juliet.session.end().await;
    world.gone();
    let account = Account { jid: super::juliet(), credentials: Credentials::default() };
    world.service.store().put(&[account], PutMode::Create).await.unwrap();
    let mut heiress = world.client("juliet@example.com", "balcony").await;
    assert_eq!(heiress.send("<presence/>").await, "");
    nurse.send("<presence type='unavailable'/>").await;
    assert_eq!(nurse.send("<presence/>").await, "");
    assert_eq!(world.gone(), nothing());
    assert!(!world.service.remove_account(&"nobody@example.com".parse().unwrap()).await.unwrap());
}
