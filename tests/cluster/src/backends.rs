//! Redis and PostgreSQL of a cluster.

use std::{
    fs::OpenOptions,
    hash::{BuildHasher as _, RandomState},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use starling_backends::{
    Port,
    postgres::{self, Postgres},
    redis,
};

use crate::{Error, Layout, Name, Result, settings::Settings};

/// The role that owns the database, and the database.
const ROLE: &str = "starling";

/// How Redis is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisMode {
    /// One server.
    #[default]
    Standalone,
    /// A primary and a replica, watched by three sentinels.
    Sentinel,
    /// Three primaries, each with a replica.
    Cluster,
}

/// Redis.
#[derive(Debug)]
pub enum Redis {
    /// See [`RedisMode::Standalone`].
    One(Box<redis::Redis>),
    /// See [`RedisMode::Sentinel`].
    Watched(Box<redis::Watched>),
    /// See [`RedisMode::Cluster`].
    Many(Box<redis::Cluster>),
}

impl Redis {
    pub(crate) async fn start(layout: &Layout, folder: &Path, kept: &mut Vec<Port>) -> Result<Self> {
        Ok(match layout.redis {
            RedisMode::Standalone => {
                let folder = folder.join("redis");
                std::fs::create_dir_all(&folder).map_err(Error::io("the folder of Redis"))?;
                let options = redis::Options {
                    folder: Some(folder),
                    port: Some(layout.ports.redis(kept)),
                    append_only: layout.redis_remembers,
                    ..redis::Options::default()
                };
                Self::One(Box::new(redis::Redis::start(options).await))
            }
            RedisMode::Sentinel => Self::Watched(Box::new(redis::Watched::start().await)),
            RedisMode::Cluster => Self::Many(Box::new(redis::Cluster::start(true).await)),
        })
    }

    /// Tells a process where it is.
    pub(crate) fn describe(&self, settings: &mut Settings) -> Result<()> {
        let (servers, mode) = match self {
            Self::One(one) => (vec![one.address()], "standalone"),
            Self::Watched(watched) => {
                settings.set_text("redis.primary", watched.name())?;
                (watched.sentinels(), "sentinel")
            }
            Self::Many(many) => (many.addresses(), "cluster"),
        };
        settings.set_list("redis.servers", &servers)?;
        settings.set_text("redis.mode", mode)
    }

    /// The only server.
    pub(crate) fn one(&mut self) -> Result<&mut redis::Redis> {
        match self {
            Self::One(one) => Ok(one),
            Self::Watched(_) | Self::Many(_) => Err(Error::NotOne(Name::Redis)),
        }
    }

    /// The only server, if it runs.
    pub(crate) fn running(&mut self) -> Result<&mut redis::Redis> {
        let one = self.one()?;
        if one.is_running() { Ok(one) } else { Err(Error::NotRunning(Name::Redis)) }
    }

    /// Whether all that clients need of it is there; of many servers, that is for the test to know.
    pub(crate) fn is_running(&mut self) -> bool {
        self.one().map_or(true, redis::Redis::is_running)
    }
}

/// PostgreSQL with the cluster's database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) server: Postgres,
    password: PathBuf,
}

impl Database {
    pub(crate) async fn start(layout: &Layout, folder: &Path, kept: &mut Vec<Port>) -> Result<Self> {
        let options = postgres::Options {
            folder: Some(folder.join("postgres")),
            port: Some(layout.ports.postgres(kept)),
            fsync: layout.fsync,
            ..postgres::Options::default()
        };
        let server = Postgres::start(options).await;
        let password = folder.join("password");
        let text = password_in(&password).map_err(Error::io(password.display().to_string()))?;
        server.role(ROLE, &text).await;
        if server.sql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{ROLE}'")).await.is_empty() {
            server.database(ROLE, ROLE, "template1").await;
        }
        Ok(Self { server, password })
    }

    /// Tells a process where it is.
    pub(crate) fn describe(&self, settings: &mut Settings) -> Result<()> {
        settings.set_text("database.url", &self.url())?;
        settings.set_text("database.password_file", &self.password.display().to_string())
    }

    pub(crate) fn url(&self) -> String {
        self.server.url(ROLE, ROLE)
    }

    pub(crate) fn password_file(&self) -> &Path {
        &self.password
    }

    pub(crate) fn running(&self) -> Result<&Postgres> {
        if self.server.is_running() { Ok(&self.server) } else { Err(Error::NotRunning(Name::Postgres)) }
    }
}

/// What is in the file, which is made if it is not there.
fn password_in(file: &Path) -> std::io::Result<String> {
    if let Ok(text) = std::fs::read_to_string(file)
        && !text.is_empty()
    {
        return Ok(text);
    }
    // The keys of the hasher come from the system's generator.
    let text = format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1));
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    out.write_all(text.as_bytes())?;
    Ok(text)
}
