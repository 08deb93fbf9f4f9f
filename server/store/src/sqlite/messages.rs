//! The table of messages. Each statement is a message to SQLite's thread and back: many rows go by one.

use std::{collections::HashSet, sync::LazyLock};

use async_trait::async_trait;
use sqlx::{Connection, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::SqliteStore;
use crate::{Change, Direction, Error, MessageId, Messages, PendingRow, Row, RowState, StoredRow};

/// Rows by one statement: the largest that fits is taken, so that there are few statements to prepare.
const SIZES: [usize; 4] = [64, 16, 4, 1];

struct Statements {
    put: [&'static str; SIZES.len()],
    deliver: [&'static str; SIZES.len()],
    remove: [&'static str; SIZES.len()],
}

/// Made once, and leaked: a handful of texts.
static STATEMENTS: LazyLock<Statements> = LazyLock::new(|| {
    let list = |row: &str, rows: usize| vec![row; rows].join(",");
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    Statements {
        put: SIZES.map(|rows| {
            leak(format!(
                "INSERT INTO message (account, id, peer, direction, state, archived, stanza) \
                 SELECT * FROM (VALUES {}) WHERE EXISTS (SELECT 1 FROM account WHERE jid = column1) \
                 ON CONFLICT (account, id) DO UPDATE SET state = 1 WHERE excluded.state = 1 AND state <> 1",
                list("(?,?,?,?,?,?,?)", rows)
            ))
        }),
        deliver: SIZES.map(|rows| {
            let keys = list("(?,?)", rows);
            leak(format!("UPDATE message SET state = 0 WHERE (account, id) IN (VALUES {keys}) AND archived = 1"))
        }),
        remove: SIZES.map(|rows| {
            let keys = list("(?,?)", rows);
            leak(format!("DELETE FROM message WHERE (account, id) IN (VALUES {keys}) AND archived = 0"))
        }),
    }
});

/// Cuts `all` into pieces of [`SIZES`]: each with the position of its size.
fn pieces<T>(mut all: &[T]) -> impl Iterator<Item = (usize, &[T])> {
    std::iter::from_fn(move || {
        let at = SIZES.iter().position(|size| *size <= all.len())?;
        let (piece, rest) = all.split_at(*SIZES.get(at)?);
        all = rest;
        Some((at, piece))
    })
}

async fn put(connection: &mut SqliteConnection, rows: &[&Row<'_>]) -> Result<(), Error> {
    for (size, piece) in pieces(rows) {
        let Some(statement) = STATEMENTS.put.get(size) else { continue };
        let mut query = sqlx::query(*statement);
        for row in piece {
            query = query
                .bind(row.account)
                .bind(id_bytes(row.id))
                .bind(row.peer)
                .bind(row.direction as i64)
                .bind(row.state as i64)
                .bind(i64::from(row.archived))
                .bind(row.stanza);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn delivered(connection: &mut SqliteConnection, keys: &[(&str, MessageId)]) -> Result<(), Error> {
    for (size, piece) in pieces(keys) {
        for statements in [&STATEMENTS.deliver, &STATEMENTS.remove] {
            let Some(statement) = statements.get(size) else { continue };
            let mut query = sqlx::query(*statement);
            for (account, id) in piece {
                query = query.bind(*account).bind(id_bytes(*id));
            }
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Those written first, then those delivered: the same as one by one, but for a row that is written again after it was
/// delivered, before which all that came earlier is applied.
async fn apply(connection: &mut SqliteConnection, changes: &[Change<'_>]) -> Result<(), Error> {
    let mut rows = Vec::with_capacity(changes.len());
    let mut keys = Vec::new();
    let mut settled = HashSet::new();
    for change in changes {
        match change {
            Change::Put(row) => {
                if settled.contains(&(row.account, row.id)) {
                    put(connection, &rows).await?;
                    delivered(connection, &keys).await?;
                    rows.clear();
                    keys.clear();
                    settled.clear();
                }
                rows.push(row);
            }
            Change::Delivered { account, id } => {
                keys.push((*account, *id));
                settled.insert((*account, *id));
            }
        }
    }
    put(connection, &rows).await?;
    delivered(connection, &keys).await
}

fn id_bytes(id: MessageId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

fn read_id(row: &SqliteRow, column: &str) -> Result<MessageId, Error> {
    let bytes: Vec<u8> = row.try_get(column)?;
    let bytes: [u8; 16] =
        bytes.try_into().map_err(|bytes: Vec<u8>| Error::Corrupt(format!("a message id of {} bytes", bytes.len())))?;
    Ok(MessageId(u128::from_be_bytes(bytes)))
}

fn stored(row: &SqliteRow) -> Result<StoredRow, Error> {
    let direction = match row.try_get::<i64, _>("direction")? {
        0 => Direction::Sent,
        1 => Direction::Received,
        other => return Err(Error::Corrupt(format!("the direction {other}"))),
    };
    let state = match row.try_get::<i64, _>("state")? {
        0 => RowState::Delivered,
        1 => RowState::Pending,
        2 => RowState::InFlight,
        other => return Err(Error::Corrupt(format!("the state {other}"))),
    };
    Ok(StoredRow {
        id: read_id(row, "id")?,
        peer: row.try_get("peer")?,
        direction,
        state,
        archived: row.try_get::<i64, _>("archived")? != 0,
        stanza: row.try_get("stanza")?,
    })
}

#[async_trait]
impl Messages for SqliteStore {
    async fn commit(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        let mut connection = self.write().await?;
        let result = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            apply(&mut transaction, changes).await?;
            transaction.commit().await?;
            Ok(())
        }
        .await;
        if result.is_err() {
            // SQLite may have rolled back by itself, as when the disk is full: a new connection knows of no transaction.
            connection.close().await.ok();
        }
        result
    }

    async fn pending(&self, account: &str, at_most: u32) -> Result<u32, Error> {
        let statement = "SELECT count(*) FROM (SELECT 1 FROM message \
                         WHERE account = ? AND state <> 0 AND state = 1 LIMIT ?)";
        let row = sqlx::query(statement).bind(account).bind(i64::from(at_most)).fetch_one(&self.readers).await?;
        Ok(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX))
    }

    async fn claim(&self, account: &str, limit: u32, bytes: usize) -> Result<Vec<PendingRow>, Error> {
        // Most who ask have none, and need not wait for the writer.
        if self.pending(account, 1).await? == 0 {
            return Ok(Vec::new());
        }
        // Lost with the machine's power, the claim leaves the messages pending, as it should.
        let mut connection = self.unsynced().await?;
        let result = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let statement = "SELECT id, peer, archived, stanza FROM message \
                             WHERE account = ? AND state <> 0 AND state = 1 ORDER BY id LIMIT ?";
            let found = sqlx::query(statement).bind(account).bind(i64::from(limit));
            let found = found.fetch_all(&mut *transaction).await?;
            let mut claimed = Vec::new();
            let mut size = 0;
            for row in &found {
                if size >= bytes && !claimed.is_empty() {
                    break;
                }
                let stanza: Vec<u8> = row.try_get("stanza")?;
                size += stanza.len();
                let archived = row.try_get::<i64, _>("archived")? != 0;
                claimed.push(PendingRow { id: read_id(row, "id")?, peer: row.try_get("peer")?, archived, stanza });
            }
            if let Some(last) = claimed.last() {
                let statement = "UPDATE message SET state = 2 \
                                 WHERE account = ? AND state <> 0 AND state = 1 AND id <= ?";
                sqlx::query(statement).bind(account).bind(id_bytes(last.id)).execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
            Ok(claimed)
        }
        .await;
        if result.is_err() || self.sync(&mut connection).await.is_err() {
            connection.close().await.ok();
        }
        result
    }

    async fn recover(&self) -> Result<u64, Error> {
        let statement = "UPDATE message SET state = 1 WHERE state <> 0 AND state = 2";
        Ok(sqlx::query(statement).execute(&mut *self.write().await?).await?.rows_affected())
    }

    async fn expire(&self, before: MessageId, limit: u32) -> Result<u64, Error> {
        // Rows are appended as they come, so that the oldest are found first.
        let statement = "DELETE FROM message WHERE rowid IN \
                         (SELECT rowid FROM message WHERE id < ? AND state = 0 ORDER BY rowid LIMIT ?)";
        let done = sqlx::query(statement)
            .bind(id_bytes(before))
            .bind(i64::from(limit))
            .execute(&mut *self.write().await?)
            .await?;
        Ok(done.rows_affected())
    }

    async fn rows(&self, account: &str, after: Option<MessageId>, limit: u32) -> Result<Vec<StoredRow>, Error> {
        let statement = "SELECT id, peer, direction, state, archived, stanza FROM message \
                         WHERE account = ? AND id > ? ORDER BY id LIMIT ?";
        let after = after.map_or_else(Vec::new, id_bytes);
        let found = sqlx::query(statement).bind(account).bind(after).bind(i64::from(limit));
        found.fetch_all(&self.readers).await?.iter().map(stored).collect()
    }
}
