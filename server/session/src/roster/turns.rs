//! Who comes after whom, by account.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Accounts of different shards never wait for each other.
const SHARDS: usize = 256;

/// Locks that are held over a change and what is sent because of it. Nobody holds two of the same [`Turns`].
#[derive(Debug)]
pub(super) struct Turns {
    shards: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl Turns {
    pub(super) async fn take(&self, account: &str) -> Option<MutexGuard<'_, ()>> {
        let shard = self.hasher.hash_one(account) as usize % SHARDS;
        match self.shards.get(shard) {
            Some(shard) => Some(shard.lock().await),
            None => None,
        }
    }
}
