//! Another server takes over.

use starling_backends::redis::{Cluster, Options, Redis, Watched};
use starling_registry::{
    OnConflict, RedisMode, Registry as _, SessionRecord, Update,
    suite::{bare, until},
};

use crate::ground::{Instance, config};

/// Sessions of accounts that all nodes of a cluster share among them.
async fn some(instance: &Instance, count: u128) -> Vec<SessionRecord> {
    let mut sessions = Vec::new();
    for number in 0..count {
        let record = instance.subject().record(&format!("user{number}@b/a"), number);
        instance.registry.bind(record.clone(), OnConflict::Refuse, 10).await.unwrap();
        sessions.push(record);
    }
    sessions
}

async fn all_are_found(by: &Instance, sessions: &[SessionRecord]) {
    let accounts: Vec<_> = sessions.iter().map(|record| record.full.to_bare()).collect();
    until("all are found", || async {
        let read = by.registry.sessions_of(&accounts).await.unwrap();
        read.iter().zip(sessions).all(|(read, session)| read.iter().any(|record| record.id == session.id))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sentinels_next_primary_is_found_and_told_what_it_does_not_know() {
    let mut watched = Watched::start().await;
    let mut config = config(watched.sentinels(), RedisMode::Sentinel);
    config.primary = watched.name().to_owned();
    let (one, other) = (Instance::start(&config).await, Instance::start(&config).await);
    let sessions = some(&one, 20).await;
    all_are_found(&other, &sessions).await;
    // The primary is asked to step down: it lives on, and takes no changes.
    let renewals = (one.renewals(), other.renewals());
    watched.demote_primary().await;
    watched.failed_over().await;
    one.renewed_since(renewals.0).await;
    other.renewed_since(renewals.1).await;
    all_are_found(&other, &sessions).await;
    let new = one.subject().record("user0@b/new", 1000);
    one.registry.bind(new, OnConflict::Refuse, 10).await.unwrap();
    until("it is seen", || async { other.subject().ids("user0@b").await == [0, 1000] }).await;

    // The next one dies.
    let renewals = (one.renewals(), other.renewals());
    watched.kill_primary().await;
    until("it is unavailable", || async { !one.registry.is_available() }).await;
    let presence = Update::Presence { priority: Some(1), stanza: Some(b"meanwhile".as_slice().into()) };
    assert!(one.registry.update(&sessions[1].full, sessions[1].id, presence).await.unwrap());
    watched.failed_over().await;
    one.renewed_since(renewals.0).await;
    other.renewed_since(renewals.1).await;
    all_are_found(&other, &sessions).await;
    let read = other.registry.with_presence(&[bare("user1@b")]).await.unwrap();
    assert_eq!(read[0][0].presence.as_deref(), Some(&b"meanwhile"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_servers_the_one_that_takes_changes_is_found() {
    let primary = Redis::start(Options::default()).await;
    let lines = vec![format!("replicaof 127.0.0.1 {}", primary.port())];
    let replica = Redis::start(Options { lines, ..Options::default() }).await;
    replica.says("MASTER <-> REPLICA sync: Finished with success").await;
    let mut gone = Redis::start(Options::default()).await;
    gone.stop().await;
    let servers = vec![gone.address(), replica.address(), primary.address()];
    let one = Instance::start(&config(servers, RedisMode::Standalone)).await;
    some(&one, 3).await;
    assert_eq!(primary.command(&["HLEN", "starling:{user0@b}:s"]).await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_in_a_cluster_is_found_and_told_what_it_does_not_know() {
    let mut cluster = Cluster::start(true).await;
    let config = config(cluster.addresses(), RedisMode::Cluster);
    let (one, other) = (Instance::start(&config).await, Instance::start(&config).await);
    let sessions = some(&one, 60).await;
    all_are_found(&other, &sessions).await;
    // Of each node in turn, so that the one with the leases is among them.
    for primary in 0..3 {
        let renewals = (one.renewals(), other.renewals());
        cluster.fail_over(primary).await;
        one.renewed_since(renewals.0).await;
        other.renewed_since(renewals.1).await;
        all_are_found(&other, &sessions).await;
        for session in sessions.iter().take(10) {
            let presence = Update::Presence { priority: Some(1), stanza: Some(primary.to_string().as_bytes().into()) };
            assert!(one.registry.update(&session.full, session.id, presence).await.unwrap());
            let account = session.full.to_bare();
            until("it is seen", || async {
                let read = other.registry.with_presence(std::slice::from_ref(&account)).await.unwrap();
                read[0][0].presence.as_deref() == Some(primary.to_string().as_bytes())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_are_followed_and_nothing_old_is_believed() {
    let cluster = Cluster::start(false).await;
    let config = config(cluster.addresses(), RedisMode::Cluster);
    let (one, other) = (Instance::start(&config).await, Instance::start(&config).await);
    let sessions = some(&one, 10).await;
    for session in &sessions {
        let account = session.full.to_bare();
        let slot = cluster.node(0).command(&["CLUSTER", "KEYSLOT", account.as_str()]).await.parse().unwrap();
        let from = cluster.primary_of(account.as_str()).await;
        // Nobody of the same slot: there is no key of his that could move.
        let strangers = (0_u128..).map(|number| format!("nobody{number}@b"));
        let stranger = strangers.into_iter().find(|name| slot_of(name) == slot).unwrap();
        until("it is remembered", || async {
            other.registry.sessions_of(&[account.clone(), bare(&stranger)]).await.unwrap();
            other.registry.cached(account.as_str()).is_some() && other.registry.cached(&stranger).is_some()
        })
        .await;
        cluster.move_slot(slot, from, (from + 1) % 3).await;
        let update = Update::Carbons(true);
        assert!(one.registry.update(&session.full, session.id, update).await.unwrap());
        until("the change is seen", || async {
            match other.registry.cached(account.as_str()) {
                Some(cached) => cached[0].carbons,
                None => other.registry.sessions(&account).await.unwrap()[0].carbons,
            }
        })
        .await;
        let record = one.subject().record(&format!("{stranger}/a"), 1);
        one.registry.bind(record, OnConflict::Refuse, 10).await.unwrap();
        until("it is seen that he is there", || async {
            other.registry.cached(&stranger).is_none_or(|cached| cached.len() == 1)
        })
        .await;
    }
    all_are_found(&other, &sessions).await;
}

/// The hash slot of a name, as the cluster specification has it.
fn slot_of(name: &str) -> u16 {
    let shift = |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
    name.bytes().fold(0, |crc, byte| (0..8).fold(crc ^ (u16::from(byte) << 8), shift)) % 16_384
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_that_was_emptied_is_told_again() {
    let cluster = Cluster::start(false).await;
    let config = config(cluster.addresses(), RedisMode::Cluster);
    let (one, other) = (Instance::start(&config).await, Instance::start(&config).await);
    let sessions = some(&one, 60).await;
    for node in 0..3 {
        let renewals = one.renewals();
        cluster.node(node).command(&["FLUSHALL"]).await;
        one.renewed_since(renewals).await;
        all_are_found(&other, &sessions).await;
    }
}
