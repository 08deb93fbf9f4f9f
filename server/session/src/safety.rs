//! A session as its connection sees it: what of the client's stanzas is safe, and what waits for the client.

use std::{sync::Arc, task::Waker, time::Instant};

use starling_link::{Envelope, Inbox};
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::bare_str,
};
use tracing::warn;

use crate::{
    Service, Session,
    holding::reply,
    ledger::{Due, Journaled},
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
                if self.service.write(&envelope) == Journaled::Yes {
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
