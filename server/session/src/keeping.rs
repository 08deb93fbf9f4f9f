//! What is written of a message, and what happens once it is.
//!
//! ```text
//!  entry ───── Entered ──┐                            ┌─► rows of sender and recipient: Delivered, InFlight or Pending
//!  a session's ─ Delivered ─► Journal ── group commit ┤
//!  end, an ack ─ Returned ┘                           └─► safe (the entry's session wakes) · poke, where a row is pending
//! ```
//!
//! All of it is the entry's: other instances that hold the message tell it what became of it. Where the entry is no more,
//! they write themselves.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};
use std::time::{SystemTime, UNIX_EPOCH};

use smallvec::SmallVec;
use starling_link::{Envelope, Link, Standing, Tracking};
use starling_registry::{InstanceId, Registry, Sessions};
use starling_store::{
    Error,
    journal::{Observer, Record},
    messages::{Change, Direction, MessageId, Origin, Row, RowState},
};
use starling_xmpp::{
    jid::{BareJid, Jid, bare_str},
    stanza::{Kind, MessageType},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{between::confirm, untold::Untold};

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
    envelope: Arc<Envelope>,
    change: KeptChange,
    /// The instance that writes it.
    own: InstanceId,
    may_fail: bool,
    /// The instances that its change names, as of the first attempt: a holder that lets go afterwards says so by a change of
    /// its own.
    holders: OnceLock<SmallVec<[u64; 2]>>,
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
    /// Another instance holds it, which had not answered when the row was written.
    Held,
    /// A client has it.
    Delivered,
}

impl Kept {
    pub(crate) fn new(envelope: &Arc<Envelope>, change: KeptChange, own: InstanceId) -> Self {
        // Who sent it waits for the rows of what came in, and can be told. Nobody can be told of the others: their sender may
        // have been told already that the message is safe.
        let may_fail = matches!(change, KeptChange::Entered { .. });
        Self { envelope: Arc::clone(envelope), change, own, may_fail, holders: OnceLock::new() }
    }

    /// Written, whatever happens: nobody waits for it who could be told.
    pub(crate) const fn without_fail(mut self) -> Self {
        self.may_fail = false;
        self
    }

    /// The account whose message it is: the recipient's.
    fn account(&self) -> &str {
        account(&self.envelope)
    }

    /// Whether it is a row that waits for whoever comes, from this change on.
    fn is_pending(&self, tracking: &Tracking) -> bool {
        let may_be = matches!(self.change, KeptChange::Entered { .. } | KeptChange::Returned);
        may_be && tracking.is_returned() && may_wait(&self.envelope)
    }
}

fn account(envelope: &Envelope) -> &str {
    bare_str(envelope.to.as_ref().unwrap_or(&envelope.from))
}

/// RFC 6121 §8.5.2.2.1: a headline that nobody took is archived at most.
const fn may_wait(envelope: &Envelope) -> bool {
    !matches!(envelope.kind, Kind::Message(MessageType::Headline))
}

impl Record for Kept {
    fn changes<'a>(&'a self, out: &mut Vec<Change<'a>>) {
        let Some(tracking) = &self.envelope.tracking else { return };
        let id = MessageId(tracking.id);
        let recipient = self.account();
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
        let numbers = |holders: &[InstanceId]| holders.iter().map(|holder| holder.0).collect();
        let received = |state| row(recipient, self.envelope.from.as_str(), Direction::Received, state);
        match self.change {
            KeptChange::Entered { sent } => {
                let sender = bare_str(&self.envelope.from);
                let origin = tracking.origin.map(|origin| Origin { stream: origin.stream, count: origin.count });
                // A message to oneself is one row: the one that somebody has to get.
                let received = |state| Row { origin: origin.filter(|_| sender == recipient), ..received(state) };
                match tracking.standing() {
                    Standing::InFlight => {
                        let holders = self.holders.get_or_init(|| numbers(&tracking.holders(self.own)));
                        tracking.names_own(holders.contains(&self.own.0));
                        out.push(Change::Put(Row { holders, ..received(RowState::InFlight) }));
                    }
                    Standing::Pending if may_wait(&self.envelope) => out.push(Change::Put(received(RowState::Pending))),
                    Standing::Pending | Standing::Delivered if tracking.archived => {
                        out.push(Change::Put(received(RowState::Delivered)));
                    }
                    Standing::Pending | Standing::Delivered => {}
                }
                if sent && tracking.archived && sender != recipient {
                    let peer = self.envelope.to.as_ref().map_or(sender, Jid::as_str);
                    out.push(Change::Put(Row { origin, ..row(sender, peer, Direction::Sent, RowState::Delivered) }));
                }
            }
            KeptChange::Returned if may_wait(&self.envelope) => {
                let holders = self.holders.get_or_init(|| numbers(&tracking.named(self.own)));
                out.push(Change::Returned { account: recipient, id, holders });
            }
            KeptChange::Held => {
                let holders = self.holders.get_or_init(|| numbers(&tracking.holders(self.own)));
                if let [to] = **holders
                    && to != self.own.0
                {
                    tracking.names_own(false);
                    out.push(Change::Held { account: recipient, id, from: self.own.0, to });
                }
            }
            KeptChange::Returned | KeptChange::Delivered => out.push(Change::Delivered { account: recipient, id }),
        }
    }

    fn bytes(&self) -> usize {
        match self.change {
            KeptChange::Entered { .. } => 2 * self.envelope.stanza.len(),
            KeptChange::Returned | KeptChange::Held | KeptChange::Delivered => 0,
        }
    }

    fn may_fail(&self) -> bool {
        // Whoever sent it may have been told by now that it is safe: a client has it.
        self.may_fail && !self.envelope.tracking.as_ref().is_some_and(Tracking::is_safe)
    }
}

/// Hears from the journal.
pub(crate) struct Keeper {
    pub(crate) untold: Arc<Untold>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) tasks: TaskTracker,
    pub(crate) revoked: CancellationToken,
}

impl Keeper {
    /// Whoever logged in while a row was on its way has looked for pending messages before it was there: that session is told
    /// to look again. Where many processes bind resources, the registry itself is asked, not what is remembered of it.
    fn tell_all(&self, records: Vec<Kept>) {
        let mut accounts: Vec<_> = records.iter().filter_map(|record| BareJid::new(record.account()).ok()).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let (registry, link, untold) = (Arc::clone(&self.registry), Arc::clone(&self.link), Arc::clone(&self.untold));
        self.tasks.spawn(async move {
            match registry.sessions_for_certain(&accounts).await {
                Ok(all) => {
                    all.iter().for_each(|sessions| poke(&*link, sessions));
                    heard(&*link, &all).await;
                }
                Err(error) => {
                    warn!(%error, accounts = accounts.len(), "Sessions are told of pending messages once more, later");
                    // As far as it is remembered who is where; and again when the registry says so.
                    let known: Vec<_> =
                        accounts.iter().filter_map(|account| registry.cached(account.as_str())).collect();
                    known.iter().for_each(|sessions| poke(&*link, sessions));
                    untold.add(accounts);
                    heard(&*link, &known).await;
                }
            }
            records.iter().for_each(settle);
        });
    }
}

/// Waits until other instances have heard the pokes, for not so long: their sender may go on at any instance, and what it sends
/// there must not come before what waits.
async fn heard(link: &dyn Link, all: &[Sessions]) {
    let mut instances: Vec<_> = all.iter().flat_map(|sessions| sessions.iter()).map(|record| record.instance).collect();
    instances.retain(|instance| !link.is_here(*instance));
    instances.sort_unstable();
    instances.dedup();
    confirm(link, &instances).await;
}

/// Pokes those of an account that take messages.
pub(crate) fn poke(link: &dyn Link, sessions: &Sessions) {
    for record in sessions.iter().filter(|record| record.takes_messages()) {
        link.poke(record);
    }
}

fn settle(record: &Kept) {
    let Some(tracking) = &record.envelope.tracking else { return };
    match record.change {
        KeptChange::Returned => tracking.gave_back(),
        KeptChange::Entered { .. } | KeptChange::Held | KeptChange::Delivered => tracking.committed(),
    }
}

impl Observer<Kept> for Keeper {
    fn committed(&self, records: &mut Vec<Kept>) {
        // The poke goes first: once its sender takes the message for safe, the next one is sent to the session directly, and
        // must find the poke there.
        let mut pending = Vec::new();
        for record in records.drain(..) {
            if !record.envelope.tracking.as_ref().is_some_and(|tracking| record.is_pending(tracking)) {
                settle(&record);
            } else if self.registry.are_shared() {
                pending.push(record);
            } else {
                poke(&*self.link, &self.registry.cached(record.account()).unwrap_or_default());
                settle(&record);
            }
        }
        if !pending.is_empty() {
            self.tell_all(pending);
        }
    }

    fn revoked(&self) {
        self.revoked.cancel();
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
