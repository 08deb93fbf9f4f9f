//! §4 and §5: what becomes of a session that nobody resumes, and of what its client did not acknowledge.

use starling_test_support::{RawClient, RowState, Server, befriend, body, condition};

use super::{chat, delay, expect_numbers, juliet, romeo, send_numbers, stanza_id};
use crate::verona;

/// A server that forgets sessions soon.
async fn hasty() -> Server {
    verona().set("session.resume_seconds", "1").start().await
}

/// Romeo's session, which can be resumed, available; and another one of his that sees when it goes.
async fn watched(server: &Server) -> (RawClient, RawClient) {
    let mut watcher = crate::romeo(server, "watch").await;
    watcher.become_available(-1).await;
    let mut session = romeo(server, "orchard").await;
    take_messages(&mut session).await;
    watcher.until_presence("romeo@localhost/orchard", None).await;
    (session, watcher)
}

/// Becomes available, and waits until what waited has been asked for: what is kept goes to the store as long as that takes, and
/// not to this session at all if another one takes it.
async fn take_messages(session: &mut RawClient) {
    session.become_available(0).await;
    session.until_quiet().await;
}

async fn until_gone(watcher: &mut RawClient) {
    watcher.until_presence("romeo@localhost/orchard", Some("unavailable")).await;
}

#[tokio::test]
async fn xep0198_5_an_expired_session_is_not_found() {
    let server = hasty().await;
    let (mut session, mut watcher) = watched(&server).await;
    session.send(&chat("juliet@localhost", 1)).await;
    session.until_acked().await;
    session.cut();
    until_gone(&mut watcher).await;
    let (id, sent) = (session.resumption_id().to_owned(), session.counters().sent);
    session.reconnect(&server).await;
    let failed = session.resume(&id, 0).await.unwrap_err();
    assert_eq!(failed.condition, "item-not-found");
    // It may be known how far it came; a guess it may not be.
    assert!(failed.h.is_none_or(|h| h == sent), "{failed:?}, and {sent} were sent");
    session.bind("orchard").await;
}

#[tokio::test]
async fn xep0198_7_a_session_that_cannot_be_resumed_ends_with_its_connection() {
    let server = verona().start().await;
    let mut watcher = crate::romeo(&server, "watch").await;
    watcher.become_available(-1).await;
    for enables in [true, false] {
        let mut session = crate::romeo(&server, "orchard").await;
        if enables {
            session.enable(false).await;
        }
        session.become_available(0).await;
        session.cut();
        watcher.until_presence("romeo@localhost/orchard", None).await;
        until_gone(&mut watcher).await;
    }
}

#[tokio::test]
async fn xep0198_7_contacts_see_nothing_of_a_cut_and_a_resumption_but_the_end() {
    let server = verona().set("session.resume_seconds", "2").start().await;
    let mut contact = crate::juliet(&server, "balcony").await;
    contact.become_available(0).await;
    let (mut session, mut watcher) = watched(&server).await;
    befriend(&mut contact, &mut session).await;
    watcher.expect_nothing_but_presence().await;
    session.ack().await;
    for _ in 0..5 {
        session.cut();
        session.resume_again(&server).await;
    }
    contact.expect_nothing().await;
    watcher.expect_nothing().await;
    session.cut();
    until_gone(&mut contact).await;
    until_gone(&mut watcher).await;
    contact.expect_nothing().await;
}

/// XEP-0198 §4, XEP-0160, XEP-0203, XEP-0359.
#[tokio::test]
async fn xep0198_4_what_was_not_acknowledged_waits_for_the_next_log_in_with_the_same_id() {
    let server = hasty().await;
    let mut sender = crate::juliet(&server, "balcony").await;
    let (mut session, mut watcher) = watched(&server).await;
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..2).await;
    send_numbers(&mut sender, "romeo@localhost", 2..4).await;
    let first = expect_numbers(&mut session, 0..4).await;
    assert!(first.iter().all(|message| delay(message).is_none()), "{}", session.transcript());
    // The presence that came first, and one message.
    let handled = session.counters().handled;
    session.ack_up_to(handled - 3).await;
    session.request().await;
    session.cut();
    send_numbers(&mut sender, "romeo@localhost/orchard", 4..6).await;
    sender.expect_nothing().await;
    until_gone(&mut watcher).await;
    send_numbers(&mut sender, "romeo@localhost", 6..8).await;
    sender.expect_nothing().await;
    let mut next = romeo(&server, "garden").await;
    next.send("<presence/>").await;
    let again = expect_numbers(&mut next, 1..8).await;
    for (before, after) in first[1..].iter().zip(&again) {
        assert_eq!(stanza_id(before, "romeo@localhost"), stanza_id(after, "romeo@localhost"));
    }
    assert!(again.iter().all(|message| delay(message).is_some()), "{}", next.transcript());
    next.ack().await;
    assert!(!next.until_quiet().await.iter().any(|element| element.as_raw().name() == "message"));
    // Nor with the one after.
    next.close().await;
    let mut last = crate::romeo(&server, "garden").await;
    last.send("<presence/>").await;
    assert!(!last.until_quiet().await.iter().any(|element| element.as_raw().name() == "message"));
}

#[tokio::test]
async fn xep0198_4_without_resumption_what_was_not_acknowledged_waits_at_once() {
    for archive in ["true", "false"] {
        let server = verona().set("archive.enabled", archive).start().await;
        let mut sender = crate::juliet(&server, "balcony").await;
        let mut session = crate::romeo(&server, "orchard").await;
        session.enable(false).await;
        send_numbers(&mut sender, "romeo@localhost/orchard", 0..5).await;
        expect_numbers(&mut session, 0..5).await;
        session.ack_up_to(2).await;
        session.request().await;
        session.cut();
        let mut next = romeo(&server, "garden").await;
        next.send("<presence/>").await;
        expect_numbers(&mut next, 2..5).await;
    }
}

/// Also a stream that is closed in order leaves what its client did not acknowledge.
#[tokio::test]
async fn xep0198_7_a_close_leaves_what_was_not_acknowledged() {
    let server = verona().start().await;
    let mut sender = crate::juliet(&server, "balcony").await;
    let mut session = romeo(&server, "orchard").await;
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..3).await;
    expect_numbers(&mut session, 0..3).await;
    session.ack_up_to(1).await;
    session.close().await;
    let mut next = crate::romeo(&server, "orchard").await;
    next.send("<presence/>").await;
    expect_numbers(&mut next, 1..3).await;
}

/// RFC 6120 §8.2.3: whoever asked gets an answer.
#[tokio::test]
async fn xep0198_4_a_request_that_nobody_acknowledged_is_answered_with_an_error() {
    let server = hasty().await;
    let mut sender = crate::juliet(&server, "balcony").await;
    let mut session = romeo(&server, "orchard").await;
    let ask =
        |id: &str| format!("<iq type='get' id='{id}' to='romeo@localhost/orchard'><q xmlns='urn:example:q'/></iq>");
    sender.send(&ask("before")).await;
    session.element().await;
    session.cut();
    sender.send(&ask("meanwhile")).await;
    // Nobody waits for an answer to these.
    sender.send("<iq type='result' id='r' to='romeo@localhost/orchard'/>").await;
    sender.send("<presence to='romeo@localhost/orchard'/>").await;
    sender.send("<message type='headline' to='romeo@localhost/orchard'><body>news</body></message>").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = sender.element().await;
        let raw = answer.as_raw();
        ids.extend(raw.attribute("id").map(std::borrow::Cow::into_owned));
        assert_eq!(raw.attribute("from").as_deref(), Some("romeo@localhost/orchard"));
        let condition = condition(&answer).unwrap_or_default();
        assert!(["service-unavailable", "recipient-unavailable"].contains(&condition.as_str()), "{condition}");
    }
    ids.sort();
    assert_eq!(ids, ["before", "meanwhile"], "{}", sender.transcript());
    sender.expect_nothing().await;
    let mut next = crate::romeo(&server, "garden").await;
    next.send("<presence/>").await;
    assert!(!next.until_quiet().await.iter().any(|element| element.as_raw().name() == "message"));
}

/// RFC 6121 §8.5.3.2.1: another resource that is there takes a chat message to the one that is not.
#[tokio::test]
async fn xep0198_4_another_resource_gets_what_was_not_acknowledged() {
    let server = hasty().await;
    let mut sender = crate::juliet(&server, "balcony").await;
    let mut session = romeo(&server, "orchard").await;
    let mut other = romeo(&server, "garden").await;
    take_messages(&mut other).await;
    other.ack().await;
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..3).await;
    expect_numbers(&mut session, 0..3).await;
    session.ack_up_to(1).await;
    session.request().await;
    session.cut();
    expect_numbers(&mut other, 1..3).await;
    other.ack().await;
    other.expect_nothing().await;
    server
        .until_rows("romeo@localhost", |rows| {
            rows.len() == 3 && rows.iter().all(|row| row.state == RowState::Delivered)
        })
        .await;
}

/// A message to the bare JID went to both: the one that acknowledged it has it, and nobody gets it again.
#[tokio::test]
async fn xep0198_4_what_another_resource_has_acknowledged_is_done_with() {
    let server = hasty().await;
    let mut sender = crate::juliet(&server, "balcony").await;
    let (mut session, mut watcher) = watched(&server).await;
    let mut other = romeo(&server, "garden").await;
    take_messages(&mut other).await;
    send_numbers(&mut sender, "romeo@localhost", 0..3).await;
    expect_numbers(&mut other, 0..3).await;
    other.ack().await;
    session.cut();
    until_gone(&mut watcher).await;
    server
        .until_rows("romeo@localhost", |rows| {
            rows.len() == 3 && rows.iter().all(|row| row.state == RowState::Delivered)
        })
        .await;
    assert!(!other.until_quiet().await.iter().any(|element| element.as_raw().name() == "message"));
    let mut next = romeo(&server, "orchard").await;
    next.send("<presence/>").await;
    assert!(!next.until_quiet().await.iter().any(|element| element.as_raw().name() == "message"));
}

/// kill -9 while a session waits to be resumed: one process forgets the session, but not its messages; of many, whoever the
/// client comes to takes it over.
#[tokio::test]
async fn xep0198_5_after_a_crash_nothing_is_lost() {
    let mut server = verona().start().await;
    let mut sender = juliet(&server, "balcony").await;
    let mut session = romeo(&server, "garden").await;
    send_numbers(&mut sender, "romeo@localhost/garden", 0..5).await;
    expect_numbers(&mut session, 0..5).await;
    session.ack_up_to(2).await;
    session.request().await;
    session.cut();
    send_numbers(&mut sender, "romeo@localhost/garden", 5..8).await;
    sender.until_acked().await;
    // What the client acknowledged may or may not be written yet.
    server.kill9();
    server.start_again().await;
    let id = session.resumption_id().to_owned();
    session.reconnect(&server).await;
    match session.resume(&id, 5).await {
        Ok(h) => assert!(server.instances() > 1 && h == 0, "{h}"),
        Err(refused) => {
            assert!(server.instances() == 1 && refused.condition == "item-not-found");
            session.bind("garden").await;
        }
    }
    // Both instances have died: what the sender's had not passed on in the store yet waits for a session that takes messages.
    session.send("<presence/>").await;
    let mut numbers = vec![body(&session.message().await)];
    while numbers.last().is_some_and(|number| number != "7") {
        numbers.push(body(&session.message().await));
    }
    let expected: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    assert!(expected.ends_with(&numbers) && numbers.len() >= 6, "{numbers:?}");
}
