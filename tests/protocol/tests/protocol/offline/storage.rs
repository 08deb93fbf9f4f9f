//! XEP-0160 §2: what is stored, and when it is delivered.

use starling_test_support::{RawClient, Row, RowState, condition};

use super::{bodies, chat, fetched, juliet, messages_at_log_in, messages_so_far};
use crate::{romeo, verona};

const DELAY: &str = "urn:xmpp:delay";
const IDS: &str = "urn:xmpp:sid:0";

#[tokio::test]
async fn xep0160_2_messages_wait_and_come_in_order_with_available_presence() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    for number in 0..20 {
        sender.send(&chat(number)).await;
    }
    sender.until_acked().await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.expect_nothing().await;
    recipient.send("<presence/>").await;
    for number in 0..20 {
        let message = recipient.message().await;
        let raw = message.as_raw();
        assert_eq!(starling_test_support::body(&message), number.to_string());
        assert_eq!(raw.attribute("from").as_deref(), Some("juliet@localhost/balcony"));
        assert_eq!(raw.attribute("to").as_deref(), Some("romeo@localhost"));
        assert_eq!(raw.attribute("id").as_deref(), Some("m"));
    }
    assert!(messages_so_far(&mut recipient).await.is_empty());
}

#[tokio::test]
async fn xep0203_3_a_stored_message_says_when_it_came_in_and_xep0359_3_what_its_id_is() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    for number in 0..3 {
        sender.send(&chat(number)).await;
    }
    sender.until_acked().await;
    let mut recipient = romeo(&server, "orchard").await;
    let messages = messages_at_log_in(&server, &mut recipient, 0).await;
    let (mut stamps, mut ids) = (Vec::new(), Vec::new());
    for message in &messages {
        let raw = message.as_raw();
        let delays: Vec<_> = raw.children().filter(|child| child.is("delay", DELAY)).collect();
        assert_eq!(delays.len(), 1, "{}", raw.as_str());
        assert_eq!(delays[0].attribute("from").as_deref(), Some("localhost"));
        stamps.push(delays[0].attribute("stamp").unwrap().into_owned());
        let id = raw.child("stanza-id", IDS).unwrap();
        assert_eq!(id.attribute("by").as_deref(), Some("romeo@localhost"));
        ids.push(id.attribute("id").unwrap().into_owned());
    }
    for stamp in &stamps {
        // XEP-0082 §3.2: UTC, with or without a fraction.
        let (seconds, fraction) = stamp.split_at(19);
        assert!(seconds.starts_with("20") && seconds.as_bytes()[10] == b'T', "{stamp}");
        assert!(fraction.ends_with('Z'), "{stamp}");
    }
    assert!(stamps.is_sorted() && stamps.len() == 3, "{stamps:?}");
    ids.dedup();
    assert!(ids.is_sorted() && ids.len() == 3, "{ids:?}");
    let rows = server.rows("romeo@localhost").await;
    assert_eq!(rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>(), ids, "the ids are those of the archive");
}

/// RFC 6121 §8.5.2.1.1: live, there is no delay; and what was sent to a full JID waits as well (§8.5.3.2.1).
#[tokio::test]
async fn rfc6121_8_5_3_2_1_a_message_to_a_resource_that_is_gone_waits_for_the_account() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    for kind in ["chat", "normal"] {
        sender.send(&format!("<message to='romeo@localhost/gone' type='{kind}'><body>{kind}</body></message>")).await;
    }
    let refused = sender.until_quiet().await;
    sender.until_acked().await;
    let mut recipient = romeo(&server, "orchard").await;
    let messages = messages_at_log_in(&server, &mut recipient, 0).await;
    // §8.5.3.2.1 lets a server treat "normal" so, or return an error: one of the two it must be.
    assert_eq!(messages.len() + refused.len(), 2);
    assert!(bodies(&messages).contains(&"chat".to_owned()));
    assert!(refused.iter().all(|answer| condition(answer).as_deref() == Some("service-unavailable")));
    sender.send(&chat("live")).await;
    let live = recipient.message().await;
    assert!(live.as_raw().child("delay", DELAY).is_none());
}

#[tokio::test]
async fn xep0160_3_types_that_wait_and_types_that_do_not() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    let mut refused = Vec::new();
    for kind in ["chat", "normal", "", "shout", "groupchat", "headline", "error"] {
        let kind_attribute = if kind.is_empty() { String::new() } else { format!(" type='{kind}'") };
        sender
            .send(&format!("<message to='romeo@localhost'{kind_attribute} id='{kind}'><body>{kind}</body></message>"))
            .await;
        for answer in sender.until_quiet().await {
            assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"), "{kind}");
            refused.push(kind);
        }
    }
    sender.until_acked().await;
    // RFC 6121 §8.5.2.2.1: silence for headlines, none of it for errors.
    assert_eq!(refused, ["groupchat"]);
    let mut recipient = romeo(&server, "orchard").await;
    // RFC 6121 §5.2.2: an unknown type is a normal one.
    assert_eq!(bodies(&messages_at_log_in(&server, &mut recipient, 0).await), ["chat", "normal", "", "shout"]);
}

#[tokio::test]
async fn rfc6121_8_5_1_nothing_waits_for_an_account_that_does_not_exist() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    for to in ["nobody@localhost", "nobody@localhost/x"] {
        let answer = sender.ask(&format!("<message to='{to}' type='chat' id='1'><body>?</body></message>")).await;
        assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"), "{to}");
    }
    assert!(server.rows("nobody@localhost").await.is_empty());
}

#[tokio::test]
async fn rfc6121_8_5_2_1_1_a_negative_priority_takes_nothing_until_it_rises() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    sender.send(&chat(1)).await;
    sender.until_acked().await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.become_available(-1).await;
    assert!(messages_so_far(&mut recipient).await.is_empty());
    sender.send(&chat(2)).await;
    sender.until_acked().await;
    assert!(messages_so_far(&mut recipient).await.is_empty());
    recipient.send("<presence><priority>0</priority></presence>").await;
    for number in ["1", "2"] {
        assert_eq!(starling_test_support::body(&recipient.message().await), number);
    }
}

/// Directed presence is for one address (RFC 6121 §4.6); it makes nobody available.
#[tokio::test]
async fn rfc6121_4_6_directed_presence_fetches_nothing() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    sender.send(&chat(1)).await;
    sender.until_acked().await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.send("<presence to='juliet@localhost'/>").await;
    assert!(messages_so_far(&mut recipient).await.is_empty());
    assert_eq!(bodies(&messages_at_log_in(&server, &mut recipient, 0).await), ["1"]);
}

#[tokio::test]
async fn xep0160_2_each_message_comes_once() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    for number in 0..3 {
        sender.send(&chat(number)).await;
    }
    sender.until_acked().await;
    let mut first = romeo(&server, "first").await;
    assert_eq!(bodies(&messages_at_log_in(&server, &mut first, 0).await), ["0", "1", "2"]);
    // Presence again, another resource, and the same one anew.
    assert!(messages_at_log_in(&server, &mut first, 1).await.is_empty());
    let mut second = romeo(&server, "second").await;
    assert!(messages_at_log_in(&server, &mut second, 0).await.is_empty());
    first.close().await;
    let mut again = romeo(&server, "first").await;
    assert!(messages_at_log_in(&server, &mut again, 0).await.is_empty());
}

/// Two that become available at once share what waits between them: each message goes to one of them.
#[tokio::test]
async fn xep0160_2_two_that_come_at_once_do_not_both_get_it() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    let (mut one, mut other) = (romeo(&server, "one").await, romeo(&server, "other").await);
    for round in 0..20 {
        for number in 0..3 {
            sender.send(&chat(round * 3 + number)).await;
        }
        sender.until_acked().await;
        one.send("<presence/>").await;
        other.send("<presence/>").await;
        let mut came = bodies(&fetched(&server, &mut one).await);
        came.extend(bodies(&fetched(&server, &mut other).await));
        came.sort_by_key(|number| number.parse::<u32>().unwrap());
        let expected: Vec<String> = (0..3).map(|number| (round * 3 + number).to_string()).collect();
        assert_eq!(came, expected);
        for client in [&mut one, &mut other] {
            client.send("<presence type='unavailable'/>").await;
            client.expect_nothing_but_presence().await;
        }
    }
}

/// XEP-0160 §2: "the recipient's offline message queue is full".
#[tokio::test]
async fn xep0160_2_too_many_are_refused_to_their_sender_and_room_is_made_by_log_in() {
    for archive in ["true", "false"] {
        let server = verona().set("session.offline_messages", "5").set("archive.enabled", archive).start().await;
        let mut sender = juliet(&server).await;
        for round in 0..2 {
            let mut refused = 0;
            for number in 0..8 {
                sender.send(&chat(number)).await;
            }
            for answer in sender.until_quiet().await {
                let condition = condition(&answer).unwrap_or_default();
                assert!(["service-unavailable", "resource-constraint"].contains(&condition.as_str()), "{condition}");
                refused += 1;
            }
            assert_eq!(refused, 3, "round {round}");
            sender.until_acked().await;
            let mut recipient = romeo(&server, "orchard").await;
            let came = bodies(&messages_at_log_in(&server, &mut recipient, 0).await);
            assert_eq!(came, ["0", "1", "2", "3", "4"]);
            recipient.close().await;
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_and_a_stop() {
    for crash in [true, false] {
        for archive in ["true", "false"] {
            let mut server = verona().set("archive.enabled", archive).start().await;
            let mut sender = juliet(&server).await;
            for number in 0..50 {
                sender.send(&chat(number)).await;
            }
            sender.until_acked().await;
            if crash {
                server.kill9();
            } else {
                server.terminate();
                drop(sender);
                assert_eq!(server.wait().await.code(), Some(0), "{}", server.logs());
            }
            server.start_again().await;
            let mut recipient = romeo(&server, "orchard").await;
            recipient.send("<presence/>").await;
            for number in 0..50 {
                assert_eq!(starling_test_support::body(&recipient.message().await), number.to_string());
            }
            assert!(messages_so_far(&mut recipient).await.is_empty());
        }
    }
}

/// Nobody acknowledged it: its client had not even read it.
#[tokio::test]
async fn what_was_in_flight_at_a_crash_waits_again() {
    let mut server = verona().start().await;
    let mut sender = juliet(&server).await;
    let mut recipient = RawClient::managed(&server, "romeo@localhost", "jul13t", "orchard").await;
    recipient.become_available(0).await;
    for number in 0..10 {
        sender.send(&chat(number)).await;
    }
    sender.until_acked().await;
    server.kill9();
    server.start_again().await;
    // Others have to find out first that a process has died.
    let waits = |rows: &[Row]| rows.len() == 10 && rows.iter().all(|row| row.state == RowState::Pending);
    server.until_rows("romeo@localhost", waits).await;
    let mut recipient = romeo(&server, "orchard").await;
    let came = bodies(&messages_at_log_in(&server, &mut recipient, 0).await);
    assert_eq!(came, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// XEP-0359 §6: what claims to be an id of ours is not handed on; others' ids are none of our business.
#[tokio::test]
async fn xep0359_6_forged_ids_of_our_domain_are_taken_away() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    let forged = |by: &str| format!("<stanza-id xmlns='{IDS}' by='{by}' id='forged'/>");
    let ids = [
        forged("romeo@localhost"),
        forged("ROMEO@localhost"),
        forged("localhost"),
        forged("juliet@localhost"),
        forged("elsewhere.example"),
        format!("<origin-id xmlns='{IDS}' id='mine'/>"),
    ]
    .concat();
    let check = |message: &starling_test_support::Element, what: &str| {
        let raw = message.as_raw();
        let ids: Vec<_> = raw.children().filter(|child| child.is("stanza-id", IDS)).collect();
        let by = |by: &str| ids.iter().filter(|id| id.attribute("by").as_deref() == Some(by)).count();
        assert_eq!((by("romeo@localhost"), by("elsewhere.example"), ids.len()), (1, 1, 2), "{what}: {}", raw.as_str());
        let ours = ids.iter().find(|id| id.attribute("by").as_deref() == Some("romeo@localhost")).unwrap();
        assert_ne!(ours.attribute("id").as_deref(), Some("forged"), "{what}");
        assert_eq!(raw.child("origin-id", IDS).unwrap().attribute("id").as_deref(), Some("mine"), "{what}");
    };
    sender.send(&super::to_romeo(&format!("<body>stored</body>{ids}"))).await;
    sender.until_acked().await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.send("<presence/>").await;
    check(&recipient.message().await, "stored");
    sender.send(&super::to_romeo(&format!("<body>live</body>{ids}"))).await;
    check(&recipient.message().await, "live");
    sender.send(&format!("<message to='romeo@localhost/orchard' type='chat'>{ids}<body>full</body></message>")).await;
    check(&recipient.message().await, "full");
    // What is not kept gets no id, and still no forged one.
    sender.send(&format!("<message to='romeo@localhost' type='headline'>{ids}<body>news</body></message>")).await;
    let headline = recipient.message().await;
    let ids: Vec<_> = headline.as_raw().children().filter(|child| child.is("stanza-id", IDS)).collect();
    assert!(
        ids.iter().all(|id| id.attribute("by").as_deref() == Some("elsewhere.example")),
        "{}",
        recipient.transcript()
    );
}

/// XEP-0203 §3: a delay that the sender wrote is content like any other; ours says whose it is.
#[tokio::test]
async fn xep0203_3_a_delay_of_the_sender_is_kept_beside_ours() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    let written = format!("<delay xmlns='{DELAY}' from='juliet@localhost' stamp='2002-09-10T23:08:25Z'/>");
    sender.send(&super::to_romeo(&format!("<body>old news</body>{written}"))).await;
    sender.until_acked().await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.send("<presence/>").await;
    let message = recipient.message().await;
    let delays = message.as_raw().children().filter(|child| child.is("delay", DELAY));
    let from: Vec<_> = delays.filter_map(|delay| delay.attribute("from").map(String::from)).collect();
    assert_eq!(from, ["juliet@localhost", "localhost"], "{}", recipient.transcript());
}

#[tokio::test]
async fn xep0160_4_the_feature_is_announced() {
    let server = verona().start().await;
    let mut client = juliet(&server).await;
    let info = "http://jabber.org/protocol/disco#info";
    let answer = client.ask(&format!("<iq type='get' id='1' to='localhost'><query xmlns='{info}'/></iq>")).await;
    let query = answer.as_raw().child("query", info).unwrap();
    let mut features = query.children().filter(|child| child.name() == "feature");
    assert!(
        features.any(|feature| feature.attribute("var").as_deref() == Some("msgoffline")),
        "{}",
        client.transcript()
    );
}

/// A removed account's messages go with it: who registers the name next finds nothing.
#[tokio::test]
async fn what_waits_goes_with_the_account() {
    let server = verona().start().await;
    let mut sender = juliet(&server).await;
    sender.send(&chat(1)).await;
    sender.until_acked().await;
    server.until_rows("romeo@localhost", |rows| rows.len() == 1).await;
    let removed = server.run(&["user", "remove", "romeo@localhost"], "");
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert!(server.rows("romeo@localhost").await.is_empty());
}
