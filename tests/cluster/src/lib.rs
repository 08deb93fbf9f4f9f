//! A whole cluster on one machine, each part of it a real process: for tests that break it, and for people who want to try
//! that (`tests/cluster/up`).
//!
//! ```text
//!                    ┌────────── c2s-0 ───┐
//!   test ──► Cluster ┤ router-0  c2s-1    ├── redis (alone, watched by sentinels, or a cluster), postgres
//!            │       │ router-1  c2s-2    │
//!            │       └────────────────────┘
//!            └ start · kill9 · restart9 · term · stop · cont, each by name
//!
//!   folder/  c2s-0/ … router-1/    starling.toml  log  data  certificates
//!            redis/ postgres/      log, data
//! ```
//!
//! Processes end with whoever holds the [`Cluster`], also when that is killed: the system ends them with the thread that started
//! them. A runtime of one thread, which `#[tokio::test]` has by default, makes that the whole process.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "it is part of tests")]

mod backends;
mod cluster;
mod error;
mod http;
mod layout;
mod name;
mod process;
mod settings;

pub use backends::{Redis, RedisMode};
pub use cluster::Cluster;
pub use error::Error;
pub use layout::{Layout, Ports};
pub use name::Name;
pub use starling_backends::{Port, postgres, redis};

/// What an operation on a cluster ends by.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What takes longer has failed: a start, or an end that was asked for.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
