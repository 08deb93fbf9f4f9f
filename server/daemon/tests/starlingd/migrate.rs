//! `starlingd migrate`, with real PostgreSQL.

use std::{
    net::TcpListener,
    process::{Child, Stdio},
    time::Instant,
};

use starling_backends::postgres::{Options, Postgres};

use crate::program::{Finished, PATIENCE, Place};

/// Settings of a program that has this database; the password is in a file.
fn place(server_url: &str) -> Place {
    let place = Place::new().with("STARLING_DATABASE_URL", server_url);
    let password = place.file("password", "secret\n");
    place.with("STARLING_DATABASE_PASSWORD_FILE", password.to_str().unwrap())
}

async fn server() -> Postgres {
    let server = Postgres::start(Options::default()).await;
    server.role("starling", "secret").await;
    server
}

fn spawn(place: &Place, arguments: &[&str]) -> Child {
    let mut command = place.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_made_once_and_then_up_to_date_and_nobody_is_registered() {
    let server = server().await;
    server.database("starling", "starling", "template1").await;
    let place = place(&server.url("starling", "starling"));
    let told = place.succeed(&["migrate"], "");
    assert!(told.starts_with("The schema is up to date now. Migrations made: 1, 2"), "{told}");
    assert_eq!(place.succeed(&["migrate", "--wait", "0"], ""), "The schema was up to date.\n");
    assert_eq!(server.sql("starling", "SELECT count(*) FROM instance").await, "0");
    assert!(!place.data().exists(), "nothing is kept beside the database");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_at_once_each_succeeds_and_each_migration_is_made_by_one() {
    let server = server().await;
    server.database("starling", "starling", "template1").await;
    let place = place(&server.url("starling", "starling"));
    let all: Vec<_> = (0..10).map(|_| spawn(&place, &["migrate"])).collect();
    let mut made = Vec::new();
    for child in all {
        let Finished { code, output: told, errors } = child.wait_with_output().unwrap().into();
        assert_eq!(code, Some(0), "{told}{errors}");
        match told.strip_prefix("The schema is up to date now. Migrations made: ") {
            Some(versions) => {
                made.extend(versions.trim_end().trim_end_matches('.').split(", ").map(|v| v.parse::<i64>().unwrap()));
            }
            None => assert_eq!(told, "The schema was up to date.\n"),
        }
    }
    made.sort_unstable();
    let made: Vec<_> = made.iter().map(ToString::to_string).collect();
    let versions = server.sql("starling", "SELECT version FROM _sqlx_migrations ORDER BY version").await;
    assert_eq!(made, versions.lines().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_later_is_waited_for() {
    let server = server().await;
    let place = place(&server.url("starling", "starling"));
    server.stop().await;
    let mut child = spawn(&place, &["migrate"]);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("The database is not there yet"), "{first}");
    // The server first, and the database a good while after it.
    server.start_again().await;
    let unknown = lines.find(|line| line.as_ref().unwrap().contains("does not exist"));
    assert!(unknown.is_some(), "it has seen the server");
    server.database("starling", "starling", "template1").await;
    let Finished { output, errors, .. } = child.wait_with_output().unwrap().into();
    assert!(output.contains("Migrations made: 1"), "{output}{errors}");
}

#[test]
fn a_database_that_does_not_come_ends_it_with_1_in_its_time() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = place(&format!("postgres://starling@127.0.0.1:{port}/starling"));
    let begun = Instant::now();
    let errors = place.fail(&["migrate", "--wait", "1"], "", 1);
    assert!(errors.contains("starlingd: store: the database does not do it now"), "{errors}");
    assert!(!errors.contains("secret"), "{errors}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn without_a_postgresql_database_it_is_told_that_there_is_nothing_to_do() {
    let place = Place::new();
    let errors = place.fail(&["migrate"], "", 2);
    assert!(errors.contains("`database.url` is not set") && errors.contains("SQLite"), "{errors}");
    assert!(!place.data().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_not_waited_out() {
    let server = server().await;
    server.database("starling", "starling", "template1").await;
    server.role("starling", "another").await;
    let place = place(&server.url("starling", "starling"));
    let errors = place.fail(&["migrate", "--wait", "3600"], "", 1);
    assert!(errors.contains("password authentication failed") && !errors.contains("secret"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_for_the_schema_is_ready_once_it_is_migrated() {
    let server = server().await;
    server.database("starling", "starling", "template1").await;
    let place = place(&server.url("starling", "starling")).with("STARLING_DATABASE_MIGRATE", "wait");
    let starting = std::thread::scope(|scope| {
        let starting = scope.spawn(|| place.start());
        // It has looked, and found nothing: its connection is there, and waits.
        let connected = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'starling-%' \
                         AND query LIKE '%to_regclass%'";
        let deadline = Instant::now() + PATIENCE;
        let runtime = tokio::runtime::Handle::current();
        while tokio::task::block_in_place(|| runtime.block_on(server.sql("starling", connected))) == "0" {
            assert!(Instant::now() < deadline && !starting.is_finished(), "it does not wait");
        }
        place.succeed(&["migrate"], "");
        starting.join().unwrap()
    });
    assert_eq!(starting.get("/readyz").0, 200);
    starting.stop();
}
