//! A store in memory that commits late, fails now and then, and forgets what was not committed when its process dies.

use std::{
    collections::BTreeMap,
    future::pending,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use starling_store::{
    Account, Accounts, Documents, Error, Instances, PutMode, Rosters, Store,
    messages::{Change, MessageId, Messages, PendingRow, RowState, StoredRow},
    rosters::{Decide, ItemChanged, Roster, RosterItem},
};
use starling_xmpp::{jid::BareJid, sasl::Credentials};

use super::facts::Shared;

/// What is written, by account and id.
#[derive(Default)]
pub(crate) struct Disk {
    rows: BTreeMap<(String, MessageId), Row>,
}

struct Row {
    peer: String,
    state: RowState,
    archived: bool,
    stanza: Vec<u8>,
}

/// One process's access to the disk.
pub(crate) struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
    shared: Shared,
    /// The process is dead: nothing it asks for happens any more, and nothing is answered.
    dead: AtomicBool,
    /// The database does not answer for now.
    away: AtomicBool,
    /// The longest a change takes, in milliseconds.
    slowness: u64,
}

impl Disk {
    /// How many rows say that somebody has to get them, or is getting them.
    pub(crate) fn unsettled(&self) -> usize {
        self.rows.values().filter(|row| row.state != RowState::Delivered).count()
    }

    fn apply(&mut self, change: &Change<'_>) {
        match change {
            Change::Put(new) => {
                let key = (new.account.to_owned(), new.id);
                match self.rows.get_mut(&key) {
                    Some(row) if new.state == RowState::Pending => row.state = RowState::Pending,
                    Some(_) => {}
                    None => {
                        let row = Row {
                            peer: new.peer.to_owned(),
                            state: new.state,
                            archived: new.archived,
                            stanza: new.stanza.to_vec(),
                        };
                        self.rows.insert(key, row);
                    }
                }
            }
            Change::Returned { account, id, .. } => {
                if let Some(row) = self.rows.get_mut(&((*account).to_owned(), *id))
                    && row.state == RowState::InFlight
                {
                    row.state = RowState::Pending;
                }
            }
            Change::Held { .. } => {}
            Change::Delivered { account, id } => {
                let key = ((*account).to_owned(), *id);
                match self.rows.get_mut(&key) {
                    Some(row) if row.archived => row.state = RowState::Delivered,
                    Some(_) => {
                        self.rows.remove(&key);
                    }
                    None => {}
                }
            }
        }
    }

    fn of<'d>(&'d mut self, account: &str) -> impl Iterator<Item = (MessageId, &'d mut Row)> + use<'d> {
        let account = account.to_owned();
        self.rows.iter_mut().filter(move |((of, _), _)| *of == account).map(|((_, id), row)| (*id, row))
    }
}

impl MemoryStore {
    pub(crate) fn new(disk: &Arc<Mutex<Disk>>, shared: &Shared, slowness: u64) -> Self {
        let (dead, away) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { disk: Arc::clone(disk), shared: shared.clone(), dead, away, slowness }
    }

    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn takes_time(&self, most: u64) {
        let time = self.shared.some_ms(most);
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        if self.dead.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }

    fn answers(&self) -> Result<(), Error> {
        if self.away.load(Ordering::Relaxed) || self.shared.chance(2) {
            self.shared.say(|| "the database fails".to_owned());
            return Err(Error::File { path: "disk".into(), source: io::Error::other("simulated") });
        }
        Ok(())
    }
}

#[async_trait]
impl Messages for MemoryStore {
    async fn commit(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        self.takes_time(self.slowness).await;
        self.answers()?;
        {
            let mut disk = self.disk();
            for change in changes {
                disk.apply(change);
            }
        }
        self.shared.say(|| format!("{} changes committed", changes.len()));
        // A process may die between the commit and its answer.
        self.takes_time(self.slowness / 4).await;
        Ok(())
    }

    async fn pending(&self, account: &str, at_most: u32) -> Result<u32, Error> {
        self.takes_time(4).await;
        self.answers()?;
        let count = self.disk().of(account).filter(|(_, row)| row.state == RowState::Pending).count();
        Ok((count as u32).min(at_most))
    }

    async fn claim(&self, account: &str, limit: u32, bytes: usize) -> Result<Vec<PendingRow>, Error> {
        self.takes_time(self.slowness).await;
        self.answers()?;
        let mut claimed = Vec::new();
        {
            let mut disk = self.disk();
            let mut room = bytes;
            for (id, row) in disk.of(account).filter(|(_, row)| row.state == RowState::Pending) {
                if claimed.len() >= limit as usize || (row.stanza.len() > room && !claimed.is_empty()) {
                    break;
                }
                room = room.saturating_sub(row.stanza.len());
                row.state = RowState::InFlight;
                let (peer, stanza) = (row.peer.clone(), row.stanza.clone());
                claimed.push(PendingRow { id, peer, archived: row.archived, stanza });
            }
        }
        self.shared.say(|| format!("{} rows of {account} claimed", claimed.len()));
        self.takes_time(self.slowness / 4).await;
        Ok(claimed)
    }

    async fn waiting(&self, accounts: &[&str]) -> Result<Vec<bool>, Error> {
        let mut disk = self.disk();
        let mut waits = |account: &str| disk.of(account).any(|(_, row)| row.state == RowState::Pending);
        Ok(accounts.iter().map(|account| waits(account)).collect())
    }

    async fn release(&self, _holder: u64, limit: u32) -> Result<Vec<String>, Error> {
        let mut disk = self.disk();
        let in_flight = disk.rows.iter_mut().filter(|(_, row)| row.state == RowState::InFlight);
        let released = in_flight.take(limit as usize).map(|((account, _), row)| {
            row.state = RowState::Pending;
            account.clone()
        });
        Ok(released.collect())
    }

    async fn claim_these(&self, _: &str, _: &[MessageId]) -> Result<Vec<PendingRow>, Error> {
        Ok(Vec::new())
    }

    async fn release_account(&self, _: &str, _: u64) -> Result<Vec<MessageId>, Error> {
        Ok(Vec::new())
    }

    async fn sent(&self, _: &str, _: u128, _: MessageId) -> Result<Vec<(u32, Vec<u8>)>, Error> {
        Ok(Vec::new())
    }

    async fn expire(&self, _before: MessageId, _limit: u32) -> Result<u64, Error> {
        Ok(0)
    }

    async fn rows(&self, _: &str, _: Option<MessageId>, _: u32) -> Result<Vec<StoredRow>, Error> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Accounts for MemoryStore {
    async fn credentials(&self, _: &BareJid) -> Result<Option<Credentials>, Error> {
        Ok(None)
    }

    async fn put(&self, _: &[Account], _: PutMode) -> Result<Vec<usize>, Error> {
        Ok(Vec::new())
    }

    async fn remove(&self, _: &BareJid) -> Result<bool, Error> {
        Ok(false)
    }

    async fn list(&self, _: Option<&BareJid>, _: u32) -> Result<Vec<BareJid>, Error> {
        Ok(Vec::new())
    }

    async fn exists(&self, _: &BareJid) -> Result<bool, Error> {
        self.takes_time(2).await;
        Ok(true)
    }

    async fn count(&self) -> Result<u64, Error> {
        Ok(0)
    }
}

#[async_trait]
impl Rosters for MemoryStore {
    async fn roster(&self, _: &BareJid) -> Result<Roster, Error> {
        self.takes_time(4).await;
        Ok(Roster { version: 0, items: Vec::new() })
    }

    async fn roster_since(
        &self,
        _: &BareJid,
        _: u64,
    ) -> Result<Option<(u64, Vec<(BareJid, Option<RosterItem>)>)>, Error> {
        Ok(None)
    }

    async fn change_item(&self, _: &BareJid, _: &BareJid, _: usize, _: Decide<'_>) -> Result<ItemChanged, Error> {
        Ok(ItemChanged::Kept(None))
    }
}

#[async_trait]
impl Documents for MemoryStore {
    async fn document(&self, _: &BareJid, _: &str, _: &str) -> Result<Option<Vec<u8>>, Error> {
        self.takes_time(4).await;
        Ok(None)
    }

    async fn documents(&self, _: &BareJid, _: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.takes_time(4).await;
        Ok(Vec::new())
    }

    async fn swap_document(
        &self,
        _: &BareJid,
        _: &str,
        _: &str,
        _: Option<&[u8]>,
        _: Option<&[u8]>,
    ) -> Result<bool, Error> {
        Ok(false)
    }

    async fn put_document(&self, _: &BareJid, _: &str, _: &str, _: &[u8], _: usize) -> Result<bool, Error> {
        Ok(false)
    }

    async fn remove_document(&self, _: &BareJid, _: &str, _: &str) -> Result<bool, Error> {
        Ok(false)
    }
}

#[async_trait]
impl Instances for MemoryStore {
    async fn revoke(&self, _: u64) -> Result<(), Error> {
        Ok(())
    }

    async fn retire(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn is_revoked(&self) -> Result<bool, Error> {
        Ok(false)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn secret(&self, _: &str, bytes: usize) -> Result<Vec<u8>, Error> {
        Ok(vec![7; bytes])
    }

    async fn close(&self) {}
}
