//! Rosters of accounts that have sessions at many instances.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::future::join_all;
use starling_proto::instance::{RosterChanged, request};
use starling_registry::{InstanceId, SessionRecord, Sessions};
use starling_store::rosters::RosterItem;
use starling_xmpp::jid::BareJid;
use tracing::{debug, warn};

use super::push;
use crate::{Service, between::CONFIRM};

/// Up to which version this instance has told its sessions, for accounts with sessions here that asked for their roster.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<BareJid, u64>>);

impl Told {
    fn lock(&self) -> MutexGuard<'_, HashMap<BareJid, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Whether this instance hears of all changes of a roster: one process does, else an instance that has sessions of its
    /// account.
    pub(super) fn hears_of_changes(&self, account: &BareJid) -> bool {
        let is_here = |record: &SessionRecord| self.link().is_here(record.instance);
        !self.registry().are_shared()
            || self.registry().cached(account.as_str()).is_some_and(|sessions| sessions.iter().any(is_here))
    }

    /// A session of the account begins here, and knows its roster up to `version`; `None`: it has not asked for it.
    pub(crate) fn roster_begins(&self, account: &BareJid, version: Option<u64>) {
        if !self.registry().are_shared() {
            return;
        }
        if let Some(version) = version {
            // What others know already does not hold back what it does not.
            let mut told = self.rosters().told.lock();
            let held = told.entry(account.clone()).or_insert(version);
            *held = version.min(*held);
        } else {
            // What was remembered while no session of it was here may have changed since.
            self.rosters().cache.forget(account.as_str());
        }
    }

    /// The roster was handed out as of `version`.
    pub(crate) fn roster_read(&self, account: &BareJid, version: u64) {
        if self.registry().are_shared() {
            self.rosters().told.lock().entry(account.clone()).or_insert(version);
        }
    }

    /// Up to which version the account's sessions here know their roster.
    #[must_use]
    pub fn roster_told(&self, account: &BareJid) -> Option<u64> {
        self.rosters().told.lock().get(account).copied()
    }

    /// A session of the account has ended here.
    pub(crate) fn roster_ends(&self, account: &BareJid) {
        if self.registry().are_shared() && !self.hears_of_changes(account) {
            self.rosters().told.lock().remove(account);
        }
    }

    /// Tells all other instances that have sessions of the account, and waits until they have told these: what is sent because
    /// of the change comes behind it.
    pub(super) async fn tell_others(&self, account: &BareJid, sessions: &Sessions, version: u64, is_pushed: bool) {
        let mut others: Vec<InstanceId> = sessions.iter().map(|record| record.instance).collect();
        others.retain(|instance| !self.link().is_here(*instance));
        others.sort_unstable();
        others.dedup();
        let asked = others.into_iter().map(|instance| {
            let changed = RosterChanged { account: account.to_string(), version, pushed: is_pushed };
            self.ask(instance, request::What::RosterChanged(changed), CONFIRM)
        });
        if join_all(asked).await.iter().any(Option::is_none) {
            debug!(%account, "Not all instances have said that they told a change of a roster");
        }
    }

    /// Another instance has changed a roster.
    pub(crate) async fn roster_changed_elsewhere(&self, changed: RosterChanged) {
        let Ok(account) = BareJid::new(&changed.account) else { return };
        self.rosters().cache.forget(account.as_str());
        crate::privacy::forget(self, account.as_str());
        let _turn = self.rosters().changing(account.as_str()).await;
        self.tell_here(&account, changed.version, changed.pushed).await;
    }

    /// Tells the sessions here of everything up to `version` at least that they were not told yet. `is_pushed`: the last
    /// change is one that they are to see.
    pub(super) async fn tell_here(&self, account: &BareJid, version: u64, is_pushed: bool) {
        let told = self.rosters().told.lock().get(account).copied();
        let Some(told) = told.filter(|told| *told < version) else { return };
        if told + 1 == version && !is_pushed {
            self.rosters().told.lock().insert(account.clone(), version);
            return;
        }
        self.tell_since(account, told).await;
    }

    /// Tells the sessions here what they were not told, for one that was at another instance until now.
    pub(crate) async fn tell_missed(&self, account: &BareJid) {
        let _turn = self.rosters().changing(account.as_str()).await;
        if let Some(told) = self.roster_told(account) {
            self.tell_since(account, told).await;
        }
    }

    async fn tell_since(&self, account: &BareJid, told: u64) {
        let (now, changes) = match self.store().roster_since(account, told).await {
            Ok(Some(changes)) => changes,
            // Too long ago: they find out when they ask again.
            Ok(None) => {
                self.rosters().told.lock().remove(account);
                return;
            }
            Err(error) => {
                warn!(%account, %error, "A change of a roster is told later");
                return;
            }
        };
        let sessions = self.registry().sessions(account).await.unwrap_or_default();
        for record in sessions.iter().filter(|record| record.roster && self.link().is_here(record.instance)) {
            self.tell_changes(record, told, now, &changes).await;
        }
        self.rosters().told.lock().insert(account.clone(), now);
    }

    async fn tell_changes(
        &self,
        record: &SessionRecord,
        told: u64,
        now: u64,
        changes: &[(BareJid, Option<RosterItem>)],
    ) {
        let mut known = told;
        for (at, (contact, item)) in changes.iter().enumerate() {
            known = item.as_ref().map_or(known, |item| item.version);
            let version = if at + 1 == changes.len() { now } else { known };
            // A request that waits for an answer is no part of what the user sees.
            if item.as_ref().is_some_and(|item| !item.listed) {
                continue;
            }
            let id = format!("push-{version}-{at}");
            self.push_to(record, &push(&record.full, contact, item.as_ref(), version, &id)).await;
        }
    }
}
