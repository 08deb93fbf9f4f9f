//! What connections are set to, and what their errors mean.

use sqlx::Row;

use super::*;

async fn pragma(pool: &SqlitePool, name: &'static str) -> String {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA {name}"))).fetch_one(pool).await.unwrap();
    row.try_get::<i64, _>(0).map_or_else(|_| row.get::<String, _>(0), |number| number.to_string())
}

#[tokio::test]
async fn a_commit_is_on_disk_before_it_is_answered_and_references_hold() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("starling.sqlite")).await.unwrap();
    assert_eq!(pragma(&store.writer, "journal_mode").await, "wal");
    // 2 is FULL: the write-ahead log is synced at each commit.
    assert_eq!(pragma(&store.writer, "synchronous").await, "2");
    assert_eq!(pragma(&store.writer, "foreign_keys").await, "1");
    assert_eq!(pragma(&store.readers, "journal_mode").await, "wal");
    store.close().await;
}

#[tokio::test]
async fn readers_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("starling.sqlite")).await.unwrap();
    let written = sqlx::query("DELETE FROM account").execute(&store.readers).await;
    assert!(written.is_err());
    store.close().await;
}

#[tokio::test]
async fn a_lock_that_somebody_else_holds_is_worth_a_retry_and_a_closed_store_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("starling.sqlite");
    let store = SqliteStore::open(&path).await.unwrap();
    let held = store.writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let options = SqliteConnectOptions::new().filename(&path).busy_timeout(Duration::ZERO);
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    let refused: Error = sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap_err().into();
    assert!(matches!(refused, Error::Busy(_)) && refused.is_transient(), "{refused:?}");
    held.rollback().await.unwrap();
    other.close().await.unwrap();
    store.close().await;
    let closed = store.count().await.unwrap_err();
    assert!(!closed.is_transient(), "{closed:?}");
}
