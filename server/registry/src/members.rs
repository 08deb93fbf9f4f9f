//! Who is alive: each instance has a lease, which it renews.
//!
//! ```text
//!   instance ── every second ──► lease (4 s)         gone, and gone from all routers ──► somebody takes it for dead
//!            └─► its accounts, an index ◄──── claim_dead ── one of the others ── cleans up, account by account
//! ```

use async_trait::async_trait;
use starling_xmpp::jid::BareJid;

use crate::{Error, InstanceId, SessionRecord};

/// The instances that the registry knows.
#[async_trait]
pub trait Members: Send + Sync + 'static {
    /// Whether the instance has renewed its lease in time.
    async fn is_alive(&self, instance: InstanceId) -> Result<bool, Error>;

    /// Instances that have left something behind, and have no lease any more.
    async fn dead(&self) -> Result<Vec<InstanceId>, Error>;

    /// Makes the caller the one who cleans up behind a dead instance, for a minute; again while it is, for another.
    /// `false`: somebody else does.
    async fn claim_dead(&self, dead: InstanceId) -> Result<bool, Error>;

    /// Up to `limit` accounts that have, or had, sessions at a dead instance. To be called until there are none, each
    /// account having been dealt with by [`Members::forget_account`].
    async fn accounts_of(&self, dead: InstanceId, limit: usize) -> Result<Vec<BareJid>, Error>;

    /// Nothing of this account is left at a dead instance.
    async fn forget_account(&self, dead: InstanceId, account: &BareJid) -> Result<(), Error>;

    /// Nothing at all is left of it.
    async fn forget_instance(&self, dead: InstanceId) -> Result<(), Error>;

    /// Removes exactly this session, at exactly this instance. `false`: it is not there any more, or elsewhere by now.
    async fn evict(&self, record: &SessionRecord) -> Result<bool, Error>;
}
