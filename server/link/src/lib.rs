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
mod tracking;

use std::sync::Arc;

use starling_registry::SessionId;
use starling_xmpp::{error::StreamError, jid::FullJid};

pub use crate::{
    envelope::Envelope,
    local::LocalLink,
    mailbox::{Bounds, Inbox, Parcel},
    tracking::{Entry, Settled, Standing, Tracking},
};

/// What became of an envelope, as far as its origin can know at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the recipient's queue.
    Queued,
    /// No session has that full JID.
    NoSession,
    /// The recipient's queue is at its bound, or, for a kept message, there are older ones for it in the store; the
    /// envelope was not taken.
    Full,
}

/// A way to every session. Nothing here waits: a queue at its bound is an outcome, not a delay, so that one slow
/// client never holds up another.
pub trait Link: Send + Sync + 'static {
    /// Hands `envelope` to the session bound to the full JID `target`. The same envelope may go to many targets.
    fn send(&self, target: &str, envelope: &Arc<Envelope>) -> Outcome;

    /// Hands `envelope` to whoever speaks for another domain: a connection to its server, or a component.
    fn send_domain(&self, domain: &str, envelope: &Arc<Envelope>) -> Outcome;

    /// Tells a session that messages for its account wait in the store. `false`: it is not attached.
    fn poke(&self, full: &FullJid, id: SessionId) -> bool;

    /// Makes the calling process the place of `full`, until [`Link::detach`].
    fn attach(&self, full: &FullJid, id: SessionId, bounds: Bounds) -> Inbox;

    /// Ends what `attach` began. Does nothing if another session has taken the full JID since.
    fn detach(&self, full: &FullJid, id: SessionId);

    /// Tells a session to end its stream with `error`. `false`: it is not attached (any more).
    fn close(&self, full: &FullJid, id: SessionId, error: StreamError) -> bool;
}
