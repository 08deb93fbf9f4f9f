//! A database for a test.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{Connection, PgConnection};
use starling_backends::postgres::{Options, Postgres};
use starling_store::{Migrate, PgConfig, PgStore};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// The role that tests log in as, and its password.
pub(crate) const ROLE: &str = "starling";
pub(crate) const PASSWORD: &str = "s3cret pass/word";

/// A server for all tests of a binary: it ends with the process.
pub(crate) async fn shared() -> &'static Postgres {
    static SERVER: OnceCell<Postgres> = OnceCell::const_new();
    SERVER.get_or_init(|| start(Options::default())).await
}

pub(crate) async fn start(options: Options) -> Postgres {
    let server = Postgres::start(options).await;
    server.role(ROLE, PASSWORD).await;
    server
}

/// An empty database on a server, and the file with the password to it.
pub(crate) struct Setting {
    pub(crate) server: Postgres,
    pub(crate) database: String,
    pub(crate) password_file: PathBuf,
    _folder: TempDir,
}

impl Setting {
    /// On the server that all tests share: they must not stop it.
    pub(crate) async fn new() -> Self {
        Self::on(shared().await.clone()).await
    }

    pub(crate) async fn on(server: Postgres) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        server.database(&database, ROLE, "template1").await;
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, format!("{PASSWORD}\n")).unwrap();
        Self { server, database, password_file, _folder: folder }
    }

    pub(crate) fn config(&self, instance: u64) -> PgConfig {
        PgConfig {
            url: self.server.url(ROLE, &self.database),
            password_file: Some(self.password_file.clone()),
            ca: None,
            connections: 12,
            instance,
            migrate: Migrate::Auto,
        }
    }

    pub(crate) async fn open(&self, instance: u64) -> PgStore {
        PgStore::open(&self.config(instance)).await.unwrap()
    }

    /// A connection of the test's own.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.options()).await.unwrap()
    }

    pub(crate) fn options(&self) -> sqlx::postgres::PgConnectOptions {
        let options: sqlx::postgres::PgConnectOptions = self.server.url(ROLE, &self.database).parse().unwrap();
        options.password(PASSWORD)
    }

    /// What the superuser finds there.
    pub(crate) async fn sql(&self, statements: &str) -> String {
        self.server.sql(&self.database, statements).await
    }
}
