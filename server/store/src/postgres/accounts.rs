//! Accounts, and what is kept of their passwords.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::{PgConnection, Row, postgres::PgRow};
use starling_xmpp::{
    jid::{self, BareJid},
    sasl::{Credentials, Verifier},
};
use tracing::warn;

use super::{PgStore, instances::bits, lane::answered};
use crate::{Account, Accounts, Error, PutMode};

/// A row for each verifier; one row without any, where there is an account without any.
const CREDENTIALS: &str = "\
    SELECT verifier.hash, verifier.salt, verifier.iterations, verifier.stored_key, verifier.server_key \
    FROM account LEFT JOIN verifier ON verifier.account = account.id WHERE account.jid = $1";

/// Addresses are locked in their order, so that no two wait for each other.
const CREATE: &str = "INSERT INTO account (jid) SELECT jid FROM unnest($1) AS jid ORDER BY jid COLLATE \"C\" \
    ON CONFLICT DO NOTHING RETURNING id, jid";
const FIND: &str = "SELECT id, jid FROM account WHERE jid = ANY ($1) ORDER BY jid FOR NO KEY UPDATE";
/// Also those that are there are locked, and so returned.
const UPSERT: &str = "INSERT INTO account (jid) SELECT jid FROM unnest($1) AS jid ORDER BY jid COLLATE \"C\" \
    ON CONFLICT (jid) DO UPDATE SET jid = excluded.jid RETURNING id, jid";
const CLEAR: &str = "DELETE FROM verifier WHERE account = ANY ($1)";
const WRITE: &str = "INSERT INTO verifier (account, hash, salt, iterations, stored_key, server_key) \
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6)";
/// Its messages are deleted afterwards.
const REMOVE: &str = "WITH gone AS (DELETE FROM account WHERE jid = $1 RETURNING id) \
    INSERT INTO account_removed (account) SELECT id FROM gone RETURNING account";

/// Accounts that are written by one statement.
const AT_ONCE: usize = 500;
/// Messages of a removed account that are deleted in one transaction.
const SWEPT: i32 = 1000;

fn read(rows: &[PgRow]) -> Result<Option<Credentials>, Error> {
    if rows.is_empty() {
        return Ok(None);
    }
    let mut credentials = Credentials::default();
    for row in rows {
        let Some(hash) = row.try_get::<Option<String>, _>("hash")? else { continue };
        let iterations = row.try_get::<i64, _>("iterations")?;
        let verifier = Verifier {
            salt: row.try_get("salt")?,
            iterations: u32::try_from(iterations).map_err(|_| Error::Corrupt(format!("{iterations} iterations")))?,
            stored_key: row.try_get("stored_key")?,
            server_key: row.try_get("server_key")?,
        };
        match hash.as_str() {
            "SHA-1" => credentials.sha1 = Some(verifier),
            "SHA-256" => credentials.sha256 = Some(verifier),
            "SHA-512" => credentials.sha512 = Some(verifier),
            // Of a newer release.
            _ => {}
        }
    }
    Ok(Some(credentials))
}

/// Writes accounts, whose addresses are all different. Returns those that it wrote.
async fn put(connection: &mut PgConnection, accounts: &[&Account], mode: PutMode) -> Result<HashSet<String>, Error> {
    let statement = match mode {
        PutMode::Create => CREATE,
        PutMode::Replace => FIND,
        PutMode::Upsert => UPSERT,
    };
    let jids: Vec<_> = accounts.iter().map(|account| account.jid.as_str()).collect();
    let found = answered(sqlx::query(statement).bind(jids).fetch_all(&mut *connection)).await?;
    let mut numbers = HashMap::with_capacity(found.len());
    for row in &found {
        numbers.insert(row.try_get::<String, _>("jid")?, row.try_get::<i64, _>("id")?);
    }
    if mode != PutMode::Create {
        let all: Vec<_> = numbers.values().copied().collect();
        answered(sqlx::query(CLEAR).bind(all).execute(&mut *connection)).await?;
    }
    let mut of = Vec::new();
    let mut hashes = Vec::new();
    let mut verifiers = Vec::new();
    for account in accounts {
        let Some(number) = numbers.get(account.jid.as_str()) else { continue };
        let Credentials { sha1, sha256, sha512 } = &account.credentials;
        for (hash, verifier) in [("SHA-1", sha1), ("SHA-256", sha256), ("SHA-512", sha512)] {
            if let Some(verifier) = verifier {
                of.push(*number);
                hashes.push(hash);
                verifiers.push(verifier);
            }
        }
    }
    let write = sqlx::query(WRITE)
        .bind(of)
        .bind(hashes)
        .bind(verifiers.iter().map(|verifier| verifier.salt.as_slice()).collect::<Vec<_>>())
        .bind(verifiers.iter().map(|verifier| i64::from(verifier.iterations)).collect::<Vec<_>>())
        .bind(verifiers.iter().map(|verifier| verifier.stored_key.as_slice()).collect::<Vec<_>>())
        .bind(verifiers.iter().map(|verifier| verifier.server_key.as_slice()).collect::<Vec<_>>());
    answered(write.execute(connection)).await?;
    Ok(numbers.into_keys().collect())
}

impl PgStore {
    /// Deletes some messages of an account that was removed (`None`: a while ago). `false`: there is nothing more to
    /// do.
    pub(super) async fn sweep_piece(&self, removed: Option<i64>) -> Result<bool, Error> {
        let mut lease = self.other.lease().await?;
        let swept = sqlx::query("SELECT account_sweep($1, $2, $3)").bind(bits(self.instance)).bind(removed).bind(SWEPT);
        let swept = answered(swept.fetch_one(lease.connection()?)).await?;
        lease.settle();
        Ok(swept.try_get(0)?)
    }
}

#[async_trait]
impl Accounts for PgStore {
    async fn credentials(&self, account: &BareJid) -> Result<Option<Credentials>, Error> {
        let mut lease = self.log_ins.lease().await?;
        let found = answered(sqlx::query(CREDENTIALS).bind(account.as_str()).fetch_all(lease.connection()?)).await?;
        lease.settle();
        read(&found)
    }

    async fn put(&self, accounts: &[Account], mode: PutMode) -> Result<Vec<usize>, Error> {
        // Of those with the same address, the first creates it, and the last says what is kept.
        let mut first = HashMap::with_capacity(accounts.len());
        let mut last = HashMap::with_capacity(accounts.len());
        for (position, account) in accounts.iter().enumerate() {
            first.entry(account.jid.as_str()).or_insert(position);
            last.insert(account.jid.as_str(), position);
        }
        let chosen = if mode == PutMode::Create { &first } else { &last };
        let mut written: Vec<_> = chosen.values().filter_map(|position| accounts.get(*position)).collect();
        written.sort_unstable_by_key(|account| account.jid.as_str());
        let mut known = HashSet::with_capacity(written.len());
        let mut lease = self.other.lease().await?;
        let mut transaction = lease.begin().await?;
        for some in written.chunks(AT_ONCE) {
            known.extend(put(&mut transaction, some, mode).await?);
        }
        answered(transaction.commit()).await?;
        lease.settle();
        let is_left_out = |(position, account): &(usize, &Account)| {
            let jid = account.jid.as_str();
            !known.contains(jid) || (mode == PutMode::Create && first.get(jid) != Some(position))
        };
        Ok(accounts.iter().enumerate().filter(is_left_out).map(|(position, _)| position).collect())
    }

    async fn remove(&self, account: &BareJid) -> Result<bool, Error> {
        let mut lease = self.other.lease().await?;
        let mut transaction = lease.begin().await?;
        let removed = sqlx::query(REMOVE).bind(account.as_str()).fetch_optional(&mut *transaction);
        let removed = answered(removed).await?.map(|row| row.try_get::<i64, _>(0)).transpose()?;
        answered(transaction.commit()).await?;
        lease.settle();
        let Some(number) = removed else { return Ok(false) };
        // It is gone, whatever becomes of the rest: nobody finds that any more, and it is tried again later.
        loop {
            match self.sweep_piece(Some(number)).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    warn!(%error, "Messages of an account that was removed are deleted later");
                    break;
                }
            }
        }
        Ok(true)
    }

    async fn list(&self, after: Option<&BareJid>, limit: u32) -> Result<Vec<BareJid>, Error> {
        let mut lease = self.other.lease().await?;
        let statement = "SELECT jid FROM account WHERE jid > $1 ORDER BY jid LIMIT $2";
        let listed = sqlx::query(statement).bind(after.map_or("", |jid| jid.as_str())).bind(i64::from(limit));
        let listed = answered(listed.fetch_all(lease.connection()?)).await?;
        lease.settle();
        let address = |row: &PgRow| {
            let text = row.try_get::<String, _>(0)?;
            jid::parse_bare(&text).map_err(|_| Error::Corrupt(format!("the account {text:?}")))
        };
        listed.iter().map(address).collect()
    }

    async fn exists(&self, account: &BareJid) -> Result<bool, Error> {
        let mut lease = self.log_ins.lease().await?;
        let found = sqlx::query("SELECT true FROM account WHERE jid = $1").bind(account.as_str());
        let found = answered(found.fetch_optional(lease.connection()?)).await?;
        lease.settle();
        Ok(found.is_some())
    }

    async fn count(&self) -> Result<u64, Error> {
        let mut lease = self.other.lease().await?;
        let row = answered(sqlx::query("SELECT count(*) FROM account").fetch_one(lease.connection()?)).await?;
        lease.settle();
        let count = row.try_get::<i64, _>(0)?;
        u64::try_from(count).map_err(|_| Error::Corrupt(format!("{count} accounts")))
    }
}
