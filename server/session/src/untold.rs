//! Accounts whose sessions could not be told of pending messages, because the registry was away.
//!
//! Until they are told, whatever this instance has for them follows what waits into the store: sent to the sessions at once,
//! it would come before.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use starling_xmpp::jid::BareJid;

/// At most [`Untold::ACCOUNTS`]. Of more, the sessions look by themselves when the registry is back at their instance.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    state: Mutex<State>,
    /// Whether there is any: asked for each message.
    is_any: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// By its text, as which it is asked for: the account, and when it was added last, counted by additions.
    accounts: BTreeMap<Box<str>, (BareJid, u64)>,
    additions: u64,
}

impl Untold {
    const ACCOUNTS: usize = 65_536;

    pub(crate) fn add(&self, accounts: Vec<BareJid>) {
        let mut state = self.state();
        state.additions += 1;
        let addition = state.additions;
        for account in accounts {
            if state.accounts.len() < Self::ACCOUNTS || state.accounts.contains_key(account.as_str()) {
                state.accounts.insert(account.as_str().into(), (account, addition));
            }
        }
        self.is_any.store(!state.accounts.is_empty(), Ordering::Release);
    }

    /// Whether the sessions of `account`, a bare JID, have something to be told.
    pub(crate) fn has(&self, account: &str) -> bool {
        self.is_any.load(Ordering::Acquire) && self.state().accounts.contains_key(account)
    }

    /// At most so many of them, each as of now, with what [`Untold::told`] wants to know.
    pub(crate) fn first(&self, most: usize) -> (Vec<BareJid>, Vec<u64>) {
        self.state().accounts.values().take(most).cloned().unzip()
    }

    /// Their sessions have been told of all that waited for them when [`Untold::first`] was asked.
    pub(crate) fn told(&self, accounts: &[BareJid], additions: &[u64]) {
        let mut state = self.state();
        for (account, addition) in accounts.iter().zip(additions) {
            if state.accounts.get(account.as_str()).is_some_and(|(_, last)| last == addition) {
                state.accounts.remove(account.as_str());
            }
        }
        self.is_any.store(!state.accounts.is_empty(), Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(number: usize) -> BareJid {
        BareJid::new(&format!("user{number}@example.com")).unwrap()
    }

    #[test]
    fn an_account_is_untold_until_it_is_told_of_its_last_message() {
        let untold = Untold::default();
        assert!(!untold.has("user1@example.com"));
        untold.add(vec![account(1), account(2)]);
        assert!(untold.has("user1@example.com") && !untold.has("user3@example.com"));
        let (all, additions) = untold.first(10);
        untold.add(vec![account(1)]);
        untold.told(&all, &additions);
        assert!(untold.has("user1@example.com") && !untold.has("user2@example.com"));
        let (all, additions) = untold.first(10);
        untold.told(&all, &additions);
        assert!(!untold.has("user1@example.com") && untold.first(10).0.is_empty());
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let untold = Untold::default();
        untold.add((0..Untold::ACCOUNTS + 10).map(account).collect());
        assert_eq!(untold.first(usize::MAX).0.len(), Untold::ACCOUNTS);
        let (first, before) = untold.first(1);
        untold.add(first.clone());
        assert_eq!(untold.first(1).0, first);
        assert!(untold.first(1).1 > before, "those that are known are added again");
    }
}
