//! Who is where: which resources of an account are bound, on which instance, and with what presence.
//!
//! Used by `session` to decide where a stanza goes, and by `c2s` to bind a resource. What is here are hints and claims
//! that live as long as the process that made them; what must last is in the store.
//!
//! ```text
//!   bind / presence / unbind                 cached()            sessions()
//!            │ (compare: still mine?)            │ no waiting          │
//!            ▼                                   ▼                     ▼
//!   ┌──────────────────────────────────────────────────────────────────────┐
//!   │ account ─► [ resource, instance, session id, priority ] …            │
//!   └──────────────────────────────────────────────────────────────────────┘
//!         memory (this process)   ·   redis (many processes), by the same trait
//! ```

mod memory;
mod record;

use std::sync::Arc;

use async_trait::async_trait;
use starling_xmpp::jid::{BareJid, FullJid};

pub use crate::{
    memory::MemoryRegistry,
    record::{InstanceId, SessionId, SessionRecord, Update},
};

/// What happens when the resource that is asked for is bound already (RFC 6120 §7.7.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The new session takes the resource; the old one is told `conflict` by whoever called `bind`.
    Replace,
    /// The resource stays where it is.
    Refuse,
}

/// How a claim ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The resource is the caller's. `replaced` is the session that held it until now.
    Claimed {
        /// The session that lost its resource, to be closed by the caller.
        replaced: Option<SessionRecord>,
    },
    /// Another session has the resource, and the policy lets it keep it.
    Taken,
    /// The account has as many resources as it may have (RFC 6120 §7.6.2.1).
    TooMany,
}

/// What can go wrong with the registry. Every variant is the backend's fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The backend did not answer. A retry is sensible; nothing was changed, or what was changed can be claimed again.
    #[error("the registry does not answer: {0}")]
    Away(String),
}

/// All bound resources of one account, as of one moment.
pub type Sessions = Arc<[SessionRecord]>;

/// The registry of sessions. Changes compare before they act: a record is changed or removed only by the session that
/// it names.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Claims `record.full` for `record.id`; at most `limit` resources per account.
    async fn bind(&self, record: SessionRecord, on_conflict: OnConflict, limit: usize) -> Result<Bound, Error>;

    /// Changes a session's record. `false` if the resource is no longer this session's.
    async fn update(&self, full: &FullJid, id: SessionId, update: Update) -> Result<bool, Error>;

    /// Gives the resource up. `false` if it was no longer this session's; then nothing is changed.
    async fn unbind(&self, full: &FullJid, id: SessionId) -> Result<bool, Error>;

    /// The sessions of an account, from the backend itself.
    async fn sessions(&self, account: &BareJid) -> Result<Sessions, Error>;

    /// The sessions of many accounts, in their order, by one read of the backend.
    async fn sessions_of(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error>;

    /// The sessions of an account if they are known without asking anyone: the form for the path of a message.
    /// `None`: not known here, ask [`Registry::sessions`].
    fn cached(&self, account: &str) -> Option<Sessions>;
}
