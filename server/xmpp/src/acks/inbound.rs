//! The server's count of what its client sent.

use std::time::{Duration, Instant};

/// How long after `<r/>` the client is answered at the latest, with what is safe by then.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// The least time between two values that are recorded for one session, and so between two that are announced.
pub const ANNOUNCE_AT_MOST_EVERY: Duration = Duration::from_millis(50);

/// The server's count of what its client sent (XEP-0198 §4), and when to tell it.
///
/// A stanza is *received*, then *safe* (whatever dies, it is not lost), then its number is *recorded* where the next
/// owner of the session finds it, and only then *announced*. So an `h` that a client has seen never goes back.
///
/// Of any number of requests at most two numbers are remembered: the first that is to be answered and the last that was
/// asked for. Nothing here is on the heap.
#[derive(Clone, Debug)]
pub struct Inbound {
    // Announced ≤ recorded ≤ safe ≤ received, as distances modulo 2^32; the requests lie between announced and received.
    received: u32,
    safe: u32,
    recorded: u32,
    announced: u32,
    /// The number that the earliest request without an answer waits for; without meaning where `due` is `None`.
    first: u32,
    /// The number that the latest request waits for; without meaning in `Request::Idle`.
    last: u32,
    /// When the earliest request without an answer has to be answered.
    due: Option<Instant>,
    /// When a value was last given out to be recorded.
    recording_since: Option<Instant>,
    recording: bool,
    request: Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// All that the client asked for is announced.
    Idle,
    /// The client has asked, and had no answer yet.
    Waiting,
    /// The client had an answer that does not cover all it asked for: growth is announced unasked.
    Growing,
}

/// What is to be done about the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Write this `h` into the session's record, then call [`Inbound::recorded`] or [`Inbound::not_recorded`].
    Record(u32),
    /// Write `<a h/>` with this value. It counts as written.
    Announce(u32),
    /// Nothing, until something is called or, if there is one, until this time.
    Wait(Option<Instant>),
}

impl Default for Inbound {
    fn default() -> Self {
        Self::new()
    }
}

impl Inbound {
    /// As it is when the server writes `<enabled/>`: 0, which needs no record.
    #[must_use]
    pub const fn new() -> Self {
        Self::resume_at(0)
    }

    /// As it is after [`Inbound::resumed`], for a session whose owner died: `recorded` is what its record says.
    #[must_use]
    pub const fn resume_at(recorded: u32) -> Self {
        Self {
            received: recorded,
            safe: recorded,
            recorded,
            announced: recorded,
            first: recorded,
            last: recorded,
            due: None,
            recording_since: None,
            recording: false,
            request: Request::Idle,
        }
    }

    /// Counts one stanza and returns its number: 1 for the first one after `<enable/>`.
    pub const fn received(&mut self) -> u32 {
        self.received = self.received.wrapping_add(1);
        self.received
    }

    /// Everything up to and with this number is safe. A number that is covered already, and one that has not been
    /// received since the last [`Inbound::resumed`], changes nothing: what a client sends again has to be reported again.
    pub const fn safe(&mut self, number: u32) {
        if number.wrapping_sub(self.safe) <= self.received.wrapping_sub(self.safe) {
            self.safe = number;
        }
    }

    /// `<r/>` came. It is answered when all that was received before it is safe, after [`ANSWER_WITHIN`] at the latest
    /// with what is safe by then; growth is then announced unasked until all of it is. Requests that come meanwhile are
    /// answered together.
    pub fn requested(&mut self, now: Instant) {
        if self.due.is_none() {
            self.first = self.received;
            self.due = Some(now + ANSWER_WITHIN);
        }
        self.last = self.received;
        if self.request == Request::Idle {
            self.request = Request::Waiting;
        }
    }

    /// What to do now. To be called again until it says [`Next::Wait`], and after every other call.
    pub fn next(&mut self, now: Instant) -> Next {
        let covers = |number: u32, target: u32| self.ahead(number) >= self.ahead(target);
        let growing = match self.request {
            Request::Idle => return Next::Wait(None),
            Request::Waiting => false,
            Request::Growing => true,
        };
        let overdue = self.due.is_some_and(|due| now >= due);
        let answers = self.due.is_some() && covers(self.recorded, self.first);
        if answers || (growing && self.recorded != self.announced) {
            return self.announce();
        }
        let wanted = overdue || growing || covers(self.safe, self.first);
        let mut wait = self.due;
        if wanted && self.safe != self.recorded && !self.recording {
            match self.recording_since.map(|last| last + ANNOUNCE_AT_MOST_EVERY) {
                Some(next) if next > now => wait = Some(wait.map_or(next, |due| due.min(next))),
                _ => {
                    self.recording = true;
                    self.recording_since = Some(now);
                    return Next::Record(self.safe);
                }
            }
        }
        // The registry is away, or nothing became safe: the client hears what is known.
        if overdue { self.announce() } else { Next::Wait(wait) }
    }

    /// The session's record holds this `h`. One that is older than what it held before, or was never given out, changes
    /// nothing.
    pub const fn recorded(&mut self, h: u32) {
        self.recording = false;
        if h.wrapping_sub(self.recorded) <= self.safe.wrapping_sub(self.recorded) {
            self.recorded = h;
        }
    }

    /// The record could not be written: [`Inbound::next`] gives it out again, [`ANNOUNCE_AT_MOST_EVERY`] after the last
    /// time.
    pub const fn not_recorded(&mut self) {
        self.recording = false;
    }

    /// The stream is resumed: the `h` for `<resumed/>`, which is the highest one recorded. What came after it is counted
    /// anew as the client sends it again (§5), and requests of the old stream are forgotten.
    pub const fn resumed(&mut self) -> u32 {
        let since = self.recording_since;
        *self = Self::resume_at(self.recorded);
        self.recording_since = since;
        self.recorded
    }

    /// The number of the last stanza received.
    #[must_use]
    pub const fn received_count(&self) -> u32 {
        self.received
    }

    /// The number up to which all is safe.
    #[must_use]
    pub const fn safe_count(&self) -> u32 {
        self.safe
    }

    /// The number up to which the record says that all is safe.
    #[must_use]
    pub const fn recorded_count(&self) -> u32 {
        self.recorded
    }

    /// The last `h` that the client was told.
    #[must_use]
    pub const fn announced(&self) -> u32 {
        self.announced
    }

    /// How many stanzas were received and are not safe yet.
    #[must_use]
    pub const fn unsafe_count(&self) -> u32 {
        self.received.wrapping_sub(self.safe)
    }

    const fn ahead(&self, number: u32) -> u32 {
        number.wrapping_sub(self.announced)
    }

    fn announce(&mut self) -> Next {
        let done = self.ahead(self.recorded) >= self.ahead(self.last);
        self.announced = self.recorded;
        self.due = None;
        self.request = if done { Request::Idle } else { Request::Growing };
        Next::Announce(self.announced)
    }

    #[cfg(test)]
    pub(super) const fn is_consistent(&self) -> bool {
        self.ahead(self.recorded) <= self.ahead(self.safe) && self.ahead(self.safe) <= self.ahead(self.received)
    }
}
