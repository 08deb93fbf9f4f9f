//! The registry of one process: a map in memory, read without a lock.

use async_trait::async_trait;
use starling_xmpp::jid::{BareJid, FullJid, bare_str};
use tokio::sync::watch;

use crate::{
    Bound, Error, Fence, InstanceId, Members, OnConflict, Registry, SessionId, SessionRecord, Sessions, StreamId,
    StreamRecord, StreamSave, Streams, Update, accounts::Accounts,
};

/// The registry of a process that is alone.
#[derive(Debug)]
pub struct MemoryRegistry {
    accounts: Accounts,
    renewals: watch::Sender<u64>,
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self { accounts: Accounts::default(), renewals: watch::Sender::new(0) }
    }
}

impl MemoryRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
        self.accounts.change(bare_str(&record.full), |sessions| {
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
        Ok(self.accounts.change(bare_str(full), |sessions| {
            let at = sessions.iter().position(|record| record.id == id)?;
            let mut next = sessions.to_vec();
            update.apply(next.get_mut(at)?);
            Some(next)
        }))
    }

    async fn unbind(&self, full: &FullJid, id: SessionId) -> Result<bool, Error> {
        Ok(self.accounts.change(bare_str(full), |sessions| {
            let at = sessions.iter().position(|record| record.id == id)?;
            let mut next = sessions.to_vec();
            next.remove(at);
            Some(next)
        }))
    }

    fn let_go(&self, _: &FullJid, _: SessionId) {
        // There is no other instance.
    }

    async fn sessions(&self, account: &BareJid) -> Result<Sessions, Error> {
        Ok(self.accounts.get(account.as_str()))
    }

    async fn sessions_of(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error> {
        Ok(accounts.iter().map(|account| self.accounts.get(account.as_str())).collect())
    }

    async fn sessions_for_certain(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error> {
        self.sessions_of(accounts).await
    }

    async fn with_presence(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error> {
        self.sessions_of(accounts).await
    }

    fn cached(&self, account: &str) -> Option<Sessions> {
        Some(self.accounts.get(account))
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
    use super::*;

    #[tokio::test]
    async fn an_account_without_sessions_leaves_no_entry() {
        let registry = MemoryRegistry::new();
        let one = SessionRecord::new("a@b/1".parse().unwrap(), SessionId(1), InstanceId(1));
        registry.bind(one.clone(), OnConflict::Refuse, 2).await.unwrap();
        registry.unbind(&one.full, one.id).await.unwrap();
        assert_eq!(registry.accounts.len(), 0);
    }
}
