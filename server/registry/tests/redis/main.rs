//! The registry in Redis, against real servers.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod ground;
mod rules;
