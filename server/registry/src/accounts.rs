//! Sessions by account, in memory: read without a lock, changed account by account.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use papaya::HashMap;

use crate::{SessionRecord, Sessions};

/// Writers of different accounts seldom wait for each other.
const SHARDS: usize = 64;

/// Sessions by account. One entry per account that has a bound resource; bounded by the connections that `c2s` lets in.
/// Readers never wait. Writers of one account take turns: the map's own compare-and-set spins under many at once.
#[derive(Debug)]
pub(crate) struct Accounts {
    held: HashMap<Box<str>, Sessions>,
    turns: [Mutex<()>; SHARDS],
    hasher: RandomState,
}

impl Default for Accounts {
    fn default() -> Self {
        Self { held: HashMap::new(), turns: [const { Mutex::new(()) }; SHARDS], hasher: RandomState::new() }
    }
}

impl Accounts {
    /// Replaces what is held for `account` by what `change` makes of it; `None` leaves it as it is, which is `false`.
    pub(crate) fn change(
        &self,
        account: &str,
        change: impl FnOnce(&[SessionRecord]) -> Option<Vec<SessionRecord>>,
    ) -> bool {
        let shard = self.hasher.hash_one(account) as usize % SHARDS;
        let turn = self.turns.get(shard).map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        let held = self.held.pin();
        let now = held.get(account);
        let changed = match change(now.map_or(&[][..], |sessions| sessions)) {
            None => false,
            Some(next) if next.is_empty() => held.remove(account).is_some(),
            Some(next) => {
                held.insert(account.into(), next.into());
                true
            }
        };
        drop(turn);
        changed
    }

    /// The sessions of an account, none being an empty list.
    pub(crate) fn get(&self, account: &str) -> Sessions {
        self.held.pin().get(account).cloned().unwrap_or_default()
    }

    /// The accounts that have sessions.
    pub(crate) fn names(&self) -> Vec<Box<str>> {
        self.held.pin().keys().cloned().collect()
    }

    /// How many accounts have sessions.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }
}
