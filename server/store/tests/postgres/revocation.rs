//! The right to write: what is in progress when it is taken away, and what comes later.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Connection, Executor};
use starling_store::{Change, Error, Instances, MessageId, Messages, Migrate, PgConfig, PgStore, RowState};
use tokio::{task::JoinHandle, time::timeout};

use super::setting::{JULIET, Setting, row, states};

const LONG: Duration = Duration::from_secs(20);

/// Calls what a store calls: instance `own` writes a row of Juliet's, in flight at `holder`.
fn put(own: u64, number: u64, holder: u64) -> AssertSqlSafe<String> {
    let id = format!("{:032x}", MessageId::new(number, 0, 0).0);
    let named = if own == holder { own.to_string() } else { format!("{}, {}", own.min(holder), own.max(holder)) };
    AssertSqlSafe(format!(
        "SELECT message_commit({own}, '{{{named}}}', false, \
         '{{{JULIET}}}', '{{1}}', '{{{id}}}', '{{x}}', '{{1}}', '{{t}}', \
         '{{f}}', '{{NULL}}', '{{\"\\\\x00\"}}', '{{1}}', '{{{holder}}}', \
         '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')"
    ))
}

fn revoke(store: &PgStore, instance: u64) -> JoinHandle<Result<(), Error>> {
    let store = store.clone();
    tokio::spawn(async move { store.revoke(instance).await })
}

async fn until_revoked(setting: &Setting, instance: u64) {
    setting.until(&format!("SELECT count(*) FROM instance WHERE id = {instance} AND revoked"), "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_been_written_but_not_committed_is_waited_for_and_found() {
    let setting = Setting::new().await;
    let a = setting.open_with_juliet(1).await;
    // A transaction of the instance itself, and one of another that says that it has the message.
    for (revoked, own) in [(2, 2), (3, 1)] {
        setting.open(revoked).await;
        let mut in_progress = setting.connect().await;
        in_progress.execute("BEGIN").await.unwrap();
        in_progress.execute(put(own, revoked, revoked)).await.unwrap();
        let mut revocation = revoke(&a, revoked);
        until_revoked(&setting, revoked).await;
        setting.until_waiting(1).await;
        assert!(timeout(Duration::from_millis(100), &mut revocation).await.is_err(), "it waits");
        assert_eq!(states(&a).await.len(), usize::from(revoked == 3), "not yet there");
        in_progress.execute("COMMIT").await.unwrap();
        revocation.await.unwrap().unwrap();
        assert_eq!(a.release(revoked, 10).await.unwrap(), [JULIET]);
    }
    let id = |number| MessageId::new(number, 0, 0).millis();
    assert_eq!(states(&a).await, [(id(2), RowState::Pending), (id(3), RowState::Pending)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_its_lock_but_has_not_looked_yet_is_waited_for_and_refused() {
    let setting = Setting::new().await;
    let a = setting.open_with_juliet(1).await;
    setting.open(2).await;
    let mut own = setting.connect().await;
    own.execute("BEGIN; SELECT pg_advisory_xact_lock_shared(2)").await.unwrap();
    let mut named = setting.connect().await;
    named.execute("BEGIN; SELECT pg_advisory_xact_lock_shared(1), pg_advisory_xact_lock_shared(2)").await.unwrap();
    let mut revocation = revoke(&a, 2);
    until_revoked(&setting, 2).await;
    let refused: Error = own.execute(put(2, 1, 2)).await.unwrap_err().into();
    assert!(matches!(refused, Error::Revoked), "{refused:?}");
    named.execute(put(1, 2, 2)).await.unwrap();
    assert!(timeout(Duration::from_millis(100), &mut revocation).await.is_err(), "the other is in progress");
    named.execute("COMMIT").await.unwrap();
    own.close().await.unwrap();
    revocation.await.unwrap().unwrap();
    assert_eq!(a.release(2, 10).await.unwrap(), [""; 0], "it waited from the start");
    assert_eq!(states(&a).await, [(2, RowState::Pending)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_its_lock_while_it_is_revoked_looks_after_that() {
    let setting = Setting::new().await;
    let (a, b) = (setting.open_with_juliet(1).await, setting.open(2).await);
    // As whoever revokes it holds it, for a moment.
    let mut revoker = setting.connect().await;
    revoker.execute("BEGIN; SELECT pg_advisory_xact_lock(2)").await.unwrap();
    let commit = |store: PgStore, number| {
        tokio::spawn(async move { store.commit(&[row(number, RowState::InFlight, &[2])]).await })
    };
    let (own, named) = (commit(b, 1), commit(a.clone(), 2));
    setting.until_waiting(2).await;
    setting.sql("UPDATE instance SET revoked = true WHERE id = 2").await;
    revoker.execute("COMMIT").await.unwrap();
    let refused = own.await.unwrap();
    assert!(matches!(refused, Err(Error::Revoked)), "{refused:?}");
    named.await.unwrap().unwrap();
    assert_eq!(states(&a).await, [(2, RowState::Pending)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_after_the_revocation_is_refused_and_what_names_it_waits() {
    let setting = Setting::new().await;
    let (a, b) = (setting.open_with_juliet(1).await, setting.open(2).await);
    b.commit(&[row(1, RowState::InFlight, &[2])]).await.unwrap();
    a.revoke(2).await.unwrap();
    let refused = b.commit(&[row(2, RowState::InFlight, &[2])]).await;
    assert!(matches!(refused, Err(Error::Revoked)), "{refused:?}");
    a.commit(&[row(3, RowState::InFlight, &[2])]).await.unwrap();
    assert_eq!(states(&a).await, [(1, RowState::InFlight), (3, RowState::Pending)]);
    assert_eq!(a.release(2, 10).await.unwrap(), [JULIET]);
}

/// Many at once, of one instance and of another that names it, while it is revoked: what was answered is there, and
/// when the revocation is answered, nothing more comes.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_after_the_revocation_however_much_is_on_its_way() {
    let setting = Setting::new().await;
    let a = setting.open_with_juliet(1).await;
    for round in 0..8_u64 {
        let revoked = 100 + round;
        let b = setting.open(revoked).await;
        let writer = |store: PgStore, from: u64| {
            tokio::spawn(async move {
                let mut answered = 0;
                for number in from.. {
                    match store.commit(&[row(number, RowState::InFlight, &[revoked])]).await {
                        Ok(()) => answered += 1,
                        Err(Error::Revoked) => break,
                        Err(error) => panic!("{error:?}"),
                    }
                    if answered == 5000 {
                        break;
                    }
                }
                (from, answered)
            })
        };
        let of_b = writer(b.clone(), 1_000_000 * round);
        let naming_b = writer(a.clone(), 1_000_000 * round + 500_000);
        tokio::time::sleep(Duration::from_millis(20 * round)).await;
        a.revoke(revoked).await.unwrap();
        let in_flight = |revoked| format!("SELECT count(*) FROM message_open WHERE holder = {revoked}");
        let at_revocation = setting.sql(&in_flight(revoked)).await;
        let (from, answered) = of_b.await.unwrap();
        naming_b.abort();
        naming_b.await.ok();
        assert_eq!(setting.sql(&in_flight(revoked)).await, at_revocation, "round {round}");
        while !a.release(revoked, 1000).await.unwrap().is_empty() {}
        assert_eq!(setting.sql(&in_flight(revoked)).await, "0");
        let written = states(&a).await.into_iter().filter(|(number, _)| (from..from + 500_000).contains(number));
        assert_eq!(written.count(), answered, "round {round}: what was answered, and nothing else");
    }
    setting.assert_whole().await;
}

/// The variable that makes this test's own binary the process that is paused: the URL, and the file with the password.
const PAUSED: &str = "STARLING_TEST_STORE_PAUSED";

struct Paused(Child);

impl Paused {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_process_holds_nobody_up_and_writes_nothing_when_it_goes_on() {
    if let Ok(config) = std::env::var(PAUSED) {
        return write_until_revoked(&config).await;
    }
    let setting = Setting::new().await;
    let a = setting.open_with_juliet(1).await;
    let config = setting.config(2);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "postgres::revocation::a_paused_process_holds_nobody_up_and_writes_nothing_when_it_goes_on"])
        .args(["--nocapture", "--test-threads=1"])
        .env(PAUSED, format!("{} {}", config.url, setting.password_file.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let paused = Paused(child);
    let mut hears = |wanted: &str| said.any(|line| line.contains(wanted));
    // Inside of a transaction: the change of an item, which the process decides while it has the lock.
    assert!(hears("deciding"));
    paused.signal("STOP");
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name = 'starling-0000000000000002' AND state = 'idle in transaction'";
    assert_eq!(setting.sql(idle).await, "1");

    let began = Instant::now();
    // It has not to be waited for by those who write of it either, for long.
    let of_it = tokio::spawn({
        let a = a.clone();
        async move { a.commit(&[row(7, RowState::InFlight, &[2])]).await }
    });
    a.revoke(2).await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    of_it.await.unwrap().unwrap();
    while !a.release(2, 100).await.unwrap().is_empty() {}
    let before = states(&a).await;
    assert!(before.len() > 10 && before.iter().all(|(_, state)| *state == RowState::Pending), "{before:?}");

    paused.signal("CONT");
    assert!(hears("item refused") && hears("group refused") && hears("revoked: true"));
    assert_eq!(states(&a).await, before);
    assert_eq!(setting.sql("SELECT count(*) FROM roster_item").await, "0");
}

async fn write_until_revoked(config: &str) {
    use starling_store::{ItemChange, RosterItem, Rosters, Subscription, suite};
    let (url, password_file) = config.split_once(' ').unwrap();
    let config = PgConfig {
        url: url.to_owned(),
        password_file: Some(PathBuf::from(password_file)),
        ca: None,
        connections: 12,
        instance: 2,
        migrate: Migrate::Auto,
    };
    let store = PgStore::open(&config).await.unwrap();
    for number in 1000..1020 {
        store.commit(&[row(number, RowState::InFlight, &[2])]).await.unwrap();
    }
    let (juliet, contact) = (suite::account(JULIET, 7).jid, suite::account("romeo@example.net", 7).jid);
    let decide = |_: Option<&RosterItem>| {
        println!("deciding");
        // The signal comes while this takes its time.
        std::thread::sleep(Duration::from_millis(500));
        ItemChange::Put(RosterItem {
            contact: contact.clone(),
            name: None,
            groups: Vec::new(),
            subscription: Subscription::None,
            ask: false,
            pending_in: None,
            approved: false,
            listed: true,
            version: 0,
        })
    };
    match store.change_item(&juliet, &contact, 100, &decide).await {
        Err(error) if error.is_transient() => println!("item refused"),
        other => println!("{other:?}"),
    }
    match store.commit(&[row(2000, RowState::InFlight, &[2])]).await {
        Err(Error::Revoked) => println!("group refused"),
        other => println!("{other:?}"),
    }
    println!("revoked: {}", store.is_revoked().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_others_hold_up_ends_with_a_transient_error_and_can_be_repeated() {
    let setting = Setting::new().await;
    let a = setting.open_with_juliet(1).await;
    setting.open(2).await;
    // Not a connection of the instance, which would be ended.
    let mut other = setting.connect().await;
    other.execute("BEGIN; SELECT pg_advisory_xact_lock_shared(2)").await.unwrap();
    let held_up = timeout(LONG, a.revoke(2)).await.expect("it ends").unwrap_err();
    assert!(held_up.is_transient(), "{held_up:?}");
    assert_eq!(setting.sql("SELECT count(*) FROM instance WHERE revoked").await, "1", "it stays revoked");
    other.execute("ROLLBACK").await.unwrap();
    a.revoke(2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_retires_is_named_by_nobody_afterwards() {
    let setting = Setting::new().await;
    let (a, b) = (setting.open_with_juliet(1).await, setting.open(2).await);
    let mut naming = setting.connect().await;
    naming.execute("BEGIN").await.unwrap();
    naming.execute(put(1, 1, 2)).await.unwrap();
    let retires = tokio::spawn({
        let b = b.clone();
        async move { b.retire().await }
    });
    setting.until_waiting(1).await;
    naming.execute("COMMIT").await.unwrap();
    retires.await.unwrap().unwrap();
    assert!(!b.is_revoked().await.unwrap(), "it has one in flight");
    let returned = Change::Returned { account: JULIET, id: MessageId::new(1, 0, 0), holders: &[2] };
    b.commit(&[returned]).await.unwrap();
    b.retire().await.unwrap();
    assert!(b.is_revoked().await.unwrap());
    a.commit(&[row(2, RowState::InFlight, &[2])]).await.unwrap();
    assert_eq!(states(&a).await, [(1, RowState::Pending), (2, RowState::Pending)]);
}
