//! What a store is opened with, and how its connections are made.
//!
//! The password's file and the authorities' are read for each connection: what is changed there counts from the next
//! one on, and those that are there live on.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sqlx::{
    Connection, PgConnection, Row,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::time::timeout;

use crate::Error;

/// A statement is ended by the server after this; so is a transaction in which nothing happens.
pub(super) const STATEMENT: Duration = Duration::from_secs(10);
/// For a lock that somebody else holds.
pub(super) const LOCK: Duration = Duration::from_secs(5);
/// To be connected: name, TCP, TLS and password.
const CONNECT: Duration = Duration::from_secs(5);
/// For the smallest of answers.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// Who changes the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migrate {
    /// Whoever is opened first.
    #[default]
    Auto,
    /// Somebody else: it is waited for.
    Wait,
}

/// What a store is opened with.
#[derive(Clone, PartialEq, Eq)]
pub struct PgConfig {
    /// `postgres://user@host:5432/name`, with the parameters of libpq behind it.
    pub url: String,
    /// A file with the password, and nothing else but a line's end.
    pub password_file: Option<PathBuf>,
    /// A file with certificate authorities (PEM): the server's certificate must be of one of them, or of one that all
    /// the web trusts, and for the host's name. `None`: `sslmode` in the URL decides.
    pub ca: Option<PathBuf>,
    /// Connections at most; 4 if it is less.
    pub connections: u32,
    /// The number of this run of this process, which no other has had: see [`crate::Instances`]. Not 0.
    pub instance: u64,
    /// See there.
    pub migrate: Migrate,
}

/// A URL may hold a password.
impl fmt::Debug for PgConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgConfig")
            .field("password_file", &self.password_file)
            .field("ca", &self.ca)
            .field("connections", &self.connections)
            .field("instance", &format_args!("{:016x}", self.instance))
            .field("migrate", &self.migrate)
            .finish_non_exhaustive()
    }
}

/// How the connections of an instance are named: by that, others find and end them.
pub(super) fn application_name(instance: u64) -> String {
    format!("starling-{instance:016x}")
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    options: PgConnectOptions,
    password_file: Option<PathBuf>,
}

impl Connector {
    pub(super) fn new(config: &PgConfig) -> Result<Self, Error> {
        if config.instance == 0 {
            return Err(Error::Config("0 is the number of no instance".to_owned()));
        }
        // The parser's words name what is wrong with the URL, and never show it.
        let mut options = PgConnectOptions::from_str(&config.url).map_err(|error| Error::Config(error.to_string()))?;
        if let Some(ca) = &config.ca {
            options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(ca);
        }
        let milliseconds = |time: Duration| time.as_millis().to_string();
        options = options.application_name(&application_name(config.instance)).options([
            ("statement_timeout", milliseconds(STATEMENT)),
            ("idle_in_transaction_session_timeout", milliseconds(STATEMENT)),
            ("lock_timeout", milliseconds(LOCK)),
            // The locks of `may_write` need it.
            ("default_transaction_isolation", "read committed".to_owned()),
            // Safe is what the disk has, and a synchronous standby's.
            ("synchronous_commit", "on".to_owned()),
            // Plans are made once, and must be good for tables of any size.
            ("plan_cache_mode", "force_generic_plan".to_owned()),
            ("enable_seqscan", "off".to_owned()),
            ("jit", "off".to_owned()),
            // Of a machine that is gone, connections do not stay for hours.
            ("tcp_keepalives_idle", "60".to_owned()),
            ("tcp_keepalives_interval", "10".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
        ]);
        Ok(Self { options, password_file: config.password_file.clone() })
    }

    /// The same, for statements that may take long: the server ends them after `patience`.
    pub(super) fn patient(&self, patience: Duration) -> Self {
        let patience = patience.as_millis().to_string();
        let options = self.options.clone().options([("statement_timeout", &patience), ("lock_timeout", &patience)]);
        Self { options, password_file: self.password_file.clone() }
    }

    /// A new connection, to a server that takes writes, and the number of the server's process that serves it.
    pub(super) async fn connect(&self) -> Result<(PgConnection, i32), Error> {
        let mut options = self.options.clone();
        if let Some(path) = &self.password_file {
            options = options.password(&read(path).await?);
        }
        let connecting = timeout(CONNECT, PgConnection::connect_with(&options)).await;
        let mut connection = connecting.map_err(|_| Error::NoAnswer)?.map_err(|error| match error {
            // Whoever hangs up in the middle says nothing else.
            sqlx::Error::Protocol(_) => Error::Busy(error),
            error => error.into(),
        })?;
        let asked = sqlx::raw_sql("SELECT pg_backend_pid(), pg_is_in_recovery()").fetch_one(&mut connection);
        let row = timeout(ANSWER, asked).await.map_err(|_| Error::NoAnswer)??;
        // Reads would be answered there, from what was.
        if row.try_get::<bool, _>(1)? {
            return Err(Error::Busy(sqlx::Error::Protocol("the server is a standby".to_owned())));
        }
        Ok((connection, row.try_get(0)?))
    }
}

/// The password in a file.
async fn read(path: &Path) -> Result<String, Error> {
    let failed = |source: io::Error| Error::File { path: path.to_owned(), source };
    let text = tokio::fs::read_to_string(path).await.map_err(failed)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
