//! What is remembered is true, or not remembered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use starling_backends::redis::{Cluster, Options, Redis};
use starling_registry::{
    OnConflict, RedisConfig, RedisMode, Registry as _, SessionRecord, Update,
    suite::{bare, until},
};
use tokio::time::Instant;

use crate::ground::{Instance, alone, config};

async fn remembered(instance: &Instance, account: &str) {
    until("it is remembered", || async {
        instance.registry.sessions(&bare(account)).await.unwrap();
        instance.registry.cached(account).is_some()
    })
    .await;
}

/// Two change sessions all the time; a third reads, and remembers. Whenever the first two rest, what is remembered is true.
async fn is_true_whenever_there_is_rest(config: &RedisConfig) {
    const ACCOUNTS: usize = 16;
    let (one, other) = (Instance::start(config).await, Instance::start(config).await);
    let reader = Instance::start(config).await;
    let accounts: Vec<_> = (0..ACCOUNTS).map(|number| bare(&format!("user{number}@b"))).collect();
    let began = Instant::now();
    let (mut round, mut hits) = (0_u128, 0);
    while began.elapsed() < Duration::from_secs(4) {
        round += 1;
        let stop = Arc::new(AtomicBool::new(false));
        let reads: Vec<_> = (0..4)
            .map(|task| {
                let (registry, stop, accounts) = (Arc::clone(&reader.registry), Arc::clone(&stop), accounts.clone());
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        registry.sessions(&accounts[task]).await.unwrap();
                        registry.sessions_of(&accounts).await.unwrap();
                        registry.with_presence(&accounts[task..]).await.unwrap();
                    }
                })
            })
            .collect();
        for change in 0..4_u128 {
            for (number, account) in accounts.iter().enumerate() {
                let writer = if (number as u128 + round).is_multiple_of(2) { &one } else { &other };
                let id = round << 32 | change << 16 | number as u128;
                let record = writer.subject().record(&format!("{account}/r"), id);
                writer.registry.bind(record.clone(), OnConflict::Replace, 10).await.unwrap();
                // What it has itself is never older than its own change.
                let own = match writer.registry.cached(account.as_str()) {
                    Some(own) => own,
                    None => writer.registry.sessions(account).await.unwrap(),
                };
                assert_eq!(own[0].id, record.id);
                let update = Update::Carbons(change.is_multiple_of(2));
                assert!(writer.registry.update(&record.full, record.id, update).await.unwrap());
                if change == 2 {
                    assert!(writer.registry.unbind(&record.full, record.id).await.unwrap());
                }
            }
        }
        // A read that comes after the last change comes after all that is said of changes, on each node.
        for account in &accounts {
            reader.registry.sessions(account).await.unwrap();
        }
        let check = |what: &str| {
            let mut found = 0;
            for (number, account) in accounts.iter().enumerate() {
                if let Some(cached) = reader.registry.cached(account.as_str()) {
                    let id = round << 32 | 3 << 16 | number as u128;
                    let cached: Vec<_> = cached.iter().map(|record| (record.id.0, record.carbons)).collect();
                    assert_eq!(cached, [(id, false)], "{what}, round {round}");
                    found += 1;
                }
            }
            found
        };
        check("while others read");
        stop.store(true, Ordering::Relaxed);
        for read in reads {
            read.await.unwrap();
        }
        hits += check("in peace");
    }
    assert!(hits > 0, "nothing was ever remembered");
    assert!(reader.count("starling_registry_cache_invalidations_total") > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_remembered_is_true_whenever_there_is_rest() {
    let server = Redis::start(Options::default()).await;
    is_true_whenever_there_is_rest(&alone(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_remembered_of_a_cluster_is_true_whenever_there_is_rest() {
    let cluster = Cluster::start(false).await;
    is_true_whenever_there_is_rest(&config(cluster.addresses(), RedisMode::Cluster)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_lost_takes_what_was_read_by_it_with_it() {
    let server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    for _ in 0..5 {
        remembered(&one, "a@b").await;
        let flushes = one.count("starling_registry_cache_flushes_total");
        // All of both: the changes come while nobody is told of them.
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        other.ready().await;
        let record = other.subject().record("a@b/a", 1);
        // It may not have noticed yet.
        until("it is bound", || async { other.registry.bind(record.clone(), OnConflict::Replace, 10).await.is_ok() })
            .await;
        until("it is connected again", || async {
            one.count("starling_registry_cache_flushes_total") > flushes && one.registry.is_available()
        })
        .await;
        assert!(one.registry.cached("a@b").is_none_or(|cached| cached.len() == 1));
        remembered(&one, "a@b").await;
        assert_eq!(one.subject().ids("a@b").await, [1]);
        other.registry.unbind(&record.full, record.id).await.unwrap();
        until("it is told again", || async { one.registry.cached("a@b").is_none_or(|cached| cached.is_empty()) }).await;
    }
}

/// The answer is there, and so is the word that it is no longer true, before whoever asked looks at it.
#[tokio::test]
async fn an_answer_that_was_overtaken_is_not_remembered() {
    let server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    for round in 0..20_u128 {
        let account = bare(&format!("user{round}@b"));
        let mut read = one.registry.sessions(&account);
        assert!(futures_util::poll!(&mut read).is_pending());
        let invalidations = one.count("starling_registry_cache_invalidations_total");
        // Asked all the time: the first may have come before the read.
        let record = other.subject().record(&format!("{account}/a"), round);
        other.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
        until("it is told of the change", || async {
            let carbons = Update::Carbons(true);
            other.registry.update(&record.full, record.id, carbons).await.unwrap();
            let carbons = Update::Carbons(false);
            other.registry.update(&record.full, record.id, carbons).await.unwrap();
            one.count("starling_registry_cache_invalidations_total") > invalidations
        })
        .await;
        read.await.unwrap();
        assert_eq!(one.registry.cached(account.as_str()), None, "round {round}");
        remembered(&one, account.as_str()).await;
    }
}

/// Two log in at once; each writes its own, and then looks for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_change_and_then_look_one_sees_the_other() {
    let server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    let sessions = [one.subject().record("one@b/a", 1), other.subject().record("other@b/a", 2)];
    one.registry.bind(sessions[0].clone(), OnConflict::Refuse, 10).await.unwrap();
    other.registry.bind(sessions[1].clone(), OnConflict::Refuse, 10).await.unwrap();
    let mut remembered = 0;
    for round in 0..3000_u32 {
        let priority = Some((round % 100) as i8);
        let look = |instance: &Instance, own: usize, account: &str| {
            let (registry, own, account) = (Arc::clone(&instance.registry), sessions[own].clone(), bare(account));
            tokio::spawn(async move {
                let update = Update::Presence { priority, stanza: None };
                assert!(registry.update(&own.full, own.id, update).await.unwrap());
                let cached = registry.cached(account.as_str());
                let read = registry.sessions_of(std::slice::from_ref(&account)).await.unwrap();
                (read[0][0].priority == priority, cached.is_some())
            })
        };
        let (first, second) = (look(&one, 0, "other@b"), look(&other, 1, "one@b"));
        let (first, second) = (first.await.unwrap(), second.await.unwrap());
        assert!(first.0 || second.0, "round {round}: neither has seen the other");
        remembered += u32::from(first.1) + u32::from(second.1);
    }
    assert!(remembered > 0, "nothing was ever remembered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_older_protocol_nothing_is_cached() {
    let lines = vec!["rename-command HELLO \"\"".to_owned()];
    let server = Redis::start(Options { lines, ..Options::default() }).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    let record: SessionRecord = one.subject().record("a@b/a", 1);
    one.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
    let presence = Update::Presence { priority: Some(1), stanza: Some(b"x".as_slice().into()) };
    one.registry.update(&record.full, record.id, presence).await.unwrap();
    let read = other.registry.with_presence(&[bare("a@b")]).await.unwrap();
    assert_eq!(read[0][0].presence.as_deref(), Some(&b"x"[..]));
    assert_eq!(other.subject().ids("a@b").await, [1]);
    assert_eq!((one.registry.cached("a@b"), other.registry.cached("a@b")), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_remembered_than_there_is_room_for() {
    let server = Redis::start(Options::default()).await;
    let one = Instance::start(&RedisConfig { cache_accounts: 640, ..alone(&server) }).await;
    let accounts: Vec<_> = (0..5000).map(|number| bare(&format!("user{number}@b"))).collect();
    for some in accounts.chunks(500) {
        one.registry.sessions_of(some).await.unwrap();
    }
    let known = accounts.iter().filter(|account| one.registry.cached(account.as_str()).is_some()).count();
    assert!((300..=640).contains(&known), "{known}");
}
