//! The stanza rules of RFC 6120 and 6121: one [`Session`] per bound resource, the delivery decisions, and the extension
//! containers. No sockets: `c2s` feeds a session what its client sends, and writes what comes out.
//!
//! ```text
//!                      ┌──────────────────── Service (one per process) ─────────────────────┐
//!  c2s ── stanza ──► Session ── decide (RFC 6121 §8) ──► Link ──► mailboxes of the recipients │
//!   ▲                  │                      │                                               │
//!   │                  ▼                      └─► Registry: who is available, with what priority
//!   └─ answer ◄── Extensions (disco, ping, …): one compiled path set, one container answers   │
//!                      └─────────────────────────────────────────────────────────────────────┘
//! ```

mod backend;
mod between;
pub mod copies;
pub mod deliver;
pub mod extension;
mod extensions;
mod holding;
mod keeping;
mod ledger;
mod message;
mod metrics;
pub mod moving;
mod offline;
mod presence;
pub mod privacy;
mod roster;
mod safety;
mod service;
mod session;
mod stamp;
pub mod subscription;
mod undertaker;
mod untold;

pub use crate::{
    backend::BackendAway,
    between::Streams,
    extensions::{Options as ExtensionOptions, all as all_extensions, stream_features},
    metrics::{Fate, Metrics},
    service::{Conflict, Parts, Policy, Service},
    session::{Session, Step},
};
