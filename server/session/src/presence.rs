//! Presence of a session (RFC 6121 §4): who hears of it, and whose presence it hears.
//!
//! ```text
//!  available, the first time ─► one roster, one registry read for all contacts ─┬─► their presence, to this session
//!                               (probes only to other domains)                  ├─► this presence, to those who may see it
//!                                                                               └─► requests that wait for an answer
//!  available again, unavailable, gone ─► to those who may see it; at the end also to whom it was sent directly (§4.6)
//! ```
//!
//! A broadcast is encoded once: the stanza goes to all without `to` (RFC 6120 §8.1.1.2: it is for whom it comes to).

mod outside;
mod refresh;
mod subscriptions;

use std::sync::Arc;

use starling_link::{Envelope, Outcome};
use starling_registry::{SessionRecord, Sessions, Update};
use starling_store::rosters::{Roster, RosterItem, Subscription};
use starling_xmpp::{
    error::Condition,
    jid::{BareJid, Jid, bare_str},
    stanza::{Kind, PresenceType, Stanza},
};
use tracing::warn;

use crate::{
    Fate, Service, Session,
    privacy::{self, Check},
    subscription::Change,
};

pub(crate) use self::subscriptions::remove;
use self::subscriptions::{change_in, simple};

/// Addresses that a session may send presence to directly without being unavailable in between; one more is refused with
/// `resource-constraint`.
const DIRECTED: usize = 256;

/// RFC 6121 §3 and §4: presence from the session's client. `directed`: it has a `to`.
pub(crate) async fn handle(
    session: &mut Session,
    stanza: Stanza<'_>,
    presence: PresenceType,
    directed: bool,
    out: &mut Vec<u8>,
) {
    let fate = match (Change::of(presence), directed) {
        (Some(change), true) => subscriptions::ask(session, &stanza, change, out).await,
        // §3: whom?
        (Some(_), false) => session.refuse(&stanza, Condition::BadRequest.into(), out),
        (None, true) if presence == PresenceType::Probe => Fate::DroppedNobodyWaits,
        (None, true) => direct(session, &stanza, presence, out).await,
        (None, false) => match presence {
            PresenceType::Available | PresenceType::Unavailable => match priority(&stanza, presence) {
                Ok(priority) => {
                    let envelope = session.envelope(&stanza);
                    broadcast(session, priority, envelope, out).await;
                    Fate::Answered
                }
                Err(condition) => session.refuse(&stanza, condition.into(), out),
            },
            // §4.3: probes are between servers; and nobody waits for an error without an address.
            _ => Fate::DroppedNobodyWaits,
        },
    };
    session.service.metrics().ended(Some(stanza.kind), fate);
}

/// §4.7.2.3: an integer from -128 to 127, 0 if none is given.
fn priority(stanza: &Stanza<'_>, presence: PresenceType) -> Result<Option<i8>, Condition> {
    match presence {
        PresenceType::Available => match stanza.raw.child("priority", stanza.raw.namespace()) {
            None => Ok(Some(0)),
            Some(child) => child.text().trim().parse().map(Some).map_err(|_| Condition::BadRequest),
        },
        _ => Ok(None),
    }
}

/// §4.2, §4.4, §4.5.
async fn broadcast(session: &mut Session, priority: Option<i8>, envelope: Arc<Envelope>, out: &mut Vec<u8>) {
    let service = Arc::clone(&session.service);
    let account = session.full.to_bare();
    let initial = session.priority.is_none() && priority.is_some();
    let was_available = session.priority.is_some();
    let own = own_sessions(session).await;
    session.priority = priority;
    let stanza = priority.map(|_| envelope.stanza.as_slice().into());
    let update = Update::Presence { priority, stanza };
    if let Err(error) = service.registry().update(&session.full, session.id, update).await {
        warn!(full = %session.full, %error, "Presence not recorded.");
    }
    // §4.2.2, §4.4.2, §4.5.2: to all of the account's available resources, including the one that it is about.
    let available = |record: &&SessionRecord| record.priority.is_some() || record.id == session.id;
    for record in own.iter().filter(available) {
        service.link().send(record.full.as_str(), &envelope);
        if initial && record.id != session.id {
            out.extend_from_slice(record.presence.as_deref().unwrap_or_default());
        }
    }
    if initial || was_available {
        tell_contacts(session, &account, initial, &envelope, out).await;
    }
    if priority.is_none() {
        for target in std::mem::take(&mut session.directed) {
            if may_pass(&service, &session.full, &target, envelope.kind).await {
                tell(&service, &target, &envelope).await;
            }
        }
    }
}

/// To those who have a subscription to the account's presence and, at its beginning, from those whose presence it has.
async fn tell_contacts(
    session: &Session,
    account: &BareJid,
    initial: bool,
    envelope: &Arc<Envelope>,
    out: &mut Vec<u8>,
) {
    let service = &session.service;
    let roster = match service.roster(account).await {
        Ok(roster) => roster,
        Err(error) => {
            warn!(%account, %error, "Presence not broadcast: no roster.");
            return;
        }
    };
    let concerned = |item: &&RosterItem| sees(item) || (initial && is_seen(item));
    let here = |item: &&RosterItem| service.serves(item.contact.domain().as_str());
    let local: Vec<&RosterItem> = roster.items.iter().filter(concerned).filter(here).collect();
    let contacts: Vec<BareJid> = local.iter().map(|item| item.contact.clone()).collect();
    let sessions = match service.registry().sessions_of(&contacts).await {
        Ok(sessions) => sessions,
        Err(error) => {
            warn!(%account, %error, "Presence not broadcast: contacts not known.");
            return;
        }
    };
    for (item, sessions) in local.into_iter().zip(&sessions) {
        let contact = Jid::from(item.contact.clone());
        if sees(item)
            && let Some(passage) = passage(service, &session.full, &contact, envelope.kind).await
        {
            for record in sessions.iter().filter(|record| record.priority.is_some()) {
                if passage.lets(service, record, &session.full, envelope.kind) {
                    service.link().send(record.full.as_str(), envelope);
                }
            }
        }
        if initial && is_seen(item) {
            for record in sessions.iter() {
                let Some(presence) = &record.presence else { continue };
                let kind = Kind::Presence(PresenceType::Available);
                if may_pass(service, &record.full, &session.full, kind).await {
                    out.extend_from_slice(presence);
                }
            }
        }
    }
    tell_others(session, &roster, initial, envelope).await;
    if initial {
        // §3.1.3: a request is told at each beginning, until it is answered.
        for request in roster.items.iter().filter_map(|item| item.pending_in.as_deref()) {
            out.extend_from_slice(request);
        }
    }
}

/// §4.2.2 and §4.3.1 for contacts of other domains.
async fn tell_others(session: &Session, roster: &Roster, initial: bool, envelope: &Arc<Envelope>) {
    let service = &session.service;
    let elsewhere = |item: &&RosterItem| !service.serves(item.contact.domain().as_str());
    for item in roster.items.iter().filter(elsewhere) {
        let contact = Jid::from(item.contact.clone());
        if sees(item) && may_pass(service, &session.full, &contact, envelope.kind).await {
            let addressed = readdressed(envelope, &contact);
            service.link().send_domain(item.contact.domain().as_str(), &addressed);
        }
        if initial && is_seen(item) {
            let probe = simple(PresenceType::Probe, &session.full, &contact);
            service.link().send_domain(item.contact.domain().as_str(), &probe);
        }
    }
}

/// The contact has the user's presence.
const fn sees(item: &RosterItem) -> bool {
    matches!(item.subscription, Subscription::From | Subscription::Both)
}

/// The user has the contact's presence.
const fn is_seen(item: &RosterItem) -> bool {
    matches!(item.subscription, Subscription::To | Subscription::Both)
}

/// How far the privacy lists of both let a stanza.
#[derive(Clone, Copy)]
struct Passage {
    /// Each of the recipient's sessions has its own word.
    each: bool,
}

impl Passage {
    fn lets(self, service: &Service, record: &SessionRecord, from: &Jid, kind: Kind) -> bool {
        !self.each || privacy::takes(service, &record.full, from, kind)
    }
}

/// `None`: they keep it back, or are not known.
async fn passage(service: &Service, from: &Jid, to: &Jid, kind: Kind) -> Option<Passage> {
    let check = match privacy::check(service, from, to, kind) {
        Check::Load(_) => privacy::checked(service, from, to, kind).await,
        known => Ok(known),
    };
    match check {
        Ok(Check::Allow) => Some(Passage { each: false }),
        Ok(Check::Each { .. }) => Some(Passage { each: true }),
        Ok(Check::DenyOut { .. } | Check::DenyIn | Check::Load(_)) => None,
        Err(error) => {
            warn!(%error, "Presence held back: no privacy lists.");
            None
        }
    }
}

async fn may_pass(service: &Service, from: &Jid, to: &Jid, kind: Kind) -> bool {
    passage(service, from, to, kind).await.is_some()
}

/// The same stanza with the address that other servers route by.
fn readdressed(envelope: &Envelope, to: &Jid) -> Arc<Envelope> {
    let text = std::str::from_utf8(&envelope.stanza).unwrap_or_default();
    let limits = starling_xml::Limits { stanza_bytes: usize::MAX, ..starling_xml::Limits::default() };
    let mut stanza = Vec::with_capacity(envelope.stanza.len() + to.as_str().len() + 8);
    match starling_xml::parse(text, &starling_xml::Scope::client(), limits) {
        Ok(element) => starling_xml::restamp(&element.as_raw(), &[("to", Some(to.as_str()))], &mut stanza),
        Err(_) => stanza.extend_from_slice(&envelope.stanza),
    }
    Arc::new(Envelope::new(Some(to.clone()), envelope.from.clone(), envelope.kind, stanza))
}

/// §4.6: presence with an address.
async fn direct(session: &mut Session, stanza: &Stanza<'_>, presence: PresenceType, out: &mut Vec<u8>) -> Fate {
    let Some(to) = &stanza.to else { return Fate::DroppedNobodyWaits };
    match check(session, to, stanza.kind).await {
        Check::Allow | Check::Each { .. } => {}
        Check::DenyOut { blocked } => return session.deny_out(stanza, blocked, out),
        Check::DenyIn | Check::Load(_) => return Fate::DroppedUnattended,
    }
    match presence {
        PresenceType::Available if !session.directed.contains(to) => {
            if session.directed.len() >= DIRECTED {
                return session.refuse(stanza, Condition::ResourceConstraint.into(), out);
            }
            session.directed.push(to.clone());
        }
        PresenceType::Unavailable => session.directed.retain(|target| target != to),
        _ => {}
    }
    let envelope = session.envelope(stanza);
    let service = &session.service;
    if !service.serves(to.domain().as_str()) {
        return match service.link().send_domain(to.domain().as_str(), &envelope) {
            Outcome::Queued => Fate::Delivered,
            Outcome::Full => Fate::DroppedFull,
            Outcome::NoSession => session.refuse(stanza, Condition::RemoteServerNotFound.into(), out),
        };
    }
    if to.node().is_none() {
        return session.refuse(stanza, Condition::ServiceUnavailable.into(), out);
    }
    match tell(service, to, &envelope).await {
        Some(Outcome::Queued) => Fate::Delivered,
        Some(Outcome::Full) => Fate::DroppedFull,
        Some(Outcome::NoSession) | None => Fate::DroppedUnattended,
    }
}

async fn check(session: &Session, to: &Jid, kind: Kind) -> Check {
    match privacy::check(&session.service, &session.full, to, kind) {
        Check::Load(accounts) => match privacy::checked(&session.service, &session.full, to, kind).await {
            Ok(known) => known,
            Err(error) => {
                warn!(%error, "Presence held back: no privacy lists.");
                Check::Load(accounts)
            }
        },
        known => known,
    }
}

/// §8.5.2.1.2, §8.5.3.1: presence for an address, wherever it is. `None`: nobody is there.
async fn tell(service: &Service, to: &Jid, envelope: &Arc<Envelope>) -> Option<Outcome> {
    if !service.serves(to.domain().as_str()) {
        return Some(service.link().send_domain(to.domain().as_str(), &readdressed(envelope, to)));
    }
    let sessions = match service.registry().cached(bare_str(to)) {
        Some(sessions) => sessions,
        None => service.registry().sessions(&to.to_bare()).await.unwrap_or_else(|error| {
            warn!(%error, "No look-up of a recipient.");
            Sessions::default()
        }),
    };
    let from = &envelope.from;
    let named = |record: &&SessionRecord| {
        if to.is_full() {
            record.full.as_str() == to.as_str()
        } else {
            record.priority.is_some()
                && (bare_str(from) == bare_str(to) || privacy::takes(service, &record.full, from, envelope.kind))
        }
    };
    sessions.iter().filter(named).map(|record| service.link().send(record.full.as_str(), envelope)).fold(
        None,
        |all, one| match (all, one) {
            (Some(Outcome::Queued), _) | (_, Outcome::Queued) => Some(Outcome::Queued),
            (_, one) => Some(one),
        },
    )
}

/// §4.5.4: a session that ends is announced as unavailable to all who took it for available.
pub(crate) async fn gone(session: &mut Session) {
    if session.priority.is_none() && session.directed.is_empty() {
        return;
    }
    let sessions = session.service.registry().sessions(&session.full.to_bare()).await.unwrap_or_default();
    let successor = |record: &SessionRecord| record.full == session.full && record.id != session.id;
    // A session that has taken the full JID speaks for it: unavailable now would be untrue.
    if sessions.iter().any(|record| successor(record) && record.priority.is_some()) {
        return;
    }
    let from = Jid::from(session.full.clone());
    let mut stanza = b"<presence type='unavailable' from='".to_vec();
    starling_xml::escape::attribute(from.as_str(), &mut stanza);
    stanza.extend_from_slice(b"'/>");
    let kind = Kind::Presence(PresenceType::Unavailable);
    let envelope = Arc::new(Envelope::new(None, from, kind, stanza));
    broadcast(session, None, envelope, &mut Vec::new()).await;
}

async fn own_sessions(session: &Session) -> Sessions {
    if let Some(sessions) = session.service.registry().cached(&session.account) {
        return sessions;
    }
    session.service.registry().sessions(&session.full.to_bare()).await.unwrap_or_else(|error| {
        warn!(full = %session.full, %error, "Own resources not known.");
        Sessions::default()
    })
}
