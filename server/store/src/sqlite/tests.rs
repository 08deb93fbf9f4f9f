//! What connections are set to, and what their errors mean.

use sqlx::Row;

use super::*;
use crate::{
    Change, Direction, Documents, ItemChange, MessageId, Messages, RosterItem, Rosters, RowState, Subscription, suite,
};

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

async fn open() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("starling.sqlite")).await.unwrap();
    (folder, store)
}

fn row<'a>(account: &'a str, number: u64, stanza: &'static [u8]) -> Change<'a> {
    Change::Put(crate::Row {
        account,
        id: MessageId::new(number, 0, 0),
        peer: "romeo@example.net",
        direction: Direction::Received,
        state: if number.is_multiple_of(10) { RowState::Pending } else { RowState::Delivered },
        archived: true,
        holders: &[],
        origin: None,
        stanza,
    })
}

/// No statement reads what grows with the archive: those that look for rows find them by a key.
#[tokio::test]
async fn nothing_costs_more_with_a_larger_archive() {
    let (_folder, store) = open().await;
    for statement in messages::statements().into_iter().chain(segments::STATEMENTS) {
        let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let steps = sqlx::query(explained).fetch_all(&store.writer).await.unwrap();
        for step in steps {
            let step: String = step.get("detail");
            let scans = step.starts_with("SCAN message") && !step.contains("INDEX message_open");
            // There is one segment for thousands of rows; in `ROWS` the outer loop.
            let scans = scans && !step.contains("message_segment");
            assert!(!scans, "{statement}:\n{step}");
            let by_key = ["(account=", "(id=", "(id>", "(id<", "(segment=", "(rowid="];
            let searches = step.starts_with("SEARCH message ") || step.starts_with("SEARCH message_of ");
            assert!(!searches || by_key.iter().any(|key| step.contains(key)), "{statement}:\n{step}");
        }
    }
}

const LARGE: &[u8] = &[b'x'; 200_000];

/// Every kind of change that needs room, with whether it was made.
async fn change(store: &SqliteStore, kind: usize) -> Result<(), Error> {
    let account = suite::account("juliet@example.com", 1).jid;
    match kind {
        0 => store.commit(&[row(account.as_str(), 1, b"a"), row(account.as_str(), 2, LARGE)]).await,
        1 => {
            let accounts: Vec<_> = (0..300).map(|n| suite::account(&format!("user{n}@example.com"), 1)).collect();
            store.put(&accounts, PutMode::Create).await.map(drop)
        }
        2 => {
            let item = RosterItem {
                contact: suite::account("romeo@example.net", 1).jid,
                name: None,
                groups: Vec::new(),
                subscription: Subscription::None,
                ask: false,
                pending_in: Some(LARGE.to_vec()),
                approved: false,
                listed: true,
                version: 0,
            };
            let contact = item.contact.clone();
            store.change_item(&account, &contact, 100, &move |_| ItemChange::Put(item.clone())).await.map(drop)
        }
        3 => store.put_document(&account, "private", "a", LARGE, 1_000_000).await.map(drop),
        _ => store.secret("large", LARGE.len()).await.map(drop),
    }
}

async fn is_made(store: &SqliteStore, kind: usize) -> bool {
    let account = suite::account("juliet@example.com", 1).jid;
    match kind {
        0 => !store.rows(account.as_str(), None, 10).await.unwrap().is_empty(),
        1 => store.count().await.unwrap() > 1,
        2 => !store.roster(&account).await.unwrap().items.is_empty(),
        3 => store.document(&account, "private", "a").await.unwrap().is_some(),
        _ => sqlx::query("SELECT 1 FROM secret").fetch_optional(&store.readers).await.unwrap().is_some(),
    }
}

#[tokio::test]
async fn a_disk_that_is_full_or_read_only_is_a_transient_error_and_over_once_it_is_over() {
    for refusal in ["PRAGMA max_page_count = 1", "PRAGMA query_only = ON"] {
        for kind in 0..5 {
            let (_folder, store) = open().await;
            store.put(&[suite::account("juliet@example.com", 1)], PutMode::Create).await.unwrap();
            for attempt in 0..3 {
                // The limit is the connection's, and each failure takes a new one.
                sqlx::query(refusal).execute(&store.writer).await.unwrap();
                let error = change(&store, kind).await.unwrap_err();
                assert!(error.is_transient(), "{refusal}, {kind}, {attempt}: {error:?}");
                assert!(!is_made(&store, kind).await, "{refusal}, {kind}: all or nothing");
            }
            for kind in 0..5 {
                change(&store, kind).await.unwrap();
                assert!(is_made(&store, kind).await);
            }
        }
    }
}

#[tokio::test]
async fn segments_go_on_where_they_were_after_a_failure_and_after_it_is_opened_again() {
    let (folder, mut store) = open().await;
    let account = suite::account("juliet@example.com", 1);
    store.put(std::slice::from_ref(&account), PutMode::Create).await.unwrap();
    let account = account.jid.as_str();
    for group in 0..90_u64 {
        let changes: Vec<_> = (0..200).map(|n| row(account, 1 + 200 * group + n, b"<message/>")).collect();
        if group % 7 == 3 {
            sqlx::query("PRAGMA query_only = ON").execute(&store.writer).await.unwrap();
            assert!(store.commit(&changes).await.is_err());
        }
        store.commit(&changes).await.unwrap();
        if group % 11 == 5 {
            store.close().await;
            store = SqliteStore::open(&folder.path().join("starling.sqlite")).await.unwrap();
        }
    }
    let numbers: Vec<_> = store.rows(account, None, 100_000).await.unwrap().iter().map(|row| row.id.millis()).collect();
    assert_eq!(numbers, (1..=18_000).collect::<Vec<_>>());
    let segments = "SELECT count(*) FROM message_segment";
    let segments: i64 = sqlx::query(segments).fetch_one(&store.readers).await.unwrap().get(0);
    assert_eq!(segments, 18_000 / 4096);
    let keys = "SELECT count(*), count(DISTINCT id) FROM message_of";
    let keys = sqlx::query(keys).fetch_one(&store.readers).await.unwrap();
    assert_eq!(keys.get::<i64, _>(0), keys.get::<i64, _>(1), "each once");
}

#[tokio::test]
async fn readers_do_not_wait_for_the_writer() {
    let (_folder, store) = open().await;
    let account = suite::account("juliet@example.com", 1);
    store.put(std::slice::from_ref(&account), PutMode::Create).await.unwrap();
    let juliet = account.jid.as_str();
    store.commit(&[row(juliet, 1, b"<message/>")]).await.unwrap();
    let mut held = store.writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
    sqlx::query("DELETE FROM account").execute(&mut *held).await.unwrap();
    let reads = async {
        assert!(store.exists(&account.jid).await.unwrap());
        assert_eq!(store.credentials(&account.jid).await.unwrap(), Some(account.credentials));
        assert_eq!(store.pending(juliet, 10).await.unwrap(), 0);
        // Nothing waits: the writer is not asked.
        assert_eq!(store.claim(juliet, 10, 1000).await.unwrap(), []);
        assert_eq!(store.rows(juliet, None, 10).await.unwrap().len(), 1);
        assert_eq!(store.roster(&account.jid).await.unwrap().items, []);
        assert_eq!(store.document(&account.jid, "private", "a").await.unwrap(), None);
    };
    tokio::time::timeout(Duration::from_secs(5), reads).await.expect("they are answered");
    held.rollback().await.unwrap();
}

#[tokio::test]
async fn who_exists_is_known_from_the_credentials() {
    let (_folder, store) = open().await;
    let account = suite::account("juliet@example.com", 1);
    store.put(std::slice::from_ref(&account), PutMode::Create).await.unwrap();
    store.credentials(&account.jid).await.unwrap();
    store.readers.close().await;
    assert!(store.exists(&account.jid).await.unwrap());
    assert!(store.exists(&suite::account("romeo@example.com", 1).jid).await.is_err(), "otherwise this shows nothing");
}
