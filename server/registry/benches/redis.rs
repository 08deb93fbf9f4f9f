//! What the registry in Redis costs its callers: a look-up that the cache answers, a read, a claim, a change of presence. The
//! server runs beside it, on the same machine, so that a round trip is one through the kernel.
//!
//! Wall time, of one call after the other; `many_at_once` shows what a call costs where others are on their way.

#![allow(clippy::unwrap_used, reason = "what fails here fails the measurement")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use divan::{Bencher, counter::ItemsCount};
use futures_util::future::join_all;
use starling_backends::redis::{Options, Redis};
use starling_registry::{
    InstanceId, OnConflict, RedisConfig, RedisRegistry, Registry as _, SessionId, SessionRecord, Update, suite::bare,
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

fn main() {
    divan::main();
}

struct Setting {
    registry: Arc<RedisRegistry>,
    ids: AtomicU64,
    _server: Redis,
    // Last: the others need it until they are gone.
    runtime: Runtime,
}

fn open() -> Setting {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (registry, server) = runtime.block_on(async {
        let server = Redis::start(Options::default()).await;
        let config = RedisConfig { servers: vec![server.address()], ..RedisConfig::default() };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let metrics = prometheus::Registry::new();
        let registry = RedisRegistry::start(&config, InstanceId(1), Arc::new(()), &tasks, &stop, &metrics).unwrap();
        registry.ready().await;
        (registry, server)
    });
    Setting { registry: Arc::new(registry), ids: AtomicU64::new(1), _server: server, runtime }
}

impl Setting {
    fn record(&self) -> SessionRecord {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        SessionRecord::new(format!("user{id}@example.com/x").parse().unwrap(), SessionId(id.into()), InstanceId(1))
    }

    fn bound(&self) -> SessionRecord {
        let record = self.record();
        self.runtime.block_on(self.registry.bind(record.clone(), OnConflict::Replace, 10)).unwrap();
        record
    }
}

#[divan::bench]
fn cached_hit(bencher: Bencher<'_, '_>) {
    let setting = open();
    let account = setting.bound().full.to_bare();
    setting.runtime.block_on(setting.registry.sessions(&account)).unwrap();
    assert!(setting.registry.cached(account.as_str()).is_some());
    bencher.bench_local(|| setting.registry.cached(account.as_str()));
}

#[divan::bench]
fn sessions(bencher: Bencher<'_, '_>) {
    let setting = open();
    let account = setting.bound().full.to_bare();
    bencher.bench_local(|| setting.runtime.block_on(setting.registry.sessions(&account)).unwrap());
}

#[divan::bench]
fn bind(bencher: Bencher<'_, '_>) {
    let setting = open();
    bencher.with_inputs(|| setting.record()).bench_local_values(|record| {
        setting.runtime.block_on(setting.registry.bind(record, OnConflict::Replace, 10)).unwrap()
    });
}

#[divan::bench]
fn change_of_presence(bencher: Bencher<'_, '_>) {
    let setting = open();
    let record = setting.bound();
    let mut number = 0;
    bencher.bench_local(|| {
        number += 1;
        let stanza = Some(format!("<presence><status>{number}</status></presence>").into_bytes().into());
        let update = Update::Presence { priority: Some(1), stanza };
        setting.runtime.block_on(setting.registry.update(&record.full, record.id, update)).unwrap()
    });
}

/// A hundred contacts, by one pipeline.
#[divan::bench]
fn presence_of_contacts(bencher: Bencher<'_, '_>) {
    let setting = open();
    let mut accounts: Vec<_> = (0..50).map(|_| setting.bound().full.to_bare()).collect();
    accounts.extend((0..50).map(|number| bare(&format!("nobody{number}@example.com"))));
    bencher
        .counter(ItemsCount::new(accounts.len()))
        .bench_local(|| setting.runtime.block_on(setting.registry.with_presence(&accounts)).unwrap());
}

/// Claims of 64 log-ins that are on their way together.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn bind_many_at_once(bencher: Bencher<'_, '_>) {
    let setting = open();
    bencher
        .counter(ItemsCount::new(64_usize))
        .with_inputs(|| (0..64).map(|_| setting.record()).collect::<Vec<_>>())
        .bench_local_values(|records| {
            let binds = records.into_iter().map(|record| setting.registry.bind(record, OnConflict::Replace, 10));
            setting.runtime.block_on(join_all(binds))
        });
}
