//! Real PostgreSQL and Redis servers on ports of their own: Debian's packages, started for a test or for the local cluster,
//! with data in a folder of their own. Used by the tests of `store` and `registry`, by `tests/cluster`, and by nothing of the
//! program.
//!
//! ```text
//!   test ──► Postgres ──► postgres (child) ── data in a folder, a port that was free, a socket beside it
//!        └─► Redis    ──► redis-server, redis-sentinel (children): alone, watched by sentinels, or a cluster
//! ```
//!
//! Beside them, where the project's own programs are that tests start ([`program`]), and an authority for whatever they show each
//! other ([`Authority`]).
//!
//! Everything else in it panics when something is not as expected: it is part of tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

mod authority;
mod ports;
pub mod postgres;
mod program;
pub mod redis;

pub use self::{
    authority::{Authority, Identity},
    ports::Port,
    program::{NotBuilt, program},
};
