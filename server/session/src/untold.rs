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
    /// Account → when it was added last, counted by additions.
    accounts: BTreeMap<BareJid, u64>,
    additions: u64,
}

impl Untold {
    const ACCOUNTS: usize = 65_536;

    pub(crate) fn add(&self, accounts: Vec<BareJid>) {
        let mut state = self.state();
        state.additions += 1;
        let addition = state.additions;
        for account in accounts {
            if state.accounts.len() < Self::ACCOUNTS || state.accounts.contains_key(&account) {
                state.accounts.insert(account, addition);
            }
        }
        self.is_any.store(!state.accounts.is_empty(), Ordering::Release);
    }

    /// Whether the sessions of `account`, a bare JID, have something to be told.
    pub(crate) fn has(&self, account: &str) -> bool {
        self.is_any.load(Ordering::Acquire)
            && BareJid::new(account).is_ok_and(|account| self.state().accounts.contains_key(&account))
    }

    /// All of them, each as of now: to be handed to [`Untold::told`].
    pub(crate) fn accounts(&self) -> Vec<(BareJid, u64)> {
        self.state().accounts.iter().map(|(account, addition)| (account.clone(), *addition)).collect()
    }

    /// Their sessions have been told of all that waited for them when [`Untold::accounts`] was asked.
    pub(crate) fn told(&self, accounts: &[(BareJid, u64)]) {
        let mut state = self.state();
        for (account, addition) in accounts {
            if state.accounts.get(account) == Some(addition) {
                state.accounts.remove(account);
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
        let all = untold.accounts();
        untold.add(vec![account(1)]);
        untold.told(&all);
        assert!(untold.has("user1@example.com") && !untold.has("user2@example.com"));
        untold.told(&untold.accounts());
        assert!(!untold.has("user1@example.com") && untold.accounts().is_empty());
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let untold = Untold::default();
        untold.add((0..Untold::ACCOUNTS + 10).map(account).collect());
        assert_eq!(untold.accounts().len(), Untold::ACCOUNTS);
        let first = untold.accounts();
        untold.add(first.iter().take(1).map(|(account, _)| account.clone()).collect());
        assert!(untold.accounts().first() > first.first(), "those that are known are added again");
    }
}
