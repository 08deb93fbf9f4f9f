//! One client as the loads drive it: a connection, what it has asked the server for, and its counts (XEP-0198).
//!
//! ```text
//!   log_in(Manner) ──► enable ──► roster ──► presence ──► carbons ──► send, next, answer ──► close
//! ```

use std::fmt::{self, Write as _};

use starling_xml::{OwnedElement, RawElement};

use crate::{
    Failure,
    target::{Came, Connection, Target},
};

const SM: &str = "urn:xmpp:sm:3";
const CARBONS: &str = "urn:xmpp:carbons:2";
const FORWARD: &str = "urn:xmpp:forward:0";
const CLIENT: &str = "jabber:client";
const STREAM: &str = "http://etherx.jabber.org/streams";

/// The resource of a user's first session.
pub(crate) const RESOURCE: &str = "load";

/// What a client asks for when it has logged in. A relay knows nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Stream management that can be resumed (XEP-0198): `<r/>` goes after so many stanzas.
    pub(crate) managed: Option<u32>,
    /// The roster (RFC 6121 §2.1.3).
    pub(crate) roster: bool,
    /// Initial presence (RFC 6121 §4.2).
    pub(crate) presence: bool,
    /// Message carbons (XEP-0280).
    pub(crate) carbons: bool,
}

/// Which copy of a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// The message itself.
    Direct,
    /// What this user's other session sent (XEP-0280 §8).
    Sent,
    /// What this user's other session received (XEP-0280 §7).
    Received,
    /// It came back as an error.
    Error,
}

/// What came.
pub(crate) enum Event {
    /// A message with this id.
    Message { id: String, copy: Copy },
    /// Presence or iq.
    Stanza(OwnedElement),
    /// `<r/>`: [`Client::answer`] is due.
    Asked,
    /// `<a/>`, which was counted, or something else that no load looks at.
    Other,
}

/// A client that has logged in.
pub(crate) struct Client {
    connection: Connection,
    managed: Option<Managed>,
    carbons: bool,
    out: String,
}

/// The counts of a managed stream, modulo 2^32 (XEP-0198 §4).
#[derive(Clone, Copy, Debug)]
struct Managed {
    ask_every: u32,
    unasked: u32,
    sent: u32,
    acknowledged: u32,
    handled: u32,
}

impl Client {
    /// Logs in and asks for what `manner` says. What else comes meanwhile is passed over; behind the initial presence
    /// that is nothing, unless there are carbons to be asked for.
    pub(crate) async fn log_in(
        target: &Target,
        user: usize,
        resource: &str,
        peer: usize,
        manner: Manner,
    ) -> Result<Self, Failure> {
        let connection = target.connect(user, resource, peer).await?;
        let mut client = Self { connection, managed: None, carbons: manner.carbons, out: String::new() };
        if matches!(target, Target::Relay { .. }) {
            return Ok(client);
        }
        if let Some(ask_every) = manner.managed {
            client.enable(ask_every).await?;
        }
        if manner.roster {
            client.request("get", "roster", "<query xmlns='jabber:iq:roster'/>").await?;
        }
        if manner.presence {
            client.write(format_args!("<presence/>"));
            client.flush().await?;
        }
        if manner.carbons {
            client.request("set", "carbons", "<enable xmlns='urn:xmpp:carbons:2'/>").await?;
        }
        Ok(client)
    }

    async fn enable(&mut self, ask_every: u32) -> Result<(), Failure> {
        self.connection.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await?;
        loop {
            let Came::Element(element) = self.connection.next().await? else { continue };
            let raw = element.as_raw();
            if raw.is("enabled", SM) {
                self.managed = Some(Managed { ask_every, unasked: 0, sent: 0, acknowledged: 0, handled: 0 });
                return Ok(());
            }
            if raw.is("failed", SM) || raw.is("error", STREAM) {
                return Err(format!("no stream management: {}", raw.as_str()).into());
            }
        }
    }

    /// Sends an iq to the own account and waits for its result, which is given back.
    pub(crate) async fn request(&mut self, kind: &str, id: &str, payload: &str) -> Result<OwnedElement, Failure> {
        self.write(format_args!("<iq type='{kind}' id='{id}'>{payload}</iq>"));
        self.flush().await?;
        loop {
            match self.next().await? {
                Event::Stanza(element) if element.as_raw().attribute("id").as_deref() == Some(id) => {
                    if element.as_raw().attribute("type").as_deref() == Some("result") {
                        return Ok(element);
                    }
                    return Err(format!("{id}: {}", element.as_raw().as_str()).into());
                }
                Event::Asked => self.answer().await?,
                Event::Message { .. } | Event::Stanza(_) | Event::Other => {}
            }
        }
    }

    /// Writes a stanza, and `<r/>` behind it when it is time, for [`Client::flush`].
    pub(crate) fn write(&mut self, stanza: fmt::Arguments<'_>) {
        // A string takes whatever is written.
        self.out.write_fmt(stanza).ok();
        if let Some(managed) = &mut self.managed {
            managed.sent = managed.sent.wrapping_add(1);
            managed.unasked += 1;
            if managed.unasked >= managed.ask_every {
                managed.unasked = 0;
                self.out.push_str("<r xmlns='urn:xmpp:sm:3'/>");
            }
        }
    }

    /// Sends what was written.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        self.connection.send(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    /// Sends `<r/>`, if the stream is managed.
    pub(crate) async fn ask(&mut self) -> Result<(), Failure> {
        if let Some(managed) = &mut self.managed {
            managed.unasked = 0;
            self.connection.send("<r xmlns='urn:xmpp:sm:3'/>").await?;
        }
        Ok(())
    }

    /// Sends `<a/>`, if the stream is managed.
    pub(crate) async fn answer(&mut self) -> Result<(), Failure> {
        if let Some(managed) = &self.managed {
            write!(self.out, "<a xmlns='urn:xmpp:sm:3' h='{}'/>", managed.handled)?;
            self.flush().await?;
        }
        Ok(())
    }

    /// How many stanzas were sent that the server has not acknowledged; 0 for a stream that is not managed.
    pub(crate) fn unacknowledged(&self) -> u32 {
        self.managed.map_or(0, |managed| managed.sent.wrapping_sub(managed.acknowledged))
    }

    /// What comes next; the counts are kept. May be dropped without loss.
    ///
    /// # Errors
    /// The stream ended, or its `h` went back, or beyond what was sent.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        let element = match self.connection.next().await? {
            Came::Relayed(id) => return Ok(Event::Message { id, copy: Copy::Direct }),
            Came::Element(element) => element,
        };
        let raw = element.as_raw();
        match raw.name() {
            "message" => {
                self.handled();
                let (copy, id) = self.message(&raw);
                Ok(Event::Message { id, copy })
            }
            "presence" | "iq" => {
                self.handled();
                Ok(Event::Stanza(element))
            }
            "r" if raw.namespace() == SM => Ok(Event::Asked),
            "a" if raw.namespace() == SM => {
                let h = raw.attribute("h").ok_or("an <a/> without h")?.parse()?;
                if let Some(managed) = &mut self.managed {
                    managed.acknowledge(h)?;
                }
                Ok(Event::Other)
            }
            "error" if raw.namespace() == STREAM => Err(raw.as_str().into()),
            _ => Ok(Event::Other),
        }
    }

    const fn handled(&mut self) {
        if let Some(managed) = &mut self.managed {
            managed.handled = managed.handled.wrapping_add(1);
        }
    }

    fn message(&self, raw: &RawElement<'_>) -> (Copy, String) {
        let id = |found: Option<std::borrow::Cow<'_, str>>| found.unwrap_or_default().into_owned();
        if raw.attribute("type").as_deref() == Some("error") {
            return (Copy::Error, id(raw.attribute("id")));
        }
        if self.carbons {
            for (name, copy) in [("sent", Copy::Sent), ("received", Copy::Received)] {
                if let Some(carbon) = raw.child(name, CARBONS) {
                    let message = carbon.child("forwarded", FORWARD).and_then(|within| within.child("message", CLIENT));
                    return (copy, id(message.and_then(|message| message.attribute("id"))));
                }
            }
        }
        (Copy::Direct, id(raw.attribute("id")))
    }

    /// Acknowledges what came, so that the server keeps nothing of it for later, and ends the stream in order.
    pub(crate) async fn close(mut self) -> Result<(), Failure> {
        self.answer().await?;
        self.connection.close().await
    }
}

impl Managed {
    /// `h` covers at least what it covered before, and at most what was sent.
    fn acknowledge(&mut self, h: u32) -> Result<(), Failure> {
        if h.wrapping_sub(self.acknowledged) > self.sent.wrapping_sub(self.acknowledged) {
            return Err(format!("h is {h}, was {}, and {} were sent", self.acknowledged, self.sent).into());
        }
        self.acknowledged = h;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managed(sent: u32, acknowledged: u32) -> Managed {
        Managed { ask_every: 1, unasked: 0, sent, acknowledged, handled: 0 }
    }

    #[test]
    fn xep0198_4_h_never_goes_back() {
        assert!(managed(10, 5).acknowledge(5).is_ok());
        assert!(managed(10, 5).acknowledge(10).is_ok());
        assert!(managed(10, 5).acknowledge(4).is_err());
    }

    #[test]
    fn xep0198_4_h_is_at_most_what_was_sent() {
        assert!(managed(10, 5).acknowledge(11).is_err());
    }

    #[test]
    fn xep0198_4_counts_go_round() {
        assert!(managed(3, u32::MAX - 1).acknowledge(2).is_ok());
        assert!(managed(3, u32::MAX - 1).acknowledge(4).is_err());
        assert!(managed(3, u32::MAX - 1).acknowledge(u32::MAX - 2).is_err());
    }
}
