//! Subscriptions (RFC 6121 §3): from a client to a contact's roster and back.
//!
//! ```text
//!  subscribe ─► outbound table ─► own roster item (on disk), push ─► the contact's server: here, or another domain
//!                                                                          │
//!  contact's roster item (on disk), push ◄── inbound table ◄───────────────┘
//!       └─► to its available resources, or kept until it answers, or answered by itself
//! ```

use std::{future::Future, pin::Pin, sync::Arc};

use starling_link::{Envelope, Outcome};
use starling_store::{
    Error,
    rosters::{ItemChange, ItemChanged, RosterItem, Subscription},
};
use starling_xml::restamp;
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::{BareJid, Jid},
    stanza::{Kind, PresenceType, Stanza},
};
use tracing::warn;

use super::{is_seen, may_pass, sees};
use crate::{
    Fate, Service, Session,
    subscription::{Change, State, inbound, outbound},
};

/// A subscription stanza from the session's client, with an address.
pub(super) async fn ask(session: &Session, stanza: &Stanza<'_>, change: Change, out: &mut Vec<u8>) -> Fate {
    let Some(to) = &stanza.to else { return Fate::DroppedNobodyWaits };
    let (user, contact) = (session.full.to_bare(), to.to_bare());
    // One has one's own presence anyway, and a server has none.
    if user == contact || to.node().is_none() && session.service.serves(to.domain().as_str()) {
        return session.refuse(stanza, Condition::NotAllowed.into(), out);
    }
    match super::check(session, &Jid::from(contact.clone()), stanza.kind).await {
        crate::privacy::Check::DenyOut { blocked } => return session.deny_out(stanza, blocked, out),
        crate::privacy::Check::Load(_) => {
            let error = StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait);
            return session.refuse(stanza, error, out);
        }
        // What the contact keeps out it never learns of; the user's own roster says that it asked.
        _ => {}
    }
    // §3.1.2: from and to are bare JIDs.
    let mut bytes = Vec::with_capacity(stanza.raw.as_str().len() + 64);
    restamp(&stanza.raw, &[("from", Some(user.as_str())), ("to", Some(contact.as_str()))], &mut bytes);
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
pub(crate) async fn change_out(
    service: &Arc<Service>,
    user: &BareJid,
    contact: &BareJid,
    change: Change,
    envelope: Arc<Envelope>,
) -> Result<Outcome, Error> {
    let decide = |item: Option<&RosterItem>| {
        let before = State::of(item);
        let cell = outbound(change, before);
        let mut after = item.cloned().unwrap_or_else(|| empty(contact));
        set_state(&mut after, cell.next);
        match change {
            // §3.4: approval before it was asked for, and its end.
            Change::Subscribed if !cell.passes && !is_from(before) => after.approved = true,
            Change::Unsubscribed => after.approved = false,
            _ => {}
        }
        after.listed |= matches!(change, Change::Subscribe | Change::Subscribed);
        settled(item, after)
    };
    let changed = service.change_item(user, contact, &decide).await?;
    let before = match &changed {
        ItemChanged::TooMany => return Ok(Outcome::Full),
        ItemChanged::Kept(item) => State::of(item.as_ref()),
        ItemChanged::Changed { before, .. } => State::of(before.as_ref()),
    };
    let cell = outbound(change, before);
    if !cell.passes {
        return Ok(Outcome::Queued);
    }
    if service.serves(contact.domain().as_str()) {
        change_in(service, contact, user, change, envelope).await?;
    } else if service.link().send_domain(contact.domain().as_str(), &envelope) != Outcome::Queued {
        return Ok(Outcome::NoSession);
    }
    // §3.1.5, §3.2.1: what the contact sees changes at once.
    match (is_from(before), is_from(cell.next)) {
        (false, true) => show(service, user, contact, true).await,
        (true, false) => show(service, user, contact, false).await,
        _ => {}
    }
    Ok(Outcome::Queued)
}

/// §A.3: something that the contact sent for the user, who has an account here or not.
pub(crate) fn change_in<'s>(
    service: &'s Arc<Service>,
    user: &'s BareJid,
    contact: &'s BareJid,
    change: Change,
    envelope: Arc<Envelope>,
) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 's>> {
    // An answer to what comes in comes in at the other side: the two call each other.
    Box::pin(async move {
        let (from, to) = (Jid::from(contact.clone()), Jid::from(user.clone()));
        if !may_pass(service, &from, &to, envelope.kind).await {
            return Ok(());
        }
        let decide = |item: Option<&RosterItem>| {
            let before = State::of(item);
            let cell = inbound(change, before);
            let mut after = item.cloned().unwrap_or_else(|| empty(contact));
            if change == Change::Subscribe && cell.passes && after.approved {
                set_state(&mut after, approved(before));
            } else {
                set_state(&mut after, cell.next);
                if change == Change::Subscribe && cell.passes {
                    after.pending_in = Some(envelope.stanza.clone());
                }
            }
            settled(item, after)
        };
        let changed = service.change_item(user, contact, &decide).await?;
        let (before, was_approved) = match &changed {
            // Too many: the request is lost on a full roster, as if nobody answered it.
            ItemChanged::TooMany => return Ok(()),
            ItemChanged::Kept(item) => (State::of(item.as_ref()), false),
            ItemChanged::Changed { before, .. } => {
                (State::of(before.as_ref()), before.as_ref().is_some_and(|item| item.approved))
            }
        };
        let cell = inbound(change, before);
        let answers = change == Change::Subscribe && (is_from(before) || was_approved && cell.passes);
        if answers {
            // §3.1.3: it has it already, or may have it without asking.
            let answer = simple(PresenceType::Subscribed, &to, &from);
            if service.serves(contact.domain().as_str()) {
                change_in(service, contact, user, Change::Subscribed, answer).await?;
            } else {
                service.link().send_domain(contact.domain().as_str(), &answer);
            }
            show(service, user, contact, true).await;
            return Ok(());
        }
        if !cell.passes {
            return Ok(());
        }
        let sessions = service.registry().sessions(user).await.unwrap_or_default();
        // §3.1.3, §3.1.6, §3.2.3, §3.3.3: to resources that are available or asked for the roster.
        for record in sessions.iter().filter(|record| record.priority.is_some() || record.roster) {
            service.link().send(record.full.as_str(), &envelope);
        }
        // §3.3.3: the contact wants the presence no longer.
        if is_from(before) && !is_from(cell.next) {
            show(service, user, contact, false).await;
        }
        Ok(())
    })
}

/// RFC 6121 §2.5: the user removes the contact. What there was between them ends first. `false`: it was not there.
pub(crate) async fn remove(service: &Arc<Service>, user: &BareJid, contact: &BareJid) -> Result<bool, Error> {
    let decide = |item: Option<&RosterItem>| match item {
        Some(item) if item.listed => ItemChange::Remove,
        _ => ItemChange::Keep,
    };
    let ItemChanged::Changed { before, .. } = service.change_item(user, contact, &decide).await? else {
        return Ok(false);
    };
    let before = State::of(before.as_ref());
    let (from, to) = (Jid::from(user.clone()), Jid::from(contact.clone()));
    let has_to = matches!(before.subscription(), Subscription::To | Subscription::Both) || before.asks();
    let has_from = is_from(before) || before.is_asked();
    for (ends, change, kind) in [
        (has_to, Change::Unsubscribe, PresenceType::Unsubscribe),
        (has_from, Change::Unsubscribed, PresenceType::Unsubscribed),
    ] {
        if !ends {
            continue;
        }
        let stanza = simple(kind, &from, &to);
        if service.serves(contact.domain().as_str()) {
            change_in(service, contact, user, change, stanza).await?;
        } else {
            service.link().send_domain(contact.domain().as_str(), &stanza);
        }
    }
    if is_from(before) {
        show(service, user, contact, false).await;
    }
    Ok(true)
}

/// Presence of all of the user's available resources to the contact, or that they are gone.
async fn show(service: &Arc<Service>, user: &BareJid, contact: &BareJid, available: bool) {
    let sessions = service.registry().sessions(user).await.unwrap_or_default();
    let to = Jid::from(contact.clone());
    for record in sessions.iter() {
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

/// A presence stanza of nothing but a type and addresses.
pub(crate) fn simple(kind: PresenceType, from: &Jid, to: &Jid) -> Arc<Envelope> {
    let mut stanza = b"<presence".to_vec();
    for (name, value) in [("type", kind.as_str()), ("from", Some(from.as_str())), ("to", Some(to.as_str()))] {
        let Some(value) = value else { continue };
        stanza.push(b' ');
        stanza.extend_from_slice(name.as_bytes());
        stanza.extend_from_slice(b"='");
        starling_xml::escape::attribute(value, &mut stanza);
        stanza.push(b'\'');
    }
    stanza.extend_from_slice(b"/>");
    Arc::new(Envelope::new(Some(to.clone()), from.clone(), Kind::Presence(kind), stanza))
}

const fn is_from(state: State) -> bool {
    matches!(state, State::From | State::FromPendingOut | State::Both)
}

/// §3.4: a request that was approved of before it came.
const fn approved(state: State) -> State {
    match state {
        State::None | State::NonePendingIn => State::From,
        State::NonePendingOut | State::NonePendingOutIn => State::FromPendingOut,
        State::To | State::ToPendingIn => State::Both,
        State::From | State::FromPendingOut | State::Both => state,
    }
}

fn empty(contact: &BareJid) -> RosterItem {
    RosterItem {
        contact: contact.clone(),
        name: None,
        groups: Vec::new(),
        subscription: Subscription::None,
        ask: false,
        pending_in: None,
        approved: false,
        listed: false,
        version: 0,
    }
}

fn set_state(item: &mut RosterItem, state: State) {
    item.subscription = state.subscription();
    item.ask = state.asks();
    if !state.is_asked() {
        item.pending_in = None;
    }
}

/// What to do about an item that was `before` and is to be `after`. One that nobody sees and that says nothing goes.
fn settled(before: Option<&RosterItem>, after: RosterItem) -> ItemChange {
    let says_nothing = !after.listed && State::of(Some(&after)) == State::None && !after.approved;
    if says_nothing {
        return if before.is_some() { ItemChange::Remove } else { ItemChange::Keep };
    }
    if before == Some(&after) { ItemChange::Keep } else { ItemChange::Put(after) }
}

/// Whether the contact has the user's presence; whether the user has the contact's.
pub(super) fn relation(item: Option<&RosterItem>) -> (bool, bool) {
    (item.is_some_and(sees), item.is_some_and(is_seen))
}
