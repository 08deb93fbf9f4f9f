//! Who is where: instances, the sessions of each account with their presence, and streams that can be resumed. Used by
//! `session` for delivery and presence, and by `c2s` for resumption.
//!
//! ```text
//!   bind / update / unbind ──►┌──────────────────────────────────────────────────────┐──► sessions(account), cached(account)
//!   (compare, then change)    │ account ─► [ resource, instance, session id, priority ] …            │
//!                             │ account, stream id ─► owner, fence, h, …   (streams)                 │
//!   renewed each second ─────►│ instance ─► lease, the accounts that have sessions there  (members)  │
//!                             └──────────────────────────────────────────────────────┘
//!         memory (this process)   ·   redis (many processes), by the same traits
//! ```

mod accounts;
mod members;
mod memory;
mod record;
pub mod redis;
mod streams;
#[cfg(feature = "suite")]
pub mod suite;

use std::sync::Arc;

use async_trait::async_trait;
use starling_xmpp::jid::{BareJid, FullJid};
use tokio::sync::watch;

pub use crate::{
    members::Members,
    memory::MemoryRegistry,
    record::{InstanceId, SessionId, SessionRecord, StreamId, Update},
    redis::{RedisConfig, RedisMode, RedisRegistry},
    streams::{Fence, StreamRecord, StreamSave, StreamState, Streams},
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
/// it names, at the instance that it names.
#[async_trait]
pub trait Registry: Streams + Members {
    /// Whether new sessions can be bound: asked before a client logs in.
    fn is_available(&self) -> bool;

    /// Counts the times at which everything of this instance was written anew, because the registry was away or had lost
    /// something: what others wanted to tell its sessions meanwhile may not have found them.
    fn renewals(&self) -> watch::Receiver<u64>;

    /// Claims `record.full` for `record.id`; at most `limit` resources per account.
    async fn bind(&self, record: SessionRecord, on_conflict: OnConflict, limit: usize) -> Result<Bound, Error>;

    /// Changes a session's record. `false` if the resource is no longer this session's. Where the registry is away, it is
    /// changed here, and written when the registry is back.
    async fn update(&self, full: &FullJid, id: SessionId, update: Update) -> Result<bool, Error>;

    /// Gives the resource up. `false` if it was no longer this session's, or if somebody has taken its stream, so that it goes
    /// on elsewhere: then nothing is changed but what is known here. Where the registry is away, it is given up when the
    /// registry is back.
    async fn unbind(&self, full: &FullJid, id: SessionId) -> Result<bool, Error>;

    /// The session goes on at another instance, which has said so: what is known of it here goes, and nothing is asked.
    fn let_go(&self, full: &FullJid, id: SessionId);

    /// The sessions of an account, from the backend itself, without their presence. Where the registry is away: those that
    /// are known here, which may be none.
    async fn sessions(&self, account: &BareJid) -> Result<Sessions, Error>;

    /// The sessions of many accounts, in their order, without their presence: what is not known here, by one read of the
    /// backend. Where it is away: what is known here.
    async fn sessions_of(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error>;

    /// The sessions of many accounts, in their order, without their presence, as the backend itself says now.
    ///
    /// # Errors
    /// If it does not answer for one of them: what is known here is not enough.
    async fn sessions_for_certain(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error>;

    /// The same with their presence, by one read of the backend. Where it is away: what is known here.
    async fn with_presence(&self, accounts: &[BareJid]) -> Result<Vec<Sessions>, Error>;

    /// The sessions of an account if they are known without asking anyone: the form for the path of a message.
    /// `None`: not known here, ask [`Registry::sessions`].
    fn cached(&self, account: &str) -> Option<Sessions>;
}
