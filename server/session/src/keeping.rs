//! What is written of a message, and what happens once it is.
//!
//! ```text
//!  entry ───── Entered ──┐                            ┌─► rows of sender and recipient: Delivered, InFlight or Pending
//!  a session's ─ Delivered ─► Journal ── group commit ┤
//!  end, an ack ─ Returned ┘                           └─► safe (the entry's session wakes) · poke, where a row is pending
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::{SystemTime, UNIX_EPOCH};

use starling_link::{Envelope, Link, Settled, Standing};
use starling_registry::{InstanceId, Registry, Sessions};
use starling_store::{
    Error,
    journal::{Observer, Record},
    messages::{Change, Direction, MessageId, Row, RowState},
};
use starling_xmpp::jid::{BareJid, Jid, bare_str};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// Gives ids to messages: rising, and never the same as another instance's.
#[derive(Debug)]
pub(crate) struct Ids {
    instance: u64,
    /// Milliseconds since 1970, and 16 bits to count within one.
    last: AtomicU64,
}

impl Ids {
    pub(crate) const fn new(instance: InstanceId) -> Self {
        Self { instance: instance.0, last: AtomicU64::new(0) }
    }

    /// A clock that stands still or goes back does not make ids fall.
    pub(crate) fn next(&self) -> MessageId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX) << 16;
        let later = |last: u64| Some(now.max(last + 1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or_default();
        let id = now.max(last + 1);
        MessageId::new(id >> 16, (id & 0xffff) as u16, self.instance)
    }
}

/// A change of a message's rows, on its way through the journal.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) change: KeptChange,
}

/// What has happened to the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeptChange {
    /// It came in. `sent`: its sender has an account here, whose archive has it too.
    Entered {
        /// See there.
        sent: bool,
    },
    /// Its last holder let go, and no client has it.
    Returned,
    /// A client has it.
    Delivered,
}

impl Kept {
    /// The account whose message it is: the recipient's.
    fn account(&self) -> &str {
        account(&self.envelope)
    }
}

fn account(envelope: &Envelope) -> &str {
    bare_str(envelope.to.as_ref().unwrap_or(&envelope.from))
}

impl Record for Kept {
    fn changes<'a>(&'a self, out: &mut Vec<Change<'a>>) {
        let Some(tracking) = &self.envelope.tracking else { return };
        let id = MessageId(tracking.id);
        let row = |account: &'a str, peer: &'a str, direction, state| Row {
            account,
            id,
            peer,
            direction,
            state,
            archived: tracking.archived,
            holders: &[],
            origin: None,
            stanza: &self.envelope.stanza,
        };
        let recipient = self.account();
        let received = |state| Change::Put(row(recipient, self.envelope.from.as_str(), Direction::Received, state));
        match self.change {
            KeptChange::Entered { sent } => {
                match tracking.standing() {
                    Standing::InFlight => out.push(received(RowState::InFlight)),
                    Standing::Pending => out.push(received(RowState::Pending)),
                    Standing::Delivered if tracking.archived => out.push(received(RowState::Delivered)),
                    Standing::Delivered => {}
                }
                let sender = bare_str(&self.envelope.from);
                // A message to oneself is one row: the one that somebody has to get.
                if sent && tracking.archived && sender != recipient {
                    let peer = self.envelope.to.as_ref().map_or(sender, Jid::as_str);
                    out.push(Change::Put(row(sender, peer, Direction::Sent, RowState::Delivered)));
                }
            }
            KeptChange::Returned => out.push(received(RowState::Pending)),
            KeptChange::Delivered => out.push(Change::Delivered { account: recipient, id }),
        }
    }

    fn bytes(&self) -> usize {
        match self.change {
            KeptChange::Entered { .. } => 2 * self.envelope.stanza.len(),
            KeptChange::Returned => self.envelope.stanza.len(),
            KeptChange::Delivered => 0,
        }
    }

    /// Who sent it waits for the rows of what came in, and can be told. Nobody can be told of the others: their sender
    /// may have been told already that the message is safe.
    fn may_fail(&self) -> bool {
        matches!(self.change, KeptChange::Entered { .. })
    }
}

/// Hears from the journal.
pub(crate) struct Keeper {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) tasks: TaskTracker,
}

impl Keeper {
    /// Whoever logged in while the row was on its way has looked for pending messages before it was there: that session
    /// is told to look again. The registry itself is asked, not what is remembered of it.
    fn poke(&self, account: &str) {
        if let Some(sessions) = self.registry.cached(account) {
            poke(&*self.link, &sessions);
            return;
        }
        let Ok(account) = BareJid::new(account) else { return };
        let (registry, link) = (Arc::clone(&self.registry), Arc::clone(&self.link));
        self.tasks.spawn(async move {
            match registry.sessions(&account).await {
                Ok(sessions) => poke(&*link, &sessions),
                Err(error) => warn!(%account, %error, "Sessions not told of pending messages."),
            }
        });
    }
}

fn poke(link: &dyn Link, sessions: &Sessions) {
    for record in sessions.iter().filter(|record| record.takes_messages()) {
        link.poke(&record.full, record.id);
    }
}

impl Observer<Kept> for Keeper {
    fn committed(&self, records: &mut Vec<Kept>) {
        for record in records.drain(..) {
            let Some(tracking) = &record.envelope.tracking else { continue };
            // The poke goes first: once its sender takes the message for safe, the next one is sent to the session
            // directly, and must find the poke there.
            if record.change != KeptChange::Delivered && tracking.is_returned() {
                self.poke(record.account());
            }
            tracking.committed();
        }
    }

    fn failed(&self, records: &mut Vec<Kept>, error: &Error) {
        debug!(records = records.len(), %error, "Messages not kept; their senders are told.");
        for record in records.drain(..) {
            if let Some(tracking) = &record.envelope.tracking {
                tracking.failed();
            }
        }
    }
}

/// What a holder's letting go asks of the journal.
pub(crate) const fn settling(settled: Settled) -> Option<KeptChange> {
    match settled {
        Settled::Nothing => None,
        Settled::Delivered => Some(KeptChange::Delivered),
        Settled::Returned => Some(KeptChange::Returned),
    }
}
