//! §2 and §3: the feature, and how stream management is enabled.

use std::collections::HashSet;

use starling_test_support::{RawClient, Received};

use super::{SM, juliet};
use crate::verona;

#[tokio::test]
async fn xep0198_2_the_feature_is_offered_after_log_in_only() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    let features = client.open("localhost").await;
    assert!(features.as_raw().child("sm", SM).is_none());
    client.authenticate("SCRAM-SHA-256", "juliet", "r0m30").await.unwrap();
    let features = client.open("localhost").await;
    assert!(features.as_raw().child("sm", SM).is_some(), "{}", client.transcript());
}

#[tokio::test]
async fn xep0198_3_nothing_is_enabled_before_log_in_and_log_in_may_still_follow() {
    let server = verona().start().await;
    let mut client = RawClient::plain(&server).await;
    client.open("localhost").await;
    let failed = client.try_enable(true).await.unwrap_err();
    assert_eq!(failed.condition, "unexpected-request");
    client.authenticate("SCRAM-SHA-256", "juliet", "r0m30").await.unwrap();
}

#[tokio::test]
async fn xep0198_3_nothing_is_enabled_before_a_resource_is_bound_and_then_it_is() {
    let server = verona().start().await;
    let mut client = RawClient::identified(&server, "juliet@localhost", "r0m30").await;
    let failed = client.try_enable(true).await.unwrap_err();
    assert_eq!(failed.condition, "unexpected-request");
    client.bind("balcony").await;
    assert!(client.enable(true).await.id.is_some());
    client.expect_nothing().await;
}

#[tokio::test]
async fn xep0198_3_a_second_enable_ends_the_stream() {
    let server = verona().start().await;
    for first in [true, false] {
        let mut client = crate::juliet(&server, "balcony").await;
        client.enable(first).await;
        client.send(&format!("<enable xmlns='{SM}' resume='true'/>")).await;
        client.expect_one_of(&["policy-violation", "undefined-condition", "unsupported-stanza-type"]).await;
    }
}

#[tokio::test]
async fn xep0198_3_without_a_wish_the_stream_cannot_be_resumed() {
    let server = verona().start().await;
    for wish in ["", " resume='false'", " resume='0'"] {
        let mut client = crate::juliet(&server, "balcony").await;
        let answer = client.ask(&format!("<enable xmlns='{SM}'{wish}/>")).await;
        let raw = answer.as_raw();
        assert!(raw.is("enabled", SM), "{}", client.transcript());
        for name in ["id", "resume", "max"] {
            assert_eq!(raw.attribute(name), None, "{wish}");
        }
        client.close().await;
    }
}

#[tokio::test]
async fn xep0198_3_a_stream_that_can_be_resumed_says_by_what_and_how_long() {
    let server = verona().set("session.resume_seconds", "77").start().await;
    for wish in ["true", "1"] {
        let mut client = crate::juliet(&server, "balcony").await;
        let answer = client.ask(&format!("<enable xmlns='{SM}' resume='{wish}'/>")).await;
        let raw = answer.as_raw();
        assert!(raw.is("enabled", SM), "{}", client.transcript());
        assert!(matches!(raw.attribute("resume").as_deref(), Some("true" | "1")), "{}", client.transcript());
        assert_eq!(raw.attribute("max").as_deref(), Some("77"));
        assert!(raw.attribute("id").is_some_and(|id| !id.is_empty() && id.len() <= 4000));
        client.close().await;
    }
}

#[tokio::test]
async fn xep0198_3_a_client_may_want_to_be_forgotten_sooner_but_not_later() {
    let server = verona().set("session.resume_seconds", "77").start().await;
    for (wish, most) in [("10", 10), ("1000", 77), ("soon", 77)] {
        let mut client = crate::juliet(&server, "balcony").await;
        let answer = client.ask(&format!("<enable xmlns='{SM}' resume='true' max='{wish}'/>")).await;
        let max: u32 = answer.as_raw().attribute("max").unwrap().parse().unwrap();
        assert!(max > 0 && max <= most, "{}", client.transcript());
        client.close().await;
    }
}

/// §9: who guesses an id takes a session over, if only one of the same account.
#[tokio::test]
async fn xep0198_5_ids_differ_in_what_cannot_be_guessed() {
    let server = verona().set("session.resources_per_account", "30").start().await;
    let mut clients = Vec::new();
    for number in 0..20 {
        clients.push(juliet(&server, &format!("r{number}")).await);
    }
    let ids: HashSet<String> = clients.iter().map(|client| client.resumption_id().to_owned()).collect();
    assert_eq!(ids.len(), clients.len());
    let columns = ids.iter().map(String::len).min().unwrap();
    let varied = (0..columns).filter(|column| {
        let seen: HashSet<u8> = ids.iter().map(|id| id.as_bytes()[*column]).collect();
        seen.len() > 4
    });
    let varied = varied.count();
    assert!(varied >= 20, "only {varied} characters differ: {ids:?}");
}

/// §3: what follows `<enable/>` in one packet is counted, what comes before it is not.
#[tokio::test]
async fn xep0198_3_counting_begins_at_enable_whatever_packets_it_comes_in() {
    let server = verona().start().await;
    let mut client = crate::juliet(&server, "balcony").await;
    let ping = |id: u32| format!("<iq type='get' id='{id}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    client.send(&format!("{}<enable xmlns='{SM}'/>{}{}<r xmlns='{SM}'/>", ping(1), ping(2), ping(3))).await;
    let mut came = Vec::new();
    for _ in 0..5 {
        let Received::Element(element) = client.next().await else { panic!("{}", client.transcript()) };
        let raw = element.as_raw();
        came.push(
            raw.attribute("id").or_else(|| raw.attribute("h")).map_or_else(|| raw.name().to_owned(), String::from),
        );
    }
    // The answers to the pings are "1", "2", "3"; h is the "2" behind them.
    assert_eq!(came, ["1", "enabled", "2", "3", "2"], "{}", client.transcript());
}
