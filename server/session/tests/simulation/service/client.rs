//! A client: chats, is cut, resumes, logs in and out, and sends again what was not acknowledged.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use starling_xml::{Limits, Scope, parse};
use starling_xmpp::jid::BareJid;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    facts::{Message, Shared},
    wire::{self, End},
    world::Host,
};

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";

/// How clients of a life behave.
#[derive(Clone, Copy)]
pub(crate) struct Habits {
    pub(crate) accounts: usize,
    /// How many of a hundred log-ins manage their stream.
    pub(crate) managed: u64,
    /// Whether messages may go to full JIDs.
    pub(crate) full: bool,
    /// How many of a hundred deeds are a cut, and a log-out.
    pub(crate) cuts: u64,
    pub(crate) log_outs: u64,
    /// The longest between two deeds, in milliseconds.
    pub(crate) leisure: u64,
    /// Until when anything happens.
    pub(crate) until: Instant,
    /// Until when clients stay after that.
    pub(crate) end: Instant,
}

pub(crate) struct Client {
    host: Arc<Host>,
    shared: Shared,
    habits: Habits,
    account: usize,
    resource: usize,
    /// What was sent with stream management and not acknowledged, on this session or an earlier one.
    queue: VecDeque<Sent>,
    /// Of `queue`, how many were sent on this session.
    counted: usize,
    session: Option<Managing>,
    /// Messages sent, ever.
    number: u32,
    /// A name for the session that the server has for it.
    name: u64,
    /// It said at the end that it takes messages.
    takes_messages: bool,
}

struct Managing {
    /// By which it is resumed, once it is known.
    id: Option<String>,
    told: u32,
    handled: u32,
}

struct Sent {
    text: String,
    message: Option<Message>,
}

/// How a connection ended.
enum Ended {
    Cut,
    Out,
    /// By the server, or by the network.
    Gone,
    /// All is over.
    Over,
}

pub(crate) fn address(account: usize) -> BareJid {
    BareJid::new(&format!("user{account}@example.com")).unwrap()
}

/// The message that an element is, if it is one of ours.
pub(crate) fn message_of(text: &str) -> Option<Message> {
    let element = parse(text, &Scope::client(), Limits::default()).ok()?;
    if element.as_raw().name() != "message" {
        return None;
    }
    let id = element.as_raw().attribute("id")?.into_owned();
    let (sender, number) = id.split_once('-')?;
    Some((sender.parse().ok()?, number.parse().ok()?))
}

impl Client {
    pub(crate) fn new(host: Arc<Host>, shared: Shared, habits: Habits, account: usize, resource: usize) -> Self {
        Self {
            host,
            shared,
            habits,
            account,
            resource,
            queue: VecDeque::new(),
            counted: 0,
            session: None,
            // Resources of one account do not share numbers.
            number: resource as u32 * 1_000_000,
            name: 0,
            takes_messages: false,
        }
    }

    fn is_settling(&self) -> bool {
        Instant::now() >= self.habits.until
    }

    pub(crate) async fn run(mut self) {
        loop {
            match self.connect().await {
                Ended::Over => break,
                Ended::Cut | Ended::Gone => sleep(self.shared.some_ms(1500)).await,
                Ended::Out => {
                    self.session = None;
                    self.counted = 0;
                    let absence = self.shared.some_ms(4000);
                    sleep(absence).await;
                }
            }
            if self.is_settling() {
                sleep(Duration::from_millis(200)).await;
            }
        }
        assert!(self.queue.is_empty(), "user{} knows that all is safe: {} left", self.account, self.queue.len());
    }

    fn say(&self, what: impl FnOnce() -> String) {
        self.shared.say(|| format!("user{}/r{} {}", self.account, self.resource, what()));
    }

    async fn connect(&mut self) -> Ended {
        let (mut end, other) = wire::connection(&self.shared);
        if !self.host.accept(address(self.account), other) {
            sleep(Duration::from_millis(50)).await;
            return Ended::Gone;
        }
        let resume = self.session.as_ref().and_then(|session| Some((session.id.clone()?, session.handled)));
        let open = match resume {
            Some((id, h)) => {
                self.say(|| format!("resumes at {h}"));
                end.send(format!("resume {id} {h}"));
                self.resumed(&mut end).await
            }
            None => Some(false),
        };
        match open {
            None => return Ended::Gone,
            Some(true) => {}
            Some(false) => {
                if !self.bind(&mut end).await {
                    return Ended::Gone;
                }
            }
        }
        let ended = self.carry(&mut end).await;
        if matches!(ended, Ended::Cut) {
            self.say(|| "is cut".to_owned());
            end.cut();
        }
        ended
    }

    async fn next(end: &mut End) -> Option<String> {
        poll_fn(|cx| end.poll_recv(cx)).await
    }

    /// Waits for the answer to `<resume/>`. `None`: the connection is gone; else whether the session goes on.
    async fn resumed(&mut self, end: &mut End) -> Option<bool> {
        let text = Self::next(end).await?;
        if text == "<failed/>" {
            self.say(|| "cannot resume".to_owned());
            self.session = None;
            self.counted = 0;
            return Some(false);
        }
        let h = text.strip_prefix("<resumed h='").and_then(|rest| rest.strip_suffix("'/>"))?;
        let h = h.parse().unwrap();
        self.say(|| format!("is resumed at {h}"));
        self.acknowledged(h);
        let again: Vec<_> = self.queue.iter().map(|sent| sent.text.clone()).collect();
        self.counted = again.len();
        for text in again {
            end.send(text);
        }
        Some(true)
    }

    /// A new session. `false`: the connection is gone.
    async fn bind(&mut self, end: &mut End) -> bool {
        end.send(format!("bind r{}", self.resource));
        if Self::next(end).await.as_deref() != Some("<bound/>") {
            return false;
        }
        self.name = self.shared.dice().next();
        self.say(|| format!("begins session {}", self.name));
        // Presence of a session that is over is of no use, and what was refused is known to have failed.
        let again = |sent: &Sent| sent.message.is_some_and(|message| !self.shared.facts().is_refused(message));
        self.queue.retain(again);
        let managed = self.is_settling() || !self.queue.is_empty() || self.shared.chance(self.habits.managed);
        self.session = None;
        self.counted = 0;
        if managed {
            end.send(ENABLE.to_owned());
            self.session = Some(Managing { id: None, told: 0, handled: 0 });
            for sent in &self.queue {
                if let Some(message) = sent.message {
                    self.shared.facts().sent(message, self.name);
                }
                end.send(sent.text.clone());
            }
            self.counted = self.queue.len();
        }
        self.send("<presence/>".to_owned(), None, end);
        true
    }

    /// Lives until the connection ends.
    async fn carry(&mut self, end: &mut End) -> Ended {
        loop {
            let next_deed = Instant::now() + self.leisure();
            let mut deed = pin!(sleep_until(next_deed));
            let element = poll_fn(|cx| match end.poll_recv(cx) {
                Poll::Ready(element) => Poll::Ready(Some(element)),
                Poll::Pending => Pin::new(&mut deed).poll(cx).map(|()| None),
            })
            .await;
            match element {
                Some(None) => return Ended::Gone,
                Some(Some(text)) if text == "closed" => return Ended::Gone,
                Some(Some(text)) => self.read(&text, end),
                None => {
                    if let Some(ended) = self.act(end).await {
                        return ended;
                    }
                }
            }
        }
    }

    fn leisure(&self) -> Duration {
        if self.is_settling() { Duration::from_millis(1000) } else { self.shared.some_ms(self.habits.leisure) }
    }

    /// One deed.
    async fn act(&mut self, end: &mut End) -> Option<Ended> {
        if self.is_settling() {
            if self.session.is_none() {
                // One more log-in, which knows what it has.
                return Some(self.log_out(end).await);
            }
            // Whatever priority it had: messages for the account are for this client now.
            if !std::mem::replace(&mut self.takes_messages, true) {
                self.send("<presence/>".to_owned(), None, end);
            }
            end.send(REQUEST.to_owned());
            return (Instant::now() >= self.habits.end).then_some(Ended::Over);
        }
        let deed = self.shared.dice().below(100);
        let Habits { cuts, log_outs, .. } = self.habits;
        if deed < cuts {
            return Some(Ended::Cut);
        }
        if deed < cuts + log_outs {
            return Some(self.log_out(end).await);
        }
        match deed {
            90.. => {
                let priority = [0, 0, 5, -1][self.shared.dice().below(4) as usize];
                self.send(format!("<presence><priority>{priority}</priority></presence>"), None, end);
            }
            75.. if self.session.is_some() => end.send(REQUEST.to_owned()),
            _ => self.chat(end),
        }
        None
    }

    fn chat(&mut self, end: &mut End) {
        let other = (self.account + 1 + self.shared.dice().below(self.habits.accounts as u64 - 1) as usize)
            % self.habits.accounts;
        let mut to = address(other).to_string();
        if self.habits.full && self.shared.chance(30) {
            to += if self.shared.chance(50) { "/r0" } else { "/r1" };
        }
        self.number += 1;
        let message = (self.account, self.number);
        let id = format!("{}-{}", self.account, self.number);
        self.say(|| format!("sends {id} to {to}"));
        self.shared.facts().sent(message, self.name);
        self.send(format!("<message type='chat' to='{to}' id='{id}'><body>{id}</body></message>"), Some(message), end);
        if self.session.is_some() && self.shared.chance(40) {
            end.send(REQUEST.to_owned());
        }
    }

    fn send(&mut self, text: String, message: Option<Message>, end: &End) {
        end.send(text.clone());
        if self.session.is_some() {
            self.queue.push_back(Sent { text, message });
            self.counted += 1;
        }
    }

    /// Ends the stream, and waits for the server's end of it.
    async fn log_out(&mut self, end: &mut End) -> Ended {
        if let Some(session) = &self.session {
            end.send(format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", session.handled));
        }
        self.say(|| "logs out".to_owned());
        end.send("close".to_owned());
        let handled = self.session.as_ref().map(|session| session.handled);
        while let Some(text) = Self::next(end).await {
            if text == "closed" {
                // What came behind the last answer is not covered by it.
                if handled.is_some() && handled == self.session.as_ref().map(|session| session.handled) {
                    self.shared.facts().ended_clean(self.name);
                }
                break;
            }
            self.read(&text, end);
        }
        Ended::Out
    }

    fn read(&mut self, text: &str, end: &End) {
        if let Some(id) = text.strip_prefix("<enabled id='").and_then(|rest| rest.strip_suffix("'/>")) {
            if let Some(session) = &mut self.session {
                session.id = Some(id.to_owned());
                session.handled = 0;
            }
            return;
        }
        let element = parse(text, &Scope::client(), Limits::default()).unwrap();
        let raw = element.as_raw();
        match raw.name() {
            "r" => {
                if let Some(session) = &self.session {
                    end.send(format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", session.handled));
                }
            }
            "a" => self.acknowledged(raw.attribute("h").unwrap().parse().unwrap()),
            _ => {
                if let Some(session) = &mut self.session {
                    session.handled = session.handled.wrapping_add(1);
                }
                self.stanza(text);
            }
        }
    }

    fn stanza(&self, text: &str) {
        let Some(message) = message_of(text) else { return };
        let element = parse(text, &Scope::client(), Limits::default()).unwrap();
        let raw = element.as_raw();
        let id = raw.child("stanza-id", "urn:xmpp:sid:0").and_then(|id| id.attribute("id").map(|id| id.into_owned()));
        let mut facts = self.shared.facts();
        if raw.attribute("type").as_deref() == Some("error") {
            assert_eq!(message.0, self.account, "an error goes to whoever sent the message");
            drop(facts);
            self.say(|| format!("is refused {message:?}"));
            self.shared.facts().refused(message);
        } else {
            facts.received(self.account, self.name, id, message);
            drop(facts);
            self.say(|| format!("receives {message:?}"));
        }
    }

    /// `h` never goes back, and does not exceed what was sent.
    fn acknowledged(&mut self, h: u32) {
        let Some(session) = &mut self.session else { return };
        let more = h.wrapping_sub(session.told) as usize;
        assert!(more <= self.counted, "user{}: h is {h} after {}, of {}", self.account, session.told, self.counted);
        session.told = h;
        self.counted -= more;
        for sent in self.queue.drain(..more) {
            if let Some(message) = sent.message {
                self.shared.facts().acknowledged(message);
            }
        }
    }
}
