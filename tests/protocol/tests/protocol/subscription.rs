//! RFC 6121 §3 and appendix A: subscriptions, between two accounts of one server.

mod approval;
mod cells;

use starling_test_support::{RawClient, Server, condition};

use crate::{
    both, juliet, romeo,
    roster::{act, came, interest, items},
    verona,
};

/// Both, available, and told of changes of their rosters.
async fn lovers(server: &Server) -> (RawClient, RawClient) {
    let (mut juliet, mut romeo) = both(server).await;
    for client in [&mut juliet, &mut romeo] {
        interest(client).await;
        client.become_available(0).await;
        client.until_quiet().await;
    }
    (juliet, romeo)
}

/// The same, and each has the other's presence.
async fn friends(server: &Server) -> (RawClient, RawClient) {
    let (mut juliet, mut romeo) = lovers(server).await;
    for kind in ["subscribe", "subscribed"] {
        act(&mut juliet, &presence("romeo", kind)).await;
        act(&mut romeo, &presence("juliet", kind)).await;
    }
    for client in [&mut juliet, &mut romeo] {
        client.until_quiet().await;
    }
    (juliet, romeo)
}

fn nothing() -> Vec<String> {
    Vec::new()
}

fn presence(to: &str, kind: &str) -> String {
    format!("<presence to='{to}@localhost' type='{kind}'/>")
}

#[tokio::test]
async fn rfc6121_3_1_a_request_and_its_approval() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = lovers(&server).await;
    // §3.1.2: sent on, and pushed as asked for.
    assert_eq!(act(&mut romeo, &presence("juliet", "subscribe")).await, ["push juliet@localhost none ask"]);
    // §3.1.3: delivered; nothing is in her roster yet.
    assert_eq!(came(&mut juliet).await, ["subscribe romeo@localhost"]);
    assert_eq!(interest(&mut juliet).await, nothing());
    // §3.1.5
    assert_eq!(act(&mut juliet, &presence("romeo", "subscribed")).await, ["push romeo@localhost from"]);
    // §3.1.6: the approval, ahead of the push, and then her presence.
    let expected = ["subscribed juliet@localhost", "push juliet@localhost to", "available juliet@localhost/balcony"];
    assert_eq!(came(&mut romeo).await, expected);
    // §3.1.7: the other way.
    assert_eq!(act(&mut juliet, &presence("romeo", "subscribe")).await, ["push romeo@localhost from ask"]);
    assert_eq!(came(&mut romeo).await, ["subscribe juliet@localhost"]);
    assert_eq!(act(&mut romeo, &presence("juliet", "subscribed")).await, ["push juliet@localhost both"]);
    let expected = ["subscribed romeo@localhost", "push romeo@localhost both", "available romeo@localhost/orchard"];
    assert_eq!(came(&mut juliet).await, expected);
}

/// §3.1.1, §3.1.2: whatever resource is named; and who asks is who is logged in.
#[tokio::test]
async fn rfc6121_3_1_2_a_request_is_between_bare_jids_with_all_that_is_in_it() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = lovers(&server).await;
    let text = "<status>Let me &lt;in&gt;</status><nick xmlns='http://jabber.org/protocol/nick'>R</nick>";
    romeo.send(&format!("<presence id='r1' to='Juliet@localhost/elsewhere' type='subscribe'>{text}</presence>")).await;
    let request = juliet.element().await;
    let raw = request.as_raw();
    assert_eq!(raw.attribute("from").as_deref(), Some("romeo@localhost"));
    assert_eq!(raw.attribute("to").as_deref(), Some("juliet@localhost"));
    assert_eq!(raw.attribute("id").as_deref(), Some("r1"));
    assert_eq!(raw.lang().as_deref(), Some("en"), "RFC 6120 §4.7.4");
    assert_eq!(raw.child("status", "jabber:client").unwrap().text(), "Let me <in>");
    assert!(raw.child("nick", "http://jabber.org/protocol/nick").is_some());
}

#[tokio::test]
async fn rfc6121_3_1_3_requests_are_for_available_resources_and_what_comes_of_them_for_interested_ones() {
    let server = verona().start().await;
    let mut asking = romeo(&server, "orchard").await;
    let (mut available, mut interested) = (juliet(&server, "a").await, juliet(&server, "b").await);
    interest(&mut interested).await;
    available.become_available(-1).await;
    available.until_quiet().await;
    act(&mut asking, &presence("juliet", "subscribe")).await;
    assert_eq!(came(&mut available).await, ["subscribe romeo@localhost"]);
    assert_eq!(came(&mut interested).await, nothing());
    act(&mut available, &presence("romeo", "subscribed")).await;
    assert_eq!(came(&mut interested).await, ["push romeo@localhost from"]);
    act(&mut asking, &presence("juliet", "unsubscribe")).await;
    assert_eq!(came(&mut interested).await, ["unsubscribe romeo@localhost", "push romeo@localhost none"]);
    assert_eq!(came(&mut available).await, nothing());
}

#[tokio::test]
async fn rfc6121_3_1_3_a_request_waits_for_who_is_not_there_and_comes_until_it_is_answered() {
    let mut server = verona().start().await;
    let mut asking = romeo(&server, "orchard").await;
    // Twice: only one of them is kept.
    for text in ["first", "second"] {
        let request = format!("<presence to='juliet@localhost' type='subscribe'><status>{text}</status></presence>");
        act(&mut asking, &request).await;
    }
    server.kill9();
    server.start_again().await;
    for _ in 0..2 {
        let mut client = juliet(&server, "balcony").await;
        assert_eq!(came(&mut client).await, nothing(), "not before it is available");
        client.send("<presence/>").await;
        let request = client.until_presence("romeo@localhost", Some("subscribe")).await;
        assert_eq!(request.as_raw().child("status", "jabber:client").unwrap().text(), "first");
        assert_eq!(came(&mut client).await, ["available juliet@localhost/balcony"]);
        // A change is no beginning; being available again is.
        assert_eq!(act(&mut client, "<presence><show>away</show></presence>").await.len(), 1);
        let again = act(&mut client, "<presence type='unavailable'/><presence/>").await;
        assert!(again.contains(&"subscribe romeo@localhost".to_owned()), "{again:?}");
        client.close().await;
    }
    let mut client = juliet(&server, "balcony").await;
    act(&mut client, "<presence/>").await;
    act(&mut client, &presence("romeo", "subscribed")).await;
    let again = act(&mut client, "<presence type='unavailable'/><presence/>").await;
    assert!(!again.contains(&"subscribe romeo@localhost".to_owned()), "{again:?}");
}

#[tokio::test]
async fn rfc6121_3_1_6_who_asked_and_went_finds_the_answer_in_the_roster() {
    let server = verona().start().await;
    let (mut one, mut two) = lovers(&server).await;
    act(&mut two, &presence("juliet", "subscribe")).await;
    two.close().await;
    act(&mut one, &presence("romeo", "subscribed")).await;
    let mut two = romeo(&server, "orchard").await;
    assert_eq!(interest(&mut two).await, ["juliet@localhost to"]);
    let seen = act(&mut two, "<presence/>").await;
    assert!(seen.contains(&"available juliet@localhost/balcony".to_owned()), "{seen:?}");
    assert!(!seen.iter().any(|line| line.starts_with("subscribed")), "{seen:?}");
}

/// §3.1.3: who has it already is told so by the server; the contact is not bothered.
#[tokio::test]
async fn rfc6121_3_1_3_a_request_for_what_one_has_is_answered_by_the_server() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = friends(&server).await;
    // His own state says that it is no news (§A.3.3); her presence comes again.
    assert_eq!(act(&mut romeo, &presence("juliet", "subscribe")).await, ["available juliet@localhost/balcony"]);
    assert_eq!(came(&mut juliet).await, nothing());
}

/// §8.5.1, §13.4: who has an account is not to be found out.
#[tokio::test]
async fn rfc6121_8_5_1_a_request_to_nobody_looks_like_one_that_nobody_answers() {
    let server = verona().start().await;
    let mut asking = juliet(&server, "balcony").await;
    interest(&mut asking).await;
    for to in ["romeo", "nobody"] {
        assert_eq!(act(&mut asking, &presence(to, "subscribe")).await, [format!("push {to}@localhost none ask")]);
        for kind in ["subscribed", "unsubscribed"] {
            act(&mut asking, &presence(to, kind)).await;
        }
        assert_eq!(act(&mut asking, &presence(to, "unsubscribe")).await, [format!("push {to}@localhost none")]);
    }
}

#[tokio::test]
async fn rfc6121_3_1_2_a_domain_that_is_not_served_is_not_found_but_one_has_asked() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    interest(&mut client).await;
    let refused = client.ask("<presence to='romeo@verona.example' type='subscribe' id='s'/>").await;
    assert_eq!(came(&mut client).await, ["push romeo@verona.example none ask"]);
    assert_eq!(condition(&refused).as_deref(), Some("remote-server-not-found"));
    assert_eq!(refused.as_raw().attribute("from").as_deref(), Some("romeo@verona.example"));
    assert_eq!(interest(&mut client).await, ["romeo@verona.example none ask"]);
}

#[tokio::test]
async fn rfc6121_3_1_1_nobody_asks_oneself_or_nobody_or_the_server() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    interest(&mut client).await;
    for kind in ["subscribe", "subscribed", "unsubscribe", "unsubscribed"] {
        for to in ["juliet@localhost", "juliet@localhost/chamber", "localhost"] {
            let refused = client.ask(&format!("<presence to='{to}' type='{kind}' id='s'/>")).await;
            assert_eq!(condition(&refused).as_deref(), Some("not-allowed"), "{to} {kind}");
        }
        let refused = client.ask(&format!("<presence type='{kind}' id='s'/>")).await;
        assert_eq!(condition(&refused).as_deref(), Some("bad-request"), "{kind}");
    }
    assert_eq!(interest(&mut client).await, nothing());
}

#[tokio::test]
async fn rfc6121_3_2_a_request_that_is_denied() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = lovers(&server).await;
    act(&mut romeo, &presence("juliet", "subscribe")).await;
    came(&mut juliet).await;
    // She never had him in her roster, and has not now.
    assert_eq!(act(&mut juliet, &presence("romeo", "unsubscribed")).await, nothing());
    assert_eq!(came(&mut romeo).await, ["unsubscribed juliet@localhost", "push juliet@localhost none"]);
    assert_eq!(interest(&mut juliet).await, nothing());
    let again = act(&mut juliet, "<presence type='unavailable'/><presence/>").await;
    assert!(!again.contains(&"subscribe romeo@localhost".to_owned()));
}

#[tokio::test]
async fn rfc6121_3_2_a_subscription_that_is_cancelled() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = friends(&server).await;
    assert_eq!(act(&mut juliet, &presence("romeo", "unsubscribed")).await, ["push romeo@localhost to"]);
    // §3.2.2: she goes, as long as he may see that; §3.2.3: what it was, ahead of the push.
    let expected =
        ["unavailable juliet@localhost/balcony", "unsubscribed juliet@localhost", "push juliet@localhost from"];
    assert_eq!(came(&mut romeo).await, expected);
    // From then on he sees nothing of her, and she still him.
    act(&mut juliet, "<presence><show>dnd</show></presence>").await;
    assert_eq!(came(&mut romeo).await, nothing());
    act(&mut romeo, "<presence><show>dnd</show></presence>").await;
    assert_eq!(came(&mut juliet).await, ["available romeo@localhost/orchard"]);
}

#[tokio::test]
async fn rfc6121_3_3_who_wants_it_no_longer() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = friends(&server).await;
    // §3.3.2, and §3.3.3: her presence ends.
    let expected = ["push juliet@localhost from", "unavailable juliet@localhost/balcony"];
    assert_eq!(act(&mut romeo, &presence("juliet", "unsubscribe")).await, expected);
    assert_eq!(came(&mut juliet).await, ["unsubscribe romeo@localhost", "push romeo@localhost to"]);
    act(&mut juliet, "<presence><show>dnd</show></presence>").await;
    assert_eq!(came(&mut romeo).await, nothing());
    // §3.3.3 for one who is not there: the state changes all the same.
    juliet.close().await;
    came(&mut romeo).await;
    act(&mut romeo, &presence("juliet", "unsubscribed")).await;
    let mut juliet = crate::juliet(&server, "balcony").await;
    assert_eq!(interest(&mut juliet).await, ["romeo@localhost none"]);
    assert_eq!(act(&mut juliet, "<presence/>").await, ["available juliet@localhost/balcony"]);
}

#[tokio::test]
async fn rfc6121_3_3_a_request_that_is_taken_back() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = lovers(&server).await;
    act(&mut romeo, &presence("juliet", "subscribe")).await;
    came(&mut juliet).await;
    assert_eq!(act(&mut romeo, &presence("juliet", "unsubscribe")).await, ["push juliet@localhost none"]);
    assert_eq!(came(&mut juliet).await, ["unsubscribe romeo@localhost"]);
    let again = act(&mut juliet, "<presence type='unavailable'/><presence/>").await;
    assert!(!again.contains(&"subscribe romeo@localhost".to_owned()));
}

#[tokio::test]
async fn rfc6121_2_5_2_removal_ends_both_subscriptions() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = friends(&server).await;
    let remove = "<query xmlns='jabber:iq:roster'><item jid='romeo@localhost' subscription='remove'/></query>";
    let mut told = act(&mut juliet, &format!("<iq type='set' id='set'>{remove}</iq>")).await;
    told.sort();
    assert_eq!(told, ["iq result", "push romeo@localhost remove", "unavailable romeo@localhost/orchard"]);
    let expected = [
        "unavailable juliet@localhost/balcony",
        "unsubscribe juliet@localhost",
        "push juliet@localhost to",
        "unsubscribed juliet@localhost",
        "push juliet@localhost none",
    ];
    assert_eq!(came(&mut romeo).await, expected);
    assert_eq!(interest(&mut juliet).await, nothing());
    for client in [&mut juliet, &mut romeo] {
        act(client, "<presence><show>dnd</show></presence>").await;
    }
    assert_eq!(came(&mut juliet).await, nothing());
    assert_eq!(came(&mut romeo).await, nothing());
}

/// What one asked for ends with the item, so that nobody grants what nobody wants any more.
#[tokio::test]
async fn rfc6121_2_5_removal_takes_a_request_back() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = lovers(&server).await;
    act(&mut romeo, &presence("juliet", "subscribe")).await;
    came(&mut juliet).await;
    let remove = "<query xmlns='jabber:iq:roster'><item jid='juliet@localhost' subscription='remove'/></query>";
    act(&mut romeo, &format!("<iq type='set' id='set'>{remove}</iq>")).await;
    assert_eq!(came(&mut juliet).await, ["unsubscribe romeo@localhost"]);
    act(&mut juliet, &presence("romeo", "subscribed")).await;
    assert_eq!(came(&mut romeo).await, nothing());
}

/// Strangers can neither fill a roster nor make log-ins long.
#[tokio::test]
async fn a_hundred_requests_wait_and_not_one_more() {
    let builder = (0..101).fold(verona(), |builder, number| builder.user(&format!("fan{number}@localhost"), "f"));
    let server = builder.set("c2s.limits.bytes_per_second", "off").start().await;
    for number in 0..101 {
        let mut fan = RawClient::session(&server, &format!("fan{number}@localhost"), "f", "x").await;
        act(&mut fan, &presence("juliet", "subscribe")).await;
        fan.close().await;
    }
    let mut client = juliet(&server, "balcony").await;
    let requests = |told: Vec<String>| told.iter().filter(|line| line.starts_with("subscribe ")).count();
    assert_eq!(requests(act(&mut client, "<presence/>").await), 100);
    // An answer makes room.
    act(&mut client, &presence("fan0", "unsubscribed")).await;
    let mut fan = RawClient::session(&server, "fan100@localhost", "f", "x").await;
    act(&mut fan, &presence("juliet", "subscribe")).await;
    assert_eq!(came(&mut client).await, ["subscribe fan100@localhost"]);
}

/// The request is the roster's matter, not that of whoever is listening: items of both sides agree.
#[tokio::test]
async fn both_rosters_agree_whoever_of_the_two_is_faster() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = lovers(&server).await;
    for _ in 0..20 {
        let (to_him, to_her) = (presence("romeo", "subscribe"), presence("juliet", "subscribe"));
        tokio::join!(act(&mut juliet, &to_him), act(&mut romeo, &to_her));
        let (to_him, to_her) = (presence("romeo", "subscribed"), presence("juliet", "subscribed"));
        tokio::join!(act(&mut juliet, &to_him), act(&mut romeo, &to_her));
        for client in [&mut juliet, &mut romeo] {
            client.until_quiet().await;
        }
        assert_eq!(items(&juliet.roster().await), ["romeo@localhost both"]);
        assert_eq!(items(&romeo.roster().await), ["juliet@localhost both"]);
        let (to_him, to_her) = (presence("romeo", "unsubscribe"), presence("juliet", "unsubscribe"));
        tokio::join!(act(&mut juliet, &to_him), act(&mut romeo, &to_her));
        for client in [&mut juliet, &mut romeo] {
            client.until_quiet().await;
        }
        assert_eq!(items(&juliet.roster().await), ["romeo@localhost none"]);
        assert_eq!(items(&romeo.roster().await), ["juliet@localhost none"]);
    }
}
