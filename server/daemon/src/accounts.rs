//! Accounts, as the command line works on them: through the running server, or on the store; on that of one process alone
//! under its lock.

use std::sync::Arc;

use starling_settings::Settings;
use starling_store::{Account, PutMode, Store};
use starling_xmpp::jid::BareJid;

use crate::{
    Error, Result,
    admin::{AdminClient, refused},
    backends,
    data::{DataFolder, Lock},
};

/// Accounts on a page.
const PAGE: u32 = 1000;

/// A way to the accounts.
pub(crate) enum Accounts {
    /// A server runs: it does the work, and its sessions learn of it.
    Running(AdminClient),
    /// None does on this machine, and none can start on its data meanwhile.
    Stopped { store: Arc<dyn Store>, _lock: Lock },
}

impl Accounts {
    pub(crate) async fn open(settings: &Settings) -> Result<Self> {
        let data = DataFolder::prepare(&settings.data)?;
        if let Some(client) = AdminClient::connect(&data.admin_socket()).await? {
            return Ok(Self::Running(client));
        }
        let lock = match data.lock() {
            Ok(lock) => lock,
            // A server that began to listen just now.
            Err(error @ Error::DataInUse { .. }) => match AdminClient::connect(&data.admin_socket()).await? {
                Some(client) => return Ok(Self::Running(client)),
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let store = backends::store(settings, &data, backends::incarnation()).await?;
        Ok(Self::Stopped { store, _lock: lock })
    }

    /// Positions of those that the mode leaves out.
    pub(crate) async fn put(&mut self, accounts: &[Account], mode: PutMode) -> Result<Vec<usize>> {
        match self {
            Self::Running(client) => client.put(accounts, mode).await,
            Self::Stopped { store, .. } => Ok(store.put(accounts, mode).await?),
        }
    }

    /// `false`: there was none.
    pub(crate) async fn remove(&mut self, account: &BareJid) -> Result<bool> {
        match self {
            Self::Running(client) => client.remove(account).await,
            Self::Stopped { store, .. } => Ok(store.remove(account).await?),
        }
    }

    /// Gives every account to `show`, in the order of their addresses, until it says that nobody listens any more.
    pub(crate) async fn list(&mut self, mut show: impl FnMut(&str) -> Result<()>) -> Result<()> {
        match self {
            Self::Running(client) => {
                let mut pages = client.list().await?;
                while let Some(page) = pages.message().await.map_err(refused)? {
                    page.jids.iter().try_for_each(|jid| show(jid))?;
                }
            }
            Self::Stopped { store, .. } => {
                let mut after: Option<BareJid> = None;
                loop {
                    let page = store.list(after.as_ref(), PAGE).await?;
                    page.iter().try_for_each(|jid| show(jid.as_str()))?;
                    match page.last() {
                        Some(last) => after = Some(last.clone()),
                        None => break,
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn close(self) {
        if let Self::Stopped { store, .. } = self {
            store.retire().await.ok();
            store.close().await;
        }
    }
}
