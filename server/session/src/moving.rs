//! Sessions that go on at another instance (XEP-0198 §5), and what is left of those whose instance has died.
//!
//! ```text
//!   here:  give_back(what its client has not acknowledged) ── in the store, and its entries know ──► leave
//!   there: adopt(record, details) ── its mailbox sends everything to the store until that was asked ──► as if it had always
//!                                                                                                      been there
//! ```

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use starling_link::{Envelope, Inbox};
use starling_proto::instance::Details;
use starling_registry::{InstanceId, SessionRecord};
use starling_store::messages::PendingRow;
use starling_xml::{Limits, RawElement, Scope};
use starling_xmpp::{
    jid::{BareJid, FullJid, Jid},
    stanza::Stanza,
};

use crate::{
    Service, Session,
    between::confirm,
    copies::STANZA_IDS,
    extension::{Ended, Seen},
    presence,
};

/// Envelopes that a session gives back, before others are told that it is gone: whoever comes after it is to find them.
#[derive(Default)]
pub struct Returning {
    entries: Vec<InstanceId>,
    any: bool,
}

impl Returning {
    /// A client does not have it; see [`Service::returned`].
    pub fn push(&mut self, service: &Arc<Service>, envelope: &Arc<Envelope>) {
        service.returned(envelope);
        let Some(tracking) = &envelope.tracking else { return };
        self.any = true;
        if !service.registry().are_shared() {
            return;
        }
        if let Some(arrival) = tracking.arrival() {
            if tracking.is_returned() {
                // Its entry does the same, but whoever looks into the store next does not wait for that.
                service.settle_row(envelope, false);
            }
            if !self.entries.contains(&arrival.from) {
                self.entries.push(arrival.from);
            }
        }
    }

    /// Waits until they are in the store, and the instances where they entered know that nobody holds them. Not for ever.
    /// One process needs none of it: there the order of the journal is the order of everything. Whether all of it is so.
    pub async fn settled(self, service: &Service) -> bool {
        if !(self.any && service.registry().are_shared()) {
            return true;
        }
        let is_written = service.journal_barrier().await;
        confirm(service.link(), &self.entries).await && is_written
    }
}

impl Service {
    /// A session that was at another instance until now. Everything that is kept goes to the store until its backlog has been
    /// fetched. Nobody sends to it before the registry says that it is here.
    pub fn adopt(self: &Arc<Self>, record: &SessionRecord, details: &Details) -> (Session, Inbox) {
        let inbox = self.link().attach(&record.full, record.id, self.queue());
        inbox.renew_backlog();
        self.roster_begins(&record.full.to_bare(), None);
        self.roster_begins(&record.full.to_bare(), details.roster);
        self.metrics().sessions.inc();
        let mut session = Session::new(Arc::clone(self), record.full.clone(), record.id);
        session.lang = details.lang.as_deref().map(Into::into);
        session.priority = record.priority;
        session.directed = directed(details);
        (session, inbox)
    }

    /// Ends a session whose instance has died: it was removed from the registry, and those who saw it available learn that it
    /// is gone.
    pub async fn bury(self: &Arc<Self>, record: &SessionRecord, details: Option<&Details>) {
        let mut session = Session::new(Arc::clone(self), record.full.clone(), record.id);
        session.priority = record.priority;
        session.directed = details.map(directed).unwrap_or_default();
        let was_available = session.priority.is_some();
        presence::gone(&mut session).await;
        self.hooks(&record.full, &session, was_available, false).await;
    }

    async fn hooks(self: &Arc<Self>, full: &FullJid, session: &Session, was_available: bool, moved: bool) {
        let ended = Ended { full, session: session.id, was_available, moved, service: self };
        self.extensions().session_ended(&ended).await;
    }
}

fn directed(details: &Details) -> Vec<Jid> {
    details.directed.iter().filter_map(|address| address.parse().ok()).collect()
}

impl Session {
    /// What whoever takes it over wants to know. `heard`: when its client was heard of last, if it waits for it; milliseconds
    /// since 1970.
    #[must_use]
    pub fn details(&self, heard: u64) -> Details {
        Details {
            lang: self.lang.as_deref().map(str::to_owned),
            directed: self.directed.iter().map(ToString::to_string).collect(),
            heard,
            roster: self.service.roster_told(&self.full.to_bare()),
            ..Details::default()
        }
    }

    /// Says whether what [`Session::details`] says may have changed since this was asked last.
    pub const fn has_new_details(&mut self) -> bool {
        std::mem::replace(&mut self.details_changed, false)
    }

    /// Counts a stanza that is not handled: another instance has, before it died.
    pub const fn skip(&mut self) {
        self.ledger.handled();
    }

    /// The session's record, as far as it says where it is.
    #[must_use]
    pub fn record(&self) -> SessionRecord {
        SessionRecord::new(self.full.clone(), self.id, self.service.instance())
    }

    /// Catches up with what happened while it was on its way here: changes of the roster; and the containers see the presence
    /// that it sent at its last instance.
    pub async fn catch_up(&self) {
        self.service.tell_missed(&self.full.to_bare()).await;
        self.show_presence_again().await;
    }

    async fn show_presence_again(&self) {
        let account = self.full.to_bare();
        let Ok(found) = self.service.registry().with_presence(&[account]).await else { return };
        let own = found.iter().flat_map(|sessions| sessions.iter()).find(|record| record.id == self.id);
        let Some(text) = own.and_then(|record| record.presence.as_deref()).and_then(|bytes| str::from_utf8(bytes).ok())
        else {
            return;
        };
        let limits = Limits { stanza_bytes: usize::MAX, ..Limits::default() };
        let Ok(element) = starling_xml::parse(text, &Scope::client(), limits) else { return };
        let Ok(stanza) = Stanza::parse(element.as_raw()) else { return };
        let seen = Seen { stanza: &stanza, from: &self.full, session: self.id, service: &self.service };
        self.service.extensions().presence(&seen);
    }

    /// It is not here after all; it was adopted, and nothing was sent to it.
    pub fn discard(&self) {
        self.detach();
        self.service.roster_ends(&self.full.to_bare());
        self.service.metrics().sessions.dec();
    }

    /// It goes on at another instance, or will: here, nothing is left of it. It was detached before.
    pub async fn leave(self) {
        self.service.roster_ends(&self.full.to_bare());
        self.service.hooks(&self.full, &self, false, true).await;
        self.service.metrics().sessions.dec();
    }
}

/// A message that was claimed for a session that was elsewhere when it was sent. `None`: it cannot be read.
#[must_use]
pub fn claimed(account: &BareJid, row: PendingRow) -> Option<Arc<Envelope>> {
    crate::offline::resumed(account, row)
}

/// What is the same in a message that its client sends again, and in the row that was written of it: a number by which the
/// two are compared. `None`: it is no message.
#[must_use]
pub fn essence(message: &RawElement<'_>) -> Option<u64> {
    if message.name() != "message" {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    for name in ["to", "type", "id"] {
        message.attribute(name).hash(&mut hasher);
    }
    // Our own id is in the row alone.
    for child in message.children().filter(|child| child.namespace() != STANZA_IDS) {
        (child.name(), child.namespace(), child.text()).hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// The `id` of a stanza in portable form.
pub(crate) fn id_of(stanza: &[u8]) -> Option<String> {
    let limits = Limits { stanza_bytes: usize::MAX, ..Limits::default() };
    let element = starling_xml::parse(str::from_utf8(stanza).ok()?, &Scope::client(), limits).ok()?;
    element.as_raw().attribute("id").map(std::borrow::Cow::into_owned)
}

/// The same of a stanza in portable form.
#[must_use]
pub fn essence_of(stanza: &[u8]) -> Option<u64> {
    let limits = Limits { stanza_bytes: usize::MAX, ..Limits::default() };
    let element = starling_xml::parse(str::from_utf8(stanza).ok()?, &Scope::client(), limits).ok()?;
    essence(&element.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp;
    use starling_store::messages::MessageId;

    #[test]
    fn a_message_and_its_row_are_the_same_and_others_are_not() {
        let text = "<message to='juliet@example.com' type='chat' id='1'><body>Lady</body><x xmlns='a'/></message>";
        let parsed = |text: &str| essence_of(text.as_bytes());
        let element = starling_xml::parse(text, &Scope::client(), Limits::default()).unwrap();
        let mut row = Vec::new();
        let id = Some(("juliet@example.com", MessageId::new(1, 2, 3)));
        stamp::stamp_message(&element.as_raw(), "romeo@example.com/orchard", Some("en"), id, |_| true, &mut row);
        assert_eq!(essence_of(&row), parsed(text));
        assert!(parsed(text).is_some());
        for other in [
            text.replace("Lady", "Lad"),
            text.replace("id='1'", "id='2'"),
            text.replace("juliet", "nurse"),
            text.replace("<x xmlns='a'/>", ""),
        ] {
            assert_ne!(parsed(&other), parsed(text), "{other}");
        }
        assert_eq!(parsed("<presence/>"), None);
    }
}
