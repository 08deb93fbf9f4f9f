//! What waits for what: lanes of connections, locks, and time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sqlx::{Connection, Executor};
use starling_store::{
    Accounts, Change, Documents, Error, ItemChange, MessageId, Messages, PgConfig, PgStore, PutMode, RosterItem,
    Rosters, RowState, suite,
};
use tokio::time::timeout;

use super::setting::{JULIET, Setting, juliet, row, states};

#[tokio::test(flavor = "multi_thread")]
async fn log_ins_that_hang_hold_up_neither_messages_nor_anything_else() {
    let setting = Setting::new().await;
    let store = setting.open_with_juliet(1).await;
    store.commit(&[row(1, RowState::Pending, &[])]).await.unwrap();
    let mut lock = setting.connect().await;
    // Who logs in reads it.
    lock.execute("BEGIN; LOCK TABLE verifier IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let log_ins = (0..3000).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.credentials(&juliet().jid).await })
    });
    let log_ins: Vec<_> = log_ins.collect();
    setting.until_waiting(1).await;
    let began = Instant::now();
    for number in 2..50 {
        store.commit(&[row(number, RowState::Pending, &[])]).await.unwrap();
    }
    store.roster(&juliet().jid).await.unwrap();
    assert_eq!(store.pending(JULIET, 100).await.unwrap(), 49);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}: less than a lock is waited for");
    // They are told, in time.
    for log_in in log_ins {
        let error = timeout(Duration::from_secs(20), log_in).await.expect("it ends").unwrap().unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(15));
    lock.execute("ROLLBACK").await.unwrap();
    assert_eq!(store.credentials(&juliet().jid).await.unwrap(), Some(juliet().credentials));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_than_it_may_have_and_never_fewer_than_four() {
    let setting = Setting::new().await;
    for (connections, expected) in [(6, 6), (0, 4)] {
        let config = PgConfig { connections, ..setting.config(1 + u64::from(connections)) };
        let store = PgStore::open(&config).await.unwrap();
        store.put(&[juliet()], PutMode::Upsert).await.unwrap();
        let all = (0..60).map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                store.commit(&[row(number, RowState::Pending, &[])]).await.unwrap();
                store.credentials(&juliet().jid).await.unwrap();
                store.pending(JULIET, 10).await.unwrap();
                store.claim(JULIET, 1, 1000).await.unwrap();
            })
        });
        join_all(all).await.into_iter().for_each(|done| done.unwrap());
        let mine = format!("starling-{:016x}", 1 + u64::from(connections));
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = '{mine}'"
        );
        let count: u32 = setting.sql(&count).await.parse().unwrap();
        assert!((3..=expected).contains(&count), "{count} of {connections}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_statement_waits_for_it_ends_with_a_transient_error() {
    let setting = Setting::new().await;
    let store = setting.open_with_juliet(1).await;
    let mut lock = setting.connect().await;
    lock.execute("BEGIN; LOCK TABLE message, roster_item, account IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let began = Instant::now();
    let (commit, rows, roster, put) = tokio::join!(
        async { store.commit(&[row(1, RowState::Pending, &[])]).await.map(drop) },
        async { store.rows(JULIET, None, 10).await.map(drop) },
        async { store.roster(&juliet().jid).await.map(drop) },
        async { store.put(&[juliet()], PutMode::Upsert).await.map(drop) },
    );
    assert!(began.elapsed() < Duration::from_secs(12));
    for result in [commit, rows, roster, put] {
        let error = result.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
    lock.close().await.unwrap();
    store.commit(&[row(1, RowState::Pending, &[])]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_nobody_waits_for_any_more_is_not_written_behind_later_ones() {
    let setting = Setting::new().await;
    let store = setting.open_with_juliet(1).await;
    let mut lock = setting.connect().await;
    lock.execute("BEGIN; LOCK TABLE message IN EXCLUSIVE MODE").await.unwrap();
    let abandoned = tokio::spawn({
        let store = store.clone();
        async move { store.commit(&[row(1, RowState::InFlight, &[1])]).await }
    });
    setting.until_waiting(1).await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    // The server still has it, and would write it once it can.
    setting.until_waiting(1).await;
    let waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let process = setting.sql(waiting).await;
    let delivered = Change::Delivered { account: JULIET, id: MessageId::new(1, 0, 0) };
    let next = tokio::spawn({
        let store = store.clone();
        async move { store.commit(&[row(2, RowState::Pending, &[]), delivered]).await }
    });
    setting.until(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process}"), "0").await;
    setting.until_waiting(1).await;
    lock.execute("ROLLBACK").await.unwrap();
    next.await.unwrap().unwrap();
    assert_eq!(states(&store).await, [(2, RowState::Pending)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_leave_in_the_middle_cost_no_connections_and_leave_no_locks() {
    let setting = Setting::new().await;
    let store = setting.open_with_juliet(1).await;
    let (jid, contact) = (juliet().jid, suite::account("romeo@example.net", 1).jid);
    let keep = |_: Option<&RosterItem>| ItemChange::Keep;
    let all = async || {
        store.credentials(&jid).await.unwrap();
        store.change_item(&jid, &contact, 10, &keep).await.unwrap();
        store.put_document(&jid, "private", "a", b"1", 100).await.unwrap();
    };
    all().await;
    let connections = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity \
                       WHERE datname = current_database() AND application_name LIKE 'starling-%'";
    let before = setting.sql(connections).await;
    let mut left = 0;
    for patience in 0..600_u32 {
        let leave = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = all() => {}
            () = leave => left += 1,
        }
    }
    assert!(left > 10, "{left}");
    all().await;
    // One more may have been opened while another was still busy with what had been left; none has been closed.
    let after = setting.sql(connections).await;
    assert!(before.split(' ').all(|process| after.split(' ').any(|other| other == process)), "{before}, then {after}");
    let locks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' \
                 AND application_name LIKE 'starling-%'";
    setting.until(locks, "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_for_a_caller_who_left_is_handed_back() {
    let setting = Setting::new().await;
    let store = setting.open_with_juliet(1).await;
    let rows: Vec<_> = (0..50).map(|number| row(number, RowState::Pending, &[])).collect();
    store.commit(&rows).await.unwrap();
    let mut claimed = 0;
    for patience in 0..400_u32 {
        let claim = store.claim(JULIET, 10, 1_000_000);
        let leave = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            rows = claim => {
                claimed += 1;
                let ids: Vec<_> = rows.unwrap().iter().map(|row| row.id).collect();
                let returned = |id: &MessageId| Change::Returned { account: JULIET, id: *id, holders: &[1] };
                store.commit(&ids.iter().map(returned).collect::<Vec<_>>()).await.unwrap();
            }
            () = leave => {}
        }
    }
    assert!(claimed < 400, "some have left");
    // Whatever is handed back is handed back before it is closed.
    starling_store::Store::close(&store).await;
    let other = setting.open(2).await;
    assert_eq!(other.pending(JULIET, 100).await.unwrap(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_postgresql_does_not_have_hold_nothing_up() {
    let setting = Setting::new().await;
    let store = setting.open_with_juliet(1).await;
    let row = |account, number, peer| {
        let Change::Put(row) = row(number, RowState::Pending, &[]) else { panic!() };
        Change::Put(starling_store::Row { account, peer, ..row })
    };
    let changes = [
        row("nul\0@example.com", 1, "romeo@example.net"),
        row(JULIET, 2, "romeo@example.net/\0"),
        Change::Delivered { account: "nul\0@example.com", id: MessageId(1) },
    ];
    store.commit(&changes).await.unwrap();
    let rows = store.rows(JULIET, None, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| &*row.peer).collect::<Vec<_>>(), ["romeo@example.net/\u{fffd}"]);
    assert_eq!(store.waiting(&["nul\0@example.com", JULIET]).await.unwrap(), [false, true]);
    assert_eq!(store.pending("nul\0", 1).await.unwrap(), 0);
    assert_eq!(store.claim("nul\0", 1, 1).await.unwrap(), []);
    assert_eq!(store.rows("nul\0", None, 1).await.unwrap(), []);
    assert_eq!(store.release_account("nul\0", 1).await.unwrap(), []);
    assert_eq!(store.claim_these("nul\0", &[MessageId(1)]).await.unwrap(), []);
    assert_eq!(store.sent("nul\0", 1, MessageId(0)).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_account_leaves_is_deleted_also_when_it_comes_late() {
    let setting = Setting::new().await;
    let store = setting.open_with_juliet(1).await;
    let number = setting.sql("SELECT id FROM account").await;
    let rows: Vec<_> = (0..2500).map(|number| row(number, RowState::Pending, &[])).collect();
    store.commit(&rows).await.unwrap();
    assert!(store.remove(&juliet().jid).await.unwrap());
    assert_eq!(setting.sql("SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM message_open)").await, "0");
    // Somebody who had seen the account writes behind it; then ten minutes go by.
    store.put(&[juliet()], PutMode::Create).await.unwrap();
    store.commit(&rows[..3]).await.unwrap();
    setting
        .sql(&format!("UPDATE message SET account = {number}; UPDATE message_open SET account = {number}, holder = 5"))
        .await;
    assert_eq!(store.release(5, 10).await.unwrap(), [""; 0], "nobody's");
    assert_eq!(store.expire(MessageId(0), 10).await.unwrap(), 0);
    assert_eq!(setting.sql("SELECT count(*) FROM message").await, "3", "not yet");
    setting.sql("UPDATE account_removed SET at = now() - interval '11 minutes'").await;
    store.expire(MessageId(0), 10).await.unwrap();
    let left = "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM message_open) \
                + (SELECT count(*) FROM account_removed)";
    assert_eq!(setting.sql(left).await, "0");
    assert!(suite::account("x@y", 1).jid.as_str() == "x@y" && store.exists(&juliet().jid).await.unwrap());
    assert!(matches!(store.remove(&suite::account("x@y", 1).jid).await, Ok(false) | Err(Error::Busy(_))));
}
