//! A server to test against, and a client that says whatever a test makes it say. For tests and load tools; nothing of
//! the program uses it.
//!
//! ```text
//!            settings, users               bytes as they are
//!  test ──► Server ──► starlingd ◄──────────────────────────── RawClient ◄── test
//!              ▲            │ log lines, /metrics, /proc           │
//!              └────────────┘                                      └─ SCRAM written from RFC 5802,
//!                                                                     not the program's own
//! ```
//!
//! Everything in it panics when something is not as expected: it *is* the test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

mod client;
mod scram;
mod server;
mod tls;

pub use client::{Counters, Enabled, Failed, Header, RawClient, Received, befriend, body, condition, decode};
pub use scram::{Binding, Scram};
pub use server::{Builder, Server, clustered};
/// For the connections between processes.
pub use starling_backends::{Authority, Identity};
/// A row of an account, and what is in it.
pub use starling_store::messages::{Direction, MessageId, RowState, StoredRow as Row};
/// An element inside of one.
pub use starling_xml::Child;
/// A first-level element, owned.
pub use starling_xml::OwnedElement as Element;
pub use tls::{Versions, connector};

use std::time::Duration;

/// For whatever a test waits for: far more than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
