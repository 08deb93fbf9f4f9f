//! XEP-0198 as a client does it. What is sent and what comes is counted by itself, and held against what the server says.
//!
//! ```text
//!   enable ──► counting ──► cut ──► reconnect ──► resume ──► counting
//! ```

use starling_xml::{Frame, Limits, OwnedElement, Reader};

use super::{RawClient, Received, STREAMS};
use crate::Server;

const SM: &str = "urn:xmpp:sm:3";
const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// `<enabled/>` (XEP-0198 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enabled {
    /// `id`: by which the stream can be resumed; `None`: it cannot.
    pub id: Option<String>,
    /// `max`: seconds that it can be resumed for.
    pub max: Option<u64>,
    /// `location`: where the server would like that to happen.
    pub location: Option<String>,
}

/// `<failed/>` (XEP-0198 §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The stanza error condition in it; empty: none.
    pub condition: String,
    /// `h`: what the server had handled of the stream that cannot be resumed.
    pub h: Option<u32>,
}

/// Both directions of a managed stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Stanzas sent since `<enable/>`.
    pub sent: u32,
    /// The highest `h` of the server.
    pub acked: u32,
    /// Stanzas received since `<enabled/>`.
    pub handled: u32,
    /// `<r/>` of the server.
    pub requests: u32,
}

/// What a client knows of its stream.
pub(super) struct Managed {
    counters: Counters,
    /// The id to resume by.
    id: Option<String>,
    enabled: bool,
    /// Finds the stanzas in what is sent, however it is sent.
    outgoing: Reader,
    /// What is sent is no XML any more: nobody knows how many stanzas are in it.
    lost: bool,
    /// Stanzas sent behind `<resume/>`.
    behind_resume: u32,
    /// `h` of the `<resume/>` that was sent last.
    resume_h: u32,
}

impl Default for Managed {
    fn default() -> Self {
        let outgoing = Reader::new(Limits { stanza_bytes: 16 << 20, ..Limits::default() });
        Self {
            counters: Counters::default(),
            id: None,
            enabled: false,
            outgoing,
            lost: false,
            behind_resume: 0,
            resume_h: 0,
        }
    }
}

impl Managed {
    pub(super) fn restart(&mut self) {
        self.outgoing.restart();
        self.lost = false;
    }

    /// A new session, which has nothing to do with the one before.
    pub(super) fn forget(&mut self) {
        (self.counters, self.id, self.enabled) = (Counters::default(), None, false);
    }

    pub(super) fn sent(&mut self, mut bytes: &[u8]) {
        while !self.lost {
            match self.outgoing.read(&mut bytes) {
                Ok(Some(Frame::Element(element))) if element.is("enable", SM) => self.counters.sent = 0,
                Ok(Some(Frame::Element(element))) if element.is("resume", SM) => {
                    self.behind_resume = 0;
                    self.resume_h = element.attribute("h").and_then(|h| h.parse().ok()).unwrap_or_default();
                }
                Ok(Some(Frame::Element(element))) if is_stanza(element.name(), element.namespace()) => {
                    self.counters.sent += 1;
                    self.behind_resume += 1;
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => self.lost = true,
            }
        }
    }

    /// What no `h` may ever do is a failure at once, whatever the test is about.
    pub(super) fn received(&mut self, element: &OwnedElement, transcript: &str) {
        let raw = element.as_raw();
        if raw.is("enabled", SM) {
            let can_resume = raw.attribute("resume").is_some_and(|value| value == "true" || value == "1");
            self.id = raw.attribute("id").filter(|_| can_resume).map(std::borrow::Cow::into_owned);
            self.enabled = true;
            (self.counters.handled, self.counters.acked) = (0, 0);
        } else if raw.is("resumed", SM) {
            self.resumed(element, transcript);
        } else if is_stanza(raw.name(), raw.namespace()) {
            self.counters.handled += u32::from(self.enabled);
        } else if self.enabled && raw.is("r", SM) {
            self.counters.requests += 1;
        } else if self.enabled && raw.is("a", SM) {
            let h = number(element, "h").unwrap_or_else(|| panic!("an <a/> without h\n{transcript}"));
            assert!(h >= self.counters.acked, "h has gone back from {}\n{transcript}", self.counters.acked);
            assert!(self.lost || h <= self.counters.sent, "only {} were sent\n{transcript}", self.counters.sent);
            self.counters.acked = h;
        }
    }

    fn resumed(&mut self, element: &OwnedElement, transcript: &str) {
        let theirs = number(element, "h").unwrap_or_else(|| panic!("a <resumed/> without h\n{transcript}"));
        let previd = element.as_raw().attribute("previd").map(std::borrow::Cow::into_owned);
        let counters = &mut self.counters;
        // It may be a stream that another client began: then nothing of it is known.
        if self.id == previd {
            let sent = counters.sent - self.behind_resume;
            assert!(theirs >= counters.acked, "h has gone back from {}\n{transcript}", counters.acked);
            assert!(theirs <= sent, "only {sent} were sent\n{transcript}");
        }
        counters.acked = theirs;
        counters.sent = theirs + self.behind_resume;
        counters.handled = self.resume_h;
        (self.id, self.enabled) = (previd, true);
    }

    pub(super) fn is_between_stanzas(&self, element: &OwnedElement) -> bool {
        let raw = element.as_raw();
        self.enabled && (raw.is("r", SM) || raw.is("a", SM))
    }
}

fn is_stanza(name: &str, namespace: &str) -> bool {
    namespace == "jabber:client" && matches!(name, "message" | "presence" | "iq")
}

fn number(element: &OwnedElement, name: &str) -> Option<u32> {
    element.as_raw().attribute(name).map(|value| value.parse().unwrap())
}

fn failed(element: &OwnedElement) -> Failed {
    let raw = element.as_raw();
    let condition = raw.children().find(|child| child.namespace() == STANZAS);
    Failed { condition: condition.map(|child| child.name().to_owned()).unwrap_or_default(), h: number(element, "h") }
}

impl RawClient {
    /// A session as [`RawClient::session`] makes it, which can be resumed.
    pub async fn managed(server: &Server, jid: &str, password: &str, resource: &str) -> Self {
        let mut client = Self::session(server, jid, password, resource).await;
        let enabled = client.enable(true).await;
        assert!(enabled.id.is_some(), "{}", client.transcript());
        client
    }

    /// Enables stream management (XEP-0198 §3).
    pub async fn enable(&mut self, resume: bool) -> Enabled {
        let enabled = self.try_enable(resume).await;
        enabled.unwrap_or_else(|failed| panic!("{failed:?}\n{}", self.transcript()))
    }

    /// The same, when it may fail.
    ///
    /// # Errors
    /// What `<failed/>` says.
    pub async fn try_enable(&mut self, resume: bool) -> Result<Enabled, Failed> {
        let resume = if resume { " resume='true'" } else { "" };
        self.send(&format!("<enable xmlns='{SM}'{resume}/>")).await;
        let answer = self.between_stanzas(&["enabled", "failed"]).await;
        let raw = answer.as_raw();
        if raw.name() == "failed" {
            return Err(failed(&answer));
        }
        Ok(Enabled {
            id: self.managed.id.clone(),
            max: raw.attribute("max").map(|max| max.parse().unwrap()),
            location: raw.attribute("location").map(std::borrow::Cow::into_owned),
        })
    }

    /// The id by which this client's stream can be resumed.
    #[must_use]
    pub fn resumption_id(&self) -> &str {
        self.managed.id.as_deref().unwrap_or_else(|| panic!("not resumable\n{}", self.transcript()))
    }

    /// What was counted since `<enable/>`.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.managed.counters
    }

    /// The connection is gone, and the stream on it was not closed. What comes now is [`RawClient::reconnect`].
    pub fn cut(&mut self) {
        self.io = None;
        self.managed.enabled = false;
        self.transcript.push_str("\n= cut\n");
    }

    /// A new connection of the same client, logged in as before. Then: bind, or resume.
    pub async fn reconnect(&mut self, server: &Server) {
        self.reconnect_by(Self::plain(server).await).await;
    }

    /// The same by a connection that is there, with no stream opened on it, or TLS and nothing behind it.
    pub async fn reconnect_by(&mut self, fresh: Self) {
        let (jid, password) = self.account.clone().unwrap();
        (self.io, self.bindings, self.alpn, self.server) = (fresh.io, fresh.bindings, fresh.alpn, fresh.server);
        self.input.clear();
        self.later.clear();
        self.transcript.push_str("\n= new connection\n");
        self.reader.restart();
        (self.managed.outgoing, self.managed.lost, self.managed.enabled) = (fresh.managed.outgoing, false, false);
        self.identify(&jid, &password).await;
    }

    /// Resumes the stream `previd`, of which this client has handled `h` stanzas (XEP-0198 §5). The server's `h`.
    ///
    /// # Errors
    /// What `<failed/>` says.
    pub async fn resume(&mut self, previd: &str, h: u32) -> Result<u32, Failed> {
        self.send(&format!("<resume xmlns='{SM}' previd='{previd}' h='{h}'/>")).await;
        let answer = self.between_stanzas(&["resumed", "failed"]).await;
        if answer.as_raw().name() == "failed" {
            return Err(failed(&answer));
        }
        assert!(self.later.is_empty(), "a stanza ahead of <resumed/>\n{}", self.transcript());
        assert_eq!(answer.as_raw().attribute("previd").as_deref(), Some(previd), "{}", self.transcript());
        Ok(self.counters().acked)
    }

    /// A new connection, and the stream that was cut goes on. The server's `h`: what was sent behind it must be sent
    /// again.
    pub async fn resume_again(&mut self, server: &Server) -> u32 {
        let (id, handled) = (self.resumption_id().to_owned(), self.counters().handled);
        self.reconnect(server).await;
        let resumed = self.resume(&id, handled).await;
        resumed.unwrap_or_else(|failed| panic!("{failed:?}\n{}", self.transcript()))
    }

    /// Acknowledges all that came.
    pub async fn ack(&mut self) {
        let handled = self.counters().handled;
        self.ack_up_to(handled).await;
    }

    /// Acknowledges `h` stanzas, whatever came.
    pub async fn ack_up_to(&mut self, h: u32) {
        self.send(&format!("<a xmlns='{SM}' h='{h}'/>")).await;
    }

    /// Asks what the server has handled. The `h` that comes next.
    pub async fn request(&mut self) -> u32 {
        self.send(&format!("<r xmlns='{SM}'/>")).await;
        self.next_ack().await
    }

    /// The next `<a/>`, asked for or not.
    pub async fn next_ack(&mut self) -> u32 {
        self.between_stanzas(&["a"]).await;
        self.counters().acked
    }

    /// Asks once, and waits until all that was sent is acknowledged: an answer that says less is followed by one that
    /// was not asked for.
    pub async fn until_acked(&mut self) {
        self.request().await;
        while self.counters().acked < self.counters().sent {
            self.next_ack().await;
        }
    }

    /// Waits for an `<r/>` of the server.
    pub async fn until_requested(&mut self) {
        self.between_stanzas(&["r"]).await;
    }

    /// The next element of XEP-0198 with one of these names. Stanzas that come before it are kept for
    /// [`RawClient::element`].
    async fn between_stanzas(&mut self, names: &[&str]) -> OwnedElement {
        loop {
            match self.next().await {
                Received::Element(element) if element.as_raw().namespace() == SM => {
                    if names.contains(&element.as_raw().name()) {
                        return element;
                    }
                }
                Received::Element(element) if !element.as_raw().is("error", STREAMS) => self.later.push_back(element),
                other => panic!("none of {names:?} but {other:?}\n{}", self.transcript()),
            }
        }
    }
}
