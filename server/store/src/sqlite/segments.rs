//! Archived messages by account, in sorted segments: see the migration for why.
//!
//! ```text
//!   message, by id   ░░░░░░░░░░░░░░░░░░░░░░░░░░░│░░░░░░  ◄── rows are appended; the rest is shorter than a segment
//!   message_of       [segment 1][segment 2][  3 ]        ◄── each by (account, id), written at once
//! ```

use sqlx::{Connection, Row, SqliteConnection};

use super::messages::{id_bytes, read_id};
use crate::{Error, MessageId};

/// Rows of a segment, or a few more. Many make each cheaper, few keep short what has to be searched behind the last one.
const SEGMENT: u64 = 4096;

/// Where the segments end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments {
    /// What is above it is in none.
    pub(super) last: MessageId,
    /// Rows above it, counted as they are written: no fewer than there are.
    rest: u64,
}

impl Segments {
    pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Self, Error> {
        let row = sqlx::query("SELECT max(last) AS last FROM message_segment").fetch_one(&mut *connection).await?;
        let none = row.try_get::<Option<Vec<u8>>, _>("last")?.is_none();
        let last = if none { MessageId(0) } else { read_id(&row, "last")? };
        let row = sqlx::query(REST).bind(id_bytes(last)).fetch_one(connection).await?;
        Ok(Self { last, rest: u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default() })
    }

    /// Counts rows that were written, and makes a segment of those that are in none, if they are enough.
    pub(super) async fn written(&mut self, connection: &mut SqliteConnection, rows: u64) -> Result<(), Error> {
        self.rest += rows;
        if self.rest < SEGMENT {
            return Ok(());
        }
        self.rest = 0;
        let last = id_bytes(self.last);
        let Some(row) = sqlx::query(BEGIN_SEGMENT).bind(last.as_slice()).fetch_optional(&mut *connection).await? else {
            return Ok(());
        };
        self.last = read_id(&row, "last")?;
        sqlx::query(FILL_SEGMENT).bind(id_bytes(self.last)).bind(last).execute(connection).await?;
        Ok(())
    }
}

/// Puts rows with these keys (account, id), all of them up to the last segment, into the segments of their time.
pub(super) fn late(keys: &str) -> String {
    format!(
        "INSERT INTO message_of \
         SELECT (SELECT min(last) FROM message_segment WHERE last >= message.id), account, id FROM message \
         WHERE (account, id) IN (VALUES {keys}) AND archived = 1 ON CONFLICT DO NOTHING"
    )
}

/// Up to ?3 rows of the account ?1 above ?2: archived ones of segments and above the last one, and those that somebody
/// must still get, few enough to have an index of their own.
pub(super) const ROWS: &str = "\
    SELECT message.id, peer, direction, state, archived, stanza FROM ( \
        SELECT * FROM ( \
            SELECT o.id FROM message_segment AS s \
            CROSS JOIN message_of AS o ON o.segment = s.last AND o.account = ?1 AND o.id > ?2 \
            WHERE s.last > ?2 ORDER BY s.last, o.id LIMIT ?3) \
        UNION ALL SELECT * FROM ( \
            SELECT id FROM message \
            WHERE id > max(?2, (SELECT coalesce(max(last), x'') FROM message_segment)) \
            AND account = ?1 AND archived = 1 ORDER BY id LIMIT ?3) \
        UNION ALL SELECT * FROM ( \
            SELECT id FROM message \
            WHERE account = ?1 AND id > ?2 AND state <> 0 AND archived = 0 ORDER BY id LIMIT ?3) \
    ) AS found CROSS JOIN message ON message.id = found.id AND message.account = ?1 \
    ORDER BY message.id LIMIT ?3";

const REST: &str = "SELECT count(*) FROM message WHERE id > ?";
const BEGIN_SEGMENT: &str = "INSERT INTO message_segment \
    SELECT max(id) FROM message WHERE id > ? HAVING max(id) IS NOT NULL RETURNING last";
const FILL_SEGMENT: &str = "INSERT INTO message_of \
    SELECT ?, account, id FROM message WHERE id > ? AND archived = 1 ORDER BY account, id";

const EXPIRE_KEYS: &str = "DELETE FROM message_of WHERE (segment, account, id) IN ( \
    SELECT (SELECT min(last) FROM message_segment WHERE last >= message.id), account, id \
    FROM message WHERE id < ? AND state = 0 AND archived = 1 ORDER BY id LIMIT ?)";
const EXPIRE: &str = "DELETE FROM message WHERE rowid IN ( \
    SELECT rowid FROM message WHERE id < ? AND state = 0 AND archived = 1 ORDER BY id LIMIT ?)";
/// The last one stays, even empty: it says where they end.
const EXPIRE_SEGMENTS: &str = "DELETE FROM message_segment \
    WHERE last < ? AND last < (SELECT max(last) FROM message_segment) \
    AND NOT EXISTS (SELECT 1 FROM message_of WHERE segment = last)";

/// Found as in [`ROWS`].
const REMOVE: &str = "DELETE FROM message WHERE account = ?1 AND id IN ( \
    SELECT o.id FROM message_segment AS s CROSS JOIN message_of AS o ON o.segment = s.last AND o.account = ?1 \
    UNION ALL SELECT id FROM message \
    WHERE id > (SELECT coalesce(max(last), x'') FROM message_segment) AND account = ?1 \
    UNION ALL SELECT id FROM message WHERE account = ?1 AND state <> 0)";
const REMOVE_KEYS: &str = "DELETE FROM message_of WHERE account = ? AND segment IN (SELECT last FROM message_segment)";

/// All statements, for a test that looks at how they are carried out.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 9] =
    [ROWS, REST, BEGIN_SEGMENT, FILL_SEGMENT, EXPIRE_KEYS, EXPIRE, EXPIRE_SEGMENTS, REMOVE, REMOVE_KEYS];

/// Deletes up to `limit` archived and delivered rows below `before`, the oldest first.
pub(super) async fn expire(connection: &mut SqliteConnection, before: MessageId, limit: u32) -> Result<u64, Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (before, limit) = (id_bytes(before), i64::from(limit));
    sqlx::query(EXPIRE_KEYS).bind(before.as_slice()).bind(limit).execute(&mut *transaction).await?;
    let done = sqlx::query(EXPIRE).bind(before.as_slice()).bind(limit).execute(&mut *transaction).await?;
    sqlx::query(EXPIRE_SEGMENTS).bind(before).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(done.rows_affected())
}

/// Deletes all rows of an account, within a transaction of the caller's.
pub(super) async fn remove_account(connection: &mut SqliteConnection, account: &str) -> Result<(), Error> {
    sqlx::query(REMOVE).bind(account).execute(&mut *connection).await?;
    sqlx::query(REMOVE_KEYS).bind(account).execute(connection).await?;
    Ok(())
}
