//! §4: acknowledgements.

use std::time::{Duration, Instant};

use starling_test_support::{PATIENCE, Received, condition};
use tokio::time::timeout;

use super::{SM, both, chat, expect_numbers, expect_too_high, juliet, romeo, send_numbers};
use crate::verona;

const PING: &str = "<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";

#[tokio::test]
async fn xep0198_4_nothing_sent_nothing_handled() {
    let server = verona().start().await;
    let mut client = crate::juliet(&server, "balcony").await;
    client.expect_nothing().await;
    client.enable(true).await;
    assert_eq!(client.request().await, 0);
    assert_eq!(client.request().await, 0);
}

#[tokio::test]
async fn xep0198_4_stanzas_count_and_nothing_else_does() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    juliet.send("<presence/>").await;
    juliet.send(PING).await;
    juliet.send(&chat("romeo@localhost/orchard", 1)).await;
    juliet.send(" \n\n ").await;
    juliet.ack().await;
    juliet.send("<iq type='result' id='nobody asked' to='localhost'/>").await;
    juliet.until_acked().await;
    assert_eq!(juliet.counters().acked, 4, "{}", juliet.transcript());
    assert_eq!(juliet.request().await, 4, "<r/> and <a/> are not counted");
    expect_numbers(&mut romeo, 1..2).await;
}

/// §4: what is refused is handled; its error stands ahead of the `<a/>` that covers it.
#[tokio::test]
async fn xep0198_4_an_error_comes_before_the_acknowledgement_of_what_it_answers() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for number in 1..=3 {
        client.send(&format!("{}<r xmlns='{SM}'/>", chat("nobody@localhost", number))).await;
        let mut refused = false;
        loop {
            let Received::Element(element) = client.next().await else { panic!("{}", client.transcript()) };
            let raw = element.as_raw();
            if raw.name() == "message" {
                assert_eq!(condition(&element).as_deref(), Some("service-unavailable"));
                refused = true;
            } else if raw.is("a", SM) && client.counters().acked == number {
                break;
            }
        }
        assert!(refused, "{}", client.transcript());
    }
}

#[tokio::test]
async fn xep0198_4_what_waits_for_somebody_offline_is_acknowledged() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    send_numbers(&mut client, "romeo@localhost", 0..10).await;
    client.until_acked().await;
    assert_eq!(client.counters().acked, 10);
    client.expect_nothing().await;
}

/// The client may have said `<enable/>` only for its own messages; the server asks for its own.
#[tokio::test]
async fn xep0198_4_the_server_asks_for_acknowledgements() {
    let server = verona().start().await;
    let mut recipient = romeo(&server, "orchard").await;
    let mut sender = crate::juliet(&server, "balcony").await;
    // One alone, whatever it is.
    recipient.send(PING).await;
    recipient.until_requested().await;
    recipient.element().await;
    recipient.ack().await;
    for round in 0..3 {
        sender.send(&chat("romeo@localhost/orchard", round)).await;
        recipient.until_requested().await;
        expect_numbers(&mut recipient, round..round + 1).await;
        recipient.ack().await;
    }
    // Many: asked before all of them wait, and not once for each.
    let before = recipient.counters().requests;
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..200).await;
    expect_numbers(&mut recipient, 0..200).await;
    let asked = recipient.counters().requests - before;
    assert!((1..200).contains(&asked), "{asked}");
}

#[tokio::test]
async fn xep0198_4_both_count_the_same_and_one_more_is_too_high() {
    let server = verona().start().await;
    let mut recipient = romeo(&server, "orchard").await;
    let mut sender = crate::juliet(&server, "balcony").await;
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..5).await;
    expect_numbers(&mut recipient, 0..5).await;
    recipient.expect_nothing().await;
    recipient.request().await;
    recipient.ack().await;
    recipient.expect_nothing().await;
    let handled = recipient.counters().handled;
    assert_eq!(handled, 7, "five messages and two pings");
    recipient.ack_up_to(handled + 1).await;
    assert_eq!(expect_too_high(&mut recipient).await, (handled + 1, handled));
}

#[tokio::test]
async fn xep0198_4_an_acknowledgement_of_the_past_changes_nothing() {
    let server = verona().start().await;
    let mut recipient = romeo(&server, "orchard").await;
    let mut sender = crate::juliet(&server, "balcony").await;
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..6).await;
    expect_numbers(&mut recipient, 0..6).await;
    for h in [4, 2, 0, 4, 3] {
        recipient.ack_up_to(h).await;
    }
    recipient.expect_nothing().await;
    recipient.cut();
    let id = recipient.resumption_id().to_owned();
    recipient.reconnect(&server).await;
    // Of what it has acknowledged nothing comes again.
    recipient.resume(&id, 4).await.unwrap();
    expect_numbers(&mut recipient, 4..6).await;
}

#[tokio::test]
async fn xep0198_4_what_is_no_proper_element_ends_the_stream() {
    let server = verona().start().await;
    let table = [
        (format!("<a xmlns='{SM}'/>"), "bad-format"),
        (format!("<a xmlns='{SM}' h='many'/>"), "bad-format"),
        (format!("<a xmlns='{SM}' h='-1'/>"), "bad-format"),
        (format!("<a xmlns='{SM}' h='4294967296'/>"), "bad-format"),
        (format!("<t xmlns='{SM}'/>"), "unsupported-stanza-type"),
        (format!("<enabled xmlns='{SM}'/>"), "unsupported-stanza-type"),
    ];
    for (element, condition) in table {
        let mut client = juliet(&server, "balcony").await;
        client.send(&element).await;
        client.expect_stream_error(condition).await;
    }
}

/// §4: "as soon as possible", and with what is safe by then.
#[tokio::test]
async fn xep0198_4_a_request_is_answered_soon_also_while_something_is_not_safe() {
    let server = verona().set("archive.enabled", "false").start().await;
    let mut sender = juliet(&server, "balcony").await;
    let mut recipient = romeo(&server, "orchard").await;
    sender.send(&chat("romeo@localhost/orchard", 1)).await;
    let asked = Instant::now();
    // The recipient's client does not acknowledge it: it is not safe before it has a row.
    let first = sender.request().await;
    let took = asked.elapsed();
    assert!(first == 0 || took > Duration::from_millis(900), "h={first} after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    while sender.counters().acked < 1 {
        sender.next_ack().await;
    }
    expect_numbers(&mut recipient, 1..2).await;
}

/// Without an archive it is the recipient's own acknowledgement that makes it safe.
#[tokio::test]
async fn xep0198_4_an_acknowledgement_of_the_recipient_is_handed_on_at_once() {
    let server = verona().set("archive.enabled", "false").start().await;
    let mut sender = juliet(&server, "balcony").await;
    let mut recipient = romeo(&server, "orchard").await;
    for number in 0..5 {
        sender.send(&chat("romeo@localhost/orchard", number)).await;
        expect_numbers(&mut recipient, number..number + 1).await;
        recipient.ack().await;
        sender.until_acked().await;
    }
    server.until_rows("romeo@localhost", <[_]>::is_empty).await;
}

#[tokio::test]
async fn xep0198_4_many_requests_in_a_row_are_answered_by_few_answers() {
    let server = verona().set("c2s.limits.bytes_per_second", "off").start().await;
    let mut client = juliet(&server, "balcony").await;
    let packet: String =
        (0..300).map(|number| format!("{}<r xmlns='{SM}'/>", chat("romeo@localhost", number))).collect();
    client.send(&packet).await;
    let mut answers = 0;
    while client.counters().acked < 300 {
        client.next_ack().await;
        answers += 1;
    }
    assert!((1..=300).contains(&answers), "{answers}");
    // None is left that somebody still waits for, and the next one is answered too.
    assert_eq!(client.request().await, 300);
    client.expect_nothing().await;
}

/// Some clients send no more than so many unacknowledged stanzas, and wait.
#[tokio::test]
async fn xep0198_4_a_client_that_waits_for_acknowledgements_is_not_stalled() {
    let server =
        verona().set("c2s.limits.bytes_per_second", "off").set("session.offline_messages", "5000").start().await;
    let mut client = juliet(&server, "balcony").await;
    let flood = async {
        for round in 0..20 {
            send_numbers(&mut client, "romeo@localhost", round * 50..(round + 1) * 50).await;
            client.until_acked().await;
        }
    };
    assert!(timeout(PATIENCE, flood).await.is_ok(), "stalled");
    assert_eq!(client.counters().acked, 1000);
}

/// Two that flood each other and acknowledge nothing of each other's must not wait for each other.
#[tokio::test]
async fn xep0198_4_two_that_flood_each_other_both_get_through() {
    for archive in ["true", "false"] {
        let server = verona().set("c2s.limits.bytes_per_second", "off").set("archive.enabled", archive).start().await;
        let (mut one, mut other) = (juliet(&server, "balcony").await, romeo(&server, "orchard").await);
        let first = async {
            send_numbers(&mut one, "romeo@localhost/orchard", 0..400).await;
            expect_numbers(&mut one, 0..400).await;
            one.ack().await;
            one.until_acked().await;
        };
        let second = async {
            send_numbers(&mut other, "juliet@localhost/balcony", 0..400).await;
            expect_numbers(&mut other, 0..400).await;
            other.ack().await;
            other.until_acked().await;
        };
        tokio::join!(first, second);
    }
}
