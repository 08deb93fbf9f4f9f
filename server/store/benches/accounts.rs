//! What accounts cost: a look-up that is remembered, one that asks the database, and writing a thousand in a transaction.
//!
//! Wall time. The database's own threads do most of the work of the two that ask it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the measurement")]

use divan::{Bencher, counter::ItemsCount};
use starling_store::{Account, Accounts, PutMode, SqliteStore, suite};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

fn main() {
    divan::main();
}

/// Accounts of one transaction, as an import writes them.
const TRANSACTION: usize = 1000;
/// More than are remembered.
const ACCOUNTS: usize = 20 * TRANSACTION;

struct Setting {
    runtime: Runtime,
    store: SqliteStore,
    _folder: TempDir,
}

fn open() -> Setting {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = runtime.block_on(SqliteStore::open(&folder.path().join("starling.sqlite"))).unwrap();
    Setting { runtime, store, _folder: folder }
}

fn accounts(range: std::ops::Range<usize>) -> Vec<Account> {
    range.map(|number| suite::account(&format!("user{number}@example.com"), 7)).collect()
}

fn fill(setting: &Setting) -> Vec<Account> {
    let all = accounts(0..ACCOUNTS);
    for some in all.chunks(TRANSACTION) {
        setting.runtime.block_on(setting.store.put(some, PutMode::Create)).unwrap();
    }
    all
}

#[divan::bench]
fn credentials_remembered(bencher: Bencher<'_, '_>) {
    let setting = open();
    let all = fill(&setting);
    bencher.bench_local(|| setting.runtime.block_on(setting.store.credentials(&all[0].jid)).unwrap());
}

#[divan::bench]
fn credentials_from_the_database(bencher: Bencher<'_, '_>) {
    let setting = open();
    let all = fill(&setting);
    let mut next = all.iter().cycle();
    bencher.bench_local(|| {
        let account = next.next().unwrap();
        setting.runtime.block_on(setting.store.credentials(&account.jid)).unwrap()
    });
}

/// 100 000 accounts.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn put_a_thousand(bencher: Bencher<'_, '_>) {
    let setting = open();
    let mut from = 0;
    bencher
        .counter(ItemsCount::new(TRANSACTION))
        .with_inputs(|| {
            from += TRANSACTION;
            accounts(from..from + TRANSACTION)
        })
        .bench_local_values(|some| setting.runtime.block_on(setting.store.put(&some, PutMode::Create)).unwrap());
}
