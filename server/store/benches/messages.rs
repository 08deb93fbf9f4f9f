//! What messages cost: groups of rows of 200 accounts, to an empty table and to one of a million rows; a roster.
//!
//! Wall time, most of it the disk's. The CPU time of the whole process, SQLite's threads among it, is printed beside it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the measurement")]

use std::{fs, sync::OnceLock};

use divan::{Bencher, counter::ItemsCount};
use starling_store::{
    Accounts, Change, Direction, ItemChange, MessageId, Messages, PutMode, RosterItem, Rosters, Row, RowState,
    SqliteStore, Subscription, suite,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

fn main() {
    divan::main();
}

const ACCOUNTS: u64 = 200;
const MILLION: u64 = 1_000_000;
/// Of a short chat message with all that clients add to it.
const STANZA: [u8; 400] = [b'x'; 400];

struct Setting {
    runtime: Runtime,
    store: SqliteStore,
    accounts: Vec<String>,
    _folder: TempDir,
}

fn open() -> Setting {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = runtime.block_on(SqliteStore::open(&folder.path().join("starling.sqlite"))).unwrap();
    let accounts: Vec<_> = (0..ACCOUNTS).map(|n| suite::account(&format!("user{n}@example.com"), 7)).collect();
    runtime.block_on(store.put(&accounts, PutMode::Create)).unwrap();
    let accounts = accounts.into_iter().map(|account| account.jid.as_str().to_owned()).collect();
    Setting { runtime, store, accounts, _folder: folder }
}

/// The only one with a million rows: the few that a measurement adds are nothing to them.
fn filled() -> &'static Setting {
    static FILLED: OnceLock<Setting> = OnceLock::new();
    FILLED.get_or_init(|| {
        let setting = open();
        for from in (0..MILLION).step_by(5000) {
            setting.commit(from, 5000);
        }
        setting
    })
}

impl Setting {
    /// Writes rows `from` to `from + count`. A tenth of them waits.
    fn commit(&self, from: u64, count: u64) {
        let row = |number: u64| {
            let account = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            Change::Put(Row {
                account: &self.accounts[(account % ACCOUNTS) as usize],
                id: MessageId::new(number, 0, 1),
                peer: "romeo@example.net/orchard",
                direction: Direction::Received,
                state: if number.is_multiple_of(10) { RowState::Pending } else { RowState::Delivered },
                archived: true,
                holders: &[],
                origin: None,
                stanza: &STANZA,
            })
        };
        let changes: Vec<_> = (from..from + count).map(row).collect();
        self.runtime.block_on(self.store.commit(&changes)).unwrap();
    }
}

/// CPU time of this process, in microseconds; as fine as 10 ms.
fn cpu() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = |field: usize| fields.split(' ').nth(field).unwrap().parse::<u64>().unwrap();
    10_000 * (ticks(11) + ticks(12))
}

fn commit(bencher: Bencher<'_, '_>, setting: &Setting, from: u64, group: u64) {
    let (mut next, before) = (from, cpu());
    bencher.counter(ItemsCount::new(group)).bench_local(|| {
        setting.commit(next, group);
        next += group;
    });
    let rows = (next - from).max(1);
    eprintln!(
        "groups of {group:3} behind {from:7} rows: {:.1} us of CPU per row",
        (cpu() - before) as f64 / rows as f64
    );
}

#[divan::bench(args = [1, 20, 256], sample_count = 300, sample_size = 10)]
fn commit_to_an_empty_table(bencher: Bencher<'_, '_>, group: u64) {
    commit(bencher, &open(), 0, group);
}

#[divan::bench(args = [1, 20, 256], sample_count = 300, sample_size = 10)]
fn commit_to_a_million_rows(bencher: Bencher<'_, '_>, group: u64) {
    // Each its own numbers.
    commit(bencher, filled(), MILLION * (1 + group), group);
}

#[divan::bench(args = [20, 200])]
fn roster(bencher: Bencher<'_, '_>, items: u64) {
    let setting = open();
    let account = suite::account("user0@example.com", 7).jid;
    for number in 0..items {
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
        .counter(ItemsCount::new(items))
        .bench_local(|| setting.runtime.block_on(setting.store.roster(&account)).unwrap());
}

#[divan::bench]
fn claim_where_nothing_waits(bencher: Bencher<'_, '_>) {
    let setting = filled();
    let nobody = "nobody@example.com";
    bencher.bench_local(|| setting.runtime.block_on(setting.store.claim(nobody, 100, 256 * 1024)).unwrap());
}

#[divan::bench(sample_count = 100, sample_size = 1)]
fn a_page_of_an_account_of_a_million_rows(bencher: Bencher<'_, '_>) {
    let setting = filled();
    let after = Some(MessageId::new(MILLION / 2, 0, 0));
    bencher.bench_local(|| setting.runtime.block_on(setting.store.rows(&setting.accounts[7], after, 50)).unwrap());
}
