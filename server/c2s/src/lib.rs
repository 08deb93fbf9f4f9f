//! Client connections (RFC 6120): listeners, limits, log-in, and the loop that carries a logged-in client's stanzas.
//! The daemon binds it, runs it and stops it.
//!
//! ```text
//!  Listener ── accept rate, PROXY, Gate ──► LogIn (one task, boxed) ─────────► Connection (one task, small)
//!  5222 STARTTLS                            TLS · SASL · bind, all within      │ reads ──► Session::handle ──► Link
//!  5223 direct TLS                          limits.authentication_time         │ writes ◄─ Outbound ◄─ Inbox ◄─┘
//!                                                                              ▼
//!      stop: no more connections · system-shutdown to each · written out · </stream:stream>
//! ```
//!
//! An idle connection holds its socket, its TLS state and a few hundred bytes: buffers for reading and writing exist
//! only while there is something in them.

mod closing;
mod config;
mod connection;
mod enabling;
mod finished;
mod handing;
mod limits;
mod listener;
mod log_in;
mod managed;
mod metrics;
mod outbound;
mod recorder;
mod register;
mod resumption;
mod scratch;
mod server;
mod taking;
mod timer;
mod waiting;

pub use crate::{
    config::{Config, Limits, Rules},
    listener::Role,
    server::{C2s, Error, Parts},
};

/// Registers what this crate counts, for documentation.
///
/// # Errors
/// If a name is taken.
pub fn register_metrics(registry: &prometheus::Registry) -> prometheus::Result<()> {
    metrics::Metrics::new(registry).map(drop)
}
