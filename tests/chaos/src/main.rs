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
//!
//! starling-chaos cluster                                 two routers, three instances, Redis, PostgreSQL: all of them, a minute
//! starling-chaos cluster --blows kill,pause              those alone
//!
//! starling-chaos disk                                    disk full, failing, slow: some 70 seconds
//! starling-chaos disk --short                            some 20
//! ```
//!
//! Prints a table, and the history of what went wrong; exit code 0: nothing did. `--seed` repeats what clients do and when
//! the server is killed. Everything stays on loopback, and ends by itself. The short forms are tests of this package.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use starling_chaos::{
    Failure,
    cluster::{self, Blow as ClusterBlow},
    disk::{self, Namespace},
    kill9::{self, Blow},
    plan::Plan,
    report::Outcome,
    server::Program,
};
use starling_cluster::RedisMode;

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
    /// Clients chat, connect and cut, and parts of a cluster are killed, stopped and paused.
    Cluster(Clustered),
    /// The disk is full, fails, and is slow, while clients chat. Mounts a small filesystem in a mount namespace of its own.
    Disk(Disk),
}

#[derive(Debug, Args)]
struct Disk {
    #[command(flatten)]
    common: Common,
    /// Some 20 seconds instead of some 70.
    #[arg(long)]
    short: bool,
    /// Do as if nothing could be mounted.
    #[arg(long)]
    no_mount: bool,
    /// This process is in a mount namespace of its own already.
    #[arg(long, hide = true)]
    inside: bool,
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
struct Clustered {
    #[command(flatten)]
    common: Common,
    /// How long, before all come to rest.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Users.
    #[arg(long, default_value_t = 150)]
    users: u32,
    /// Messages a second of all together, while all are connected.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Seconds from when all is well to the next blow, about.
    #[arg(long, default_value_t = 3.0)]
    every: f64,
    /// Of 100 users, those without XEP-0198.
    #[arg(long, default_value_t = 5)]
    without_sm: u32,
    /// What is done. All that Redis is up to, if nothing is given.
    #[arg(long, value_enum, value_delimiter = ',')]
    blows: Vec<cluster::Blow>,
    /// Nothing is done; clients cut their connections, that is all.
    #[arg(long, conflicts_with = "blows")]
    no_blows: bool,
    /// A new folder for settings, logs and data, which stay there.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// What instances log: `info,starling_c2s=debug`.
    #[arg(long)]
    log: Option<String>,
    /// How Redis is run.
    #[arg(long, value_enum, default_value_t = Redis::Standalone)]
    redis: Redis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Redis {
    Standalone,
    Sentinel,
    Cluster,
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
    if let Command::Disk(disk) = &arguments.command
        && !disk.inside
        && !disk.no_mount
    {
        match inside() {
            Ok(Some(code)) => return code,
            Ok(None) => println!("NOTHING CAN BE MOUNTED HERE: the disk is full by a limit of file size"),
            Err(error) => {
                eprintln!("starling-chaos: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
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

/// The same in a mount namespace, if that is possible.
fn inside() -> Result<Option<ExitCode>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if !runtime.block_on(Namespace::is_possible()) {
        return Ok(None);
    }
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe()?);
    let status = command.args(std::env::args_os().skip(1)).arg("--inside").status()?;
    Ok(Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
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
            let plan =
                Plan { seed: kill9.common.seed(), users, rate, cuts: true, without_sm, one_sleeps_of: 0, filling: 40 };
            let archive = kill9.common.archive == Archive::On;
            let length = Duration::from_secs(kill9.seconds);
            kill9::run(kill9::Options { program, plan, length, blow, archive }).await
        }
        Command::Cluster(cluster) => clustered(cluster).await,
        Command::Disk(disk) => {
            let namespace = if disk.inside { Namespace::Own } else { Namespace::Shared };
            let (program, seed) = (disk.common.program()?, disk.common.seed());
            let archive = disk.common.archive == Archive::On;
            let options = disk::Options { program, seed, archive, is_short: disk.short, namespace };
            let (outcome, table) = disk::run(options).await?;
            println!("{table}");
            Ok(outcome)
        }
    }
}

async fn clustered(arguments: Clustered) -> Result<Outcome, Failure> {
    use ClusterBlow::{Empty, Failover, Kill, Pause, Postgres, Redis as Remembers, Router, Routers, Term};
    // A cluster finds it by that, or beside this program.
    if arguments.common.program.is_some() && std::env::var_os("STARLINGD").is_none() {
        return Err("of a cluster's processes, the program is named by STARLINGD".into());
    }
    let (users, rate, without_sm) = (arguments.users.max(2), arguments.rate, arguments.without_sm);
    let seed = arguments.common.seed();
    let plan = Plan { seed, users, rate, cuts: true, without_sm, one_sleeps_of: 0, filling: 40 };
    let everything = match arguments.redis {
        Redis::Standalone => vec![Kill, Term, Pause, Router, Routers, Remembers, Empty, Postgres],
        Redis::Sentinel | Redis::Cluster => vec![Kill, Term, Pause, Router, Routers, Failover, Postgres],
    };
    let blows = match (arguments.no_blows, arguments.blows.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => everything,
        (false, false) => arguments.blows,
    };
    let redis = match arguments.redis {
        Redis::Standalone => RedisMode::Standalone,
        Redis::Sentinel => RedisMode::Sentinel,
        Redis::Cluster => RedisMode::Cluster,
    };
    let options = cluster::Options {
        plan,
        length: Duration::from_secs(arguments.seconds),
        blows,
        every: Duration::from_secs_f64(arguments.every.max(0.1)),
        redis,
        folder: arguments.folder,
        log: arguments.log,
        archive: arguments.common.archive == Archive::On,
    };
    cluster::run(options).await
}
