//! What statements cost, and what connections are set to.

use std::fmt::Write as _;

use sqlx::{
    AssertSqlSafe, Executor, PgConnection, Postgres, Row as _, postgres::PgArguments, query::Query, types::Uuid,
};
use starling_backends::postgres::{Options, Postgres as Server};

use super::{
    group::{COMMIT, rounds, uuid},
    messages::{CLAIM, EXPIRE, PENDING, RELEASE, RELEASE_ACCOUNT, ROWS, SENT, WAITING},
    *,
};
use crate::{Accounts as _, Change, Direction, MessageId, PutMode, Row, RowState, suite};

async fn open() -> (Server, PgConfig) {
    let server = Server::start(Options::default()).await;
    server.role("starling", "secret").await;
    server.database("starling", "starling", "template1").await;
    let config = PgConfig {
        url: server.url("starling", "starling").replace("starling@", "starling:secret@"),
        password_file: None,
        ca: None,
        connections: 4,
        instance: 1,
        migrate: Migrate::Auto,
    };
    (server, config)
}

fn id(number: u64) -> MessageId {
    MessageId::new(number, 0, 0)
}

fn put(account: &str, number: u64, state: RowState) -> Change<'_> {
    let (peer, direction, stanza) = ("romeo@example.net", Direction::Received, b"<message/>");
    let holders = if state == RowState::InFlight { &[1][..] } else { &[] };
    Change::Put(Row { account, id: id(number), peer, direction, state, archived: true, holders, origin: None, stanza })
}

/// How many pages a statement looks at, with all that the functions in it do.
async fn pages(connection: &mut PgConnection, query: Query<'_, Postgres, PgArguments>) -> u64 {
    let explained = query.fetch_all(connection).await.unwrap();
    let mut text = String::new();
    for row in explained {
        writeln!(text, "{}", row.get::<String, _>(0)).unwrap();
    }
    // The first line is the whole's.
    let buffers = text.lines().find_map(|line| line.trim().strip_prefix("Buffers: shared ")).expect("some");
    let number =
        |part: &str| part.split_once('=').filter(|(kind, _)| matches!(*kind, "hit" | "read"))?.1.parse::<u64>().ok();
    buffers.split(' ').filter_map(number).sum::<u64>()
}

fn explain(statement: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}"))
}

/// Everything that is done with messages, for few of them; how many pages each looks at.
async fn everything(connection: &mut PgConnection, first: u64) -> Vec<(&'static str, u64)> {
    let account = "user7@example.com";
    let mut all = Vec::new();
    let (returned, held) = (
        Change::Returned { account, id: id(first), holders: &[1, 2] },
        Change::Held { account, id: id(first), from: 1, to: 2 },
    );
    let delivered = |number| Change::Delivered { account, id: id(number) };
    for (what, careful, changes) in [
        ("put", false, vec![put(account, first, RowState::InFlight), put(account, first + 1, RowState::Delivered)]),
        (
            "put once more",
            true,
            vec![put(account, first, RowState::InFlight), put(account, first + 1, RowState::Pending)],
        ),
        ("held", false, vec![held]),
        ("returned", false, vec![returned]),
        ("wait", false, vec![put(account, first, RowState::Pending)]),
        ("delivered", false, vec![delivered(first), delivered(first + 1), delivered(3), delivered(u64::MAX >> 16)]),
        ("left to the others", false, vec![put(account, first + 2, RowState::Pending)]),
    ] {
        let [round] = &rounds(&changes)[..] else { panic!("{what} is one round") };
        all.push((what, pages(connection, round.bind(sqlx::query(explain(COMMIT)), 1, careful)).await));
    }
    let claim = || sqlx::query(explain(CLAIM)).bind(1_i64).bind(account);
    let oldest = claim().bind(3_i32).bind(1000_i64).bind(None::<Vec<Uuid>>);
    all.push(("claim", pages(connection, oldest).await));
    let these = claim().bind(i32::MAX).bind(i64::MAX).bind(Some(vec![uuid(id(first)), uuid(id(900))]));
    all.push(("claim of these", pages(connection, these).await));
    let release = sqlx::query(explain(RELEASE)).bind(1_i64).bind(2_i64).bind(3_i32);
    all.push(("release", pages(connection, release).await));
    let release = sqlx::query(explain(RELEASE_ACCOUNT)).bind(1_i64).bind(account).bind(1_i64);
    all.push(("release of an account", pages(connection, release).await));
    let expire = sqlx::query(explain(EXPIRE)).bind(1_i64).bind(uuid(id(900))).bind(3_i32);
    all.push(("expire", pages(connection, expire).await));
    let sweep = sqlx::query(explain("SELECT account_sweep($1, $2, $3)")).bind(1_i64).bind(None::<i64>).bind(3_i32);
    all.push(("sweep", pages(connection, sweep).await));
    let pending = sqlx::query(explain(PENDING)).bind(account).bind(3_i64);
    all.push(("pending", pages(connection, pending).await));
    let waiting = sqlx::query(explain(WAITING)).bind(vec![account, "user8@example.com"]);
    all.push(("waiting", pages(connection, waiting).await));
    let sent = sqlx::query(explain(SENT)).bind(account).bind(uuid(id(99_000))).bind(vec![0_u8; 16]);
    all.push(("sent", pages(connection, sent).await));
    let rows = sqlx::query(explain(ROWS)).bind(account).bind(uuid(id(50_000))).bind(3_i64);
    all.push(("rows", pages(connection, rows).await));
    all
}

/// Plans are made once: those of connections that were there when the tables were empty must be good when they are
/// full.
#[tokio::test]
async fn nothing_costs_more_with_a_larger_archive_also_when_it_began_empty() {
    let (server, config) = open().await;
    let store = PgStore::open(&config).await.unwrap();
    PgStore::open(&PgConfig { instance: 2, ..config.clone() }).await.unwrap();
    let accounts: Vec<_> = (0..2000).map(|n| suite::account(&format!("user{n}@example.com"), 7)).collect();
    store.put(&accounts, PutMode::Create).await.unwrap();
    // As the worst of cases: known to be empty.
    server.sql("starling", "VACUUM ANALYZE message, message_open").await;
    let (mut connection, _) = Connector::new(&config).unwrap().connect().await.unwrap();
    for round in 0..3 {
        everything(&mut connection, 1 + 10 * round).await;
    }
    // A row of each account in a millisecond; one in ten waits or is in flight.
    server
        .sql(
            "starling",
            "INSERT INTO message SELECT account, (lpad(to_hex(n), 12, '0') || repeat('0', 20))::uuid, 'x', 1, true, NULL, '\\x00' \
             FROM generate_series(1000, 1119) AS n, generate_series(1, 2000) AS account; \
             INSERT INTO message_open SELECT account, id, (get_byte(uuid_send(id), 5) / 10 + account) % 3, true \
             FROM message WHERE get_byte(uuid_send(id), 5) % 10 = 0",
        )
        .await;
    let whole = server.sql("starling", "SELECT pg_relation_size('message_open_pkey') / 8192").await.parse().unwrap();
    for (what, pages) in everything(&mut connection, 50_000).await {
        assert!(pages < whole, "{what} looks at {pages} pages: the smaller table's key has {whole}");
    }
}

#[tokio::test]
async fn sessions_are_set_to_what_the_store_relies_on_whatever_the_servers_default() {
    let (server, config) = open().await;
    let defaults = "ALTER ROLE starling SET synchronous_commit = off; ALTER ROLE starling SET statement_timeout = 0; \
                    ALTER ROLE starling SET default_transaction_isolation = 'serializable'";
    server.sql("postgres", defaults).await;
    let (mut connection, process) = Connector::new(&config).unwrap().connect().await.unwrap();
    for (name, expected) in [
        ("synchronous_commit", "on"),
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("default_transaction_isolation", "read committed"),
        ("plan_cache_mode", "force_generic_plan"),
        ("application_name", "starling-0000000000000001"),
    ] {
        let row = connection.fetch_one(AssertSqlSafe(format!("SHOW {name}"))).await.unwrap();
        assert_eq!(row.get::<String, _>(0), expected, "{name}");
    }
    let own: i32 = connection.fetch_one("SELECT pg_backend_pid()").await.unwrap().get(0);
    assert_eq!(own, process);
}

#[test]
fn changes_of_a_message_that_need_another_order_go_into_another_round() {
    let account = "juliet@example.com";
    let (a, b) = (put(account, 1, RowState::InFlight), put(account, 1, RowState::Pending));
    let delivered = Change::Delivered { account, id: id(1) };
    let returned = Change::Returned { account, id: id(1), holders: &[1] };
    let held = Change::Held { account, id: id(1), from: 1, to: 2 };
    let other = put(account, 2, RowState::Pending);
    for (changes, expected) in [
        (vec![], 0),
        (vec![a, b, held, returned, returned, delivered, delivered, returned, other], 1),
        (vec![delivered, a], 2),
        (vec![returned, a], 2),
        (vec![held, held], 2),
        (vec![delivered, other, a, delivered, b], 3),
    ] {
        assert_eq!(rounds(&changes).len(), expected, "{changes:?}");
    }
}
