//! The command line.

mod check;
mod import;
mod migrate;
mod run;
mod user;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tokio::runtime::{self, Runtime};

use crate::{
    Error, Result,
    metrics::{self, SettingsGauges},
    parts::Parts,
    reload::Source,
};

/// An XMPP server.
///
/// Exit codes: 0 done; 1 something failed; 2 the settings or the arguments are to be mended.
#[derive(Debug, Parser)]
#[command(name = "starlingd", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The settings' file. Environment variables override it: see `starlingd config reference`.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, until SIGTERM or SIGINT. Settings and certificates are read again when their files change, and on SIGHUP.
    Run {
        /// What this process does, in the place of the setting `roles`: `c2s,session,router`, or some of them.
        #[arg(long, value_delimiter = ',', value_name = "ROLES")]
        roles: Vec<String>,
    },
    /// Bring the schema of the PostgreSQL database up to date, whatever `database.migrate` says, and end: also if it was up to
    /// date. SQLite's is brought up to date when the server starts.
    Migrate {
        /// Seconds to wait for a database that is not there yet.
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        wait: u32,
    },
    /// Accounts. Works while the server runs, and while it does not.
    #[command(subcommand)]
    User(user::Command),
    /// Whether a server that runs, here or elsewhere, is as clients need it.
    #[command(subcommand)]
    Check(check::Command),
    /// The settings.
    #[command(subcommand)]
    Config(Config),
    /// What `/metrics` shows, as Markdown.
    Metrics,
}

#[derive(Debug, Subcommand)]
enum Config {
    /// Say what is wrong with the settings, if anything is.
    Check,
    /// A file with every setting at its default.
    Default,
    /// Every setting, its variable, default and meaning, as Markdown.
    Reference,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("starlingd: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(arguments: Arguments) -> Result<ExitCode> {
    let roles = match &arguments.command {
        Command::Run { roles } => roles.as_slice(),
        _ => &[],
    };
    let source = Source::new(arguments.config, roles);
    match arguments.command {
        Command::Run { .. } => run::run(source),
        Command::Migrate { wait } => show(&migrate::run(&source.read()?, wait)?),
        Command::User(command) => {
            let settings = source.read()?;
            let parts = Parts::new(&settings)?;
            threads()?.block_on(user::run(command, &settings, &parts))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(command) => show(&check::run(command)?),
        Command::Config(Config::Check) => {
            Parts::new(&source.read()?)?.check_files()?;
            show("The settings are good.\n")
        }
        Command::Config(Config::Default) => show(&starling_settings::default_toml()),
        Command::Config(Config::Reference) => show(&starling_settings::reference()),
        Command::Metrics => {
            let registry = metrics::registry()?;
            registry.register(Box::new(metrics::CertificateCollector::new(None)?))?;
            SettingsGauges::new(&registry)?;
            starling_session::Metrics::new(&registry)?;
            starling_c2s::register_metrics(&registry)?;
            starling_store::JournalMetrics::new(&registry)?;
            starling_registry::RedisRegistry::register_metrics(&registry)?;
            starling_link::Metrics::new(&registry)?;
            starling_router::Metrics::new(&registry)?;
            show(&metrics::reference(&registry))
        }
    }
}

/// For commands that end by themselves.
fn threads() -> Result<Runtime> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|source| Error::Io { what: "threads".to_owned(), source })
}

/// Prints; a reader who has enough and goes is no failure.
fn show(text: &str) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Io { what: "standard output".to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}
