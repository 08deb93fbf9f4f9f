//! Connections for one kind of work, so that no kind takes those of another.
//!
//! ```text
//!   lease ──► waits for one of the lane's places, not long, and not too many at once
//!         ──► a connection that is idle, or a new one ──► work ──┬─► settled ──► idle again
//!                                                                └─► dropped: something failed, or the caller left
//!                                                                      │
//!                       idle again ◄── what was begun is rolled back ◄─┴─► closed
//! ```
//!
//! Not the pool of `sqlx`: that one asks the server whether it is there each time that a connection comes back, which is
//! a way there and back more for each piece of work, and it reads no password.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection, PgConnection, Postgres, Transaction};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use super::config::{ANSWER, Connector, LOCK, STATEMENT};
use crate::Error;

/// For a place in a lane.
const WAIT: Duration = Duration::from_secs(5);
/// How many may wait for one; the next is refused at once.
const WAITING: usize = 1024;
/// A connection that was idle for longer is asked first whether it still is one.
const TRUSTED: Duration = Duration::from_secs(1);
/// For the answer of a statement: longer than the server works at one, with what a lost packet costs.
const PATIENCE: Duration = STATEMENT.saturating_add(ANSWER);
/// For what is still on its way on a connection whose caller left: its place is not free before.
const MENDING: Duration = LOCK.saturating_add(ANSWER);
/// Answers that are failures, at most, before a connection is as it was.
const FAILURES: usize = 4;

/// What becomes of a connection that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsettled {
    /// What was begun on it is waited for and rolled back: callers that leave cost no connection.
    Mended,
    /// It is closed.
    Closed,
}

/// See the module.
pub(super) struct Lane {
    connector: Connector,
    /// The statement that begins a transaction that writes.
    begin: String,
    unsettled: Unsettled,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
    /// Those that mend: no more than there are places.
    tasks: TaskTracker,
}

struct Idle {
    connection: PgConnection,
    process: i32,
    since: Instant,
}

/// A connection, for one piece of work.
pub(super) struct Lease {
    lane: Arc<Lane>,
    /// `None`: given back.
    held: Option<Held>,
}

struct Held {
    connection: PgConnection,
    process: i32,
    // Goes after the connection has.
    place: OwnedSemaphorePermit,
}

impl Lane {
    /// A lane of up to `size` connections. Transactions that write are begun by `begin`.
    pub(super) fn new(connector: Connector, begin: String, size: usize, unsettled: Unsettled) -> Arc<Self> {
        Arc::new(Self {
            connector,
            begin,
            unsettled,
            places: Arc::new(Semaphore::new(size)),
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// A connection, once there is one.
    ///
    /// # Errors
    /// [`Error::Busy`] when it takes too long, or too many wait.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Error> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => self.wait().await?,
        };
        let lease = |connection, process, place| {
            let held = Some(Held { connection, process, place });
            Ok(Lease { lane: Arc::clone(self), held })
        };
        if let Some(Idle { mut connection, process, since }) = self.pop() {
            let is_there = since.elapsed() < TRUSTED
                || timeout(ANSWER, connection.ping()).await.is_ok_and(|answered| answered.is_ok());
            if is_there {
                return lease(connection, process, place);
            }
            // Those that were idle for as long are no better.
            self.idle().clear();
        }
        let (connection, process) = self.connector.connect().await?;
        lease(connection, process, place)
    }

    async fn wait(&self) -> Result<OwnedSemaphorePermit, Error> {
        /// Whoever leaves in the middle does not wait any more either.
        struct Waiting<'l>(&'l AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= WAITING {
            return Err(Error::Busy(sqlx::Error::PoolTimedOut));
        }
        match timeout(WAIT, Arc::clone(&self.places).acquire_owned()).await {
            Ok(place) => place.map_err(|_| Error::Backend(sqlx::Error::PoolClosed)),
            Err(_) => Err(Error::Busy(sqlx::Error::PoolTimedOut)),
        }
    }

    fn pop(&self) -> Option<Idle> {
        self.idle().pop()
    }

    /// Nobody gets one any more; those that are idle are closed in order, the others when they come back.
    pub(super) async fn close(&self) {
        self.places.close();
        self.tasks.close();
        self.tasks.wait().await;
        let idle = mem::take(&mut *self.idle());
        for Idle { connection, .. } in idle {
            timeout(ANSWER, connection.close()).await.ok();
        }
    }

    fn give_back(&self, Held { connection, process, place }: Held) {
        if !self.places.is_closed() {
            self.idle().push(Idle { connection, process, since: Instant::now() });
        }
        drop(place);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The connection, for statements that are transactions of their own.
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        // It is here as long as there is a lease.
        self.held.as_mut().map(|held| &mut held.connection).ok_or(Error::Backend(sqlx::Error::PoolClosed))
    }

    /// The server's process at the other end.
    pub(super) fn process(&self) -> Option<i32> {
        self.held.as_ref().map(|held| held.process)
    }

    /// Begins a transaction that writes: [`Error::Revoked`] if this instance may not.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_, Postgres>, Error> {
        let begin = sqlx::AssertSqlSafe(self.lane.begin.clone());
        answered(self.connection()?.begin_with(begin)).await
    }

    /// Gives the connection back: nothing failed on it, and no transaction is open.
    pub(super) fn settle(mut self) {
        if let Some(held) = self.held.take() {
            self.lane.give_back(held);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        // Where the runtime has ended, everything has.
        if let (Unsettled::Mended, Ok(runtime)) = (self.lane.unsettled, Handle::try_current()) {
            let lane = Arc::clone(&self.lane);
            let mending = self.lane.tasks.track_future(async move {
                if let Some(held) = mend(held).await {
                    lane.give_back(held);
                }
            });
            drop(runtime.spawn(mending));
        }
    }
}

/// Waits for what is on its way, and ends the transaction, if there is one. `None`: it cannot be used any more.
async fn mend(mut held: Held) -> Option<Held> {
    let mending = async {
        for _ in 0..FAILURES {
            match sqlx::raw_sql("ROLLBACK").execute(&mut held.connection).await {
                Ok(_) => return true,
                // The answer to what was on its way.
                Err(sqlx::Error::Database(_)) => {}
                Err(_) => return false,
            }
        }
        false
    };
    timeout(MENDING, mending).await.unwrap_or_default().then_some(held)
}

/// What the database answers, if it does in time. A connection that it did not answer on must not be used again.
pub(super) async fn answered<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match timeout(PATIENCE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::NoAnswer),
    }
}
