//! What no Starling wrote counts as nothing, and hurts nobody.

use starling_backends::redis::{Options, Redis};
use starling_registry::{
    Bound, Fence, Members as _, OnConflict, Registry as _, StreamId, StreamSave, Streams as _, Update,
    suite::{bare, until},
};

use crate::ground::{Instance, alone};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_another_type_count_as_nothing() {
    let server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    let account = bare("a@b");
    let stream = format!("starling:{{a@b}}:x:{:032x}", 1);
    for key in ["starling:{a@b}:s", "starling:{a@b}:p", &stream] {
        server.command(&["SET", key, "nonsense"]).await;
    }
    assert!(one.registry.sessions(&account).await.unwrap().is_empty());
    assert!(one.registry.with_presence(std::slice::from_ref(&account)).await.unwrap()[0].is_empty());
    assert_eq!(one.registry.stream(&account, StreamId(1)).await.unwrap(), None);
    let save = StreamSave { h: Some(1), ..StreamSave::default() };
    assert_eq!(one.registry.save_streams(&[(&account, StreamId(1), Fence(1), save)]).await.unwrap(), [false]);
    assert_eq!(one.registry.take_stream(&account, StreamId(1)).await.unwrap(), None);
    let session = one.subject().record("a@b/a", 1);
    let bound = one.registry.bind(session.clone(), OnConflict::Refuse, 1).await.unwrap();
    assert_eq!(bound, Bound::Claimed { replaced: None });
    let presence = Update::Presence { priority: Some(1), stanza: Some(b"x".as_slice().into()) };
    assert!(one.registry.update(&session.full, session.id, presence).await.unwrap());
    let read = other.registry.with_presence(&[account]).await.unwrap();
    assert_eq!(read[0][0].presence.as_deref(), Some(&b"x"[..]));
    // What all instances share.
    for key in ["starling:{members}:calm", "starling:{members}:instances"] {
        server.command(&["SET", key, "nonsense"]).await;
    }
    until("it is known again who lives", || async {
        one.registry.is_alive(other.id).await.is_ok_and(|alive| alive) && one.registry.dead().await.is_ok()
    })
    .await;
    assert!(one.registry.is_available());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_none_count_as_nothing() {
    let server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    let account = bare("a@b");
    let kept = one.subject().record("a@b/kept", 1);
    one.registry.bind(kept.clone(), OnConflict::Refuse, 10).await.unwrap();
    let long = "\u{1}".repeat(40);
    for (resource, value) in [
        ("a", ""),
        ("b", "\u{1}"),
        ("c", "\u{2}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("", "x"),
        ("\u{ad}", &long),
    ] {
        server.command(&["HSET", "starling:{a@b}:s", resource, value]).await;
        server.command(&["HSET", "starling:{a@b}:p", resource, value]).await;
    }
    for _ in 0..2 {
        let read = other.registry.with_presence(std::slice::from_ref(&account)).await.unwrap();
        assert_eq!(read[0].iter().map(|record| record.id.0).collect::<Vec<_>>(), [1]);
        assert_eq!(one.subject().ids("a@b").await, [1]);
    }
    // It stands in nobody's way.
    for resource in ["a", "b", "c"] {
        let session = other.subject().record(&format!("a@b/{resource}"), 7);
        let bound = other.registry.bind(session.clone(), OnConflict::Refuse, 10).await.unwrap();
        assert_eq!(bound, Bound::Claimed { replaced: None });
        let presence = Update::Presence { priority: Some(1), stanza: Some(b"x".as_slice().into()) };
        assert!(other.registry.update(&session.full, session.id, presence).await.unwrap());
        assert!(other.registry.unbind(&session.full, session.id).await.unwrap());
    }
    // Our own, broken by somebody, is written again.
    server.command(&["HSET", "starling:{a@b}:s", "kept", "broken"]).await;
    assert!(one.registry.update(&kept.full, kept.id, Update::Carbons(true)).await.unwrap());
    until("it is there again", || async {
        other.registry.sessions(&bare("a@b")).await.unwrap().iter().any(|record| record.id == kept.id && record.carbons)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_holds_what_is_no_account_can_be_worked_off() {
    let server = Redis::start(Options::default()).await;
    let one = Instance::start(&alone(&server)).await;
    let dead = starling_registry::InstanceId(0xdead);
    let index = format!("starling:index:{{{dead}}}");
    server.command(&["SADD", "starling:{members}:instances", &dead.to_string(), "nonsense", ""]).await;
    until("it is found dead", || async { one.registry.dead().await.is_ok_and(|found| found == [dead]) }).await;
    server.command(&["ZADD", &index, "1", "@", "2", "a b@c", "3", "UPPER@b", "4", "a@b", "5", "a@b/resource"]).await;
    assert_eq!(one.registry.accounts_of(dead, 3).await.unwrap(), [bare("a@b")]);
    one.registry.forget_account(dead, &bare("a@b")).await.unwrap();
    assert!(one.registry.accounts_of(dead, 3).await.unwrap().is_empty());
    one.registry.forget_instance(dead).await.unwrap();
    assert!(one.registry.dead().await.unwrap().is_empty());
    server.command(&["SET", &index, "nonsense"]).await;
    assert!(one.registry.accounts_of(dead, 3).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_later_release_adds_is_left_as_it_is() {
    let server = Redis::start(Options::default()).await;
    let (one, other) = (Instance::start(&alone(&server)).await, Instance::start(&alone(&server)).await);
    let session = one.subject().record("a@b/a", 1);
    one.registry.bind(session.clone(), OnConflict::Refuse, 10).await.unwrap();
    // A flag that is not known, and more behind the rest: as a session of that release would have it.
    let script = "local record = redis.call('HGET', KEYS[1], 'a') \
                  record = string.sub(record, 1, 33) .. string.char(128 + 2) .. string.sub(record, 35) .. 'later' \
                  redis.call('HSET', KEYS[1], 'a', record) return 1";
    server.command(&["EVAL", script, "1", "starling:{a@b}:s"]).await;
    let read = other.registry.sessions(&bare("a@b")).await.unwrap();
    assert!(read[0].carbons);
    let stream = format!("starling:{{a@b}}:x:{:032x}", 1);
    let fields = [
        "resource",
        "a",
        "session",
        &format!("{:032x}", 1),
        "owner",
        &one.id.to_string(),
        "previous",
        "",
        "fence",
        "1",
        "seconds",
        "300",
        "h",
        "0",
        "state",
        "live",
        "until",
        "0",
        "details",
        "",
        "change",
        "1",
        "later",
        "yes",
    ];
    server.command(&[&["HSET", &stream][..], &fields].concat()).await;
    let taken = other.registry.take_stream(&bare("a@b"), StreamId(1)).await.unwrap().unwrap();
    assert!(other.registry.settle_stream(&taken).await.unwrap());
    let record = server.command(&["HGET", "starling:{a@b}:s", "a"]).await;
    assert!(record.ends_with("later"), "{record:?}");
    assert_eq!(server.command(&["HGET", &stream, "later"]).await, "yes");
}
