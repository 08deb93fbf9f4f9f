//! Load on an XMPP server on this machine, and what a bare relay of bytes costs beside it.
//!
//! ```text
//!   compare ──► starlingd (child) ◄── log-in, chat, idle ──► relay (child)
//!                    │ /proc: CPU, PSS                            │
//!                    └────────────── one table ───────────────────┘
//! ```
//!
//! Accounts are `user0@DOMAIN`, `user1@DOMAIN`, … with the passwords `password0`, `password1`, …; `starling-load users N`
//! prints them for `starlingd user import`. Traffic goes to loopback alone.

mod chat;
mod compare;
mod process;
mod relay;
mod sessions;
mod tally;
mod target;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use starling_stream::connect::Security;

use crate::target::Target;

/// What a load is made of fails in many ways; all of them end the run with their text.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Parser)]
#[command(name = "starling-load", about = "Load on an XMPP server on this machine")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Log in again and again: CPU of the server per log-in.
    LogIn {
        #[command(flatten)]
        server: ServerArguments,
        /// Log-ins.
        #[arg(long, default_value_t = 500)]
        count: usize,
        /// Log-ins under way at one time.
        #[arg(long, default_value_t = 8)]
        at_once: usize,
    },
    /// Pairs of clients that send messages: CPU of the server per message, latency, what was lost or doubled.
    Chat {
        #[command(flatten)]
        server: ServerArguments,
        /// Pairs.
        #[arg(long, default_value_t = 50)]
        pairs: usize,
        /// Messages of each pair under way at one time.
        #[arg(long, default_value_t = 1)]
        window: usize,
        /// Seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Sessions that do nothing: memory of the server per session.
    Idle {
        #[command(flatten)]
        server: ServerArguments,
        /// Sessions.
        #[arg(long, default_value_t = 1000)]
        count: usize,
    },
    /// Start a server and a relay, run everything against both, and print one table.
    Compare {
        /// The server's program; beside this one if not given.
        #[arg(long, env = "STARLINGD")]
        program: Option<std::path::PathBuf>,
        /// A few seconds in all, with wide bounds that still fail when something is wrong.
        #[arg(long)]
        short: bool,
        /// Also write the figures to this file, as JSON.
        #[arg(long)]
        json: Option<std::path::PathBuf>,
    },
    /// Print accounts for `starlingd user import`.
    Users {
        /// How many.
        count: usize,
        /// Of this domain.
        #[arg(long, default_value = "localhost")]
        domain: String,
    },
    /// The relay itself, on ports that it prints.
    #[command(hide = true)]
    Relay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tls {
    /// No TLS.
    None,
    /// STARTTLS.
    Starttls,
    /// TLS from the first byte.
    Direct,
}

#[derive(Debug, Args)]
struct ServerArguments {
    /// Where it listens, on loopback.
    #[arg(long)]
    address: SocketAddr,
    /// How connections are encrypted.
    #[arg(long, value_enum, default_value_t = Tls::None)]
    tls: Tls,
    /// Its certificate (PEM), for TLS.
    #[arg(long)]
    certificate: Option<std::path::PathBuf>,
    /// Its process, whose CPU and memory are read.
    #[arg(long)]
    pid: u32,
    /// Its domain.
    #[arg(long, default_value = "localhost")]
    domain: String,
}

impl ServerArguments {
    fn target(&self) -> Result<Target, Failure> {
        let security = match self.tls {
            Tls::None => Security::None,
            Tls::Starttls => Security::StartTls,
            Tls::Direct => Security::Direct,
        };
        Target::xmpp(self.address, security, self.certificate.as_deref(), &self.domain)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(arguments.command)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("starling-load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::LogIn { server, count, at_once } => {
            println!("{}", sessions::log_in(&server.target()?, server.pid, count, at_once).await?);
        }
        Command::Chat { server, pairs, window, seconds } => {
            let duration = Duration::from_secs(seconds);
            println!("{}", chat::run(&server.target()?, server.pid, pairs, window, duration).await?);
        }
        Command::Idle { server, count } => {
            println!("{}", sessions::idle(&server.target()?, server.pid, count).await?);
        }
        Command::Compare { program, short, json } => compare::run(program, short, json.as_deref()).await?,
        Command::Users { count, domain } => print!("{}", target::users(count, &domain)),
        Command::Relay => relay::serve().await?,
    }
    Ok(())
}
