//! The lists that were asked for lately.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use starling_store::{Error, Store};
use starling_xmpp::{
    jid::{BareJid, Jid, bare_str},
    stanza::Kind,
};
use tokio::sync::MutexGuard;

use super::{Direction, Lists, Relation, Subscription, Verdict, document};

/// Accounts that are remembered at most, also those that have no lists, which most are; about 120 bytes each.
const ACCOUNTS: usize = 65_536;
/// Bytes of remembered lists at most.
const BYTES: usize = 64 << 20;
/// A generation is full with this part of the bounds.
const GENERATION: usize = 4;
/// What is kept of the generation before, of the bounds: more than was counted, because counts race.
const KEPT: usize = 2;
/// Changes of different accounts seldom wait for each other.
const SHARDS: usize = 64;

/// An account's lists, with what they need of its roster.
#[derive(Debug, Default)]
pub struct Held {
    /// The lists.
    pub lists: Lists,
    /// The contacts, by bare JID; empty if no rule asks for them.
    relations: HashMap<Box<str>, Relation>,
}

/// What is known of an account without waiting.
#[derive(Clone, Debug)]
pub enum Known {
    /// Nothing: it was not asked for lately.
    Unknown,
    /// It has no lists.
    Nothing,
    /// Its lists.
    Held(Arc<Held>),
}

/// The lists of accounts. Readers never wait.
///
/// Bounded by two generations: what is asked for moves into the younger one, and when that is full, what is still in the
/// older one is forgotten.
#[derive(Debug)]
pub struct Cache {
    accounts: papaya::HashMap<Box<str>, Entry>,
    generation: AtomicUsize,
    /// Entries in the younger generation, and what they take.
    young: AtomicUsize,
    young_bytes: AtomicUsize,
    /// Held by whoever begins a generation.
    aging: Mutex<()>,
    /// Count the changes: what was read before one is not remembered after it.
    epochs: [Mutex<u64>; SHARDS],
    /// Whoever reads a document to write it again has the turn.
    turns: [tokio::sync::Mutex<()>; SHARDS],
    /// Nothing is remembered: nobody would say that it has changed.
    distrusted: AtomicBool,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry {
    held: Option<Arc<Held>>,
    bytes: usize,
    /// The generation that it was asked for in.
    seen: AtomicUsize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            accounts: papaya::HashMap::new(),
            generation: AtomicUsize::new(1),
            young: AtomicUsize::new(0),
            young_bytes: AtomicUsize::new(0),
            aging: Mutex::new(()),
            epochs: [const { Mutex::new(0) }; SHARDS],
            turns: [const { tokio::sync::Mutex::const_new(()) }; SHARDS],
            distrusted: AtomicBool::new(false),
            hasher: RandomState::new(),
        }
    }
}

impl Held {
    /// Lists that may be about contacts.
    #[must_use]
    pub fn new(lists: Lists, relations: impl IntoIterator<Item = (BareJid, Relation)>) -> Self {
        let relations = relations.into_iter().map(|(contact, relation)| (contact.as_str().into(), relation));
        Self { lists, relations: relations.collect() }
    }

    /// See [`Lists::verdict`].
    #[must_use]
    pub fn verdict(&self, active: Option<&str>, direction: Direction, kind: Kind, peer: &Jid) -> Verdict {
        let relation = || self.relations.get(bare_str(peer)).cloned().unwrap_or_default();
        self.lists.verdict(active, direction, kind, peer, relation)
    }
}

impl Cache {
    /// What is known of the account with this bare JID.
    #[must_use]
    pub fn cached(&self, account: &str) -> Known {
        let accounts = self.accounts.pin();
        let Some(entry) = accounts.get(account) else { return Known::Unknown };
        let generation = self.generation.load(Ordering::Relaxed);
        if entry.seen.load(Ordering::Relaxed) != generation
            && entry.seen.swap(generation, Ordering::Relaxed) != generation
        {
            self.count(entry.bytes);
        }
        entry.held.as_ref().map_or(Known::Nothing, |held| Known::Held(Arc::clone(held)))
    }

    /// The account's lists, read from the store if they are not known. `None`: it has none.
    ///
    /// # Errors
    /// If the store cannot be read, or holds what cannot be.
    pub async fn get(&self, store: &Arc<dyn Store>, account: &BareJid) -> Result<Option<Arc<Held>>, Error> {
        match self.cached(account.as_str()) {
            Known::Nothing => return Ok(None),
            Known::Held(held) => return Ok(Some(held)),
            Known::Unknown => {}
        }
        let epoch = *self.epoch(account.as_str());
        let held = match document::load(store, account).await? {
            None => None,
            Some(read) => Some(Arc::new(with_roster(store, account, read.lists).await?)),
        };
        let now = self.epoch(account.as_str());
        if *now == epoch {
            self.insert(account.as_str(), held.clone());
        }
        Ok(held)
    }

    /// Sets what is known after it was written. `None`: the account has no lists.
    pub(super) fn put(&self, account: &BareJid, held: Option<Arc<Held>>) {
        let mut epoch = self.epoch(account.as_str());
        *epoch += 1;
        self.insert(account.as_str(), held);
    }

    /// Forgets an account's lists; what is being read now is not remembered either.
    pub fn forget(&self, account: &str) {
        let mut epoch = self.epoch(account);
        *epoch += 1;
        self.accounts.pin().remove(account);
    }

    /// Whether what is read may be remembered, because others say when it changes; what was remembered until now is forgotten.
    pub(crate) fn trust(&self, trusted: bool) {
        self.distrusted.store(!trusted, Ordering::Release);
        for epoch in &self.epochs {
            *epoch.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
        self.accounts.pin().clear();
    }

    /// The turn of those who change the account's lists, or make one of them active.
    pub(crate) async fn turn(&self, account: &str) -> Option<MutexGuard<'_, ()>> {
        match self.turns.get(self.shard(account)) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
    }

    fn insert(&self, account: &str, held: Option<Arc<Held>>) {
        if self.distrusted.load(Ordering::Acquire) {
            return;
        }
        let bytes = held.as_ref().map_or(0, |held| size(held));
        let seen = AtomicUsize::new(self.generation.load(Ordering::Relaxed));
        self.accounts.pin().insert(account.into(), Entry { held, bytes, seen });
        self.count(bytes);
        if self.young.load(Ordering::Relaxed) >= ACCOUNTS / GENERATION
            || self.young_bytes.load(Ordering::Relaxed) >= BYTES / GENERATION
        {
            self.age();
        }
    }

    fn count(&self, bytes: usize) {
        self.young.fetch_add(1, Ordering::Relaxed);
        self.young_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Begins a generation.
    fn age(&self) {
        let Ok(_turn) = self.aging.try_lock() else { return };
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        self.young.store(0, Ordering::Relaxed);
        self.young_bytes.store(0, Ordering::Relaxed);
        let (mut kept, mut bytes) = (0, 0);
        self.accounts.pin().retain(|_, entry| {
            // What was asked for in between is in the new one.
            let is_kept = entry.seen.load(Ordering::Relaxed) >= generation
                && kept < ACCOUNTS / KEPT
                && bytes + entry.bytes <= BYTES / KEPT;
            if is_kept {
                kept += 1;
                bytes += entry.bytes;
            }
            is_kept
        });
    }

    fn epoch(&self, account: &str) -> std::sync::MutexGuard<'_, u64> {
        let epoch = self.epochs.get(self.shard(account)).unwrap_or(&self.epochs[0]);
        epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, account: &str) -> usize {
        self.hasher.hash_one(account) as usize % SHARDS
    }
}

/// Adds what the lists need of the roster.
pub(super) async fn with_roster(store: &Arc<dyn Store>, account: &BareJid, lists: Lists) -> Result<Held, Error> {
    if !lists.ask_roster() {
        return Ok(Held::new(lists, []));
    }
    let roster = store.roster(account).await?;
    let relations = roster.items.into_iter().filter(|item| item.listed).map(|item| {
        let subscription = match item.subscription {
            starling_store::Subscription::None => Subscription::None,
            starling_store::Subscription::To => Subscription::To,
            starling_store::Subscription::From => Subscription::From,
            starling_store::Subscription::Both => Subscription::Both,
        };
        (item.contact, Relation { subscription, groups: item.groups })
    });
    Ok(Held::new(lists, relations))
}

/// About what it takes in memory.
fn size(held: &Held) -> usize {
    let blocked = held.lists.blocked.iter().map(|jid| 2 * jid.as_str().len() + 64);
    let items = held.lists.lists.iter().map(|list| list.name.len() + 64 + 160 * list.items.len());
    let groups = |relation: &Relation| relation.groups.iter().map(|group| group.len() + 32).sum::<usize>();
    let relations = held.relations.iter().map(|(contact, relation)| contact.len() + 64 + groups(relation));
    blocked.chain(items).chain(relations).sum()
}
