//! XEP-0198, version 1.6.2: stream management.

mod acks;
mod bounds;
mod enabling;
mod expiry;
mod resumption;
mod takeover;

use starling_test_support::{Element, RawClient, Received, Server, body};

const SM: &str = "urn:xmpp:sm:3";

/// Juliet's session, which can be resumed.
async fn juliet(server: &Server, resource: &str) -> RawClient {
    RawClient::managed(server, "juliet@localhost", "r0m30", resource).await
}

/// Romeo's session, which can be resumed.
async fn romeo(server: &Server, resource: &str) -> RawClient {
    RawClient::managed(server, "romeo@localhost", "jul13t", resource).await
}

/// Juliet's session, which can be resumed, and Romeo's, which cannot. Neither is available.
async fn both(server: &Server) -> (RawClient, RawClient) {
    (juliet(server, "balcony").await, crate::romeo(server, "orchard").await)
}

fn chat(to: &str, text: impl std::fmt::Display) -> String {
    format!("<message to='{to}' type='chat' id='m{text}'><body>{text}</body></message>")
}

/// Sends messages with these numbers as their text.
async fn send_numbers(from: &mut RawClient, to: &str, numbers: impl Iterator<Item = u32>) {
    for number in numbers {
        from.send(&chat(to, number)).await;
    }
}

/// Expects messages with these numbers as their text, and no other messages between them.
async fn expect_numbers(at: &mut RawClient, numbers: impl Iterator<Item = u32>) -> Vec<Element> {
    let mut messages = Vec::new();
    for number in numbers {
        let message = at.message().await;
        assert_eq!(body(&message), number.to_string(), "{}", at.transcript());
        messages.push(message);
    }
    messages
}

/// The id that the server gave to a message for this account (XEP-0359).
fn stanza_id(message: &Element, account: &str) -> String {
    let by_account = |child: &starling_test_support::Child<'_>| child.attribute("by").as_deref() == Some(account);
    let raw = message.as_raw();
    let ids: Vec<_> =
        raw.children().filter(|child| child.is("stanza-id", "urn:xmpp:sid:0")).filter(by_account).collect();
    assert_eq!(ids.len(), 1, "{}", raw.as_str());
    ids[0].attribute("id").unwrap().into_owned()
}

/// When a message came in, if it says that it is late (XEP-0203).
fn delay(message: &Element) -> Option<String> {
    let delay = message.as_raw().child("delay", "urn:xmpp:delay")?;
    assert_eq!(delay.attribute("from").as_deref(), Some("localhost"), "XEP-0203 §3");
    Some(delay.attribute("stamp").unwrap().into_owned())
}

/// The stream error `undefined-condition` with `<handled-count-too-high/>`: `h` and `send-count`.
async fn expect_too_high(client: &mut RawClient) -> (u32, u32) {
    loop {
        match client.next().await {
            Received::Element(element) if element.as_raw().is("error", "http://etherx.jabber.org/streams") => {
                let raw = element.as_raw();
                assert!(raw.child("undefined-condition", "urn:ietf:params:xml:ns:xmpp-streams").is_some());
                let too_high = raw.child("handled-count-too-high", SM);
                let too_high = too_high.unwrap_or_else(|| panic!("{}", client.transcript()));
                let number = |name| too_high.attribute(name).unwrap().parse().unwrap();
                let numbers = (number("h"), number("send-count"));
                client.expect_close().await;
                return numbers;
            }
            Received::Element(_) => {}
            other => panic!("{other:?}\n{}", client.transcript()),
        }
    }
}
