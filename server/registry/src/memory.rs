//! The registry of one process: a map in memory, read without a lock.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use papaya::HashMap;
use starling_xmpp::jid::{BareJid, FullJid, bare_str};
use tokio::sync::watch;

use crate::{
    Bound, Error, Fence, InstanceId, Members, OnConflict, Registry, SessionId, SessionRecord, Sessions, StreamId,
    StreamRecord, StreamSave, Streams, Update,
};

/// Writers of different accounts seldom wait for each other.
const SHARDS: usize = 64;

/// Sessions by account. One entry per account that has a bound resource; bounded by the connections that `c2s` lets in.
/// Readers never wait. Writers of one account take turns: the map's own compare-and-set spins under many at once.
#[derive(Debug)]
pub struct MemoryRegistry {
    accounts: HashMap<Box<str>, Sessions>,
    turns: [Mutex<()>; SHARDS],
    hasher: RandomState,
    renewals: watch::Sender<u64>,
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self {
            accounts: HashMap::new(),
            turns: [const { Mutex::new(()) }; SHARDS],
            hasher: RandomState::new(),
            renewals: watch::Sender::new(0),
        }
    }
}

impl MemoryRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what is held for the account of `full` by what `change` makes of it; `None` leaves it as it is, which is
    /// `false`.
    fn change(&self, full: &FullJid, change: impl FnOnce(&[SessionRecord]) -> Option<Vec<SessionRecord>>) -> bool {
        let account = bare_str(full);
        let shard = self.hasher.hash_one(account) as usize % SHARDS;
        let turn = self.turns.get(shard).map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        let accounts = self.accounts.pin();
        let now = accounts.get(account);
        let changed = match change(now.map_or(&[][..], |sessions| sessions)) {
            None => false,
            Some(next) if next.is_empty() => accounts.remove(account).is_some(),
            Some(next) => {
                accounts.insert(account.into(), next.into());
                true
            }
        };
        drop(turn);
        changed
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    fn is_available(&self) -> bool {
        true
    }

    fn renewals(&self) -> watch::Receiver<u64> {
        self.renewals.subscribe()
    }

    async fn bind(&self, record: SessionRecord, on_conflict: OnConflict, limit: usize) -> Result<Bound, Error> {
        let mut bound = Bound::Taken;
        self.change(&record.full, |sessions| {
            let held = sessions.iter().position(|other| other.full == record.full);
            let mut next = sessions.to_vec();
            let replaced = match (held, on_conflict) {
                (Some(_), OnConflict::Refuse) => {
                    bound = Bound::Taken;
                    return None;
                }
                (Some(at), OnConflict::Replace) => Some(next.swap_remove(at)),
                (None, _) if sessions.len() >= limit => {
                    bound = Bound::TooMany;
                    return None;
                }
                (None, _) => None,
            };
            next.push(record.clone());
            bound = Bound::Claimed { replaced };
            Some(next)
        });
        Ok(bound)
    }

    async fn update(&self, full: &FullJid, id: SessionId, update: Update) -> Result<bool, Error> {
        Ok(self.change(full, |sessions| {
            let at = sessions.iter().position(|record| record.id == id)?;
            let mut next = sessions.to_vec();
            update.apply(next.get_mut(at)?);
            Some(next)
        }))
    }

    async fn unbind(&self, full: &FullJid, id: SessionId) -> Result<bool, Error> {
        Ok(self.change(full, |sessions| {
            let at = sessions.iter().position(|record| record.id == id)?;
            let mut next = sessions.to_vec();
            next.remove(at);
            Some(next)
        }))
    }

    async fn sessions(&self, account: &BareJid) -> Result<Sessions, Error> {
        Ok(self.cached(account.as_str()).unwrap_or_default())
    }

    async fn sessions_of(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error> {
        let held = self.accounts.pin();
        Ok(accounts.iter().map(|account| held.get(account.as_str()).cloned().unwrap_or_default()).collect())
    }

    async fn with_presence(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error> {
        self.sessions_of(accounts).await
    }

    fn cached(&self, account: &str) -> Option<Sessions> {
        Some(self.accounts.pin().get(account).cloned().unwrap_or_default())
    }
}

/// Streams pass from task to task within the process.
#[async_trait]
impl Streams for MemoryRegistry {
    fn are_shared(&self) -> bool {
        false
    }

    async fn open_stream(&self, _: &StreamRecord) -> Result<(), Error> {
        Ok(())
    }

    async fn save_streams(&self, saves: &[(&BareJid, StreamId, Fence, StreamSave)]) -> Result<Vec<bool>, Error> {
        Ok(vec![true; saves.len()])
    }

    async fn take_stream(&self, _: &BareJid, _: StreamId) -> Result<Option<StreamRecord>, Error> {
        Ok(None)
    }

    async fn settle_stream(&self, _: &StreamRecord) -> Result<bool, Error> {
        Ok(false)
    }

    async fn close_stream(&self, _: &BareJid, _: StreamId, _: Fence, _: u32) -> Result<bool, Error> {
        Ok(true)
    }

    async fn stream(&self, _: &BareJid, _: StreamId) -> Result<Option<StreamRecord>, Error> {
        Ok(None)
    }
}

/// The only instance is alive.
#[async_trait]
impl Members for MemoryRegistry {
    async fn is_alive(&self, _: InstanceId) -> Result<bool, Error> {
        Ok(true)
    }

    async fn dead(&self) -> Result<Vec<InstanceId>, Error> {
        Ok(Vec::new())
    }

    async fn claim_dead(&self, _: InstanceId) -> Result<bool, Error> {
        Ok(false)
    }

    async fn accounts_of(&self, _: InstanceId, _: usize) -> Result<Vec<BareJid>, Error> {
        Ok(Vec::new())
    }

    async fn forget_account(&self, _: InstanceId, _: &BareJid) -> Result<(), Error> {
        Ok(())
    }

    async fn forget_instance(&self, _: InstanceId) -> Result<(), Error> {
        Ok(())
    }

    async fn evict(&self, record: &SessionRecord) -> Result<bool, Error> {
        self.unbind(&record.full, record.id).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::InstanceId;

    fn record(full: &str, id: u128) -> SessionRecord {
        SessionRecord::new(full.parse().unwrap(), SessionId(id), InstanceId(1))
    }

    async fn ids(registry: &MemoryRegistry, account: &str) -> Vec<u128> {
        let sessions = registry.sessions(&account.parse().unwrap()).await.unwrap();
        sessions.iter().map(|record| record.id.0).collect()
    }

    #[tokio::test]
    async fn a_replaced_session_is_named_to_whoever_replaced_it() {
        let registry = MemoryRegistry::new();
        let first = record("juliet@example.com/balcony", 1);
        assert_eq!(
            registry.bind(first.clone(), OnConflict::Replace, 10).await.unwrap(),
            Bound::Claimed { replaced: None }
        );
        let second = record("juliet@example.com/balcony", 2);
        assert_eq!(
            registry.bind(second, OnConflict::Replace, 10).await.unwrap(),
            Bound::Claimed { replaced: Some(first) }
        );
        assert_eq!(ids(&registry, "juliet@example.com").await, [2]);
    }

    #[tokio::test]
    async fn a_session_that_was_replaced_can_neither_remove_nor_change_its_successor() {
        let registry = MemoryRegistry::new();
        let full: FullJid = "juliet@example.com/balcony".parse().unwrap();
        for id in [1, 2] {
            registry.bind(record(full.as_str(), id), OnConflict::Replace, 10).await.unwrap();
        }
        assert!(!registry.unbind(&full, SessionId(1)).await.unwrap());
        assert!(!registry.update(&full, SessionId(1), Update::Carbons(true)).await.unwrap());
        assert_eq!(ids(&registry, "juliet@example.com").await, [2]);
        assert!(registry.unbind(&full, SessionId(2)).await.unwrap());
        assert!(ids(&registry, "juliet@example.com").await.is_empty());
    }

    #[tokio::test]
    async fn a_refused_or_surplus_resource_changes_nothing() {
        let registry = MemoryRegistry::new();
        registry.bind(record("a@b/1", 1), OnConflict::Refuse, 2).await.unwrap();
        assert_eq!(registry.bind(record("a@b/1", 2), OnConflict::Refuse, 2).await.unwrap(), Bound::Taken);
        registry.bind(record("a@b/2", 3), OnConflict::Refuse, 2).await.unwrap();
        assert_eq!(registry.bind(record("a@b/3", 4), OnConflict::Refuse, 2).await.unwrap(), Bound::TooMany);
        assert_eq!(ids(&registry, "a@b").await, [1, 3]);
    }

    #[tokio::test]
    async fn many_accounts_are_read_at_once_in_their_order() {
        let registry = MemoryRegistry::new();
        let juliet = record("juliet@example.com/balcony", 7);
        registry.bind(juliet.clone(), OnConflict::Refuse, 2).await.unwrap();
        let presence = Update::Presence { priority: Some(3), stanza: Some(b"<presence/>".as_slice().into()) };
        assert!(registry.update(&juliet.full, juliet.id, presence).await.unwrap());
        let accounts = ["nurse@example.com", "juliet@example.com"].map(|account| account.parse().unwrap());
        let sessions = registry.sessions_of(&accounts).await.unwrap();
        assert!(sessions[0].is_empty());
        assert_eq!(sessions[1][0].priority, Some(3));
        assert_eq!(sessions[1][0].presence.as_deref(), Some(b"<presence/>".as_slice()));
    }

    #[tokio::test]
    async fn an_account_without_sessions_leaves_no_entry() {
        let registry = MemoryRegistry::new();
        let one = record("a@b/1", 1);
        registry.bind(one.clone(), OnConflict::Refuse, 2).await.unwrap();
        registry.unbind(&one.full, one.id).await.unwrap();
        assert_eq!(registry.accounts.len(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn claims_made_at_once_leave_exactly_one_holder() {
        let registry = Arc::new(MemoryRegistry::new());
        let claims: Vec<_> = (0..64)
            .map(|id| {
                let registry = Arc::clone(&registry);
                tokio::spawn(async move { registry.bind(record("a@b/c", id), OnConflict::Replace, 9).await.unwrap() })
            })
            .collect();
        let mut replaced = Vec::new();
        for claim in claims {
            if let Bound::Claimed { replaced: Some(record) } = claim.await.unwrap() {
                replaced.push(record.id.0);
            }
        }
        replaced.extend(ids(&registry, "a@b").await);
        replaced.sort_unstable();
        assert_eq!(replaced, (0..64).collect::<Vec<_>>());
    }
}
