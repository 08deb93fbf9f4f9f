//! Subscriptions (RFC 6121 §3): from a client to a contact's roster and back.
//!
//! ```text
//!  subscribe ─► outbound table ─► own roster item (on disk), push ─► the contact's server: here, or another domain
//!                                                                          │
//!  contact's roster item (on disk) ◄── inbound table ◄─────────────────────┘
//!       └─► to its resources, ahead of the push; or kept until it answers; or answered by itself
//! ```

use std::{future::Future, pin::Pin, sync::Arc};

use starling_link::{Envelope, Outcome};
use starling_registry::SessionRecord;
use starling_store::{
    Error,
    rosters::{ItemChange, ItemChanged, Roster, RosterItem},
};
use starling_xml::restamp;
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::{BareJid, Jid},
    stanza::{Kind, PresenceType, Stanza},
};
use tracing::{debug, warn};

use super::{may_pass, passage, simple};
use crate::{
    Fate, Service, Session,
    privacy::Check,
    roster::Push,
    subscription::{Change, State, after_inbound, after_outbound, inbound, is_granted, outbound, removal},
};

/// Requests that may wait for an account's answer, and bytes in them: any stranger can send one. One more is dropped.
const REQUESTS: usize = 100;
const REQUEST_BYTES: usize = 256 << 10;

/// A subscription stanza from the session's client, with an address.
pub(super) async fn ask(session: &Session, stanza: &Stanza<'_>, change: Change, out: &mut Vec<u8>) -> Fate {
    let Some(to) = &stanza.to else { return Fate::DroppedNobodyWaits };
    let (user, contact) = (session.full.to_bare(), to.to_bare());
    // One has one's own presence anyway, and a server has none.
    if user == contact || to.node().is_none() && session.service.serves(to.domain().as_str()) {
        return session.refuse(stanza, Condition::NotAllowed.into(), out);
    }
    match super::check(&session.service, &session.full, &Jid::from(contact.clone()), stanza.kind).await {
        Check::DenyOut { blocked } => return session.deny_out(stanza, blocked, out),
        Check::Load(_) => {
            let error = StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait);
            return session.refuse(stanza, error, out);
        }
        // What the contact keeps out it never learns of; the user's own roster says that it asked.
        Check::Allow | Check::Each { .. } | Check::DenyIn => {}
    }
    // §3.1.2: from and to are bare JIDs.
    let mut bytes = Vec::with_capacity(stanza.raw.as_str().len() + 64);
    let lang = session.lang.as_deref().filter(|_| stanza.raw.lang().is_none());
    let addresses = [("from", Some(user.as_str())), ("to", Some(contact.as_str())), ("xml:lang", lang)];
    restamp(&stanza.raw, addresses.get(..if lang.is_some() { 3 } else { 2 }).unwrap_or_default(), &mut bytes);
    let from = Jid::from(user.clone());
    let envelope = Arc::new(Envelope::new(Some(Jid::from(contact.clone())), from, stanza.kind, bytes));
    match change_out(&session.service, &user, &contact, change, envelope).await {
        Ok(Outcome::Queued) => Fate::Answered,
        Ok(Outcome::NoSession) => session.refuse(stanza, Condition::RemoteServerNotFound.into(), out),
        Ok(Outcome::Full) => session.refuse(stanza, Condition::ResourceConstraint.into(), out),
        Err(error) => {
            warn!(%user, %contact, %error, "Subscription not changed.");
            let error = StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait);
            session.refuse(stanza, error, out)
        }
    }
}

/// §A.2: the user changes something; the contact's server hears of it where the table says so. `Full`: the roster is.
async fn change_out(
    service: &Arc<Service>,
    user: &BareJid,
    contact: &BareJid,
    change: Change,
    envelope: Arc<Envelope>,
) -> Result<Outcome, Error> {
    let decide = |item: Option<&RosterItem>| after_outbound(change, contact, item);
    let changed = service.change_item(user, contact, Push::IfSeen, &decide, |_, _| {}).await?;
    let before = match &changed {
        ItemChanged::TooMany => return Ok(Outcome::Full),
        ItemChanged::Kept(item) | ItemChanged::Changed { before: item, .. } => State::of(item.as_ref()),
    };
    let cell = outbound(change, before);
    if !cell.passes {
        return Ok(Outcome::Queued);
    }
    if before.gives() && !cell.next.gives() {
        // §3.2.2: while it is still subscribed.
        show(service, user, contact, false).await;
    }
    if route(service, user, contact, change, envelope).await? == Outcome::NoSession {
        return Ok(Outcome::NoSession);
    }
    if !before.gives() && cell.next.gives() {
        // §3.1.5
        show(service, user, contact, true).await;
    }
    Ok(Outcome::Queued)
}

/// Hands what the user sends to the contact's server, which may be this one.
async fn route(
    service: &Arc<Service>,
    user: &BareJid,
    contact: &BareJid,
    change: Change,
    envelope: Arc<Envelope>,
) -> Result<Outcome, Error> {
    if service.serves(contact.domain().as_str()) {
        change_in(service, contact, user, change, envelope).await?;
        return Ok(Outcome::Queued);
    }
    Ok(match service.link().send_domain(contact.domain().as_str(), &envelope) {
        Outcome::Queued => Outcome::Queued,
        Outcome::NoSession | Outcome::Full => Outcome::NoSession,
    })
}

/// §A.3: something that the contact sent for the user, who has an account here or not.
pub(super) fn change_in<'s>(
    service: &'s Arc<Service>,
    user: &'s BareJid,
    contact: &'s BareJid,
    change: Change,
    envelope: Arc<Envelope>,
) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 's>> {
    // An answer to what comes in comes in at the other side: the two call each other.
    Box::pin(async move {
        let (from, to) = (Jid::from(contact.clone()), Jid::from(user.clone()));
        let Some(passage) = passage(service, &from, &to, envelope.kind).await else { return Ok(()) };
        if change == Change::Subscribe && !has_room(&*service.roster(user).await?, contact, envelope.stanza.len()) {
            debug!(%user, %contact, "A request is dropped: too many wait for an answer.");
            return Ok(());
        }
        let decide = |item: Option<&RosterItem>| after_inbound(change, contact, item, &envelope.stanza);
        let deliver = |item: Option<&RosterItem>, sessions: &[SessionRecord]| {
            if !inbound(change, State::of(item)).passes || change == Change::Subscribe && is_granted(item) {
                return;
            }
            let concerned =
                |record: &&SessionRecord| hears(change, record) && passage.lets(service, record, &from, envelope.kind);
            service.link().deliver(&mut sessions.iter().filter(concerned), &envelope);
        };
        let item = match service.change_item(user, contact, Push::IfSeen, &decide, deliver).await? {
            // The request is lost on a full roster, as if nobody answered it.
            ItemChanged::TooMany => return Ok(()),
            ItemChanged::Kept(item) | ItemChanged::Changed { before: item, .. } => item,
        };
        let before = State::of(item.as_ref());
        if change == Change::Subscribe && is_granted(item.as_ref()) {
            // §3.1.3: it has it already, or may have it without asking.
            let answer = simple(PresenceType::Subscribed, &to, &from);
            route(service, user, contact, Change::Subscribed, answer).await?;
            show(service, user, contact, true).await;
        } else if before.gives() && !inbound(change, before).next.gives() {
            // §3.3.3: the contact wants the presence no longer.
            show(service, user, contact, false).await;
        }
        Ok(())
    })
}

/// §2.2, §3.1.3, §3.1.6, §3.2.3, §3.3.3: requests are for available resources, what becomes of subscriptions for those that
/// asked for the roster.
const fn hears(change: Change, record: &SessionRecord) -> bool {
    match change {
        Change::Subscribe => record.priority.is_some(),
        Change::Subscribed | Change::Unsubscribe | Change::Unsubscribed => record.roster,
    }
}

/// Whether one more request may wait, of this many bytes.
fn has_room(roster: &Roster, contact: &BareJid, bytes: usize) -> bool {
    let others =
        || roster.items.iter().filter(|item| item.contact != *contact).filter_map(|item| item.pending_in.as_ref());
    others().count() < REQUESTS && others().map(Vec::len).sum::<usize>() + bytes <= REQUEST_BYTES
}

/// RFC 6121 §2.5: the user removes the contact. What there was between them ends first. `false`: it was not there.
pub(crate) async fn remove(service: &Arc<Service>, user: &BareJid, contact: &BareJid) -> Result<bool, Error> {
    let decide = |item: Option<&RosterItem>| match item {
        Some(item) if item.listed => ItemChange::Remove,
        _ => ItemChange::Keep,
    };
    let removed = service.change_item(user, contact, Push::Always, &decide, |_, _| {}).await?;
    let ItemChanged::Changed { before, .. } = removed else { return Ok(false) };
    let before = State::of(before.as_ref());
    if before.gives() {
        show(service, user, contact, false).await;
    }
    let (from, to) = (Jid::from(user.clone()), Jid::from(contact.clone()));
    for change in removal(before) {
        let stanza = simple(change.presence(), &from, &to);
        route(service, user, contact, *change, stanza).await?;
    }
    Ok(true)
}

impl Service {
    /// Removes an account with all that hangs on it, after the subscriptions from and to its contacts have been ended: whoever
    /// gets the address later is seen by nobody who was to see its former owner. Its sessions are the caller's matter.
    /// `false`: there was none.
    ///
    /// # Errors
    /// If the store does not answer. Some of the subscriptions may have been ended by then.
    pub async fn remove_account(self: &Arc<Self>, account: &BareJid) -> Result<bool, Error> {
        for item in &self.store().roster(account).await?.items {
            remove(self, account, &item.contact).await?;
        }
        let removed = self.store().remove(account).await;
        self.forget_roster(account);
        crate::privacy::forget(self, account.as_str());
        removed
    }
}

/// Presence of all of the user's available resources to the contact, or that they are gone.
async fn show(service: &Arc<Service>, user: &BareJid, contact: &BareJid, available: bool) {
    let to = Jid::from(contact.clone());
    let _turn = service.rosters().showing(user.as_str()).await;
    for record in super::shown(service, user).await.iter() {
        let Some(presence) = &record.presence else { continue };
        let kind = if available { PresenceType::Available } else { PresenceType::Unavailable };
        if !may_pass(service, &record.full, &to, Kind::Presence(kind)).await {
            continue;
        }
        let envelope = if available {
            let from = Jid::from(record.full.clone());
            Arc::new(Envelope::new(None, from, Kind::Presence(kind), presence.to_vec()))
        } else {
            simple(kind, &record.full, &to)
        };
        super::tell(service, &to, &envelope).await;
    }
}
