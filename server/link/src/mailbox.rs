//! The queue between those who send to a session and the connection that writes to its client.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use starling_registry::SessionId;
use starling_xmpp::{
    error::StreamError,
    stanza::{IqType, Kind, PresenceType},
};
use tokio::sync::mpsc;

use crate::{Envelope, Outcome};

/// How much may wait for one client. What comes on top is refused ([`Outcome::Full`]), and its sender is told, or it is
/// kept in the store until the client has caught up.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Stanzas that wait, 1 or more, in the queue and with the connection ([`Inbox::left`]).
    pub stanzas: usize,
    /// Bytes that wait, likewise. The stanza that goes over it is still taken.
    pub bytes: usize,
}

/// What comes out of an [`Inbox`].
#[derive(Clone, Debug)]
pub enum Parcel {
    /// A stanza for the client.
    Stanza(Arc<Envelope>),
    /// A mere wake-up: [`Inbox::closing`] has become `Some`, or [`Inbox::has_backlog`] true.
    Wake,
}

/// The senders' end.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) id: SessionId,
    /// Unbounded by itself: `State` counts what is in it, and wake-ups are one of a kind at a time.
    queue: mpsc::UnboundedSender<Option<Arc<Envelope>>>,
    state: Arc<State>,
}

/// The connection's end: one per session, read by the task that writes to the client.
#[derive(Debug)]
pub struct Inbox {
    queue: mpsc::UnboundedReceiver<Option<Arc<Envelope>>>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    stanzas: AtomicUsize,
    bytes: AtomicUsize,
    bounds: Bounds,
    /// Whether kept messages for this session are, or may be, in the store: newer ones must not overtake them, and go
    /// there too. One of the three below.
    backlog: AtomicU8,
    /// Presence was refused.
    missed_presence: AtomicBool,
    closing: OnceLock<StreamError>,
}

/// As many times as many may wait, if they are answers; their bytes count like all others.
const ANSWERS: usize = 4;

/// There are none.
const NO_BACKLOG: u8 = 0;
/// The store is being asked, and nobody has said since that there are more.
const FETCHING: u8 = 1;
/// The store is to be asked.
const BACKLOG: u8 = 2;

impl State {
    /// Makes room for one more stanza. Counted before it is queued: the reader may be through with it before the sender
    /// returns.
    fn admit(&self, bytes: usize, stanzas: usize) -> bool {
        if self.stanzas.fetch_add(1, Ordering::Relaxed) >= stanzas {
            self.stanzas.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) >= self.bounds.bytes {
            self.left(1, bytes);
            return false;
        }
        true
    }

    fn left(&self, stanzas: usize, bytes: usize) {
        self.stanzas.fetch_sub(stanzas, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[allow(clippy::disallowed_methods, reason = "`State` bounds it, with what its reader has not written yet")]
pub(crate) fn mailbox(id: SessionId, bounds: Bounds) -> (Mailbox, Inbox) {
    // `Option<Arc<_>>` is one pointer wide: the channel keeps a block of slots for every idle session.
    let (sender, receiver) = mpsc::unbounded_channel();
    let bounds = Bounds { stanzas: bounds.stanzas.max(1), bytes: bounds.bytes };
    let state = Arc::new(State {
        stanzas: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        bounds,
        backlog: AtomicU8::new(NO_BACKLOG),
        missed_presence: AtomicBool::new(false),
        closing: OnceLock::new(),
    });
    (Mailbox { id, queue: sender, state: Arc::clone(&state) }, Inbox { queue: receiver, state })
}

impl Mailbox {
    pub(crate) fn send(&self, envelope: &Arc<Envelope>) -> Outcome {
        let kept = envelope.tracking.is_some();
        if kept && self.state.backlog.load(Ordering::Acquire) != NO_BACKLOG {
            return Outcome::Full;
        }
        let size = envelope.stanza.len();
        let stanzas = match envelope.kind {
            // Somebody waits for it who has asked, and asks nothing more of the queue.
            Kind::Iq(IqType::Result | IqType::Error) => ANSWERS * self.state.bounds.stanzas,
            Kind::Message(_) | Kind::Presence(_) | Kind::Iq(_) => self.state.bounds.stanzas,
        };
        if !self.state.admit(size, stanzas) {
            if kept && !self.queue.is_closed() {
                self.poke();
            }
            if let Kind::Presence(PresenceType::Available | PresenceType::Unavailable) = envelope.kind {
                self.state.missed_presence.store(true, Ordering::Release);
            }
            return Outcome::Full;
        }
        if self.queue.send(Some(Arc::clone(envelope))).is_err() {
            self.state.left(1, size);
            return Outcome::NoSession;
        }
        Outcome::Queued
    }

    /// Says that kept messages for the session are in the store. They go before whatever is sent from now on.
    pub(crate) fn poke(&self) {
        if self.state.backlog.swap(BACKLOG, Ordering::AcqRel) == NO_BACKLOG {
            self.queue.send(None).ok();
        }
    }

    /// The first reason given stands.
    pub(crate) fn close(&self, error: StreamError) {
        if self.state.closing.set(error).is_ok() {
            self.queue.send(None).ok();
        }
    }
}

impl Inbox {
    /// The next parcel. `None`: every sender is gone.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Parcel>> {
        self.queue.poll_recv(cx).map(|item| item.map(|stanza| stanza.map_or(Parcel::Wake, Parcel::Stanza)))
    }

    /// The next parcel if one is there.
    pub fn try_recv(&mut self) -> Option<Parcel> {
        self.queue.try_recv().ok().map(|item| item.map_or(Parcel::Wake, Parcel::Stanza))
    }

    /// Nobody sends any more: whoever tries is told that there is no session. What is in the queue can still be taken.
    pub fn close(&mut self) {
        self.queue.close();
    }

    /// Counts a stanza that did not come through the queue, but waits for the client like one that did.
    pub fn took(&self, bytes: usize) {
        self.state.stanzas.fetch_add(1, Ordering::Relaxed);
        self.state.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says that stanzas no longer wait for the client, and makes room for more: they were written, or acknowledged if
    /// the client acknowledges (XEP-0198).
    pub fn left(&self, stanzas: usize, bytes: usize) {
        self.state.left(stanzas, bytes);
    }

    /// Whether less than half of what may wait does.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let bounds = self.state.bounds;
        self.state.stanzas.load(Ordering::Relaxed) <= bounds.stanzas / 2
            && self.state.bytes.load(Ordering::Relaxed) <= bounds.bytes / 2
    }

    /// Whether presence was refused since this was asked last: what is so by now is to be told anew.
    #[must_use]
    pub fn has_missed_presence(&self) -> bool {
        self.state.missed_presence.load(Ordering::Acquire) && self.state.missed_presence.swap(false, Ordering::AcqRel)
    }

    /// Presence may have been missed before the session came here.
    pub fn miss_presence(&self) {
        self.state.missed_presence.store(true, Ordering::Release);
    }

    /// Whether kept messages wait in the store. Until [`Inbox::end_backlog`], newer ones go there too.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.state.backlog.load(Ordering::Acquire) != NO_BACKLOG
    }

    /// The store is about to be asked. Call it when the queue is empty: what is in the store comes after what is in the
    /// queue.
    pub fn begin_backlog(&self) {
        self.state.backlog.store(FETCHING, Ordering::Release);
    }

    /// There is nothing more in the store: kept messages come through the queue again, unless somebody has said since
    /// [`Inbox::begin_backlog`] that there is more.
    pub fn end_backlog(&self) {
        self.state.backlog.compare_exchange(FETCHING, NO_BACKLOG, Ordering::AcqRel, Ordering::Acquire).ok();
    }

    /// There is, or may be, more in the store than was fetched.
    pub fn renew_backlog(&self) {
        self.state.backlog.store(BACKLOG, Ordering::Release);
    }

    /// Why the session is to end, once somebody said so.
    #[must_use]
    pub fn closing(&self) -> Option<&StreamError> {
        self.state.closing.get()
    }
}
