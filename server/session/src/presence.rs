//! Presence of a session: availability and priority, told to the account's own resources, and directed presence.
//!
//! Subscriptions (RFC 6121 §3) act on rosters, which this server does not keep yet: they are refused.

use std::sync::Arc;

use starling_link::Envelope;
use starling_registry::{SessionRecord, Sessions, Update};
use starling_xmpp::{
    error::Condition,
    jid::{Jid, bare_str},
    stanza::{Kind, PresenceType, Stanza},
};
use tracing::warn;

use crate::{Fate, Session, deliver::is_subscription};

/// RFC 6121 §4: presence from the session's client. `directed`: it has a `to`.
pub(crate) async fn handle(
    session: &mut Session,
    stanza: Stanza<'_>,
    presence: PresenceType,
    directed: bool,
    out: &mut Vec<u8>,
) {
    let fate = if is_subscription(presence) {
        session.refuse(&stanza, Condition::FeatureNotImplemented.into(), out)
    } else {
        match (presence, directed) {
            (PresenceType::Available | PresenceType::Unavailable, false) => match priority(&stanza, presence) {
                Ok(priority) => {
                    broadcast(session, priority, session.envelope(&stanza)).await;
                    Fate::Answered
                }
                Err(condition) => session.refuse(&stanza, condition.into(), out),
            },
            (PresenceType::Available | PresenceType::Unavailable | PresenceType::Error, true) => {
                direct(session, &stanza, out).await
            }
            // §4.3: probes are between servers; and nobody waits for an error without an address.
            _ => Fate::DroppedNobodyWaits,
        }
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

/// §4.2.2, §4.4.2, §4.5.2: to all of the account's available resources, including the one that it is about.
async fn broadcast(session: &mut Session, priority: Option<i8>, envelope: Arc<Envelope>) {
    let before = own_sessions(session).await;
    session.priority = priority;
    let registry = session.service.registry();
    let stanza = priority.map(|_| envelope.stanza.as_slice().into());
    if let Err(error) = registry.update(&session.full, session.id, Update::Presence { priority, stanza }).await {
        warn!(full = %session.full, %error, "Presence not recorded.");
    }
    let available = |record: &&SessionRecord| record.priority.is_some() || record.id == session.id;
    for record in before.iter().filter(available) {
        session.service.link().send(record.full.as_str(), &envelope);
    }
}

/// §4.6: presence with an address of this server.
async fn direct(session: &Session, stanza: &Stanza<'_>, out: &mut Vec<u8>) -> Fate {
    let Some(to) = &stanza.to else { return Fate::DroppedNobodyWaits };
    let sessions = match session.service.registry().sessions(&to.to_bare()).await {
        Ok(sessions) => sessions,
        Err(error) => {
            warn!(%error, "No look-up of a recipient.");
            return Fate::DroppedUnattended;
        }
    };
    let named = |record: &&SessionRecord| {
        if to.is_full() { record.full.as_str() == to.as_str() } else { record.priority.is_some() }
    };
    let targets = sessions.iter().filter(named).map(|record| &record.full);
    session.send_to(targets, stanza, &session.envelope(stanza), out)
}

/// §4.5.4: a session that ends while it is available is announced as unavailable.
pub(crate) async fn gone(session: &mut Session) {
    if session.priority.is_none() {
        return;
    }
    let from = Jid::from(session.full.clone());
    let mut stanza = b"<presence type='unavailable' from='".to_vec();
    starling_xml::escape::attribute(from.as_str(), &mut stanza);
    stanza.extend_from_slice(b"'/>");
    let kind = Kind::Presence(PresenceType::Unavailable);
    broadcast(session, None, Arc::new(Envelope::new(None, from, kind, stanza))).await;
}

async fn own_sessions(session: &Session) -> Sessions {
    if let Some(sessions) = session.service.registry().cached(bare_str(&session.full)) {
        return sessions;
    }
    session.service.registry().sessions(&session.full.to_bare()).await.unwrap_or_else(|error| {
        warn!(full = %session.full, %error, "Own resources not known.");
        Sessions::default()
    })
}
