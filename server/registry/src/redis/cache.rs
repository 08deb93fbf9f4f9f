//! Sessions of accounts that were asked for lately, for as long as Redis' tracking says that they have not changed.
//!
//! ```text
//!   read: epoch ──► HGETALL ──► remember, if the epoch is still the same
//!   Redis: “this key has changed” ──► forget: the entry goes, and the epoch of its shard rises
//!   cached(account) ── no lock, no wait ──► the entry
//! ```
//!
//! A reply and the push that makes it stale come on one connection, in this order, and the push is dealt with before anything
//! behind it is read. So a reply is remembered only if no push of its shard came between its request and now.
//!
//! When slots of a cluster move, everything is forgotten as soon as that is noticed (`discovery.rs`). An account without
//! sessions has no key that Redis could say has moved: until then, it may be remembered as that.
//!
//! Bounds: accounts and bytes, an equal part for each shard. What was not asked for since the last round goes first.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    mem::size_of,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use papaya::HashMap;

use crate::{SessionRecord, Sessions};

const SHARDS: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<Arc<str>, Arc<Entry>>,
    shards: Box<[Mutex<Shard>; SHARDS]>,
    hasher: RandomState,
    /// For each shard.
    accounts: usize,
    /// For each shard.
    bytes: usize,
    held: AtomicUsize,
    held_bytes: AtomicUsize,
}

#[derive(Debug)]
struct Entry {
    sessions: Sessions,
    bytes: usize,
    number: u64,
    used: AtomicBool,
}

#[derive(Debug, Default)]
struct Shard {
    epoch: u64,
    numbers: u64,
    bytes: usize,
    /// In the order in which they came, each with the number of its entry: what was forgotten meanwhile has another, or none.
    queue: VecDeque<(Arc<str>, u64)>,
}

/// Says whether what was read since may be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u64);

impl Cache {
    /// With room for so many accounts, and so many bytes.
    pub(super) fn new(accounts: usize, bytes: usize) -> Self {
        Self {
            entries: HashMap::new(),
            shards: Box::new([const { Mutex::new(Shard::new()) }; SHARDS]),
            hasher: RandomState::new(),
            accounts: accounts / SHARDS,
            bytes: bytes / SHARDS,
            held: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
        }
    }

    /// The sessions of an account, if they are known.
    pub(super) fn get(&self, account: &str) -> Option<Sessions> {
        let entries = self.entries.pin();
        let entry = entries.get(account)?;
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.sessions))
    }

    /// To be asked for before a request is sent.
    pub(super) fn epoch(&self, account: &str) -> Epoch {
        Epoch(self.shard(account).epoch)
    }

    /// Remembers what was read, unless it may have changed since.
    pub(super) fn remember(&self, account: &str, sessions: Sessions, epoch: Epoch) {
        let bytes = size(account, &sessions);
        let mut shard = self.shard(account);
        if shard.epoch != epoch.0 || bytes > self.bytes || self.accounts == 0 {
            return;
        }
        self.drop_entry(&mut shard, account);
        shard.numbers += 1;
        let (number, account): (_, Arc<str>) = (shard.numbers, account.into());
        let entry = Entry { sessions, bytes, number, used: AtomicBool::new(false) };
        self.entries.pin().insert(Arc::clone(&account), Arc::new(entry));
        self.count(&mut shard, bytes);
        shard.queue.push_back((account, number));
        self.make_room(&mut shard);
    }

    /// The account's sessions have changed, or may have.
    pub(super) fn forget(&self, account: &str) {
        let mut shard = self.shard(account);
        shard.epoch += 1;
        self.drop_entry(&mut shard, account);
    }

    /// What is being read now is not remembered; what is there stays.
    pub(super) fn close_epoch(&self) {
        for shard in &*self.shards {
            lock(shard).epoch += 1;
        }
    }

    /// Forgets everything.
    pub(super) fn flush(&self) {
        for shard in &*self.shards {
            let mut shard = lock(shard);
            shard.epoch += 1;
            while let Some((account, _)) = shard.queue.pop_front() {
                self.drop_entry(&mut shard, &account);
            }
        }
    }

    /// How many accounts, and how many bytes, it holds.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.held.load(Ordering::Relaxed), self.held_bytes.load(Ordering::Relaxed))
    }

    fn make_room(&self, shard: &mut Shard) {
        // Each may stay once for having been used, however often it is meanwhile.
        let mut chances = shard.queue.len();
        while shard.queue.len() > self.accounts || shard.bytes > self.bytes {
            let Some((account, number)) = shard.queue.pop_front() else {
                return;
            };
            let (current, used) = match self.entries.pin().get(&account) {
                Some(entry) => (entry.number == number, entry.used.swap(false, Ordering::Relaxed)),
                None => (false, false),
            };
            if current && used && chances > 0 {
                chances -= 1;
                shard.queue.push_back((account, number));
            } else if current {
                self.drop_entry(shard, &account);
            }
        }
    }

    fn drop_entry(&self, shard: &mut Shard, account: &str) {
        if let Some(entry) = self.entries.pin().remove(account) {
            shard.bytes -= entry.bytes;
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.held_bytes.fetch_sub(entry.bytes, Ordering::Relaxed);
        }
    }

    fn count(&self, shard: &mut Shard, bytes: usize) {
        shard.bytes += bytes;
        self.held.fetch_add(1, Ordering::Relaxed);
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn shard(&self, account: &str) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(account) as usize % SHARDS;
        let [first, ..] = &*self.shards;
        lock(self.shards.get(index).unwrap_or(first))
    }
}

impl Shard {
    const fn new() -> Self {
        Self { epoch: 0, numbers: 0, bytes: 0, queue: VecDeque::new() }
    }
}

/// Whoever panicked with the lock left a shard that counts too much at worst.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(account: &str, sessions: &[SessionRecord]) -> usize {
    let record = |record: &SessionRecord| {
        let list = record.active_list.as_deref().map_or(0, str::len);
        size_of::<SessionRecord>() + record.full.as_str().len() + list
    };
    account.len() + size_of::<Entry>() + size_of::<(Arc<str>, u64)>() + sessions.iter().map(record).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InstanceId, SessionId};

    fn sessions(account: &str, count: usize) -> Sessions {
        let record = |number| {
            let full = format!("{account}/{number}").parse().unwrap();
            SessionRecord::new(full, SessionId(number as u128), InstanceId(1))
        };
        (0..count).map(record).collect()
    }

    fn fill(cache: &Cache, account: &str) {
        cache.remember(account, sessions(account, 1), cache.epoch(account));
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let cache = Cache::new(1000, 1_000_000);
        let epoch = cache.epoch("a@b");
        cache.forget("a@b");
        cache.remember("a@b", sessions("a@b", 1), epoch);
        assert_eq!(cache.get("a@b"), None);
        let epoch = cache.epoch("a@b");
        cache.close_epoch();
        cache.remember("a@b", sessions("a@b", 1), epoch);
        assert_eq!(cache.get("a@b"), None);
        fill(&cache, "a@b");
        assert_eq!(cache.get("a@b"), Some(sessions("a@b", 1)));
        let epoch = cache.epoch("a@b");
        cache.flush();
        cache.remember("a@b", sessions("a@b", 1), epoch);
        assert_eq!((cache.get("a@b"), cache.held()), (None, (0, 0)));
    }

    #[test]
    fn nobody_there_is_remembered_too() {
        let cache = Cache::new(1000, 1_000_000);
        cache.remember("a@b", Sessions::default(), cache.epoch("a@b"));
        assert_eq!(cache.get("a@b"), Some(Sessions::default()));
    }

    #[test]
    fn accounts_are_bounded_and_those_in_use_stay() {
        let cache = Cache::new(64 * 10, 100_000_000);
        fill(&cache, "used@b");
        for number in 0..10_000 {
            fill(&cache, &format!("{number}@b"));
            assert!(cache.get("used@b").is_some(), "forgotten at {number}");
        }
        assert!(cache.held().0 <= 640, "{:?}", cache.held());
        assert!(cache.held().0 > 320, "{:?}", cache.held());
    }

    #[test]
    fn bytes_are_bounded_and_counted_rightly() {
        let cache = Cache::new(1_000_000, 64 * 4096);
        for number in 0..2000 {
            let account = format!("{number}@b");
            cache.remember(&account, sessions(&account, number % 12), cache.epoch(&account));
            if number % 3 == 0 {
                cache.forget(&format!("{}@b", number / 2));
            }
            assert!(cache.held().1 <= 64 * 4096);
        }
        assert!(cache.held().0 > 10);
        let mut counted = (0, 0);
        for entry in cache.entries.pin().values() {
            counted = (counted.0 + 1, counted.1 + entry.bytes);
        }
        assert_eq!(cache.held(), counted);
        let queued: usize = cache.shards.iter().map(|shard| lock(shard).queue.len()).sum();
        assert!(queued >= counted.0);
        cache.flush();
        assert_eq!(cache.held(), (0, 0));
        let large = sessions("a@b", 1000);
        cache.remember("a@b", large, cache.epoch("a@b"));
        assert_eq!(cache.get("a@b"), None, "larger than all that there is room for");
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        let cache = Cache::new(64 * 10, 100_000_000);
        for _ in 0..10_000 {
            fill(&cache, "a@b");
            cache.forget("a@b");
        }
        let queued: usize = cache.shards.iter().map(|shard| lock(shard).queue.len()).sum();
        assert!(queued <= 10, "{queued}");
    }
}
