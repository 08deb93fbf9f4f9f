//! What can go wrong with the store.

use std::{io, path::PathBuf};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A newer release has taken from the schema what this one needs: only programs that know this migration can go on.
    #[error("the database belongs to a newer release: migration {0} is not known here")]
    NewerSchema(i64),
    /// A migration of this release is not the one that was applied: the program or the database was tampered with.
    #[error("the database does not fit this program: {0}")]
    Schema(String),
    /// Files or folders cannot be used.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database does not do it now: busy, out of connections, its disk full, read-only or failing. A retry is
    /// sensible, once somebody has made room.
    #[error("the database does not do it now: {0}")]
    Busy(sqlx::Error),
    /// This instance was taken for dead, and others have taken over what it had: it must let go of everything, and may join
    /// again as a new one.
    #[error("this instance was revoked")]
    Revoked,
    /// The database has not answered in time.
    #[error("the database does not answer")]
    NoAnswer,
    /// The database failed: a broken file, a mistake of ours. Somebody has to look.
    #[error("the database failed: {0}")]
    Backend(sqlx::Error),
    /// What is in the database cannot be what this program wrote.
    #[error("the database holds what cannot be: {0}")]
    Corrupt(String),
}

impl Error {
    /// Whether the same again, later, may succeed without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::NoAnswer)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let busy = match &error {
            sqlx::Error::PoolTimedOut => true,
            // BUSY, LOCKED, READONLY, IOERR, FULL and CANTOPEN of SQLite, with their extensions in the upper bytes.
            sqlx::Error::Database(database) => {
                let code = database.code().and_then(|code| code.parse::<u32>().ok());
                code.is_some_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
            }
            _ => false,
        };
        if busy { Self::Busy(error) } else { Self::Backend(error) }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::Schema(other.to_string()),
        }
    }
}
