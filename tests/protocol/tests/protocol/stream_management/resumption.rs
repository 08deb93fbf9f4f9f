//! §5: a stream that was cut goes on.

use starling_test_support::{RawClient, befriend};

use super::{SM, chat, delay, expect_numbers, juliet, romeo, send_numbers};
use crate::verona;

#[tokio::test]
async fn xep0198_5_what_was_not_acknowledged_comes_again_in_order_and_once() {
    let server = verona().start().await;
    let mut recipient = romeo(&server, "orchard").await;
    let mut sender = crate::juliet(&server, "balcony").await;
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..5).await;
    expect_numbers(&mut recipient, 0..5).await;
    recipient.ack_up_to(2).await;
    recipient.expect_nothing().await;
    recipient.cut();
    // What is sent meanwhile waits behind it.
    send_numbers(&mut sender, "romeo@localhost/orchard", 5..8).await;
    sender.expect_nothing().await;
    let id = recipient.resumption_id().to_owned();
    recipient.reconnect(&server).await;
    // It handled one more than it said before.
    recipient.resume(&id, 3).await.unwrap();
    expect_numbers(&mut recipient, 3..5).await;
    let pong = recipient.element().await;
    assert_eq!(pong.as_raw().attribute("id").as_deref(), Some("nothing"), "also the answer was not acknowledged");
    expect_numbers(&mut recipient, 5..8).await;
    recipient.expect_nothing().await;
    recipient.ack().await;
    // All of it is done with now.
    recipient.cut();
    recipient.resume_again(&server).await;
    recipient.expect_nothing().await;
}

#[tokio::test]
async fn xep0198_5_nothing_to_send_again() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    client.cut();
    assert_eq!(client.resume_again(&server).await, 0);
    client.expect_nothing().await;
    client.until_acked().await;
    assert_eq!(client.counters().acked, 1);
}

/// The client sends again from the server's `h` on: nothing is missing, nothing twice, wherever the cut was.
#[tokio::test]
async fn xep0198_5_half_a_stanza_is_not_counted_and_none_is_lost_or_doubled() {
    let server = verona().start().await;
    let mut recipient = crate::romeo(&server, "orchard").await;
    let mut sender = juliet(&server, "balcony").await;
    let stanza = chat("romeo@localhost/orchard", 0);
    let cuts = [1, 5, 9, stanza.len() / 2, stanza.len() - 10, stanza.len() - 2, stanza.len() - 1, stanza.len()];
    let mut next = 0;
    for cut in cuts {
        let numbers: Vec<u32> = (next..next + 3).collect();
        let text: Vec<String> = numbers.iter().map(|number| chat("romeo@localhost/orchard", number)).collect();
        let before = sender.counters().sent;
        let whole = text[..2].concat();
        let last = &text[2];
        let half = last.get(..cut.min(last.len())).unwrap();
        sender.send(&format!("{whole}{half}")).await;
        sender.cut();
        let h = sender.resume_again(&server).await;
        assert!(h >= before, "{}", sender.transcript());
        let handled = (h - before) as usize;
        assert!(handled <= if half.len() == last.len() { 3 } else { 2 }, "half a stanza: {}", sender.transcript());
        sender.send(&text[handled..].concat()).await;
        expect_numbers(&mut recipient, next..next + 3).await;
        sender.until_acked().await;
        next += 3;
    }
    recipient.expect_nothing().await;
}

#[tokio::test]
async fn xep0198_5_a_session_is_resumed_again_and_again() {
    let server = verona().start().await;
    let mut recipient = romeo(&server, "orchard").await;
    let mut sender = juliet(&server, "balcony").await;
    for round in 0..6 {
        send_numbers(&mut sender, "romeo@localhost/orchard", round * 4..round * 4 + 2).await;
        sender.until_acked().await;
        sender.cut();
        recipient.cut();
        assert_eq!(sender.resume_again(&server).await, round * 4 + 2);
        send_numbers(&mut sender, "romeo@localhost/orchard", round * 4 + 2..round * 4 + 4).await;
        sender.until_acked().await;
        let before = recipient.counters().handled;
        recipient.resume_again(&server).await;
        assert_eq!(recipient.counters().handled, before);
        expect_numbers(&mut recipient, round * 4..round * 4 + 4).await;
        if round % 2 == 0 {
            recipient.ack().await;
        }
    }
    recipient.expect_nothing().await;
}

/// Not only messages: iqs and presence too, and all in the order in which they came.
#[tokio::test]
async fn xep0198_5_stanzas_of_every_kind_wait() {
    let server = verona().start().await;
    let mut recipient = romeo(&server, "orchard").await;
    let mut sender = crate::juliet(&server, "balcony").await;
    recipient.cut();
    sender.send(&chat("romeo@localhost/orchard", 1)).await;
    sender.send("<iq type='get' id='q' to='romeo@localhost/orchard'><q xmlns='urn:example:q'/></iq>").await;
    sender.send("<presence to='romeo@localhost/orchard'/>").await;
    sender.send("<message to='romeo@localhost/orchard' type='headline'><body>news</body></message>").await;
    sender.expect_nothing().await;
    recipient.resume_again(&server).await;
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(recipient.element().await.as_raw().name().to_owned());
    }
    assert_eq!(names, ["message", "iq", "presence", "message"], "{}", recipient.transcript());
    recipient.send("<iq type='result' id='q' to='juliet@localhost/balcony'/>").await;
    assert_eq!(sender.element().await.as_raw().attribute("type").as_deref(), Some("result"));
}

/// Presence and priority are still there: nothing is to be sent again (§5).
#[tokio::test]
async fn xep0198_5_what_the_session_was_it_still_is() {
    let server = verona().start().await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.become_available(3).await;
    let mut sender = crate::juliet(&server, "balcony").await;
    sender.become_available(0).await;
    befriend(&mut sender, &mut recipient).await;
    recipient.ack().await;
    recipient.cut();
    recipient.resume_again(&server).await;
    sender.send(&chat("romeo@localhost", 1)).await;
    let message = recipient.message().await;
    // What comes while the session is on its way to another process goes by the store.
    assert!(delay(&message).is_none() || server.instances() > 1);
    recipient.send("<presence><show>away</show></presence>").await;
    let presence = sender.until_presence("romeo@localhost/orchard", None).await;
    assert!(presence.as_raw().child("show", "jabber:client").is_some(), "{}", sender.transcript());
}

#[tokio::test]
async fn xep0198_5_an_unknown_id_is_not_found_and_a_resource_can_be_bound() {
    let server = verona().start().await;
    for id in ["nonsense", "", "&lt;&apos;&amp;ü", &"x".repeat(3000)] {
        let mut client = RawClient::identified(&server, "juliet@localhost", "r0m30").await;
        let failed = client.resume(id, 0).await.unwrap_err();
        assert_eq!(failed.condition, "item-not-found");
        assert_eq!(failed.h, None, "nothing is known of it");
        client.bind("balcony").await;
        client.enable(true).await;
        client.expect_nothing().await;
        client.close().await;
    }
}

/// Not told apart from an id that does not exist, and the session takes no harm.
#[tokio::test]
async fn xep0198_9_the_id_of_another_account_is_not_found() {
    let server = verona().start().await;
    let mut owner = romeo(&server, "orchard").await;
    let mut thief = RawClient::identified(&server, "juliet@localhost", "r0m30").await;
    let id = owner.resumption_id().to_owned();
    let failed = thief.resume(&id, 0).await.unwrap_err();
    assert_eq!((failed.condition.as_str(), failed.h), ("item-not-found", None));
    owner.expect_nothing().await;
    owner.cut();
    let failed = thief.resume(&id, 0).await.unwrap_err();
    assert_eq!((failed.condition.as_str(), failed.h), ("item-not-found", None));
    owner.resume_again(&server).await;
    thief.bind("balcony").await;
}

#[tokio::test]
async fn xep0198_5_without_previd_or_h_it_is_a_bad_request() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let id = client.resumption_id().to_owned();
    client.cut();
    client.reconnect(&server).await;
    for attributes in [format!("previd='{id}'"), "h='0'".to_owned(), format!("previd='{id}' h='x'")] {
        let answer = client.ask(&format!("<resume xmlns='{SM}' {attributes}/>")).await;
        let raw = answer.as_raw();
        assert!(raw.is("failed", SM), "{}", client.transcript());
        assert!(raw.child("bad-request", "urn:ietf:params:xml:ns:xmpp-stanzas").is_some(), "{}", client.transcript());
    }
    client.resume(&id, 0).await.unwrap();
}

#[tokio::test]
async fn xep0198_5_nothing_is_resumed_before_log_in() {
    let server = verona().start().await;
    let mut owner = juliet(&server, "balcony").await;
    let id = owner.resumption_id().to_owned();
    owner.cut();
    let mut nobody = RawClient::plain(&server).await;
    nobody.open("localhost").await;
    let failed = nobody.resume(&id, 0).await.unwrap_err();
    assert_eq!((failed.condition.as_str(), failed.h), ("unexpected-request", None));
    nobody.authenticate("SCRAM-SHA-256", "romeo", "jul13t").await.unwrap();
    owner.resume_again(&server).await;
}

#[tokio::test]
async fn xep0198_5_nothing_is_resumed_where_a_resource_is_bound() {
    let server = verona().start().await;
    let mut owner = juliet(&server, "balcony").await;
    let id = owner.resumption_id().to_owned();
    owner.cut();
    let mut other = crate::juliet(&server, "garden").await;
    let failed = other.resume(&id, 0).await.unwrap_err();
    assert_eq!(failed.condition, "unexpected-request");
    other.expect_nothing().await;
    owner.resume_again(&server).await;
}

/// §7: a stream that was closed is over, whatever its client thinks later.
#[tokio::test]
async fn xep0198_7_a_closed_stream_is_not_resumed() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let id = client.resumption_id().to_owned();
    client.send("</stream:stream>").await;
    client.expect_close().await;
    client.reconnect(&server).await;
    let failed = client.resume(&id, 0).await.unwrap_err();
    assert_eq!(failed.condition, "item-not-found");
    client.bind("balcony").await;
}

/// RFC 6120 §4.9.1.1: neither is one that ended by an error.
#[tokio::test]
async fn xep0198_7_a_stream_that_ended_by_an_error_is_not_resumed() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let id = client.resumption_id().to_owned();
    client.send("<message from='romeo@localhost' to='romeo@localhost'/>").await;
    client.expect_stream_error("invalid-from").await;
    client.reconnect(&server).await;
    let failed = client.resume(&id, 0).await.unwrap_err();
    assert_eq!(failed.condition, "item-not-found");
}

/// §4: too high is too high, also here. Nothing of the queue is given up for it.
#[tokio::test]
async fn xep0198_5_a_count_that_is_too_high_does_not_resume() {
    let server = verona().start().await;
    let mut recipient = romeo(&server, "orchard").await;
    let mut sender = crate::juliet(&server, "balcony").await;
    sender.send(&chat("romeo@localhost/orchard", 1)).await;
    expect_numbers(&mut recipient, 1..2).await;
    let id = recipient.resumption_id().to_owned();
    recipient.cut();
    recipient.reconnect(&server).await;
    recipient.send(&format!("<resume xmlns='{SM}' previd='{id}' h='2'/>")).await;
    assert_eq!(super::expect_too_high(&mut recipient).await, (2, 1));
    // The message is not lost: it comes in the session that goes on, or in the next one.
    recipient.reconnect(&server).await;
    if recipient.resume(&id, 0).await.is_err() {
        recipient.bind("orchard").await;
        recipient.send("<presence/>").await;
    }
    expect_numbers(&mut recipient, 1..2).await;
}
