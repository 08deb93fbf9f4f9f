//! Everything that happened, in the order in which it did.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// A message, by whom it is from, to whom, and which of those it is. Its `id` and the beginning of its body are this as
/// text, also when it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// The sender's number.
    pub from: u32,
    /// The recipient's number.
    pub to: u32,
    /// Counts this pair's messages in this direction, from 0.
    pub sequence: u32,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chaos-{}-{}-{}", self.from, self.to, self.sequence)
    }
}

/// No message's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a message")]
pub struct NoMessage;

impl FromStr for Message {
    type Err = NoMessage;

    fn from_str(text: &str) -> Result<Self, NoMessage> {
        let mut parts = text.split('-');
        if parts.next() != Some("chaos") {
            return Err(NoMessage);
        }
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(NoMessage);
        let message = Self { from: number()?, to: number()?, sequence: number()? };
        if parts.next().is_none() { Ok(message) } else { Err(NoMessage) }
    }
}

/// A stream management session, from `<enabled/>` on and over all its resumptions. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u32);

/// What carried an `h` to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeardBy {
    /// `<a/>`.
    Answer,
    /// `<resumed/>`.
    Resumed,
    /// `<failed/>`, if it has an `h` (XEP-0198 §5).
    Failed,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client dropped it.
    Cut,
    /// The client reads no more from it and leaves it open, as a network does that is gone.
    Hung,
    /// The client closed the stream, and with it the session.
    Closed,
    /// It ended by what is said here.
    Broken(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server is there.
    Started,
    /// `kill -9`; noted right before.
    Killed,
    /// The server was asked to stop.
    Terminated,
    /// Something else was done to what is tested.
    Blow(String),
    /// From here on the server's files are as is said here.
    FaultBegins(&'static str),
    /// They are as they should be again.
    FaultEnds,
    /// A resource was bound.
    Bound {
        /// If stream management was enabled.
        session: Option<Session>,
    },
    /// A session was resumed.
    Resumed {
        /// Which.
        session: Session,
    },
    /// `<failed/>` instead.
    Refused {
        /// Which is over.
        session: Session,
        /// The condition.
        condition: String,
    },
    /// A connection ended.
    Gone(End),
    /// A stanza that is no message was sent.
    Said {
        /// In which session.
        session: Session,
        /// The client's count with it.
        n: u32,
    },
    /// A message is about to be sent.
    Sent {
        /// Which.
        message: Message,
        /// In which session, with the client's count; none without stream management.
        place: Option<(Session, u32)>,
        /// 0 at first; more when the session that it was sent in before was over.
        copy: u32,
    },
    /// A message is about to be sent again in its place, after a resumption.
    Replayed {
        /// Which.
        message: Message,
        /// Its place.
        place: (Session, u32),
    },
    /// The server counted what the client had sent.
    Heard {
        /// In which session.
        session: Session,
        /// How many.
        h: u32,
        /// What said so.
        by: HeardBy,
    },
    /// The client is about to tell how much it has received, or had told it in `<resume/>` and was resumed.
    Counted {
        /// In which session.
        session: Session,
        /// How many stanzas.
        h: u32,
    },
    /// A message came.
    Received {
        /// Which.
        message: Message,
        /// In which session, with the count of what the client received in it.
        place: Option<(Session, u32)>,
        /// XEP-0359, by the recipient's account.
        stanza_id: Option<String>,
        /// It came with a time (XEP-0203).
        delayed: bool,
        /// The resource was bound, and its presence had not come back yet.
        early: bool,
    },
    /// A message came back as an error.
    Returned {
        /// Which.
        message: Message,
        /// The error's type and condition.
        error: String,
    },
    /// The client's end of the run.
    Settled {
        /// Why it did not come to rest, if it did not.
        stuck: Option<String>,
    },
    /// What never may happen.
    Trouble(String),
}

/// When, to whom, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Since the run began.
    pub at: Duration,
    /// The user's number; none: the server.
    pub user: Option<u32>,
    /// What.
    pub event: Event,
}

/// The journal of a run. Shared by all its clients.
#[derive(Debug)]
pub struct Journal {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
    sessions: AtomicU32,
}

impl Default for Journal {
    fn default() -> Self {
        Self { began: Instant::now(), entries: Mutex::default(), sessions: AtomicU32::new(0) }
    }
}

impl Journal {
    /// Notes what happens now.
    pub fn note(&self, user: Option<u32>, event: Event) {
        let mut entries = self.lock();
        // Read under the lock: the entries' times never go back.
        let at = self.began.elapsed();
        entries.push(Entry { at, user, event });
    }

    /// A number for a new session.
    pub fn session(&self) -> Session {
        Session(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing happened yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at what came since there were `from` entries.
    pub fn look<T>(&self, from: usize, look: impl FnOnce(&[Entry]) -> T) -> T {
        look(self.lock().get(from..).unwrap_or_default())
    }

    /// All of it.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// Since the run began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        // Whoever panicked while it held the lock had either pushed its entry or not.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} ", self.at.as_secs_f64())?;
        match self.user {
            Some(user) => write!(f, "user{user:<4} ")?,
            None => write!(f, "server   ")?,
        }
        let place = |place: &Option<(Session, u32)>| match place {
            Some((Session(session), n)) => format!("session {session}, n {n}"),
            None => "without XEP-0198".to_owned(),
        };
        match &self.event {
            Event::Started => write!(f, "started"),
            Event::Killed => write!(f, "KILLED"),
            Event::Blow(what) => write!(f, "{what}"),
            Event::Terminated => write!(f, "TERMINATED"),
            Event::FaultBegins(what) => write!(f, "FAULT: {what}"),
            Event::FaultEnds => write!(f, "FAULT over"),
            Event::Bound { session: Some(session) } => write!(f, "bound, session {}", session.0),
            Event::Bound { session: None } => write!(f, "bound, without XEP-0198"),
            Event::Resumed { session } => write!(f, "resumed session {}", session.0),
            Event::Refused { session, condition } => write!(f, "session {} not resumed: {condition}", session.0),
            Event::Gone(end) => write!(f, "connection ends: {end:?}"),
            Event::Said { session, n } => write!(f, "-> no message, session {}, n {n}", session.0),
            Event::Sent { message, place: at, copy: 0 } => write!(f, "-> {message}, {}", place(at)),
            Event::Sent { message, place: at, copy } => write!(f, "-> {message} AGAIN ({copy}), {}", place(at)),
            Event::Replayed { message, place: at } => write!(f, "-> {message} replayed, {}", place(&Some(*at))),
            Event::Heard { session, h, by } => write!(f, "<- h {h} by {by:?}, session {}", session.0),
            Event::Counted { session, h } => write!(f, "-> h {h}, session {}", session.0),
            Event::Received { message, place: at, stanza_id, delayed, early } => {
                let id = stanza_id.as_deref().unwrap_or("no stanza-id");
                let delayed = if *delayed { ", delayed" } else { "" };
                let early = if *early { ", early" } else { "" };
                write!(f, "<- {message}, {}, {id}{delayed}{early}", place(at))
            }
            Event::Returned { message, error } => write!(f, "<- {message} as an error: {error}"),
            Event::Settled { stuck: None } => write!(f, "at rest"),
            Event::Settled { stuck: Some(why) } => write!(f, "STUCK: {why}"),
            Event::Trouble(what) => write!(f, "TROUBLE: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_messages_name_is_read_as_it_is_written_and_nothing_else_is() {
        let message = Message { from: 12, to: 3, sequence: 456 };
        assert_eq!(message.to_string().parse(), Ok(message));
        for other in ["", "chaos", "chaos-1-2", "chaos-1-2-3-4", "chaos-1-2-x", "order-1-2-3", "chaos-1--2"] {
            assert_eq!(other.parse::<Message>(), Err(NoMessage), "{other}");
        }
    }

    #[test]
    fn the_journals_times_never_go_back() {
        let journal = Journal::default();
        std::thread::scope(|scope| {
            for user in 0..4 {
                let journal = &journal;
                scope.spawn(move || (0..500).for_each(|_| journal.note(Some(user), Event::Started)));
            }
        });
        assert_eq!(journal.len(), 2000);
        assert!(journal.entries().is_sorted_by_key(|entry| entry.at));
        assert!((0..100).map(|_| journal.session()).is_sorted_by(|a, b| a < b));
    }
}
