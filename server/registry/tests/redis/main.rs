//! The registry in Redis, against real servers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod away;
mod cache;
mod costs;
mod expiry;
mod garbage;
mod ground;
mod late;
mod liveness;
mod moves;
mod rules;
