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

mod broadcast;
mod directed;
mod outside;
mod refresh;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use starling_link::{Envelope, Outcome};
use starling_registry::{SessionRecord, Sessions};
use starling_store::rosters::{RosterItem, Subscription};
use starling_xmpp::{
    error::Condition,
    jid::{BareJid, Jid, bare_str},
    stanza::{Kind, PresenceType, Stanza},
};
use tracing::warn;

pub(crate) use self::{broadcast::gone, subscriptions::remove};
use crate::{
    Fate, Service, Session,
    privacy::{self, Check},
    subscription::Change,
};

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
        (None, true) => directed::send(session, &stanza, presence, out).await,
        (None, false) => match presence {
            PresenceType::Available | PresenceType::Unavailable => match priority(&stanza, presence) {
                Ok(priority) => {
                    let envelope = session.envelope(&stanza);
                    broadcast::broadcast(session, priority, &envelope, out).await;
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
        !self.each || privacy::takes(service, record, from, kind)
    }
}

/// `None`: they keep it back, or are not known.
async fn passage(service: &Service, from: &Jid, to: &Jid, kind: Kind) -> Option<Passage> {
    match check(service, from, to, kind).await {
        Check::Allow => Some(Passage { each: false }),
        Check::Each { .. } => Some(Passage { each: true }),
        Check::DenyOut { .. } | Check::DenyIn | Check::Load(_) => None,
    }
}

async fn may_pass(service: &Service, from: &Jid, to: &Jid, kind: Kind) -> bool {
    passage(service, from, to, kind).await.is_some()
}

/// What the lists of both say; [`Check::Load`]: they cannot be read.
async fn check(service: &Service, from: &Jid, to: &Jid, kind: Kind) -> Check {
    match privacy::check(service, from, to, kind) {
        Check::Load(accounts) => match privacy::checked(service, from, to, kind).await {
            Ok(known) => known,
            Err(error) => {
                warn!(%error, "Presence held back: no privacy lists.");
                Check::Load(accounts)
            }
        },
        known => known,
    }
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

/// A presence stanza of nothing but a type and addresses.
fn simple(kind: PresenceType, from: &Jid, to: &Jid) -> Arc<Envelope> {
    plain(kind, from, Some(to))
}

/// The same, also for all who may see it.
fn plain(kind: PresenceType, from: &Jid, to: Option<&Jid>) -> Arc<Envelope> {
    let mut stanza = b"<presence".to_vec();
    for (name, value) in [("type", kind.as_str()), ("from", Some(from.as_str())), ("to", to.map(|to| to.as_str()))] {
        let Some(value) = value else { continue };
        stanza.push(b' ');
        stanza.extend_from_slice(name.as_bytes());
        stanza.extend_from_slice(b"='");
        starling_xml::escape::attribute(value, &mut stanza);
        stanza.push(b'\'');
    }
    stanza.extend_from_slice(b"/>");
    Arc::new(Envelope::new(to.cloned(), from.clone(), Kind::Presence(kind), stanza))
}

/// §8.5.2.1.2, §8.5.3.1: presence for an address, wherever it is. `None`: nobody is there.
async fn tell(service: &Service, to: &Jid, envelope: &Arc<Envelope>) -> Option<Outcome> {
    if !service.serves(to.domain().as_str()) {
        return Some(service.link().send_domain(to.domain().as_str(), &readdressed(envelope, to)));
    }
    let sessions = sessions(service, to).await;
    let from = &envelope.from;
    let named = |record: &&SessionRecord| {
        if to.is_full() {
            record.full.as_str() == to.as_str()
        } else {
            record.priority.is_some()
                && (bare_str(from) == bare_str(to) || privacy::takes(service, record, from, envelope.kind))
        }
    };
    let mut concerned = sessions.iter().filter(named).peekable();
    concerned.peek()?;
    Some(service.link().deliver(&mut concerned, envelope).outcome())
}

/// The sessions of the account that `jid` is of.
async fn sessions(service: &Service, jid: &Jid) -> Sessions {
    match service.registry().cached(bare_str(jid)) {
        Some(sessions) => sessions,
        None => service.registry().sessions(&jid.to_bare()).await.unwrap_or_else(|error| {
            warn!(%jid, %error, "No look-up of an account's sessions.");
            Sessions::default()
        }),
    }
}

/// The same with their presence.
async fn shown(service: &Service, account: &BareJid) -> Sessions {
    let found = service.registry().with_presence(std::slice::from_ref(account)).await;
    let mut found = found.unwrap_or_else(|error| {
        warn!(%account, %error, "No look-up of an account's presence.");
        Vec::new()
    });
    found.pop().unwrap_or_default()
}
