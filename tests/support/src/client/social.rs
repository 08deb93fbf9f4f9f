//! Messages, presence and friends, for tests that are about something else.

use std::sync::atomic::{AtomicU64, Ordering};

use starling_backends::redis::Cluster;
use starling_xml::OwnedElement;

use super::RawClient;

const CLIENT: &str = "jabber:client";

/// The text of `<body/>`; empty: none.
#[must_use]
pub fn body(element: &OwnedElement) -> String {
    element.as_raw().child("body", CLIENT).map(|body| body.text().into_owned()).unwrap_or_default()
}

/// The condition of an error stanza (RFC 6120 §8.3.3).
#[must_use]
pub fn condition(element: &OwnedElement) -> Option<String> {
    let raw = element.as_raw();
    let error = raw.child("error", CLIENT).filter(|_| raw.attribute("type").as_deref() == Some("error"))?;
    let named = error.children().find(|child| child.namespace() == "urn:ietf:params:xml:ns:xmpp-stanzas")?;
    Some(named.name().to_owned())
}

/// Subscribes two available accounts to each other's presence (RFC 6121 §3.1), and waits until each sees the other.
pub async fn befriend(one: &mut RawClient, other: &mut RawClient) {
    subscribe(one, other).await;
    subscribe(other, one).await;
    one.expect_nothing_but_presence().await;
    other.expect_nothing_but_presence().await;
}

async fn subscribe(subscriber: &mut RawClient, contact: &mut RawClient) {
    subscriber.send(&format!("<presence to='{}' type='subscribe'/>", contact.bare())).await;
    contact.until_presence(subscriber.bare(), Some("subscribe")).await;
    contact.send(&format!("<presence to='{}' type='subscribed'/>", subscriber.bare())).await;
    subscriber.until_presence(contact.full(), None).await;
}

/// Which node of Redis Cluster knows of an account, as they share the slots in tests/backends: CRC-16/XMODEM of its name.
fn node_of(account: &str) -> usize {
    let bit = |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
    let crc = account.bytes().fold(0, |crc: u16, byte| (0..8).fold(crc ^ (u16::from(byte) << 8), bit));
    Cluster::primary_of_slot(crc % 16_384)
}

impl RawClient {
    /// The next message; presence before it is passed over, anything else is a failure.
    pub async fn message(&mut self) -> OwnedElement {
        loop {
            let element = self.element().await;
            match element.as_raw().name() {
                "message" => return element,
                "presence" => {}
                other => panic!("<{other}/>\n{}", self.transcript()),
            }
        }
    }

    /// Passes over presence until there is one from `from` with this type; `None`: available.
    pub async fn until_presence(&mut self, from: &str, kind: Option<&str>) -> OwnedElement {
        loop {
            let element = self.element().await;
            let raw = element.as_raw();
            assert_eq!(raw.name(), "presence", "{}", self.transcript());
            if raw.attribute("from").as_deref() == Some(from) && raw.attribute("type").as_deref() == kind {
                return element;
            }
        }
    }

    /// Everything that comes until a ping of the server is answered.
    pub async fn until_quiet(&mut self) -> Vec<OwnedElement> {
        let mut came = Vec::new();
        self.until_answered(&mut came).await;
        if self.is_clustered() {
            // The server has read what was sent before, and now it is done with, also elsewhere: what came of it is before
            // the next answer.
            self.settled().await;
            self.until_answered(&mut came).await;
            self.settled().await;
        }
        came
    }

    async fn until_answered(&mut self, came: &mut Vec<OwnedElement>) {
        self.send("<iq type='get' id='quiet' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>").await;
        loop {
            let element = self.element().await;
            if element.as_raw().attribute("id").as_deref() == Some("quiet") {
                return;
            }
            came.push(element);
        }
    }

    /// Shows that this client's instance knows what became of the sessions of `account` elsewhere, as far as another client
    /// was answered: an instance remembers sessions until Redis tells it of a change, which comes before Redis' answer to
    /// whatever the instance asks from then on. Within one process it always knows.
    pub async fn hears_of(&mut self, account: &str) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if !self.is_clustered() {
            return;
        }
        // Somebody whom it cannot remember, and whom the same node knows of.
        let name = loop {
            let name = format!("nobody-{}@localhost", NEXT.fetch_add(1, Ordering::Relaxed));
            if node_of(&name) == node_of(account) {
                break name;
            }
        };
        let ask = format!("<iq type='get' id='hears' to='{name}/x'><ping xmlns='urn:xmpp:ping'/></iq>");
        let answer = self.ask(&ask).await;
        assert_eq!(answer.as_raw().attribute("id").as_deref(), Some("hears"), "{}", self.transcript());
    }

    /// The roster (RFC 6121 §2.1.4) as it comes in the answer.
    pub async fn roster(&mut self) -> OwnedElement {
        self.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>").await;
        loop {
            let element = self.element().await;
            if element.as_raw().attribute("id").as_deref() == Some("roster") {
                return element;
            }
            assert_eq!(element.as_raw().name(), "presence", "{}", self.transcript());
        }
    }

    /// Ends the stream in order.
    pub async fn close(mut self) {
        self.send("</stream:stream>").await;
        self.expect_gone().await;
    }
}
