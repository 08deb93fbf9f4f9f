//! A server's end of one account: sessions that resume, a journal that commits in groups, a registry that holds `h`.

use std::collections::VecDeque;

use starling_xml::RawElement;
use starling_xmpp::{
    Condition,
    acks::{
        Ask, Inbound, Next, Outbound,
        nonza::{self, Nonza},
    },
};

use super::{
    wire::Side,
    world::{Event, MS, Scene},
};

/// The server, of which a crash leaves what is in the store.
pub(crate) struct Server {
    /// Which of its processes this is, or the last one was.
    life: u32,
    process: Option<Process>,
    /// Ids of sessions and keys of stanzas, never used again.
    next: u32,
    /// In which epoch each stanza was processed last.
    processed: Vec<Option<u32>>,
    last_processed: Option<(u32, usize)>,
}

#[derive(Default)]
struct Process {
    session: Option<Session>,
    /// The session that ended last, and what was recorded of it.
    ended: Option<(u32, u32)>,
    /// Keys of what is to be committed.
    journal: VecDeque<(u64, usize)>,
    committing: bool,
}

struct Session {
    id: u32,
    connection: Option<usize>,
    /// How often it lost its connection.
    detached: u32,
    inbound: Inbound,
    outbound: Outbound<usize>,
    /// What was received and is not recorded as safe, by number. Then what was received before the last resumption and
    /// has to come again.
    window: VecDeque<Work>,
    again: VecDeque<Work>,
    timer: Option<u64>,
}

struct Work {
    number: u32,
    stanza: usize,
    key: u64,
    safe: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self { life: 0, process: Some(Process::default()), next: 0, processed: Vec::new(), last_processed: None }
    }
}

impl Server {
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    fn session(&mut self) -> Option<&mut Session> {
        self.process.as_mut()?.session.as_mut()
    }

    pub(crate) fn read(&mut self, connection: usize, element: &RawElement<'_>, scene: &mut Scene) {
        if self.process.is_none() {
            return;
        }
        match nonza::parse(element).unwrap() {
            Some(Nonza::Enable { .. }) => self.enable(connection, scene),
            Some(Nonza::Resume { previd, h }) => self.resume(connection, previd.parse().unwrap(), h, scene),
            Some(Nonza::Request) => {
                let now = scene.instant();
                self.attached(connection).inbound.requested(now);
            }
            Some(Nonza::Answer { h }) => {
                let rows = &mut scene.store.rows;
                self.attached(connection).outbound.acknowledge(h, |row| rows[row] = true).unwrap();
            }
            None => self.stanza(connection, element.attribute("id").unwrap().parse().unwrap(), scene),
        }
        self.pump(scene);
    }

    /// A connection that is read has the session: the others were left.
    fn attached(&mut self, connection: usize) -> &mut Session {
        self.session().filter(|session| session.connection == Some(connection)).expect("a session of this connection")
    }

    fn enable(&mut self, connection: usize, scene: &mut Scene) {
        self.end_session(scene);
        self.next += 1;
        let mut session = Session::new(self.next, Inbound::resume_at(scene.base), Outbound::resume_at(scene.base));
        scene.store.record = Some((session.id, scene.base));
        session.connection = Some(connection);
        scene.epoch_of[connection] = scene.epoch;
        let mut out = Vec::new();
        nonza::write_enabled(Some((&session.id.to_string(), 10)), &mut out);
        scene.send(connection, Side::Client, &out);
        session.send_rows(scene);
        self.process.as_mut().unwrap().session = Some(session);
    }

    fn resume(&mut self, connection: usize, id: u32, h: u32, scene: &mut Scene) {
        let process = self.process.as_mut().unwrap();
        let recorded = scene.store.record.filter(|(recorded, _)| *recorded == id).map(|(_, h)| h);
        let mut out = Vec::new();
        if let Some(session) = process.session.as_mut().filter(|session| session.id == id) {
            if let Some(old) = session.connection.replace(connection) {
                scene.connections[old].leave(Side::Server);
            }
            // Mostly the registry answers; where it does not, the client is told less than is safe.
            if scene.dice.chance(70) {
                let safe = session.inbound.safe_count();
                scene.store.record = Some((id, safe));
                session.inbound.recorded(safe);
            }
            let rows = &mut scene.store.rows;
            session.outbound.acknowledge(h, |row| rows[row] = true).unwrap();
            nonza::write_resumed(&id.to_string(), session.resumed(), &mut out);
            for row in session.outbound.unacknowledged() {
                out.extend_from_slice(message(*row).as_bytes());
            }
            session.outbound.resumed();
        } else if let Some(recorded) = recorded.filter(|_| process.session.is_none()) {
            // Its owner is dead: what the client says is the outgoing count, and the rows tell what it may lack.
            let mut session = Session::new(id, Inbound::resume_at(recorded), Outbound::resume_at(h));
            session.connection = Some(connection);
            nonza::write_resumed(&id.to_string(), recorded, &mut out);
            scene.send(connection, Side::Client, &out);
            out.clear();
            session.send_rows(scene);
            process.session = Some(session);
        } else {
            let known = process.ended.filter(|(ended, _)| *ended == id).map(|(_, h)| h);
            nonza::write_failed(Condition::ItemNotFound, known, &mut out);
        }
        scene.epoch_of[connection] = scene.epoch;
        scene.send(connection, Side::Client, &out);
    }

    fn stanza(&mut self, connection: usize, stanza: usize, scene: &mut Scene) {
        let session = self.attached(connection);
        let number = session.inbound.received();
        if let Some(work) = session.again.pop_front_if(|work| work.number == number) {
            assert_eq!(work.stanza, stanza, "the client counts its stanzas as the server does");
            session.window.push_back(work);
            session.safe();
            return;
        }
        assert!(session.again.is_empty());
        self.next += 1;
        let key = u64::from(self.next);
        self.attached(connection).window.push_back(Work { number, stanza, key, safe: false });
        self.process_once(stanza, key, scene);
    }

    /// What a server does with a stanza that it has not had before.
    fn process_once(&mut self, stanza: usize, key: u64, scene: &mut Scene) {
        scene.say(|| format!("server processes {stanza}"));
        if self.processed.len() <= stanza {
            self.processed.resize(stanza + 1, None);
        }
        let epoch = scene.epoch;
        let before = self.processed[stanza].replace(epoch);
        assert!(before.is_none_or(|before| before < epoch), "stanza {stanza} is processed twice in epoch {epoch}");
        assert!(!scene.acknowledged[stanza], "stanza {stanza} came again after it was acknowledged");
        assert!(
            self.last_processed.is_none_or(|last| last < (epoch, stanza)),
            "{stanza} behind {:?}",
            self.last_processed
        );
        self.last_processed = Some((epoch, stanza));
        if scene.dice.chance(20) {
            let delay = scene.dice.mostly_small(300 * MS);
            scene.after(delay, Event::RecipientHasIt { life: self.life, key });
        }
        let life = self.life;
        let process = self.process.as_mut().unwrap();
        process.journal.push_back((key, stanza));
        process.commit_later(life, scene);
    }

    pub(crate) fn commit(&mut self, life: u32, scene: &mut Scene) {
        let Some(process) = self.process.as_mut().filter(|_| life == self.life) else { return };
        process.committing = false;
        let group = 1 + scene.dice.below(8) as usize;
        for _ in 0..group.min(process.journal.len()) {
            let Some((key, stanza)) = process.journal.pop_front() else { break };
            scene.store.kept[stanza] = true;
            process.is_safe(key);
        }
        process.commit_later(life, scene);
        self.pump(scene);
    }

    pub(crate) fn recipient_has_it(&mut self, life: u32, key: u64, scene: &mut Scene) {
        let Some(process) = self.process.as_mut().filter(|_| life == self.life) else { return };
        if let Some((_, stanza)) = process.journal.iter().find(|(journaled, _)| *journaled == key) {
            scene.store.kept[*stanza] = true;
            process.is_safe(key);
        }
        self.pump(scene);
    }

    pub(crate) fn recorded(&mut self, life: u32, id: u32, h: u32, failed: bool, scene: &mut Scene) {
        let Some(session) = self.session().filter(|session| session.id == id) else { return };
        if failed {
            session.inbound.not_recorded();
        } else {
            scene.store.record = Some((id, h));
            session.inbound.recorded(h);
            session.forget_recorded();
        }
        debug_assert!(life <= self.life);
        self.pump(scene);
    }

    pub(crate) fn push(&mut self, scene: &mut Scene) {
        let row = scene.store.rows.len();
        scene.store.rows.push(false);
        if let Some(session) = self.session() {
            session.send_row(row, scene);
        }
        self.pump(scene);
    }

    pub(crate) fn timer(&mut self, life: u32, scene: &mut Scene) {
        if life == self.life {
            if let Some(session) = self.session() {
                session.timer = session.timer.filter(|at| *at > scene.now);
            }
            self.pump(scene);
        }
    }

    pub(crate) fn lost(&mut self, connection: usize, scene: &mut Scene) {
        let life = self.life;
        let Some(session) = self.session().filter(|session| session.connection == Some(connection)) else { return };
        session.connection = None;
        session.detached += 1;
        let event = Event::Expire { life, session: session.id, detached: session.detached };
        let delay = 500 * MS + scene.dice.below(8000 * MS);
        scene.after(delay, event);
    }

    pub(crate) fn expire(&mut self, life: u32, id: u32, detached: u32, scene: &mut Scene) {
        let still =
            |session: &&mut Session| session.id == id && session.detached == detached && session.connection.is_none();
        if life == self.life && self.session().filter(still).is_some() {
            self.end_session(scene);
        }
    }

    /// What the client did not acknowledge stays in its rows. What it sent goes its way.
    fn end_session(&mut self, scene: &mut Scene) {
        let process = self.process.as_mut().unwrap();
        let Some(mut session) = process.session.take() else { return };
        scene.say(|| format!("session {} ends", session.id));
        if let Some(connection) = session.connection {
            scene.connections[connection].leave(Side::Server);
        }
        process.ended = Some((session.id, session.inbound.recorded_count()));
        scene.store.record = None;
        let rest: Vec<_> = session.outbound.drain().collect();
        assert!(rest.iter().all(|row| !scene.store.rows[*row]) && rest.is_sorted());
        scene.epoch += 1;
    }

    pub(crate) fn crash(&mut self, scene: &mut Scene) {
        if self.process.take().is_none() {
            return;
        }
        scene.say(|| "crash".to_owned());
        scene.epoch += 1;
        for connection in 0..scene.connections.len() {
            if scene.connections[connection].leave(Side::Server) {
                scene.cut(connection);
            }
        }
        if !scene.registry_survives {
            scene.store.record = None;
        }
        let delay = scene.dice.mostly_small(3000 * MS);
        scene.after(delay, Event::Start);
    }

    pub(crate) fn start(&mut self, scene: &mut Scene) {
        scene.say(|| "start".to_owned());
        self.life += 1;
        self.process = Some(Process::default());
    }

    /// Does what the counters say is to be done.
    fn pump(&mut self, scene: &mut Scene) {
        let life = self.life;
        let Some(session) = self.session() else { return };
        let now = scene.instant();
        let Some(connection) = session.connection else { return };
        let mut out = Vec::new();
        let mut wake = None;
        loop {
            match session.inbound.next(now) {
                Next::Record(h) => {
                    let (delay, failed) = (scene.dice.mostly_small(20 * MS), scene.dice.chance(5));
                    scene.after(delay, Event::Recorded { life, session: session.id, h, failed });
                }
                Next::Announce(h) => nonza::write_answer(h, &mut out),
                Next::Wait(until) => {
                    wake = wake.into_iter().chain(until).min();
                    break;
                }
            }
        }
        match session.outbound.should_ask(now) {
            Ask::Now => nonza::write_request(&mut out),
            Ask::Wait(until) => wake = wake.into_iter().chain(until).min(),
        }
        scene.send(connection, Side::Client, &out);
        if let Some(wake) = wake.map(|wake| scene.micros(wake))
            && session.timer.is_none_or(|timer| wake < timer)
        {
            session.timer = Some(wake);
            scene.at(wake, Event::ServerTimer { life });
        }
    }

    pub(crate) fn settled(&mut self) {
        let session = self.session().expect("a session");
        assert!(session.outbound.is_empty() && session.inbound.unsafe_count() == 0 && session.again.is_empty());
    }
}

impl Process {
    fn commit_later(&mut self, life: u32, scene: &mut Scene) {
        if !self.committing && !self.journal.is_empty() {
            self.committing = true;
            // Now and then the database is away.
            let delay = if scene.dice.chance(10) { scene.dice.below(1500 * MS) } else { scene.dice.below(10 * MS) };
            scene.after(delay, Event::Commit { life });
        }
    }

    fn is_safe(&mut self, key: u64) {
        let Some(session) = &mut self.session else { return };
        if let Some(work) = session.window.iter_mut().chain(&mut session.again).find(|work| work.key == key) {
            work.safe = true;
        }
        session.safe();
    }
}

impl Session {
    fn new(id: u32, inbound: Inbound, outbound: Outbound<usize>) -> Self {
        Self {
            id,
            connection: None,
            detached: 0,
            inbound,
            outbound,
            window: VecDeque::new(),
            again: VecDeque::new(),
            timer: None,
        }
    }

    /// Tells the counter how far all is safe.
    fn safe(&mut self) {
        if let Some(last) = self.window.iter().take_while(|work| work.safe).last() {
            self.inbound.safe(last.number);
        }
    }

    /// What is recorded cannot come again.
    fn forget_recorded(&mut self) {
        let waiting = self.inbound.received_count().wrapping_sub(self.inbound.recorded_count()) as usize;
        self.window.drain(..self.window.len() - waiting);
    }

    /// What came behind the `h` that the client is told comes again.
    fn resumed(&mut self) -> u32 {
        self.forget_recorded();
        let mut again = std::mem::take(&mut self.window);
        again.append(&mut self.again);
        self.again = again;
        self.inbound.resumed()
    }

    fn send_rows(&mut self, scene: &mut Scene) {
        for row in 0..scene.store.rows.len() {
            if !scene.store.rows[row] {
                self.send_row(row, scene);
            }
        }
    }

    fn send_row(&mut self, row: usize, scene: &mut Scene) {
        let text = message(row);
        self.outbound.sent(row, text.len());
        // Without a connection it goes out when the session is resumed.
        if let Some(connection) = self.connection {
            scene.send(connection, Side::Client, text.as_bytes());
            let urgent = scene.dice.chance(30);
            self.outbound.wrote(urgent, scene.instant());
        }
    }
}

fn message(row: usize) -> String {
    format!("<message id='{row}'/>")
}
