//! A client as XEP-0198 describes it: keeps what is not acknowledged, resumes, sends the rest again, begins anew where that
//! fails.

use std::{borrow::Cow, collections::VecDeque};

use starling_xml::RawElement;

use super::{
    wire::{Connection, Side},
    world::{Event, MS, Scene},
};

pub(crate) struct Client {
    connection: Option<usize>,
    /// The stream is open for stanzas.
    online: bool,
    /// What to resume by.
    session: Option<String>,
    /// Sent or to be sent, not acknowledged.
    queue: VecDeque<usize>,
    /// The last `h` that came.
    told: u32,
    /// What it has handled.
    handled: u32,
    base: u32,
    asks: bool,
    /// The epoch in which each message came last.
    seen: Vec<Option<u32>>,
    /// The epoch and the number of the last message.
    last: Option<(u32, usize)>,
}

impl Client {
    pub(crate) fn new(base: u32) -> Self {
        Self {
            connection: None,
            online: false,
            session: None,
            queue: VecDeque::new(),
            told: base,
            handled: base,
            base,
            asks: false,
            seen: Vec::new(),
            last: None,
        }
    }

    pub(crate) fn connection(&self) -> Option<usize> {
        self.connection
    }

    pub(crate) fn connect(&mut self, server_is_up: bool, scene: &mut Scene) {
        if self.connection.is_some() {
            return;
        }
        if !server_is_up {
            let delay = scene.dice.mostly_small(500 * MS);
            scene.after(delay, Event::ClientConnects);
            return;
        }
        let connection = scene.connections.len();
        scene.connections.push(Connection::new());
        scene.epoch_of.push(scene.epoch);
        self.connection = Some(connection);
        let text = match &self.session {
            Some(id) => format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{}'/>", self.handled),
            None => ENABLE.to_owned(),
        };
        scene.send(connection, Side::Server, text.as_bytes());
    }

    pub(crate) fn lost(&mut self, connection: usize, scene: &mut Scene) {
        if self.connection == Some(connection) {
            self.connection = None;
            self.online = false;
            let delay = scene.dice.mostly_small(2000 * MS);
            scene.after(delay, Event::ClientConnects);
        }
    }

    pub(crate) fn send(&mut self, scene: &mut Scene) {
        let id = scene.acknowledged.len();
        scene.acknowledged.push(false);
        scene.store.kept.push(false);
        self.queue.push_back(id);
        self.write(self.queue.len() - 1, scene);
    }

    /// Writes the queue from there on, if the stream is open.
    fn write(&mut self, from: usize, scene: &mut Scene) {
        if !self.asks {
            self.asks = true;
            scene.after(700 * MS, Event::ClientAsks);
        }
        let Some(connection) = self.connection.filter(|_| self.online) else { return };
        let mut text = String::new();
        for id in self.queue.iter().skip(from) {
            text += &format!("<message id='{id}'/>");
            if scene.dice.chance(40) {
                text += REQUEST;
            }
        }
        scene.send(connection, Side::Server, text.as_bytes());
    }

    pub(crate) fn ask(&mut self, scene: &mut Scene) {
        self.asks = !self.queue.is_empty();
        if self.asks {
            scene.after(700 * MS, Event::ClientAsks);
            if let Some(connection) = self.connection.filter(|_| self.online) {
                scene.send(connection, Side::Server, REQUEST.as_bytes());
            }
        }
    }

    pub(crate) fn answer(&mut self, connection: usize, scene: &mut Scene) {
        if self.connection == Some(connection) {
            let text = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.handled);
            scene.send(connection, Side::Server, text.as_bytes());
        }
    }

    pub(crate) fn read(&mut self, connection: usize, element: &RawElement<'_>, scene: &mut Scene) {
        assert_eq!(self.connection, Some(connection));
        let h = || element.attribute("h").map(|h| h.parse().unwrap());
        match element.name() {
            "message" => {
                self.message(element.attribute("id").unwrap().parse().unwrap(), scene.epoch_of[connection]);
            }
            "r" => {
                // Some answer when they are through with what they have.
                let delay = if scene.dice.chance(70) { 0 } else { scene.dice.mostly_small(500 * MS) };
                scene.after(delay, Event::ClientAnswers { connection });
            }
            "a" => self.acknowledged(h().unwrap(), scene),
            "enabled" => {
                self.session = element.attribute("id").map(Cow::into_owned);
                (self.told, self.handled) = (self.base, self.base);
                self.opened(scene);
            }
            "resumed" => {
                assert_eq!(element.attribute("previd").as_deref(), self.session.as_deref());
                self.acknowledged(h().unwrap(), scene);
                self.opened(scene);
            }
            "failed" => {
                assert!(self.session.take().is_some());
                if let Some(h) = h() {
                    self.acknowledged(h, scene);
                }
                scene.send(connection, Side::Server, ENABLE.as_bytes());
            }
            name => panic!("<{name}/>"),
        }
    }

    fn opened(&mut self, scene: &mut Scene) {
        self.online = true;
        self.write(0, scene);
    }

    /// The invariant of all of this: `h` never goes back, and what it covers survives whatever happens.
    fn acknowledged(&mut self, h: u32, scene: &mut Scene) {
        let more = h.wrapping_sub(self.told) as usize;
        assert!(more <= self.queue.len(), "h is {h} after {}, with {} on their way", self.told, self.queue.len());
        self.told = h;
        for id in self.queue.drain(..more) {
            assert!(scene.store.kept[id], "stanza {id} is acknowledged and not safe");
            scene.acknowledged[id] = true;
        }
    }

    fn message(&mut self, id: usize, epoch: u32) {
        self.handled = self.handled.wrapping_add(1);
        if self.seen.len() <= id {
            self.seen.resize(id + 1, None);
        }
        assert!(self.seen[id].is_none_or(|before| before < epoch), "message {id} came twice in epoch {epoch}");
        assert!(self.last.is_none_or(|last| last < (epoch, id)), "message {id} came behind {:?}", self.last);
        self.seen[id] = Some(epoch);
        self.last = Some((epoch, id));
    }

    pub(crate) fn settled(&self) {
        assert!(self.online && self.queue.is_empty());
    }

    pub(crate) fn has_all(&self, messages: usize) {
        assert!(self.seen.iter().flatten().count() == messages, "the client has every message");
    }
}

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";
