//! The proof under fire, from the command line:
//!
//! ```text
//! starling-chaos kill9                                   kill -9 every 5 s under 200 users, a minute
//! starling-chaos kill9 --seconds 600 --kill-every 3      the long form
//! starling-chaos kill9 --no-kill                         clients cut their connections, that is all
//! starling-chaos kill9 --term                            the server is stopped in order instead
//! starling-chaos kill9 --archive off                     rows only while somebody must still get them
//! starling-chaos kill9 --prosody --no-kill               these tests against another server: good
//! starling-chaos kill9 --prosody                         and one that promises nothing: they find what is lost
//! ```
//!
//! Prints a table, and the history of what went wrong; exit code 0: nothing did. `--seed` repeats what clients do and when
//! the server is killed. Everything stays on loopback, and ends by itself. The short forms are tests of this package.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use starling_chaos::{
    Failure,
    kill9::{self, Blow},
    plan::Plan,
    report::Outcome,
    server::Program,
};

#[derive(Debug, Parser)]
#[command(name = "starling-chaos", about = "A server killed, cut off and out of disk: is anything acknowledged lost?")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Clients chat, connect and cut, and the server is killed every few seconds. Long form: --seconds 600 --kill-every 3.
    Kill9(Kill9),
}

#[derive(Debug, Args)]
struct Kill9 {
    #[command(flatten)]
    common: Common,
    /// How long, before all come to rest.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Users.
    #[arg(long, default_value_t = 200)]
    users: u32,
    /// Messages a second of all together, while all are connected.
    #[arg(long, default_value_t = 600.0)]
    rate: f64,
    /// Seconds from a start to the next kill, about.
    #[arg(long, default_value_t = 5.0)]
    kill_every: f64,
    /// Of 100 users, those without XEP-0198: they are told of no loss, and lose what the connection took.
    #[arg(long, default_value_t = 5)]
    without_sm: u32,
    /// Stop the server in order instead of killing it.
    #[arg(long, conflicts_with = "no_kill")]
    term: bool,
    /// Let the server live.
    #[arg(long)]
    no_kill: bool,
    /// Run against Prosody instead, from its package.
    #[arg(long, conflicts_with_all = ["program", "archive"])]
    prosody: bool,
}

#[derive(Debug, Args)]
struct Common {
    /// The server's program; beside this one if not given.
    #[arg(long, env = "STARLINGD")]
    program: Option<PathBuf>,
    /// Makes the choices. One is made up, and printed, if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Whether the server keeps an archive.
    #[arg(long, value_enum, default_value_t = Archive::On)]
    archive: Archive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Archive {
    On,
    Off,
}

impl Common {
    fn program(&self) -> Result<Program, Failure> {
        self.program.clone().map_or_else(Program::beside, |path| Ok(Program::Starling(path)))
    }

    /// Printed before anything else.
    fn seed(&self) -> u64 {
        let made_up = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map(|now| now.as_millis() as u64 % 1_000_000).unwrap_or_default()
        };
        let seed = self.seed.unwrap_or_else(made_up);
        println!("seed {seed}");
        seed
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(arguments.command)));
    match outcome {
        Ok(outcome) => {
            println!("{}", outcome.report());
            if outcome.verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("starling-chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::Kill9(kill9) => {
            let program = if kill9.prosody { Program::Prosody } else { kill9.common.program()? };
            let every = Duration::from_secs_f64(kill9.kill_every.max(0.1));
            let blow = match (kill9.no_kill, kill9.term) {
                (true, _) => Blow::None,
                (false, true) => Blow::Stop(every),
                (false, false) => Blow::Kill(every),
            };
            let (users, rate, without_sm) = (kill9.users.max(2), kill9.rate, kill9.without_sm);
            let plan = Plan { seed: kill9.common.seed(), users, rate, cuts: true, without_sm, filling: 40 };
            let archive = kill9.common.archive == Archive::On;
            let length = Duration::from_secs(kill9.seconds);
            kill9::run(kill9::Options { program, plan, length, blow, archive }).await
        }
    }
}
