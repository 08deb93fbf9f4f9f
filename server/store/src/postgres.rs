//! The store in a PostgreSQL database, for many processes at once. Version 14 or newer.
//!
//! ```text
//!   Journal ─────────► messages  2 connections ─┐
//!   log-ins ─────────► log_ins   1 connection  ─┼──► one database for all: tables, functions that write, and in each
//!   everything else ─► other     the others    ─┘    transaction the check that its instance may (instances.rs)
//! ```
//!
//! Nothing is remembered here, since others change it as well. Whatever the server does, a call ends: statements,
//! transactions without statements, waits for locks and for connections have their time, on both sides; then the call
//! fails with an error that says that a retry is sensible. A group whose answer did not come is ended before it is
//! tried again.
//!
//! Connections are sessions: settings, prepared statements and names by which others end them. PgBouncer in transaction
//! mode keeps none of the three; in session mode it works.

mod accounts;
mod claimed;
mod commit;
mod config;
mod documents;
mod group;
mod instances;
mod lane;
mod messages;
mod rosters;
mod schema;

use std::{borrow::Cow, fmt, sync::Arc};

use async_trait::async_trait;
use sqlx::Row;
use starling_xmpp::{Random, SystemRandom};
use tokio_util::task::TaskTracker;

pub use self::config::{Migrate, PgConfig};
use self::{
    commit::Unanswered,
    config::Connector,
    lane::{Lane, Unsettled, answered},
};
use crate::{Error, Store};

/// Connections that write messages: one is the journal's, one hands claimed messages back.
const MESSAGES: usize = 2;
/// Connections of log-ins.
const LOG_INS: usize = 1;
/// One of each kind at least, and the messages' second.
const FEWEST: usize = 4;

/// See the module. Clones share their connections.
#[derive(Clone)]
pub struct PgStore {
    instance: u64,
    messages: Arc<Lane>,
    log_ins: Arc<Lane>,
    other: Arc<Lane>,
    unanswered: Arc<Unanswered>,
    /// Claims, which end when their callers do not wait any more.
    tasks: TaskTracker,
}

impl PgStore {
    /// Connects, sees to the schema, and takes the right to write. No connection is kept that is not used.
    ///
    /// # Errors
    /// [`Error::NewerSchema`] if a newer release took away what this one needs; [`Error::Revoked`] if the instance was
    /// revoked; [`Error::Config`] and [`Error::File`] for settings that make no sense.
    pub async fn open(config: &PgConfig) -> Result<Self, Error> {
        let connector = connector(config).await?;
        schema::prepare(&connector, config.migrate).await?;
        let connections = usize::try_from(config.connections).unwrap_or(usize::MAX).max(FEWEST);
        let lane = |size, unsettled| Lane::new(connector.clone(), instances::begin(config.instance), size, unsettled);
        let store = Self {
            instance: config.instance,
            messages: lane(MESSAGES, Unsettled::Closed),
            log_ins: lane(LOG_INS, Unsettled::Mended),
            other: lane(connections - MESSAGES - LOG_INS, Unsettled::Mended),
            unanswered: Arc::default(),
            tasks: TaskTracker::new(),
        };
        instances::register(&store.other, config.instance).await?;
        Ok(store)
    }
}

/// Brings the schema up to date, whatever [`PgConfig::migrate`] says, and takes no right to write. Returns the migrations
/// that this call made: none if it was up to date. Many may do it at once.
///
/// # Errors
/// Those of [`PgStore::open`]; [`Error::is_absent`] tells whether the database may come yet.
pub async fn migrate(config: &PgConfig) -> Result<Vec<i64>, Error> {
    schema::prepare(&connector(config).await?, Migrate::Auto).await
}

async fn connector(config: &PgConfig) -> Result<Connector, Error> {
    if let Some(ca) = &config.ca {
        // A missing file would look like a server that is away.
        tokio::fs::metadata(ca).await.map_err(|source| Error::File { path: ca.clone(), source })?;
    }
    Connector::new(config)
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore").field("instance", &format_args!("{:016x}", self.instance)).finish_non_exhaustive()
    }
}

/// PostgreSQL has no NUL in its texts, and neither has anything that comes out of XML or is an address.
fn is_text(text: &str) -> bool {
    !text.contains('\0')
}

/// The text, whatever it is, so that nothing keeps a group from being written.
fn text(text: &str) -> Cow<'_, str> {
    if is_text(text) { Cow::Borrowed(text) } else { Cow::Owned(text.replace('\0', "\u{fffd}")) }
}

#[async_trait]
impl Store for PgStore {
    async fn secret(&self, name: &str, bytes: usize) -> Result<Vec<u8>, Error> {
        let mut fresh = vec![0; bytes];
        SystemRandom.fill(&mut fresh);
        let mut lease = self.other.lease().await?;
        let mut transaction = lease.begin().await?;
        let put = sqlx::query("INSERT INTO secret (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        answered(put.bind(name).bind(fresh).execute(&mut *transaction)).await?;
        // Another process's, if it was the first: it was waited for.
        let get = sqlx::query("SELECT value FROM secret WHERE name = $1").bind(name);
        let row = answered(get.fetch_one(&mut *transaction)).await?;
        answered(transaction.commit()).await?;
        lease.settle();
        let kept: Vec<u8> = row.try_get(0)?;
        if kept.len() == bytes {
            Ok(kept)
        } else {
            Err(Error::Corrupt(format!("the secret {name:?} of {} bytes", kept.len())))
        }
    }

    async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        for lane in [&self.messages, &self.log_ins, &self.other] {
            lane.close().await;
        }
    }
}

#[cfg(test)]
mod tests;
