//! What this instance knows of its own sessions: the truth about them, which Redis is told.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use starling_xmpp::jid::{FullJid, bare_str};
use tokio::{sync::Notify, time::Instant};

use crate::{InstanceId, SessionId, SessionRecord, Sessions, StreamId, Update, accounts::Accounts};

/// Those who claim different resources seldom wait for each other.
const TURNS: usize = 512;

/// A session whose resource somebody else had bound by the time that Redis was back: it is to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The resource that is another's.
    pub full: FullJid,
    /// The session that had it.
    pub id: SessionId,
}

/// What Redis may still hold, and must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) full: FullJid,
    pub(super) id: SessionId,
    pub(super) stream: Option<StreamId>,
}

/// What a session's update has changed.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) record: SessionRecord,
    pub(super) change: u64,
    pub(super) routing: bool,
    pub(super) presence: bool,
}

/// Accounts of which Redis may say something else, each with what must not be there.
pub(super) type Dirty = HashMap<Box<str>, Vec<Gone>>;

/// See the module. All of it is bounded by the sessions that this instance has, or had since Redis was last written.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) instance: InstanceId,
    accounts: Accounts,
    changes: AtomicU64,
    turns: Box<[tokio::sync::Mutex<()>; TURNS]>,
    hasher: RandomState,
    claims: Mutex<HashMap<Box<str>, Vec<SessionId>>>,
    /// Claims that go at these times, with what is then no session of ours.
    lingering: Mutex<Vec<(Instant, Gone)>>,
    dirty: Mutex<Dirty>,
    /// Accounts that have no session here any more, with a number: entered into the index by then, they may leave it.
    idle: Mutex<HashMap<Box<str>, u64>>,
    lost: Mutex<Vec<Lost>>,
    some_lost: Notify,
}

impl Local {
    pub(super) fn new(instance: InstanceId) -> Self {
        Self {
            instance,
            accounts: Accounts::default(),
            changes: AtomicU64::new(0),
            turns: Box::new([const { tokio::sync::Mutex::const_new(()) }; TURNS]),
            hasher: RandomState::new(),
            claims: Mutex::default(),
            lingering: Mutex::default(),
            dirty: Mutex::default(),
            idle: Mutex::default(),
            lost: Mutex::default(),
            some_lost: Notify::new(),
        }
    }

    /// The number of a change, larger than all before. Whoever writes a whole record takes it before the record is read: what
    /// changes in between has a larger one, and comes after.
    pub(super) fn next_change(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn get(&self, account: &str) -> Sessions {
        self.accounts.get(account)
    }

    pub(super) fn accounts(&self) -> Vec<Box<str>> {
        self.accounts.names()
    }

    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    /// The session, if it is one of ours.
    pub(super) fn session(&self, full: &FullJid, id: SessionId) -> Option<SessionRecord> {
        self.get(bare_str(full)).iter().find(|record| record.id == id && record.full == *full).cloned()
    }

    /// Whether the session is one of ours, or about to be.
    pub(super) fn knows(&self, account: &str, id: SessionId) -> bool {
        // In this order: a claim is let go after its session is entered.
        lock(&self.claims).get(account).is_some_and(|claims| claims.contains(&id))
            || self.get(account).iter().any(|record| record.id == id)
    }

    /// Says that a session is about to be one of ours, until the claim is dropped.
    pub(super) fn claim(&self, account: &str, id: SessionId) -> Claim<'_> {
        lock(&self.claims).entry(account.into()).or_default().push(id);
        Claim { local: self, account: account.into(), id, lingers: None }
    }

    /// What claims have lingered until `now`, to be removed unless it is one of ours.
    pub(super) fn take_lingering(&self, now: Instant) -> Vec<Gone> {
        let mut lingering = lock(&self.lingering);
        let (over, rest): (Vec<_>, _) = mem::take(&mut *lingering).into_iter().partition(|(until, _)| *until <= now);
        *lingering = rest;
        drop(lingering);
        over.into_iter().map(|(_, gone)| gone).inspect(|gone| self.release(bare_str(&gone.full), gone.id)).collect()
    }

    fn release(&self, account: &str, id: SessionId) {
        let mut claims = lock(&self.claims);
        if let Some(held) = claims.get_mut(account) {
            if let Some(at) = held.iter().position(|claimed| *claimed == id) {
                held.swap_remove(at);
            }
            if held.is_empty() {
                claims.remove(account);
            }
        }
    }

    fn is_claimed(&self, account: &str) -> bool {
        lock(&self.claims).contains_key(account)
    }

    /// The turn to claim this resource: of several at once, Redis says in which order they had it, and this keeps to it.
    pub(super) async fn turn(&self, full: &FullJid) -> tokio::sync::MutexGuard<'_, ()> {
        let shard = self.hasher.hash_one(full.as_str()) as usize % TURNS;
        let [first, ..] = &*self.turns;
        self.turns.get(shard).unwrap_or(first).lock().await
    }

    /// Enters a session; whichever had its resource is gone.
    pub(super) fn insert(&self, record: SessionRecord) {
        let account = bare_str(&record.full);
        self.accounts.change(account, |sessions| {
            let others = sessions.iter().filter(|other| other.full != record.full);
            Some(others.chain([&record]).cloned().collect())
        });
    }

    /// Changes a session. `None`: it is none of ours.
    pub(super) fn update(&self, full: &FullJid, id: SessionId, update: Update) -> Option<Changed> {
        let mut changed = None;
        self.accounts.change(bare_str(full), |sessions| {
            let at = sessions.iter().position(|record| record.id == id && record.full == *full)?;
            let mut next = sessions.to_vec();
            let record = next.get_mut(at)?;
            let mut before = record.clone();
            update.apply(record);
            let presence = before.presence != record.presence;
            before.presence.clone_from(&record.presence);
            let routing = before != *record;
            changed = Some(Changed { record: record.clone(), change: self.next_change(), routing, presence });
            Some(next)
        });
        changed
    }

    /// Removes a session, and returns it if it was one of ours.
    pub(super) fn remove(&self, full: &FullJid, id: SessionId) -> Option<SessionRecord> {
        let account = bare_str(full);
        let mut removed = None;
        self.accounts.change(account, |sessions| {
            let at = sessions.iter().position(|record| record.id == id && record.full == *full)?;
            let mut next = sessions.to_vec();
            removed = Some(next.remove(at));
            if next.is_empty() {
                lock(&self.idle).insert(account.into(), self.next_change());
            }
            Some(next)
        });
        removed
    }

    /// An account may leave the index if it has no session here.
    pub(super) fn mark_idle(&self, account: &str) {
        if self.get(account).is_empty() {
            lock(&self.idle).insert(account.into(), self.next_change());
        }
    }

    /// Some of the accounts that may leave the index, with their numbers.
    pub(super) fn take_idle(&self, limit: usize) -> Vec<(Box<str>, u64)> {
        let mut idle = lock(&self.idle);
        let some: Vec<_> = idle.keys().take(limit).cloned().collect();
        let taken = some.into_iter().filter_map(|account| idle.remove_entry(&*account));
        // One that is being bound may have entered the index with a smaller number. It is marked again if that comes to nothing.
        taken.filter(|(account, _)| !self.is_claimed(account) && self.get(account).is_empty()).collect()
    }

    pub(super) fn put_back_idle(&self, rest: Vec<(Box<str>, u64)>) {
        let mut idle = lock(&self.idle);
        for (account, number) in rest {
            idle.entry(account).or_insert(number);
        }
    }

    pub(super) fn mark_dirty(&self, account: &str, gone: Option<Gone>) {
        lock(&self.dirty).entry(account.into()).or_default().extend(gone);
    }

    pub(super) fn dirty_len(&self) -> usize {
        lock(&self.dirty).len()
    }

    /// What must not be there of an account that is written now.
    pub(super) fn take_dirty_of(&self, account: &str) -> Vec<Gone> {
        lock(&self.dirty).remove(account).unwrap_or_default()
    }

    /// The accounts to be written.
    pub(super) fn dirty_accounts(&self) -> Vec<Box<str>> {
        lock(&self.dirty).keys().cloned().collect()
    }

    /// A session whose resource is another's is none of ours any more, and is told to whoever asks for such.
    pub(super) fn lose(&self, full: &FullJid, id: SessionId) -> bool {
        if self.remove(full, id).is_none() {
            return false;
        }
        lock(&self.lost).push(Lost { full: full.clone(), id });
        self.some_lost.notify_one();
        true
    }

    /// Waits until there are lost sessions, and returns them.
    pub(super) async fn lost(&self) -> Vec<Lost> {
        loop {
            let some = self.some_lost.notified();
            let lost = mem::take(&mut *lock(&self.lost));
            if !lost.is_empty() {
                return lost;
            }
            some.await;
        }
    }
}

/// See [`Local::claim`].
#[derive(Debug)]
pub(super) struct Claim<'l> {
    local: &'l Local,
    account: Box<str>,
    id: SessionId,
    /// Where it is not known whether it is ours: whoever claimed it will ask again within this time.
    pub(super) lingers: Option<(Duration, Gone)>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        match self.lingers.take() {
            Some((time, gone)) => lock(&self.local.lingering).push((Instant::now() + time, gone)),
            None => self.local.release(&self.account, self.id),
        }
    }
}

/// What these hold is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
