//! The table of documents.

use async_trait::async_trait;
use sqlx::Row;
use starling_xmpp::jid::BareJid;

use super::{PgStore, lane::answered, rosters::LOCK};
use crate::{Documents, Error};

const GET: &str = "SELECT value FROM document \
    WHERE account = (SELECT account.id FROM account WHERE account.jid = $1) AND kind = $2 AND key = $3";
const LIST: &str = "SELECT key, value FROM document \
    WHERE account = (SELECT account.id FROM account WHERE account.jid = $1) AND kind = $2 ORDER BY key";
const OTHERS: &str = "SELECT coalesce(sum(octet_length(value)), 0)::bigint FROM document \
    WHERE account = $1 AND kind = $2 AND key <> $3";
const PUT: &str = "INSERT INTO document (account, kind, key, value) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (account, kind, key) DO UPDATE SET value = excluded.value";
const REMOVE: &str = "DELETE FROM document \
    WHERE account = (SELECT account.id FROM account WHERE account.jid = $1) AND kind = $2 AND key = $3";

#[async_trait]
impl Documents for PgStore {
    async fn document(&self, account: &BareJid, kind: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut lease = self.other.lease().await?;
        let found = sqlx::query(GET).bind(account.as_str()).bind(kind).bind(key);
        let found = answered(found.fetch_optional(lease.connection()?)).await?;
        lease.settle();
        Ok(found.map(|row| row.try_get(0)).transpose()?)
    }

    async fn documents(&self, account: &BareJid, kind: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut lease = self.other.lease().await?;
        let found = sqlx::query(LIST).bind(account.as_str()).bind(kind).fetch_all(lease.connection()?);
        let found = answered(found).await?;
        lease.settle();
        found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    async fn put_document(
        &self,
        account: &BareJid,
        kind: &str,
        key: &str,
        value: &[u8],
        limit: usize,
    ) -> Result<bool, Error> {
        let mut lease = self.other.lease().await?;
        let mut transaction = lease.begin().await?;
        // Whoever puts another at the same time waits, and finds this one.
        let locked = sqlx::query(LOCK).bind(account.as_str()).fetch_optional(&mut *transaction);
        let fits = match answered(locked).await? {
            Some(locked) => {
                let account: i64 = locked.try_get(0)?;
                let others = sqlx::query(OTHERS).bind(account).bind(kind).bind(key).fetch_one(&mut *transaction);
                let others: i64 = answered(others).await?.try_get(0)?;
                let fits = usize::try_from(others).unwrap_or(usize::MAX).saturating_add(value.len()) <= limit;
                if fits {
                    let put = sqlx::query(PUT).bind(account).bind(kind).bind(key).bind(value);
                    answered(put.execute(&mut *transaction)).await?;
                }
                fits
            }
            None => false,
        };
        answered(transaction.commit()).await?;
        lease.settle();
        Ok(fits)
    }

    async fn swap_document(
        &self,
        account: &BareJid,
        kind: &str,
        key: &str,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<bool, Error> {
        let mut lease = self.other.lease().await?;
        let mut transaction = lease.begin().await?;
        // Whoever changes another at the same time waits, and finds this one.
        let locked = sqlx::query(LOCK).bind(account.as_str()).fetch_optional(&mut *transaction);
        let Some(locked) = answered(locked).await? else { return Ok(false) };
        let found = sqlx::query(GET).bind(account.as_str()).bind(kind).bind(key).fetch_optional(&mut *transaction);
        let found: Option<Vec<u8>> = answered(found).await?.map(|row| row.try_get(0)).transpose()?;
        let is_same = found.as_deref() == before;
        if is_same {
            let change = match after {
                Some(after) => {
                    let account: i64 = locked.try_get(0)?;
                    sqlx::query(PUT).bind(account).bind(kind).bind(key).bind(after)
                }
                None => sqlx::query(REMOVE).bind(account.as_str()).bind(kind).bind(key),
            };
            answered(change.execute(&mut *transaction)).await?;
        }
        answered(transaction.commit()).await?;
        lease.settle();
        Ok(is_same)
    }

    async fn remove_document(&self, account: &BareJid, kind: &str, key: &str) -> Result<bool, Error> {
        let mut lease = self.other.lease().await?;
        let mut transaction = lease.begin().await?;
        let removed = sqlx::query(REMOVE).bind(account.as_str()).bind(kind).bind(key).execute(&mut *transaction);
        let removed = answered(removed).await?.rows_affected() > 0;
        answered(transaction.commit()).await?;
        lease.settle();
        Ok(removed)
    }
}
