//! The table of messages. Each statement is a message to SQLite's thread and back: many rows go by one.

use std::{collections::HashSet, mem, sync::LazyLock};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::{Connection, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteStore, renew,
    segments::{self, Segments},
};
use crate::{Change, Direction, Error, MessageId, Messages, Origin, PendingRow, Row, RowState, StoredRow};

/// Rows by one statement: the largest that fits is taken, so that there are few statements to prepare.
const SIZES: [usize; 4] = [64, 16, 4, 1];

struct Statements {
    put: [&'static str; SIZES.len()],
    give_back: [&'static str; SIZES.len()],
    deliver: [&'static str; SIZES.len()],
    remove: [&'static str; SIZES.len()],
    late: [&'static str; SIZES.len()],
}

/// Made once, and leaked: a handful of texts.
static STATEMENTS: LazyLock<Statements> = LazyLock::new(|| {
    let list = |row: &str, rows: usize| vec![row; rows].join(",");
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    Statements {
        put: SIZES.map(|rows| {
            leak(format!(
                "INSERT INTO message (account, id, peer, direction, state, archived, origin, stanza) \
                 SELECT * FROM (VALUES {}) WHERE EXISTS (SELECT 1 FROM account WHERE jid = column1) \
                 ON CONFLICT (id, account) DO UPDATE SET state = 1 WHERE excluded.state = 1 AND state <> 1",
                list("(?,?,?,?,?,?,?,?)", rows)
            ))
        }),
        give_back: SIZES.map(|rows| {
            let keys = list("(?,?)", rows);
            leak(format!(
                "UPDATE message SET state = 1 WHERE (account, id) IN (VALUES {keys}) AND state <> 0 AND state = 2"
            ))
        }),
        deliver: SIZES.map(|rows| {
            let keys = list("(?,?)", rows);
            leak(format!(
                "UPDATE message SET state = 0 WHERE (account, id) IN (VALUES {keys}) AND state <> 0 AND archived = 1"
            ))
        }),
        remove: SIZES.map(|rows| {
            let keys = list("(?,?)", rows);
            leak(format!("DELETE FROM message WHERE (account, id) IN (VALUES {keys}) AND state <> 0 AND archived = 0"))
        }),
        late: SIZES.map(|rows| leak(segments::late(&list("(?,?)", rows)))),
    }
});

// What is open is found by the index that says `state <> 0`, in these words.
const PENDING: &str =
    "SELECT count(*) FROM (SELECT 1 FROM message WHERE account = ? AND state <> 0 AND state = 1 LIMIT ?)";
const WAITING: &str = "SELECT id, peer, archived, stanza FROM message \
                       WHERE account = ? AND state <> 0 AND state = 1 ORDER BY id LIMIT ?";
const CLAIM: &str = "UPDATE message SET state = 2 WHERE account = ? AND state <> 0 AND state = 1 AND id <= ?";
const IN_FLIGHT: &str = "SELECT account, id FROM message WHERE state <> 0 AND state = 2 LIMIT ?";
const CLAIM_ONE: &str = "UPDATE message SET state = 2 WHERE account = ? AND state <> 0 AND state = 1 AND id = ? \
    RETURNING id, peer, archived, stanza";
const RELEASE: &str = "UPDATE message SET state = 1 WHERE account = ? AND state <> 0 AND state = 2 RETURNING id";
const SENT: &str = "SELECT origin, stanza FROM ( \
    SELECT o.id FROM message_segment AS s \
    CROSS JOIN message_of AS o ON o.segment = s.last AND o.account = ?1 AND o.id > ?2 WHERE s.last > ?2 \
    UNION ALL SELECT id FROM message \
    WHERE id > max(?2, (SELECT coalesce(max(last), x'') FROM message_segment)) AND account = ?1 AND archived = 1 \
    ) AS found CROSS JOIN message ON message.id = found.id AND message.account = ?1 \
    WHERE substr(origin, 1, 16) = ?3";

/// All statements, for a test that looks at how they are carried out.
#[cfg(test)]
pub(super) fn statements() -> Vec<&'static str> {
    let Statements { put, give_back, deliver, remove, late } = &*STATEMENTS;
    let by_size = [put, give_back, deliver, remove, late].into_iter().flatten().copied();
    by_size.chain([PENDING, WAITING, CLAIM, CLAIM_ONE, IN_FLIGHT, RELEASE, SENT]).collect()
}

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
                .bind(row.origin.map(origin_bytes))
                .bind(row.stanza);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Runs a statement of each of `statements` for all keys, in pieces.
async fn by_key(
    connection: &mut SqliteConnection,
    keys: &[(&str, MessageId)],
    statements: &[&[&'static str; SIZES.len()]],
) -> Result<(), Error> {
    for (size, piece) in pieces(keys) {
        for statements in statements {
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

/// Changes that are applied together: rows written first, then those that came back, then those delivered. The same as one
/// by one, but for a row that is written after it was delivered: all that came before is applied before it.
#[derive(Default)]
struct Round<'c> {
    rows: Vec<&'c Row<'c>>,
    returned: Vec<(&'c str, MessageId)>,
    delivered: Vec<(&'c str, MessageId)>,
    /// The same again, to be found.
    settled: HashSet<(&'c str, MessageId)>,
}

impl Round<'_> {
    async fn apply(self, connection: &mut SqliteConnection) -> Result<(), Error> {
        put(connection, &self.rows).await?;
        by_key(connection, &self.returned, &[&STATEMENTS.give_back]).await?;
        by_key(connection, &self.delivered, &[&STATEMENTS.deliver, &STATEMENTS.remove]).await
    }
}

/// Applies changes. Rows up to `last` are in segments.
async fn apply(connection: &mut SqliteConnection, changes: &[Change<'_>], last: MessageId) -> Result<u64, Error> {
    let mut written = 0;
    let mut late = Vec::new();
    let mut round = Round::default();
    for change in changes {
        match change {
            // Nobody must get it, and nobody wants it kept.
            Change::Put(row) if row.state == RowState::Delivered && !row.archived => {}
            Change::Put(row) => {
                if round.settled.contains(&(row.account, row.id)) {
                    mem::take(&mut round).apply(connection).await?;
                }
                round.rows.push(row);
                written += 1;
                if row.archived && row.id <= last {
                    late.push((row.account, row.id));
                }
            }
            Change::Returned { account, id, .. } => round.returned.push((account, *id)),
            // There is but one instance.
            Change::Held { .. } => {}
            Change::Delivered { account, id } => {
                round.delivered.push((account, *id));
                round.settled.insert((account, *id));
            }
        }
    }
    round.apply(connection).await?;
    by_key(connection, &late, &[&STATEMENTS.late]).await?;
    Ok(written)
}

pub(super) fn id_bytes(id: MessageId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

fn origin_bytes(origin: Origin) -> Vec<u8> {
    [&origin.stream.to_be_bytes()[..], &origin.count.to_be_bytes()].concat()
}

fn pending_row(row: &SqliteRow) -> Result<PendingRow, Error> {
    let archived = row.try_get::<i64, _>("archived")? != 0;
    Ok(PendingRow { id: read_id(row, "id")?, peer: row.try_get("peer")?, archived, stanza: row.try_get("stanza")? })
}

fn read_sent(row: &SqliteRow) -> Result<(u32, Vec<u8>), Error> {
    let origin: Vec<u8> = row.try_get("origin")?;
    let count = origin.get(16..).and_then(|count| count.try_into().ok()).map(u32::from_be_bytes);
    let count = count.ok_or_else(|| Error::Corrupt(format!("an origin of {} bytes", origin.len())))?;
    Ok((count, row.try_get("stanza")?))
}

pub(super) fn read_id(row: &SqliteRow, column: &str) -> Result<MessageId, Error> {
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
        // Not known again until the transaction is: whoever leaves in the middle does not say whether it was committed.
        let known = self.known_segments().take();
        let result = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let mut segments = match known {
                Some(segments) => segments,
                None => Segments::load(&mut transaction).await?,
            };
            let written = apply(&mut transaction, changes, segments.last).await?;
            segments.written(&mut transaction, written).await?;
            transaction.commit().await?;
            Ok(segments)
        }
        .await;
        match result {
            Ok(segments) => {
                // The writer is still ours.
                *self.known_segments() = Some(segments);
                Ok(())
            }
            Err(error) => renew(connection, Err(error)).await,
        }
    }

    async fn pending(&self, account: &str, at_most: u32) -> Result<u32, Error> {
        let row = sqlx::query(PENDING).bind(account).bind(i64::from(at_most)).fetch_one(&self.readers).await?;
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
            let found = sqlx::query(WAITING).bind(account).bind(i64::from(limit));
            let mut claimed = Vec::new();
            let mut size = 0;
            {
                // No more than is wanted is read: each may be as large as a stanza can be.
                let mut found = found.fetch(&mut *transaction);
                while (claimed.is_empty() || size < bytes)
                    && let Some(row) = found.try_next().await?
                {
                    let row = pending_row(&row)?;
                    size += row.stanza.len();
                    claimed.push(row);
                }
            }
            if let Some(last) = claimed.last() {
                sqlx::query(CLAIM).bind(account).bind(id_bytes(last.id)).execute(&mut *transaction).await?;
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

    async fn claim_these(&self, account: &str, ids: &[MessageId]) -> Result<Vec<PendingRow>, Error> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let mut connection = self.write().await?;
        let result = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let mut claimed = Vec::new();
            for id in ids {
                let found = sqlx::query(CLAIM_ONE).bind(account).bind(id_bytes(id));
                claimed.extend(found.fetch_optional(&mut *transaction).await?.as_ref().map(pending_row).transpose()?);
            }
            transaction.commit().await?;
            Ok(claimed)
        }
        .await;
        renew(connection, result).await
    }

    async fn waiting(&self, accounts: &[&str]) -> Result<Vec<bool>, Error> {
        let mut waiting = Vec::with_capacity(accounts.len());
        for account in accounts {
            waiting.push(self.pending(account, 1).await? > 0);
        }
        Ok(waiting)
    }

    /// Whoever held it: there is no other instance whose messages these could be.
    async fn release(&self, _holder: u64, limit: u32) -> Result<Vec<String>, Error> {
        let mut connection = self.write().await?;
        let result = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let found = sqlx::query(IN_FLIGHT).bind(i64::from(limit)).fetch_all(&mut *transaction).await?;
            let mut keys = Vec::with_capacity(found.len());
            for row in &found {
                keys.push((row.try_get::<String, _>("account")?, read_id(row, "id")?));
            }
            let borrowed: Vec<_> = keys.iter().map(|(account, id)| (account.as_str(), *id)).collect();
            by_key(&mut transaction, &borrowed, &[&STATEMENTS.give_back]).await?;
            transaction.commit().await?;
            let mut accounts: Vec<_> = keys.into_iter().map(|(account, _)| account).collect();
            accounts.sort_unstable();
            accounts.dedup();
            Ok(accounts)
        }
        .await;
        renew(connection, result).await
    }

    async fn release_account(&self, account: &str, _holder: u64) -> Result<Vec<MessageId>, Error> {
        let released = sqlx::query(RELEASE).bind(account).fetch_all(&mut *self.write().await?).await?;
        let mut ids = released.iter().map(|row| read_id(row, "id")).collect::<Result<Vec<_>, _>>()?;
        ids.sort_unstable();
        Ok(ids)
    }

    async fn sent(&self, account: &str, stream: u128, since: MessageId) -> Result<Vec<(u32, Vec<u8>)>, Error> {
        let stream = stream.to_be_bytes().to_vec();
        let found = sqlx::query(SENT).bind(account).bind(id_bytes(since)).bind(stream);
        found.fetch_all(&self.readers).await?.iter().map(read_sent).collect()
    }

    async fn expire(&self, before: MessageId, limit: u32) -> Result<u64, Error> {
        let mut connection = self.write().await?;
        let result = segments::expire(&mut connection, before, limit).await;
        renew(connection, result).await
    }

    async fn rows(&self, account: &str, after: Option<MessageId>, limit: u32) -> Result<Vec<StoredRow>, Error> {
        let after = after.map_or_else(Vec::new, id_bytes);
        let found = sqlx::query(segments::ROWS).bind(account).bind(after).bind(i64::from(limit));
        found.fetch_all(&self.readers).await?.iter().map(stored).collect()
    }
}
