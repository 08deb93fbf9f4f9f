//! What can go wrong with the store.

use std::{io, path::PathBuf};

use sqlx::{postgres::PgDatabaseError, sqlite::SqliteError};

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
    /// What it is to be opened with makes no sense.
    #[error("the database's settings: {0}")]
    Config(String),
    /// Files or folders cannot be used.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database does not do it now: busy, away, out of connections, its disk full, read-only or failing. A retry is
    /// sensible, once somebody has made room.
    #[error("the database does not do it now: {0}")]
    Busy(sqlx::Error),
    /// This instance was taken for dead, and others have taken over what it had: it must let go of everything, and may
    /// join again as a new one.
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

    /// Whether the database may be there later: its server does not answer yet, or does not know it yet.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        // invalid_catalog_name
        let is_unknown = |error: &sqlx::Error| {
            error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "3D000")
        };
        self.is_transient() || matches!(self, Self::Backend(error) if is_unknown(error))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let busy = match &error {
            sqlx::Error::PoolTimedOut => true,
            // A connection that could not be made, or broke. What is wrong with a certificate stays so.
            sqlx::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
            sqlx::Error::Database(database) => {
                if let Some(error) = database.try_downcast_ref::<PgDatabaseError>() {
                    match error.code() {
                        // Of `may_write`.
                        "SR001" => return Self::Revoked,
                        code => is_transient_in_postgres(code),
                    }
                } else {
                    let sqlite = database.try_downcast_ref::<SqliteError>();
                    sqlite.and_then(|_| database.code()?.parse().ok()).is_some_and(is_transient_in_sqlite)
                }
            }
            _ => false,
        };
        if busy { Self::Busy(error) } else { Self::Backend(error) }
    }
}

/// BUSY, LOCKED, READONLY, IOERR, FULL and CANTOPEN, with their extensions in the upper bytes.
const fn is_transient_in_sqlite(code: u32) -> bool {
    matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14)
}

/// By class, which is the first two characters: connection exceptions, rollbacks for the sake of others (deadlocks,
/// serialization), insufficient resources (connections, memory, disk); and single ones.
fn is_transient_in_postgres(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "40" | "53"))
        || matches!(
            code,
            // read_only_sql_transaction: a standby, or a disk that was full. idle_in_transaction_session_timeout.
            "25006" | "25P03"
            // object_in_use, lock_not_available
            | "55006" | "55P03"
            // query_canceled (statement_timeout), admin_shutdown, crash_shutdown, cannot_connect_now
            | "57014" | "57P01" | "57P02" | "57P03"
            // idle_session_timeout, io_error
            | "57P05" | "58030"
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_postgresql_are_not_taken_for_those_of_sqlite() {
        for code in ["08006", "25006", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "57P03", "58030"]
        {
            assert!(is_transient_in_postgres(code), "{code}");
        }
        // invalid_password, unique_violation, undefined_table, database_dropped; and numbers that mean BUSY there.
        for code in ["28P01", "23505", "42P01", "57P04", "00005", "22021", "XX000", ""] {
            assert!(!is_transient_in_postgres(code), "{code}");
        }
        assert!(is_transient_in_sqlite(5) && is_transient_in_sqlite(0x0205) && !is_transient_in_sqlite(1));
    }
}
