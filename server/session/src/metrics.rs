//! The accounting of stanzas: each one that comes in ends in exactly one counter.

use prometheus::{IntCounter, IntGauge, Registry};
use starling_metrics::Register as _;
use starling_xmpp::stanza::Kind;

use crate::deliver::Silence;

/// How a stanza from a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// In the queue of at least one recipient.
    Delivered,
    /// Kept for its recipient, who was not there.
    Stored,
    /// Taken by the server, which answered it or acted on it.
    Answered,
    /// Sent back as an error.
    Refused,
    /// The stream ended because of it.
    StreamEnded,
    /// Nobody waits for it: an error or a result without a recipient.
    DroppedNobodyWaits,
    /// A headline or presence that nobody was there for.
    DroppedUnattended,
    /// Presence that did not fit into its recipient's queue.
    DroppedFull,
}

impl Fate {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Delivered, "delivered"),
        (Self::Stored, "stored"),
        (Self::Answered, "answered"),
        (Self::Refused, "refused"),
        (Self::StreamEnded, "stream_ended"),
        (Self::DroppedNobodyWaits, "dropped_nobody_waits"),
        (Self::DroppedUnattended, "dropped_unattended"),
        (Self::DroppedFull, "dropped_full"),
    ];
}

impl From<Silence> for Fate {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::NobodyWaits => Self::DroppedNobodyWaits,
            Silence::Unattended => Self::DroppedUnattended,
        }
    }
}

const KINDS: [&str; 4] = ["message", "presence", "iq", "other"];

/// What `session` counts.
#[derive(Debug)]
pub struct Metrics {
    // Resolved once, so that counting is one atomic addition.
    received: [IntCounter; KINDS.len()],
    fates: [[IntCounter; Fate::ALL.len()]; KINDS.len()],
    /// Resources bound now.
    pub sessions: IntGauge,
    /// Resources bound since the start.
    pub bound: IntCounter,
    /// Sessions that lost their resource to a newer one.
    pub replaced: IntCounter,
    /// Messages whose senders were told that they could not be kept.
    pub not_kept: IntCounter,
    /// What stanzas began and do not wait for.
    pub(crate) later: IntGauge,
}

impl Metrics {
    /// Registers everything with `registry`.
    ///
    /// # Errors
    /// If a name is taken there.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let received = registry.counters(
            "starling_stanzas_received_total",
            "Stanzas received from clients with a bound resource.",
            &["kind"],
        )?;
        let fates = registry.counters(
            "starling_stanzas_total",
            "How the stanzas received from clients ended; over all outcomes it equals starling_stanzas_received_total.",
            &["kind", "outcome"],
        )?;
        Ok(Self {
            received: KINDS.map(|kind| received.with_label_values(&[kind])),
            fates: KINDS.map(|kind| Fate::ALL.map(|(_, name)| fates.with_label_values(&[kind, name]))),
            sessions: registry.gauge("starling_sessions", "Resources bound now.")?,
            bound: registry.counter("starling_sessions_bound_total", "Resources bound since the start.")?,
            replaced: registry.counter(
                "starling_sessions_replaced_total",
                "Sessions that lost their resource to a newer session (RFC 6120 section 7.7.2.2).",
            )?,
            not_kept: registry.counter(
                "starling_messages_not_kept_total",
                "Messages that the database did not take in time; their senders got an error.",
            )?,
            later: registry.gauge(
                "starling_session_later",
                "What stanzas began and do not wait for: look-ups, changes that are told to sessions.",
            )?,
        })
    }

    /// Counts a stanza that came in. `None`: it is none of the three kinds, or not even that could be told.
    pub(crate) fn received(&self, kind: Option<Kind>) {
        if let Some(counter) = self.received.get(index(kind)) {
            counter.inc();
        }
    }

    /// Counts how a stanza ended.
    pub(crate) fn ended(&self, kind: Option<Kind>, fate: Fate) {
        let counters = self.fates.get(index(kind));
        if let Some(counter) = counters.and_then(|fates| fates.get(fate as usize)) {
            counter.inc();
        }
    }
}

fn index(kind: Option<Kind>) -> usize {
    match kind {
        Some(Kind::Message(_)) => 0,
        Some(Kind::Presence(_)) => 1,
        Some(Kind::Iq(_)) => 2,
        None => 3,
    }
}
