//! Presence without an address (RFC 6121 §4.2, §4.4, §4.5).

use std::sync::Arc;

use starling_link::Envelope;
use starling_registry::{SessionRecord, Sessions, Update};
use starling_store::rosters::{Roster, RosterItem};
use starling_xmpp::{
    jid::{BareJid, Jid},
    stanza::{Kind, PresenceType},
};
use tracing::warn;

use super::{directed, is_seen, may_pass, passage, plain, readdressed, sees, simple};
use crate::Session;

/// §4.2, §4.4, §4.5: presence from the session's client. What contacts show goes to `out`.
pub(super) async fn broadcast(
    session: &mut Session,
    priority: Option<i8>,
    envelope: &Arc<Envelope>,
    out: &mut Vec<u8>,
) {
    let service = Arc::clone(&session.service);
    let _turn = service.rosters().showing(&session.account).await;
    show(session, priority, envelope, out).await;
}

/// §4.5.4: a session that ends is announced as unavailable to all who took it for available.
pub(crate) async fn gone(session: &mut Session) {
    if session.priority.is_none() && session.directed.is_empty() {
        return;
    }
    let service = Arc::clone(&session.service);
    let _turn = service.rosters().showing(&session.account).await;
    let envelope = plain(PresenceType::Unavailable, &Jid::from(session.full.clone()), None);
    show(session, None, &envelope, &mut Vec::new()).await;
}

/// Another session that has the full JID by now, and speaks for it.
async fn successor(session: &Session) -> Option<SessionRecord> {
    let is_it = |record: &&SessionRecord| record.full == session.full && record.id != session.id;
    // What is remembered may be older than the change that was not made.
    let found = session.service.registry().sessions(&session.full.to_bare()).await.unwrap_or_default();
    found.iter().find(is_it).cloned()
}

async fn show(session: &mut Session, priority: Option<i8>, envelope: &Arc<Envelope>, out: &mut Vec<u8>) {
    let service = Arc::clone(&session.service);
    let account = session.full.to_bare();
    let was_available = session.priority.is_some();
    let initial = !was_available && priority.is_some();
    session.priority = priority;
    let stanza = priority.map(|_| envelope.stanza.as_slice().into());
    match service.registry().update(&session.full, session.id, Update::Presence { priority, stanza }).await {
        Ok(true) => {}
        // Replaced: what it shows would be taken for its successor's.
        Ok(false) if priority.is_some() => return,
        Ok(false) => match successor(session).await {
            // Its instance has told all but those who were told directly.
            Some(record) if !service.link().is_here(record.instance) => {
                let roster = service.roster(&account).await.ok();
                directed::take_leave(session, roster.as_deref(), was_available, envelope).await;
                return;
            }
            Some(record) if record.priority.is_some() => return,
            Some(_) | None => {}
        },
        Err(error) => warn!(full = %session.full, %error, "Presence not recorded."),
    }
    let roster = match service.roster(&account).await {
        _ if !(initial || was_available) => None,
        Ok(roster) => Some(roster),
        Err(error) => {
            warn!(%account, %error, "Presence not broadcast: no roster.");
            None
        }
    };
    let concerned = |item: &&RosterItem| sees(item) || (initial && is_seen(item));
    let here = |item: &&RosterItem| service.serves(item.contact.domain().as_str());
    let items = roster.iter().flat_map(|roster| &roster.items);
    let local: Vec<&RosterItem> = items.filter(concerned).filter(here).collect();
    // Read behind the change, all at once: of two that become available together, the later one sees the other.
    let mut accounts = vec![account.clone()];
    accounts.extend(local.iter().map(|item| item.contact.clone()));
    let found = match initial {
        true => service.registry().with_presence(&accounts).await,
        false => service.registry().sessions_of(&accounts).await,
    };
    match found {
        Ok(found) => {
            let (own, theirs) = found.split_first().map_or((&[][..], &[][..]), |(own, theirs)| (&own[..], theirs));
            tell_own(session, own, (was_available, initial), envelope, out);
            tell_contacts(session, &local, theirs, initial, envelope, out).await;
            if let Some(roster) = &roster {
                tell_others(session, roster, initial, envelope).await;
                if initial {
                    tell_requests(session, &account, roster, own, out).await;
                }
            }
        }
        Err(error) => warn!(%account, %error, "Presence not broadcast: nobody known."),
    }
    if priority.is_none() {
        directed::take_leave(session, roster.as_deref(), was_available, envelope).await;
    }
}

/// §4.2.2, §4.4.2, §4.5.2: to all of the account's available resources, and to the one that it is about.
fn tell_own(
    session: &Session,
    own: &[SessionRecord],
    (was_available, initial): (bool, bool),
    envelope: &Arc<Envelope>,
    out: &mut Vec<u8>,
) {
    let itself = |record: &SessionRecord| record.id == session.id;
    let hears = |record: &&SessionRecord| itself(record) || record.priority.is_some() && (was_available || initial);
    session.service.link().deliver(&mut own.iter().filter(hears), envelope);
    for record in own.iter().filter(|record| initial && !itself(record)) {
        out.extend_from_slice(record.presence.as_deref().unwrap_or_default());
    }
}

/// To those who have a subscription to the account's presence and, at its beginning, from those whose presence it has.
async fn tell_contacts(
    session: &Session,
    local: &[&RosterItem],
    found: &[Sessions],
    initial: bool,
    envelope: &Arc<Envelope>,
    out: &mut Vec<u8>,
) {
    let service = &session.service;
    let mut told: Vec<&SessionRecord> = Vec::new();
    for (item, sessions) in local.iter().zip(found) {
        let contact = Jid::from(item.contact.clone());
        if sees(item)
            && sessions.iter().any(|record| record.priority.is_some())
            && let Some(passage) = passage(service, &session.full, &contact, envelope.kind).await
        {
            let available = sessions.iter().filter(|record| record.priority.is_some());
            told.extend(available.filter(|record| passage.lets(service, record, &session.full, envelope.kind)));
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
    // All at once: what goes to many of one instance travels once.
    service.link().deliver(&mut told.into_iter(), envelope);
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

/// §3.1.3: a request is told at each beginning, until it is answered; not of one who was blocked since.
async fn tell_requests(
    session: &Session,
    account: &BareJid,
    roster: &Roster,
    own: &[SessionRecord],
    out: &mut Vec<u8>,
) {
    let to = Jid::from(account.clone());
    let kind = Kind::Presence(PresenceType::Subscribe);
    let itself = own.iter().find(|record| record.id == session.id);
    for item in &roster.items {
        let Some(request) = &item.pending_in else { continue };
        let contact = Jid::from(item.contact.clone());
        if let Some(passage) = passage(&session.service, &contact, &to, kind).await
            && itself.is_none_or(|record| passage.lets(&session.service, record, &contact, kind))
        {
            out.extend_from_slice(request);
        }
    }
}
