//! Which messages were copied lately, so that their errors are copied too.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// Copied messages that are remembered at most; 256 KiB. One more takes the place of another, whose error is then not
/// copied.
const SLOTS: usize = 32_768;

/// XEP-0280 §6.1: an error is copied if it answers a message that was. Remembers messages of the last while by a hash
/// of who sent them to whom, and their `id`: no lock, and nothing but one word per message. What entered at another
/// process is not known here.
#[derive(Debug)]
pub struct Recent {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for Recent {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), hasher: RandomState::new() }
    }
}

impl Recent {
    /// `sender` (bare JID) sent the message `id` to `recipient` (as its `to` said), and it was copied. To be called only
    /// where a copy was made: an account with one resource costs nothing.
    pub fn note(&self, sender: &str, recipient: &str, id: &str) {
        let hash = self.hash(sender, recipient, id);
        if let Some(slot) = self.slot(hash) {
            slot.store(hash, Ordering::Relaxed);
        }
    }

    /// Whether the error `id` from `from` (as its `from` says) to `to` (bare JID) answers a message that was noted.
    #[must_use]
    pub fn answers(&self, from: &str, to: &str, id: &str) -> bool {
        // The error to a message for a bare JID may come from a full one, and the other way round.
        let bare = from.split_once('/').map_or(from, |(bare, _)| bare);
        [from, bare].into_iter().any(|from| {
            let hash = self.hash(to, from, id);
            self.slot(hash).is_some_and(|slot| slot.load(Ordering::Relaxed) == hash)
        })
    }

    fn hash(&self, sender: &str, recipient: &str, id: &str) -> u64 {
        // Zero is an empty slot.
        self.hasher.hash_one((sender, recipient, id)).max(1)
    }

    fn slot(&self, hash: u64) -> Option<&AtomicU64> {
        self.slots.get(hash as usize % SLOTS)
    }
}
