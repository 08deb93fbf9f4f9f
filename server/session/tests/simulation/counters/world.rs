//! Time, chance, and what outlives a crash; and the checks that need to see both ends.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use super::{client::Client, server::Server, wire::Connection, wire::Side};
use crate::simulation::seeds::Dice;

/// Microseconds.
pub(crate) const MS: u64 = 1000;

/// When faults and new stanzas end.
const ACTIVE: u64 = 6000 * MS;

/// Far more than any life needs: one that goes on and on is stuck in a circle.
const MOST_EVENTS: u64 = 20_000;

#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes arrive.
    Piece {
        connection: usize,
        to: Side,
        bytes: Vec<u8>,
    },
    /// An end learns that its connection is gone.
    Noticed {
        connection: usize,
        side: Side,
    },
    /// The network fails.
    Cut,
    ClientConnects,
    ClientSends,
    /// The client wonders whether all it sent is safe.
    ClientAsks,
    /// The client answers an `<r/>`, with what it has handled by now.
    ClientAnswers {
        connection: usize,
    },
    /// There is a message for the client.
    Push,
    ServerTimer {
        life: u32,
    },
    /// The journal has written a group.
    Commit {
        life: u32,
    },
    /// The client of whoever a stanza was for has acknowledged it.
    RecipientHasIt {
        life: u32,
        key: u64,
    },
    /// The registry has answered.
    Recorded {
        life: u32,
        session: u32,
        h: u32,
        failed: bool,
    },
    /// The time for resuming is over.
    Expire {
        life: u32,
        session: u32,
        detached: u32,
    },
    Crash,
    Start,
}

/// What outlives the server's process.
#[derive(Default)]
pub(crate) struct Store {
    /// Stanzas of the client that are committed, or with their recipient's client: by their number.
    pub(crate) kept: Vec<bool>,
    /// Messages for the client: whether it has acknowledged them.
    pub(crate) rows: Vec<bool>,
    /// The session and the `h` that the registry holds.
    pub(crate) record: Option<(u32, u32)>,
}

/// What both ends share.
pub(crate) struct Scene {
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    pub(crate) connections: Vec<Connection>,
    /// What a connection's session began with, as far as the promises reach: see [`Scene::epoch`].
    pub(crate) epoch_of: Vec<u32>,
    pub(crate) store: Store,
    /// Grows when a session ends for good and when the server crashes. Within one epoch everything happens once and in
    /// order; what was not acknowledged may happen again in a later one.
    pub(crate) epoch: u32,
    /// Stanzas that the client has dropped, because it was told that they are safe.
    pub(crate) acknowledged: Vec<bool>,
    /// Where counts begin; near the end of the circle in some lives.
    pub(crate) base: u32,
    /// Whether the registry's record outlives the server's process.
    pub(crate) registry_survives: bool,
    start: Instant,
    trace: bool,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: Vec<Option<Event>>,
}

impl Scene {
    fn new(seed: u64, trace: bool) -> Self {
        let mut dice = Dice::new(seed);
        Self {
            now: 0,
            connections: Vec::new(),
            epoch_of: Vec::new(),
            store: Store::default(),
            epoch: 0,
            acknowledged: Vec::new(),
            base: if dice.chance(50) { 0 } else { u32::MAX - dice.below(30) as u32 },
            registry_survives: dice.chance(50),
            start: Instant::now(),
            trace,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            dice,
        }
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.queue.push(Reverse((time.max(self.now), self.events.len() as u64)));
        self.events.push(Some(event));
    }

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    fn next(&mut self) -> Option<Event> {
        let Reverse((time, event)) = self.queue.pop()?;
        self.now = time;
        self.events[event as usize].take()
    }

    pub(crate) fn instant(&self) -> Instant {
        self.start + Duration::from_micros(self.now)
    }

    pub(crate) fn micros(&self, instant: Instant) -> u64 {
        (instant - self.start).as_micros() as u64
    }

    pub(crate) fn send(&mut self, connection: usize, to: Side, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.say(|| format!("{connection} to {to:?}: {}", String::from_utf8_lossy(bytes)));
        for (time, bytes) in self.connections[connection].send(to, self.now, bytes, &mut self.dice) {
            self.at(time, Event::Piece { connection, to, bytes });
        }
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>10} {}", self.now, what());
        }
    }

    /// Cuts a connection; both ends learn of it at some time, the server perhaps much later.
    pub(crate) fn cut(&mut self, connection: usize) {
        self.say(|| format!("{connection} is cut"));
        self.connections[connection].cut(&mut self.dice);
        for (side, most) in [(Side::Client, 400 * MS), (Side::Server, 4000 * MS)] {
            let delay = self.dice.mostly_small(most);
            self.after(delay, Event::Noticed { connection, side });
        }
    }
}

/// One life from beginning to end.
pub(crate) fn live(seed: u64, trace: bool) {
    let mut scene = Scene::new(seed, trace);
    script(&mut scene);
    let (mut client, mut server) = (Client::new(scene.base), Server::default());
    let mut events = 0;
    while let Some(event) = scene.next() {
        events += 1;
        assert!(events < MOST_EVENTS, "it does not settle: {event:?}");
        match event {
            Event::Piece { connection, to, bytes } => {
                for element in scene.connections[connection].arrive(to, &bytes) {
                    match to {
                        Side::Client => client.read(connection, &element.as_raw(), &mut scene),
                        Side::Server => server.read(connection, &element.as_raw(), &mut scene),
                    }
                }
            }
            Event::Noticed { connection, side } => {
                if scene.connections[connection].leave(side) {
                    match side {
                        Side::Client => client.lost(connection, &mut scene),
                        Side::Server => server.lost(connection, &mut scene),
                    }
                }
            }
            Event::Cut => {
                if let Some(connection) = client.connection() {
                    scene.cut(connection);
                }
            }
            Event::ClientConnects => client.connect(server.is_up(), &mut scene),
            Event::ClientSends => client.send(&mut scene),
            Event::ClientAsks => client.ask(&mut scene),
            Event::ClientAnswers { connection } => client.answer(connection, &mut scene),
            Event::Push => server.push(&mut scene),
            Event::ServerTimer { life } => server.timer(life, &mut scene),
            Event::Commit { life } => server.commit(life, &mut scene),
            Event::RecipientHasIt { life, key } => server.recipient_has_it(life, key, &mut scene),
            Event::Recorded { life, session, h, failed } => server.recorded(life, session, h, failed, &mut scene),
            Event::Expire { life, session, detached } => server.expire(life, session, detached, &mut scene),
            Event::Crash => server.crash(&mut scene),
            Event::Start => server.start(&mut scene),
        }
    }
    client.settled();
    server.settled();
    assert!(scene.store.kept.iter().all(|kept| *kept), "all that was sent is kept");
    assert!(scene.acknowledged.iter().all(|acknowledged| *acknowledged), "and the client knows it");
    assert!(scene.store.rows.iter().all(|delivered| *delivered), "all rows are delivered, and the server knows it");
    client.has_all(scene.store.rows.len());
}

/// What happens from outside.
fn script(scene: &mut Scene) {
    scene.at(0, Event::ClientConnects);
    let [sends, pushes, cuts, crashes] = [24, 24, 5, 3].map(|most| scene.dice.below(most));
    // Half of the lives have no crash: in these everything happens exactly once, if no session expires.
    let crashes = if scene.dice.chance(50) { 0 } else { crashes };
    for (count, event) in [
        (sends + 1, (|| Event::ClientSends) as fn() -> Event),
        (pushes, || Event::Push),
        (cuts, || Event::Cut),
        (crashes, || Event::Crash),
    ] {
        let mut time = 0;
        for _ in 0..count {
            // Bursts are as likely as single ones.
            time = if scene.dice.chance(60) { scene.dice.below(ACTIVE) } else { time + scene.dice.below(3 * MS) };
            scene.at(time, event());
        }
    }
}
