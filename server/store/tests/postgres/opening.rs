//! How a store is opened: settings, the schema, many at once, neighbouring releases.

use std::{path::PathBuf, process::Stdio, time::Duration};

use futures_util::future::join_all;
use starling_store::{Accounts, Error, Instances, Migrate, PgConfig, PgStore, PutMode, Store, suite};
use tokio::{process::Command, time::timeout};

use super::setting::{PASSWORD, Setting, juliet};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_it_is_opened_again() {
    let setting = Setting::new().await;
    let store = setting.open_with_juliet(1).await;
    let secret = store.secret("salt", 32).await.unwrap();
    store.close().await;
    assert!(matches!(store.count().await, Err(Error::Backend(_))), "closed");
    let store = setting.open(2).await;
    assert_eq!(store.credentials(&juliet().jid).await.unwrap(), Some(juliet().credentials));
    assert_eq!(store.secret("salt", 32).await.unwrap(), secret);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_can_open_an_empty_database_at_once() {
    let setting = Setting::new().await;
    let stores = join_all((1..=10).map(|instance| setting.open(instance))).await;
    assert_eq!(setting.sql("SELECT count(*) FROM instance").await, "10");
    for store in &stores {
        store.put(&[juliet()], PutMode::Upsert).await.unwrap();
    }
    assert_eq!(stores[0].count().await.unwrap(), 1);
}

/// The variables that make this test's own binary one of many processes.
const URL: &str = "STARLING_TEST_STORE_URL";
const PASSWORD_FILE: &str = "STARLING_TEST_STORE_PASSWORD_FILE";
const INSTANCE: &str = "STARLING_TEST_STORE_INSTANCE";

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_can_open_an_empty_database_at_once() {
    if let Ok(url) = std::env::var(URL) {
        let config = PgConfig {
            url,
            password_file: std::env::var_os(PASSWORD_FILE).map(PathBuf::from),
            ca: None,
            connections: 4,
            instance: std::env::var(INSTANCE).unwrap().parse().unwrap(),
            migrate: Migrate::Auto,
        };
        let store = PgStore::open(&config).await.unwrap();
        store.put(&[juliet()], PutMode::Upsert).await.unwrap();
        return;
    }
    let setting = Setting::new().await;
    let config = setting.config(1);
    let name = "postgres::opening::many_processes_can_open_an_empty_database_at_once";
    let processes = (1..=10).map(|instance| {
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", name]).env(URL, &config.url).env(PASSWORD_FILE, &setting.password_file);
        process.env(INSTANCE, instance.to_string()).stdin(Stdio::null()).output()
    });
    for output in join_all(processes).await {
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(setting.sql("SELECT count(*) FROM instance").await, "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_schema_goes_on_once_it_is_there_and_may_leave_before() {
    let setting = Setting::new().await;
    let waiting = PgConfig { migrate: Migrate::Wait, ..setting.config(2) };
    let left = timeout(Duration::from_millis(300), PgStore::open(&waiting)).await;
    assert!(left.is_err(), "{left:?}");
    assert_eq!(setting.sql("SELECT count(*) FROM pg_class WHERE relname = 'account'").await, "0", "it changed nothing");
    let waits = tokio::spawn(async move { PgStore::open(&waiting).await });
    setting
        .until("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'starling-0000000000000002'", "1")
        .await;
    setting.open_with_juliet(1).await;
    let store = waits.await.unwrap().unwrap();
    assert!(store.exists(&juliet().jid).await.unwrap());
}

async fn after(statements: &str, migrate: Migrate) -> (Setting, Result<PgStore, Error>) {
    let setting = Setting::new().await;
    setting.open_with_juliet(1).await.close().await;
    setting.sql(statements).await;
    let config = PgConfig { migrate, ..setting.config(2) };
    let store = PgStore::open(&config).await;
    (setting, store)
}

const LATER: &str = "INSERT INTO _sqlx_migrations VALUES (9999, 'later', now(), true, '\\x00', 0);";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_release_added_hinders_nobody_who_rolls_back() {
    for migrate in [Migrate::Auto, Migrate::Wait] {
        let statements = format!("{LATER} ALTER TABLE account ADD COLUMN later text; CREATE TABLE later (a text)");
        let (_setting, store) = after(&statements, migrate).await;
        let store = store.unwrap();
        assert_eq!(store.credentials(&juliet().jid).await.unwrap(), Some(juliet().credentials));
        let romeo = suite::account("romeo@example.com", 8);
        assert!(store.put(std::slice::from_ref(&romeo), PutMode::Create).await.unwrap().is_empty());
        assert_eq!(store.credentials(&romeo.jid).await.unwrap(), Some(romeo.credentials));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_from_which_a_newer_release_took_what_we_need_is_refused() {
    for migrate in [Migrate::Auto, Migrate::Wait] {
        let (_setting, store) = after(&format!("{LATER} UPDATE schema_needs SET version = 9999"), migrate).await;
        assert!(matches!(store, Err(Error::NewerSchema(9999))), "{store:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_not_the_one_that_was_made_is_refused() {
    for migrate in [Migrate::Auto, Migrate::Wait] {
        let statement = "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 2";
        let (_setting, store) = after(statement, migrate).await;
        assert!(matches!(store, Err(Error::Schema(_))), "{store:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_revoked_before_it_came_is_refused() {
    let setting = Setting::new().await;
    let store = setting.open(1).await;
    store.revoke(2).await.unwrap();
    let refused = PgStore::open(&setting.config(2)).await;
    assert!(matches!(refused, Err(Error::Revoked)), "{refused:?}");
    // It is forgotten in time, and others are not.
    setting
        .sql("UPDATE instance SET revoked_at = now() - interval '8 days'; INSERT INTO instance (id) VALUES (4)")
        .await;
    setting.open(3).await;
    assert_eq!(setting.sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM instance").await, "1 3 4");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_make_no_sense_are_refused_and_no_password_is_shown() {
    let setting = Setting::new().await;
    let valid = setting.config(1);
    let missing = PathBuf::from("/nowhere/at/all");
    let no_file = |result: Result<PgStore, Error>| matches!(result, Err(Error::File { path, .. }) if path == missing);
    assert!(no_file(PgStore::open(&PgConfig { ca: Some(missing.clone()), ..valid.clone() }).await));
    assert!(no_file(PgStore::open(&PgConfig { password_file: Some(missing.clone()), ..valid.clone() }).await));
    for (url, instance) in [("postgres://a:verysecret@host:port/x", 1), ("mysql\0:verysecret", 1), (&*valid.url, 0)] {
        let config = PgConfig { url: url.to_owned(), instance, ..valid.clone() };
        let error = PgStore::open(&config).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        for said in [format!("{error:?} {error}"), format!("{config:?}")] {
            assert!(!said.contains("verysecret"), "{said}");
        }
    }
    // In the URL it works as well, though it is not shown either.
    let url = valid.url.replace("starling@", "starling:verysecret@");
    let with_password = PgConfig { url, password_file: None, ..valid.clone() };
    let error = PgStore::open(&with_password).await.unwrap_err();
    assert!(matches!(error, Error::Backend(_)) && !error.is_transient(), "{error:?}");
    let store = setting.open(1).await;
    let said = format!("{error:?} {error} {with_password:?} {store:?} {valid:?}");
    assert!(!said.contains("verysecret") && !said.contains(PASSWORD), "{said}");
}
