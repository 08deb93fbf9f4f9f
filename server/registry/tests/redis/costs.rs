//! What calls cost, as Redis counts it: the figures of `redis.rs`.

use std::{collections::BTreeMap, time::Duration};

use starling_backends::redis::{Options, Redis};
use starling_registry::{
    Fence, OnConflict, RedisConfig, Registry as _, StreamId, StreamRecord, StreamSave, StreamState, Streams as _,
    Update, suite::bare,
};

use crate::ground::{Instance, alone};

/// An instance that does nothing by itself for as long as the test takes.
fn at_rest(server: &Redis) -> RedisConfig {
    let mut config = alone(server);
    (config.times.renew, config.times.lease) = (Duration::from_hours(1), Duration::from_hours(4));
    (config.times.pause, config.times.discover) = (Duration::from_hours(4), Duration::from_hours(1));
    config
}

/// What was sent: by name, beside what scripts do by themselves; and how often something was sent together.
struct Costs<'a> {
    server: &'a Redis,
    instance: &'a Instance,
}

impl Costs<'_> {
    async fn now(&self) -> (BTreeMap<String, u64>, u64) {
        let mut calls = BTreeMap::new();
        for line in self.server.command(&["INFO", "commandstats"]).await.lines() {
            let Some((name, figures)) = line.trim().strip_prefix("cmdstat_").and_then(|line| line.split_once(':'))
            else {
                continue;
            };
            let count = figures.split(',').find_map(|figure| figure.strip_prefix("calls="));
            calls.insert(name.to_owned(), count.unwrap().parse().unwrap());
        }
        calls.remove("info");
        let families = self.instance.metrics.gather();
        let trips = families.iter().find(|family| family.name() == "starling_registry_round_trip_seconds").unwrap();
        (calls, trips.get_metric()[0].get_histogram().get_sample_count())
    }

    /// What these calls cost: commands, and round trips.
    async fn of<T>(&self, calls: impl Future<Output = T>) -> (String, u64) {
        let (before, trips_before) = self.now().await;
        calls.await;
        let (after, trips) = self.now().await;
        let more = after.into_iter().filter_map(|(name, count)| {
            let more = count - before.get(&name).copied().unwrap_or_default();
            (more > 0).then(|| format!("{name} {more}"))
        });
        (more.collect::<Vec<_>>().join(", "), trips - trips_before)
    }
}

fn costs(commands: &str, trips: u64) -> (String, u64) {
    (commands.to_owned(), trips)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_cost_what_is_written() {
    let server = Redis::start(Options::default()).await;
    let instance = Instance::start(&at_rest(&server)).await;
    let registry = &instance.registry;
    let count = Costs { server: &server, instance: &instance };
    let session = instance.subject().record("juliet@b/a", 1);
    let presence =
        |text: &str, priority| Update::Presence { priority: Some(priority), stanza: Some(text.as_bytes().into()) };

    let bind = count.of(registry.bind(session.clone(), OnConflict::Refuse, 10)).await;
    assert_eq!(bind, costs("evalsha 1, hget 2, hlen 1, hset 1, pexpire 1, zadd 1", 1));
    let first = count.of(registry.update(&session.full, session.id, presence("1", 1))).await;
    assert_eq!(first, costs("evalsha 1, hget 2, hset 2, pexpire 2", 1));
    let status = count.of(registry.update(&session.full, session.id, presence("2", 1))).await;
    assert_eq!(status, costs("evalsha 1, hget 2, hset 1, pexpire 1", 1));
    let same = count.of(registry.update(&session.full, session.id, presence("2", 1))).await;
    assert_eq!(same, costs("", 0));

    let account = bare("juliet@b");
    let read = count.of(registry.sessions(&account)).await;
    assert_eq!(read, costs("client|caching 1, hgetall 1", 1));
    let hit = count.of(async { (0..1000).for_each(|_| assert!(registry.cached("juliet@b").is_some())) }).await;
    assert_eq!(hit, costs("", 0));
    let again = count.of(registry.sessions(&account)).await;
    assert_eq!(again, costs("client|caching 1, hgetall 1", 1));

    // A log-in's contacts: hundreds in one go, and what is known already is not asked for again.
    let contacts: Vec<_> =
        (0..300).map(|number| bare(&format!("contact{number}@b"))).chain([account.clone()]).collect();
    let unknown = count.of(registry.sessions_of(&contacts)).await;
    assert_eq!(unknown, costs("client|caching 300, hgetall 300", 1));
    let presences = count.of(registry.with_presence(&contacts)).await;
    assert_eq!(presences, costs("client|caching 301, hgetall 602", 1));
    let known = count.of(registry.sessions_of(&contacts)).await;
    assert_eq!(known, costs("", 0));

    let stream = StreamRecord {
        id: StreamId(1),
        full: session.full.clone(),
        session: session.id,
        owner: instance.id,
        previous: None,
        fence: Fence(1),
        state: StreamState::Live,
        h: 0,
        seconds: 300,
        details: vec![1; 100],
    };
    let open = count.of(registry.open_stream(&stream)).await;
    assert_eq!(open, costs("del 1, evalsha 1, hget 2, hset 2, pexpire 2", 1));
    let save = StreamSave { h: Some(1), ..StreamSave::default() };
    let saves: Vec<_> = (0..200).map(|_| (&account, stream.id, stream.fence, save.clone())).collect();
    let saved = count.of(registry.save_streams(&saves)).await;
    assert_eq!(saved, costs("evalsha 200, hmget 200, hset 200, pexpire 200", 1));
    let taken = count.of(registry.take_stream(&account, stream.id)).await;
    assert_eq!(taken, costs("evalsha 1, hgetall 1, hmget 1, hset 1, pexpire 1, zadd 1", 1));
    let unbind = count.of(registry.unbind(&session.full, session.id)).await;
    assert_eq!(unbind, costs("evalsha 1, hdel 2, hget 3", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_redis_has_forgotten_are_sent_again() {
    let server = Redis::start(Options::default()).await;
    let instance = Instance::start(&at_rest(&server)).await;
    let account = bare("juliet@b");
    server.command(&["SCRIPT", "FLUSH"]).await;
    let session = instance.subject().record("juliet@b/a", 1);
    instance.registry.bind(session.clone(), OnConflict::Refuse, 10).await.unwrap();
    server.command(&["SCRIPT", "FLUSH"]).await;
    let save = StreamSave { h: Some(1), ..StreamSave::default() };
    let saves: Vec<_> = (0..10).map(|id| (&account, StreamId(id), Fence(1), save.clone())).collect();
    assert_eq!(instance.registry.save_streams(&saves).await.unwrap(), [false; 10]);
    assert!(instance.registry.unbind(&session.full, session.id).await.unwrap());
}
