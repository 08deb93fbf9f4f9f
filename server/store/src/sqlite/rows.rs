//! The statements.

use sqlx::{Connection, Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use starling_xmpp::{
    jid::{self, BareJid},
    sasl::{Credentials, Verifier},
};

use super::segments;
use crate::Error;

/// One row for all hash functions: each row more is a message more between threads.
const CREDENTIALS: &str = "\
    SELECT a.salt, a.iterations, a.stored_key, a.server_key, \
           b.salt, b.iterations, b.stored_key, b.server_key, \
           c.salt, c.iterations, c.stored_key, c.server_key \
    FROM account \
    LEFT JOIN verifier AS a ON a.jid = account.jid AND a.hash = 'SHA-1' \
    LEFT JOIN verifier AS b ON b.jid = account.jid AND b.hash = 'SHA-256' \
    LEFT JOIN verifier AS c ON c.jid = account.jid AND c.hash = 'SHA-512' \
    WHERE account.jid = ?";

pub(super) async fn credentials(pool: &SqlitePool, jid: &str) -> Result<Option<Credentials>, Error> {
    let Some(row) = sqlx::query(CREDENTIALS).bind(jid).fetch_optional(pool).await? else { return Ok(None) };
    Ok(Some(Credentials { sha1: verifier(&row, 0)?, sha256: verifier(&row, 4)?, sha512: verifier(&row, 8)? }))
}

/// The verifier in four columns from `column` on, if there is one.
fn verifier(row: &SqliteRow, column: usize) -> Result<Option<Verifier>, Error> {
    let Some(salt) = row.try_get::<Option<Vec<u8>>, _>(column)? else { return Ok(None) };
    let iterations = row.try_get::<i64, _>(column + 1)?;
    Ok(Some(Verifier {
        salt,
        iterations: u32::try_from(iterations).map_err(|_| Error::Corrupt(format!("{iterations} iterations")))?,
        stored_key: row.try_get(column + 2)?,
        server_key: row.try_get(column + 3)?,
    }))
}

pub(super) async fn user_version(pool: &SqlitePool) -> Result<i64, Error> {
    let row = sqlx::query("PRAGMA user_version").fetch_one(pool).await?;
    Ok(row.try_get(0)?)
}

/// `false`: it was there.
pub(super) async fn insert_account(connection: &mut SqliteConnection, jid: &str) -> Result<bool, Error> {
    let statement = "INSERT INTO account (jid) VALUES (?) ON CONFLICT DO NOTHING";
    let done = sqlx::query(statement).bind(jid).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn exists(connection: &mut SqliteConnection, jid: &str) -> Result<bool, Error> {
    let row = sqlx::query("SELECT 1 FROM account WHERE jid = ?").bind(jid).fetch_optional(connection).await?;
    Ok(row.is_some())
}

pub(super) async fn write_verifiers(
    connection: &mut SqliteConnection,
    jid: &str,
    credentials: &Credentials,
    replaces: bool,
) -> Result<(), Error> {
    if replaces {
        sqlx::query("DELETE FROM verifier WHERE jid = ?").bind(jid).execute(&mut *connection).await?;
    }
    let verifiers = [("SHA-1", &credentials.sha1), ("SHA-256", &credentials.sha256), ("SHA-512", &credentials.sha512)];
    for (hash, verifier) in verifiers {
        let Some(verifier) = verifier else { continue };
        let statement = "INSERT INTO verifier (jid, hash, salt, iterations, stored_key, server_key) \
                         VALUES (?, ?, ?, ?, ?, ?)";
        sqlx::query(statement)
            .bind(jid)
            .bind(hash)
            .bind(verifier.salt.as_slice())
            .bind(i64::from(verifier.iterations))
            .bind(verifier.stored_key.as_slice())
            .bind(verifier.server_key.as_slice())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn remove(connection: &mut SqliteConnection, jid: &str) -> Result<bool, Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let done = sqlx::query("DELETE FROM account WHERE jid = ?").bind(jid).execute(&mut *transaction).await?;
    // They do not refer to the account.
    segments::remove_account(&mut transaction, jid).await?;
    transaction.commit().await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn list(pool: &SqlitePool, after: &str, limit: u32) -> Result<Vec<BareJid>, Error> {
    let statement = "SELECT jid FROM account WHERE jid > ? ORDER BY jid LIMIT ?";
    let rows = sqlx::query(statement).bind(after).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            let text = row.try_get::<String, _>(0)?;
            jid::parse_bare(&text).map_err(|_| Error::Corrupt(format!("the account {text:?}")))
        })
        .collect()
}

pub(super) async fn count(pool: &SqlitePool) -> Result<u64, Error> {
    let row = sqlx::query("SELECT count(*) FROM account").fetch_one(pool).await?;
    let count = row.try_get::<i64, _>(0)?;
    u64::try_from(count).map_err(|_| Error::Corrupt(format!("{count} accounts")))
}

/// The secret that is there, or `fresh`, which is then there.
pub(super) async fn secret(connection: &mut SqliteConnection, name: &str, fresh: &[u8]) -> Result<Vec<u8>, Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(name)
        .bind(fresh)
        .execute(&mut *transaction)
        .await?;
    let row = sqlx::query("SELECT value FROM secret WHERE name = ?").bind(name).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    let kept: Vec<u8> = row.try_get(0)?;
    if kept.len() == fresh.len() {
        Ok(kept)
    } else {
        Err(Error::Corrupt(format!("the secret {name:?} of {} bytes", kept.len())))
    }
}
