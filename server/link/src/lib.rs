//! A part's end of the router: hands an envelope to the session that a full JID names, wherever it lives.
//!
//! Used by `session` (to send) and by `c2s` (to receive). In one process the envelope goes straight into the
//! recipient's queue; nothing is copied, and nobody waits.
//!
//! ```text
//!   sender's session                                    recipient's connection
//!   ────────────────                                    ──────────────────────
//!   send(full JID, envelope) ──► table ──► Mailbox ═══════════► Inbox ──► socket
//!            ◄── outcome                    (bounded: stanzas and bytes)
//! ```

mod envelope;
mod local;
mod mailbox;

use std::sync::Arc;

use starling_registry::SessionId;
use starling_xmpp::{error::StreamError, jid::FullJid};

pub use crate::{
    envelope::Envelope,
    local::LocalLink,
    mailbox::{Bounds, Inbox, Parcel},
};

/// What became of an envelope, as far as its origin can know at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the recipient's queue.
    Queued,
    /// No session has that full JID.
    NoSession,
    /// The recipient's queue is at its bound; the envelope was not taken.
    Full,
}

/// A way to every session. Nothing here waits: a queue at its bound is an outcome, not a delay, so that one slow
/// client never holds up another.
pub trait Link: Send + Sync + 'static {
    /// Hands `envelope` to the session bound to the full JID `target`. The same envelope may go to many targets.
    fn send(&self, target: &str, envelope: &Arc<Envelope>) -> Outcome;

    /// Makes the calling process the place of `full`, until [`Link::detach`].
    fn attach(&self, full: &FullJid, id: SessionId, bounds: Bounds) -> Inbox;

    /// Ends what `attach` began. Does nothing if another session has taken the full JID since.
    fn detach(&self, full: &FullJid, id: SessionId);

    /// Tells a session to end its stream with `error`. `false`: it is not attached (any more).
    fn close(&self, full: &FullJid, id: SessionId, error: StreamError) -> bool;
}
