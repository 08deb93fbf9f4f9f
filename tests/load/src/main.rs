//! Load on an XMPP server on this machine, and what a bare relay of bytes costs beside it.
//!
//! ```text
//!   compare ──► starlingd (child) ◄── log-in, chat, presence, idle ──► relay (child)
//!   growth           │ /proc: CPU, PSS                                      │
//!                    └────────────────── one table ─────────────────────────┘
//!   routed  ──► the same messages within one process, between processes, and at the relay
//! ```
//!
//! Accounts are `user0@DOMAIN`, `user1@DOMAIN`, … with the passwords `password0`, `password1`, …; `starling-load users N`
//! prints them for `starlingd user import`. Traffic goes to loopback alone.

mod archive;
mod chat;
mod client;
mod cluster;
mod compare;
mod friends;
mod growth;
mod presence;
mod process;
mod relay;
mod routed;
mod server;
mod sessions;
mod starlingd;
mod tally;
mod target;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use starling_stream::connect::Security;

use crate::{
    chat::{Ends, Pace, Shape},
    client::Manner,
    friends::Ring,
    process::Watched,
    target::Target,
};

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
        /// With roster and presence, as users of so many contacts who are all online; they are subscribed first.
        #[arg(long)]
        contacts: Option<usize>,
        /// Users who are each other's contacts.
        #[arg(long, default_value_t = 200)]
        users: usize,
    },
    /// Pairs of clients that send messages: CPU of the server per delivery, latency, what was lost or doubled.
    Chat {
        #[command(flatten)]
        server: ServerArguments,
        /// Pairs.
        #[arg(long, default_value_t = 50)]
        pairs: usize,
        /// Messages of each pair under way at one time.
        #[arg(long, default_value_t = 1)]
        window: usize,
        /// Messages a second of all pairs together, on schedule, however many are under way.
        #[arg(long, conflicts_with = "window")]
        rate: Option<f64>,
        /// XEP-0198 on both ends; clients send `<r/>` after so many messages.
        #[arg(long, value_name = "MESSAGES")]
        managed: Option<u32>,
        /// Two sessions per user, with carbons (XEP-0280).
        #[arg(long)]
        carbons: bool,
        /// Seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Users change their presence in turn: CPU of the server per presence that a contact gets. They are subscribed to
    /// each other first, where they are not.
    Presence {
        #[command(flatten)]
        server: ServerArguments,
        /// Users.
        #[arg(long, default_value_t = 200)]
        users: usize,
        /// Contacts of each.
        #[arg(long, default_value_t = 20)]
        contacts: usize,
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
        /// With XEP-0198.
        #[arg(long)]
        managed: bool,
        /// With roster and presence of so many contacts; they must be subscribed already, by `presence --users COUNT`.
        #[arg(long)]
        contacts: Option<usize>,
    },
    /// Start a server and a relay, run everything against both, and print one table.
    Compare {
        /// The server's program; beside this one if not given.
        #[arg(long, env = "STARLINGD")]
        program: Option<std::path::PathBuf>,
        /// About a second of each: fails if anything is lost, doubled or out of order, whatever it costs.
        #[arg(long)]
        short: bool,
        /// Only scenarios with this in their names.
        #[arg(long)]
        only: Option<String>,
        /// Also write the figures to this file, as JSON.
        #[arg(long)]
        json: Option<std::path::PathBuf>,
    },
    /// Start servers and show what a message costs beside more and more idle sessions, and on a long archive.
    Growth {
        /// The server's program; beside this one if not given.
        #[arg(long, env = "STARLINGD")]
        program: Option<std::path::PathBuf>,
        /// A few seconds in all, and far fewer sessions and rows: fails if anything is lost, doubled or out of order.
        #[arg(long)]
        short: bool,
        /// One row alone: with so many sessions.
        #[arg(long)]
        sessions: Option<usize>,
        /// One row alone: on an archive of so many rows.
        #[arg(long)]
        archived: Option<u64>,
        /// Also write the figures to this file, as JSON.
        #[arg(long)]
        json: Option<std::path::PathBuf>,
    },
    /// Start one server, a cluster and a relay, and show what a message costs that goes from one instance to another: CPU by
    /// process, latency, beside more sessions, with more instances.
    Routed {
        /// The server's program; beside this one if not given.
        #[arg(long, env = "STARLINGD")]
        program: Option<std::path::PathBuf>,
        /// About a second of each, and far fewer sessions: fails if anything is lost, doubled, out of order, or went another
        /// way than it should, whatever it costs.
        #[arg(long)]
        short: bool,
        /// Also print all of it as a Markdown table at the end.
        #[arg(long, conflicts_with = "short")]
        full: bool,
        /// Only scenarios with this in their names.
        #[arg(long)]
        only: Option<String>,
        /// How often each is repeated; the median is shown. [default: 3; 1 if it is short]
        #[arg(long)]
        repetitions: Option<usize>,
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
        Command::LogIn { server, count, at_once, contacts, users } => {
            let (target, pid) = (server.target()?, server.pid);
            let log_ins = match contacts {
                Some(contacts) => {
                    let ring = ring(users, contacts)?;
                    sessions::log_in_among_friends(&target, pid, count, at_once, ring).await?
                }
                None => sessions::log_in(&target, pid, count, at_once).await?,
            };
            println!("{log_ins}");
        }
        Command::Chat { server, pairs, window, rate, managed, carbons, seconds } => {
            let pace = rate.map_or(Pace::Window(window), Pace::Rate);
            let shape = Shape { pairs, pace, managed, carbons };
            let duration = Duration::from_secs(seconds);
            println!(
                "{}",
                chat::run(&Ends::at(server.target()?), &[Watched::Process(server.pid)], &shape, duration).await?
            );
        }
        Command::Presence { server, users, contacts, seconds } => {
            let duration = Duration::from_secs(seconds);
            let ring = ring(users, contacts)?;
            println!("{}", presence::run(&server.target()?, server.pid, ring, duration).await?);
        }
        Command::Idle { server, count, managed, contacts } => {
            let ring = contacts.map(|contacts| ring(count, contacts)).transpose()?;
            let manner = Manner {
                managed: managed.then_some(1),
                roster: ring.is_some(),
                presence: ring.is_some(),
                carbons: false,
            };
            println!("{}", sessions::idle(&server.target()?, server.pid, count, manner, ring).await?);
        }
        Command::Compare { program, short, only, json } => {
            compare::run(program, short, only.as_deref(), json.as_deref()).await?;
        }
        Command::Growth { program, short, sessions, archived, json } => {
            growth::run(program, short, growth::Size::alone(sessions, archived), json.as_deref()).await?;
        }
        Command::Routed { program, short, full, only, repetitions, json } => {
            routed::run(routed::Wanted { program, short, markdown: full, only, repetitions, json }).await?;
        }
        Command::Users { count, domain } => print!("{}", target::users(count, &domain)),
        Command::Relay => relay::serve().await?,
    }
    Ok(())
}

fn ring(users: usize, contacts: usize) -> Result<Ring, Failure> {
    if contacts == 0 || !contacts.is_multiple_of(2) || contacts >= users {
        return Err("contacts must be an even number, and fewer than users".into());
    }
    Ok(Ring { users, contacts })
}
