//! SQLite keeps the rules of every store, and its own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use starling_store::{Accounts, Error, PutMode, SqliteStore, Store, suite};

#[tokio::test]
async fn it_keeps_the_rules_of_every_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("starling.sqlite")).await.unwrap();
    suite::run(&store).await;
    store.close().await;
}

#[tokio::test]
async fn what_was_written_is_there_after_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("starling.sqlite");
    let account = suite::account("juliet@example.com", 7);
    let store = SqliteStore::open(&path).await.unwrap();
    store.put(std::slice::from_ref(&account), PutMode::Create).await.unwrap();
    let secret = store.secret("salt", 32).await.unwrap();
    store.close().await;
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.credentials(&account.jid).await.unwrap(), Some(account.credentials));
    assert_eq!(store.secret("salt", 32).await.unwrap(), secret);
}

#[tokio::test]
async fn nobody_else_can_read_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("data");
    let store = SqliteStore::open(&inner.join("starling.sqlite")).await.unwrap();
    store.put(&[suite::account("juliet@example.com", 7)], PutMode::Create).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for file in std::fs::read_dir(&inner).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

async fn after(statements: &[&'static str]) -> (tempfile::TempDir, Result<SqliteStore, Error>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("starling.sqlite");
    let store = SqliteStore::open(&path).await.unwrap();
    store.put(&[suite::account("juliet@example.com", 7)], PutMode::Create).await.unwrap();
    store.close().await;
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&path)).await.unwrap();
    for statement in statements {
        sqlx::query(*statement).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    let store = SqliteStore::open(&path).await;
    (folder, store)
}

const LATER: &str = "INSERT INTO _sqlx_migrations VALUES (9999, 'later', CURRENT_TIMESTAMP, 1, x'00', 0)";

#[tokio::test]
async fn what_a_newer_release_added_hinders_nobody_who_rolls_back() {
    let statements = [LATER, "ALTER TABLE account ADD COLUMN later TEXT", "CREATE TABLE later (a TEXT)"];
    let (_folder, store) = after(&statements).await;
    let store = store.unwrap();
    let juliet = suite::account("juliet@example.com", 7);
    assert_eq!(store.credentials(&juliet.jid).await.unwrap(), Some(juliet.credentials));
    let romeo = suite::account("romeo@example.com", 8);
    assert!(store.put(std::slice::from_ref(&romeo), PutMode::Create).await.unwrap().is_empty());
    assert_eq!(store.credentials(&romeo.jid).await.unwrap(), Some(romeo.credentials));
}

#[tokio::test]
async fn a_schema_from_which_a_newer_release_took_what_we_need_is_refused() {
    let (_folder, store) = after(&[LATER, "PRAGMA user_version = 9999"]).await;
    match store {
        Err(Error::NewerSchema(9999)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("starling.sqlite");
    let content = b"this is no database ".repeat(100);
    std::fs::write(&path, &content).unwrap();
    assert!(matches!(SqliteStore::open(&path).await, Err(Error::Backend(_))));
    assert_eq!(std::fs::read(&path).unwrap(), content);
}

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_of_a_change_leaves_nothing_stale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("starling.sqlite");
    let store = SqliteStore::open(&path).await.unwrap();
    let judge = SqliteConnectOptions::new().filename(&path);
    let mut judge = SqliteConnection::connect_with(&judge).await.unwrap();
    let juliet = suite::account("juliet@example.com", 1);
    let last = suite::account("last@example.com", 1);
    for patience in 0..60_u32 {
        store.put(std::slice::from_ref(&juliet), PutMode::Upsert).await.unwrap();
        assert!(store.credentials(&juliet.jid).await.unwrap().is_some());
        let change = async {
            if patience % 2 == 0 {
                store.remove(&juliet.jid).await.unwrap();
            } else {
                let new = suite::account("juliet@example.com", 2);
                store.put(&[new], PutMode::Replace).await.unwrap();
            }
        };
        let leave = async {
            for _ in 0..patience * 50 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = change => {}
            () = leave => {}
        }
        // Whoever logs in now may be told either, and it must not be remembered if it is the old.
        store.credentials(&juliet.jid).await.unwrap();
        // Changes keep their order: when this one is answered, the one before has ended.
        store.put(std::slice::from_ref(&last), PutMode::Upsert).await.unwrap();
        let query = sqlx::query("SELECT iterations FROM verifier WHERE jid = ? AND hash = 'SHA-1'");
        let row = query.bind(juliet.jid.as_str()).fetch_optional(&mut judge).await.unwrap();
        let true_iterations = row.map(|row| row.get::<u32, _>(0));
        let said = store.credentials(&juliet.jid).await.unwrap();
        let said_iterations = said.and_then(|credentials| credentials.sha1).map(|verifier| verifier.iterations);
        assert_eq!(said_iterations, true_iterations, "left after {patience}");
    }
}

/// The variable that makes this test's own binary the writer that is killed.
const WRITER: &str = "STARLING_TEST_STORE_WRITER";

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    if let Some(path) = std::env::var_os(WRITER) {
        return write_until_killed(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("starling.sqlite");
    let mut known = 0;
    for round in 1..=3 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_answered_survives_kill_9", "--nocapture", "--test-threads=1"])
            .env(WRITER, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answered = 0;
        for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
            if let Some(number) = line.unwrap().strip_prefix("answered ") {
                answered = number.parse().unwrap();
                if answered >= known + 40 * round {
                    writer.kill().unwrap();
                }
            }
        }
        writer.wait().unwrap();
        assert!(answered > known, "the writer wrote nothing");
        let store = SqliteStore::open(&path).await.unwrap();
        for number in 1..=answered {
            let account = suite::account(&format!("user{number}@example.com"), (number % 250) as u8);
            assert_eq!(store.credentials(&account.jid).await.unwrap(), Some(account.credentials), "{number}");
        }
        known = store.count().await.unwrap();
        assert!(known >= answered);
        store.close().await;
        let options = SqliteConnectOptions::new().filename(&path);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let verdict = sqlx::query("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        assert_eq!(verdict.get::<String, _>(0), "ok");
    }
}

async fn write_until_killed(path: &Path) {
    let store = SqliteStore::open(path).await.unwrap();
    for number in store.count().await.unwrap() + 1..100_000 {
        let account = suite::account(&format!("user{number}@example.com"), (number % 250) as u8);
        store.put(&[account], PutMode::Create).await.unwrap();
        println!("answered {number}");
    }
}
