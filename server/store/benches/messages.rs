//! What messages cost in either store: groups of rows of 200 accounts, to an empty table and to one of a million rows;
//! messages that are in flight and then delivered; a roster.
//!
//! Wall time, most of it the disk's. Beside it the CPU time is printed: of this process, SQLite's threads among it, and
//! of PostgreSQL's processes, those that write behind among them.

#![allow(clippy::unwrap_used, reason = "what fails here fails the measurement")]

use std::{cell::RefCell, fmt, fs, sync::OnceLock};

use divan::{Bencher, counter::ItemsCount};
use sqlx::{Connection, PgConnection};
use starling_backends::postgres::{Options, Postgres};
use starling_store::{
    Change, Direction, ItemChange, MessageId, Migrate, PgConfig, PgStore, PutMode, RosterItem, Row, RowState,
    SqliteStore, Store, Subscription, suite,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

fn main() {
    divan::main();
}

const ACCOUNTS: u64 = 200;
const MILLION: u64 = 1_000_000;
/// Of a short chat message with all that clients add to it.
const STANZA: [u8; 400] = [b'x'; 400];
const HOLDERS: &[u64] = &[suite::INSTANCE];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sqlite,
    Postgres,
}

/// Which store, and how many at once.
#[derive(Clone, Copy, Debug)]
struct Case(Kind, u64);

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {}", self.0, self.1)
    }
}

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

fn cases(sizes: &[u64]) -> Vec<Case> {
    KINDS.into_iter().flat_map(|kind| sizes.iter().map(move |size| Case(kind, *size))).collect()
}

struct Setting {
    runtime: Runtime,
    store: Box<dyn Store>,
    accounts: Vec<String>,
    server: Option<Postgres>,
    _folder: TempDir,
}

fn open(kind: Kind) -> Setting {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (store, server) = runtime.block_on(async {
        match kind {
            Kind::Sqlite => {
                let store = SqliteStore::open(&folder.path().join("starling.sqlite")).await.unwrap();
                (Box::new(store) as Box<dyn Store>, None)
            }
            Kind::Postgres => {
                let server = Postgres::start(Options { fsync: true, ..Options::default() }).await;
                server.role("starling", "secret").await;
                server.database("starling", "starling", "template1").await;
                let password_file = folder.path().join("password");
                fs::write(&password_file, "secret").unwrap();
                let config = PgConfig {
                    url: server.url("starling", "starling"),
                    password_file: Some(password_file),
                    ca: None,
                    connections: 12,
                    instance: suite::INSTANCE,
                    migrate: Migrate::Auto,
                };
                (Box::new(PgStore::open(&config).await.unwrap()) as Box<dyn Store>, Some(server))
            }
        }
    });
    let accounts: Vec<_> = (0..ACCOUNTS).map(|n| suite::account(&format!("user{n}@example.com"), 7)).collect();
    runtime.block_on(store.put(&accounts, PutMode::Create)).unwrap();
    let accounts = accounts.into_iter().map(|account| account.jid.as_str().to_owned()).collect();
    Setting { runtime, store, accounts, server, _folder: folder }
}

/// The only ones with a million rows: the few that a measurement adds are nothing to them.
fn filled(kind: Kind) -> &'static Setting {
    static FILLED: [OnceLock<Setting>; 2] = [const { OnceLock::new() }; 2];
    FILLED[kind as usize].get_or_init(|| {
        let setting = open(kind);
        for from in (0..MILLION).step_by(5000) {
            setting.commit(from, 5000);
        }
        setting
    })
}

impl Setting {
    fn account(&self, number: u64) -> &str {
        let account = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.accounts[(account % ACCOUNTS) as usize]
    }

    fn row(&self, number: u64, state: RowState) -> Change<'_> {
        Change::Put(Row {
            account: self.account(number),
            id: MessageId::new(number, 0, 1),
            peer: "romeo@example.net/orchard",
            direction: Direction::Received,
            state,
            archived: true,
            holders: if state == RowState::InFlight { HOLDERS } else { &[] },
            origin: None,
            stanza: &STANZA,
        })
    }

    /// Writes rows `from` to `from + count`. A tenth of them waits.
    fn commit(&self, from: u64, count: u64) {
        let state = |n: u64| if n.is_multiple_of(10) { RowState::Pending } else { RowState::Delivered };
        let changes: Vec<_> = (from..from + count).map(|number| self.row(number, state(number))).collect();
        self.runtime.block_on(self.store.commit(&changes)).unwrap();
    }

    /// Puts rows in flight, and delivers as many of those before.
    fn commit_in_flight(&self, from: u64, count: u64) {
        let puts = (from..from + count).map(|number| self.row(number, RowState::InFlight));
        let delivered = (from.saturating_sub(count)..from)
            .map(|number| Change::Delivered { account: self.account(number), id: MessageId::new(number, 0, 1) });
        let changes: Vec<_> = puts.chain(delivered).collect();
        self.runtime.block_on(self.store.commit(&changes)).unwrap();
    }

    /// CPU time so far, in microseconds, as fine as 10 ms: of this process, and of the database's.
    fn cpu(&self) -> [u64; 2] {
        let own = ticks(std::process::id(), &[11, 12]);
        let Some(server) = &self.server else { return [own, 0] };
        let postmaster = server.postmaster();
        let living: u64 = server.processes().into_iter().map(|process| ticks(process, &[11, 12])).sum();
        // And those that have ended.
        [own, living + ticks(postmaster, &[13, 14])]
    }
}

/// Fields of a process's times, counted from behind its name.
fn ticks(process: u32, fields: &[usize]) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(") ") else { return 0 };
    let rest: Vec<_> = rest.split(' ').collect();
    10_000 * fields.iter().map(|field| rest[*field].parse::<u64>().unwrap()).sum::<u64>()
}

fn measure(bencher: Bencher<'_, '_>, setting: &Setting, name: &str, group: u64, commit: impl Fn(u64)) {
    let (mut done, before) = (0, setting.cpu());
    bencher.counter(ItemsCount::new(group)).bench_local(|| {
        commit(done);
        done += group;
    });
    let after = setting.cpu();
    let [own, database] = [0, 1].map(|of| (after[of] - before[of]) as f64 / done.max(1) as f64);
    eprintln!("{name}: {:.1} us of CPU per row ({own:.1} here, {database:.1} in the database)", own + database);
}

#[divan::bench(args = cases(&[1, 20, 200, 256]), sample_count = 300, sample_size = 10)]
fn commit_to_an_empty_table(bencher: Bencher<'_, '_>, case: Case) {
    let setting = open(case.0);
    let name = format!("{case} to an empty table");
    measure(bencher, &setting, &name, case.1, |done| setting.commit(done, case.1));
}

/// The least that can be done.
#[divan::bench(args = [1, 20, 200, 256], sample_count = 300, sample_size = 10)]
fn insert_by_hand(bencher: Bencher<'_, '_>, group: u64) {
    let setting = open(Kind::Postgres);
    let url = setting.server.as_ref().unwrap().url("starling:secret", "starling");
    let connection = RefCell::new(setting.runtime.block_on(PgConnection::connect(&url)).unwrap());
    let statement = "INSERT INTO message (account, id, peer, direction, archived, stanza) \
                     SELECT account.id, row.id, row.peer, row.direction, true, row.stanza \
                     FROM unnest($1, $2, $3, $4, $5) AS row (jid, id, peer, direction, stanza) JOIN account USING (jid)";
    measure(bencher, &setting, &format!("by hand, {group} to an empty table"), group, |done| {
        let numbers = done..done + group;
        let insert = sqlx::query(statement)
            .bind(numbers.clone().map(|number| setting.account(number)).collect::<Vec<_>>())
            .bind(numbers.clone().map(|number| Uuid::from_u128(MessageId::new(number, 0, 1).0)).collect::<Vec<_>>())
            .bind(numbers.clone().map(|_| "romeo@example.net/orchard").collect::<Vec<_>>())
            .bind(numbers.clone().map(|_| 1_i16).collect::<Vec<_>>())
            .bind(numbers.map(|_| &STANZA[..]).collect::<Vec<_>>());
        setting.runtime.block_on(insert.execute(&mut *connection.borrow_mut())).unwrap();
    });
}

#[divan::bench(args = cases(&[1, 20, 200, 256]), sample_count = 300, sample_size = 10)]
fn commit_to_a_million_rows(bencher: Bencher<'_, '_>, case: Case) {
    let setting = filled(case.0);
    // Each its own numbers.
    let from = MILLION * (1 + case.1);
    let name = format!("{case} to a million rows");
    measure(bencher, setting, &name, case.1, |done| setting.commit(from + done, case.1));
}

#[divan::bench(args = cases(&[20, 200]), sample_count = 300, sample_size = 10)]
fn commit_in_flight_and_delivered(bencher: Bencher<'_, '_>, case: Case) {
    let setting = filled(case.0);
    let from = MILLION * (1000 + case.1);
    let name = format!("{case} in flight and delivered, behind a million rows");
    measure(bencher, setting, &name, case.1, |done| setting.commit_in_flight(from + done, case.1));
}

#[divan::bench(args = cases(&[20, 200]))]
fn roster(bencher: Bencher<'_, '_>, case: Case) {
    let setting = open(case.0);
    let account = suite::account("user0@example.com", 7).jid;
    for number in 0..case.1 {
        let item = RosterItem {
            contact: suite::account(&format!("contact{number}@example.net"), 7).jid,
            name: Some(format!("Contact {number}")),
            groups: vec!["Friends".to_owned()],
            subscription: Subscription::Both,
            ask: false,
            pending_in: None,
            approved: false,
            listed: true,
            version: 0,
        };
        let contact = item.contact.clone();
        let put = move |_: Option<&RosterItem>| ItemChange::Put(item.clone());
        setting.runtime.block_on(setting.store.change_item(&account, &contact, 1000, &put)).unwrap();
    }
    bencher
        .counter(ItemsCount::new(case.1))
        .bench_local(|| setting.runtime.block_on(setting.store.roster(&account)).unwrap());
}

#[divan::bench(args = KINDS)]
fn claim_where_nothing_waits(bencher: Bencher<'_, '_>, kind: Kind) {
    let setting = filled(kind);
    let nobody = "nobody@example.com";
    bencher.bench_local(|| setting.runtime.block_on(setting.store.claim(nobody, 100, 256 * 1024)).unwrap());
}

#[divan::bench(args = KINDS, sample_count = 100, sample_size = 1)]
fn a_page_of_an_account_of_a_million_rows(bencher: Bencher<'_, '_>, kind: Kind) {
    let setting = filled(kind);
    let after = Some(MessageId::new(MILLION / 2, 0, 0));
    bencher.bench_local(|| setting.runtime.block_on(setting.store.rows(&setting.accounts[7], after, 50)).unwrap());
}

#[divan::bench(args = KINDS)]
fn credentials(bencher: Bencher<'_, '_>, kind: Kind) {
    let setting = filled(kind);
    let accounts: Vec<_> = (0..ACCOUNTS).map(|n| suite::account(&format!("user{n}@example.com"), 7).jid).collect();
    let mut next = accounts.iter().cycle();
    bencher.bench_local(|| setting.runtime.block_on(setting.store.credentials(next.next().unwrap())).unwrap());
}
