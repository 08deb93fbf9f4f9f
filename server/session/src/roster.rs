//! Rosters in memory: what presence asks for at every log-in and change, remembered for the accounts that asked lately;
//! and how changes are told (RFC 6121 §2.1.6).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use papaya::HashMap;
use starling_link::Envelope;
use starling_store::{
    Error,
    rosters::{Decide, ItemChanged, Roster, RosterItem, Subscription},
};
use starling_xmpp::{
    jid::{BareJid, Jid},
    ns,
    stanza::{IqType, Kind, iq_request},
};

use crate::Service;

/// Rosters that are remembered; where there are more, all are forgotten and read again as they are asked for.
const REMEMBERED: usize = 4096;
/// Contacts in them together, likewise.
const CONTACTS: u64 = 1 << 20;
/// Items that a roster may have; one more is refused with `resource-constraint`.
pub(crate) const ITEMS: usize = 1000;

/// Rosters of accounts that asked lately. Readers never wait.
#[derive(Debug, Default)]
pub(crate) struct Rosters {
    accounts: HashMap<Box<str>, Arc<Roster>>,
    contacts: AtomicU64,
    /// Counts the changes: what was read before one is not remembered after it.
    changes: AtomicU64,
}

impl Rosters {
    fn remember(&self, account: &str, roster: &Arc<Roster>, changes: u64) {
        let accounts = self.accounts.pin();
        let size = roster.items.len() as u64;
        if accounts.len() >= REMEMBERED || self.contacts.fetch_add(size, Ordering::Relaxed) + size > CONTACTS {
            accounts.clear();
            self.contacts.store(size, Ordering::Relaxed);
        }
        accounts.insert(account.into(), Arc::clone(roster));
        // A change between the read and now has forgotten nothing, since there was nothing to forget.
        if self.changes.load(Ordering::Acquire) != changes {
            accounts.remove(account);
        }
    }

    fn forget(&self, account: &str) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.accounts.pin().remove(account);
    }
}

impl Service {
    /// The roster of an account, from memory or by one query.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn roster(&self, account: &BareJid) -> Result<Arc<Roster>, Error> {
        if let Some(known) = self.rosters().accounts.pin().get(account.as_str()) {
            return Ok(Arc::clone(known));
        }
        let changes = self.rosters().changes.load(Ordering::Acquire);
        let roster = Arc::new(self.store().roster(account).await?);
        self.rosters().remember(account.as_str(), &roster, changes);
        Ok(roster)
    }

    /// Changes an item, and tells the account's sessions of what they see of it. What it is then is on disk.
    ///
    /// # Errors
    /// If the store does not answer.
    pub(crate) async fn change_item(
        &self,
        account: &BareJid,
        contact: &BareJid,
        change: Decide<'_>,
    ) -> Result<ItemChanged, Error> {
        let changed = self.store().change_item(account, contact, ITEMS, change).await;
        // Also when it failed: it may be on disk all the same.
        self.rosters().forget(account.as_str());
        let changed = changed?;
        if let ItemChanged::Changed { version, before, after } = &changed {
            crate::privacy::forget(self, account.as_str());
            let shown = |item: &Option<RosterItem>| item.clone().filter(|item| item.listed).map(visible);
            if shown(before) != shown(after) {
                self.push_item(account, contact, after.as_ref().filter(|item| item.listed), *version).await;
            }
        }
        Ok(changed)
    }

    /// RFC 6121 §2.1.6: to every session that asked for the roster.
    async fn push_item(&self, account: &BareJid, contact: &BareJid, item: Option<&RosterItem>, version: u64) {
        let Ok(sessions) = self.registry().sessions(account).await else { return };
        for record in sessions.iter().filter(|record| record.roster) {
            let push = push(&record.full, contact, item, version);
            self.link().send(record.full.as_str(), &Arc::new(push));
        }
    }
}

/// A roster push for one session.
pub(crate) fn push(
    to: &starling_xmpp::jid::FullJid,
    contact: &BareJid,
    item: Option<&RosterItem>,
    version: u64,
) -> Envelope {
    let mut stanza = Vec::with_capacity(256);
    iq_request(IqType::Set, &format!("push-{version}"), None, Some(to.as_str()), &mut stanza, |out| {
        out.extend_from_slice(b"<query xmlns='");
        out.extend_from_slice(ns::ROSTER.as_bytes());
        out.extend_from_slice(format!("' ver='{version}'>").as_bytes());
        match item {
            Some(item) => write_item(item, out),
            None => {
                out.extend_from_slice(b"<item jid='");
                starling_xml::escape::attribute(contact.as_str(), out);
                out.extend_from_slice(b"' subscription='remove'/>");
            }
        }
        out.extend_from_slice(b"</query>");
    });
    let from = Jid::from(to.to_bare());
    Envelope::new(Some(Jid::from(to.clone())), from, Kind::Iq(IqType::Set), stanza)
}

/// RFC 6121 §2.1.2.
pub(crate) fn write_item(item: &RosterItem, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<item");
    let ask = item.ask.then_some("subscribe");
    let approved = item.approved.then_some("true");
    let attributes = [
        ("jid", Some(item.contact.as_str())),
        ("name", item.name.as_deref()),
        ("subscription", Some(subscription(item.subscription))),
        ("ask", ask),
        ("approved", approved),
    ];
    for (name, value) in attributes {
        if let Some(value) = value {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"='");
            starling_xml::escape::attribute(value, out);
            out.push(b'\'');
        }
    }
    out.push(b'>');
    for group in &item.groups {
        out.extend_from_slice(b"<group>");
        starling_xml::escape::text(group, out);
        out.extend_from_slice(b"</group>");
    }
    out.extend_from_slice(b"</item>");
}

const fn subscription(subscription: Subscription) -> &'static str {
    match subscription {
        Subscription::None => "none",
        Subscription::To => "to",
        Subscription::From => "from",
        Subscription::Both => "both",
    }
}

/// What the user sees of an item.
fn visible(mut item: RosterItem) -> RosterItem {
    item.pending_in = None;
    item.version = 0;
    item
}
