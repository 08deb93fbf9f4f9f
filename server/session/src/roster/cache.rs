//! Rosters that were asked for lately.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use starling_store::rosters::{Roster, RosterItem};

/// Rosters of each of two generations, and bytes in them. When the younger is full, the older is dropped.
const GENERATION: usize = 2048;
const GENERATION_BYTES: usize = 32 << 20;

#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    young: HashMap<Box<str>, Arc<Roster>>,
    /// Of those that went into the younger generation, also if they were replaced there since.
    bytes: usize,
    old: HashMap<Box<str>, Arc<Roster>>,
    /// Counts the changes: what was read before one is not remembered after it.
    changes: u64,
}

/// Says whether what was read meanwhile may be remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch(u64);

impl Cache {
    pub(super) fn get(&self, account: &str) -> Result<Arc<Roster>, Epoch> {
        let mut state = self.lock();
        if let Some(known) = state.young.get(account) {
            return Ok(Arc::clone(known));
        }
        match state.old.remove_entry(account) {
            Some((account, known)) => {
                state.insert(account, Arc::clone(&known));
                Ok(known)
            }
            None => Err(Epoch(state.changes)),
        }
    }

    /// Remembers what was read, unless something was changed since `epoch`.
    pub(super) fn remember(&self, account: &str, roster: &Arc<Roster>, epoch: Epoch) {
        let mut state = self.lock();
        if state.changes == epoch.0 {
            state.insert(account.into(), Arc::clone(roster));
        }
    }

    /// To be called after a change was committed.
    pub(super) fn forget(&self, account: &str) {
        let mut state = self.lock();
        state.changes += 1;
        state.young.remove(account);
        state.old.remove(account);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, account: Box<str>, roster: Arc<Roster>) {
        let bytes = account.len() + roster.items.iter().map(weight).sum::<usize>();
        if self.young.len() >= GENERATION || self.bytes + bytes > GENERATION_BYTES {
            self.old = mem::take(&mut self.young);
            self.bytes = 0;
        }
        // What fills a generation alone is read each time.
        if bytes <= GENERATION_BYTES {
            self.bytes += bytes;
            self.young.insert(account, roster);
        }
    }
}

fn weight(item: &RosterItem) -> usize {
    size_of::<RosterItem>()
        + item.contact.as_str().len()
        + item.name.as_ref().map_or(0, String::len)
        + item.groups.iter().map(|group| size_of::<String>() + group.len()).sum::<usize>()
        + item.pending_in.as_ref().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::unknown;

    fn roster(version: u64, request: usize) -> Arc<Roster> {
        let item = RosterItem { pending_in: Some(vec![b' '; request]), ..unknown(&"romeo@b".parse().unwrap()) };
        Arc::new(Roster { version, items: vec![item] })
    }

    fn put(cache: &Cache, account: &str, roster: &Arc<Roster>) {
        let epoch = cache.get(account).unwrap_err();
        cache.remember(account, roster, epoch);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let cache = Cache::default();
        let epoch = cache.get("a@b").unwrap_err();
        cache.forget("a@b");
        cache.remember("a@b", &roster(1, 0), epoch);
        let epoch = cache.get("a@b").unwrap_err();
        cache.remember("a@b", &roster(2, 0), epoch);
        assert_eq!(cache.get("a@b").unwrap().version, 2);
        cache.forget("a@b");
        assert!(cache.get("a@b").is_err());
    }

    #[test]
    fn neither_many_rosters_nor_large_ones_are_all_remembered_and_those_in_use_stay() {
        let cache = Cache::default();
        put(&cache, "used@b", &roster(1, 0));
        for number in 0..3 * GENERATION {
            put(&cache, &format!("{number}@b"), &roster(1, 0));
            assert!(cache.get("used@b").is_ok());
        }
        assert!(cache.get("0@b").is_err());
        for number in 0..10 {
            put(&cache, &format!("large{number}@b"), &roster(1, GENERATION_BYTES / 3));
        }
        let state = cache.lock();
        let held: usize = [&state.young, &state.old]
            .iter()
            .flat_map(|rosters| rosters.values())
            .flat_map(|r| &r.items)
            .map(weight)
            .sum();
        assert!(held <= 2 * GENERATION_BYTES);
        drop(state);
        put(&cache, "huge@b", &roster(1, GENERATION_BYTES));
        assert!(cache.get("huge@b").is_err());
    }
}
