//! What must last: accounts and the server's own secrets. Used by `c2s` to log clients in, and by the daemon to
//! administer accounts.
//!
//! ```text
//!   c2s, daemon ──► Store (trait) ──┬─► sqlite     one file, one writer, group of readers    (one process)
//!                                   └─► postgres   lanes of connections, the right to write  (many processes)
//!        Accounts   credentials · put · remove · list · count          secret(name)
//!        Instances  who may write
//!        Messages   archive, offline store, crash journal  ◄── Journal: the group commit
//!        Rosters    items, subscriptions, versions         Documents  what extensions keep
//! ```
//!
//! What a call has answered is on disk: it survives the process and the machine's power.

mod accounts;
mod cache;
pub mod documents;
mod error;
mod instances;
pub mod journal;
pub mod messages;
pub mod postgres;
pub mod rosters;
pub mod sqlite;
#[cfg(feature = "suite")]
pub mod suite;

pub use accounts::{Account, Accounts, PutMode, Store};
pub use documents::Documents;
pub use error::Error;
pub use instances::Instances;
pub use journal::{Journal, JournalConfig, JournalMetrics, Observer, Record};
pub use messages::{Change, Direction, MessageId, Messages, NotAnId, Origin, PendingRow, Row, RowState, StoredRow};
pub use postgres::{Migrate, PgConfig, PgStore};
pub use rosters::{ItemChange, ItemChanged, Roster, RosterItem, Rosters, Subscription};
pub use sqlite::SqliteStore;
