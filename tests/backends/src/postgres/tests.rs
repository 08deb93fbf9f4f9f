//! What tests of others take for granted.

use std::{
    io::{BufRead as _, BufReader},
    time::{Duration, Instant},
};

use super::*;

fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // What nobody has waited for yet is there, and dead.
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
}

/// None of the processes is a child of this one, which could be waited for.
fn assert_ends(processes: &[u32]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while processes.iter().any(|process| is_alive(*process)) {
        assert!(Instant::now() < deadline, "{processes:?}");
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_there_after_a_stop_and_after_a_kill() {
    let server = Postgres::start(Options { fsync: true, ..Options::default() }).await;
    server.role("somebody", "secret").await;
    server.database("one", "somebody", "template1").await;
    server.sql("one", "CREATE TABLE number (n int)").await;
    for round in 1..=2 {
        server.sql("one", &format!("INSERT INTO number VALUES ({round})")).await;
        let postmaster = server.postmaster();
        let mut all = process::children(postmaster);
        assert!(!all.is_empty());
        all.push(postmaster);
        if round == 1 {
            server.kill9().await;
        } else {
            server.stop().await;
        }
        assert_ends(&all);
        server.start_again().await;
        assert_eq!(server.sql("one", "SELECT count(*) FROM number").await, round.to_string());
    }
    assert!(server.log().contains("database system was not properly shut down"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_can_be_used_again() {
    let folder = files::temporary();
    let options = Options { folder: Some(folder.path().to_owned()), ..Options::default() };
    let server = Postgres::start(options.clone()).await;
    server.role("somebody", "secret").await;
    server.database("mine", "somebody", "template1").await;
    let postmaster = server.postmaster();
    drop(server);
    assert_ends(&[postmaster]);
    let server = Postgres::start(options).await;
    assert_eq!(server.sql("mine", "SELECT current_database()").await, "mine");
}

/// The variable that makes this test's own binary the one that is killed.
const KILLED: &str = "STARLING_TEST_POSTGRES_KILLED";

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_the_process_that_started_it_and_leaves_nothing() {
    if std::env::var_os(KILLED).is_some() {
        let server = Postgres::start(Options::default()).await;
        println!("\nstarted {} {}", server.postmaster(), server.socket().parent().unwrap().display());
        std::future::pending::<()>().await;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "postgres::tests::it_ends_with_the_process_that_started_it_and_leaves_nothing",
            "--nocapture",
        ])
        .env(KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("started ").map(str::to_owned));
    let started = started.expect("it starts");
    let (postmaster, folder) = started.split_once(' ').unwrap();
    assert!(is_alive(postmaster.parse().unwrap()) && Path::new(folder).exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ends(&[postmaster.parse().unwrap()]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while Path::new(folder).exists() {
        assert!(Instant::now() < deadline, "{folder} is left");
        std::thread::yield_now();
    }
}
