//! RFC 6121 §4: presence.

mod directed;

use starling_test_support::{RawClient, Server, condition};

use crate::{
    both, juliet, romeo,
    roster::{act, came},
    verona,
};

const JULIET: &str = "juliet@localhost";
const ROMEO: &str = "romeo@localhost";

/// Subscribes the one to the other's presence, whoever is there.
async fn subscribe(subscriber: &mut RawClient, contact: &mut RawClient) {
    let (to, from) = (contact.bare().to_owned(), subscriber.bare().to_owned());
    act(subscriber, &format!("<presence to='{to}' type='subscribe'/>")).await;
    act(contact, &format!("<presence to='{from}' type='subscribed'/>")).await;
    came(subscriber).await;
}

/// Accounts that have each other's presence, with nobody there.
async fn befriended(server: &Server) {
    let (mut one, mut other) = both(server).await;
    subscribe(&mut one, &mut other).await;
    subscribe(&mut other, &mut one).await;
    one.close().await;
    other.close().await;
}

/// The same, and a session of each that is available and has been told of the other.
async fn friends(server: &Server) -> (RawClient, RawClient) {
    befriended(server).await;
    let (mut one, mut other) = both(server).await;
    act(&mut one, "<presence/>").await;
    act(&mut other, "<presence/>").await;
    came(&mut one).await;
    (one, other)
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[tokio::test]
async fn rfc6121_4_2_2_the_first_presence_goes_to_those_who_may_see_it_and_to_the_own_resources() {
    let users = ["to", "from", "none"].map(|name| format!("{name}@localhost"));
    let builder = users.iter().fold(verona(), |builder, user| builder.user(user, "p"));
    let server = builder.user("both@localhost", "p").start().await;
    let mut one = juliet(&server, "balcony").await;
    let mut contacts = Vec::new();
    for name in ["none", "to", "from", "both"] {
        let mut contact = RawClient::session(&server, &format!("{name}@localhost"), "p", "x").await;
        if matches!(name, "to" | "both") {
            subscribe(&mut one, &mut contact).await;
        }
        if matches!(name, "from" | "both") {
            subscribe(&mut contact, &mut one).await;
        }
        act(&mut contact, "<presence/>").await;
        contacts.push(contact);
    }
    let mut unavailable = RawClient::session(&server, "both@localhost", "p", "bound").await;
    let mut own = juliet(&server, "chamber").await;
    act(&mut own, "<presence/>").await;
    for client in contacts.iter_mut().chain([&mut unavailable]) {
        came(client).await;
    }
    let mut told = act(&mut one, "<presence><show>chat</show><priority>3</priority></presence>").await;
    told.sort();
    // §4.3: she sees at once who is there.
    let expected = [
        "available both@localhost/x",
        "available juliet@localhost/balcony",
        "available juliet@localhost/chamber",
        "available to@localhost/x",
    ];
    assert_eq!(told, expected);
    assert_eq!(came(&mut own).await, ["available juliet@localhost/balcony"]);
    for (contact, sees) in contacts.iter_mut().zip([false, false, true, true]) {
        let seen = came(contact).await;
        assert_eq!(seen.len(), usize::from(sees), "{} {seen:?}", contact.full());
    }
    assert_eq!(came(&mut unavailable).await, nothing());
}

#[tokio::test]
async fn rfc6121_4_3_who_comes_sees_all_resources_of_each_contact_as_they_are_by_then() {
    let server = verona().start().await;
    befriended(&server).await;
    let (mut one, mut two) = (romeo(&server, "one").await, romeo(&server, "two").await);
    act(&mut one, "<presence/>").await;
    act(
        &mut one,
        "<presence xml:lang='it'><show>away</show><status>a &lt;Mantova&gt;</status><x xmlns='urn:x'/></presence>",
    )
    .await;
    act(&mut two, "<presence><priority>-5</priority></presence>").await;
    let mut gone = romeo(&server, "gone").await;
    act(&mut gone, "<presence/>").await;
    act(&mut gone, "<presence type='unavailable'/>").await;
    let mut client = juliet(&server, "balcony").await;
    client.send("<presence/>").await;
    let seen = client.until_presence("romeo@localhost/one", None).await;
    let raw = seen.as_raw();
    assert_eq!(raw.child("show", "jabber:client").unwrap().text(), "away");
    assert_eq!(raw.child("status", "jabber:client").unwrap().text(), "a <Mantova>");
    assert_eq!(raw.lang().as_deref(), Some("it"));
    assert!(raw.child("x", "urn:x").is_some());
    assert_eq!(came(&mut client).await, ["available romeo@localhost/two", "available juliet@localhost/balcony"]);
    // He is told once of her, at each of his resources that is available.
    assert_eq!(came(&mut one).await.last().unwrap(), "available juliet@localhost/balcony");
    assert_eq!(came(&mut two).await.last().unwrap(), "available juliet@localhost/balcony");
}

#[tokio::test]
async fn rfc6121_4_4_2_a_change_goes_to_all_who_saw_the_first() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = friends(&server).await;
    assert_eq!(act(&mut juliet, "<presence id='p2'><show>xa</show></presence>").await.len(), 1);
    let seen = romeo.until_presence("juliet@localhost/balcony", None).await;
    assert_eq!(seen.as_raw().child("show", "jabber:client").unwrap().text(), "xa");
    assert_eq!(seen.as_raw().attribute("id").as_deref(), Some("p2"));
    assert!(seen.as_raw().attribute("to").is_none_or(|to| to == ROMEO || to == "romeo@localhost/orchard"));
    // A change does not ask anew.
    assert_eq!(came(&mut juliet).await, nothing());
}

#[tokio::test]
async fn rfc6121_4_5_2_unavailable_presence_goes_to_the_same_with_all_that_is_in_it() {
    let server = verona().start().await;
    let (mut one, mut romeo) = friends(&server).await;
    let mut own = juliet(&server, "chamber").await;
    act(&mut own, "<presence/>").await;
    came(&mut romeo).await;
    came(&mut one).await;
    let told = act(&mut one, "<presence type='unavailable'><status>Night</status></presence>").await;
    assert_eq!(told, ["unavailable juliet@localhost/balcony"]);
    assert_eq!(came(&mut own).await, ["unavailable juliet@localhost/balcony"]);
    let seen = romeo.until_presence("juliet@localhost/balcony", Some("unavailable")).await;
    assert_eq!(seen.as_raw().child("status", "jabber:client").unwrap().text(), "Night");
    // §4.5.3: she is told of nobody any more, and nobody of her.
    act(&mut romeo, "<presence><show>away</show></presence>").await;
    act(&mut one, "<presence type='unavailable'/>").await;
    assert_eq!(came(&mut romeo).await, nothing());
    one.close().await;
    assert_eq!(came(&mut romeo).await, nothing());
    let mut told = came(&mut own).await;
    told.retain(|line| line.contains("balcony"));
    assert_eq!(told, nothing());
}

#[tokio::test]
async fn rfc6121_4_5_2_who_is_available_again_begins_anew() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = friends(&server).await;
    act(&mut juliet, "<presence type='unavailable'/>").await;
    came(&mut romeo).await;
    let told = act(&mut juliet, "<presence/>").await;
    assert_eq!(told, ["available romeo@localhost/orchard", "available juliet@localhost/balcony"]);
    assert_eq!(came(&mut romeo).await, ["available juliet@localhost/balcony"]);
}

#[tokio::test]
async fn rfc6121_4_5_4_whoever_loses_the_connection_is_gone_in_the_eyes_of_all() {
    let server = verona().start().await;
    let (mut one, mut romeo) = friends(&server).await;
    let mut own = juliet(&server, "chamber").await;
    act(&mut own, "<presence/>").await;
    came(&mut romeo).await;
    came(&mut one).await;
    for end in ["cut", "closed"] {
        match end {
            "cut" => drop(one),
            _ => one.close().await,
        }
        romeo.until_presence("juliet@localhost/balcony", Some("unavailable")).await;
        own.until_presence("juliet@localhost/balcony", Some("unavailable")).await;
        one = juliet(&server, "balcony").await;
        act(&mut one, "<presence/>").await;
        assert_eq!(came(&mut romeo).await, ["available juliet@localhost/balcony"]);
        came(&mut own).await;
    }
}

/// RFC 6120 §7.7.2.2: the older session is closed; what contacts see is what the newer one says.
#[tokio::test]
async fn a_session_that_is_replaced_does_not_say_that_its_successor_is_gone() {
    let server = verona().start().await;
    let (mut old, mut romeo) = friends(&server).await;
    for _ in 0..20 {
        let mut new = juliet(&server, "balcony").await;
        new.send("<presence><show>chat</show></presence>").await;
        new.until_presence("juliet@localhost/balcony", None).await;
        old.expect_stream_error("conflict").await;
        server.until("starling_sessions", |sessions| sessions == 2.0).await;
        let seen = came(&mut romeo).await;
        assert_eq!(seen.last().map(String::as_str), Some("available juliet@localhost/balcony"), "{seen:?}");
        old = new;
    }
    old.close().await;
    romeo.until_presence("juliet@localhost/balcony", Some("unavailable")).await;
}

/// Nobody misses somebody who comes at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_come_at_once_see_each_other() {
    let server = verona().start().await;
    befriended(&server).await;
    for round in 0..20 {
        let (mut one, mut other) = if round % 2 == 0 {
            (juliet(&server, "a").await, romeo(&server, "b").await)
        } else {
            (juliet(&server, "a").await, juliet(&server, "b").await)
        };
        tokio::join!(one.send("<presence/>"), other.send("<presence/>"));
        let (first, second) = (one.full().to_owned(), other.full().to_owned());
        tokio::join!(one.until_presence(&second, None), other.until_presence(&first, None));
        one.close().await;
        other.until_presence(&first, Some("unavailable")).await;
        other.close().await;
        server.until("starling_sessions", |sessions| sessions == 0.0).await;
    }
}

#[tokio::test]
async fn rfc6121_4_7_2_3_a_priority_is_an_integer_from_minus_128_to_127() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = friends(&server).await;
    for priority in ["-129", "128", "x", "", "1.5", "1e2"] {
        let stanza = format!("<presence id='p'><priority>{priority}</priority></presence>");
        let refused = juliet.ask(&stanza).await;
        assert_eq!(condition(&refused).as_deref(), Some("bad-request"), "{priority}");
    }
    assert_eq!(came(&mut romeo).await, nothing());
    for priority in ["-128", "0", "127"] {
        act(&mut juliet, &format!("<presence><priority>{priority}</priority></presence>")).await;
        let seen = romeo.until_presence("juliet@localhost/balcony", None).await;
        assert_eq!(seen.as_raw().child("priority", "jabber:client").unwrap().text(), priority);
    }
}

/// §4.3: probes are between servers; a client's own says nothing to anybody.
#[tokio::test]
async fn rfc6121_4_3_a_client_that_probes_is_told_nothing() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = friends(&server).await;
    for to in [ROMEO, "romeo@localhost/orchard", "nobody@localhost", JULIET, "localhost"] {
        assert_eq!(act(&mut juliet, &format!("<presence type='probe' to='{to}'/>")).await, nothing(), "{to}");
    }
    assert_eq!(act(&mut juliet, "<presence type='probe'/>").await, nothing());
    assert_eq!(came(&mut romeo).await, nothing());
}

/// What is so on disk is what is broadcast by, also after the process has died.
#[tokio::test]
async fn rfc6121_4_2_2_who_may_see_whom_survives_the_process() {
    let mut server = verona().start().await;
    befriended(&server).await;
    server.kill9();
    server.start_again().await;
    let (mut one, mut other) = both(&server).await;
    act(&mut one, "<presence/>").await;
    let told = act(&mut other, "<presence/>").await;
    assert_eq!(told, ["available juliet@localhost/balcony", "available romeo@localhost/orchard"]);
    assert_eq!(came(&mut one).await, ["available romeo@localhost/orchard"]);
}
