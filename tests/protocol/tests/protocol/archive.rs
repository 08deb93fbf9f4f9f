//! The archive (XEP-0313) as far as it is written: who has a row of what, and in which state.

use starling_test_support::{Direction, RawClient, Row, RowState, Server, body};

use crate::{both, juliet, romeo, verona};

const JULIET: &str = "juliet@localhost";
const ROMEO: &str = "romeo@localhost";

fn chat(to: &str, text: &str) -> String {
    format!("<message to='{to}' type='chat' id='m'><body>{text}</body></message>")
}

async fn managed_romeo(server: &Server) -> RawClient {
    RawClient::managed(server, ROMEO, "jul13t", "orchard").await
}

fn has(count: usize, state: RowState) -> impl Fn(&[Row]) -> bool {
    move |rows| rows.len() == count && rows.iter().all(|row| row.state == state)
}

fn text(row: &Row) -> String {
    String::from_utf8(row.stanza.clone()).unwrap()
}

#[tokio::test]
async fn both_sides_have_a_row_of_a_message_that_was_taken() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    romeo.become_available(0).await;
    for (to, number) in [("romeo@localhost", "1"), ("romeo@localhost/orchard", "2")] {
        juliet.send(&chat(to, number)).await;
        assert_eq!(body(&romeo.message().await), number);
    }
    let sent = server.until_rows(JULIET, has(2, RowState::Delivered)).await;
    let received = server.until_rows(ROMEO, has(2, RowState::Delivered)).await;
    for (to, (sent, received)) in ["romeo@localhost", "romeo@localhost/orchard"].iter().zip(sent.iter().zip(&received))
    {
        assert_eq!((sent.direction, sent.peer.as_str()), (Direction::Sent, *to));
        assert_eq!((received.direction, received.peer.as_str()), (Direction::Received, "juliet@localhost/balcony"));
        assert!(sent.archived && received.archived);
        assert_eq!(sent.id, received.id, "one message, one id");
    }
    assert!(text(&received[0]).contains("<body>1</body>") && text(&received[1]).contains("<body>2</body>"));
    assert!(received[0].id < received[1].id);
}

#[tokio::test]
async fn a_row_is_in_flight_until_the_client_has_acknowledged_it() {
    let server = verona().start().await;
    let mut juliet = juliet(&server, "balcony").await;
    let mut romeo = managed_romeo(&server).await;
    juliet.send(&chat("romeo@localhost/orchard", "1")).await;
    romeo.message().await;
    server.until_rows(ROMEO, has(1, RowState::InFlight)).await;
    romeo.ack().await;
    let rows = server.until_rows(ROMEO, has(1, RowState::Delivered)).await;
    assert!(rows[0].archived);
    server.until_rows(JULIET, has(1, RowState::Delivered)).await;
}

#[tokio::test]
async fn a_row_of_somebody_offline_is_pending_until_it_is_fetched() {
    let server = verona().start().await;
    let mut juliet = juliet(&server, "balcony").await;
    juliet.send(&chat(ROMEO, "1")).await;
    juliet.expect_nothing().await;
    server.until_rows(ROMEO, has(1, RowState::Pending)).await;
    server.until_rows(JULIET, has(1, RowState::Delivered)).await;
    let mut romeo = managed_romeo(&server).await;
    romeo.send("<presence/>").await;
    romeo.message().await;
    server.until_rows(ROMEO, has(1, RowState::InFlight)).await;
    romeo.ack().await;
    server.until_rows(ROMEO, has(1, RowState::Delivered)).await;
}

/// DELIVERY: with the archive off, a row exists only while somebody has yet to get the message.
#[tokio::test]
async fn without_an_archive_no_row_stays() {
    let server = verona().set("archive.enabled", "false").start().await;
    let mut juliet = juliet(&server, "balcony").await;
    juliet.send(&chat(ROMEO, "stored")).await;
    juliet.expect_nothing().await;
    let rows = server.until_rows(ROMEO, has(1, RowState::Pending)).await;
    assert!(!rows[0].archived);
    assert!(server.rows(JULIET).await.is_empty());
    let mut romeo = managed_romeo(&server).await;
    romeo.send("<presence/>").await;
    assert_eq!(body(&romeo.message().await), "stored");
    juliet.send(&chat(ROMEO, "live")).await;
    assert_eq!(body(&romeo.message().await), "live");
    romeo.ack().await;
    server.until_rows(ROMEO, <[_]>::is_empty).await;
    assert!(server.rows(JULIET).await.is_empty());
}

#[tokio::test]
async fn without_an_archive_what_is_not_acknowledged_gets_a_row_until_it_is() {
    let server = verona().set("archive.enabled", "false").start().await;
    let mut juliet = juliet(&server, "balcony").await;
    let mut romeo = managed_romeo(&server).await;
    juliet.send(&chat("romeo@localhost/orchard", "1")).await;
    romeo.message().await;
    server.until_rows(ROMEO, |rows| rows.len() == 1).await;
    romeo.ack().await;
    server.until_rows(ROMEO, <[_]>::is_empty).await;
}

/// What a client without XEP-0198 has taken off its socket, it has.
#[tokio::test]
async fn without_an_archive_and_acknowledgements_nothing_is_written() {
    let server = verona().set("archive.enabled", "false").start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    for number in 0..20 {
        juliet.send(&chat("romeo@localhost/orchard", &number.to_string())).await;
        romeo.message().await;
    }
    server.until_rows(ROMEO, <[_]>::is_empty).await;
    assert!(server.rows(JULIET).await.is_empty());
}

/// XEP-0313 §5.1.1: what is worth an archive.
#[tokio::test]
async fn only_messages_with_something_to_read_are_archived() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    romeo.become_available(0).await;
    let table = [
        "<message to='romeo@localhost' type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
        "<message to='romeo@localhost' type='headline'><body>news</body></message>",
        "<message to='romeo@localhost/orchard' type='groupchat'><body>room</body></message>",
        "<message to='romeo@localhost/orchard' type='error'><error type='cancel'>\
         <gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
        "<message to='romeo@localhost' type='chat'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>",
        "<message to='romeo@localhost' type='normal'><body>kept</body></message>",
    ];
    for message in table {
        juliet.send(message).await;
        romeo.message().await;
    }
    for account in [JULIET, ROMEO] {
        let rows = server.until_rows(account, has(1, RowState::Delivered)).await;
        assert!(text(&rows[0]).contains("kept"));
    }
}

/// What was refused was never received.
#[tokio::test]
async fn a_refused_message_is_in_no_archive() {
    let server = verona().start().await;
    let mut juliet = juliet(&server, "balcony").await;
    for to in ["nobody@localhost", "romeo@elsewhere.example"] {
        juliet.ask(&chat(to, "?")).await;
    }
    juliet.send(&chat(ROMEO, "kept")).await;
    juliet.expect_nothing().await;
    let rows = server.until_rows(JULIET, has(1, RowState::Delivered)).await;
    assert_eq!(rows[0].peer, ROMEO);
}

#[tokio::test]
async fn a_message_to_oneself_is_one_row() {
    let server = verona().start().await;
    let mut one = juliet(&server, "balcony").await;
    one.become_available(0).await;
    for to in ["to='juliet@localhost'", "to='juliet@localhost/balcony'", ""] {
        one.send(&format!("<message {to} type='chat'><body>note</body></message>")).await;
        assert_eq!(body(&one.message().await), "note");
    }
    server.until_rows(JULIET, has(3, RowState::Delivered)).await;
}

/// Every resource that took it is one delivery of one message.
#[tokio::test]
async fn many_resources_share_one_row() {
    let server = verona().start().await;
    let mut juliet = juliet(&server, "balcony").await;
    let mut resources = Vec::new();
    for name in ["a", "b", "c"] {
        let mut resource = romeo(&server, name).await;
        resource.become_available(0).await;
        resources.push(resource);
    }
    juliet.send(&chat(ROMEO, "all")).await;
    for resource in &mut resources {
        assert_eq!(body(&resource.message().await), "all");
    }
    server.until_rows(ROMEO, has(1, RowState::Delivered)).await;
}
