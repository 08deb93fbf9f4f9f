//! What must last: accounts and the server's own secrets. Used by `c2s` to log clients in, and by the daemon to
//! administer accounts.
//!
//! ```text
//!   c2s, daemon ──► Store (trait) ──┬─► sqlite   one file, one writer, group of readers   (one process)
//!                                   └─► …        PostgreSQL, by the same trait            (many processes)
//!        Accounts: credentials · put · remove · list · count        secret(name)
//! ```
//!
//! What a call has answered is on disk: it survives the process and the machine's power.

mod accounts;
mod cache;
mod error;
pub mod sqlite;
#[cfg(feature = "suite")]
pub mod suite;

pub use accounts::{Account, Accounts, PutMode, Store};
pub use error::Error;
pub use sqlite::SqliteStore;
