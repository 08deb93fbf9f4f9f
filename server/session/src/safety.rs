//! A session as its connection sees it: what of the client's stanzas is safe, and what waits for the client.

use std::{sync::Arc, task::Waker, time::Instant};

use starling_link::{Envelope, Inbox};
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::{Jid, bare_str},
    stanza::{IqType, Kind, Stanza},
};
use tracing::warn;

use crate::{
    Service, Session,
    keeping::{Kept, KeptChange},
    ledger::Due,
    offline,
};

/// Messages that are fetched from the store at once.
const FETCHED: u32 = 100;
/// Their bytes, likewise; one that is larger comes alone.
const FETCHED_BYTES: usize = 256 * 1024;

impl Session {
    /// What all sessions of the process share.
    #[must_use]
    pub const fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Stanzas that were handled.
    #[must_use]
    pub const fn handled(&self) -> u64 {
        self.ledger.count()
    }

    /// Of them, how many from the first on are safe: in rows, with their recipients' clients, or answered.
    #[must_use]
    pub fn safe(&self) -> u64 {
        self.ledger.safe()
    }

    /// Whether everything that was handled is safe.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ledger.is_empty()
    }

    /// Does one thing that is due for messages that are not safe. `true`: there may be more; at most one stanza was
    /// appended to `out`, which tells the client that a message could not be kept (portable form).
    pub fn tend(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        match self.ledger.next(now) {
            None => false,
            Some(Due::Journal(envelope)) => {
                let change = KeptChange::Entered { sent: true };
                if self.service.keep(Kept { envelope: Arc::clone(&envelope), change }).is_ok() {
                    self.ledger.journaled(&envelope);
                }
                true
            }
            Some(Due::Failed(envelope)) => {
                self.service.metrics().not_kept.inc();
                let error = StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorType::Wait);
                reply(&envelope, &error, out);
                true
            }
        }
    }

    /// Whether [`Session::tend`] has nothing to do for now.
    #[must_use]
    pub fn is_tended(&self) -> bool {
        self.ledger.is_idle()
    }

    /// When [`Session::tend`] has something to do, if nobody wakes the session before.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.ledger.deadline(now)
    }

    /// Registers whom to wake when a message of this session is safe, or cannot be kept.
    pub fn register(&self, waker: &Waker) {
        self.ledger.register(waker);
    }

    /// Whether so much of what the client sent is not safe that it must not be read for now.
    pub fn is_paused(&mut self) -> bool {
        self.ledger.is_paused(Instant::now)
    }

    /// Fetches messages that wait for the account in the store, oldest first, to be sent before anything that is still in
    /// `inbox`. They count there as if they had come through it. To be called when [`Inbox::has_backlog`] says so, and
    /// `inbox` is empty.
    ///
    /// # Errors
    /// If the store does not answer; the backlog is still there then.
    pub async fn fetch_backlog(&self, inbox: &Inbox) -> Result<Vec<Arc<Envelope>>, starling_store::Error> {
        if !self.takes_messages() {
            inbox.begin_backlog();
            inbox.end_backlog();
            return Ok(Vec::new());
        }
        // What ended sessions of the account have left is on its way, and older than what comes from now on.
        self.service.journal_barrier().await;
        inbox.begin_backlog();
        let account = bare_str(&self.full);
        let rows = match self.service.store().claim(account, FETCHED, FETCHED_BYTES).await {
            Ok(rows) => rows,
            Err(error) => {
                warn!(full = %self.full, %error, "Pending messages not fetched; tried again.");
                inbox.renew_backlog();
                return Err(error);
            }
        };
        self.service.waiting().fetched(account);
        // Fewer than asked for may be a matter of bytes: only none at all says that there are no more.
        if rows.is_empty() {
            inbox.end_backlog();
        } else {
            inbox.renew_backlog();
        }
        let bare = self.full.to_bare();
        let envelope = |row| offline::envelope(&bare, row);
        let envelopes: Vec<_> = rows.into_iter().filter_map(envelope).collect();
        for envelope in &envelopes {
            inbox.took(envelope.stanza.len());
        }
        Ok(envelopes)
    }
}

impl Service {
    /// Somebody asked something of a session that has ended without an answer (RFC 6120 §8.2.3): its client may never have
    /// got it. Nothing else is answered: presence is of no use any more, and messages that are not kept are not missed.
    pub(crate) fn bounce(&self, envelope: &Envelope) {
        if !matches!(envelope.kind, Kind::Iq(IqType::Get | IqType::Set)) || !envelope.from.is_full() {
            return;
        }
        let mut answer = Vec::new();
        if reply(envelope, &Condition::ServiceUnavailable.into(), &mut answer) {
            let Some(from) = envelope.to.clone() else { return };
            let kind = Kind::Iq(IqType::Error);
            let answer = Arc::new(Envelope::new(Some(envelope.from.clone()), from, kind, answer));
            self.link().send(envelope.from.as_str(), &answer);
        }
    }
}

/// Answers a stanza that was on its way. `false`: nobody waits for an error.
fn reply(envelope: &Envelope, error: &StanzaError, out: &mut Vec<u8>) -> bool {
    let limits = starling_xml::Limits { stanza_bytes: usize::MAX, ..starling_xml::Limits::default() };
    let text = std::str::from_utf8(&envelope.stanza).unwrap_or_default();
    let Ok(element) = starling_xml::parse(text, &starling_xml::Scope::client(), limits) else { return false };
    let Ok(stanza) = Stanza::parse(element.as_raw()) else { return false };
    error.reply(&stanza.raw, envelope.to.as_ref().map(Jid::as_str), Some(envelope.from.as_str()), out)
}
