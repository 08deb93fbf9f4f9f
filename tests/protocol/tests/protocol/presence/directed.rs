//! RFC 6121 §4.6: presence that is sent to somebody in particular.

use starling_test_support::condition;

use super::{friends, nothing};
use crate::{
    both, juliet, romeo,
    roster::{act, came},
    verona,
};

#[tokio::test]
async fn rfc6121_4_6_3_a_stranger_sees_what_is_sent_to_it_and_the_end_of_it() {
    let server = verona().start().await;
    let (mut one, mut other) = both(&server).await;
    act(&mut one, "<presence/>").await;
    act(&mut other, "<presence/>").await;
    for to in ["romeo@localhost", "romeo@localhost/orchard"] {
        assert_eq!(act(&mut one, &format!("<presence to='{to}' id='d'><show>dnd</show></presence>")).await, nothing());
        let seen = other.element().await;
        let raw = seen.as_raw();
        assert_eq!(raw.attribute("from").as_deref(), Some("juliet@localhost/balcony"));
        assert_eq!(raw.attribute("to").as_deref(), Some(to));
        assert_eq!(raw.child("show", "jabber:client").unwrap().text(), "dnd");
        // Not what is for all, but the end of all.
        act(&mut one, "<presence><show>away</show></presence>").await;
        assert_eq!(came(&mut other).await, nothing());
        act(&mut one, "<presence type='unavailable'/>").await;
        assert_eq!(came(&mut other).await, ["unavailable juliet@localhost/balcony"], "{to}");
        // Only once.
        act(&mut one, "<presence/>").await;
        act(&mut one, "<presence type='unavailable'/>").await;
        assert_eq!(came(&mut other).await, nothing());
        act(&mut one, "<presence/>").await;
    }
}

#[tokio::test]
async fn rfc6121_4_6_3_who_was_told_directly_hears_of_a_cut_connection() {
    let server = verona().start().await;
    let (mut one, mut other) = both(&server).await;
    act(&mut other, "<presence/>").await;
    // §4.6.1: also from one that is not available otherwise, and of that the own resources see nothing.
    let mut own = juliet(&server, "chamber").await;
    act(&mut own, "<presence/>").await;
    act(&mut one, "<presence to='romeo@localhost'/>").await;
    assert_eq!(came(&mut other).await, ["available juliet@localhost/balcony"]);
    drop(one);
    other.until_presence("juliet@localhost/balcony", Some("unavailable")).await;
    server.until("starling_sessions", |sessions| sessions == 2.0).await;
    assert_eq!(came(&mut own).await, nothing());
}

#[tokio::test]
async fn rfc6121_4_6_3_who_was_told_of_the_end_directly_is_not_told_again() {
    let server = verona().start().await;
    let (mut one, mut other) = both(&server).await;
    for client in [&mut one, &mut other] {
        act(client, "<presence/>").await;
    }
    act(&mut one, "<presence to='romeo@localhost'/>").await;
    act(&mut one, "<presence to='romeo@localhost' type='unavailable'><status>No</status></presence>").await;
    let expected = ["available juliet@localhost/balcony", "unavailable juliet@localhost/balcony"];
    assert_eq!(came(&mut other).await, expected);
    act(&mut one, "<presence type='unavailable'/>").await;
    assert_eq!(came(&mut other).await, nothing());
}

#[tokio::test]
async fn rfc6121_4_6_3_a_contact_is_told_of_the_end_once() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = friends(&server).await;
    let mut own = crate::juliet(&server, "chamber").await;
    act(&mut own, "<presence/>").await;
    for to in ["romeo@localhost", "romeo@localhost/orchard", "juliet@localhost", "juliet@localhost/chamber"] {
        act(&mut juliet, &format!("<presence to='{to}'><show>chat</show></presence>")).await;
    }
    for client in [&mut romeo, &mut own] {
        came(client).await;
    }
    act(&mut juliet, "<presence type='unavailable'/>").await;
    for client in [&mut romeo, &mut own] {
        assert_eq!(came(client).await, ["unavailable juliet@localhost/balcony"]);
    }
}

/// A contact's resource that is not available is not in the broadcast, but was told.
#[tokio::test]
async fn rfc6121_4_6_3_a_resource_that_is_not_available_hears_of_the_end_too() {
    let server = verona().start().await;
    let (mut juliet, mut orchard) = friends(&server).await;
    let mut silent = romeo(&server, "silent").await;
    act(&mut juliet, "<presence to='romeo@localhost/silent'/>").await;
    assert_eq!(came(&mut silent).await, ["available juliet@localhost/balcony"]);
    assert_eq!(came(&mut orchard).await, nothing());
    act(&mut juliet, "<presence type='unavailable'/>").await;
    assert_eq!(came(&mut silent).await, ["unavailable juliet@localhost/balcony"]);
    assert_eq!(came(&mut orchard).await, ["unavailable juliet@localhost/balcony"]);
}

/// §8.5.1, §8.5.3.2.2, §13.4
#[tokio::test]
async fn rfc6121_8_5_presence_to_nobody_ends_in_silence_whoever_it_is() {
    let server = verona().start().await;
    let (mut one, mut other) = both(&server).await;
    act(&mut one, "<presence/>").await;
    for to in ["romeo@localhost", "romeo@localhost/nowhere", "nobody@localhost", "nobody@localhost/x"] {
        for kind in ["", " type='unavailable'", " type='probe'"] {
            assert_eq!(act(&mut one, &format!("<presence to='{to}'{kind}/>")).await, nothing(), "{to}{kind}");
        }
    }
    assert_eq!(came(&mut other).await, nothing());
    let refused = one.ask("<presence to='romeo@verona.example' id='p'/>").await;
    assert_eq!(condition(&refused).as_deref(), Some("remote-server-not-found"));
}

#[tokio::test]
async fn rfc6121_4_7_1_an_error_reaches_the_resource_it_is_for_and_is_not_answered() {
    let server = verona().start().await;
    let (mut one, mut other) = both(&server).await;
    let error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    act(&mut one, &format!("<presence to='romeo@localhost/orchard' type='error'>{error}</presence>")).await;
    let seen = other.element().await;
    assert_eq!(condition(&seen).as_deref(), Some("gone"));
    assert_eq!(
        act(&mut one, &format!("<presence to='nobody@localhost' type='error'>{error}</presence>")).await,
        nothing()
    );
    assert_eq!(act(&mut one, &format!("<presence type='error'>{error}</presence>")).await, nothing());
}

#[tokio::test]
async fn directed_presence_is_remembered_for_256_addresses_and_not_one_more() {
    let server = verona().set("c2s.limits.bytes_per_second", "off").start().await;
    let (mut one, mut other) = both(&server).await;
    act(&mut other, "<presence/>").await;
    let stanzas: String = (0..255).map(|number| format!("<presence to='{number}@localhost'/>")).collect();
    assert_eq!(act(&mut one, &stanzas).await, nothing());
    act(&mut one, "<presence to='romeo@localhost'/>").await;
    let refused = one.ask("<presence to='more@localhost' id='p'/>").await;
    assert_eq!(condition(&refused).as_deref(), Some("resource-constraint"));
    // Whom it knows it may tell again; and whom it takes leave of makes room.
    assert_eq!(act(&mut one, "<presence to='7@localhost'/>").await, nothing());
    act(&mut one, "<presence to='7@localhost' type='unavailable'/>").await;
    assert_eq!(act(&mut one, "<presence to='more@localhost'/>").await, nothing());
    drop(one);
    other.until_presence("juliet@localhost/balcony", Some("unavailable")).await;
}
