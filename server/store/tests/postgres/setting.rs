//! A database for a test.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use starling_backends::postgres::{Options, Postgres};
use starling_store::{
    Account, Accounts, Change, Direction, MessageId, Messages, Migrate, PgConfig, PgStore, PutMode, Row, RowState,
    suite,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// The role that tests log in as, and its password.
pub(super) const ROLE: &str = "starling";
pub(super) const PASSWORD: &str = "s3cret pass/word";

/// An account that is there.
pub(super) const JULIET: &str = "juliet@example.com";

/// A server with the role.
pub(super) async fn start(options: Options) -> Postgres {
    let server = Postgres::start(options).await;
    server.role(ROLE, PASSWORD).await;
    server
}

/// An empty database on a server, and the file with the password to it.
pub(super) struct Setting {
    pub(super) server: Postgres,
    pub(super) database: String,
    pub(super) password_file: PathBuf,
    _folder: TempDir,
}

impl Setting {
    /// On the server that all tests share, and must not stop. It ends with the process.
    pub(super) async fn new() -> Self {
        static SERVER: OnceCell<Postgres> = OnceCell::const_new();
        Self::on(SERVER.get_or_init(|| start(Options::default())).await.clone()).await
    }

    pub(super) async fn on(server: Postgres) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        server.database(&database, ROLE, "template1").await;
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, format!("{PASSWORD}\n")).unwrap();
        Self { server, database, password_file, _folder: folder }
    }

    pub(super) fn config(&self, instance: u64) -> PgConfig {
        PgConfig {
            url: self.server.url(ROLE, &self.database),
            password_file: Some(self.password_file.clone()),
            ca: None,
            connections: 12,
            instance,
            migrate: Migrate::Auto,
        }
    }

    pub(super) async fn open(&self, instance: u64) -> PgStore {
        PgStore::open(&self.config(instance)).await.unwrap()
    }

    /// Open, and with [`JULIET`].
    pub(super) async fn open_with_juliet(&self, instance: u64) -> PgStore {
        let store = self.open(instance).await;
        store.put(&[juliet()], PutMode::Upsert).await.unwrap();
        store
    }

    /// A connection of the test's own.
    pub(super) async fn connect(&self) -> PgConnection {
        let options: PgConnectOptions = self.server.url(ROLE, &self.database).parse().unwrap();
        PgConnection::connect_with(&options.password(PASSWORD)).await.unwrap()
    }

    /// What the superuser finds there.
    pub(super) async fn sql(&self, statements: &str) -> String {
        self.server.sql(&self.database, statements).await
    }

    /// Waits until the superuser is answered so.
    pub(super) async fn until(&self, statement: &str, answer: &str) {
        let began = std::time::Instant::now();
        // Nothing tells of what is waited for here: it is asked for, each time with a process and a connection more.
        while self.sql(statement).await != answer {
            assert!(began.elapsed().as_secs() < 20, "{statement} is never {answer}");
        }
    }

    /// Waits until `count` connections of the store wait for a lock.
    pub(super) async fn until_waiting(&self, count: usize) {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock' AND application_name LIKE 'starling-%'";
        self.until(waiting, &count.to_string()).await;
    }

    /// What must hold of the tables at any time.
    pub(super) async fn assert_whole(&self) {
        let no_message = "SELECT count(*) FROM message_open AS o WHERE NOT EXISTS (SELECT FROM message AS m \
                          WHERE m.account = o.account AND m.id = o.id AND m.archived = o.archived)";
        assert_eq!(self.sql(no_message).await, "0", "open rows without a message");
        let left = "SELECT count(*) FROM message AS m WHERE NOT m.archived AND NOT EXISTS ( \
                    SELECT FROM message_open AS o WHERE o.account = m.account AND o.id = m.id)";
        assert_eq!(self.sql(left).await, "0", "messages that nobody must get, and nobody wants kept");
    }
}

pub(super) fn juliet() -> Account {
    suite::account(JULIET, 7)
}

/// A row of Juliet's.
pub(super) fn row(number: u64, state: RowState, holders: &[u64]) -> Change<'_> {
    Change::Put(Row {
        account: JULIET,
        id: MessageId::new(number, 0, 0),
        peer: "romeo@example.net",
        direction: Direction::Received,
        state,
        archived: true,
        holders,
        origin: None,
        stanza: b"<message/>",
    })
}

/// The numbers and states of Juliet's rows.
pub(super) async fn states(store: &PgStore) -> Vec<(u64, RowState)> {
    let rows = store.rows(JULIET, None, 1_000_000).await.unwrap();
    rows.iter().map(|row| (row.id.millis(), row.state)).collect()
}
