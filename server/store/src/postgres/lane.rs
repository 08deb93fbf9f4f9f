//! Connections for one kind of work, so that no kind takes those of another.
//!
//! ```text
//!   lease ──► waits for one of the lane's places, not long, and not too many at once
//!         ──► a connection that is idle, or a new one ──► work ──► settled ──► idle again
//!                                                              └─► dropped: it is closed, and whatever was not committed is undone
//! ```
//!
//! Not the pool of `sqlx`: that one asks the server whether it is there each time that a connection comes back, which
//! costs as much as a small group of messages, and it reads no password.

use std::{
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection, PgConnection, Postgres, Transaction};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::config::{ANSWER, Connector, STATEMENT};
use crate::Error;

/// For a place in a lane.
const WAIT: Duration = Duration::from_secs(5);
/// How many may wait for one; the next is refused at once.
const WAITING: usize = 1024;
/// A connection that was idle for longer is asked first whether it still is one.
const TRUSTED: Duration = Duration::from_secs(1);
/// For the answer of a statement: longer than the server works at one, with what a lost packet costs.
const PATIENCE: Duration = STATEMENT.saturating_add(ANSWER);

/// See the module.
pub(super) struct Lane {
    connector: Connector,
    /// The statement that begins a transaction that writes.
    begin: String,
    places: Semaphore,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: PgConnection,
    process: i32,
    since: Instant,
}

/// A connection, for one piece of work.
pub(super) struct Lease<'l> {
    lane: &'l Lane,
    connection: PgConnection,
    process: i32,
    _place: SemaphorePermit<'l>,
}

impl Lane {
    /// A lane of up to `size` connections. Transactions that write are begun by `begin`.
    pub(super) fn new(connector: Connector, begin: String, size: usize) -> Self {
        let (places, waiting, idle) = (Semaphore::new(size), AtomicUsize::new(0), Mutex::default());
        Self { connector, begin, places, waiting, idle }
    }

    /// A connection, once there is one.
    ///
    /// # Errors
    /// [`Error::Busy`] when it takes too long, or too many wait.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, Error> {
        let place = match self.places.try_acquire() {
            Ok(place) => place,
            Err(_) => self.wait().await?,
        };
        if let Some(Idle { mut connection, process, since }) = self.pop() {
            let is_there = since.elapsed() < TRUSTED
                || timeout(ANSWER, connection.ping()).await.is_ok_and(|answered| answered.is_ok());
            if is_there {
                return Ok(Lease { lane: self, connection, process, _place: place });
            }
            // Those that were idle for as long are no better.
            self.forget();
        }
        let (connection, process) = self.connector.connect().await?;
        Ok(Lease { lane: self, connection, process, _place: place })
    }

    async fn wait(&self) -> Result<SemaphorePermit<'_>, Error> {
        /// Whoever leaves in the middle does not wait any more either.
        struct Waiting<'l>(&'l AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let waiting = Waiting(&self.waiting);
        if waiting.0.fetch_add(1, Ordering::Relaxed) >= WAITING {
            return Err(Error::Busy(sqlx::Error::PoolTimedOut));
        }
        match timeout(WAIT, self.places.acquire()).await {
            Ok(place) => place.map_err(|_| Error::Backend(sqlx::Error::PoolClosed)),
            Err(_) => Err(Error::Busy(sqlx::Error::PoolTimedOut)),
        }
    }

    fn pop(&self) -> Option<Idle> {
        self.idle().pop()
    }

    fn forget(&self) {
        self.idle().clear();
    }

    /// Nobody gets one any more; those that are idle are closed in order, the others when they come back.
    pub(super) async fn close(&self) {
        self.places.close();
        let idle = mem::take(&mut *self.idle());
        for Idle { connection, .. } in idle {
            timeout(ANSWER, connection.close()).await.ok();
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// The connection, for statements that are transactions of their own.
    pub(super) const fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// The server's process at the other end.
    pub(super) const fn process(&self) -> i32 {
        self.process
    }

    /// Begins a transaction that writes: [`Error::Revoked`] if this instance may not.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_, Postgres>, Error> {
        let begin = sqlx::AssertSqlSafe(self.lane.begin.clone());
        answered(self.connection.begin_with(begin)).await
    }

    /// Gives the connection back: nothing failed on it, and no transaction is open.
    pub(super) fn settle(self) {
        let Self { lane, connection, process, _place } = self;
        if !lane.places.is_closed() {
            lane.idle().push(Idle { connection, process, since: Instant::now() });
        }
    }
}

/// What the database answers, if it does in time. A connection that it did not answer on must not be used again.
pub(super) async fn answered<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match timeout(PATIENCE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::NoAnswer),
    }
}
