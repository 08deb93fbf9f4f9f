//! Who is alive, and who may say so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use starling_backends::redis::{Options, Redis, Watched};
use starling_registry::{
    Error, InstanceId, Members as _, OnConflict, RedisMode, Registry as _, SessionId, Update,
    redis::Guard,
    suite::{bare, until},
};
use tokio::{sync::Notify, task::JoinHandle, time::sleep};

use crate::ground::{Instance, alone, config};

/// Asks all the time whether an instance is alive, and ends with what it was told.
struct Doubt {
    asks: JoinHandle<(usize, usize)>,
    stop: Arc<AtomicBool>,
}

impl Doubt {
    fn start(who: &Instance, of: InstanceId) -> Self {
        let (registry, stop) = (Arc::clone(&who.registry), Arc::new(AtomicBool::new(false)));
        let own = Arc::clone(&stop);
        let asks = tokio::spawn(async move {
            let (mut yes, mut unknown) = (0, 0);
            while !own.load(Ordering::Relaxed) {
                match registry.is_alive(of).await {
                    Ok(true) => yes += 1,
                    Ok(false) => panic!("the living was declared dead"),
                    Err(Error::Away(_)) => unknown += 1,
                }
                assert!(!registry.dead().await.is_ok_and(|dead| dead.contains(&of)));
                assert!(!registry.claim_dead(of).await.is_ok_and(|claimed| claimed));
                sleep(Duration::from_millis(2)).await;
            }
            (yes, unknown)
        });
        Self { asks, stop }
    }

    async fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.asks.await.unwrap()
    }
}

async fn known_to_be_alive(who: &Instance, of: InstanceId) {
    until("it is known to be alive", || async { who.registry.is_alive(of).await.is_ok_and(|alive| alive) }).await;
}

/// From here on, who has no lease is dead.
async fn all_are_heard(by: &Instance) {
    until("it is known who lives", || async { by.registry.is_alive(InstanceId(1)).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_declares_nobody_dead() {
    let server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    known_to_be_alive(&one, other.id).await;
    all_are_heard(&one).await;
    let doubt = Doubt::start(&one, other.id);
    for _ in 0..5 {
        let renewals = other.renewals();
        server.command(&["FLUSHALL"]).await;
        other.renewed_since(renewals).await;
    }
    all_are_heard(&one).await;
    known_to_be_alive(&one, other.id).await;
    let (yes, unknown) = doubt.end().await;
    assert!(yes > 0 && unknown > 0, "{yes} {unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_away_or_stopped_declares_nobody_dead() {
    let mut server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    known_to_be_alive(&one, other.id).await;
    all_are_heard(&one).await;
    let doubt = Doubt::start(&one, other.id);
    server.kill9().await;
    server.start_again().await;
    all_are_heard(&one).await;
    known_to_be_alive(&one, other.id).await;
    // For longer than a lease, so that none is left when it goes on.
    server.pause().await;
    sleep(Duration::from_secs(3)).await;
    server.resume().await;
    all_are_heard(&one).await;
    known_to_be_alive(&one, other.id).await;
    // Whoever comes first to it, and knows nothing of what was before.
    let third = Instance::start(&alone(&server)).await;
    known_to_be_alive(&third, other.id).await;
    let (yes, unknown) = doubt.end().await;
    assert!(yes > 0 && unknown > 0, "{yes} {unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_declares_nobody_dead() {
    let mut watched = Watched::start().await;
    let mut config = config(watched.sentinels(), RedisMode::Sentinel);
    config.primary = watched.name().to_owned();
    let (one, other) = (Instance::start(&config).await, Instance::start(&config).await);
    known_to_be_alive(&one, other.id).await;
    all_are_heard(&one).await;
    let doubt = Doubt::start(&one, other.id);
    let renewals = (one.renewals(), other.renewals());
    watched.kill_primary().await;
    watched.failed_over().await;
    one.renewed_since(renewals.0).await;
    other.renewed_since(renewals.1).await;
    all_are_heard(&one).await;
    known_to_be_alive(&one, other.id).await;
    doubt.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_are_found_and_cleaned_up_after_by_one() {
    let server = Redis::start(Options::default()).await;
    let start = || async { Instance::start(&alone(&server)).await };
    let (one, other, dies) = (start().await, start().await, start().await);
    let mut sessions = Vec::new();
    for number in 0..5_u128 {
        let record = dies.subject().record(&format!("user{number}@b/a"), number);
        dies.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
        sessions.push(record);
    }
    let dead = dies.id;
    dies.crash().await;
    until("it is found dead", || async { one.registry.dead().await.is_ok_and(|found| found == [dead]) }).await;
    assert!(!one.registry.is_alive(dead).await.unwrap());
    assert!(one.registry.claim_dead(dead).await.unwrap());
    assert!(one.registry.claim_dead(dead).await.unwrap(), "again while it is");
    assert!(!other.registry.claim_dead(dead).await.unwrap());
    // One of them has logged in elsewhere since.
    let back = other.subject().record("user3@b/a", 33);
    other.registry.bind(back, OnConflict::Replace, 10).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let accounts = one.registry.accounts_of(dead, 2).await.unwrap();
        assert!(accounts.len() <= 2);
        if accounts.is_empty() {
            break;
        }
        for account in accounts {
            for record in &*one.registry.sessions(&account).await.unwrap() {
                if record.instance == dead {
                    assert!(one.registry.evict(record).await.unwrap());
                }
            }
            one.registry.forget_account(dead, &account).await.unwrap();
            seen.push(account.as_str().to_owned());
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..5).map(|number| format!("user{number}@b")).collect::<Vec<_>>());
    one.registry.forget_instance(dead).await.unwrap();
    assert!(one.registry.dead().await.unwrap().is_empty());
    assert!(other.subject().ids("user0@b").await.is_empty());
    assert_eq!(other.subject().ids("user3@b").await, [33]);
    // Nothing is left but what the living have.
    let keys = server.command(&["KEYS", &format!("*{dead}*")]).await;
    assert_eq!(keys, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_in_order_leaves_nothing_or_what_others_can_find() {
    let server = Redis::start(Options::default()).await;
    let (one, empty, full) = (
        Instance::start(&alone(&server)).await,
        Instance::start(&alone(&server)).await,
        Instance::start(&alone(&server)).await,
    );
    let gone = empty.subject().record("gone@b/a", 1);
    empty.registry.bind(gone.clone(), OnConflict::Refuse, 10).await.unwrap();
    empty.registry.unbind(&gone.full, gone.id).await.unwrap();
    let left = full.subject().record("left@b/a", 2);
    full.registry.bind(left, OnConflict::Refuse, 10).await.unwrap();
    all_are_heard(&one).await;
    let (empty_id, full_id) = (empty.id, full.id);
    let registry = Arc::clone(&full.registry);
    empty.close().await;
    full.close().await;
    // At once: there is no lease to wait for.
    assert_eq!(one.registry.dead().await.unwrap(), [full_id]);
    assert_eq!(one.registry.accounts_of(full_id, 10).await.unwrap(), [bare("left@b")]);
    assert_eq!(server.command(&["KEYS", &format!("*{empty_id}*")]).await, "");
    // Whoever still asks is refused.
    assert!(!registry.is_available());
    assert!(registry.bind(one.subject().record("left@b/b", 3), OnConflict::Refuse, 10).await.is_err());
    assert_eq!(one.subject().ids("left@b").await, [2]);
}

/// Answers when it is told to.
#[derive(Default)]
struct Patient {
    asked: AtomicUsize,
    answer: AtomicBool,
    go: Notify,
}

#[async_trait]
impl Guard for Patient {
    async fn may_go_on(&self) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.go.notified().await;
        self.answer.load(Ordering::SeqCst)
    }
}

/// One thread, which is blocked as SIGSTOP would block the process.
#[tokio::test]
async fn after_a_pause_nothing_is_written_before_somebody_has_said_so() {
    let server = Redis::start(Options::default()).await;
    let guard = Arc::new(Patient::default());
    let one = Instance::start_guarded(&alone(&server), Arc::clone(&guard) as Arc<dyn Guard>);
    one.ready().await;
    let session = one.subject().record("a@b/a", 1);
    one.registry.bind(session.clone(), OnConflict::Refuse, 10).await.unwrap();
    let changes = server.command(&["HGETALL", "starling:{a@b}:s"]).await;

    std::thread::sleep(Duration::from_millis(2000));
    // At once, before any task has run.
    assert!(!one.registry.is_available());
    let new = one.subject().record("a@b/new", 2);
    assert!(matches!(one.registry.bind(new.clone(), OnConflict::Replace, 10).await, Err(Error::Away(_))));
    assert!(one.registry.update(&session.full, session.id, Update::Carbons(true)).await.unwrap());
    until("the guard is asked", || async { guard.asked.load(Ordering::SeqCst) == 1 }).await;
    assert!(!one.registry.is_available());
    assert!(one.registry.is_alive(one.id).await.is_err());
    assert_eq!(server.command(&["HGETALL", "starling:{a@b}:s"]).await, changes);
    guard.answer.store(true, Ordering::SeqCst);
    guard.go.notify_one();
    one.ready().await;
    until("what was changed is written", || async {
        server.command(&["HGETALL", "starling:{a@b}:s"]).await != changes
    })
    .await;

    // For good.
    std::thread::sleep(Duration::from_millis(2000));
    guard.answer.store(false, Ordering::SeqCst);
    until("the guard is asked again", || async { guard.asked.load(Ordering::SeqCst) == 2 }).await;
    guard.go.notify_one();
    let lease = format!("starling:{{members}}:instance:{}", one.id);
    until("the lease runs out", || async { server.command(&["EXISTS", &lease]).await == "0" }).await;
    assert!(one.registry.bind(new, OnConflict::Replace, 10).await.is_err());
    assert!(!one.registry.is_available());
    assert_eq!(guard.asked.load(Ordering::SeqCst), 2);
    assert!(one.registry.unbind(&session.full, SessionId(1)).await.unwrap());
    one.close().await;
    assert_eq!(server.command(&["HLEN", "starling:{a@b}:s"]).await, "1", "what it had is for others to deal with");
}

/// Others may have taken it for dead while it could not renew its lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_lease_is_gone_somebody_is_asked_too() {
    let server = Redis::start(Options::default()).await;
    let guard = Arc::new(Patient::default());
    let one = Instance::start_guarded(&alone(&server), Arc::clone(&guard) as Arc<dyn Guard>);
    one.ready().await;
    assert_eq!(guard.asked.load(Ordering::SeqCst), 0);
    server.command(&["DEL", &format!("starling:{{members}}:instance:{}", one.id)]).await;
    until("the guard is asked", || async { guard.asked.load(Ordering::SeqCst) == 1 }).await;
    assert!(!one.registry.is_available());
    assert_eq!(server.command(&["EXISTS", &format!("starling:{{members}}:instance:{}", one.id)]).await, "0");
    guard.answer.store(true, Ordering::SeqCst);
    guard.go.notify_one();
    one.renewed_since(0).await;
}
