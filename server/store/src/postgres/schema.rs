//! The schema: brought up to date by whoever is first, or waited for.

use std::time::Duration;

use sqlx::{
    Connection, PgConnection, Row,
    migrate::{Migrate as _, Migrator},
};
use tokio::time::sleep;

use super::config::{Connector, Migrate};
use crate::Error;

/// A migration may take long, and so may the one that is waited for.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How soon whoever waits looks again, from the first time to the last.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(2);

/// What this release knows of the schema.
fn migrations() -> Migrator {
    let mut migrations = sqlx::migrate!("migrations/postgres");
    // A newer release that was here only added: this one still reads and writes what it knows.
    migrations.set_ignore_missing(true);
    // Whoever makes them has the lock already: see `update`.
    migrations.set_locking(false);
    migrations
}

/// Returns when the schema has all that this release knows of; the migrations that were made here for it, in their order.
/// [`Migrate::Wait`] makes none, and waits however long it takes; the caller may leave at any time.
///
/// # Errors
/// [`Error::NewerSchema`] if a newer release has taken away what this one needs: a migration that does so sets
/// `schema_needs` to the last migration that a program must know to go on.
pub(super) async fn prepare(connector: &Connector, migrate: Migrate) -> Result<Vec<i64>, Error> {
    let (mut connection, _) = connector.patient(PATIENCE).connect().await?;
    let migrations = migrations();
    let made = match migrate {
        Migrate::Auto => update(&mut connection, &migrations).await?,
        Migrate::Wait => {
            let mut look = FIRST_LOOK;
            while !is_up_to_date(&mut connection, &migrations).await? {
                sleep(look).await;
                look = (2 * look).min(LAST_LOOK);
            }
            Vec::new()
        }
    };
    // A newer release may have come between.
    check(&mut connection, &migrations).await?;
    connection.close().await.ok();
    Ok(made)
}

async fn update(connection: &mut PgConnection, migrations: &Migrator) -> Result<Vec<i64>, Error> {
    check(connection, migrations).await?;
    // One after the other, by a lock of the database, which ends with the connection, whatever happens; most find that there
    // is nothing to do.
    connection.lock().await?;
    let before = made(connection).await?;
    // Not `run`, whose future no task can have.
    migrations.run_direct(None, connection, false).await?;
    connection.unlock().await?;
    Ok(migrations.iter().map(|migration| migration.version).filter(|version| !before.contains(version)).collect())
}

/// The migrations that were made before.
async fn made(connection: &mut PgConnection) -> Result<Vec<i64>, Error> {
    if !exists(connection, "_sqlx_migrations").await? {
        return Ok(Vec::new());
    }
    let made = sqlx::query("SELECT version FROM _sqlx_migrations WHERE success");
    made.fetch_all(connection).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn check(connection: &mut PgConnection, migrations: &Migrator) -> Result<(), Error> {
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or_default();
    if !exists(connection, "schema_needs").await? {
        return Ok(());
    }
    let needed = sqlx::query("SELECT coalesce(max(version), 0) FROM schema_needs").fetch_one(connection).await?;
    match needed.try_get(0)? {
        needed if needed > known => Err(Error::NewerSchema(needed)),
        _ => Ok(()),
    }
}

/// Whether all migrations were made, as they are here.
async fn is_up_to_date(connection: &mut PgConnection, migrations: &Migrator) -> Result<bool, Error> {
    if !exists(connection, "_sqlx_migrations").await? {
        return Ok(false);
    }
    for migration in migrations.iter() {
        let made = sqlx::query("SELECT checksum FROM _sqlx_migrations WHERE version = $1 AND success");
        let Some(row) = made.bind(migration.version).fetch_optional(&mut *connection).await? else { return Ok(false) };
        if row.try_get::<Vec<u8>, _>(0)? != *migration.checksum {
            return Err(sqlx::migrate::MigrateError::VersionMismatch(migration.version).into());
        }
    }
    Ok(true)
}

async fn exists(connection: &mut PgConnection, table: &str) -> Result<bool, Error> {
    let row = sqlx::query("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}
