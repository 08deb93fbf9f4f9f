//! §5: more than one connection for one session.

use starling_test_support::{RawClient, Received, Server};

use super::{SM, chat, expect_numbers, juliet, romeo, send_numbers};
use crate::verona;

/// The old connection is half open: its client has gone to another network, and the server does not know yet.
#[tokio::test]
async fn xep0198_5_a_session_whose_connection_still_lives_is_taken_over() {
    let server = verona().start().await;
    let mut watcher = crate::romeo(&server, "watch").await;
    watcher.become_available(-1).await;
    let mut old = romeo(&server, "orchard").await;
    old.become_available(0).await;
    watcher.until_presence("romeo@localhost/orchard", None).await;
    let mut sender = crate::juliet(&server, "balcony").await;
    send_numbers(&mut sender, "romeo@localhost/orchard", 0..3).await;
    sender.expect_nothing().await;
    let mut new = RawClient::identified(&server, "romeo@localhost", "jul13t").await;
    // It has handled its own presence, and no message.
    new.resume(old.resumption_id(), old.counters().handled).await.unwrap();
    expect_numbers(&mut new, 0..3).await;
    old.expect_stream_error("conflict").await;
    new.expect_nothing().await;
    sender.send(&chat("romeo@localhost", 3)).await;
    expect_numbers(&mut new, 3..4).await;
    watcher.expect_nothing().await;
}

/// What the old connection still brings after it was taken over belongs to nobody.
#[tokio::test]
async fn xep0198_5_a_connection_that_was_taken_over_says_nothing_any_more() {
    let server = verona().start().await;
    let mut recipient = crate::romeo(&server, "orchard").await;
    let mut old = juliet(&server, "balcony").await;
    old.send(&chat("romeo@localhost/orchard", 1)).await;
    old.until_acked().await;
    expect_numbers(&mut recipient, 1..2).await;
    let mut new = RawClient::identified(&server, "juliet@localhost", "r0m30").await;
    assert_eq!(new.resume(old.resumption_id(), 0).await, Ok(1));
    // The server may have closed it.
    old.try_send(chat("romeo@localhost/orchard", 2).as_bytes()).await.ok();
    old.expect_gone().await;
    new.send(&chat("romeo@localhost/orchard", 3)).await;
    expect_numbers(&mut recipient, 3..4).await;
    new.until_acked().await;
    assert_eq!(new.counters().acked, 2);
}

/// Whether this connection speaks for the session: it answers a ping, and does not end.
async fn is_alive(client: &mut RawClient) -> bool {
    let ping = "<iq type='get' id='alive' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";
    if client.try_send(ping.as_bytes()).await.is_err() {
        return false;
    }
    loop {
        match client.next().await {
            Received::Element(element) if element.as_raw().attribute("id").as_deref() == Some("alive") => return true,
            Received::Element(element) if element.as_raw().is("error", "http://etherx.jabber.org/streams") => {
                return false;
            }
            Received::Close | Received::End(_) => return false,
            Received::Element(_) | Received::Open(_) => {}
        }
    }
}

/// What a `<resume/>` came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Resumed,
    Failed(String),
    /// `conflict`: the session came here, and went to the other before this one was told.
    Conflict,
}

async fn outcome(client: &mut RawClient) -> Outcome {
    let Received::Element(element) = client.next().await else { panic!("{}", client.transcript()) };
    let raw = element.as_raw();
    let inside = raw.children().next().map(|child| child.name().to_owned()).unwrap_or_default();
    match raw.name() {
        "resumed" => Outcome::Resumed,
        "failed" => Outcome::Failed(inside),
        "error" if inside == "conflict" => Outcome::Conflict,
        _ => panic!("{}", client.transcript()),
    }
}

async fn race(server: &Server, owner: &RawClient) -> [(RawClient, Outcome); 2] {
    let (id, handled) = (owner.resumption_id(), owner.counters().handled);
    let mut one = RawClient::identified(server, "romeo@localhost", "jul13t").await;
    let mut other = RawClient::identified(server, "romeo@localhost", "jul13t").await;
    let resume = format!("<resume xmlns='{SM}' previd='{id}' h='{handled}'/>");
    one.send(&resume).await;
    other.send(&resume).await;
    let (first, second) = (outcome(&mut one).await, outcome(&mut other).await);
    [(one, first), (other, second)]
}

#[tokio::test]
async fn xep0198_5_of_two_that_resume_at_once_exactly_one_has_the_session() {
    let server = verona().start().await;
    let mut sender = crate::juliet(&server, "balcony").await;
    for round in 0..30 {
        let mut owner = romeo(&server, "orchard").await;
        sender.send(&chat("romeo@localhost/orchard", round)).await;
        sender.expect_nothing().await;
        if round % 2 == 0 {
            owner.cut();
        }
        let mut living = Vec::new();
        let mut resumed = 0;
        for (mut client, outcome) in race(&server, &owner).await {
            match outcome {
                // It may have lost it since.
                Outcome::Resumed => {
                    resumed += 1;
                    if is_alive(&mut client).await {
                        living.push(client);
                    }
                }
                // This one is not bound to anything: it has nothing to say.
                Outcome::Failed(condition) => assert_eq!(condition, "item-not-found"),
                Outcome::Conflict => {}
            }
        }
        assert_eq!(living.len(), 1, "round {round}, {resumed} resumed");
        let mut living = living.pop().unwrap();
        sender.send(&chat("romeo@localhost/orchard", "after")).await;
        assert_eq!(starling_test_support::body(&living.message().await), "after", "{}", living.transcript());
        living.ack().await;
        living.close().await;
    }
}

/// RFC 6120 §7.7.2.2: a session that waits to be resumed gives its resource to a new one, and what it had goes on.
#[tokio::test]
async fn xep0198_5_binding_the_same_resource_ends_a_session_that_was_cut() {
    let server = verona().start().await;
    let mut old = romeo(&server, "orchard").await;
    let id = old.resumption_id().to_owned();
    let mut sender = crate::juliet(&server, "balcony").await;
    sender.send(&chat("romeo@localhost/orchard", 1)).await;
    expect_numbers(&mut old, 1..2).await;
    old.cut();
    sender.send(&chat("romeo@localhost/orchard", 2)).await;
    sender.expect_nothing().await;
    let mut new = romeo(&server, "orchard").await;
    new.send("<presence/>").await;
    expect_numbers(&mut new, 1..3).await;
    old.reconnect(&server).await;
    assert_eq!(old.resume(&id, 0).await.unwrap_err().condition, "item-not-found");
    sender.send(&chat("romeo@localhost/orchard", 3)).await;
    expect_numbers(&mut new, 3..4).await;
}
