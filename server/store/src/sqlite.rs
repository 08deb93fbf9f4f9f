//! The store in one SQLite file.

mod documents;
mod messages;
mod rosters;
mod rows;
mod segments;

use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{
    Connection, Sqlite, SqliteConnection, SqlitePool,
    migrate::Migrator,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use starling_xmpp::{Random, SystemRandom, jid::BareJid, sasl::Credentials};

use crate::{Account, Accounts, Error, Instances, PutMode, Store, cache::Cache};

/// What this release knows of the schema.
fn migrations() -> Migrator {
    let mut migrations = sqlx::migrate!("migrations/sqlite");
    // A newer release that was here only added: this one still reads and writes what it knows.
    migrations.set_ignore_missing(true);
    migrations
}

/// Applies what is missing, unless a newer release has taken away what this one needs: a migration that does so sets
/// `user_version` to the last migration that a program must know to go on.
async fn migrate(writer: &SqlitePool) -> Result<(), Error> {
    let migrations = migrations();
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or_default();
    let needed = rows::user_version(writer).await?;
    if needed > known {
        return Err(Error::NewerSchema(needed));
    }
    Ok(migrations.run(writer).await?)
}

/// Connections that read at one time. One more waits, up to [`WAIT`].
const READERS: u32 = 4;
/// For a connection, and for the file's lock; then [`Error::Busy`].
const WAIT: Duration = Duration::from_secs(10);

/// Accounts and secrets in one file, in WAL mode, with every commit on disk before it is answered.
#[derive(Debug)]
pub struct SqliteStore {
    /// SQLite has one writer at a time: the others wait here, in order, and not in its busy loop.
    writer: SqlitePool,
    readers: SqlitePool,
    cache: Arc<Cache>,
    /// The writer's connection may have been left without the sync of each commit: see [`SqliteStore::unsynced`].
    unsynced: AtomicBool,
    /// `None`: not known, and read with the next messages. Belongs to whoever has the writer's connection.
    segments: Mutex<Option<segments::Segments>>,
}

impl SqliteStore {
    /// Opens the file, or makes it: mode 0600, in a folder of mode 0700, which is made as well. Applies what migrations
    /// are missing.
    ///
    /// # Errors
    /// [`Error::NewerSchema`] if a newer release has been here; [`Error::File`] if files cannot be used.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        prepare(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(WAIT);
        // No connection of these breaks while it waits: they are not asked before they are used.
        let pool = SqlitePoolOptions::new()
            .acquire_timeout(WAIT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false);
        let writer = pool.clone().max_connections(1).connect_with(options.clone()).await?;
        migrate(&writer).await?;
        let readers = pool.max_connections(READERS).connect_with(options.read_only(true)).await?;
        Ok(Self {
            writer,
            readers,
            cache: Arc::default(),
            unsynced: AtomicBool::new(false),
            segments: Mutex::default(),
        })
    }
}

impl SqliteStore {
    /// The writer, for what has to be on disk when it is committed.
    async fn write(&self) -> Result<PoolConnection<Sqlite>, Error> {
        let mut connection = self.writer.acquire().await?;
        // Whoever left it so was dropped on the way.
        if self.unsynced.load(Ordering::Acquire) {
            self.sync(&mut connection).await?;
        }
        Ok(connection)
    }

    /// The writer, for what may be lost with the machine's power, though not with the process. Give it back by
    /// [`SqliteStore::sync`].
    async fn unsynced(&self) -> Result<PoolConnection<Sqlite>, Error> {
        let mut connection = self.writer.acquire().await?;
        self.unsynced.store(true, Ordering::Release);
        sqlx::query("PRAGMA synchronous = NORMAL").execute(&mut *connection).await?;
        Ok(connection)
    }

    fn known_segments(&self) -> MutexGuard<'_, Option<segments::Segments>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sync(&self, connection: &mut SqliteConnection) -> Result<(), Error> {
        sqlx::query("PRAGMA synchronous = FULL").execute(connection).await?;
        self.unsynced.store(false, Ordering::Release);
        Ok(())
    }
}

/// Gives a connection back after a transaction. One that failed is closed: SQLite may have rolled back by itself, as when
/// the disk is full, and only a new connection knows of no transaction.
async fn renew<T>(connection: PoolConnection<Sqlite>, result: Result<T, Error>) -> Result<T, Error> {
    if result.is_err() {
        connection.close().await.ok();
    }
    result
}

/// Forgets, when it is dropped, what is remembered of accounts that may have changed. Must go before the connection that
/// changed them does, so that the next writer finds nothing stale.
struct Forgetting {
    cache: Arc<Cache>,
    accounts: Vec<BareJid>,
}

impl Drop for Forgetting {
    fn drop(&mut self) {
        self.cache.forget(self.accounts.iter().map(|jid| jid.as_str()));
    }
}

/// Runs a change to its end, also if the caller leaves meanwhile: what was committed would be there and still be
/// remembered otherwise. As many tasks as connections that write, one; [`Store::close`] waits for it.
async fn finish<T: Send + 'static>(
    change: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(change).await.unwrap_or(Err(Error::Backend(sqlx::Error::WorkerCrashed)))
}

/// Nobody but the server's user reads what is in here; SQLite gives its other files the mode of the first.
fn prepare(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

async fn put(connection: &mut SqliteConnection, accounts: &[Account], mode: PutMode) -> Result<Vec<usize>, Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut left_out = Vec::new();
    for (position, account) in accounts.iter().enumerate() {
        let jid = account.jid.as_str();
        let existed = match mode {
            PutMode::Replace => rows::exists(&mut transaction, jid).await?,
            PutMode::Create | PutMode::Upsert => !rows::insert_account(&mut transaction, jid).await?,
        };
        match (mode, existed) {
            (PutMode::Create, true) | (PutMode::Replace, false) => left_out.push(position),
            (PutMode::Create, false) | (PutMode::Replace, true) | (PutMode::Upsert, _) => {
                rows::write_verifiers(&mut transaction, jid, &account.credentials, existed).await?;
            }
        }
    }
    transaction.commit().await?;
    Ok(left_out)
}

#[async_trait]
impl Accounts for SqliteStore {
    async fn credentials(&self, account: &BareJid) -> Result<Option<Credentials>, Error> {
        let epoch = match self.cache.get(account.as_str()) {
            Ok(known) => return Ok(known),
            Err(epoch) => epoch,
        };
        let known = rows::credentials(&self.readers, account.as_str()).await?;
        self.cache.remember(account.as_str(), known.clone(), epoch);
        Ok(known)
    }

    async fn put(&self, accounts: &[Account], mode: PutMode) -> Result<Vec<usize>, Error> {
        let mut connection = self.write().await?;
        let (accounts, cache) = (accounts.to_vec(), self.cache.clone());
        finish(async move {
            let jids = accounts.iter().map(|account| account.jid.clone()).collect();
            let _forgetting = Forgetting { cache, accounts: jids };
            let result = put(&mut connection, &accounts, mode).await;
            renew(connection, result).await
        })
        .await
    }

    async fn remove(&self, account: &BareJid) -> Result<bool, Error> {
        let mut connection = self.write().await?;
        let (account, cache) = (account.clone(), self.cache.clone());
        finish(async move {
            let _forgetting = Forgetting { cache, accounts: vec![account.clone()] };
            let result = rows::remove(&mut connection, account.as_str()).await;
            renew(connection, result).await
        })
        .await
    }

    async fn list(&self, after: Option<&BareJid>, limit: u32) -> Result<Vec<BareJid>, Error> {
        rows::list(&self.readers, after.map_or("", |jid| jid.as_str()), limit).await
    }

    async fn exists(&self, account: &BareJid) -> Result<bool, Error> {
        if let Ok(known) = self.cache.get(account.as_str()) {
            return Ok(known.is_some());
        }
        let mut connection = self.readers.acquire().await?;
        rows::exists(&mut connection, account.as_str()).await
    }

    async fn count(&self) -> Result<u64, Error> {
        rows::count(&self.readers).await
    }
}

/// The file has one process at a time, which is never taken for dead.
#[async_trait]
impl Instances for SqliteStore {
    async fn revoke(&self, _instance: u64) -> Result<(), Error> {
        Ok(())
    }

    async fn retire(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn is_revoked(&self) -> Result<bool, Error> {
        Ok(false)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn secret(&self, name: &str, bytes: usize) -> Result<Vec<u8>, Error> {
        let mut fresh = vec![0; bytes];
        SystemRandom.fill(&mut fresh);
        let mut connection = self.write().await?;
        let result = rows::secret(&mut connection, name, &fresh).await;
        renew(connection, result).await
    }

    async fn close(&self) {
        self.readers.close().await;
        // The last to leave folds the write-ahead log into the file.
        self.writer.close().await;
    }
}

#[cfg(test)]
mod tests;
