//! Everything in Redis goes by itself, unless somebody who lives has it.

use std::time::Duration;

use futures_util::future::join_all;
use starling_backends::redis::{Options, Redis};
use starling_registry::{
    Fence, OnConflict, Registry as _, StreamId, StreamRecord, StreamState, Streams as _, Update,
    suite::{bare, until},
};

use crate::ground::{Instance, alone};

async fn left(server: &Redis, key: &str) -> i64 {
    server.command(&["PTTL", key]).await.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_use_stays_and_what_nobody_has_goes() {
    let server = &Redis::start(Options::default()).await;
    let mut config = alone(server);
    (config.times.expiry, config.times.ended) = (Duration::from_secs(3), Duration::from_secs(1));
    let one = Instance::start(&config).await;
    let session = one.subject().record("a@b/a", 1);
    one.registry.bind(session.clone(), OnConflict::Refuse, 10).await.unwrap();
    let presence = Update::Presence { priority: Some(1), stanza: Some(b"x".as_slice().into()) };
    one.registry.update(&session.full, session.id, presence).await.unwrap();
    let stream = |id| StreamRecord {
        id: StreamId(id),
        full: session.full.clone(),
        session: session.id,
        owner: one.id,
        previous: None,
        fence: Fence(1),
        state: StreamState::Live,
        h: 0,
        seconds: 300,
        details: Vec::new(),
    };
    one.registry.open_stream(&stream(1)).await.unwrap();
    one.registry.close_stream(&bare("a@b"), StreamId(1), Fence(1), 7).await.unwrap();
    one.registry.open_stream(&stream(2)).await.unwrap();
    let index = format!("starling:index:{{{}}}", one.id);
    let live = format!("starling:{{a@b}}:x:{:032x}", 2);
    let keys = ["starling:{a@b}:s", "starling:{a@b}:p", &live];
    // Each is let live on, twice, while nothing happens to it.
    let lives_on = |key| async move {
        for _ in 0..2 {
            until("some of its time is over", || async { left(server, key).await < 2500 }).await;
            until("it lives on", || async { left(server, key).await > 2800 }).await;
        }
    };
    join_all(keys.map(lives_on)).await;
    assert!(left(server, &index).await > 1000, "with each renewal of the lease");
    let ended = format!("starling:{{a@b}}:x:{:032x}", 1);
    assert_eq!(server.command(&["EXISTS", &ended]).await, "0", "it had ended long ago");
    assert_eq!(one.renewals(), 0);
    one.crash().await;
    until("nothing is left", || async { server.command(&["DBSIZE"]).await == "0" }).await;
}
