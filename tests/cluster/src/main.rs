//! A whole cluster on one machine.
//!
//! ```text
//!   starling-cluster test --redis … -- cargo test …    PostgreSQL and Redis for tests that start their own servers
//!   starling-cluster up                                a cluster for people (`tests/cluster/up` builds it first)
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is part of tests: what it does not expect ends it")]

mod tests;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "starling-cluster", about = "A whole cluster on one machine")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command with what the tests' layout `cluster` needs: PostgreSQL, and Redis.
    Test(tests::Arguments),
    /// Run a cluster, or do something to one that runs: without an option it runs until ctrl-C.
    Up(up::Arguments),
}

/// On one thread: the backends' children end with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Test(arguments) => tests::run(arguments).await,
        Command::Up(arguments) => up::run(arguments).await,
    }
}
