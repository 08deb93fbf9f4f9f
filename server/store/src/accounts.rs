//! The traits.

use async_trait::async_trait;
use starling_xmpp::{jid::BareJid, sasl::Credentials};

use crate::{Documents, Error, Instances, Messages, Rosters};

/// An account, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its address.
    pub jid: BareJid,
    /// What is kept of its password.
    pub credentials: Credentials,
}

/// What writing an account takes for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// It does not exist yet; those that do are left out.
    Create,
    /// It exists; those that do not are left out.
    Replace,
    /// Either.
    Upsert,
}

/// Who has an account.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// What is kept of the account's password; `None`: there is no such account. Takes no longer where there is none.
    async fn credentials(&self, account: &BareJid) -> Result<Option<Credentials>, Error>;

    /// Writes accounts in one transaction. Returns the positions, rising, of those that the mode leaves out; the others
    /// are on disk then.
    async fn put(&self, accounts: &[Account], mode: PutMode) -> Result<Vec<usize>, Error>;

    /// Removes an account with all that hangs on it. `false`: there was none.
    async fn remove(&self, account: &BareJid) -> Result<bool, Error>;

    /// Up to `limit` accounts behind `after`, in the order of their addresses.
    async fn list(&self, after: Option<&BareJid>, limit: u32) -> Result<Vec<BareJid>, Error>;

    /// Whether there is such an account.
    async fn exists(&self, account: &BareJid) -> Result<bool, Error>;

    /// How many accounts there are. Reads them all: not for the path of anything.
    async fn count(&self) -> Result<u64, Error>;
}

/// Everything that must last.
#[async_trait]
pub trait Store: Accounts + Messages + Rosters + Documents + Instances {
    /// A secret of the server's own, of `bytes` random bytes: made at the first call, the same ever after.
    async fn secret(&self, name: &str, bytes: usize) -> Result<Vec<u8>, Error>;

    /// Ends all connections to the database. Calls after it fail.
    async fn close(&self);
}
