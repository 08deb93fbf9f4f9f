//! Backends for tests that start their own servers, each with a database and a key prefix of its own.

use std::{process::ExitCode, time::Instant};

use clap::{Args, ValueEnum};
use starling_backends::{postgres, postgres::Postgres, redis};
use starling_store::{Instances as _, Migrate, PgConfig, PgStore, Store as _};
use tokio::process::Command;

/// The role that owns all databases.
const ROLE: &str = "starling";
const PASSWORD: &str = "the-password-of-the-tests";
/// The database that those of the tests are copies of.
const TEMPLATE: &str = "starling_template";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How Redis is run.
    #[arg(long, value_enum, default_value_t = Mode::Standalone)]
    redis: Mode,
    /// What to run.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// One server.
    Standalone,
    /// Three nodes.
    Cluster,
}

enum Redis {
    One(Box<redis::Redis>),
    Many(redis::Cluster),
}

pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    let began = Instant::now();
    let settings = vec![("max_connections".to_owned(), "400".to_owned())];
    let postgres = Postgres::start(postgres::Options { settings, ..postgres::Options::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    postgres.role(ROLE, PASSWORD).await;
    postgres.database(TEMPLATE, ROLE, "template1").await;
    let config = PgConfig {
        url: postgres.url(ROLE, TEMPLATE),
        password_file: Some(password.clone()),
        ca: None,
        connections: 4,
        instance: 1,
        migrate: Migrate::Auto,
    };
    let store = PgStore::open(&config).await.unwrap();
    store.retire().await.unwrap();
    store.close().await;
    let redis = match arguments.redis {
        Mode::Standalone => Redis::One(Box::new(redis::Redis::start(redis::Options::default()).await)),
        Mode::Cluster => Redis::Many(redis::Cluster::start(false).await),
    };
    let (servers, mode) = match &redis {
        Redis::One(one) => (one.address(), "standalone"),
        Redis::Many(many) => (many.addresses().join(","), "cluster"),
    };
    eprintln!("PostgreSQL and Redis ({mode}) after {:.1} s", began.elapsed().as_secs_f64());
    let (program, rest) = arguments.command.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(rest).env("STARLING_LAYOUT", "cluster");
    command.env("STARLING_TEST_POSTGRES_SOCKET", postgres.socket());
    command.env("STARLING_TEST_POSTGRES_PORT", postgres.port().to_string());
    command.env("STARLING_TEST_POSTGRES_ROLE", ROLE);
    command.env("STARLING_TEST_POSTGRES_PASSWORD_FILE", &password);
    command.env("STARLING_TEST_REDIS_SERVERS", servers).env("STARLING_TEST_REDIS_MODE", mode);
    let status = command.status().await.unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
