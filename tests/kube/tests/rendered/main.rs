//! What the operator renders runs: `starlingd` processes with the rendered settings, Secrets and certificates, against real Redis
//! and PostgreSQL, with people who chat through them.
//!
//! ```text
//!   API server, controllers ◄── operator
//!        │                                 ┌─ pod: starlingd ── 10.244.0.2 ─┐
//!        └──► Node (Secrets, ConfigMaps) ──┼─ pod: starlingd ── 10.244.0.3 ─┼─ bridge ── Redis, PostgreSQL, names
//!                                          └─ …                             ┘    └───── people, with XMPP clients
//! ```
//!
//! Each test has all of it for itself, in namespaces of Linux that go with it: for root alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "the operator's tests use all of it")]
#[path = "../operator/conditions.rs"]
mod conditions;
mod distributed;
mod people;
mod rotation;
mod standalone;
mod world;
