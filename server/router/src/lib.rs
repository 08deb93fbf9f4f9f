//! The router: instances attach to it, and it forwards batches between them. It knows instances, domains and bytes, and
//! nothing of XMPP. Run by the daemon, in a process of its own or beside other roles; any number of them side by side.
//!
//! ```text
//!   instance A ══ Attach ══► reader ── Batch {destination, body} ──► routes ──► Outbox of B ══► instance B
//!                              │           (never opened)             ▲           (gathered into frames)
//!                              └─ Hello, Draining, Bye, Revoked ──► Table ──► Members, to all
//! ```
//!
//! It keeps nothing: what is in it when it dies is sent again by another path. So it never waits for a slow instance: what
//! does not fit into an outbox is dropped, counted, and asked for again by whoever misses it. How much can be on its way to an
//! instance is bounded by the credits that instance gives.

mod listen;
mod metrics;
mod outbox;
mod service;
mod table;

pub use crate::{
    listen::{Router, RouterError},
    metrics::Metrics,
    table::{Attached, Refusal, Table},
};
