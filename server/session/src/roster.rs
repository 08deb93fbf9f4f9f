//! Rosters in memory: what presence asks for at every log-in and change, remembered for the accounts that asked lately;
//! and how changes are told (RFC 6121 §2.1.6).
//!
//! Where an account has sessions at many instances, each tells its own of a change, in the order of the roster's versions:
//! whoever makes a change says to the others no more than that there is one ([`elsewhere`]).

mod cache;
mod elsewhere;
mod turns;

use std::sync::Arc;

use starling_link::{Envelope, Outcome};
use starling_registry::{SessionRecord, Sessions, Update};
use starling_store::{
    Error,
    rosters::{Decide, ItemChanged, Roster, RosterItem, Subscription},
};
use starling_xmpp::{
    jid::{BareJid, FullJid, Jid},
    ns,
    stanza::{IqType, Kind, iq_request},
};
use tokio::sync::MutexGuard;
use tracing::{debug, warn};

use self::{cache::Cache, elsewhere::Told, turns::Turns};
use crate::Service;

/// Items that a roster may have, with those of contacts that ask and have no answer; one more is refused with
/// `resource-constraint`.
pub(crate) const ITEMS: usize = 1000;

/// Rosters of accounts that asked lately, and whose turn it is to change or to show something.
#[derive(Debug, Default)]
pub(crate) struct Rosters {
    cache: Cache,
    changing: Turns,
    showing: Turns,
    told: Told,
}

impl Rosters {
    /// To be held while a roster changes and the change is told, so that changes are told in their order.
    pub(crate) async fn changing(&self, account: &str) -> Option<MutexGuard<'_, ()>> {
        self.changing.take(account).await
    }

    /// To be held while the presence of a session of `account` is written down and shown, so that nobody is shown an older
    /// one behind a newer.
    pub(crate) async fn showing(&self, account: &str) -> Option<MutexGuard<'_, ()>> {
        self.showing.take(account).await
    }
}

/// Which changes are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// All: it was asked for by a roster set (§2.3.2).
    Always,
    /// Those that the roster shows.
    IfSeen,
}

impl Service {
    /// The roster of an account, from memory or by one query.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn roster(&self, account: &BareJid) -> Result<Arc<Roster>, Error> {
        let epoch = match self.rosters().cache.get(account.as_str()) {
            Ok(known) => return Ok(known),
            Err(epoch) => epoch,
        };
        let roster = Arc::new(self.store().roster(account).await?);
        if self.hears_of_changes(account) {
            self.rosters().cache.remember(account.as_str(), &roster, epoch);
        }
        Ok(roster)
    }

    /// Makes the next who asks for the roster of `account` ask the store: for an account that was removed.
    pub fn forget_roster(&self, account: &BareJid) {
        self.rosters().cache.forget(account.as_str());
    }

    /// Changes an item and, when that is on disk, tells the account's sessions: first what `deliver` sends them about what
    /// the item was before (§3.1.6: ahead of the push), then a push.
    ///
    /// # Errors
    /// If the store does not answer.
    pub(crate) async fn change_item(
        &self,
        account: &BareJid,
        contact: &BareJid,
        pushed: Push,
        change: Decide<'_>,
        deliver: impl FnOnce(Option<&RosterItem>, &[SessionRecord]) + Send,
    ) -> Result<ItemChanged, Error> {
        let turn = self.rosters().changing(account.as_str()).await;
        let changed = self.store().change_item(account, contact, ITEMS, change).await;
        // Also when it failed: it may be on disk all the same.
        self.rosters().cache.forget(account.as_str());
        let changed = changed?;
        if let ItemChanged::Changed { version, before, after } = &changed {
            crate::privacy::roster_changed(self, account).await;
            let sessions = self.registry().sessions(account).await.unwrap_or_else(|error| {
                warn!(%account, %error, "A change of the roster is not told: no sessions.");
                Sessions::default()
            });
            deliver(before.as_ref(), &sessions);
            let shown = |item: &Option<RosterItem>| item.clone().filter(|item| item.listed).map(visible);
            let is_pushed = pushed == Push::Always || shown(before) != shown(after);
            if self.registry().are_shared() {
                self.tell_here(account, *version, is_pushed).await;
                // An instance that changes the same roster may wait for this one.
                drop(turn);
                self.tell_others(account, &sessions, *version, is_pushed).await;
            } else if is_pushed {
                let item = after.as_ref().filter(|item| item.listed);
                let id = format!("push-{version}");
                for record in sessions.iter().filter(|record| record.roster) {
                    self.push_to(record, &push(&record.full, contact, item, *version, &id)).await;
                }
            }
        }
        Ok(changed)
    }

    /// RFC 6121 §2.1.6. A session that has no room for a push gets no more of them until it asks for its roster again: with
    /// a later version in hand it would never hear of this change.
    async fn push_to(&self, record: &SessionRecord, push: &Arc<Envelope>) {
        if self.send(record, push) == Outcome::Full {
            debug!(full = %record.full, "No room for a roster push.");
            if let Err(error) = self.registry().update(&record.full, record.id, Update::Roster(false)).await {
                warn!(full = %record.full, %error, "A session that missed a roster push is sent more of them.");
            }
        }
    }
}

/// A roster push for one session.
pub(crate) fn push(
    to: &FullJid,
    contact: &BareJid,
    item: Option<&RosterItem>,
    version: u64,
    id: &str,
) -> Arc<Envelope> {
    let mut stanza = Vec::with_capacity(256);
    iq_request(IqType::Set, id, None, Some(to.as_str()), &mut stanza, |out| {
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
    Arc::new(Envelope::new(Some(Jid::from(to.clone())), from, Kind::Iq(IqType::Set), stanza))
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
