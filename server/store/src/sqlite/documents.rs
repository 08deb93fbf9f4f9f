//! The table of documents.

use async_trait::async_trait;
use sqlx::{Connection, Row};
use starling_xmpp::jid::BareJid;

use super::{SqliteStore, renew, rows};
use crate::{Documents, Error};

const GET: &str = "SELECT value FROM document WHERE account = ? AND kind = ? AND key = ?";
const PUT: &str = "INSERT INTO document (account, kind, key, value) VALUES (?, ?, ?, ?) \
    ON CONFLICT (account, kind, key) DO UPDATE SET value = excluded.value";
const REMOVE: &str = "DELETE FROM document WHERE account = ? AND kind = ? AND key = ?";

#[async_trait]
impl Documents for SqliteStore {
    async fn document(&self, account: &BareJid, kind: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let found = sqlx::query(GET).bind(account.as_str()).bind(kind).bind(key);
        match found.fetch_optional(&self.readers).await? {
            Some(row) => Ok(Some(row.try_get(0)?)),
            None => Ok(None),
        }
    }

    async fn documents(&self, account: &BareJid, kind: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let statement = "SELECT key, value FROM document WHERE account = ? AND kind = ? ORDER BY key";
        let found = sqlx::query(statement).bind(account.as_str()).bind(kind).fetch_all(&self.readers).await?;
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
        let account = account.as_str();
        let mut connection = self.write().await?;
        let result = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            if !rows::exists(&mut transaction, account).await? {
                return Ok(false);
            }
            let others = "SELECT coalesce(sum(length(value)), 0) FROM document \
                          WHERE account = ? AND kind = ? AND key <> ?";
            let others = sqlx::query(others).bind(account).bind(kind).bind(key).fetch_one(&mut *transaction).await?;
            let others = usize::try_from(others.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
            if others.saturating_add(value.len()) > limit {
                return Ok(false);
            }
            let put = sqlx::query(PUT).bind(account).bind(kind).bind(key).bind(value);
            put.execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(true)
        }
        .await;
        renew(connection, result).await
    }

    async fn swap_document(
        &self,
        account: &BareJid,
        kind: &str,
        key: &str,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<bool, Error> {
        let account = account.as_str();
        let mut connection = self.write().await?;
        let result = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let found = sqlx::query(GET).bind(account).bind(kind).bind(key).fetch_optional(&mut *transaction).await?;
            let found: Option<Vec<u8>> = found.map(|row| row.try_get(0)).transpose()?;
            if found.as_deref() != before || !rows::exists(&mut transaction, account).await? {
                return Ok(false);
            }
            let change = match after {
                Some(after) => sqlx::query(PUT).bind(account).bind(kind).bind(key).bind(after),
                None => sqlx::query(REMOVE).bind(account).bind(kind).bind(key),
            };
            change.execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(true)
        }
        .await;
        renew(connection, result).await
    }

    async fn remove_document(&self, account: &BareJid, kind: &str, key: &str) -> Result<bool, Error> {
        let done =
            sqlx::query(REMOVE).bind(account.as_str()).bind(kind).bind(key).execute(&mut *self.write().await?).await?;
        Ok(done.rows_affected() > 0)
    }
}
