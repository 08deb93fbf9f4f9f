//! Presence that follows a change of lists: who may no longer see somebody sees them go, and who may again sees them
//! come (XEP-0191 §3.3 and §3.4, XEP-0016 §2.10 and §2.11).

use std::sync::Arc;

use starling_link::Envelope;
use starling_registry::{SessionRecord, Sessions};
use starling_store::{Error, RosterItem, Subscription};
use starling_xml::escape;
use starling_xmpp::{
    jid::{BareJid, Jid},
    stanza::{Kind, PresenceType},
};
use tracing::warn;

use super::{Direction, Held, Verdict};
use crate::Service;

const AVAILABLE: Kind = Kind::Presence(PresenceType::Available);
const UNAVAILABLE: Kind = Kind::Presence(PresenceType::Unavailable);

/// What applies to a session: the account's lists, and its own active list.
#[derive(Clone)]
pub(crate) struct Applied {
    /// The lists.
    pub(crate) held: Arc<Held>,
    /// The active list.
    pub(crate) active: Option<Arc<str>>,
}

impl Applied {
    fn allows(&self, direction: Direction, peer: &Jid) -> bool {
        self.held.verdict(self.active.as_deref(), direction, AVAILABLE, peer) == Verdict::Allow
    }
}

/// One of the account's sessions, with what applied to it before and applies now.
struct Own<'r> {
    record: &'r SessionRecord,
    before: Applied,
    after: Applied,
}

impl Own<'_> {
    /// Whether presence passes now that did not, or the other way round; `None`: nothing has changed.
    fn opened(&self, direction: Direction, peer: &Jid) -> Option<bool> {
        let (before, after) = (self.before.allows(direction, peer), self.after.allows(direction, peer));
        (before != after).then_some(after)
    }
}

/// Tells the account's contacts, and its sessions about them, after lists have changed. `applied` says of each session
/// what applied to it before and what applies now; `None`: it is left out. Costs one roster query and one read of the
/// registry. What fails is logged: the lists are in force all the same.
pub(crate) async fn retell(
    service: &Service,
    account: &BareJid,
    applied: impl Fn(&SessionRecord) -> Option<(Applied, Applied)> + Send,
) {
    if let Err(error) = try_retell(service, account, applied).await {
        warn!(%account, %error, "Presence does not follow a change of privacy lists.");
    }
}

async fn try_retell(
    service: &Service,
    account: &BareJid,
    applied: impl Fn(&SessionRecord) -> Option<(Applied, Applied)> + Send,
) -> Result<(), Error> {
    let sessions = sessions(service, account).await;
    let own: Vec<_> = sessions
        .iter()
        .filter(|record| record.priority.is_some())
        .filter_map(|record| applied(record).map(|(before, after)| Own { record, before, after }))
        .collect();
    if own.is_empty() {
        return Ok(());
    }
    let roster = service.store().roster(account).await?;
    let items: Vec<_> = roster
        .items
        .iter()
        .filter(|item| item.contact != *account && item.subscription != Subscription::None)
        .collect();
    let (local, remote): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| service.serves(item.contact.domain().as_str()));
    let contacts: Vec<BareJid> = local.iter().map(|item| item.contact.clone()).collect();
    let found = match service.registry().with_presence(&contacts).await {
        Ok(found) => found,
        Err(error) => {
            warn!(%account, %error, "Contacts not found after a change of privacy lists.");
            return Ok(());
        }
    };
    for (item, sessions) in local.into_iter().zip(found) {
        let available: Vec<_> = sessions.iter().filter(|record| record.priority.is_some()).collect();
        if !available.is_empty() {
            between(service, &own, item, &available).await?;
        }
    }
    for item in remote {
        abroad(service, &own, item);
    }
    Ok(())
}

/// With a contact on this server: presence of both, where it is seen by subscription.
async fn between(
    service: &Service,
    own: &[Own<'_>],
    item: &RosterItem,
    theirs: &[&SessionRecord],
) -> Result<(), Error> {
    let held = service.privacy().get(service.store(), &item.contact).await?;
    let contact =
        |record: &SessionRecord| Applied { held: held.clone().unwrap_or_default(), active: record.active_list.clone() };
    for mine in own {
        for record in theirs {
            let peer = Jid::from(record.full.clone());
            let me = Jid::from(mine.record.full.clone());
            if sees_account(item.subscription)
                && let Some(opened) = mine.opened(Direction::Out, &peer)
                && contact(record).allows(Direction::In, &me)
            {
                tell(service, mine.record, record, opened);
            }
            if sees_contact(item.subscription)
                && let Some(opened) = mine.opened(Direction::In, &peer)
                && contact(record).allows(Direction::Out, &me)
            {
                tell(service, record, mine.record, opened);
            }
        }
    }
    Ok(())
}

/// With a contact of another domain: what it sees is sent, and what it shows is asked for (RFC 6121 §4.3).
fn abroad(service: &Service, own: &[Own<'_>], item: &RosterItem) {
    let peer = Jid::from(item.contact.clone());
    for mine in own {
        if sees_account(item.subscription)
            && let Some(opened) = mine.opened(Direction::Out, &peer)
        {
            send_abroad(service, &peer, presence(mine.record, &peer, opened));
        }
        if sees_contact(item.subscription) && mine.opened(Direction::In, &peer) == Some(true) {
            let from = Jid::from(mine.record.full.clone());
            let mut stanza = b"<presence type='probe'".to_vec();
            address("from", &from, &mut stanza);
            address("to", &peer, &mut stanza);
            stanza.extend_from_slice(b"/>");
            let kind = Kind::Presence(PresenceType::Probe);
            send_abroad(service, &peer, Some(Envelope::new(Some(peer.clone()), from, kind, stanza)));
        }
    }
}

fn send_abroad(service: &Service, peer: &Jid, envelope: Option<Envelope>) {
    if let Some(envelope) = envelope {
        // Presence is not kept for a domain that cannot be reached (RFC 6121 §4.4.2).
        let _ = service.link().send_domain(peer.domain().as_str(), &Arc::new(envelope));
    }
}

/// Sends the presence of `record` to the session `target`; `there`: its last one, else that it is gone.
fn tell(service: &Service, record: &SessionRecord, target: &SessionRecord, there: bool) {
    if let Some(envelope) = presence(record, &Jid::from(target.full.to_bare()), there) {
        // A full queue drops presence, as everywhere.
        service.send(target, &Arc::new(envelope));
    }
}

fn presence(record: &SessionRecord, to: &Jid, there: bool) -> Option<Envelope> {
    let from = Jid::from(record.full.clone());
    let mut stanza = b"<presence".to_vec();
    address("to", to, &mut stanza);
    if there {
        stanza.extend_from_slice(record.presence.as_deref()?.strip_prefix(b"<presence")?);
        return Some(Envelope::new(Some(to.clone()), from, AVAILABLE, stanza));
    }
    address("from", &from, &mut stanza);
    stanza.extend_from_slice(b" type='unavailable'/>");
    Some(Envelope::new(Some(to.clone()), from, UNAVAILABLE, stanza))
}

fn address(name: &str, jid: &Jid, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape::attribute(jid.as_str(), out);
    out.push(b'\'');
}

async fn sessions(service: &Service, account: &BareJid) -> Sessions {
    let found = service.registry().with_presence(std::slice::from_ref(account)).await;
    let mut found = found.unwrap_or_else(|error| {
        warn!(%account, %error, "Own resources not known.");
        Vec::new()
    });
    found.pop().unwrap_or_default()
}

/// RFC 6121 §2.1.2.5: the contact gets the account's presence.
const fn sees_account(subscription: Subscription) -> bool {
    matches!(subscription, Subscription::From | Subscription::Both)
}

/// The account gets the contact's presence.
const fn sees_contact(subscription: Subscription) -> bool {
    matches!(subscription, Subscription::To | Subscription::Both)
}
