//! Rosters (RFC 6121 §2) and subscriptions (§3).

use async_trait::async_trait;
use starling_xmpp::jid::BareJid;

use crate::Error;

/// RFC 6121 §2.1.2.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// Neither has the other's presence.
    #[default]
    None,
    /// The user has the contact's presence.
    To,
    /// The contact has the user's presence.
    From,
    /// Both.
    Both,
}

/// What an account knows of a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterItem {
    /// Whom.
    pub contact: BareJid,
    /// The user's name for it.
    pub name: Option<String>,
    /// The groups that the user put it into.
    pub groups: Vec<String>,
    /// See there.
    pub subscription: Subscription,
    /// The user asked for the contact's presence, and has no answer (*pending out*).
    pub ask: bool,
    /// The contact asked for the user's presence, and has no answer (*pending in*): its request in portable form.
    pub pending_in: Option<Vec<u8>>,
    /// The user approved of the contact before it asked (§3.4).
    pub approved: bool,
    /// The user sees it in the roster. What is only *pending in* is not there (§2.1.2.5).
    pub listed: bool,
    /// The version of the roster in which it changed last. Given by the store.
    pub version: u64,
}

/// A whole roster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Grows with each change.
    pub version: u64,
    /// By address.
    pub items: Vec<RosterItem>,
}

/// What becomes of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemChange {
    /// It stays as it is.
    Keep,
    /// It is written; the version is the store's matter.
    Put(RosterItem),
    /// It goes.
    Remove,
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemChanged {
    /// Nothing; as it is.
    Kept(Option<RosterItem>),
    /// The roster has as many items as it may have.
    TooMany,
    /// It was changed.
    Changed {
        /// The roster's version from then on.
        version: u64,
        /// What it was.
        before: Option<RosterItem>,
        /// What it is.
        after: Option<RosterItem>,
    },
}

/// Items that changed, and the version of the roster with these changes. `None`: the item was removed.
pub type Changes = (u64, Vec<(BareJid, Option<RosterItem>)>);

/// Decides what becomes of an item. May be asked again, if the database wants the transaction repeated.
pub type Decide<'d> = &'d (dyn Fn(Option<&RosterItem>) -> ItemChange + Send + Sync);

/// Rosters.
#[async_trait]
pub trait Rosters: Send + Sync + 'static {
    /// The whole roster, by one query. Empty if there is no such account.
    async fn roster(&self, account: &BareJid) -> Result<Roster, Error>;

    /// What changed since `version` (§2.6). `None`: that is too long ago, or was never a version of it.
    async fn roster_since(&self, account: &BareJid, version: u64) -> Result<Option<Changes>, Error>;

    /// Reads an item, lets `change` decide, and writes it, in one transaction; at most `limit` items in the roster. For an
    /// address that is no account: [`ItemChanged::Kept`] of nothing.
    async fn change_item(
        &self,
        account: &BareJid,
        contact: &BareJid,
        limit: usize,
        change: Decide<'_>,
    ) -> Result<ItemChanged, Error>;
}
