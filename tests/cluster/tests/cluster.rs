//! What tests that break a cluster take for granted.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Instant;

use starling_cluster::{Cluster, Error, Layout, PATIENCE, RedisMode};
use starling_test_support::{RawClient, body};

const PEOPLE: [(&str, &str); 2] = [("romeo@localhost", "secret1"), ("juliet@localhost", "secret2")];

/// As clients do, tries again when it is told that the server cannot log it in just now.
async fn logged_in(cluster: &Cluster, instance: usize, who: usize) -> RawClient {
    let (address, password) = PEOPLE[who];
    let (user, _) = address.split_once('@').unwrap();
    let began = Instant::now();
    loop {
        let mut client = RawClient::connect(cluster.starttls(instance)).await;
        client.open("localhost").await;
        match client.authenticate("SCRAM-SHA-256", user, password).await {
            Err(condition) if condition == "temporary-auth-failure" && began.elapsed() < PATIENCE => {
                continue;
            }
            result => result.unwrap(),
        }
        client.open("localhost").await;
        client.bind("r").await;
        client.become_available(0).await;
        return client;
    }
}

/// A message from an instance to another.
async fn chat(cluster: &Cluster, from: usize, to: usize) {
    let (mut romeo, mut juliet) = (logged_in(cluster, from, 0).await, logged_in(cluster, to, 1).await);
    romeo.send("<message to='juliet@localhost/r' type='chat'><body>Hi</body></message>").await;
    assert_eq!(body(&juliet.message().await), "Hi");
    romeo.close().await;
    juliet.close().await;
}

async fn started(layout: &Layout) -> Cluster {
    let mut cluster = Cluster::start_all(layout).await.unwrap();
    cluster.add_users(&PEOPLE).await.unwrap();
    cluster
}

#[tokio::test]
async fn every_part_can_be_ended_in_every_way_and_started_again() {
    let mut cluster = started(&Layout::default()).await;
    chat(&cluster, 0, 1).await;
    for name in ["router-0", "c2s-1", "redis", "postgres"] {
        let before = cluster.number(name).unwrap();
        cluster.kill9(name).await.unwrap();
        assert!(!cluster.is_running(name).unwrap());
        assert!(matches!(cluster.kill9(name).await, Err(Error::NotRunning(_))));
        assert!(matches!(cluster.term(name).await, Err(Error::NotRunning(_))));
        cluster.start(name).await.unwrap();
        assert!(matches!(cluster.start(name).await, Err(Error::Running(_))));
        assert_ne!(cluster.number(name).unwrap(), before);
        cluster.whole().await.unwrap();
        chat(&cluster, 0, 1).await;
        cluster.restart9(name).await.unwrap();
        cluster.whole().await.unwrap();
        cluster.term(name).await.unwrap();
        cluster.start(name).await.unwrap();
        cluster.whole().await.unwrap();
        chat(&cluster, 2, 1).await;
    }
    cluster.empty_redis().await.unwrap();
    cluster.whole().await.unwrap();
    chat(&cluster, 0, 1).await;
    cluster.end().await.unwrap();
}

#[tokio::test]
async fn what_is_stopped_goes_on_where_it_was() {
    let mut cluster = started(&Layout { instances: 2, ..Layout::default() }).await;
    for name in ["router-1", "redis", "postgres"] {
        cluster.stop(name).await.unwrap();
        assert!(cluster.is_running(name).unwrap());
        cluster.cont(name).await.unwrap();
        cluster.whole().await.unwrap();
        chat(&cluster, 0, 1).await;
    }
    // It ends also if it was told to while it was stopped.
    cluster.stop("c2s-1").await.unwrap();
    cluster.term("c2s-1").await.unwrap();
    cluster.end().await.unwrap();
}

#[tokio::test]
async fn redis_fails_over_between_servers_that_sentinels_watch() {
    fails_over(RedisMode::Sentinel).await;
}

#[tokio::test]
async fn redis_fails_over_within_a_cluster() {
    fails_over(RedisMode::Cluster).await;
}

async fn fails_over(redis: RedisMode) {
    let mut cluster = started(&Layout { redis, ..Layout::default() }).await;
    assert!(matches!(cluster.kill9("redis").await, Err(Error::NotOne(_))));
    chat(&cluster, 0, 1).await;
    cluster.fail_over().await.unwrap();
    cluster.whole().await.unwrap();
    chat(&cluster, 1, 2).await;
}

#[tokio::test]
async fn nobody_is_called_by_another_name() {
    let mut cluster = Cluster::start_all(&Layout { routers: 1, instances: 1, ..Layout::default() }).await.unwrap();
    for name in ["c2s-1", "router-1", "sentinel", ""] {
        assert!(matches!(cluster.start(name).await, Err(Error::Unknown(unknown)) if unknown == name));
    }
}
