//! A part's end of the router: hands an envelope to the sessions that it is for, wherever they live. Used by `session` (to
//! send) and by `c2s` (to receive).
//!
//! ```text
//!   sender's session                                              recipient's connection
//!   ────────────────                                              ──────────────────────
//!   deliver(records, envelope) ──┬─ this process ──► LocalLink: table ──► Mailbox ═══► Inbox ──► socket
//!                                │                                          ▲ (bounded: stanzas and bytes)
//!                                └─ others: RoutedLink ──► driver: Mesh ══► routers ══► Mesh of the other driver
//!              ◄── Handler: answered, settled, failed ◄──────────┘ (bounded per instance; numbered, sent again)
//! ```
//!
//! In one process the envelope goes straight into the recipient's queue; nothing is copied, and nobody waits. Between
//! processes it is written once into a batch with all that goes the same way. Nothing here waits: a queue at its bound is an
//! outcome, not a delay, so that one slow client or instance never holds up another.
//!
//! What belongs to whom between instances: `mesh` says what is sent by which router, `peer` what has to be said to one
//! instance, `window` numbers and repeats, `wire` writes and reads. All of them are state machines without sockets and
//! clock, and `simulation` runs them by thousands of seeds; `driver` and `attach` give them sockets.

mod attach;
mod discover;
mod driver;
mod envelope;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gathering;
mod item;
mod local;
mod mailbox;
mod mesh;
mod metrics;
mod paths;
mod peer;
mod routed;
#[cfg(test)]
mod simulation;
mod tracking;
mod window;
mod wire;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use prost::bytes::Bytes;
use smallvec::SmallVec;
use starling_registry::{InstanceId, SessionId, SessionRecord};
use starling_xmpp::{error::StreamError, jid::FullJid};

pub use crate::{
    discover::RouterAddress,
    envelope::Envelope,
    local::LocalLink,
    mailbox::{Bounds, Inbox, Parcel},
    mesh::Member,
    metrics::Metrics,
    routed::{Config, RoutedLink, Undriven},
    tracking::{Arrival, Entry, MOST_REMOTES, Origin, Settled, Standing, Tracking},
};

/// What became of an envelope, as far as its origin can know at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the recipient's queue, or on its way to the recipient's instance.
    Queued,
    /// No session has that full JID.
    NoSession,
    /// The recipient's queue, or the way to its instance, is at its bound, or, for a kept message, there are older ones for
    /// it in the store; the envelope was not taken.
    Full,
}

/// What became of an envelope that went to many sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// How many took it, or are being sent it.
    pub queued: usize,
    /// Some were at their bound.
    pub full: bool,
}

impl Delivery {
    /// The best of them.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self { queued: 0, full: true } => Outcome::Full,
            Self { queued: 0, full: false } => Outcome::NoSession,
            Self { .. } => Outcome::Queued,
        }
    }

    const fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Queued => self.queued += 1,
            Outcome::Full => self.full = true,
            Outcome::NoSession => {}
        }
    }
}

/// The other instances that are attached, this one among them.
pub type Members = BTreeMap<InstanceId, Member>;

/// A way to every session.
pub trait Link: Send + Sync + 'static {
    /// Hands `envelope` to a session of this process, by its full JID. A kept one is held before and let go after by the
    /// caller, unless it was taken.
    fn send_here(&self, full: &str, envelope: &Arc<Envelope>) -> Outcome;

    /// Whether sessions of this instance are sessions of this process.
    fn is_here(&self, instance: InstanceId) -> bool;

    /// Hands `envelope` to sessions of another instance, by their full JIDs.
    fn send_there(&self, instance: InstanceId, sessions: Sessions, envelope: &Arc<Envelope>) -> Outcome;

    /// Hands `envelope` to whoever speaks for another domain: a connection to its server, or a component.
    fn send_domain(&self, domain: &str, envelope: &Arc<Envelope>) -> Outcome;

    /// Rises when other instances return messages, once it is known here. Whoever decides where a message goes looks at it
    /// before it looks whether earlier ones have been returned: see [`Tracking::horizon`].
    fn horizon(&self) -> u64;

    /// Tells a session that messages for its account wait in the store. `false`: it is not attached.
    fn poke(&self, session: &SessionRecord) -> bool;

    /// Tells a session to end its stream with `error`. `false`: it is not attached (any more). Of another instance's
    /// nobody knows.
    fn close(&self, session: &SessionRecord, error: StreamError) -> bool;

    /// The sessions of this process, as far as it is known here what they are.
    fn here(&self) -> Vec<SessionRecord>;

    /// Makes the calling process the place of `full`, until [`Link::detach`].
    fn attach(&self, full: &FullJid, id: SessionId, bounds: Bounds) -> Inbox;

    /// Ends what `attach` began. Does nothing if another session has taken the full JID since.
    fn detach(&self, full: &FullJid, id: SessionId);

    /// Says what became of a kept message that came from another instance. `false`: that one is no more, and whoever held
    /// the message has to settle its row.
    fn report(&self, envelope: &Arc<Envelope>, acknowledged: bool) -> bool;

    /// Asks another instance something, which its [`Handler`] answers. `None`: it does not, or not in time.
    fn request(&self, instance: InstanceId, content: Bytes, within: Duration) -> BoxFuture<'static, Option<Bytes>>;

    /// Tells another instance something.
    fn notify(&self, instance: InstanceId, content: Bytes);

    /// Who is there.
    fn members(&self) -> Arc<Members>;

    /// Instances that were there and are not attached to any router of ours now, and since when. Nothing while this
    /// process has no router itself.
    fn absent(&self) -> Vec<(InstanceId, Instant)>;

    /// An instance is no more, for good: the caller has revoked it.
    fn end(&self, instance: InstanceId);

    /// Whether an instance is known to be no more.
    fn is_gone(&self, instance: InstanceId) -> bool;

    /// Hands `envelope` to sessions, wherever they are: one batch entry per instance, however many of its sessions get it.
    /// A kept one is held by all who take it; its entry has to let go itself, when this has returned.
    fn deliver(&self, to: &mut dyn Iterator<Item = &SessionRecord>, envelope: &Arc<Envelope>) -> Delivery {
        let mut delivery = Delivery::default();
        let mut remotes: SmallVec<[(InstanceId, Vec<&FullJid>); 2]> = SmallVec::new();
        for record in to {
            if self.is_here(record.instance) {
                if let Some(tracking) = &envelope.tracking {
                    tracking.hold();
                }
                let outcome = self.send_here(record.full.as_str(), envelope);
                if let Some(tracking) = &envelope.tracking
                    && outcome != Outcome::Queued
                {
                    tracking.release();
                }
                delivery.add(outcome);
                continue;
            }
            match remotes.iter_mut().find(|(instance, _)| *instance == record.instance) {
                Some((_, sessions)) => sessions.push(&record.full),
                None => remotes.push((record.instance, vec![&record.full])),
            }
        }
        if remotes.is_empty() {
            return delivery;
        }
        if let Some(tracking) = &envelope.tracking {
            // What is more than can be told apart gets it from the store.
            delivery.full |= remotes.len() > MOST_REMOTES;
            remotes.truncate(MOST_REMOTES);
            tracking.hold_at(remotes.iter().map(|(instance, _)| *instance));
        }
        for (instance, sessions) in remotes {
            let count = sessions.len();
            let outcome = self.send_there(instance, Sessions::of(&sessions, envelope), envelope);
            if outcome == Outcome::Queued {
                delivery.queued += count;
                continue;
            }
            delivery.add(outcome);
            if let Some(tracking) = &envelope.tracking {
                tracking.let_go_at(instance, false);
                tracking.answered();
            }
        }
        delivery
    }
}

/// Sessions of one other instance.
#[derive(Clone, Debug)]
pub struct Sessions(item::Addressees);

impl Sessions {
    /// By their full JIDs.
    #[must_use]
    pub fn of(sessions: &[&FullJid], envelope: &Envelope) -> Self {
        match (sessions, &envelope.to) {
            ([one], Some(to)) if one.as_str() == to.as_str() => Self(item::Addressees::To),
            _ => Self(item::Addressees::Sessions(sessions.iter().map(|full| full.as_str().into()).collect())),
        }
    }
}

/// Hears what comes out of the link that is for no session in particular. Called by the link's own task: nothing may wait.
pub trait Handler: Send + Sync + 'static {
    /// All other instances that a kept message was sent to have said whether they took it: its row can be written.
    fn answered(&self, envelope: &Arc<Envelope>);

    /// Another instance let go of a kept message, and this is to be done.
    fn settled(&self, envelope: &Arc<Envelope>, settled: Settled);

    /// A stanza that nobody keeps did not arrive, or nobody knows whether it did.
    fn failed(&self, envelope: &Arc<Envelope>);

    /// A stanza that nobody keeps came from another instance for a session here that did not take it.
    fn undelivered(&self, from: InstanceId, envelope: &Arc<Envelope>, outcome: Outcome);

    /// What became of a kept message could not be told where it entered, for that instance is no more: its row is to be
    /// settled here. `acknowledged`: a client has it.
    fn orphaned(&self, envelope: &Arc<Envelope>, acknowledged: bool);

    /// A message that was copied came from another instance.
    fn copied(&self, envelope: &Envelope);

    /// Another instance asks something: the answer. `None`: it is not answered.
    fn request(&self, from: InstanceId, content: Bytes) -> BoxFuture<'static, Option<Bytes>>;

    /// Another instance tells something.
    fn notified(&self, from: InstanceId, content: Bytes);
}
