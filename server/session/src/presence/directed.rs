//! Presence with an address (RFC 6121 §4.6).

use std::sync::Arc;

use starling_link::{Envelope, Outcome};
use starling_store::rosters::Roster;
use starling_xmpp::{
    error::Condition,
    jid::{Jid, bare_str},
    stanza::{PresenceType, Stanza},
};

use super::{check, may_pass, sees, sessions, tell};
use crate::{Fate, Service, Session, privacy::Check};

/// Addresses that a session may send presence to directly without being unavailable in between; one more is refused with
/// `resource-constraint`.
const DIRECTED: usize = 256;

/// §4.6.3: presence from the session's client for one address, which hears of the session's end as well.
pub(super) async fn send(
    session: &mut Session,
    stanza: &Stanza<'_>,
    presence: PresenceType,
    out: &mut Vec<u8>,
) -> Fate {
    let Some(to) = &stanza.to else { return Fate::DroppedNobodyWaits };
    match check(&session.service, &session.full, to, stanza.kind).await {
        Check::Allow | Check::Each { .. } => {}
        Check::DenyOut { blocked } => return session.deny_out(stanza, blocked, out),
        Check::DenyIn | Check::Load(_) => return Fate::DroppedUnattended,
    }
    let is_new = presence == PresenceType::Available && !session.directed.contains(to);
    if is_new && session.directed.len() >= DIRECTED {
        return session.refuse(stanza, Condition::ResourceConstraint.into(), out);
    }
    if presence == PresenceType::Unavailable {
        session.directed.retain(|target| target != to);
        session.details_changed = true;
    }
    let envelope = session.envelope(stanza);
    let service = &session.service;
    let outcome = if !service.serves(to.domain().as_str()) {
        match service.link().send_domain(to.domain().as_str(), &envelope) {
            Outcome::NoSession => return session.refuse(stanza, Condition::RemoteServerNotFound.into(), out),
            sent => Some(sent),
        }
    } else if to.node().is_none() {
        return session.refuse(stanza, Condition::ServiceUnavailable.into(), out);
    } else {
        tell(service, to, &envelope).await
    };
    if is_new {
        session.directed.push(to.clone());
        session.details_changed = true;
    }
    match outcome {
        Some(Outcome::Queued) => Fate::Delivered,
        Some(Outcome::Full) => Fate::DroppedFull,
        Some(Outcome::NoSession) | None => Fate::DroppedUnattended,
    }
}

/// §4.6.3: the session is unavailable now, to those as well who saw it for a while; unless they have just heard of it
/// with all the others.
pub(super) async fn take_leave(
    session: &mut Session,
    roster: Option<&Roster>,
    was_available: bool,
    envelope: &Arc<Envelope>,
) {
    let service = Arc::clone(&session.service);
    session.details_changed |= !session.directed.is_empty();
    for target in std::mem::take(&mut session.directed) {
        let knows = was_available && has_heard(&service, &session.account, roster, &target).await;
        if !knows && may_pass(&service, &session.full, &target, envelope.kind).await {
            tell(&service, &target, envelope).await;
        }
    }
}

/// Whether a broadcast of the account reaches `target`.
async fn has_heard(service: &Service, account: &str, roster: Option<&Roster>, target: &Jid) -> bool {
    let contact = bare_str(target);
    let subscribed = |roster: &Roster| roster.items.iter().any(|item| item.contact.as_str() == contact && sees(item));
    if contact != account && !roster.is_some_and(subscribed) {
        return false;
    }
    // A full JID of this server is reached if it is available; any other address is its server's matter.
    !target.is_full()
        || !service.serves(target.domain().as_str())
        || sessions(service, target)
            .await
            .iter()
            .any(|record| record.full.as_str() == target.as_str() && record.priority.is_some())
}
