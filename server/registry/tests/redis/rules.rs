//! It keeps the rules of every registry, however Redis is run.

use starling_backends::redis::{Cluster, Options, Redis, SENTINEL_PASSWORD, Watched};
use starling_registry::{RedisConfig, RedisMode, Registry as _, suite};

use crate::ground::{Instance, alone, config, secret};

async fn keeps_the_rules(config: &RedisConfig) {
    let (one, other) = (Instance::start(config).await, Instance::start(config).await);
    suite::run(one.subject()).await;
    suite::run_shared(one.subject(), other.subject()).await;
    assert_eq!((one.renewals(), other.renewals()), (0, 0));
    one.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server() {
    let server = Redis::start(Options::default()).await;
    keeps_the_rules(&alone(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watched_by_sentinels() {
    let watched = Watched::start().await;
    let mut config = config(watched.sentinels(), RedisMode::Sentinel);
    config.primary = watched.name().to_owned();
    keeps_the_rules(&config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster() {
    let cluster = Cluster::start(false).await;
    // Any of its nodes tells of the others.
    keeps_the_rules(&config(vec![cluster.node(1).address()], RedisMode::Cluster)).await;
}

/// What `keys.rs` says that the user needs, and nothing else.
const RULES: &str = "~starling:* -@all +evalsha +eval +script|load +hget +hset +hdel +hlen +hmget +hgetall +get +set +del \
                     +exists +pexpire +pttl +sadd +srem +smembers +zadd +zrem +zscore +zcard +zrange +time \
                     +client|tracking +client|caching +hello +auth";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_and_a_user_who_may_do_little() {
    let folder = tempfile::tempdir().unwrap();
    let users = vec![format!("starling on >the-password {RULES}")];
    let server = Redis::start(Options { tls: true, users, ..Options::default() }).await;
    let mut config = alone(&server);
    (config.tls, config.ca) = (true, server.ca().to_owned());
    (config.username, config.password_file) = ("starling".to_owned(), secret(&folder, "password", "the-password"));
    keeps_the_rules(&config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_sentinels_that_ask_for_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let watched = Watched::protected(vec![format!("starling on >the-password {RULES}")]).await;
    let mut config = config(watched.sentinels(), RedisMode::Sentinel);
    config.primary = watched.name().to_owned();
    (config.username, config.password_file) = ("starling".to_owned(), secret(&folder, "password", "the-password"));
    config.sentinel_password_file = secret(&folder, "sentinels", SENTINEL_PASSWORD);
    keeps_the_rules(&config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_tracking_is_forbidden_nothing_is_cached_and_all_else_holds() {
    let folder = tempfile::tempdir().unwrap();
    let users = vec![format!("starling on >the-password {}", RULES.replace("+client|tracking", ""))];
    let server = Redis::start(Options { users, ..Options::default() }).await;
    let mut config = alone(&server);
    (config.username, config.password_file) = ("starling".to_owned(), secret(&folder, "password", "the-password"));
    let (one, other) = (Instance::start(&config).await, Instance::start(&config).await);
    suite::run(one.subject()).await;
    assert_eq!(one.registry.cached("juliet@suite"), None);
    other.close().await;
    one.close().await;
}
