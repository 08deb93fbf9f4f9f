//! The program, as whoever operates it meets it: real processes, signals, files and sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what helpers of tests do not expect is a failed test")]

mod check;
mod client;
mod configuration;
mod import;
mod in_process;
mod life;
mod migrate;
mod program;
mod reload;
mod secrets;
mod users;
