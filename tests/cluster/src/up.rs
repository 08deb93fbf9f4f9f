//! A cluster for people: one process keeps it, others ask that to do something.
//!
//! ```text
//!   up            ──► keeper ──► redis, postgres, router-0 …          all end with the keeper
//!   up --detach   ──► keeper, in a session of its own
//!   up --kill9 …  ──► DATA/control ──► keeper                         so does --stop
//!
//!   DATA/  lock (held by the keeper)  control  log (of a detached one)  and what the library says
//! ```
//!
//! Nothing is known by the numbers of processes: whoever holds the lock is alive, and all others are its children. After a
//! restart of the machine, or the keeper's death, the lock is free.

mod checks;
mod control;
mod folder;
mod keeper;
mod leftovers;
mod text;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use self::{control::Request, folder::Folder};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where everything is. By default a folder in that for temporary files, of this user. All clusters use the same ports:
    /// only one can run at a time.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct What {
    /// Return when all is ready; it goes on.
    #[arg(long)]
    detach: bool,
    /// End a cluster, wherever it runs; its data stay.
    #[arg(long)]
    stop: bool,
    /// Show what runs.
    #[arg(long)]
    status: bool,
    /// `kill -9`. NAME, here and below: router-0, router-1, c2s-0, c2s-1, c2s-2, redis, postgres.
    #[arg(long, value_name = "NAME")]
    kill9: Option<String>,
    /// Start what was ended; return when it is ready.
    #[arg(long, value_name = "NAME")]
    start: Option<String>,
    /// `kill -9`, and start again.
    #[arg(long, value_name = "NAME")]
    restart9: Option<String>,
    /// Ask it to stop (SIGTERM); return when it has.
    #[arg(long, value_name = "NAME")]
    term: Option<String>,
    /// SIGSTOP: nothing is answered, and connections stay.
    #[arg(long, value_name = "NAME")]
    pause: Option<String>,
    /// SIGCONT.
    #[arg(long, value_name = "NAME")]
    resume: Option<String>,
    /// What --detach runs.
    #[arg(long, hide = true)]
    keep: bool,
}

/// What is said to the person who asked.
type Said<T> = Result<T, String>;

pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    match carry_out(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(arguments: Arguments) -> Said<()> {
    let Arguments { data, what } = arguments;
    let folder = Folder::new(data)?;
    let named = [
        ("kill9", &what.kill9),
        ("start", &what.start),
        ("restart9", &what.restart9),
        ("term", &what.term),
        ("pause", &what.pause),
        ("resume", &what.resume),
    ];
    if let Some((verb, Some(name))) = named.into_iter().find(|(_, name)| name.is_some()) {
        return control::ask(&folder, &Request::new(verb, name)).await.map(|answer| text::say(&answer));
    }
    if what.status {
        return control::ask(&folder, &Request::new("status", "")).await.map(|answer| text::say(&answer));
    }
    if what.stop {
        return control::stop(&folder).await;
    }
    if what.detach { keeper::detach(&folder).await } else { keeper::keep(&folder, what.keep).await }
}
