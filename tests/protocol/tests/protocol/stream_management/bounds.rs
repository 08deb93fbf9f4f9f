//! What a client that acknowledges nothing costs.

use starling_test_support::{RawClient, RowState, Server, body, condition};

use super::{chat, expect_numbers, juliet, romeo, send_numbers};
use crate::verona;

/// 100 stanzas wait for a client here; the default is more.
async fn narrow() -> Server {
    verona().set("c2s.limits.bytes_per_second", "off").set("c2s.limits.queue_stanzas", "100").start().await
}

/// Everything that comes until the server has nothing more to say, without an acknowledgement.
async fn messages_so_far(client: &mut RawClient) -> Vec<String> {
    let came = client.until_quiet().await;
    came.iter().filter(|element| element.as_raw().name() == "message").map(body).collect()
}

#[tokio::test]
async fn what_a_client_does_not_acknowledge_waits_in_rows_until_it_does() {
    let server = narrow().await;
    let mut sender = crate::juliet(&server, "balcony").await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.become_available(0).await;
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..300).await;
    // None of them comes back.
    sender.expect_nothing().await;
    server.until_rows("romeo@localhost", |rows| rows.len() == 300).await;
    let mut came = messages_so_far(&mut recipient).await;
    assert!(came.len() <= 100, "{} without an acknowledgement", came.len());
    let pending = server.rows("romeo@localhost").await.iter().filter(|row| row.state == RowState::Pending).count();
    assert!(pending >= 200, "only {pending} wait in rows");
    recipient.ack().await;
    while came.len() < 300 {
        came.push(body(&recipient.message().await));
        if came.len() % 10 == 0 {
            recipient.ack().await;
        }
    }
    let expected: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    assert_eq!(came, expected);
    recipient.ack().await;
    // From now on it is served at once again.
    sender.send(&chat("romeo@localhost/orchard", 300)).await;
    expect_numbers(&mut recipient, 300..301).await;
    recipient.ack().await;
    server.until_rows("romeo@localhost", |rows| rows.iter().all(|row| row.state == RowState::Delivered)).await;
}

#[tokio::test]
async fn what_a_client_never_acknowledged_comes_with_the_next_log_in() {
    let server = narrow().await;
    let mut sender = crate::juliet(&server, "balcony").await;
    let mut recipient = crate::romeo(&server, "orchard").await;
    recipient.enable(false).await;
    recipient.become_available(0).await;
    send_numbers(&mut sender, "romeo@localhost", 0..250).await;
    sender.expect_nothing().await;
    server.until_rows("romeo@localhost", |rows| rows.len() == 250).await;
    recipient.cut();
    server.until_rows("romeo@localhost", |rows| rows.iter().all(|row| row.state == RowState::Pending)).await;
    let mut next = crate::romeo(&server, "orchard").await;
    next.send("<presence/>").await;
    expect_numbers(&mut next, 0..250).await;
    assert!(messages_so_far(&mut next).await.is_empty());
}

/// While it is cut, likewise.
#[tokio::test]
async fn what_comes_for_a_session_that_waits_to_be_resumed_is_bounded_and_not_lost() {
    let server = narrow().await;
    let mut sender = crate::juliet(&server, "balcony").await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.become_available(0).await;
    recipient.ack().await;
    recipient.cut();
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..250).await;
    sender.expect_nothing().await;
    server.until_rows("romeo@localhost", |rows| rows.len() == 250).await;
    recipient.resume_again(&server).await;
    for number in 0..250 {
        expect_numbers(&mut recipient, number..number + 1).await;
        if number % 10 == 9 {
            recipient.ack().await;
        }
    }
    assert!(messages_so_far(&mut recipient).await.is_empty());
}

/// What waits in rows for a client that acknowledges nothing counts as what waits for somebody offline: each message is
/// with the client, in a row, or back with its sender.
#[tokio::test]
async fn what_waits_for_a_client_that_acknowledges_nothing_is_bounded_too() {
    let server = verona()
        .set("c2s.limits.bytes_per_second", "off")
        .set("c2s.limits.queue_stanzas", "100")
        .set("session.offline_messages", "50")
        .start()
        .await;
    let mut sender = crate::juliet(&server, "balcony").await;
    let mut recipient = romeo(&server, "orchard").await;
    recipient.become_available(0).await;
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..300).await;
    let mut refused = 0;
    for answer in sender.until_quiet().await {
        assert_eq!(condition(&answer).as_deref(), Some("resource-constraint"));
        refused += 1;
    }
    let rows = server.until_rows("romeo@localhost", |rows| rows.len() == 300 - refused).await;
    let pending = rows.iter().filter(|row| row.state == RowState::Pending).count();
    // Between processes, what a sender may have on its way to them can be more by the time that the first come back.
    let more = if server.instances() > 1 { 200 } else { 0 };
    assert!(refused + more >= 150 && pending <= 50 + more, "{refused} refused, {pending} in rows");
}

/// What is not kept comes back, so that its sender knows.
#[tokio::test]
async fn requests_that_do_not_fit_come_back() {
    let server = narrow().await;
    let mut sender = crate::juliet(&server, "balcony").await;
    let mut recipient = romeo(&server, "orchard").await;
    let mut refused = 0;
    for number in 0..300 {
        sender
            .send(&format!("<iq type='get' id='{number}' to='romeo@localhost/orchard'><q xmlns='urn:example:q'/></iq>"))
            .await;
    }
    for answer in sender.until_quiet().await {
        assert_eq!(condition(&answer).as_deref(), Some("resource-constraint"));
        refused += 1;
    }
    let came = recipient.until_quiet().await.len();
    assert_eq!(came + refused, 300, "each is here or there");
    assert!(came <= 100, "{came}");
}

/// The server's memory does not grow with what its clients leave unacknowledged.
#[tokio::test]
async fn a_client_that_never_acknowledges_costs_bounded_memory() {
    let server = verona()
        .set("c2s.limits.bytes_per_second", "off")
        .set("c2s.limits.queue_bytes", "200000")
        .set("session.offline_messages", "100000")
        .start()
        .await;
    let mut sender = juliet(&server, "balcony").await;
    let mut recipient = romeo(&server, "orchard").await;
    let text = "x".repeat(10_000);
    let message = format!("<message to='romeo@localhost/orchard' type='chat'><body>{text}</body></message>");
    let mut before = 0;
    for round in 0..120 {
        if round == 20 {
            before = server.memory_kib();
        }
        for _ in 0..20 {
            sender.send(&message).await;
        }
        // On disk: what is on its way there has a bound of its own.
        sender.until_acked().await;
        recipient.until_quiet().await;
    }
    let grown = server.memory_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "grew by {grown} KiB for 20 MB");
}
