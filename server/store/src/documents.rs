//! Small things that extension containers keep for accounts.

use async_trait::async_trait;
use starling_xmpp::jid::BareJid;

use crate::Error;

/// Documents: for each account, by kind (the container's own) and key.
#[async_trait]
pub trait Documents: Send + Sync + 'static {
    /// One document.
    async fn document(&self, account: &BareJid, kind: &str, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// All of a kind, with their keys, in the keys' order.
    async fn documents(&self, account: &BareJid, kind: &str) -> Result<Vec<(String, Vec<u8>)>, Error>;

    /// Writes a document. `false`, and nothing is written: there is no such account, or it would have more than `limit`
    /// bytes of this kind.
    async fn put_document(
        &self,
        account: &BareJid,
        kind: &str,
        key: &str,
        value: &[u8],
        limit: usize,
    ) -> Result<bool, Error>;

    /// Writes a document, or removes it (`None`), if it is as whoever decided so has read it; `before`: `None` if there was
    /// none. `false`, and nothing is written: it is not any more, or there is no such account.
    async fn swap_document(
        &self,
        account: &BareJid,
        kind: &str,
        key: &str,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<bool, Error>;

    /// Removes a document. `false`: there was none.
    async fn remove_document(&self, account: &BareJid, kind: &str, key: &str) -> Result<bool, Error>;
}
