//! The queue between those who send to a session and the connection that writes to its client.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use starling_registry::SessionId;
use starling_xmpp::error::StreamError;
use tokio::sync::mpsc;

use crate::{Envelope, Outcome};

/// How much may wait for one client. What comes on top is refused ([`Outcome::Full`]), and its sender is told.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Stanzas that wait, 1 or more.
    pub stanzas: usize,
    /// Bytes that wait, in queue and on their way into the socket. The stanza that goes over it is still taken.
    pub bytes: usize,
}

/// What comes out of an [`Inbox`].
#[derive(Clone, Debug)]
pub enum Parcel {
    /// A stanza for the client.
    Stanza(Arc<Envelope>),
    /// A mere wake-up: [`Inbox::closing`] has become `Some`.
    Close,
}

/// The senders' end.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) id: SessionId,
    queue: mpsc::Sender<Option<Arc<Envelope>>>,
    state: Arc<State>,
}

/// The connection's end.
#[derive(Debug)]
pub struct Inbox {
    queue: mpsc::Receiver<Option<Arc<Envelope>>>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    bytes: AtomicUsize,
    limit: usize,
    closing: OnceLock<StreamError>,
}

pub(crate) fn mailbox(id: SessionId, bounds: Bounds) -> (Mailbox, Inbox) {
    // `Option<Arc<_>>` is one pointer wide: the channel keeps a block of slots for every idle session.
    let (sender, receiver) = mpsc::channel(bounds.stanzas.max(1));
    let state = Arc::new(State { bytes: AtomicUsize::new(0), limit: bounds.bytes, closing: OnceLock::new() });
    (Mailbox { id, queue: sender, state: Arc::clone(&state) }, Inbox { queue: receiver, state })
}

impl Mailbox {
    pub(crate) fn send(&self, envelope: &Arc<Envelope>) -> Outcome {
        // Counted before it is queued: the reader may be through with it before this function returns.
        let size = envelope.stanza.len();
        if self.state.bytes.fetch_add(size, Ordering::Relaxed) >= self.state.limit {
            self.state.bytes.fetch_sub(size, Ordering::Relaxed);
            return Outcome::Full;
        }
        match self.queue.try_send(Some(Arc::clone(envelope))) {
            Ok(()) => Outcome::Queued,
            Err(refused) => {
                self.state.bytes.fetch_sub(size, Ordering::Relaxed);
                match refused {
                    mpsc::error::TrySendError::Full(_) => Outcome::Full,
                    mpsc::error::TrySendError::Closed(_) => Outcome::NoSession,
                }
            }
        }
    }

    /// The first reason given stands. A full queue needs no wake-up: its reader is not asleep for long.
    pub(crate) fn close(&self, error: StreamError) {
        if self.state.closing.set(error).is_ok() {
            self.queue.try_send(None).ok();
        }
    }
}

impl Inbox {
    /// The next parcel. `None`: every sender is gone.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Parcel>> {
        self.queue.poll_recv(cx).map(|item| item.map(|stanza| stanza.map_or(Parcel::Close, Parcel::Stanza)))
    }

    /// The next parcel if one is there.
    pub fn try_recv(&mut self) -> Option<Parcel> {
        self.queue.try_recv().ok().map(|item| item.map_or(Parcel::Close, Parcel::Stanza))
    }

    /// Says that `bytes` of received stanzas have left for the socket, and makes room for more.
    pub fn written(&self, bytes: usize) {
        self.state.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Why the session is to end, once somebody said so.
    #[must_use]
    pub fn closing(&self) -> Option<&StreamError> {
        self.state.closing.get()
    }
}
