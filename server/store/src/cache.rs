//! Credentials that were asked for lately, so that the second log-in of an account, or of one that does not exist, asks
//! nobody.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use starling_xmpp::sasl::Credentials;

/// Entries of each of two generations; about 1 KiB each. When the younger is full, the older is dropped.
const GENERATION: usize = 2048;

/// What is known of an account: also that there is none, so that the time of an answer does not tell.
type Known = Option<Credentials>;

#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    young: HashMap<Box<str>, Known>,
    old: HashMap<Box<str>, Known>,
    /// Counts the changes: what was read before one is not remembered after it.
    changes: u64,
}

/// Says whether what was read meanwhile may be remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(u64);

impl Cache {
    pub(crate) fn get(&self, account: &str) -> Result<Known, Epoch> {
        let mut state = self.lock();
        if let Some(known) = state.young.get(account) {
            return Ok(known.clone());
        }
        match state.old.remove_entry(account) {
            Some((account, known)) => {
                state.insert(account, known.clone());
                Ok(known)
            }
            None => Err(Epoch(state.changes)),
        }
    }

    /// Remembers what was read, unless something was changed since `epoch`.
    pub(crate) fn remember(&self, account: &str, known: Known, epoch: Epoch) {
        let mut state = self.lock();
        if state.changes == epoch.0 {
            state.insert(account.into(), known);
        }
    }

    /// To be called after a change was committed.
    pub(crate) fn forget<'a>(&self, accounts: impl Iterator<Item = &'a str>) {
        let mut state = self.lock();
        state.changes += 1;
        for account in accounts {
            state.young.remove(account);
            state.old.remove(account);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, account: Box<str>, known: Known) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(account, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let cache = Cache::default();
        let epoch = cache.get("a@b").unwrap_err();
        cache.forget(["a@b"].into_iter());
        cache.remember("a@b", None, epoch);
        let epoch = cache.get("a@b").unwrap_err();
        cache.remember("a@b", Some(Credentials::default()), epoch);
        assert_eq!(cache.get("a@b").unwrap(), Some(Credentials::default()));
        cache.forget(["a@b"].into_iter());
        assert!(cache.get("a@b").is_err());
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let cache = Cache::default();
        for n in 0..10 * GENERATION {
            let account = n.to_string();
            let epoch = cache.get(&account).unwrap_err();
            cache.remember(&account, None, epoch);
            if let Err(epoch) = cache.get("used") {
                assert!(n == 0, "forgotten at {n}");
                cache.remember("used", None, epoch);
            }
        }
        let state = cache.lock();
        assert!(state.young.len() + state.old.len() <= 2 * GENERATION);
    }
}
