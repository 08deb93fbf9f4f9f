//! The table of messages. What a change means is in the functions of the migrations: each call is one way there and
//! back, and a transaction.

use async_trait::async_trait;
use sqlx::{Connection as _, Row as _, postgres::PgRow};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{PgStore, claimed::Claimed, commit, group::uuid, instances::bits, is_text, lane::answered};
use crate::{Change, Direction, Error, MessageId, Messages, PendingRow, RowState, StoredRow};

// An account is named by a subquery: a join might be carried out from the other side.
pub(super) const PENDING: &str = "SELECT count(*) FROM (SELECT FROM message_open AS o \
    WHERE o.account = (SELECT a.id FROM account AS a WHERE a.jid = $1) AND o.holder = 0 LIMIT $2) AS waiting";
pub(super) const WAITING: &str = "SELECT (SELECT true FROM message_open AS o \
    WHERE o.account = (SELECT a.id FROM account AS a WHERE a.jid = key.jid) AND o.holder = 0 LIMIT 1) IS NOT NULL \
    FROM unnest($1) WITH ORDINALITY AS key (jid, n) ORDER BY key.n";
pub(super) const CLAIM: &str = "SELECT id, peer, archived, stanza FROM message_claim($1, $2, $3, $4, $5)";
pub(super) const RELEASE: &str = "SELECT message_release($1, $2, $3)";
pub(super) const RELEASE_ACCOUNT: &str = "SELECT message_release_account($1, $2, $3)";
pub(super) const SENT: &str = "SELECT m.origin, m.stanza FROM message AS m \
    WHERE m.account = (SELECT a.id FROM account AS a WHERE a.jid = $1) AND m.id > $2 AND m.archived \
    AND substring(m.origin FROM 1 FOR 16) = $3";
pub(super) const EXPIRE: &str = "SELECT message_expire($1, $2, $3)";
pub(super) const ROWS: &str = "SELECT m.id, m.peer, m.direction, m.archived, m.stanza, ( \
        SELECT CASE bool_or(o.holder = 0) WHEN true THEN 1 WHEN false THEN 2 ELSE 0 END \
        FROM message_open AS o WHERE o.account = m.account AND o.id = m.id) AS state \
    FROM message AS m WHERE m.account = (SELECT a.id FROM account AS a WHERE a.jid = $1) AND m.id >= $2 \
    ORDER BY m.id LIMIT $3";

/// How often a claim is tried while others are always faster.
const CLAIMS: u32 = 50;
/// Accounts that were removed a while ago and are forgotten at one time.
const SWEPT: u32 = 1000;

fn read_sent(row: &PgRow) -> Result<(u32, Vec<u8>), Error> {
    let origin: Vec<u8> = row.try_get(0)?;
    let count = origin.get(16..).and_then(|count| count.try_into().ok()).map(u32::from_be_bytes);
    let count = count.ok_or_else(|| Error::Corrupt(format!("an origin of {} bytes", origin.len())))?;
    Ok((count, row.try_get(1)?))
}

fn read_id(row: &PgRow) -> Result<MessageId, Error> {
    Ok(MessageId(row.try_get::<Uuid, _>("id")?.as_u128()))
}

fn pending_row(row: &PgRow) -> Result<PendingRow, Error> {
    Ok(PendingRow {
        id: read_id(row)?,
        peer: row.try_get("peer")?,
        archived: row.try_get("archived")?,
        stanza: row.try_get("stanza")?,
    })
}

fn stored_row(row: &PgRow) -> Result<StoredRow, Error> {
    let direction = match row.try_get::<i16, _>("direction")? {
        0 => Direction::Sent,
        1 => Direction::Received,
        other => return Err(Error::Corrupt(format!("the direction {other}"))),
    };
    let state = match row.try_get::<i32, _>("state")? {
        1 => RowState::Pending,
        2 => RowState::InFlight,
        _ => RowState::Delivered,
    };
    Ok(StoredRow {
        id: read_id(row)?,
        peer: row.try_get("peer")?,
        direction,
        state,
        archived: row.try_get("archived")?,
        stanza: row.try_get("stanza")?,
    })
}

fn limit(most: u32) -> i32 {
    i32::try_from(most).unwrap_or(i32::MAX)
}

/// What is claimed.
enum Most {
    /// So many of the oldest, and no more when there are so many bytes.
    Oldest(u32, usize),
    /// These, as far as they wait.
    These(Vec<Uuid>),
}

impl PgStore {
    /// Claims, and commits only when the rows are here: what is not committed waits as before.
    async fn claim_now(&self, account: &str, most: &Most) -> Result<Vec<PendingRow>, Error> {
        let mut lease = self.other.lease().await?;
        let mut transaction = answered(lease.connection()?.begin()).await?;
        let claimed = sqlx::query(CLAIM).bind(bits(self.instance)).bind(account);
        let claimed = match most {
            Most::Oldest(most, bytes) => {
                let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
                claimed.bind(limit(*most)).bind(bytes).bind(None::<Vec<Uuid>>)
            }
            Most::These(ids) => claimed.bind(i32::MAX).bind(i64::MAX).bind(Some(ids.clone())),
        };
        let claimed = answered(claimed.fetch_all(&mut *transaction)).await?;
        let claimed: Vec<_> = claimed.iter().map(pending_row).collect::<Result<_, _>>()?;
        match answered(transaction.commit()).await {
            Ok(()) => lease.settle(),
            // Nobody knows whether they are claimed. If they are, nobody else hands them out; if not, somebody may, and
            // they are sent twice; whoever has them settles them either way.
            Err(error) if error.is_transient() && !claimed.is_empty() => {}
            Err(error) => return Err(error),
        }
        Ok(claimed)
    }

    /// Goes on if the caller leaves: what is claimed by then is handed back.
    async fn claim_most(&self, account: &str, most: Most) -> Result<Vec<PendingRow>, Error> {
        let (sender, receiver) = oneshot::channel();
        let (store, account) = (self.clone(), account.to_owned());
        self.tasks.spawn(async move {
            let claimed = store.claim_now(&account, &most).await;
            drop(sender.send(claimed.map(|rows| Claimed::new(store, account, rows))));
        });
        Ok(receiver.await.unwrap_or(Err(Error::Backend(sqlx::Error::WorkerCrashed)))?.take())
    }

    /// Deletes what accounts have left that were removed a while ago.
    async fn sweep(&self) -> Result<(), Error> {
        for _ in 0..SWEPT {
            if !self.sweep_piece(None).await? {
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Messages for PgStore {
    async fn commit(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        commit::commit(self, changes).await
    }

    async fn pending(&self, account: &str, at_most: u32) -> Result<u32, Error> {
        if !is_text(account) {
            return Ok(0);
        }
        let mut lease = self.other.lease().await?;
        let row = sqlx::query(PENDING).bind(account).bind(i64::from(at_most)).fetch_one(lease.connection()?);
        let row = answered(row).await?;
        lease.settle();
        Ok(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX))
    }

    async fn claim(&self, account: &str, limit: u32, bytes: usize) -> Result<Vec<PendingRow>, Error> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        for _ in 0..CLAIMS {
            // Most who ask have none, and write nothing.
            if self.pending(account, 1).await? == 0 {
                return Ok(Vec::new());
            }
            let claimed = self.claim_most(account, Most::Oldest(limit, bytes)).await?;
            if !claimed.is_empty() {
                return Ok(claimed);
            }
        }
        Err(Error::NoAnswer)
    }

    async fn claim_these(&self, account: &str, ids: &[MessageId]) -> Result<Vec<PendingRow>, Error> {
        if ids.is_empty() || !is_text(account) {
            return Ok(Vec::new());
        }
        self.claim_most(account, Most::These(ids.iter().map(|id| uuid(*id)).collect())).await
    }

    async fn waiting(&self, accounts: &[&str]) -> Result<Vec<bool>, Error> {
        // One that cannot be asked for is asked for as one that is not there.
        let accounts: Vec<_> = accounts.iter().map(|account| if is_text(account) { account } else { "" }).collect();
        let mut lease = self.other.lease().await?;
        let found = answered(sqlx::query(WAITING).bind(accounts).fetch_all(lease.connection()?)).await?;
        lease.settle();
        found.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    async fn release(&self, holder: u64, most: u32) -> Result<Vec<String>, Error> {
        let mut lease = self.other.lease().await?;
        let released = sqlx::query(RELEASE).bind(bits(self.instance)).bind(bits(holder)).bind(limit(most));
        let released = answered(released.fetch_all(lease.connection()?)).await?;
        lease.settle();
        released.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    async fn release_account(&self, account: &str, holder: u64) -> Result<Vec<MessageId>, Error> {
        if !is_text(account) {
            return Ok(Vec::new());
        }
        let mut lease = self.other.lease().await?;
        let released = sqlx::query(RELEASE_ACCOUNT).bind(bits(self.instance)).bind(account).bind(bits(holder));
        let released = answered(released.fetch_all(lease.connection()?)).await?;
        lease.settle();
        released.iter().map(|row| Ok(MessageId(row.try_get::<Uuid, _>(0)?.as_u128()))).collect()
    }

    async fn sent(&self, account: &str, stream: u128, since: MessageId) -> Result<Vec<(u32, Vec<u8>)>, Error> {
        if !is_text(account) {
            return Ok(Vec::new());
        }
        let stream = stream.to_be_bytes().to_vec();
        let mut lease = self.other.lease().await?;
        let found = sqlx::query(SENT).bind(account).bind(uuid(since)).bind(stream);
        let found = answered(found.fetch_all(lease.connection()?)).await?;
        lease.settle();
        found.iter().map(read_sent).collect()
    }

    async fn expire(&self, before: MessageId, most: u32) -> Result<u64, Error> {
        self.sweep().await?;
        let mut lease = self.other.lease().await?;
        let expired = sqlx::query(EXPIRE).bind(bits(self.instance)).bind(uuid(before)).bind(limit(most));
        let expired = answered(expired.fetch_one(lease.connection()?)).await?;
        lease.settle();
        Ok(u64::try_from(expired.try_get::<i64, _>(0)?).unwrap_or_default())
    }

    async fn rows(&self, account: &str, after: Option<MessageId>, most: u32) -> Result<Vec<StoredRow>, Error> {
        let first = match after {
            None => Some(0),
            Some(after) => after.0.checked_add(1),
        };
        let Some(first) = first.filter(|_| is_text(account)) else { return Ok(Vec::new()) };
        let mut lease = self.other.lease().await?;
        let found = sqlx::query(ROWS).bind(account).bind(uuid(MessageId(first))).bind(i64::from(most));
        let found = answered(found.fetch_all(lease.connection()?)).await?;
        lease.settle();
        found.iter().map(stored_row).collect()
    }
}
