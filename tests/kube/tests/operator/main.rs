//! The operator against a real API server and Kubernetes' own controllers; nodes are simulated.
//!
//! Each test has a namespace of its own, and an operator of its own for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod changes;
mod leading;
mod life;
mod rollouts;
mod trouble;
mod world;
