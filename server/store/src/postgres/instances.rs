//! Who may write.
//!
//! ```text
//!   B, each transaction:  lock(B), shared, to the end ──► not revoked? ──► writes ──► commit
//!   A, revokes B:         revoked(B), committed ──► lock(B), alone ──► done
//! ```
//!
//! A transaction of B that has its lock before A asks for it is waited for; one that gets it later looks after A's
//! commit, and is refused. The same lock is taken by those that write of B that it has a message. A backend of B that
//! hangs, its client's machine paused in the middle, is ended.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row;
use tracing::warn;

use super::{
    PgStore,
    config::application_name,
    lane::{Lane, answered},
};
use crate::{Error, Instances};

/// How often the lock is asked for, a second each: others who would write of the instance wait behind that meanwhile.
const ATTEMPTS: u32 = 8;

/// Numbers of instances are stored by their bits.
pub(super) const fn bits(instance: u64) -> i64 {
    instance.cast_signed()
}

/// Begins transactions that write.
pub(super) fn begin(instance: u64) -> String {
    let own = bits(instance);
    format!("BEGIN; SELECT may_write({own}, '{{{own}}}')")
}

/// Takes the right to write, and forgets those who lost it long ago.
///
/// # Errors
/// [`Error::Revoked`]: it was taken away already.
pub(super) async fn register(lane: &Arc<Lane>, instance: u64) -> Result<(), Error> {
    let mut lease = lane.lease().await?;
    let statement = "INSERT INTO instance (id) VALUES ($1) ON CONFLICT DO NOTHING";
    answered(sqlx::query(statement).bind(bits(instance)).execute(lease.connection()?)).await?;
    let mut transaction = lease.begin().await?;
    // Who is not there has no right either.
    let statement = "DELETE FROM instance AS i WHERE i.revoked AND i.revoked_at < now() - interval '7 days' \
                     AND (SELECT true FROM message_open AS o WHERE o.holder = i.id AND o.holder <> 0 LIMIT 1) IS NULL";
    answered(sqlx::query(statement).execute(&mut *transaction)).await?;
    answered(transaction.commit()).await?;
    lease.settle();
    Ok(())
}

impl PgStore {
    /// Whether nothing of the instance is in progress any more.
    async fn waits_for(&self, lock: &'static str, instance: u64) -> Result<bool, Error> {
        let mut lease = self.other.lease().await?;
        let mut transaction = answered(sqlx::Connection::begin(lease.connection()?)).await?;
        answered(sqlx::raw_sql("SET LOCAL lock_timeout = '1s'").execute(&mut *transaction)).await?;
        match answered(sqlx::query(lock).bind(bits(instance)).fetch_one(&mut *transaction)).await {
            Ok(row) => {
                let is_ours = row.try_get::<bool, _>(0)?;
                answered(transaction.rollback()).await?;
                lease.settle();
                Ok(is_ours)
            }
            Err(Error::Busy(sqlx::Error::Database(error))) if error.code().as_deref() == Some("55P03") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends what serves the instance, of the same role as we are.
    async fn end(&self, instance: u64) -> Result<(), Error> {
        let mut lease = self.other.lease().await?;
        let statement = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                         WHERE application_name = $1 AND datname = current_database() AND usename = current_user";
        let ended = sqlx::query(statement).bind(application_name(instance));
        let ended: i64 = answered(ended.fetch_one(lease.connection()?)).await?.try_get(0)?;
        lease.settle();
        warn!(instance = %format_args!("{instance:016x}"), connections = ended, "Connections of a revoked instance ended");
        Ok(())
    }
}

#[async_trait]
impl Instances for PgStore {
    async fn revoke(&self, instance: u64) -> Result<(), Error> {
        if instance == 0 {
            return Ok(());
        }
        let mut lease = self.other.lease().await?;
        let mut transaction = lease.begin().await?;
        // One that is not there, or comes later, is refused as well.
        let statement = "INSERT INTO instance (id, revoked, revoked_at) VALUES ($1, true, now()) \
                         ON CONFLICT (id) DO UPDATE SET revoked = true, revoked_at = now() WHERE NOT instance.revoked";
        answered(sqlx::query(statement).bind(bits(instance)).execute(&mut *transaction)).await?;
        answered(transaction.commit()).await?;
        lease.settle();

        // What was in progress when that was committed is waited for. Mostly there is nothing, and nobody has to wait
        // behind us.
        if self.waits_for("SELECT pg_try_advisory_xact_lock($1)", instance).await? {
            return Ok(());
        }
        for attempt in 0..ATTEMPTS {
            // The function itself returns nothing.
            let lock = "SELECT pg_advisory_xact_lock($1) IS NOT NULL";
            if self.waits_for(lock, instance).await? {
                return Ok(());
            }
            // Again and again: it may have had more on its way. Its own connections are not ended by itself.
            if attempt > 0 && instance != self.instance {
                self.end(instance).await?;
            }
        }
        Err(Error::NoAnswer)
    }

    async fn retire(&self) -> Result<(), Error> {
        let own = bits(self.instance);
        let mut lease = self.other.lease().await?;
        let mut transaction = answered(sqlx::Connection::begin(lease.connection()?)).await?;
        // What names us is waited for; what comes later does not find us.
        answered(sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(own).execute(&mut *transaction)).await?;
        let statement = "DELETE FROM instance WHERE id = $1 AND NOT revoked \
                         AND (SELECT true FROM message_open AS o WHERE o.holder = $1 AND o.holder <> 0 LIMIT 1) IS NULL";
        answered(sqlx::query(statement).bind(own).execute(&mut *transaction)).await?;
        answered(transaction.commit()).await?;
        lease.settle();
        Ok(())
    }

    async fn others(&self) -> Result<Vec<u64>, Error> {
        let mut lease = self.other.lease().await?;
        let statement = "SELECT i.id FROM instance AS i WHERE i.id <> $1 AND (NOT i.revoked OR ( \
                         SELECT true FROM message_open AS o WHERE o.holder = i.id AND o.holder <> 0 LIMIT 1) IS NOT NULL)";
        let found = sqlx::query(statement).bind(bits(self.instance)).fetch_all(lease.connection()?);
        let found = answered(found).await?;
        lease.settle();
        found.iter().map(|row| Ok(row.try_get::<i64, _>(0)?.cast_unsigned())).collect()
    }

    async fn is_revoked(&self) -> Result<bool, Error> {
        let mut lease = self.other.lease().await?;
        let statement = "SELECT true FROM instance WHERE id = $1 AND NOT revoked";
        let found = sqlx::query(statement).bind(bits(self.instance)).fetch_optional(lease.connection()?);
        let found = answered(found).await?;
        lease.settle();
        Ok(found.is_none())
    }
}
