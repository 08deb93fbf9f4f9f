//! Who may write. Each run of each process has a number of its own, its *incarnation*.
//!
//! ```text
//!   register ──► writes … ──┬─► retire      it has ended in order, and has nothing in flight
//!                           └─► revoke      somebody takes it for dead: what it writes from then on is refused, and what it
//!                                           had in flight is the caller's to release
//! ```
//!
//! An instance comes with its store: nobody writes before. Every write carries a check, in its own transaction, that
//! its instance is not revoked: a machine that was paused and comes back changes nothing. A row that says that a
//! revoked instance, or one that was never there, has a message is written as pending.

use async_trait::async_trait;

use crate::Error;

/// The right to write. A store of one process has one instance, which nobody revokes.
#[async_trait]
pub trait Instances: Send + Sync + 'static {
    /// Takes the right of an instance away, for good. When it returns, nothing of it is being written any more, and
    /// nothing will be; and nothing that says that it has a message. Twice is harmless, and so is a number that never
    /// was.
    ///
    /// # Errors
    /// A transient one if somebody holds it up, after some seconds: the right is gone, but what was on its way may come
    /// yet. To be repeated before anything is released. [`Error::Revoked`] if this instance has no right itself.
    async fn revoke(&self, instance: u64) -> Result<(), Error>;

    /// This instance ends in order: it is forgotten once it holds nothing.
    async fn retire(&self) -> Result<(), Error>;

    /// The other instances that may write, or that have messages in flight although they may not: those that are dead
    /// are to be revoked, and what they had to be released. Nobody else knows of them once all processes have died at
    /// one time, or whoever revoked one died before it released anything. A store of one process has no others.
    async fn others(&self) -> Result<Vec<u64>, Error> {
        Ok(Vec::new())
    }

    /// Whether this instance was revoked: asked after a pause, before anything else is done.
    async fn is_revoked(&self) -> Result<bool, Error>;
}
