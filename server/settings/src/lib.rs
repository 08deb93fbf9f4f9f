//! The settings: their types, defaults and documentation, from which the reference and the names of environment
//! variables are made. Used by the daemon, and by the operator, which writes them.
//!
//! ```text
//!   defaults ──► file (TOML) ──► environment (STARLING_…) ──► Settings ──► check() ──► the daemon's parts
//!                                        ▲
//!                     schema of Settings ┴──► reference(), default_toml(), reloaded()
//! ```

mod check;
mod environment;
mod limit;
mod reference;
mod reloading;
mod schema;
mod tree;

use std::path::{Path, PathBuf};

pub use crate::{
    limit::Limit,
    reference::{default_toml, reference},
    reloading::reloaded,
    tree::{
        Archive, Auth, C2s, C2sLimits, Certificate, Conflict, Database, DirectTls, Http, Link, LinkTls, Log, LogFormat,
        Migrate, ProxyProtocol, Redis, RedisMode, Registration, Role, Router, Session, Settings, StartTls, Tls,
    },
};

/// Why there are no settings: always to be mended by whoever wrote them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or holds what is no setting; says where.
    #[error("{}: {reason}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// An environment variable that looks like a setting and is none.
    #[error("{name}: no such setting; did you mean {nearest}?")]
    UnknownVariable {
        /// As it is set.
        name: String,
        /// The most similar name of a setting.
        nearest: String,
    },
    /// An environment variable whose value is not of its setting's type.
    #[error("{name}: {reason}")]
    Variable {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Values that cannot be.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Values(Vec<Problem>),
}

/// A setting whose value cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, by its path: `c2s.limits.depth`.
    pub key: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl Settings {
    /// Reads the file, if there is one, puts the environment over it, and checks the values. Of `environment`, only names
    /// that begin with `STARLING_` count.
    ///
    /// # Errors
    /// What is to be mended, with its place.
    pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let mut table = match file {
            Some(path) => read(path)?,
            None => toml::Table::new(),
        };
        environment::apply(&mut table, environment)?;
        let settings = Self::from_table(table, |path| environment::name_of(&path))?;
        let problems = settings.check();
        if problems.is_empty() { Ok(settings) } else { Err(Error::Values(problems)) }
    }

    /// These settings with others put over them, by their paths (`c2s.limits.depth`); values are written as in environment
    /// variables. They are not checked against each other: see [`Settings::check`].
    ///
    /// # Errors
    /// An unknown path, or a value of another type; names the path.
    pub fn with<'a>(&self, values: impl IntoIterator<Item = (&'a str, String)>) -> Result<Self, Error> {
        let mut table = self.to_table()?;
        environment::overlay(&mut table, values)?;
        Self::from_table(table, |path| path)
    }

    /// `name`: what a path is called where it was written.
    fn from_table(table: toml::Table, name: impl Fn(String) -> String) -> Result<Self, Error> {
        serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| Error::Variable {
            name: name(error.path().to_string()),
            reason: error.into_inner().message().to_owned(),
        })
    }

    /// A file that says what is not as by default. The server reads the same settings from it, also one of an earlier
    /// release, as long as nothing is asked for that it does not know.
    ///
    /// # Errors
    /// Paths that are not Unicode.
    pub fn to_toml(&self) -> Result<String, Error> {
        let changed = changed(self.to_table()?, &Self::default().to_table()?);
        toml::to_string(&changed).map_err(unwritable)
    }

    fn to_table(&self) -> Result<toml::Table, Error> {
        toml::Table::try_from(self).map_err(unwritable)
    }
}

/// Where two tables differ, what the first has.
fn changed(table: toml::Table, default: &toml::Table) -> toml::Table {
    let differs = |(name, value): (String, toml::Value)| match (value, default.get(&name)) {
        (toml::Value::Table(value), Some(toml::Value::Table(default))) => {
            let inner = changed(value, default);
            (!inner.is_empty()).then_some((name, toml::Value::Table(inner)))
        }
        (value, Some(default)) if value == *default => None,
        (value, _) => Some((name, value)),
    };
    table.into_iter().filter_map(differs).collect()
}

fn unwritable(error: toml::ser::Error) -> Error {
    Error::Variable { name: "settings".to_owned(), reason: error.to_string() }
}

/// The file's own mistakes are told with their line.
fn read(path: &Path) -> Result<toml::Table, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let wrong = |error: toml::de::Error| Error::File { path: path.to_owned(), reason: error.to_string() };
    toml::from_str::<Settings>(&text).map_err(wrong)?;
    toml::from_str(&text).map_err(wrong)
}
