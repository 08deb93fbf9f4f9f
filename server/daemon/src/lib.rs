//! `starlingd`: every role of Starling in one program. The binary is a thin shell around this library, which others can
//! use to run a server inside of a process of their own.
//!
//! ```text
//!   file, environment ──► settings ──► parts (typed, checked)
//!      └─ changed: reload ─────────┐     │
//!   main ──► cli ──┬── run ──► Server: router │ lock · store · registry · link · session · c2s │ HTTP · admin socket
//!                  ├── migrate ─► the PostgreSQL schema
//!                  ├── user …  ──► accounts: the running server by its admin socket, else the store
//!                  ├── config … ─► settings' own reference
//!                  └── metrics ──► the metrics' reference
//! ```
//!
//! Started in that order; stopped in the reverse one (`server.rs`).

mod accounts;
mod admin;
mod backends;
pub mod cli;
mod data;
mod error;
mod http;
mod metrics;
mod parts;
mod readiness;
mod reload;
mod self_signed;
mod server;
mod telemetry;

pub use error::{Error, Result, Source};
pub use server::{Applied, Server};
